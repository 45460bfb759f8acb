//! Time as a value that is handed in, so that tests decide what time it is.

use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};

/// An instant in UTC, in microseconds: the precision both database engines keep.
pub type Timestamp = DateTime<Utc>;

/// Where the service asks for the time. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The machine's own clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(Utc::now))
    }

    /// A clock that answers whatever `now` answers.
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The present instant, cut to microseconds so that it equals what the database gives back.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)().trunc_subsecs(6)
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}
