//! Marks as operators see them: what has to be fetched, and since when it could be.

use chrono::TimeDelta;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;

use super::records::MarkRow;
use super::schema::{directories, directory_work, marks};
use super::types::{Instant, StoredInstant};
use super::{Db, DbError, with_connection};
use crate::clock::Timestamp;
use crate::mirror::HELD_FROM_MINUTES;
use crate::model::{DirectoryId, Mark, MarkKind, SyncStatus};

/// The most marks that one transaction changes.
const BATCH_ROWS: i64 = 500;

/// Which marks; all that are given must hold.
#[derive(Debug, Clone, Default)]
pub struct MarkFilter {
    /// Only of this directory.
    pub directory_id: Option<String>,
    /// Only of this kind.
    pub kind: Option<MarkKind>,
    /// Only those that are due at this instant.
    pub due_at: Option<Timestamp>,
}

/// A mark, with what matters of its directory.
#[derive(Debug, Clone)]
pub struct MarkEntry {
    /// Whose records are to be fetched.
    pub directory_id: DirectoryId,
    /// The mark.
    pub mark: Mark,
    /// Whether the mirror follows the directory: nothing is fetched otherwise.
    pub enabled: bool,
    /// Whether the directory's first scan runs, which fetches what is marked anyway.
    pub first_scan: bool,
    /// Whether the brake stops the directory's unannounced removals.
    pub braked: bool,
    /// Why the directory cannot go on, if it cannot.
    pub last_error: Option<String>,
}

type DirectoryPart = (Option<bool>, Option<String>, Option<StoredInstant>);
type WorkPart = (Option<StoredInstant>, Option<String>);
type EntryRow = (MarkRow, String, DirectoryPart, WorkPart);

fn entry((row, directory, (enabled, status, synced_at), (braked_at, last_error)): EntryRow) -> Option<MarkEntry> {
    let scans = [SyncStatus::Never, SyncStatus::Running].map(|status| Some(status.as_str()));
    Some(MarkEntry {
        directory_id: DirectoryId::from_stored(directory),
        mark: row.into_model()?,
        enabled: enabled.unwrap_or(true),
        first_scan: synced_at.is_none() && scans.contains(&status.as_deref()),
        braked: braked_at.is_some(),
        last_error,
    })
}

impl Db {
    /// Marks, those first that are due first.
    ///
    /// # Errors
    /// [`DbError`] if the database cannot be asked.
    pub async fn marks(&self, filter: &MarkFilter, limit: i64) -> Result<Vec<MarkEntry>, DbError> {
        let mut connection = self.read().await?;
        let rows: Vec<EntryRow> = with_connection!(&mut connection, c => {
            let mut query = marks::table
                .left_join(directories::table.on(directories::directory_id.eq(marks::directory_id)))
                .left_join(directory_work::table.on(directory_work::directory_id.eq(marks::directory_id)))
                .select((
                    MarkRow::as_select(),
                    marks::directory_id,
                    (
                        directories::enabled.nullable(),
                        directories::sync_status.nullable(),
                        directories::last_synced_at.nullable(),
                    ),
                    (directory_work::braked_at.nullable(), directory_work::last_error.nullable()),
                ))
                .order((
                    marks::due_at,
                    marks::directory_id,
                    marks::kind,
                    marks::directory_group_id,
                    marks::directory_user_id,
                ))
                .limit(limit)
                .into_boxed();
            if let Some(directory) = &filter.directory_id {
                query = query.filter(marks::directory_id.eq(directory));
            }
            if let Some(kind) = filter.kind {
                query = query.filter(marks::kind.eq(kind.as_str()));
            }
            if let Some(due_at) = filter.due_at {
                query = query.filter(marks::due_at.le(StoredInstant(due_at)));
            }
            query.load(c).await
        })?;
        Ok(rows.into_iter().filter_map(entry).collect())
    }

    /// Makes a directory's marks due now that were put off, and forgets how often their answers could not be read;
    /// answers how many that were. How often the API contradicted a hint stays: it is evidence (rule 2), and no failure; and
    /// what is asked again for that reason keeps its time, which that evidence goes by.
    ///
    /// # Errors
    /// [`DbError`]; those of earlier batches are due then.
    pub async fn retry_marks(
        &self,
        directory: &DirectoryId,
        kind: Option<MarkKind>,
        now: Timestamp,
    ) -> Result<usize, DbError> {
        let held_from = now + TimeDelta::minutes(HELD_FROM_MINUTES);
        let query = "UPDATE marks SET due_at = $1, failures = 0
             WHERE (directory_id, kind, directory_group_id, directory_user_id) IN (
                 SELECT directory_id, kind, directory_group_id, directory_user_id FROM marks
                 WHERE directory_id = $2 AND due_at > $1 AND ($3 = '' OR kind = $3)
                    AND (contradictions = 0 OR failures > 0 OR due_at > $4) LIMIT $5)";
        let filter = MarkFilter { directory_id: Some(directory.to_string()), kind, due_at: None };
        // A server may put some of them off again meanwhile: no more are made due than there were.
        let (mut retried, mut left) = (0, self.count_marks(&filter).await?);
        while left > 0 {
            let mut transaction = self.begin_in_background().await?;
            let changed = with_connection!(transaction.connection(), c => {
                diesel::sql_query(query)
                    .bind::<Instant, _>(StoredInstant(now))
                    .bind::<Text, _>(directory.as_str())
                    .bind::<Text, _>(kind.map_or("", MarkKind::as_str))
                    .bind::<Instant, _>(StoredInstant(held_from))
                    .bind::<BigInt, _>(left.min(BATCH_ROWS))
                    .execute(c)
                    .await
            })?;
            transaction.commit().await?;
            retried += changed;
            left = if changed == 0 { 0 } else { left - i64::try_from(changed).unwrap_or(left) };
        }
        Ok(retried)
    }

    /// How many marks there are.
    ///
    /// # Errors
    /// [`DbError`] if the database cannot be asked.
    pub async fn count_marks(&self, filter: &MarkFilter) -> Result<i64, DbError> {
        let mut connection = self.read().await?;
        Ok(with_connection!(&mut connection, c => {
            let mut query = marks::table.count().into_boxed();
            if let Some(directory) = &filter.directory_id {
                query = query.filter(marks::directory_id.eq(directory));
            }
            if let Some(kind) = filter.kind {
                query = query.filter(marks::kind.eq(kind.as_str()));
            }
            if let Some(due_at) = filter.due_at {
                query = query.filter(marks::due_at.le(StoredInstant(due_at)));
            }
            query.get_result(c).await
        })?)
    }
}
