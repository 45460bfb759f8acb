//! The engine's private bookkeeping: sequences, and marks that are due.

use std::collections::BTreeMap;

use diesel::dsl::exists;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel_async::RunQueryDsl;

use super::lease::{Lease, lock};
use super::records::MarkRow;
use super::schema::{directories, directory_work, edge_memory, marks};
use super::spelled::spelled;
use super::types::StoredInstant;
use super::{Db, DbConnection, DbError, Reader, with_connection, with_reader};
use crate::clock::Timestamp;
use crate::model::{DirectoryGroupId, DirectoryId, DirectoryUserId, Mark, SyncStatus};

/// What a directory has to have fetched, the most pressing first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// Marks that verify that something was taken away.
    Revocations,
    /// Other marks.
    Marks,
    /// A scan, and perhaps marks besides.
    Scan,
}

impl Db {
    /// Takes the next number of a directory's sequence, for a request that is about to be sent.
    ///
    /// # Errors
    /// [`DbError::LeaseLost`] if another worker has the directory.
    pub async fn next_number(&self, directory: &DirectoryId, lease: &Lease) -> Result<i64, DbError> {
        self.next_numbers(directory, lease, 1).await
    }

    /// Takes `count` numbers for as many requests, and answers the first.
    ///
    /// # Errors
    /// [`DbError::LeaseLost`] if another worker has the directory.
    pub async fn next_numbers(&self, directory: &DirectoryId, lease: &Lease, count: usize) -> Result<i64, DbError> {
        if let Some(first) = self.numbers_of_our_own(directory, lease, count).await {
            return Ok(first);
        }
        let mut transaction = self.begin_in_background().await?;
        let first = lock(transaction.connection(), directory, lease).await?;
        let last = first + i64::try_from(count.saturating_sub(1)).unwrap_or_default();
        with_connection!(transaction.connection(), c => {
            diesel::update(directory_work::table.find(directory.as_str()))
                .set(directory_work::sequence.eq(last))
                .execute(c)
                .await
        })?;
        transaction.commit().await?;
        Ok(first)
    }

    /// Takes a number of each directory's sequence, whoever has it, for a request whose answer tells of all of them.
    ///
    /// # Errors
    /// [`DbError`] if the commit fails.
    pub async fn next_number_of_each(&self) -> Result<BTreeMap<DirectoryId, i64>, DbError> {
        let mut transaction = self.begin_in_background().await?;
        let taken: Vec<(String, i64)> = with_connection!(transaction.connection(), c => {
            diesel::update(directory_work::table)
                .set(directory_work::sequence.eq(directory_work::sequence + 1))
                .returning((directory_work::directory_id, directory_work::sequence))
                .get_results(c)
                .await
        })?;
        transaction.commit().await?;
        Ok(taken.into_iter().map(|(directory, number)| (DirectoryId::from_stored(directory), number)).collect())
    }

    /// The same as [`Db::next_numbers`] in one statement, if nobody else has had the directory since this worker last had
    /// it; the lease is not prolonged by this.
    async fn numbers_of_our_own(&self, directory: &DirectoryId, lease: &Lease, count: usize) -> Option<i64> {
        if !self.is_postgres() {
            return None;
        }
        let count = i64::try_from(count).ok()?;
        let mut connection = self.read().await.ok()?;
        let taken: QueryResult<Option<i64>> = with_connection!(&mut connection, c => {
            diesel::update(directory_work::table.find(directory.as_str()))
                .filter(directory_work::lease_token.eq(lease.token()))
                .set(directory_work::sequence.eq(directory_work::sequence + count))
                .returning(directory_work::sequence)
                .get_result(c)
                .await
                .optional()
        });
        match taken {
            Ok(last) => Some(last? - count + 1),
            Err(_) => {
                // After a restart of the server every pooled connection is dead, and only its first use tells.
                connection.discard();
                None
            }
        }
    }

    /// The directories that have something to fetch, with what: due marks, or a scan that is not finished or was asked for.
    ///
    /// # Errors
    /// [`DbError`] if the query fails.
    pub async fn directories_to_refresh(
        &self,
        now: Timestamp,
        lease: &Lease,
    ) -> Result<Vec<(DirectoryId, Due)>, DbError> {
        let mut connection = self.read().await?;
        let ours = lease.may_work(&connection);
        let due_at = StoredInstant(now);
        let disabled = directories::table.filter(directories::enabled.eq(false)).select(directories::directory_id);
        let mut found: BTreeMap<String, Due> = BTreeMap::new();
        let scans: Vec<String> = with_connection!(&mut connection, c => {
            directories::table
                .inner_join(directory_work::table.on(directory_work::directory_id.eq(directories::directory_id)))
                .filter(
                    directories::sync_status
                        .ne(SyncStatus::Synced.as_str())
                        .or(directory_work::scan_requested_at.is_not_null()),
                )
                .filter(directories::enabled.eq(true).and(directories::deleted_at.is_null()))
                .filter(spelled::<Bool>(&ours))
                .select(directories::directory_id)
                .load(c)
                .await
        })?;
        found.extend(scans.into_iter().map(|id| (id, Due::Scan)));
        let marked: Vec<String> = with_connection!(&mut connection, c => {
            directory_work::table
                .filter(directory_work::directory_id.ne_all(disabled).and(spelled::<Bool>(&ours)))
                .filter(exists(
                    marks::table
                        .filter(marks::directory_id.eq(directory_work::directory_id).and(marks::due_at.le(due_at))),
                ))
                .select(directory_work::directory_id)
                .load(c)
                .await
        })?;
        for id in marked {
            found.entry(id).or_insert(Due::Marks);
        }
        let urgent: Vec<String> = with_connection!(&mut connection, c => {
            directory_work::table
                .filter(directory_work::directory_id.ne_all(disabled).and(spelled::<Bool>(&ours)))
                .filter(exists(
                    marks::table
                        .filter(marks::directory_id.eq(directory_work::directory_id).and(marks::due_at.le(due_at)))
                        .filter(marks::urgent),
                ))
                .select(directory_work::directory_id)
                .load(c)
                .await
        })?;
        found.extend(urgent.into_iter().map(|id| (id, Due::Revocations)));
        let mut due: Vec<(DirectoryId, Due)> =
            found.into_iter().map(|(id, due)| (DirectoryId::from_stored(id), due)).collect();
        due.sort_by_key(|(_, due)| *due);
        Ok(due)
    }

    /// A directory's due marks: its own record alone if that is due, otherwise those that verify a revocation and then
    /// those that have waited longest.
    ///
    /// # Errors
    /// [`DbError`] if the query fails.
    pub async fn due_marks(&self, directory: &DirectoryId, now: Timestamp, limit: i64) -> Result<Vec<Mark>, DbError> {
        let (own, mut marks, others) = match &mut self.read().await? {
            DbConnection::Postgres(object) => {
                let reader = || Reader::Postgres(object);
                tokio::try_join!(
                    due_marks_of(reader(), directory, now, DueKind::OwnRecord, 1),
                    due_marks_of(reader(), directory, now, DueKind::Urgent, limit),
                    due_marks_of(reader(), directory, now, DueKind::Other, limit)
                )?
            }
            DbConnection::Sqlite(object) => (
                due_marks_of(Reader::Sqlite(object), directory, now, DueKind::OwnRecord, 1).await?,
                due_marks_of(Reader::Sqlite(object), directory, now, DueKind::Urgent, limit).await?,
                due_marks_of(Reader::Sqlite(object), directory, now, DueKind::Other, limit).await?,
            ),
        };
        if !own.is_empty() {
            return Ok(own);
        }
        marks.extend(others);
        marks.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(marks)
    }

    /// The memberships that the mirror or its memory knows for a user (or for a group).
    ///
    /// # Errors
    /// [`DbError`] if the query fails.
    pub async fn known_edges(
        &self,
        user: Option<&DirectoryUserId>,
        group: Option<&DirectoryGroupId>,
    ) -> Result<Vec<(DirectoryGroupId, DirectoryUserId)>, DbError> {
        let mut connection = self.read().await?;
        let rows: Vec<(String, String)> = with_connection!(&mut connection, c => {
            let mut query = edge_memory::table
                .select((edge_memory::directory_group_id, edge_memory::directory_user_id))
                .into_boxed();
            if let Some(user) = user {
                query = query.filter(edge_memory::directory_user_id.eq(user.as_str()));
            }
            if let Some(group) = group {
                query = query.filter(edge_memory::directory_group_id.eq(group.as_str()));
            }
            query.load(c).await
        })?;
        let key = |(group, user)| (DirectoryGroupId::from_stored(group), DirectoryUserId::from_stored(user));
        Ok(rows.into_iter().map(key).collect())
    }

    /// Notes why a directory cannot go on, for the health page; `None` when it goes on.
    ///
    /// # Errors
    /// [`DbError`] if the commit fails.
    pub async fn note_error(&self, directory: &DirectoryId, error: Option<&str>) -> Result<(), DbError> {
        let mut transaction = self.begin_in_background().await?;
        with_connection!(transaction.connection(), c => {
            diesel::update(directory_work::table.find(directory.as_str()))
                .set(directory_work::last_error.eq(error))
                .execute(c)
                .await
        })?;
        transaction.commit().await
    }
}

#[derive(Clone, Copy)]
enum DueKind {
    OwnRecord,
    Urgent,
    Other,
}

async fn due_marks_of(
    mut reader: Reader<'_>,
    directory: &DirectoryId,
    now: Timestamp,
    kind: DueKind,
    limit: i64,
) -> Result<Vec<Mark>, DbError> {
    let rows: Vec<MarkRow> = with_reader!(reader, c => {
        let due = marks::directory_id.eq(directory.as_str()).and(marks::due_at.le(StoredInstant(now)));
        let query = marks::table.filter(due).into_boxed();
        let query = match kind {
            DueKind::OwnRecord => query.filter(marks::kind.eq("directory")),
            DueKind::Urgent => query.filter(marks::kind.ne("directory")).filter(marks::urgent),
            DueKind::Other => query.filter(marks::kind.ne("directory")).filter(diesel::dsl::not(marks::urgent)),
        };
        query
            .order((marks::due_at, marks::directory_user_id, marks::directory_group_id))
            .limit(limit)
            .select(MarkRow::as_select())
            .load(c)
            .await
    })?;
    Ok(rows.into_iter().filter_map(MarkRow::into_model).collect())
}
