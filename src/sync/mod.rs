//! The convergence engine's effects: fold, refresh, scan and the poller, and the worker that runs them.
//!
//! Each has a `step` that does one bounded piece of work; production loops over it, tests call it.

mod ahead;
mod alive;
mod answers;
mod fetch;
mod fold;
mod gather;
mod lately;
mod plan;
mod planning;
mod poll;
mod processing;
mod reconcile;
mod refresh;
mod retention;
mod schedule;
mod turns;
mod worker;

pub use poll::{Rewind, rewind};
pub use retention::Retention;
pub use worker::Worker;

use std::time::Duration;

use self::lately::Lately;
use self::processing::Processing;
use crate::clock::Clock;
use crate::db::{Db, DbError, Lease};
use crate::metrics::{MarkKind, Metrics};
use crate::mirror::WorkingSet;
use crate::workos::{ApiError, WorkosClient};

/// What the engine works with.
pub struct Engine {
    /// The database.
    pub db: Db,
    /// The API; `None` if the service runs on snapshots alone.
    pub client: Option<WorkosClient>,
    /// The time.
    pub clock: Clock,
    /// This process's fencing token and share.
    pub lease: Lease,
    /// How long after a scan the next one is due; `None` = only when it is asked for.
    pub reconcile_interval: Option<Duration>,
    /// How long finished events and old memories are kept.
    pub retention: Retention,
    /// Where its work is counted.
    pub metrics: Metrics,
    /// What its last waves met.
    lately: Lately,
    /// Who plans or applies what the API answers.
    processing: Processing,
}

impl Engine {
    /// An engine that scans only what it is asked to, and counts by itself alone.
    #[must_use]
    pub fn new(db: Db, client: Option<WorkosClient>, clock: Clock, lease: Lease, retention: Retention) -> Self {
        Self {
            db,
            client,
            clock,
            lease,
            reconcile_interval: None,
            retention,
            metrics: Metrics::default(),
            lately: Lately::default(),
            processing: Processing::default(),
        }
    }

    /// Counts what answers settled, once they are committed.
    fn count_verified(&self, set: &WorkingSet) {
        let now = self.clock.now();
        for (target, mark) in &set.marks_cleared {
            self.metrics.verified(MarkKind::of(target), mark.hinted_at.map(|at| now - at));
        }
    }
}

/// Why a step did not end. What it was about stays to be done.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The API.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The API answers, and what it says cannot be right for this directory.
    #[error("{0}")]
    Doubtful(&'static str),
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Something; there may be more.
    Ran,
    /// Nothing was due.
    Idle,
}
