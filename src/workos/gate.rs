//! Where requests wait until the [limits](super::limits) let them go.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::limits::{Limits, Next, Request, Ticket};
use crate::db::Share;

/// The gate of one API key.
pub(super) struct Gate {
    queue: Mutex<Queue>,
    changed: Notify,
}

struct Queue {
    limits: Limits,
    waiting: HashMap<Ticket, oneshot::Sender<()>>,
    /// Whether a task opens the gate for those who wait.
    has_keeper: bool,
}

/// Leave to send one request; dropped when the request is over.
pub(super) struct Permit {
    gate: Arc<Gate>,
    request: Request,
}

impl Permit {
    /// Obeys a 429. Answers whether the whole key is paused by it.
    pub(super) fn refused(&self, pause: Duration) -> bool {
        let now = Instant::now();
        self.gate.lock().limits.refused(&self.request, now + pause, now)
    }
}

impl Permit {
    /// Leaves the request's directory alone for a while; a request of no directory pauses nothing.
    pub(super) fn unavailable(&self, pause: Duration) {
        self.gate.lock().limits.unavailable(&self.request, Instant::now() + pause);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.lock().limits.answered(&self.request, Instant::now());
        self.gate.changed.notify_one();
    }
}

/// A place in the queue, given up if the caller no longer waits.
struct Place<'a> {
    gate: &'a Arc<Gate>,
    ticket: Ticket,
    request: Option<Request>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(request) = self.request.take() else { return };
        let mut queue = self.gate.lock();
        queue.waiting.remove(&self.ticket);
        if !queue.limits.withdraw(self.ticket) {
            // It was let go in the same moment: then it is over, too.
            queue.limits.answered(&request, Instant::now());
        }
    }
}

impl Gate {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let queue = Queue { limits, waiting: HashMap::new(), has_keeper: false };
        Arc::new(Self { queue: Mutex::new(queue), changed: Notify::new() })
    }

    /// See [`Limits::spacing`].
    pub(super) fn spacing(&self) -> (Duration, Duration) {
        self.lock().limits.spacing()
    }

    /// See [`Limits::share_among`].
    pub(super) fn share_among(&self, share: Share, settling: Duration, known_until: Option<Instant>) {
        let mut queue = self.lock();
        queue.limits.share_among(share, settling, known_until, Instant::now());
        let Queue { limits, waiting, .. } = &mut *queue;
        waiting.retain(|ticket, _| limits.waits(*ticket));
        drop(queue);
        self.changed.notify_one();
    }

    /// See [`Limits::users_room`].
    pub(super) fn users_room(&self, directory: &str, least: u32) -> Result<u32, Instant> {
        self.lock().limits.users_room(directory, least, Instant::now())
    }

    /// Waits until the request may be sent; `None` if it is withdrawn or refused, since its directory is not in this
    /// process's share, or that had lapsed.
    pub(super) async fn admit(self: &Arc<Self>, request: Request) -> Option<Permit> {
        let (mut place, let_go) = {
            let mut queue = self.lock();
            if !queue.limits.is_ours(&request) {
                return None;
            }
            let ticket = queue.limits.enqueue(request.clone());
            let (sender, let_go) = oneshot::channel();
            queue.waiting.insert(ticket, sender);
            let goes_on = queue.open(Instant::now());
            if goes_on.is_some() && !queue.has_keeper {
                queue.has_keeper = true;
                tokio::spawn(Arc::clone(self).keep());
            }
            (Place { gate: self, ticket, request: Some(request.clone()) }, let_go)
        };
        self.changed.notify_one();
        let admitted = let_go.await.is_ok();
        place.request = None;
        admitted.then(|| Permit { gate: Arc::clone(self), request })
    }

    /// Opens for whoever may go, until nobody waits.
    async fn keep(self: Arc<Self>) {
        loop {
            let next = {
                let mut queue = self.lock();
                let next = queue.open(Instant::now());
                queue.has_keeper = next.is_some();
                next
            };
            match next {
                None => return,
                Some(Next::Wait(until)) => {
                    let _ = tokio::time::timeout_at(until, self.changed.notified()).await;
                }
                Some(_) => self.changed.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Lets go who may go. Answers what the others wait for; `None` if nobody waits.
    fn open(&mut self, now: Instant) -> Option<Next> {
        loop {
            match self.limits.next(now) {
                Next::Send(ticket) => {
                    if let Some(sender) = self.waiting.remove(&ticket) {
                        let _ = sender.send(());
                    }
                }
                next => return (!self.waiting.is_empty()).then_some(next),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::Priority;
    use super::*;

    fn request(priority: Priority) -> Request {
        Request { directory: Some("a".to_owned()), on_users_path: true, priority }
    }

    #[tokio::test]
    async fn a_caller_who_gives_up_leaves_its_place_to_others() {
        let gate = Gate::new(Limits::new(0, 1, Instant::now()));
        let first = gate.admit(request(Priority::Small)).await.unwrap();
        let second = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.admit(request(Priority::Small)).await }
        });
        tokio::task::yield_now().await;
        second.abort();
        assert!(second.await.is_err());
        assert!(gate.lock().waiting.is_empty());
        let before = Instant::now();
        drop(first);
        drop(gate.admit(request(Priority::Bulk)).await.unwrap());
        assert!(before.elapsed() >= Duration::from_secs(1), "a place is free a second after the answer");
    }
}
