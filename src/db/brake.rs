//! What is remembered of unannounced removals.

use chrono::TimeDelta;
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;

use super::schema::{directory_work, groups, marks, users};
use super::types::StoredInstant;
use super::{Db, DbConnection, DbError, with_connection};
use crate::clock::Timestamp;
use crate::mirror::{Brake, HELD_FROM_MINUTES};
use crate::model::{DirectoryId, Mark, MarkTarget};

/// How long a confirmation holds: a large company's removals take hours to be asked about one by one.
const CONFIRMED_FOR_HOURS: i64 = 24;

type BrakeRow = (i64, Option<StoredInstant>, Option<StoredInstant>, Option<StoredInstant>);

impl Db {
    /// Lets removals go on that the brake stopped, and those to come for 24 h. Answers whether the directory is known.
    ///
    /// # Errors
    /// [`DbError`] if the commit fails.
    pub async fn confirm_removals(&self, directory: &DirectoryId, now: Timestamp) -> Result<bool, DbError> {
        let until = StoredInstant(now + TimeDelta::hours(CONFIRMED_FOR_HOURS));
        let mut transaction = self.begin_in_background().await?;
        let known = with_connection!(transaction.connection(), c => {
            diesel::update(directory_work::table.find(directory.as_str()))
                .set((
                    directory_work::removals_confirmed_until.eq(until),
                    directory_work::braked_at.eq(None::<StoredInstant>),
                ))
                .execute(c)
                .await
        })?;
        let held = marks::directory_id
            .eq(directory.as_str())
            .and(marks::kind.ne("directory"))
            // An answer that was contradicted is not asked for sooner because somebody confirms removals.
            .and(marks::due_at.gt(StoredInstant(now + TimeDelta::minutes(HELD_FROM_MINUTES))));
        with_connection!(transaction.connection(), c => {
            diesel::update(marks::table.filter(held)).set(marks::due_at.eq(StoredInstant(now))).execute(c).await
        })?;
        transaction.commit().await?;
        Ok(known > 0)
    }
}

/// The directory's brake, and how many users and groups it shows.
pub async fn load(connection: &mut DbConnection, directory: &DirectoryId) -> Result<(Brake, i64), DbError> {
    let id = directory.as_str();
    let row: BrakeRow = with_connection!(connection, c => {
        directory_work::table
            .find(id)
            .select((
                directory_work::removals,
                directory_work::removals_since,
                directory_work::braked_at,
                directory_work::removals_confirmed_until,
            ))
            .first(c)
            .await
    })?;
    let shown_users: i64 = with_connection!(connection, c => {
        let shown = users::directory_id.eq(id).and(users::deleted_at.is_null());
        users::table.filter(shown).count().get_result(c).await
    })?;
    let shown_groups: i64 = with_connection!(connection, c => {
        let shown = groups::directory_id.eq(id).and(groups::deleted_at.is_null());
        groups::table.filter(shown).count().get_result(c).await
    })?;
    let instant = |stored: Option<StoredInstant>| stored.map(|stored| stored.0);
    let (removals, since, braked_at, confirmed_until) = row;
    let brake = Brake {
        removals,
        since: instant(since),
        braked_at: instant(braked_at),
        confirmed_until: instant(confirmed_until),
    };
    Ok((brake, shown_users + shown_groups))
}

/// Writes what [`Brake::allows`] remembered.
pub async fn save(connection: &mut DbConnection, directory: &DirectoryId, brake: &Brake) -> Result<(), DbError> {
    with_connection!(connection, c => {
        diesel::update(directory_work::table.find(directory.as_str()))
            .set((
                directory_work::removals.eq(brake.removals),
                directory_work::removals_since.eq(brake.since.map(StoredInstant)),
                directory_work::braked_at.eq(brake.braked_at.map(StoredInstant)),
            ))
            .execute(c)
            .await
    })?;
    Ok(())
}

/// Puts these marks off, and those of users and groups that a scan set together with them, so that a company that seems to
/// have gone is not asked about one by one while the brake holds. What events told of meanwhile is not held.
pub async fn hold(
    connection: &mut DbConnection,
    directory: &DirectoryId,
    held: &[&Mark],
    until: Timestamp,
) -> Result<(), DbError> {
    let versions: Vec<i64> = held.iter().map(|mark| mark.version).collect();
    let (mut user_ids, mut group_ids) = (Vec::new(), Vec::new());
    for mark in held {
        match &mark.target {
            MarkTarget::User(id) => user_ids.push(id.as_str()),
            MarkTarget::Group(id) => group_ids.push(id.as_str()),
            _ => {}
        }
    }
    let set_by_a_scan = marks::version.eq_any(versions).and(marks::hinted_at.is_null()).and(marks::urgent.eq(false));
    let doubted = marks::directory_user_id.eq_any(user_ids).or(marks::directory_group_id.eq_any(group_ids));
    let of_records = marks::directory_id.eq(directory.as_str()).and(marks::kind.eq_any(["user", "group"]));
    with_connection!(connection, c => {
        diesel::update(marks::table.filter(of_records).filter(set_by_a_scan.or(doubted)))
            .set(marks::due_at.eq(StoredInstant(until)))
            .execute(c)
            .await
    })?;
    Ok(())
}

/// Releases the brake once nothing is left that it could hold: the API lists again whom it had lost. What was removed
/// before counts for its hour all the same.
pub async fn release_if_settled(connection: &mut DbConnection, directory: &DirectoryId) -> Result<(), DbError> {
    let query = "UPDATE directory_work SET braked_at = NULL WHERE directory_id = $1 AND braked_at IS NOT NULL
         AND NOT EXISTS (SELECT 1 FROM marks WHERE directory_id = $1 AND kind IN ('user', 'group'))";
    with_connection!(connection, c => {
        diesel::sql_query(query).bind::<Text, _>(directory.as_str()).execute(c).await
    })?;
    Ok(())
}
