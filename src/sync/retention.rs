//! Retention: finished events and old memories go, in small batches.
//!
//! What is forgotten is older than what fold still believes: if it comes again, it sets a mark and no more (rule 6).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Engine, Step};
use crate::clock::Timestamp;
use crate::db::{DbError, EventFilter, MemoryKey};

/// How long the stamps of absent memberships, and of users and groups that have no row, are remembered.
const MEMORY: TimeDelta = TimeDelta::days(90);
/// What is forgotten is kept so much longer than it is believed, since the clocks that stamp events may be ahead of ours.
const GRACE: TimeDelta = TimeDelta::hours(1);
/// How long after one walk through the memories the next begins. It reads all of them.
const WALK_EVERY: TimeDelta = TimeDelta::hours(6);
/// How long the loop rests when nothing is old enough.
const REST: Duration = Duration::from_secs(60);
/// How long it waits while another worker does it.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long it rests after a batch, as a multiple of the time that the batch took: it writes a fifth of the time.
const REST_PER_BATCH: u32 = 4;

/// How long things are kept, and how far the deleting of old memories has come.
#[derive(Debug)]
pub struct Retention {
    inbox: Option<TimeDelta>,
    walk: Mutex<Walk>,
}

#[derive(Debug, Clone)]
struct Walk {
    at: Place,
    not_before: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Edges(Option<MemoryKey>),
    Entities(Option<MemoryKey>),
}

impl Retention {
    /// Finished events are kept for `inbox`, or for ever.
    #[must_use]
    pub fn new(inbox: Option<Duration>) -> Self {
        let inbox = inbox.map(|kept| TimeDelta::from_std(kept).unwrap_or(TimeDelta::MAX));
        let walk = Walk { at: Place::Edges(None), not_before: Timestamp::MIN_UTC };
        Self { inbox, walk: Mutex::new(walk) }
    }

    /// Hints from before this instant set a mark at most (rule 6). The inbox may keep events for longer than the memory
    /// of absent memberships lasts: then that is the bound, or an old addition would bring back what a removal took
    /// away that nobody remembers.
    pub(super) fn oldest_hint(&self, now: Timestamp) -> Timestamp {
        now - self.inbox.map_or(MEMORY, |kept| kept.min(MEMORY))
    }

    /// Events that were finished before this instant go.
    fn prune_before(&self, now: Timestamp) -> Option<Timestamp> {
        now.checked_sub_signed(self.inbox?.checked_add(&GRACE)?)
    }

    fn place(&self, now: Timestamp) -> Option<Place> {
        let walk = self.walk.lock().unwrap_or_else(PoisonError::into_inner);
        (walk.not_before <= now).then(|| walk.at.clone())
    }

    fn go_on(&self, at: Place, not_before: Timestamp) {
        *self.walk.lock().unwrap_or_else(PoisonError::into_inner) = Walk { at, not_before };
    }
}

impl Engine {
    /// Deletes a batch of finished events, or else a batch of memories, that are older than they are kept.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn retention_step(&self) -> Result<Step, DbError> {
        let now = self.clock.now();
        if let Some(before) = self.retention.prune_before(now) {
            let pruned = self.db.prune_events(&EventFilter::default(), before).await?;
            if pruned > 0 {
                tracing::debug!(pruned, "finished events pruned");
                return Ok(Step::Ran);
            }
        }
        // Without an API there is nothing but the memory to tell an old addition from a new one.
        if self.client.is_none() {
            return Ok(Step::Idle);
        }
        self.forget(now).await
    }

    async fn forget(&self, now: Timestamp) -> Result<Step, DbError> {
        let Some(place) = self.retention.place(now) else { return Ok(Step::Idle) };
        let before = now - MEMORY - GRACE;
        let (forgotten, next) = match &place {
            Place::Edges(after) => {
                let forgotten = self.db.forget_absent_edges(before, after.as_ref()).await?;
                let next = forgotten.place.map_or(Place::Entities(None), |place| Place::Edges(Some(place)));
                (forgotten.rows, Some(next))
            }
            Place::Entities(after) => {
                let forgotten = self.db.forget_unknown_entities(before, after.as_ref()).await?;
                (forgotten.rows, forgotten.place.map(|place| Place::Entities(Some(place))))
            }
        };
        if forgotten > 0 {
            tracing::debug!(forgotten, "old memories forgotten");
        }
        match next {
            Some(next) => {
                self.retention.go_on(next, now);
                Ok(Step::Ran)
            }
            None => {
                self.retention.go_on(Place::Edges(None), now + WALK_EVERY);
                Ok(Step::Idle)
            }
        }
    }
}

/// Runs the steps, a fifth of the time at the most. Of several workers the first does.
pub(super) async fn run(engine: Arc<Engine>, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        let began = Instant::now();
        let rest = if !engine.lease.is_first() {
            LOOK_AGAIN
        } else {
            match engine.retention_step().await {
                Ok(Step::Ran) => began.elapsed() * REST_PER_BATCH,
                Ok(Step::Idle) => REST,
                Err(error) => {
                    tracing::warn!(%error, "what is old cannot be deleted; tried again");
                    REST
                }
            }
        };
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            _ = stop.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn what_is_forgotten_is_no_longer_believed() {
        let now = Timestamp::UNIX_EPOCH + TimeDelta::days(20_000);
        for (inbox, believed) in
            [(Some(7 * DAY), 7), (Some(30 * DAY), 30), (Some(90 * DAY), 90), (Some(400 * DAY), 90), (None, 90)]
        {
            let retention = Retention::new(inbox);
            assert_eq!(retention.oldest_hint(now), now - TimeDelta::days(believed), "{inbox:?}");
            let pruned = retention.prune_before(now);
            assert_eq!(pruned.is_some(), inbox.is_some());
            assert!(pruned.is_none_or(|before| before + GRACE <= retention.oldest_hint(now)), "{inbox:?}");
        }
        assert_eq!(Retention::new(Some(Duration::MAX)).prune_before(now), None, "too long to reckon with: for ever");
    }
}
