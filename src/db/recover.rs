//! What has to be changed in a database that was restored from a backup.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::schema::{directories, directory_work, inbox_events, worker_epochs};
use super::types::StoredInstant;
use super::{Db, DbError, PollerState, poller, with_connection};
use crate::clock::Timestamp;

/// Numbers of one directory's sequence: at a thousand a second, those of 34 years. A sequence has room for millions of
/// such steps.
const MORE_THAN_WERE_TAKEN: i64 = 1 << 40;

/// What a restored database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// When the newest event of the inbox was created, by WorkOS's clock; `None` if the inbox is empty.
    pub newest_event_at: Option<Timestamp>,
    /// How many directories are enabled and not deleted.
    pub directories: i64,
}

impl Db {
    /// Looks at what was restored.
    ///
    /// # Errors
    /// [`DbError`] if the database cannot be asked.
    pub async fn restored(&self) -> Result<Restored, DbError> {
        let mut connection = self.read().await?;
        let occurred: Option<Option<StoredInstant>> = with_connection!(&mut connection, c => {
            inbox_events::table
                .filter(inbox_events::occurred_at.is_not_null())
                .order(inbox_events::occurred_at.desc())
                .select(inbox_events::occurred_at)
                .first(c)
                .await
                .optional()
        })?;
        let received: Option<StoredInstant> = with_connection!(&mut connection, c => {
            inbox_events::table
                .order(inbox_events::received_at.desc())
                .select(inbox_events::received_at)
                .first(c)
                .await
                .optional()
        })?;
        let directories = with_connection!(&mut connection, c => {
            directories::table
                .filter(directories::enabled.eq(true).and(directories::deleted_at.is_null()))
                .count()
                .get_result(c)
                .await
        })?;
        // An event from the future is not newer than what was received last.
        let newest_event_at = occurred.flatten().zip(received).map(|(occurred, received)| occurred.0.min(received.0));
        Ok(Restored { newest_event_at, directories })
    }

    /// Makes a restored database ready to go on, in one transaction: the poller's place is set, every scan begins anew,
    /// one is asked for of each directory that is enabled and not deleted, and processes from before the restore are
    /// shut out.
    ///
    /// What stands in the backup refers to no number and no token from after it. Only a process that outlived the restore
    /// does: an answer that it still applies would block later ones with lower numbers, so each sequence goes on above
    /// all numbers that it can have taken; its token would be given to another, so tokens go on above it too; and its row
    /// among the workers goes, so that it is no longer alive.
    ///
    /// # Errors
    /// [`DbError`]; then nothing was changed.
    pub async fn recover(&self, place: &PollerState, now: Timestamp) -> Result<(), DbError> {
        let mut transaction = self.begin_in_background().await?;
        let connection = transaction.connection();
        poller::start(connection, place.started_at).await?;
        poller::save(connection, place).await?;
        let newest: Option<i64> = with_connection!(connection, c => {
            worker_epochs::table.select(diesel::dsl::max(worker_epochs::epoch)).first(c).await
        })?;
        // Tokens count starts, and no service starts every second.
        let token = now.timestamp().max(newest.unwrap_or(0) + 1);
        with_connection!(connection, c => diesel::delete(worker_epochs::table).execute(c).await)?;
        with_connection!(connection, c => {
            diesel::insert_into(worker_epochs::table)
                .values((worker_epochs::epoch.eq(token), worker_epochs::started_at.eq(StoredInstant(now))))
                .execute(c)
                .await
        })?;
        with_connection!(connection, c => {
            diesel::update(directory_work::table)
                .set((
                    directory_work::sequence.eq(directory_work::sequence + MORE_THAN_WERE_TAKEN),
                    directory_work::lease_until.eq(StoredInstant(Timestamp::UNIX_EPOCH)),
                    directory_work::scan_phase.eq(None::<String>),
                    directory_work::scan_cursor.eq(None::<String>),
                    directory_work::scan_group.eq(None::<String>),
                    directory_work::scan_number.eq(None::<i64>),
                    directory_work::scan_first.eq(None::<String>),
                    directory_work::scan_pages.eq(0),
                ))
                .execute(c)
                .await
        })?;
        with_connection!(connection, c => {
            let live = directories::table
                .filter(directories::enabled.eq(true).and(directories::deleted_at.is_null()))
                .select(directories::directory_id);
            diesel::update(directory_work::table.filter(directory_work::directory_id.eq_any(live)))
                .set(directory_work::scan_requested_at.eq(StoredInstant(now)))
                .execute(c)
                .await
        })?;
        transaction.commit().await
    }
}
