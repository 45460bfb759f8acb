//! How far the scan of a directory has come, and what it did not list.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::schema::{directories, directory_work, edge_memory, entity_memory, groups, marks};
use super::types::StoredInstant;
use super::{Db, DbConnection, DbError, with_connection};
use crate::clock::Timestamp;
use crate::model::{DirectoryGroupId, DirectoryId, DirectoryUserId, MarkTarget, Paging, SyncStatus};

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

/// How far a scan has come: written with the pages, so that a crash loses what was not written and no more.
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
    /// The pages of the list that is being read.
    pub paging: Paging,
}

impl Scan {
    /// A scan that begins with the request of this number.
    #[must_use]
    pub fn from_the_beginning(number: i64) -> Self {
        Self { phase: ScanPhase::Users, cursor: None, group: None, number, paging: Paging::default() }
    }
}

impl Db {
    /// How far the scan of a directory has come; `None` if it has to start.
    ///
    /// # Errors
    /// [`DbError`] if the query fails.
    pub async fn scan(&self, directory: &DirectoryId) -> Result<Option<Scan>, DbError> {
        type Row = (Option<String>, Option<String>, Option<String>, Option<i64>, Option<String>, i64);
        let mut connection = self.read().await?;
        let row: Option<Row> = with_connection!(&mut connection, c => {
            directory_work::table
                .find(directory.as_str())
                .select((
                    directory_work::scan_phase,
                    directory_work::scan_cursor,
                    directory_work::scan_group,
                    directory_work::scan_number,
                    directory_work::scan_first,
                    directory_work::scan_pages,
                ))
                .first(c)
                .await
                .optional()
        })?;
        Ok(row.and_then(|(phase, cursor, group, number, first, pages)| {
            Some(Scan {
                phase: ScanPhase::from_stored(&phase?)?,
                cursor,
                group: group.map(DirectoryGroupId::from_stored),
                number: number?,
                paging: Paging::resumed(first, pages),
            })
        }))
    }

    /// Says whether a directory is followed. Answers whether it is known.
    ///
    /// # Errors
    /// [`DbError`] if the commit fails.
    pub async fn set_enabled(&self, directory: &DirectoryId, enabled: bool) -> Result<bool, DbError> {
        let mut transaction = self.begin_in_background().await?;
        let known = with_connection!(transaction.connection(), c => {
            diesel::update(directories::table.filter(directories::directory_id.eq(directory.as_str())))
                .set(directories::enabled.eq(enabled))
                .execute(c)
                .await
        })?;
        transaction.commit().await?;
        Ok(known > 0)
    }

    /// Asks for a scan of a directory, or of every enabled one; the worker takes it up. Answers of how many.
    ///
    /// # Errors
    /// [`DbError`] if the commit fails.
    pub async fn request_scan(&self, directory: Option<&DirectoryId>, now: Timestamp) -> Result<usize, DbError> {
        let mut transaction = self.begin_in_background().await?;
        let requested = with_connection!(transaction.connection(), c => {
            let live = directories::table
                .filter(directories::enabled.eq(true).and(directories::deleted_at.is_null()))
                .select(directories::directory_id);
            let mut update = diesel::update(directory_work::table)
                .filter(directory_work::directory_id.eq_any(live))
                .set(directory_work::scan_requested_at.eq(StoredInstant(now)))
                .into_boxed();
            if let Some(directory) = directory {
                update = update.filter(directory_work::directory_id.eq(directory.to_string()));
            }
            update.execute(c).await
        })?;
        transaction.commit().await?;
        Ok(requested)
    }

    /// When a scan of the directory was asked for that has not begun.
    ///
    /// # Errors
    /// [`DbError`] if the query fails.
    pub async fn scan_requested_at(&self, directory: &DirectoryId) -> Result<Option<Timestamp>, DbError> {
        let mut connection = self.read().await?;
        let requested: Option<Option<StoredInstant>> = with_connection!(&mut connection, c => {
            directory_work::table
                .find(directory.as_str())
                .select(directory_work::scan_requested_at)
                .first(c)
                .await
                .optional()
        })?;
        Ok(requested.flatten().map(|at| at.0))
    }

    /// The directories that are in step, with when they were last scanned to the end.
    ///
    /// # Errors
    /// [`DbError`] if the query fails.
    pub async fn last_scans(&self) -> Result<Vec<(DirectoryId, Timestamp)>, DbError> {
        let mut connection = self.read().await?;
        let rows: Vec<(String, Option<StoredInstant>)> = with_connection!(&mut connection, c => {
            directories::table
                .inner_join(directory_work::table.on(directory_work::directory_id.eq(directories::directory_id)))
                .filter(directories::sync_status.eq(SyncStatus::Synced.as_str()))
                .filter(directories::enabled.eq(true).and(directories::deleted_at.is_null()))
                .filter(directories::state.eq("linked").and(directory_work::scan_requested_at.is_null()))
                .select((directories::directory_id, directories::last_synced_at))
                .load(c)
                .await
        })?;
        let scanned = |(id, at): (String, Option<StoredInstant>)| Some((DirectoryId::from_stored(id), at?.0));
        Ok(rows.into_iter().filter_map(scanned).collect())
    }

    /// The directory's live groups that follow `after` in the order of ids, at most so many.
    ///
    /// # Errors
    /// [`DbError`] if the query fails.
    pub async fn next_groups(
        &self,
        directory: &DirectoryId,
        after: Option<&DirectoryGroupId>,
        most: i64,
    ) -> Result<Vec<DirectoryGroupId>, DbError> {
        let mut connection = self.read().await?;
        let after = after.map_or("", DirectoryGroupId::as_str);
        let ids: Vec<Option<String>> = with_connection!(&mut connection, c => {
            groups::table
                .filter(groups::directory_id.eq(directory.as_str()).and(groups::deleted_at.is_null()))
                .filter(groups::directory_group_id.gt(after))
                .order(groups::directory_group_id)
                .limit(most)
                .select(groups::directory_group_id)
                .load(c)
                .await
        })?;
        Ok(ids.into_iter().flatten().map(DirectoryGroupId::from_stored).collect())
    }
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
                directory_work::scan_first.eq(scan.and_then(|scan| scan.paging.remembered())),
                directory_work::scan_pages.eq(scan.map_or(0, |scan| scan.paging.pages())),
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
            .filter(diesel::dsl::not(diesel::dsl::exists(
                marks::table
                    .filter(marks::directory_id.eq(id).and(marks::kind.eq("user")))
                    .filter(marks::directory_group_id.eq("").and(marks::directory_user_id.eq(entity_memory::entity_id))),
            )))
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
            .filter(diesel::dsl::not(diesel::dsl::exists(
                marks::table
                    .filter(marks::directory_id.eq(id).and(marks::kind.eq("group")))
                    .filter(marks::directory_group_id.eq(entity_memory::entity_id).and(marks::directory_user_id.eq(""))),
            )))
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
            .filter(diesel::dsl::not(diesel::dsl::exists(
                marks::table
                    .filter(marks::directory_id.eq(id).and(marks::kind.eq("edge")))
                    .filter(marks::directory_group_id.eq(edge_memory::directory_group_id).and(marks::directory_user_id.eq(edge_memory::directory_user_id))),
            )))
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

/// Takes note that the scan has begun that was asked for at this instant, by whoever's clock. Another that was asked for
/// meanwhile stands.
pub async fn requested_scan_begins(
    connection: &mut DbConnection,
    directory: &DirectoryId,
    requested_at: Timestamp,
) -> Result<(), DbError> {
    with_connection!(connection, c => {
        diesel::update(directory_work::table.find(directory.as_str()))
            .filter(directory_work::scan_requested_at.eq(StoredInstant(requested_at)))
            .set(directory_work::scan_requested_at.eq(None::<StoredInstant>))
            .execute(c)
            .await
    })?;
    Ok(())
}
