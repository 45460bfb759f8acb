//! How far the Events API has been read: one row, so that a restart goes on where the last process stopped.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::lease::{self, Lease};
use super::schema::events_poller;
use super::types::StoredInstant;
use super::{Db, DbConnection, DbError, with_connection};
use crate::clock::Timestamp;

/// The table has this row and no other.
const ROW: i32 = 1;

/// How far the Events API has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollerState {
    /// When the service was started for the first time, whether or not the API answered.
    pub started_at: Timestamp,
    /// Up to here the inbox has everything, but for events that the API shows late.
    pub read_to: Option<Timestamp>,
    /// The round in course.
    pub round: Option<Round>,
    /// `created_at` of the newest event that was ever read.
    pub newest_at: Option<Timestamp>,
    /// When a round was last read to its end.
    pub polled_at: Option<Timestamp>,
    /// Why the last request came to nothing, if it did.
    pub last_error: Option<String>,
}

/// A reading of the list from some instant to its end, page by page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// When it began: what the API shows only after that is for the next round.
    pub began_at: Timestamp,
    /// The last page's `after`.
    pub cursor: String,
    /// `created_at` of the newest event up to the cursor.
    pub reached: Timestamp,
}

#[derive(Queryable, Selectable, AsChangeset)]
#[diesel(table_name = events_poller, treat_none_as_null = true)]
struct PollerRow {
    started_at: StoredInstant,
    read_to: Option<StoredInstant>,
    round_at: Option<StoredInstant>,
    cursor: Option<String>,
    cursor_at: Option<StoredInstant>,
    newest_at: Option<StoredInstant>,
    polled_at: Option<StoredInstant>,
    last_error: Option<String>,
}

impl PollerRow {
    fn from_model(state: &PollerState) -> Self {
        let round = state.round.as_ref();
        Self {
            started_at: StoredInstant(state.started_at),
            read_to: state.read_to.map(StoredInstant),
            round_at: round.map(|round| StoredInstant(round.began_at)),
            cursor: round.map(|round| round.cursor.clone()),
            cursor_at: round.map(|round| StoredInstant(round.reached)),
            newest_at: state.newest_at.map(StoredInstant),
            polled_at: state.polled_at.map(StoredInstant),
            last_error: state.last_error.clone(),
        }
    }

    fn into_model(self) -> PollerState {
        let round = self.cursor.zip(self.round_at.zip(self.cursor_at));
        PollerState {
            started_at: self.started_at.0,
            read_to: self.read_to.map(|at| at.0),
            round: round.map(|(cursor, (began, reached))| Round { began_at: began.0, cursor, reached: reached.0 }),
            newest_at: self.newest_at.map(|at| at.0),
            polled_at: self.polled_at.map(|at| at.0),
            last_error: self.last_error,
        }
    }
}

impl Db {
    /// Remembers the instant of the service's first start; later starts change nothing.
    ///
    /// # Errors
    /// [`DbError`] if the commit fails.
    pub async fn start_poller(&self, now: Timestamp) -> Result<(), DbError> {
        let mut transaction = self.begin_in_background().await?;
        start(transaction.connection(), now).await?;
        transaction.commit().await
    }

    /// How far the Events API has been read; `None` if no service was ever started on this database.
    ///
    /// # Errors
    /// [`DbError`] if the query fails.
    pub async fn poller(&self) -> Result<Option<PollerState>, DbError> {
        let mut connection = self.read().await?;
        let row: Option<PollerRow> = with_connection!(&mut connection, c => {
            events_poller::table.find(ROW).select(PollerRow::as_select()).first(c).await.optional()
        })?;
        Ok(row.map(PollerRow::into_model))
    }

    /// Writes how far the Events API has been read, if it still stands where `read` says, and answers whether it does:
    /// another worker may have read on meanwhile, or the operator set it back.
    ///
    /// # Errors
    /// [`DbError::Forgotten`] if the database does not know this worker, or [`DbError`] if the commit fails.
    pub async fn advance_poller(&self, lease: &Lease, read: &PollerState, to: &PollerState) -> Result<bool, DbError> {
        let mut transaction = self.begin_in_background().await?;
        let connection = transaction.connection();
        lease::keep_known(connection, lease).await?;
        // A write that changes nothing locks the row on either engine.
        let row: Option<PollerRow> = with_connection!(connection, c => {
            diesel::update(events_poller::table.find(ROW))
                .set(events_poller::started_at.eq(events_poller::started_at))
                .returning(PollerRow::as_returning())
                .get_result(c)
                .await
                .optional()
        })?;
        let place = |state: &PollerState| PollerState { last_error: None, ..state.clone() };
        let stands = row.is_some_and(|row| place(&row.into_model()) == place(read)) && lease.share().is_some();
        if stands {
            save(connection, to).await?;
            transaction.commit().await?;
        }
        Ok(stands)
    }

    /// Writes how far the Events API has been read, whatever it said before: for whoever works alone.
    ///
    /// # Errors
    /// [`DbError`] if the commit fails.
    pub async fn save_poller(&self, state: &PollerState) -> Result<(), DbError> {
        let mut transaction = self.begin_in_background().await?;
        save(transaction.connection(), state).await?;
        transaction.commit().await
    }

    /// Notes why the Events API could not be read, for the health page.
    ///
    /// # Errors
    /// [`DbError`] if the commit fails.
    pub async fn note_poll_error(&self, error: &str) -> Result<(), DbError> {
        let mut transaction = self.begin_in_background().await?;
        with_connection!(transaction.connection(), c => {
            diesel::update(events_poller::table.find(ROW))
                .set(events_poller::last_error.eq(error))
                .execute(c)
                .await
        })?;
        transaction.commit().await
    }
}

/// Makes the row if there is none.
pub(super) async fn start(connection: &mut DbConnection, now: Timestamp) -> Result<(), DbError> {
    with_connection!(connection, c => {
        diesel::insert_into(events_poller::table)
            .values((events_poller::id.eq(ROW), events_poller::started_at.eq(StoredInstant(now))))
            .on_conflict_do_nothing()
            .execute(c)
            .await
    })?;
    Ok(())
}

/// Writes the row that [`start`] made.
pub(super) async fn save(connection: &mut DbConnection, state: &PollerState) -> Result<(), DbError> {
    let row = PollerRow::from_model(state);
    with_connection!(connection, c => {
        diesel::update(events_poller::table.find(ROW)).set(&row).execute(c).await
    })?;
    Ok(())
}
