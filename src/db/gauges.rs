//! What a scrape of the metrics asks: a few queries, none of which reads more than what waits and the directories.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel_async::RunQueryDsl;

use super::types::{Instant, StoredInstant};
use super::{Db, DbError, with_connection};
use crate::metrics::{DirectoryStatus, MarkKind, StoredReadings};

// Constant conditions, because SQLite uses a partial index only for those.
const INBOX: &str = "SELECT (SELECT count(*) FROM inbox_events WHERE status = 'pending') AS pending,
     (SELECT count(*) FROM inbox_events WHERE status = 'dead') AS dead,
     (SELECT min(received_at) FROM inbox_events WHERE status = 'pending') AS oldest";
// Those of a disabled directory wait until it is enabled again.
const MARKS: &str = "SELECT kind, count(*) AS found, min(set_at) AS oldest FROM marks
     WHERE directory_id NOT IN (SELECT directory_id FROM directories WHERE NOT enabled) GROUP BY kind";
const DIRECTORIES: &str = "SELECT CASE WHEN d.deleted_at IS NOT NULL THEN 'deleted' WHEN NOT d.enabled THEN 'disabled'
            ELSE d.sync_status END AS status,
        count(*) AS found, count(w.last_error) AS failing, count(w.braked_at) AS braked
     FROM directories d LEFT JOIN directory_work w ON w.directory_id = d.directory_id GROUP BY 1";

#[derive(QueryableByName)]
struct InboxRow {
    #[diesel(sql_type = BigInt)]
    pending: i64,
    #[diesel(sql_type = BigInt)]
    dead: i64,
    #[diesel(sql_type = Nullable<Instant>)]
    oldest: Option<StoredInstant>,
}

#[derive(QueryableByName)]
struct MarksRow {
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = BigInt)]
    found: i64,
    #[diesel(sql_type = Instant)]
    oldest: StoredInstant,
}

#[derive(QueryableByName)]
struct DirectoriesRow {
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = BigInt)]
    found: i64,
    #[diesel(sql_type = BigInt)]
    failing: i64,
    #[diesel(sql_type = BigInt)]
    braked: i64,
}

impl Db {
    /// The present state for the metrics.
    ///
    /// # Errors
    /// [`DbError`] if the database cannot be asked.
    pub async fn gauges(&self) -> Result<StoredReadings, DbError> {
        let mut connection = self.read().await?;
        let inbox: InboxRow = with_connection!(&mut connection, c => diesel::sql_query(INBOX).get_result(c).await)?;
        let marks: Vec<MarksRow> = with_connection!(&mut connection, c => diesel::sql_query(MARKS).load(c).await)?;
        let directories: Vec<DirectoriesRow> =
            with_connection!(&mut connection, c => diesel::sql_query(DIRECTORIES).load(c).await)?;
        let mut readings = StoredReadings {
            pending: inbox.pending,
            oldest_pending: inbox.oldest.map(|at| at.0),
            dead: inbox.dead,
            workers: if self.is_postgres() { Some(self.live_workers().await?) } else { None },
            ..StoredReadings::default()
        };
        // A word that a newer version wrote is left out: that version tells of it.
        for row in marks {
            let kind = MarkKind::ALL.iter().find(|kind| kind.as_str() == row.kind);
            readings.marks.extend(kind.map(|kind| (*kind, row.found, row.oldest.0)));
        }
        for row in directories {
            let status = DirectoryStatus::ALL.iter().find(|status| status.as_str() == row.status);
            readings.directories.extend(status.map(|status| (*status, row.found)));
            if !matches!(status, Some(DirectoryStatus::Deleted | DirectoryStatus::Disabled)) {
                readings.failing += row.failing;
                readings.braked += row.braked;
            }
        }
        Ok(readings)
    }
}
