//! The schedule of reconciles: each directory in its own time, so that they don't all come at once.

use std::time::Duration;

use chrono::TimeDelta;

use super::{Engine, Step};
use crate::clock::Timestamp;
use crate::db::DbError;
use crate::model::DirectoryId;

impl Engine {
    /// Asks for a scan of every directory whose last one is [`Engine::reconcile_interval`] ago, a tenth more or less.
    ///
    /// # Errors
    /// [`DbError`] if the database fails.
    pub async fn schedule_step(&self) -> Result<Step, DbError> {
        let Some(interval) = self.reconcile_interval.filter(|_| self.client.is_some()) else { return Ok(Step::Idle) };
        let now = self.clock.now();
        let mut step = Step::Idle;
        for (directory, last) in self.db.last_scans().await? {
            if due_at(last, interval, &directory) <= now {
                tracing::info!(directory_id = %directory, "a reconcile is due");
                self.db.request_scan(Some(&directory), now).await?;
                step = Step::Ran;
            }
        }
        Ok(step)
    }
}

fn due_at(last: Timestamp, interval: Duration, directory: &DirectoryId) -> Timestamp {
    // FNV-1a: the same in each version, so that a restart moves nothing.
    let hash = directory
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let permille = 900 + u32::try_from(hash % 201).unwrap_or_default();
    let wait = interval / 1000 * permille;
    last + TimeDelta::from_std(wait).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_spread_over_a_fifth_of_the_interval() {
        let interval = Duration::from_secs(6 * 3600);
        let mut waits: Vec<i64> = (0..500)
            .map(|number| {
                let id = DirectoryId::from_stored(format!("directory_{number}"));
                (due_at(Timestamp::UNIX_EPOCH, interval, &id) - Timestamp::UNIX_EPOCH).num_seconds()
            })
            .collect();
        waits.sort_unstable();
        assert!(waits[0] >= 19_440 && waits[499] <= 23_760, "{waits:?}");
        let mean = waits.iter().sum::<i64>() / 500;
        assert!((21_400..21_800).contains(&mean), "{mean}");
        assert!(waits[250] - waits[50] > 1500, "spread evenly");
    }
}
