//! Deletes what is no longer needed, in batches so small that on SQLite the inbox hardly waits for them.
//!
//! What is to go is found outside the transaction that deletes it. That one checks again, since a row may have changed
//! in between.

use diesel::dsl::{exists, not, sql};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool};
use diesel_async::RunQueryDsl;

use super::schema::{edge_memory, entity_memory, groups, inbox_events, marks, users};
use super::types::StoredInstant;
use super::{Db, DbError, EventFilter, with_connection};
use crate::clock::Timestamp;
use crate::model::EventStatus;

/// The most rows that one transaction deletes.
const BATCH_ROWS: usize = 250;
/// And about the most bytes of bodies: a large body lies on many pages.
const BATCH_BYTES: i64 = 4 * 1024 * 1024;

/// A row's key in the memories: group and user, or kind and id.
pub type MemoryKey = (String, String);

/// What became of a part of the memories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// How many rows were deleted.
    pub rows: usize,
    /// Where the next part begins, behind this key; `None` at the end.
    pub place: Option<MemoryKey>,
}

impl Forgotten {
    fn new(rows: usize, found: &[MemoryKey]) -> Self {
        Self { rows, place: found.last().filter(|_| found.len() == BATCH_ROWS).cloned() }
    }
}

/// The finished events that were finished before an instant. Those that are dead count only if the filter names them,
/// those that are pending never.
macro_rules! prunable {
    ($filter:expr, $before:expr) => {{
        // Spelled out, because SQLite uses a partial index only for a constant condition.
        let finished = match $filter.status {
            Some(EventStatus::Dead) => "status = 'dead'",
            _ => "status <> 'pending' AND status <> 'dead'",
        };
        let mut query = inbox_events::table
            .filter(sql::<Bool>(finished))
            .filter(inbox_events::processed_at.lt(StoredInstant($before)))
            .into_boxed();
        if let Some(status) = $filter.status {
            query = query.filter(inbox_events::status.eq(status.as_str()));
        }
        if let Some(directory) = &$filter.directory_id {
            query = query.filter(inbox_events::directory_id.eq(directory));
        }
        if let Some(event_type) = &$filter.event_type {
            query = query.filter(inbox_events::event_type.eq(event_type));
        }
        query
    }};
}

impl Db {
    /// Deletes a batch of the events that were finished before an instant, and answers how many: 0 once none is left.
    /// Dead ones go only if the filter names them, pending ones never.
    ///
    /// # Errors
    /// [`DbError`]; then none of them was deleted.
    pub async fn prune_events(&self, filter: &EventFilter, before: Timestamp) -> Result<usize, DbError> {
        let mut connection = self.read().await?;
        let found: Vec<(String, i64)> = with_connection!(&mut connection, c => {
            prunable!(filter, before)
                .order(inbox_events::processed_at)
                .limit(i64::try_from(BATCH_ROWS).unwrap_or(i64::MAX))
                .select((inbox_events::event_id, sql::<BigInt>("CAST(length(body) AS bigint)")))
                .load(c)
                .await
        })?;
        drop(connection);
        let mut bytes = 0;
        let mut ids: Vec<String> = found
            .into_iter()
            .enumerate()
            .take_while(|(index, (_, length))| {
                bytes += length;
                *index == 0 || bytes <= BATCH_BYTES
            })
            .map(|(_, (id, _))| id)
            .collect();
        if ids.is_empty() {
            return Ok(0);
        }
        // Sorted, so that two who prune never wait for each other.
        ids.sort_unstable();
        let mut transaction = self.begin_in_background().await?;
        let pruned = with_connection!(transaction.connection(), c => {
            diesel::delete(inbox_events::table.filter(inbox_events::event_id.eq_any(&ids)))
                .filter(inbox_events::status.ne(EventStatus::Pending.as_str()))
                .filter(inbox_events::processed_at.lt(StoredInstant(before)))
                .execute(c)
                .await
        })?;
        transaction.commit().await?;
        Ok(pruned)
    }

    /// How many events [`Db::prune_events`] would delete in all.
    ///
    /// # Errors
    /// [`DbError`] if the database cannot be asked.
    pub async fn count_prunable_events(&self, filter: &EventFilter, before: Timestamp) -> Result<i64, DbError> {
        let mut connection = self.read().await?;
        Ok(with_connection!(&mut connection, c => prunable!(filter, before).count().get_result(c).await)?)
    }

    /// Forgets absent memberships of which nothing was heard since an instant and that have no mark: a batch of those
    /// behind `place`.
    ///
    /// # Errors
    /// [`DbError`]; then none of them was forgotten.
    pub async fn forget_absent_edges(
        &self,
        before: Timestamp,
        place: Option<&MemoryKey>,
    ) -> Result<Forgotten, DbError> {
        let mark = marks::directory_id
            .eq(edge_memory::directory_id)
            .and(marks::kind.eq("edge"))
            .and(marks::directory_group_id.eq(edge_memory::directory_group_id))
            .and(marks::directory_user_id.eq(edge_memory::directory_user_id));
        let old = edge_memory::present
            .eq(false)
            .and(edge_memory::updated_at.lt(StoredInstant(before)))
            .and(not(exists(marks::table.filter(mark))));
        let (last_group, last_user) = place.map_or(("", ""), |(group, user)| (group, user));
        let (group, user) = (edge_memory::directory_group_id, edge_memory::directory_user_id);
        let mut connection = self.read().await?;
        let found: Vec<MemoryKey> = with_connection!(&mut connection, c => {
            edge_memory::table
                .filter(old)
                .filter(group.ge(last_group).and(group.gt(last_group).or(user.gt(last_user))))
                .order((group, user))
                .limit(i64::try_from(BATCH_ROWS).unwrap_or(i64::MAX))
                .select((group, user))
                .load(c)
                .await
        })?;
        drop(connection);
        if found.is_empty() {
            return Ok(Forgotten::new(0, &found));
        }
        let mut rows = 0;
        let mut transaction = self.begin_in_background().await?;
        for (group, user) in &found {
            rows += with_connection!(transaction.connection(), c => {
                diesel::delete(edge_memory::table.find((group, user)).filter(old)).execute(c).await
            })?;
        }
        transaction.commit().await?;
        Ok(Forgotten::new(rows, &found))
    }

    /// Forgets users and groups that have no row, of which nothing was heard since an instant and that have no mark: a
    /// batch of those behind `place`.
    ///
    /// # Errors
    /// [`DbError`]; then none of them was forgotten.
    pub async fn forget_unknown_entities(
        &self,
        before: Timestamp,
        place: Option<&MemoryKey>,
    ) -> Result<Forgotten, DbError> {
        let (kind, id) = (entity_memory::kind, entity_memory::entity_id);
        let user = users::table.filter(users::directory_user_id.eq(id.nullable()));
        let group = groups::table.filter(groups::directory_group_id.eq(id.nullable()));
        let mark = marks::directory_id.eq(entity_memory::directory_id).and(marks::kind.eq(kind)).and(
            (marks::directory_user_id.eq(id).and(marks::directory_group_id.eq("")))
                .or(marks::directory_group_id.eq(id).and(marks::directory_user_id.eq(""))),
        );
        let before = StoredInstant(before);
        let old = kind
            // What is remembered of a deleted directory is final.
            .eq_any(["user", "group"])
            .and(entity_memory::hint_at.is_null().or(entity_memory::hint_at.lt(before)))
            .and(entity_memory::truth_at.is_null().or(entity_memory::truth_at.lt(before)))
            .and(kind.ne("user").or(not(exists(user))))
            .and(kind.ne("group").or(not(exists(group))))
            .and(not(exists(marks::table.filter(mark))));
        let (last_kind, last_id) = place.map_or(("", ""), |(kind, id)| (kind, id));
        let mut connection = self.read().await?;
        let found: Vec<MemoryKey> = with_connection!(&mut connection, c => {
            entity_memory::table
                .filter(old.clone())
                .filter(kind.ge(last_kind).and(kind.gt(last_kind).or(id.gt(last_id))))
                .order((kind, id))
                .limit(i64::try_from(BATCH_ROWS).unwrap_or(i64::MAX))
                .select((kind, id))
                .load(c)
                .await
        })?;
        drop(connection);
        if found.is_empty() {
            return Ok(Forgotten::new(0, &found));
        }
        let mut rows = 0;
        let mut transaction = self.begin_in_background().await?;
        for (kind, id) in &found {
            rows += with_connection!(transaction.connection(), c => {
                diesel::delete(entity_memory::table.find((kind, id)).filter(old.clone())).execute(c).await
            })?;
        }
        transaction.commit().await?;
        Ok(Forgotten::new(rows, &found))
    }
}
