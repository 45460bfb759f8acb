//! The engine's private bookkeeping: leases and sequences, marks that are due, and how far a scan has come.

use diesel::prelude::*;
use diesel::upsert::excluded;
use diesel_async::RunQueryDsl;

use super::records::MarkRow;
use super::schema::{directories, directory_work, edge_memory, entity_memory, groups, marks, worker_epochs};
use super::types::StoredInstant;
use super::{Db, DbConnection, DbError, with_connection};
use crate::clock::Timestamp;
use crate::model::{DirectoryGroupId, DirectoryId, DirectoryUserId, Mark, MarkTarget, SyncStatus};

/// The fencing token of a worker process: each start takes a higher one, and a directory follows the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease(i64);

/// What a scan is reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanPhase {
    /// All users of the directory.
    Users,
    /// All groups of the directory.
    Groups,
    /// The members of each group.
    Members,
}

impl ScanPhase {
    fn as_str(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Groups => "groups",
            Self::Members => "members",
        }
    }

    fn from_stored(text: &str) -> Option<Self> {
        [Self::Users, Self::Groups, Self::Members].into_iter().find(|phase| phase.as_str() == text)
    }
}

/// How far a scan has come: written with each page, so that a crash loses one page at the most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// What is being read.
    pub phase: ScanPhase,
    /// The last page's `after`.
    pub cursor: Option<String>,
    /// In [`ScanPhase::Members`]: the group being read, or the last one read if there is no cursor.
    pub group: Option<DirectoryGroupId>,
    /// The number of the scan's first request: what has no truth since then was not listed.
    pub number: i64,
}

impl Db {
    /// Takes a new fencing token.
    ///
    /// # Errors
    /// [`DbError`] if the commit fails.
    pub async fn new_lease(&self, now: Timestamp) -> Result<Lease, DbError> {
        loop {
            let mut transaction = self.begin_in_background().await?;
            let newest: Option<i64> = with_connection!(transaction.connection(), c => {
                worker_epochs::table.select(diesel::dsl::max(worker_epochs::epoch)).first(c).await
            })?;
            let token = newest.unwrap_or(0) + 1;
            let taken = with_connection!(transaction.connection(), c => {
                diesel::insert_into(worker_epochs::table)
                    .values((worker_epochs::epoch.eq(token), worker_epochs::started_at.eq(StoredInstant(now))))
                    .on_conflict_do_nothing()
                    .execute(c)
                    .await
            })?;
            transaction.commit().await?;
            if taken == 1 {
                return Ok(Lease(token));
            }
        }
    }

    /// Takes the next number of a directory's sequence, for a request that is about to be sent.
    ///
    /// # Errors
    /// [`DbError::LeaseLost`] if a newer worker has the directory.
    pub async fn next_number(&self, directory: &DirectoryId, lease: Lease) -> Result<i64, DbError> {
        let mut transaction = self.begin_in_background().await?;
        let number = lock(transaction.connection(), directory, lease).await?;
        transaction.commit().await?;
        Ok(number)
    }

    /// Takes `count` numbers for as many requests, and answers the first.
    ///
    /// # Errors
    /// [`DbError::LeaseLost`] if a newer worker has the directory.
    pub async fn next_numbers(&self, directory: &DirectoryId, lease: Lease, count: usize) -> Result<i64, DbError> {
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

    /// The directories that have something to fetch: due marks, or a scan that is not finished.
    ///
    /// # Errors
    /// [`DbError`] if the query fails.
    pub async fn directories_to_refresh(&self, now: Timestamp) -> Result<Vec<DirectoryId>, DbError> {
        let mut connection = self.read().await?;
        let disabled = directories::table.filter(directories::enabled.eq(false)).select(directories::directory_id);
        let mut ids: Vec<String> = with_connection!(&mut connection, c => {
            marks::table
                .filter(marks::due_at.le(StoredInstant(now)).and(marks::directory_id.ne_all(disabled)))
                .select(marks::directory_id)
                .distinct()
                .load(c)
                .await
        })?;
        ids.extend(with_connection!(&mut connection, c => {
            directories::table
                .filter(directories::sync_status.ne(SyncStatus::Synced.as_str()))
                .filter(directories::enabled.eq(true).and(directories::deleted_at.is_null()))
                .select(directories::directory_id)
                .load::<String>(c)
                .await
        })?);
        ids.sort();
        ids.dedup();
        Ok(ids.into_iter().map(DirectoryId::from_stored).collect())
    }

    /// A directory's due marks: its own record alone if that is due, otherwise those that have waited longest.
    ///
    /// # Errors
    /// [`DbError`] if the query fails.
    pub async fn due_marks(&self, directory: &DirectoryId, now: Timestamp, limit: i64) -> Result<Vec<Mark>, DbError> {
        let mut connection = self.read().await?;
        for own_record in [true, false] {
            let rows: Vec<MarkRow> = with_connection!(&mut connection, c => {
                let due = marks::directory_id.eq(directory.as_str()).and(marks::due_at.le(StoredInstant(now)));
                let query = marks::table.filter(due).into_boxed();
                let query = match own_record {
                    true => query.filter(marks::kind.eq("directory")),
                    false => query.filter(marks::kind.ne("directory")),
                };
                query
                    .order((marks::due_at, marks::directory_user_id, marks::directory_group_id))
                    .limit(limit)
                    .select(MarkRow::as_select())
                    .load(c)
                    .await
            })?;
            if !rows.is_empty() {
                return Ok(rows.into_iter().filter_map(MarkRow::into_model).collect());
            }
        }
        Ok(Vec::new())
    }

    /// How far the scan of a directory has come; `None` if it has to start.
    ///
    /// # Errors
    /// [`DbError`] if the query fails.
    pub async fn scan(&self, directory: &DirectoryId) -> Result<Option<Scan>, DbError> {
        type Row = (Option<String>, Option<String>, Option<String>, Option<i64>);
        let mut connection = self.read().await?;
        let row: Option<Row> = with_connection!(&mut connection, c => {
            directory_work::table
                .find(directory.as_str())
                .select((
                    directory_work::scan_phase,
                    directory_work::scan_cursor,
                    directory_work::scan_group,
                    directory_work::scan_number,
                ))
                .first(c)
                .await
                .optional()
        })?;
        Ok(row.and_then(|(phase, cursor, group, number)| {
            Some(Scan {
                phase: ScanPhase::from_stored(&phase?)?,
                cursor,
                group: group.map(DirectoryGroupId::from_stored),
                number: number?,
            })
        }))
    }

    /// The directory's live group that follows `after` in the order of ids.
    ///
    /// # Errors
    /// [`DbError`] if the query fails.
    pub async fn next_group(
        &self,
        directory: &DirectoryId,
        after: Option<&DirectoryGroupId>,
    ) -> Result<Option<DirectoryGroupId>, DbError> {
        let mut connection = self.read().await?;
        let after = after.map_or("", DirectoryGroupId::as_str);
        let id: Option<Option<String>> = with_connection!(&mut connection, c => {
            groups::table
                .filter(groups::directory_id.eq(directory.as_str()).and(groups::deleted_at.is_null()))
                .filter(groups::directory_group_id.gt(after))
                .order(groups::directory_group_id)
                .select(groups::directory_group_id)
                .first(c)
                .await
                .optional()
        })?;
        Ok(id.flatten().map(DirectoryGroupId::from_stored))
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

/// Locks a directory for the rest of the transaction and takes the next number of its sequence. The row lock keeps
/// fold and refresh apart; the token keeps a worker out that was replaced.
///
/// # Errors
/// [`DbError::LeaseLost`] if a newer worker has the directory.
pub async fn lock(connection: &mut DbConnection, directory: &DirectoryId, lease: Lease) -> Result<i64, DbError> {
    use diesel::query_dsl::methods::FilterDsl;
    let number: Option<i64> = with_connection!(connection, c => {
        diesel::insert_into(directory_work::table)
            .values((
                directory_work::directory_id.eq(directory.as_str()),
                // 0 means no truth yet, and 1 is left for an answer that was asked for before the directory was known.
                directory_work::sequence.eq(2),
                directory_work::lease_token.eq(lease.0),
            ))
            .on_conflict(directory_work::directory_id)
            .do_update()
            .set((
                directory_work::sequence.eq(directory_work::sequence + 1),
                directory_work::lease_token.eq(excluded(directory_work::lease_token)),
            ))
            .filter(directory_work::lease_token.le(excluded(directory_work::lease_token)))
            .returning(directory_work::sequence)
            .get_result(c)
            .await
            .optional()
    })?;
    number.ok_or_else(|| DbError::LeaseLost(directory.to_string()))
}

/// Writes how far a scan has come; `None` when it is over.
pub async fn save_scan(
    connection: &mut DbConnection,
    directory: &DirectoryId,
    scan: Option<&Scan>,
) -> Result<(), DbError> {
    with_connection!(connection, c => {
        diesel::update(directory_work::table.find(directory.as_str()))
            .set((
                directory_work::scan_phase.eq(scan.map(|scan| scan.phase.as_str())),
                directory_work::scan_cursor.eq(scan.and_then(|scan| scan.cursor.clone())),
                directory_work::scan_group.eq(scan.and_then(|scan| scan.group.as_ref()).map(ToString::to_string)),
                directory_work::scan_number.eq(scan.map(|scan| scan.number)),
            ))
            .execute(c)
            .await
    })?;
    Ok(())
}

/// What a finished scan did not list: users and groups that the mirror shows, and memberships of active users. Each
/// gets a mark, since absence alone decides nothing (rule 5).
pub async fn not_listed_since(
    connection: &mut DbConnection,
    directory: &DirectoryId,
    number: i64,
) -> Result<Vec<MarkTarget>, DbError> {
    use super::schema::users;
    let id = directory.as_str();
    let stale = entity_memory::directory_id.eq(id).and(entity_memory::truth_number.lt(number));
    let users: Vec<String> = with_connection!(connection, c => {
        entity_memory::table
            .filter(stale)
            .filter(entity_memory::kind.eq("user"))
            .filter(diesel::dsl::exists(
                users::table
                    .filter(users::directory_user_id.eq(entity_memory::entity_id.nullable()))
                    .filter(users::deleted_at.is_null()),
            ))
            .select(entity_memory::entity_id)
            .load(c)
            .await
    })?;
    let groups: Vec<String> = with_connection!(connection, c => {
        entity_memory::table
            .filter(stale)
            .filter(entity_memory::kind.eq("group"))
            .filter(diesel::dsl::exists(
                groups::table
                    .filter(groups::directory_group_id.eq(entity_memory::entity_id.nullable()))
                    .filter(groups::deleted_at.is_null()),
            ))
            .select(entity_memory::entity_id)
            .load(c)
            .await
    })?;
    let edges: Vec<(String, String)> = with_connection!(connection, c => {
        edge_memory::table
            .filter(edge_memory::directory_id.eq(id).and(edge_memory::truth_number.lt(number)))
            .filter(edge_memory::present.eq(true))
            .filter(diesel::dsl::exists(
                users::table
                    .filter(users::directory_user_id.eq(edge_memory::directory_user_id.nullable()))
                    .filter(users::state.eq("active")),
            ))
            .select((edge_memory::directory_group_id, edge_memory::directory_user_id))
            .load(c)
            .await
    })?;
    let mut targets: Vec<MarkTarget> =
        users.into_iter().map(DirectoryUserId::from_stored).map(MarkTarget::User).collect();
    targets.extend(groups.into_iter().map(DirectoryGroupId::from_stored).map(MarkTarget::Group));
    targets.extend(edges.into_iter().map(|(group, user)| {
        MarkTarget::Edge(DirectoryGroupId::from_stored(group), DirectoryUserId::from_stored(user))
    }));
    Ok(targets)
}
