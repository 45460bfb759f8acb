//! The inbox: every event that was received, for as long as retention keeps it.

use std::borrow::Borrow;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool};
use diesel_async::RunQueryDsl;

use super::batch::Batch;
use super::connection::{Guarded, POSTGRES_INBOX_CONNECTIONS};
use super::lease::Lease;
use super::schema::inbox_events;
use super::spelled::spelled;
use super::types::StoredInstant;
use super::{Db, DbConnection, DbError, with_connection};
use crate::clock::Timestamp;
use crate::model::{EventId, EventStatus};

/// An event on its way into the inbox.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = inbox_events, treat_none_as_default_value = false)]
pub struct NewInboxEvent {
    /// WorkOS's id, or one made from the body's hash.
    pub event_id: String,
    /// WorkOS's `event`; empty if the body has none.
    pub event_type: String,
    /// The directory it names.
    pub directory_id: Option<String>,
    /// The organization it names.
    pub organization_id: Option<String>,
    /// WorkOS's `created_at`.
    pub occurred_at: Option<StoredInstant>,
    /// When we received it.
    pub received_at: StoredInstant,
    /// How it came: `webhook` or `events_api`.
    pub source: &'static str,
    /// The body, byte for byte.
    pub body: Vec<u8>,
    /// See [`EventStatus`].
    pub status: &'static str,
    /// Why it is ignored or dead.
    pub reason: Option<String>,
    /// How often folding it failed.
    pub attempts: i32,
    /// When it was finished.
    pub processed_at: Option<StoredInstant>,
}

/// An event that waits to be folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEvent {
    /// Its id.
    pub event_id: EventId,
    /// WorkOS's `event`.
    pub event_type: String,
    /// The directory it names.
    pub directory_id: Option<String>,
    /// WorkOS's `created_at`.
    pub occurred_at: Option<Timestamp>,
    /// When we received it.
    pub received_at: Timestamp,
    /// The body, byte for byte.
    pub body: Vec<u8>,
    /// How often folding it failed.
    pub attempts: i32,
}

/// A sender is asked to try again before it loses patience itself.
const STORE_PATIENCE: Duration = Duration::from_secs(5);
const REMOVALS: &str = "event_type IN ('dsync.deleted', 'dsync.user.deleted', 'dsync.group.deleted', \
     'dsync.group.user_removed')";

impl Db {
    /// Stores events and commits. An event whose id is known, or came twice in `events`, is left as it is. Answers how
    /// many are new.
    ///
    /// # Errors
    /// [`DbError`]; then none of them is stored.
    pub async fn store_events<E: Borrow<NewInboxEvent>>(&self, events: Vec<E>) -> Result<usize, DbError> {
        let events: Vec<&NewInboxEvent> = events.iter().map(Borrow::borrow).collect();
        if self.is_postgres() {
            return self.store_in_one_statement(events).await;
        }
        let mut transaction = self.begin_for_inbox().await?;
        let stored = insert(transaction.connection(), events).await?;
        transaction.commit().await?;
        Ok(stored)
    }

    /// A statement is a transaction of its own: one round trip in place of three. After a restart of the server every
    /// pooled connection is dead, and only its first use tells, so it is tried on as many as there may be; doing it twice
    /// does no harm. What fails on a connection that lives fails on the next as well.
    async fn store_in_one_statement(&self, events: Vec<&NewInboxEvent>) -> Result<usize, DbError> {
        let stored = async {
            let mut attempt = 0;
            loop {
                let mut connection = Guarded::new(self.inbox_connection().await?);
                match insert(connection.get(), events.clone()).await {
                    Err(DbError::Unavailable(_)) if attempt < POSTGRES_INBOX_CONNECTIONS => attempt += 1,
                    result => {
                        // A refused statement leaves the connection as it was.
                        if !matches!(result, Err(DbError::Unavailable(_))) {
                            connection.give_back();
                        }
                        return result;
                    }
                }
            }
        };
        let silent = || DbError::Unavailable(format!("it did not answer within {} s", STORE_PATIENCE.as_secs()));
        tokio::time::timeout(STORE_PATIENCE, stored).await.map_err(|_| silent())?
    }

    /// The next events to fold: removals first, then the oldest; at most `limit` and about `max_bytes` of bodies.
    ///
    /// # Errors
    /// [`DbError`] if the query fails.
    pub async fn pending_events(
        &self,
        lease: &Lease,
        now: Timestamp,
        limit: i64,
        max_bytes: i64,
    ) -> Result<Vec<PendingEvent>, DbError> {
        let mut connection = self.read().await?;
        let ours = may_fold(lease, &connection);
        let mut sizes: Vec<(String, i64)> = Vec::new();
        for removals in [true, false] {
            let wanted = limit - i64::try_from(sizes.len()).unwrap_or(limit);
            if wanted > 0 {
                sizes.extend(sizes_of_pending(&mut connection, now, (removals, &ours), wanted).await?);
            }
        }
        let mut total = 0;
        let ids: Vec<String> = sizes
            .into_iter()
            .enumerate()
            .take_while(|(index, (_, bytes))| {
                total += bytes;
                *index == 0 || total <= max_bytes
            })
            .map(|(_, (id, _))| id)
            .collect();
        load_events(&mut connection, ids).await
    }
}

/// The condition that this worker may fold an event. Of a directory that nobody knows yet, the oldest worker may.
fn may_fold(lease: &Lease, connection: &DbConnection) -> String {
    if matches!(connection, DbConnection::Sqlite(_)) {
        return "true".to_owned();
    }
    // The subqueries do not depend on the event, so that they are run once and not for each event of a backlog.
    let ours = format!("SELECT directory_id FROM directory_work WHERE {}", lease.may_work(connection));
    let unknown = "inbox_events.directory_id IS NULL
        OR inbox_events.directory_id NOT IN (SELECT directory_id FROM directory_work)";
    format!("(inbox_events.directory_id IN ({ours}) OR ({} AND ({unknown})))", lease.is_first())
}

async fn insert(connection: &mut DbConnection, events: Vec<&NewInboxEvent>) -> Result<usize, DbError> {
    Ok(with_connection!(connection, c => {
        diesel::insert_into(inbox_events::table)
            .values(Batch(events))
            .on_conflict(inbox_events::event_id)
            .do_nothing()
            .execute(c)
            .await
    })?)
}

async fn sizes_of_pending(
    connection: &mut DbConnection,
    now: Timestamp,
    (removals, ours): (bool, &str),
    limit: i64,
) -> Result<Vec<(String, i64)>, DbError> {
    let kind = if removals { REMOVALS.to_owned() } else { format!("NOT ({REMOVALS})") };
    Ok(with_connection!(connection, c => {
        inbox_events::table
            // Spelled out, because SQLite uses a partial index only for a constant condition.
            .filter(spelled::<Bool>("status = 'pending'"))
            .filter(spelled::<Bool>(&kind))
            .filter(spelled::<Bool>(ours))
            .filter(inbox_events::next_attempt_at.is_null().or(inbox_events::next_attempt_at.le(StoredInstant(now))))
            .order((inbox_events::received_at, inbox_events::event_id))
            .limit(limit)
            .select((inbox_events::event_id, spelled::<BigInt>("CAST(length(body) AS bigint)")))
            .load::<(String, i64)>(c)
            .await
    })?)
}

type Row = (String, String, Option<String>, Option<StoredInstant>, StoredInstant, Vec<u8>, i32);

async fn load_events(connection: &mut DbConnection, ids: Vec<String>) -> Result<Vec<PendingEvent>, DbError> {
    let rows: Vec<Row> = with_connection!(connection, c => {
        inbox_events::table
            .filter(inbox_events::event_id.eq_any(&ids))
            .select((
                inbox_events::event_id,
                inbox_events::event_type,
                inbox_events::directory_id,
                inbox_events::occurred_at,
                inbox_events::received_at,
                inbox_events::body,
                inbox_events::attempts,
            ))
            .load(c)
            .await
    })?;
    let event = |row: Row| PendingEvent {
        event_id: EventId::from_stored(row.0),
        event_type: row.1,
        directory_id: row.2,
        occurred_at: row.3.map(|at| at.0),
        received_at: row.4.0,
        body: row.5,
        attempts: row.6,
    };
    Ok(rows.into_iter().map(event).collect())
}

/// Finishes events that came to the same end for the same reason; those that are finished already keep their end. Answers
/// how many there were to finish.
///
/// # Errors
/// [`DbError`] if a statement fails.
pub async fn finish_events(
    connection: &mut DbConnection,
    ids: &[&str],
    status: EventStatus,
    reason: &str,
    now: Timestamp,
) -> Result<usize, DbError> {
    let mut finished = 0;
    for chunk in ids.chunks(1000) {
        finished += with_connection!(connection, c => {
            diesel::update(inbox_events::table.filter(inbox_events::event_id.eq_any(chunk)))
                .filter(inbox_events::status.eq(EventStatus::Pending.as_str()))
                .set((
                    inbox_events::status.eq(status.as_str()),
                    inbox_events::reason.eq(reason),
                    inbox_events::processed_at.eq(StoredInstant(now)),
                ))
                .execute(c)
                .await
        })?;
    }
    Ok(finished)
}

impl Db {
    /// Finishes pending events outside a fold: ignored, or dead. Answers how many there were to finish.
    ///
    /// # Errors
    /// [`DbError`] if the commit fails.
    pub async fn finish_events(
        &self,
        ids: &[&str],
        status: EventStatus,
        reason: &str,
        now: Timestamp,
    ) -> Result<usize, DbError> {
        let mut transaction = self.begin_in_background().await?;
        let finished = finish_events(transaction.connection(), ids, status, reason, now).await?;
        transaction.commit().await?;
        Ok(finished)
    }

    /// Puts a pending event off after a failed attempt to fold it.
    ///
    /// # Errors
    /// [`DbError`] if the commit fails.
    pub async fn postpone_event(&self, id: &EventId, attempts: i32, until: Timestamp) -> Result<(), DbError> {
        let mut transaction = self.begin_in_background().await?;
        with_connection!(transaction.connection(), c => {
            diesel::update(inbox_events::table.filter(inbox_events::event_id.eq(id.as_str())))
                .filter(inbox_events::status.eq(EventStatus::Pending.as_str()))
                .set((inbox_events::attempts.eq(attempts), inbox_events::next_attempt_at.eq(StoredInstant(until))))
                .execute(c)
                .await
        })?;
        transaction.commit().await
    }
}
