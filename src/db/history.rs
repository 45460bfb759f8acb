//! The inbox as operators read it: what came, when, and how it ended.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::schema::inbox_events;
use super::types::StoredInstant;
use super::{Db, DbError, with_connection};
use crate::clock::Timestamp;
use crate::model::{EventId, EventStatus};

/// What the inbox says of an event, its body apart.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = inbox_events)]
pub struct InboxEntry {
    /// WorkOS's id, or one made from the body's hash.
    pub event_id: String,
    /// WorkOS's `event`.
    pub event_type: String,
    /// The directory it names.
    pub directory_id: Option<String>,
    #[diesel(select_expression = inbox_events::received_at)]
    received: StoredInstant,
    /// How it came: `webhook` or `events_api`.
    pub source: String,
    /// See [`EventStatus`].
    pub status: String,
    /// Why it ended so.
    pub reason: Option<String>,
    /// How often folding it failed.
    pub attempts: i32,
}

impl InboxEntry {
    /// When we received it.
    #[must_use]
    pub const fn received_at(&self) -> Timestamp {
        self.received.0
    }
}

/// Which events; all that are given must hold.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Only with this status.
    pub status: Option<EventStatus>,
    /// Only of this directory.
    pub directory_id: Option<String>,
    /// Only of this type.
    pub event_type: Option<String>,
}

/// Where a list of events goes on: the last entry's instant and id.
pub type Place = (Timestamp, String);

/// Which end of the inbox comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The first received first.
    OldestFirst,
    /// The last received first.
    NewestFirst,
}

impl Db {
    /// A page of events with their bodies, from behind `place`.
    ///
    /// # Errors
    /// [`DbError`] if the database cannot be asked.
    pub async fn events(
        &self,
        filter: &EventFilter,
        direction: Direction,
        place: Option<&Place>,
        limit: i64,
    ) -> Result<Vec<(InboxEntry, Vec<u8>)>, DbError> {
        let mut connection = self.read().await?;
        Ok(with_connection!(&mut connection, c => {
            let mut query = inbox_events::table
                .select((InboxEntry::as_select(), inbox_events::body))
                .limit(limit)
                .into_boxed();
            if let Some(status) = filter.status {
                query = query.filter(inbox_events::status.eq(status.as_str()));
            }
            if let Some(directory) = &filter.directory_id {
                query = query.filter(inbox_events::directory_id.eq(directory));
            }
            if let Some(event_type) = &filter.event_type {
                query = query.filter(inbox_events::event_type.eq(event_type));
            }
            let (at, id) = (inbox_events::received_at, inbox_events::event_id);
            query = match direction {
                Direction::OldestFirst => query.order((at.asc(), id.asc())),
                Direction::NewestFirst => query.order((at.desc(), id.desc())),
            };
            if let Some((last_at, last_id)) = place {
                let last = StoredInstant(*last_at);
                query = match direction {
                    Direction::OldestFirst => query.filter(at.gt(last).or(at.eq(last).and(id.gt(last_id)))),
                    Direction::NewestFirst => query.filter(at.lt(last).or(at.eq(last).and(id.lt(last_id)))),
                };
            }
            query.load(c).await
        })?)
    }

    /// One event with its body.
    ///
    /// # Errors
    /// [`DbError`] if the database cannot be asked.
    pub async fn event(&self, id: &EventId) -> Result<Option<(InboxEntry, Vec<u8>)>, DbError> {
        let mut connection = self.read().await?;
        Ok(with_connection!(&mut connection, c => {
            inbox_events::table
                .find(id.as_str())
                .select((InboxEntry::as_select(), inbox_events::body))
                .first(c)
                .await
                .optional()
        })?)
    }

    /// Makes finished events pending again and answers how many: all dead ones, or `ids`, whatever their status.
    ///
    /// # Errors
    /// [`DbError`]; then none of them changed.
    pub async fn retry_events(&self, ids: Option<&[String]>) -> Result<usize, DbError> {
        let mut transaction = self.begin_in_background().await?;
        let again = (
            inbox_events::status.eq(EventStatus::Pending.as_str()),
            inbox_events::reason.eq(None::<String>),
            inbox_events::attempts.eq(0),
            inbox_events::next_attempt_at.eq(None::<StoredInstant>),
            inbox_events::processed_at.eq(None::<StoredInstant>),
        );
        let changed = with_connection!(transaction.connection(), c => match ids {
            Some(ids) => {
                diesel::update(inbox_events::table.filter(inbox_events::event_id.eq_any(ids))).set(again).execute(c).await
            }
            None => {
                let dead = inbox_events::status.eq(EventStatus::Dead.as_str());
                diesel::update(inbox_events::table.filter(dead)).set(again).execute(c).await
            }
        })?;
        transaction.commit().await?;
        Ok(changed)
    }
}
