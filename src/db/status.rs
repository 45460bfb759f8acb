//! What operators and tests ask: how much waits, how each directory fares, and a copy of the mirror.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel_async::RunQueryDsl;

use super::connection::Guarded;
use super::records::{DirectoryRecordRow, GroupRecordRow, UserRecordRow};
use super::schema::{directories, directory_work, group_members, groups, inbox_events, marks, users};
use super::types::StoredInstant;
use super::{Db, DbError, with_connection};
use crate::clock::Timestamp;
use crate::model::{DirectoryId, DirectoryRow, GroupRow, UserRow};

/// How much work waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// Events that are not folded yet.
    pub pending: i64,
    /// When the oldest of them was received.
    pub oldest_pending: Option<Timestamp>,
    /// Events that could not be decoded or stored.
    pub dead: i64,
    /// What has to be fetched, but for disabled directories.
    pub marks: i64,
}

/// A directory as the health page shows it.
#[derive(Debug, Clone)]
pub struct DirectoryHealth {
    /// The row.
    pub directory: DirectoryRow,
    /// Why it cannot go on, if it cannot.
    pub last_error: Option<String>,
    /// When the brake stopped unannounced removals, if it holds.
    pub braked_at: Option<Timestamp>,
    /// When a scan was asked for that has not begun.
    pub scan_requested_at: Option<Timestamp>,
}

/// What a directory shows, and how much of it waits.
#[derive(Debug, Clone, Copy)]
pub struct DirectorySize {
    /// Users that are not deleted.
    pub users: i64,
    /// Groups that are not deleted.
    pub groups: i64,
    /// Their memberships.
    pub members: i64,
    /// Marks.
    pub marks: i64,
}

/// The whole mirror, for tables on a screen and comparisons in tests.
#[derive(Debug, Clone, Default)]
pub struct MirrorCopy {
    /// All directories.
    pub directories: Vec<DirectoryRow>,
    /// All users that a directory gave.
    pub users: Vec<UserRow>,
    /// All groups that a directory gave.
    pub groups: Vec<GroupRow>,
    /// All memberships that a directory gave: WorkOS's ids of group and user.
    pub members: Vec<(String, String)>,
}

impl Db {
    /// Counts what waits.
    ///
    /// # Errors
    /// [`DbError`] if the database cannot be asked.
    pub async fn backlog(&self) -> Result<Backlog, DbError> {
        let mut connection = self.read().await?;
        let pending = with_connection!(&mut connection, c => {
            inbox_events::table.filter(sql::<Bool>("status = 'pending'")).count().get_result(c).await
        })?;
        let oldest: Option<StoredInstant> = with_connection!(&mut connection, c => {
            inbox_events::table
                .filter(sql::<Bool>("status = 'pending'"))
                .order(inbox_events::received_at)
                .select(inbox_events::received_at)
                .first(c)
                .await
                .optional()
        })?;
        let dead = with_connection!(&mut connection, c => {
            inbox_events::table.filter(sql::<Bool>("status = 'dead'")).count().get_result(c).await
        })?;
        let disabled = directories::table.filter(directories::enabled.eq(false)).select(directories::directory_id);
        let waiting = marks::table.filter(marks::directory_id.ne_all(disabled));
        let marks = with_connection!(&mut connection, c => waiting.count().get_result(c).await)?;
        Ok(Backlog { pending, oldest_pending: oldest.map(|at| at.0), dead, marks })
    }

    /// Every directory with its state.
    ///
    /// # Errors
    /// [`DbError`] if the database cannot be asked.
    pub async fn directory_health(&self) -> Result<Vec<DirectoryHealth>, DbError> {
        let mut connection = self.read().await?;
        type Row = (DirectoryRecordRow, Option<String>, Option<StoredInstant>, Option<StoredInstant>);
        let rows: Vec<Row> = with_connection!(&mut connection, c => {
            directories::table
                .left_join(directory_work::table.on(directory_work::directory_id.eq(directories::directory_id)))
                .order(directories::directory_id)
                .select((
                    DirectoryRecordRow::as_select(),
                    directory_work::last_error.nullable(),
                    directory_work::braked_at.nullable(),
                    directory_work::scan_requested_at.nullable(),
                ))
                .load(c)
                .await
        })?;
        let health = |(row, last_error, braked_at, scan_requested_at): Row| {
            Ok(DirectoryHealth {
                directory: row.into_model()?,
                last_error,
                braked_at: braked_at.map(|at| at.0),
                scan_requested_at: scan_requested_at.map(|at| at.0),
            })
        };
        rows.into_iter().map(health).collect()
    }

    /// Counts what a directory shows.
    ///
    /// # Errors
    /// [`DbError`] if the database cannot be asked.
    pub async fn directory_size(&self, directory: &DirectoryId) -> Result<DirectorySize, DbError> {
        let id = directory.as_str();
        let connection = &mut self.read().await?;
        let users = with_connection!(connection, c => {
            let shown = users::directory_id.eq(id).and(users::deleted_at.is_null());
            users::table.filter(shown).count().get_result(c).await
        })?;
        let groups = with_connection!(connection, c => {
            let shown = groups::directory_id.eq(id).and(groups::deleted_at.is_null());
            groups::table.filter(shown).count().get_result(c).await
        })?;
        let members = with_connection!(connection, c => {
            let of_directory = groups::directory_id.eq(id).and(group_members::provenance.eq("directory"));
            group_members::table.inner_join(groups::table).filter(of_directory).count().get_result(c).await
        })?;
        let marks = with_connection!(connection, c => {
            marks::table.filter(marks::directory_id.eq(id)).count().get_result(c).await
        })?;
        Ok(DirectorySize { users, groups, members, marks })
    }

    /// Asks the database for nothing, to see whether it answers.
    ///
    /// # Errors
    /// [`DbError`] if it does not.
    pub async fn ping(&self) -> Result<(), DbError> {
        let mut connection = Guarded::new(self.read().await?);
        with_connection!(connection.get(), c => diesel::sql_query("SELECT 1").execute(c).await)?;
        connection.give_back();
        Ok(())
    }

    /// Copies the whole mirror.
    ///
    /// # Errors
    /// [`DbError`] if the database cannot be asked.
    pub async fn copy_mirror(&self) -> Result<MirrorCopy, DbError> {
        let mut connection = self.read().await?;
        let directories: Vec<DirectoryRecordRow> = with_connection!(&mut connection, c => {
            directories::table.select(DirectoryRecordRow::as_select()).load(c).await
        })?;
        let users: Vec<UserRecordRow> = with_connection!(&mut connection, c => {
            users::table
                .filter(users::directory_user_id.is_not_null())
                .order(users::directory_user_id)
                .select(UserRecordRow::as_select())
                .load(c)
                .await
        })?;
        let groups: Vec<GroupRecordRow> = with_connection!(&mut connection, c => {
            groups::table
                .filter(groups::directory_group_id.is_not_null())
                .order(groups::directory_group_id)
                .select(GroupRecordRow::as_select())
                .load(c)
                .await
        })?;
        let members: Vec<(Option<String>, Option<String>)> = with_connection!(&mut connection, c => {
            group_members::table
                .inner_join(groups::table)
                .inner_join(users::table)
                .filter(group_members::provenance.eq("directory"))
                .select((groups::directory_group_id, users::directory_user_id))
                .load(c)
                .await
        })?;
        Ok(MirrorCopy {
            directories: directories.into_iter().map(DirectoryRecordRow::into_model).collect::<Result<_, _>>()?,
            users: users.into_iter().map(UserRecordRow::into_model).collect::<Result<_, _>>()?,
            groups: groups.into_iter().map(GroupRecordRow::into_model).collect::<Result<_, _>>()?,
            members: members.into_iter().filter_map(|(group, user)| Some((group?, user?))).collect(),
        })
    }

    /// How many events of each status the inbox holds, and which ids: for tests and exports of whole inboxes.
    ///
    /// # Errors
    /// [`DbError`] if the database cannot be asked.
    pub async fn event_outcomes(&self) -> Result<Vec<(String, String, Option<String>)>, DbError> {
        let mut connection = self.read().await?;
        Ok(with_connection!(&mut connection, c => {
            inbox_events::table
                .order(inbox_events::event_id)
                .select((inbox_events::event_id, inbox_events::status, inbox_events::reason))
                .load(c)
                .await
        })?)
    }
}
