//! Folding: pending events become provisional rows and marks. No network.

use std::collections::BTreeMap;
use std::time::Instant;

use chrono::TimeDelta;

use super::{Engine, Step};
use crate::clock::Timestamp;
use crate::db::{DbError, PendingEvent, inbox, lease, working_set};
use crate::metrics::EventEnd;
use crate::mirror::{self, FoldContext, Touched};
use crate::model::{DirectoryId, EventId, EventStatus, Hint};
use crate::webhook::event;

/// The most events in one fold. On SQLite they hold the write lock for some milliseconds; PostgreSQL is asked about
/// as often for many as for few, for each directory among them.
const BATCH_EVENTS_SQLITE: i64 = 128;
const BATCH_EVENTS_POSTGRES: i64 = 512;
/// The same while there is a backlog.
const BATCH_EVENTS_BACKLOG: i64 = 1024;
const BATCH_BYTES: i64 = 4 * 1024 * 1024;
/// An event that cannot be stored is dead after this many attempts.
const MAX_ATTEMPTS: i32 = 5;
/// How long an event rests that only a newer version can fold.
const REST_FOR_NEWER: TimeDelta = TimeDelta::seconds(10);

struct Decoded {
    event: PendingEvent,
    hint: Hint,
}

/// What one fold did.
pub(super) struct Folded {
    pub(super) step: Step,
    /// There were as many events as it takes at once, or nearly.
    pub(super) was_full: bool,
    /// Whose events they were.
    pub(super) directories: Vec<DirectoryId>,
}

impl Engine {
    /// Folds the next pending events.
    ///
    /// # Errors
    /// [`DbError`] if the database fails; the events stay pending.
    pub async fn fold_step(&self) -> Result<Step, DbError> {
        Ok(self.fold_next(false).await?.step)
    }

    /// As [`Engine::fold_step`]; more at once if there is a backlog.
    pub(super) async fn fold_next(&self, backlog: bool) -> Result<Folded, DbError> {
        let limit = match (self.db.is_postgres(), backlog) {
            (false, _) => BATCH_EVENTS_SQLITE,
            (true, false) => BATCH_EVENTS_POSTGRES,
            (true, true) => BATCH_EVENTS_BACKLOG,
        };
        let events = self.db.pending_events(&self.lease, self.clock.now(), limit, BATCH_BYTES).await?;
        let bytes: usize = events.iter().map(|event| event.body.len()).sum();
        let was_full = events.len() as i64 >= limit || bytes as i64 > BATCH_BYTES / 2;
        let mut directories: BTreeMap<DirectoryId, Vec<Decoded>> = BTreeMap::new();
        let (mut failure, mut step) = (None, Step::Idle);
        for event in events {
            match event::parse_hint(&event.event_id, &event.event_type, &event.body, event.received_at) {
                Ok(hint) => directories.entry(hint.directory_id.clone()).or_default().push(Decoded { event, hint }),
                Err(error) => {
                    self.bury(&event.event_id, &error.to_string()).await?;
                    step = Step::Ran;
                }
            }
        }
        let mut folded = Vec::new();
        for (directory, decoded) in directories {
            // One directory that cannot be folded stops no other.
            match self.fold_directory(&directory, decoded).await {
                Ok(()) => {
                    step = Step::Ran;
                    folded.push(directory);
                }
                // Another worker got there first: it folds the events.
                Err(DbError::LeaseLost(_)) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(Folded { step, was_full, directories: folded }), Err)
    }

    /// Folds one directory's events together; if the data of one is refused, singly, so that it holds up no other.
    async fn fold_directory(&self, directory: &DirectoryId, mut decoded: Vec<Decoded>) -> Result<(), DbError> {
        decoded.sort_by(|a, b| a.hint.key.cmp(&b.hint.key));
        match self.fold_together(directory, &decoded).await {
            Err(DbError::Data(_) | DbError::NewerVersion(_)) => {
                for one in decoded {
                    match self.fold_together(directory, std::slice::from_ref(&one)).await {
                        Err(DbError::Data(reason)) => self.put_off(&one.event, &reason).await?,
                        Err(DbError::NewerVersion(reason)) => self.leave_to_newer(&one.event, &reason).await?,
                        other => other?,
                    }
                }
                Ok(())
            }
            other => other,
        }
    }

    async fn fold_together(&self, directory: &DirectoryId, decoded: &[Decoded]) -> Result<(), DbError> {
        let (now, started) = (self.clock.now(), Instant::now());
        let mut touched = Touched::default();
        decoded.iter().for_each(|one| touched.add_hint(&one.hint));
        let mut transaction = self.db.begin_in_background().await?;
        let connection = transaction.connection();
        let number = lease::lock(connection, directory, &self.lease).await?;
        let verifies = self.client.is_some();
        if !verifies {
            for (group, user) in working_set::announced_edges(connection, directory, &touched).await? {
                touched.add_edge(group, user);
            }
        }
        let mut set = working_set::load(connection, directory, &touched).await?;
        // Without an API nothing else will ever say what an old hint says.
        let oldest = if verifies { self.retention.oldest_hint(now) } else { Timestamp::MIN_UTC };
        let context = FoldContext { number, now, oldest, verifies };
        let mut ends: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
        let mut applied = Vec::new();
        for one in decoded {
            set.hinted_at = Some(one.event.received_at);
            let outcome = mirror::fold(&mut set, &one.hint, &context);
            let ids = ends.entry((outcome.status.as_str(), outcome.reason)).or_default();
            ids.push(one.event.event_id.to_string());
            applied.extend(Some(one).filter(|_| outcome.status == EventStatus::Applied));
        }
        working_set::save(connection, &set, now).await?;
        for ((status, reason), ids) in &ends {
            let status = EventStatus::from_stored(status).unwrap_or(EventStatus::Applied);
            let finished = inbox::finish_events(connection, ids, status, reason, now).await?;
            // Somebody finished some since they were read: what they did must not be done again, so all is rolled back
            // and the rest is read anew.
            if finished < ids.len() {
                return Err(DbError::LeaseLost(directory.to_string()));
            }
        }
        transaction.commit().await?;
        self.metrics.fold_took(started.elapsed());
        self.count_visible(&applied);
        for ((status, reason), ids) in &ends {
            self.count_folded(EventStatus::from_stored(status), ids.len());
            tracing::info!(directory_id = %directory, events = ids.len(), first = ids[0], status, reason, "events folded");
            for event_id in ids {
                tracing::debug!(event_id, directory_id = %directory, status, reason, "event folded");
            }
        }
        Ok(())
    }

    fn count_visible(&self, applied: &[&Decoded]) {
        let now = self.clock.now();
        for one in applied {
            self.metrics.hint_visible(now - one.event.received_at, one.hint.change.revokes());
        }
    }

    fn count_folded(&self, status: Option<EventStatus>, events: usize) {
        if let Some(end) = status.and_then(EventEnd::of) {
            self.metrics.folded(end, events);
        }
    }

    async fn put_off(&self, event: &PendingEvent, reason: &str) -> Result<(), DbError> {
        let attempts = event.attempts + 1;
        if attempts >= MAX_ATTEMPTS {
            return self.bury(&event.event_id, reason).await;
        }
        tracing::warn!(event_id = %event.event_id, attempts, reason, "the event cannot be stored; it is tried again");
        let until = self.clock.now() + TimeDelta::seconds(1 << attempts);
        self.db.postpone_event(&event.event_id, attempts, until).await
    }

    /// No attempt counts: the event can be stored, though not by this version.
    async fn leave_to_newer(&self, event: &PendingEvent, reason: &str) -> Result<(), DbError> {
        tracing::warn!(event_id = %event.event_id, reason, "the event waits for a newer version of this service");
        let until = self.clock.now() + REST_FOR_NEWER;
        self.db.postpone_event(&event.event_id, event.attempts, until).await
    }

    async fn bury(&self, id: &EventId, reason: &str) -> Result<(), DbError> {
        let buried = self.db.finish_events(&[id.to_string()], EventStatus::Dead, reason, self.clock.now()).await?;
        if buried > 0 {
            tracing::error!(event_id = %id, reason, "the event is dead");
            self.metrics.folded(EventEnd::Dead, buried);
        }
        Ok(())
    }
}
