//! Group commit: one writer drains the queue of waiting requests into one commit, and then the next.
//!
//! There is no timer. Whatever has queued while the last commit ran goes together, so a lone event is not delayed and
//! a burst costs few commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{Notify, mpsc, oneshot};

use crate::db::{Db, DbError, NewInboxEvent};
use crate::metrics::{Metrics, Source};

/// The most events in one commit.
const BATCH_EVENTS: usize = 256;
/// The most bytes of bodies in one commit, unless a single body is larger.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
const QUEUE_EVENTS: usize = 4096;
const QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// Why an event was not stored. The sender has to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InboxError {
    /// Too many events wait already.
    #[error("the inbox's queue is full")]
    Full,
    /// The commit failed.
    #[error("the inbox cannot commit")]
    CannotCommit,
}

struct Request {
    event: NewInboxEvent,
    answer: oneshot::Sender<Result<(), InboxError>>,
}

/// Where events are handed in. Cheap to clone; the writer ends once every clone is dropped.
#[derive(Clone)]
pub struct Inbox {
    queue: mpsc::Sender<Request>,
    queued_bytes: Arc<AtomicUsize>,
}

impl Inbox {
    /// Starts the writer. `committed` is notified after each commit, so that folding begins at once.
    #[must_use]
    pub fn start(db: Db, committed: Arc<Notify>, metrics: Metrics) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, requests) = mpsc::channel(QUEUE_EVENTS);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let writer = Writer { db, queued_bytes: Arc::clone(&queued_bytes), committed, metrics };
        let writer = tokio::spawn(writer.run(requests));
        (Self { queue, queued_bytes }, writer)
    }

    /// Whether the writer runs; without it nothing can be stored.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Stores an event; answers once it is committed. An event with an id that is known counts as stored.
    ///
    /// # Errors
    /// [`InboxError`]; then it is not stored.
    pub async fn store(&self, event: NewInboxEvent) -> Result<(), InboxError> {
        let bytes = event.body.len();
        if self.queued_bytes.fetch_add(bytes, Ordering::AcqRel) > QUEUE_BYTES {
            self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            return Err(InboxError::Full);
        }
        let (answer, answered) = oneshot::channel();
        if let Err(error) = self.queue.try_send(Request { event, answer }) {
            self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            return Err(match error {
                mpsc::error::TrySendError::Full(_) => InboxError::Full,
                mpsc::error::TrySendError::Closed(_) => InboxError::CannotCommit,
            });
        }
        answered.await.unwrap_or(Err(InboxError::CannotCommit))
    }
}

struct Writer {
    db: Db,
    queued_bytes: Arc<AtomicUsize>,
    committed: Arc<Notify>,
    metrics: Metrics,
}

impl Writer {
    async fn run(self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.recv().await {
            let mut bytes = first.event.body.len();
            let mut batch = vec![first];
            while batch.len() < BATCH_EVENTS && bytes < BATCH_BYTES {
                let Ok(next) = requests.try_recv() else { break };
                bytes += next.event.body.len();
                batch.push(next);
            }
            self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            self.commit(batch).await;
            self.committed.notify_one();
        }
    }

    async fn commit(&self, batch: Vec<Request>) {
        let mut events: Vec<&NewInboxEvent> = batch.iter().map(|request| &request.event).collect();
        // Sorted, so that two writers never wait for each other; once each, since PostgreSQL takes no row twice.
        events.sort_by(|a, b| a.event_id.cmp(&b.event_id));
        events.dedup_by(|a, b| a.event_id == b.event_id);
        match self.store(events).await {
            Ok(()) => batch.into_iter().for_each(|request| answer(request, Ok(()))),
            Err(DbError::Data(_)) if batch.len() > 1 => {
                for request in batch {
                    let stored = self.store(vec![&request.event]).await;
                    answer(request, stored.map_err(|error| refused(&error)));
                }
            }
            Err(error) => {
                let refusal = refused(&error);
                batch.into_iter().for_each(|request| answer(request, Err(refusal)));
            }
        }
    }

    async fn store(&self, events: Vec<&NewInboxEvent>) -> Result<(), DbError> {
        let started = Instant::now();
        let new = self.db.store_events(events).await?;
        self.metrics.inbox_committed(started.elapsed());
        self.metrics.stored(Source::Webhook, new);
        Ok(())
    }
}

fn refused(error: &DbError) -> InboxError {
    tracing::error!(%error, "the inbox cannot commit; senders are asked to try again");
    InboxError::CannotCommit
}

fn answer(request: Request, result: Result<(), InboxError>) {
    // A client that hung up has no one to answer to; its event is stored all the same.
    let _ = request.answer.send(result);
}
