//! What operators and tests ask: how much waits, how each directory fares, and a copy of the mirror.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel_async::RunQueryDsl;

use super::records::{DirectoryRecordRow, GroupRecordRow, UserRecordRow};
use super::schema::{directories, directory_work, group_members, groups, inbox_events, marks, users};
use super::types::StoredInstant;
use super::{Db, DbError, with_connection};
use crate::clock::Timestamp;
use crate::model::{DirectoryRow, GroupRow, UserRow};

/// How much work waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// Events that are not folded yet.
    pub pending: i64,
    /// When the oldest of them was received.
    pub oldest_pending: Option<Timestamp>,
    /// Events that could not be decoded or stored.
    pub dead: i64,
    /// What has to be fetched.
    pub marks: i64,
}

/// A directory as the health page shows it.
#[derive(Debug, Clone)]
pub struct DirectoryHealth {
    /// The row.
    pub directory: DirectoryRow,
    /// Why it cannot go on, if it cannot.
    pub last_error: Option<String>,
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
        let marks = with_connection!(&mut connection, c => marks::table.count().get_result(c).await)?;
        Ok(Backlog { pending, oldest_pending: oldest.map(|at| at.0), dead, marks })
    }

    /// Every directory with its state.
    ///
    /// # Errors
    /// [`DbError`] if the database cannot be asked.
    pub async fn directory_health(&self) -> Result<Vec<DirectoryHealth>, DbError> {
        let mut connection = self.read().await?;
        let rows: Vec<(DirectoryRecordRow, Option<String>)> = with_connection!(&mut connection, c => {
            directories::table
                .left_join(directory_work::table.on(directory_work::directory_id.eq(directories::directory_id)))
                .order(directories::directory_id)
                .select((DirectoryRecordRow::as_select(), directory_work::last_error.nullable()))
                .load(c)
                .await
        })?;
        let health = |(row, last_error): (DirectoryRecordRow, Option<String>)| {
            Ok(DirectoryHealth { directory: row.into_model()?, last_error })
        };
        rows.into_iter().map(health).collect()
    }

    /// Asks the database for nothing, to see whether it answers.
    ///
    /// # Errors
    /// [`DbError`] if it does not.
    pub async fn ping(&self) -> Result<(), DbError> {
        let mut connection = self.read().await?;
        with_connection!(&mut connection, c => diesel::sql_query("SELECT 1").execute(c).await)?;
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
