//! Folding: pending events become provisional rows and marks. No network.

use std::collections::{BTreeMap, BTreeSet};
use std::slice;
use std::time::Instant;

use chrono::TimeDelta;

use super::{Engine, Step};
use crate::clock::Timestamp;
use crate::db::{DbError, PendingEvent, Transaction, inbox, lease, working_set};
use crate::metrics::EventEnd;
use crate::mirror::{self, FoldContext, Touched};
use crate::model::{Change, DirectoryId, EventId, EventStatus, Hint};
use crate::webhook::event;

/// The most events in one fold. On SQLite they hold the write lock for some milliseconds; PostgreSQL is asked about
/// as often for many as for few.
const BATCH_EVENTS_SQLITE: i64 = 128;
const BATCH_EVENTS_POSTGRES: i64 = 512;
const BATCH_BYTES: i64 = 4 * 1024 * 1024;
/// The most events of several directories in one transaction on SQLite, where the inbox waits for it.
const TOGETHER_SQLITE: usize = 32;
/// Directories that a line of the log names.
const NAMED: usize = 8;
/// An event that cannot be stored is dead after this many attempts.
const MAX_ATTEMPTS: i32 = 5;
/// How long an event rests that only a newer version can fold.
const REST_FOR_NEWER: TimeDelta = TimeDelta::seconds(10);

#[derive(Clone)]
struct Decoded {
    event: PendingEvent,
    hint: Hint,
}

/// Pending events of one directory, and what they are about.
struct Pending {
    directory: DirectoryId,
    /// In the order of their hints.
    events: Vec<Decoded>,
    touched: Touched,
}

impl Pending {
    fn new(directory: DirectoryId, mut events: Vec<Decoded>) -> Self {
        events.sort_by(|a, b| a.hint.key.cmp(&b.hint.key));
        let mut touched = Touched::default();
        events.iter().for_each(|one| touched.add_hint(&one.hint));
        Self { directory, events, touched }
    }
}

/// Those that may be folded in one transaction, and the others. Events may name the wrong directory, and of what two
/// claim the first has to be written before the second is decided; a whole directory may take long to delete.
fn split_by_claims(directories: Vec<Pending>) -> (Vec<Pending>, Vec<Pending>) {
    let (mut users, mut groups) = (BTreeSet::new(), BTreeSet::new());
    directories.into_iter().partition(|Pending { touched, events, .. }| {
        if events.iter().any(|one| matches!(one.hint.change, Change::DirectoryDeleted)) {
            return false;
        }
        let apart = touched.users.is_disjoint(&users) && touched.groups.is_disjoint(&groups);
        if apart {
            users.extend(touched.users.iter().cloned());
            groups.extend(touched.groups.iter().cloned());
        }
        apart
    })
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
        Ok(self.fold_next().await?.step)
    }

    /// As [`Engine::fold_step`], and tells more.
    pub(super) async fn fold_next(&self) -> Result<Folded, DbError> {
        let limit = if self.db.is_postgres() { BATCH_EVENTS_POSTGRES } else { BATCH_EVENTS_SQLITE };
        let events = self.db.pending_events(&self.lease, self.clock.now(), limit, BATCH_BYTES).await?;
        let bytes: usize = events.iter().map(|event| event.body.len()).sum();
        let was_full = events.len() as i64 >= limit || bytes as i64 > BATCH_BYTES / 2;
        let mut directories: BTreeMap<DirectoryId, Vec<Decoded>> = BTreeMap::new();
        let mut step = Step::Idle;
        for event in events {
            match event::parse_hint(&event.event_id, &event.event_type, &event.body, event.received_at) {
                Ok(hint) => directories.entry(hint.directory_id.clone()).or_default().push(Decoded { event, hint }),
                Err(error) => {
                    self.bury(&event.event_id, &error.to_string()).await?;
                    step = Step::Ran;
                }
            }
        }
        let pending = directories.into_iter().map(|(directory, events)| Pending::new(directory, events)).collect();
        let folded = self.fold_directories(pending).await?;
        let step = if folded.is_empty() { step } else { Step::Ran };
        Ok(Folded { step, was_full, directories: folded })
    }

    /// Folds as many directories as can be in one transaction, and the others by themselves. Answers which are folded.
    async fn fold_directories(&self, directories: Vec<Pending>) -> Result<Vec<DirectoryId>, DbError> {
        let events: usize = directories.iter().map(|pending| pending.events.len()).sum();
        let (mut together, mut alone) = split_by_claims(directories);
        let (mut folded, mut failure) = (Vec::new(), None);
        // Without an API, memberships that were announced before are touched as well, whoever claims their ends.
        let may_be_together = self.client.is_some() && (self.db.is_postgres() || events <= TOGETHER_SQLITE);
        if together.len() > 1 && may_be_together {
            (folded, together) = self.fold_those_that_are_free(together).await?;
        }
        together.append(&mut alone);
        for pending in together {
            // One directory that cannot be folded stops no other.
            match self.fold_directory(&pending).await {
                Ok(()) => folded.push(pending.directory),
                // Another worker got there first: it folds the events.
                Err(DbError::LeaseLost(_)) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(folded), Err)
    }

    /// Folds together the directories that nothing else is done with at this moment. Answers which, and those that are left:
    /// all of them if that fails.
    async fn fold_those_that_are_free(
        &self,
        directories: Vec<Pending>,
    ) -> Result<(Vec<DirectoryId>, Vec<Pending>), DbError> {
        let mut transaction = self.db.begin_in_background().await?;
        let ids: Vec<&DirectoryId> = directories.iter().map(|pending| &pending.directory).collect();
        let free = lease::lock_free(transaction.connection(), &ids).await?;
        let (together, mut left): (Vec<_>, Vec<_>) =
            directories.into_iter().partition(|pending| free.contains(pending.directory.as_str()));
        if together.is_empty() {
            transaction.commit().await?;
            return Ok((Vec::new(), left));
        }
        match self.fold_in(transaction, &together).await {
            Ok(()) => return Ok((together.into_iter().map(|pending| pending.directory).collect(), left)),
            Err(error @ DbError::Unavailable(_)) => return Err(error),
            Err(error @ DbError::Query(_)) => {
                tracing::warn!(%error, "directories cannot be folded together; each is folded by itself");
            }
            Err(error) => tracing::debug!(%error, "directories cannot be folded together; each is folded by itself"),
        }
        left.extend(together);
        Ok((Vec::new(), left))
    }

    /// Folds one directory's events together; if the data of one is refused, singly, so that it holds up no other.
    async fn fold_directory(&self, pending: &Pending) -> Result<(), DbError> {
        match self.fold_by_itself(pending).await {
            Err(DbError::Data(_) | DbError::NewerVersion(_)) => {
                for one in &pending.events {
                    let single = Pending::new(pending.directory.clone(), vec![one.clone()]);
                    match self.fold_by_itself(&single).await {
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

    async fn fold_by_itself(&self, pending: &Pending) -> Result<(), DbError> {
        self.fold_in(self.db.begin_in_background().await?, slice::from_ref(pending)).await
    }

    /// Folds the events of these directories in one transaction.
    async fn fold_in(&self, mut transaction: Transaction, directories: &[Pending]) -> Result<(), DbError> {
        let (now, started) = (self.clock.now(), Instant::now());
        let connection = transaction.connection();
        let ids: Vec<&DirectoryId> = directories.iter().map(|pending| &pending.directory).collect();
        let numbers = lease::lock_together(connection, &ids, &self.lease).await?;
        let mut touched: Vec<Touched> = directories.iter().map(|pending| pending.touched.clone()).collect();
        let verifies = self.client.is_some();
        if !verifies {
            for (directory, touched) in ids.iter().zip(&mut touched) {
                for (group, user) in working_set::announced_edges(connection, directory, touched).await? {
                    touched.add_edge(group, user);
                }
            }
        }
        let of: Vec<(&DirectoryId, &Touched)> = ids.into_iter().zip(&touched).collect();
        let mut sets = working_set::load_together(connection, &of).await?;
        // Without an API nothing else will ever say what an old hint says.
        let oldest = if verifies { self.retention.oldest_hint(now) } else { Timestamp::MIN_UTC };
        let mut ends: BTreeMap<(&str, &str), Vec<&Decoded>> = BTreeMap::new();
        for ((pending, set), number) in directories.iter().zip(&mut sets).zip(numbers) {
            let context = FoldContext { number, now, oldest, verifies };
            for one in &pending.events {
                set.hinted_at = Some(one.event.received_at);
                let outcome = mirror::fold(set, &one.hint, &context);
                ends.entry((outcome.status.as_str(), outcome.reason)).or_default().push(one);
            }
        }
        working_set::save_together(connection, &sets, now).await?;
        for ((status, reason), events) in &ends {
            let status = EventStatus::from_stored(status).unwrap_or(EventStatus::Applied);
            let ids: Vec<&str> = events.iter().map(|one| one.event.event_id.as_str()).collect();
            // Somebody finished some since they were read: what they did must not be done again, so all is rolled back
            // and the rest is read anew.
            if inbox::finish_events(connection, &ids, status, reason, now).await? < ids.len() {
                return Err(DbError::LeaseLost(names(directories.iter().map(|pending| &pending.directory))));
            }
        }
        transaction.commit().await?;
        self.metrics.fold_took(started.elapsed());
        for ((status, reason), events) in &ends {
            self.count_folded(EventStatus::from_stored(status), events);
            let (first, directories) =
                (&events[0].event.event_id, names(events.iter().map(|one| &one.hint.directory_id)));
            tracing::info!(directories, events = events.len(), %first, status, reason, "events folded");
            for one in events {
                tracing::debug!(event_id = %one.event.event_id, directory_id = %one.hint.directory_id, status, reason, "event folded");
            }
        }
        Ok(())
    }

    fn count_folded(&self, status: Option<EventStatus>, events: &[&Decoded]) {
        if let Some(end) = status.and_then(EventEnd::of) {
            self.metrics.folded(end, events.len());
        }
        if status == Some(EventStatus::Applied) {
            let now = self.clock.now();
            for one in events {
                self.metrics.hint_visible(now - one.event.received_at, one.hint.change.revokes());
            }
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
        let buried = self.db.finish_events(&[id.as_str()], EventStatus::Dead, reason, self.clock.now()).await?;
        if buried > 0 {
            tracing::error!(event_id = %id, reason, "the event is dead");
            self.metrics.folded(EventEnd::Dead, buried);
        }
        Ok(())
    }
}

/// As an operator finds them in the log: all, or the first few.
fn names<'a>(directories: impl Iterator<Item = &'a DirectoryId>) -> String {
    let directories: BTreeSet<&str> = directories.map(DirectoryId::as_str).collect();
    let shown: Vec<&str> = directories.iter().copied().take(NAMED).collect();
    match directories.len() - shown.len() {
        0 => shown.join(","),
        more => format!("{} and {more} more", shown.join(",")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DirectoryGroupId, DirectoryUserId};

    #[test]
    fn who_claims_what_another_directory_has_already_is_folded_after_it() {
        let pending = |directory: &str, users: &[&str], groups: &[&str]| Pending {
            directory: DirectoryId::from_stored(directory.to_owned()),
            events: Vec::new(),
            touched: Touched {
                users: users.iter().map(|id| DirectoryUserId::from_stored((*id).to_owned())).collect(),
                groups: groups.iter().map(|id| DirectoryGroupId::from_stored((*id).to_owned())).collect(),
                edges: BTreeSet::new(),
            },
        };
        let directories = vec![
            pending("a", &["u1", "u2"], &["g1"]),
            pending("b", &["u2"], &["g2"]),
            pending("c", &["u3"], &["g1"]),
            pending("d", &["u4"], &["g2"]),
        ];
        let (together, alone) = split_by_claims(directories);
        let names = |of: &[Pending]| of.iter().map(|one| one.directory.to_string()).collect::<Vec<_>>();
        assert_eq!((names(&together), names(&alone)), (vec!["a".into(), "d".into()], vec!["b".into(), "c".into()]));
    }

    #[test]
    fn a_directory_that_is_deleted_is_folded_by_itself() {
        let pending = |directory: &str, event_type: &str| {
            let (event_id, received_at) = (EventId::from_stored(format!("event_{directory}")), Timestamp::UNIX_EPOCH);
            let record =
                serde_json::json!({"id": directory, "name": "Acme", "state": "active", "type": "okta scim v2.0"});
            let body = serde_json::json!({"id": event_id.as_str(), "event": event_type, "data": record,
                "created_at": "1970-01-01T00:00:00.000Z"});
            let body = body.to_string().into_bytes();
            let hint = event::parse_hint(&event_id, event_type, &body, received_at).unwrap();
            let (event_type, directory_id) = (event_type.to_owned(), Some(directory.to_owned()));
            let event =
                PendingEvent { event_id, event_type, directory_id, occurred_at: None, received_at, body, attempts: 0 };
            Pending::new(DirectoryId::from_stored(directory.to_owned()), vec![Decoded { event, hint }])
        };
        let directories = vec![pending("a", "dsync.deleted"), pending("b", "dsync.activated")];
        let (together, alone) = split_by_claims(directories);
        assert_eq!((together[0].directory.as_str(), alone[0].directory.as_str()), ("b", "a"));
    }
}
