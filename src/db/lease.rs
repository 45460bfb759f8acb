//! Leases: which worker process may work on which directory (rule 10).
//!
//! Each worker takes a *fencing token* when it starts and says from time to time that it is alive. The directories are
//! spread over the live workers by a hash of their id. A *lease* on a directory guards that: whoever writes first
//! locks the directory's row, on condition that nobody else's lease on it still runs, by the database's clock. So two
//! workers that disagree about who is alive still never write at the same time.
//!
//! An SQLite file has one worker, by a lock on a file beside it; there every lease runs out at once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel::dsl::{exists, not, sql};
use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Bool, Integer, Text};
use diesel::sqlite::Sqlite;
use diesel_async::RunQueryDsl;
use futures_util::future::try_join_all;

use super::connection::Pools;
use super::schema::{directories, directory_work, worker_epochs};
use super::sqlite;
use super::types::{Instant as SqlInstant, StoredInstant};
use super::{Db, DbConnection, DbError, Reader, with_connection, with_reader};
use crate::clock::Timestamp;
use crate::model::DirectoryId;

/// How many shards the directories are hashed into; more than there are ever workers.
const SHARDS: i32 = 1024;
/// Workers that have been dead for so long are forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(86_400);

/// A worker's place among the live ones: it works on every shard whose number is `rank` modulo `of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Counted from 0, by age. The oldest also does what has to be done only once.
    pub rank: u32,
    /// How many workers are alive.
    pub of: u32,
}

impl Share {
    /// All directories.
    pub const WHOLE: Self = Self { rank: 0, of: 1 };

    /// Whether the directory belongs to this share.
    #[must_use]
    pub fn has(self, directory: &DirectoryId) -> bool {
        self.has_id(directory.as_str())
    }

    /// As [`Share::has`], by the directory's id as text.
    #[must_use]
    pub fn has_id(self, directory: &str) -> bool {
        u32::try_from(shard_of(directory)).unwrap_or_default() % self.of.max(1) == self.rank
    }
}

/// A worker's right to work: its fencing token, and its share as of the last time that it was seen alive.
#[derive(Debug, Clone)]
pub struct Lease {
    token: i64,
    length: Duration,
    /// The share, and when it was given; without an instant it never lapses.
    share: Arc<Mutex<(Share, Option<Instant>)>>,
}

impl Lease {
    /// The fencing token: a later start has a higher one.
    #[must_use]
    pub fn token(&self) -> i64 {
        self.token
    }

    /// The share; `None` if the database has not seen this worker alive for longer than a lease runs: others may have
    /// taken its directories over.
    #[must_use]
    pub fn share(&self) -> Option<Share> {
        let (share, seen_at) = *self.share.lock().unwrap_or_else(PoisonError::into_inner);
        // Monotonic time goes on while a process is stopped.
        seen_at.is_none_or(|at| at.elapsed() < self.length).then_some(share)
    }

    /// Whether the directory is in the share.
    #[must_use]
    pub fn has(&self, directory: &DirectoryId) -> bool {
        self.share().is_some_and(|share| share.has(directory))
    }

    /// Whether this worker does what has to be done only once, such as polling.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.share().is_some_and(|share| share.rank == 0)
    }

    /// The condition on a row of `directory_work`, as SQL, that this worker may work on the directory.
    pub(super) fn may_work(&self, connection: &DbConnection) -> String {
        let share = self.share().unwrap_or(Share { rank: u32::MAX, of: 1 });
        match connection {
            DbConnection::Sqlite(_) => "true".to_owned(),
            DbConnection::Postgres(_) => format!(
                "(directory_work.shard % {} = {} AND (directory_work.lease_token = {} OR directory_work.lease_until <= clock_timestamp()))",
                share.of.max(1),
                share.rank,
                self.token,
            ),
        }
    }
}

/// FNV-1a: the same in each version, so that workers of different versions agree.
fn shard_of(directory: &str) -> i32 {
    let hash = directory.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    i32::try_from(hash >> 8).unwrap_or_default() % SHARDS
}

/// The database's clock, so many milliseconds from now; the beginning of time on SQLite, where nobody competes.
#[derive(Debug, Clone, Copy, QueryId, ValidGrouping)]
struct FromNow(i64);

impl Expression for FromNow {
    type SqlType = SqlInstant;
}
impl<QS> AppearsOnTable<QS> for FromNow {}
impl<QS> SelectableExpression<QS> for FromNow {}

impl QueryFragment<Pg> for FromNow {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("(clock_timestamp() + interval '1 millisecond' * ");
        out.push_bind_param::<BigInt, _>(&self.0)?;
        out.push_sql(")");
        Ok(())
    }
}

impl QueryFragment<Sqlite> for FromNow {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql("0");
        Ok(())
    }
}

fn milliseconds(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

impl Db {
    /// Takes a new fencing token, with all directories for a share, until [`Db::seen_alive`] says otherwise.
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
                    .values((
                        worker_epochs::epoch.eq(token),
                        worker_epochs::started_at.eq(StoredInstant(now)),
                        worker_epochs::alive_until.eq(FromNow(0)),
                    ))
                    .on_conflict_do_nothing()
                    .execute(c)
                    .await
            })?;
            transaction.commit().await?;
            if taken == 1 {
                let share = Arc::new(Mutex::new((Share::WHOLE, None)));
                return Ok(Lease { token, length: self.lease_length(), share });
            }
        }
    }

    /// Says that a worker is alive, and learns its share. Leases on directories that are no longer in it are given back.
    ///
    /// # Errors
    /// [`DbError`] if the commit fails, or the database does not know the token; the share lapses if that goes on for
    /// longer than a lease runs.
    pub async fn seen_alive(&self, lease: &Lease) -> Result<Share, DbError> {
        if !self.is_postgres() {
            return Ok(Share::WHOLE);
        }
        let asked_at = Instant::now();
        let mut transaction = self.begin_for_life().await?;
        let known = with_connection!(transaction.connection(), c => {
            diesel::update(worker_epochs::table.find(lease.token))
                .set(worker_epochs::alive_until.eq(FromNow(milliseconds(lease.length))))
                .execute(c)
                .await
        })?;
        if known == 0 {
            return Err(DbError::Forgotten);
        }
        let live: Vec<i64> = with_connection!(transaction.connection(), c => {
            worker_epochs::table
                .filter(worker_epochs::alive_until.gt(FromNow(0)))
                .order(worker_epochs::epoch)
                .select(worker_epochs::epoch)
                .load(c)
                .await
        })?;
        let rank = live.iter().position(|token| *token == lease.token).unwrap_or_default();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let share = Share { rank: count(rank), of: count(live.len().max(1)) };
        with_connection!(transaction.connection(), c => {
            diesel::update(directory_work::table.filter(directory_work::lease_token.eq(lease.token)))
                .filter(sql::<Bool>(&format!("shard % {} <> {}", share.of, share.rank)))
                .set(directory_work::lease_until.eq(FromNow(0)))
                .execute(c)
                .await
        })?;
        with_connection!(transaction.connection(), c => {
            // Never our own or a newer one: a token must not be given twice.
            diesel::delete(worker_epochs::table.filter(worker_epochs::epoch.lt(lease.token)))
                .filter(worker_epochs::alive_until.lt(FromNow(-milliseconds(FORGOTTEN_AFTER))))
                .execute(c)
                .await
        })?;
        transaction.commit().await?;
        *lease.share.lock().unwrap_or_else(PoisonError::into_inner) = (share, Some(asked_at));
        Ok(share)
    }

    /// How many workers say that they are alive. Always 0 on SQLite, where a lock on a file tells.
    ///
    /// # Errors
    /// [`DbError`] if the query fails.
    pub async fn live_workers(&self) -> Result<i64, DbError> {
        if !self.is_postgres() {
            return Ok(0);
        }
        let mut connection = self.read().await?;
        Ok(with_connection!(&mut connection, c => {
            worker_epochs::table.filter(worker_epochs::alive_until.gt(FromNow(0))).count().get_result(c).await
        })?)
    }

    /// How many workers run beside this process: those that say so, or whoever keeps the SQLite file.
    ///
    /// # Errors
    /// [`DbError`] if the query fails, or the lock file cannot be used.
    pub async fn workers_beside(&self) -> Result<u32, DbError> {
        if let Pools::Sqlite { path, .. } = &self.pools {
            return Ok(u32::from(sqlite::try_lock_for_worker(path)?.is_none()));
        }
        Ok(u32::try_from(self.live_workers().await?).unwrap_or_default())
    }

    /// Gives a worker's directories back, so that others need not wait for its leases to run out. For one that stops.
    ///
    /// # Errors
    /// [`DbError`] if the commit fails; then they run out by themselves.
    pub async fn give_back(&self, lease: &Lease) -> Result<(), DbError> {
        let mut transaction = self.begin_for_life().await?;
        with_connection!(transaction.connection(), c => {
            diesel::update(directory_work::table.filter(directory_work::lease_token.eq(lease.token)))
                .set(directory_work::lease_until.eq(FromNow(0)))
                .execute(c)
                .await
        })?;
        with_connection!(transaction.connection(), c => {
            diesel::update(worker_epochs::table.find(lease.token))
                .set(worker_epochs::alive_until.eq(FromNow(0)))
                .execute(c)
                .await
        })?;
        transaction.commit().await
    }

    /// Ends every lease and takes every worker for dead: for a database that was restored, or whose workers are known
    /// to be dead. A live one comes back with its next [`Db::seen_alive`].
    ///
    /// # Errors
    /// [`DbError`] if the commit fails.
    pub async fn end_all_leases(&self) -> Result<(), DbError> {
        let mut transaction = self.begin_in_background().await?;
        with_connection!(transaction.connection(), c => {
            diesel::update(directory_work::table).set(directory_work::lease_until.eq(FromNow(0))).execute(c).await
        })?;
        with_connection!(transaction.connection(), c => {
            diesel::update(worker_epochs::table).set(worker_epochs::alive_until.eq(FromNow(0))).execute(c).await
        })?;
        transaction.commit().await
    }
}

/// Locks a directory's row and takes its next number, if the worker is among the known ones and no other's lease runs.
///
/// One statement, since it comes first in every transaction. Where the row among the workers is being deleted, it waits
/// for that commit and then finds none: whoever was shut out cannot pass in the same moment.
#[derive(Debug, QueryId)]
struct LockDirectory {
    token: i64,
    directory: String,
    length: FromNow,
    shard: i32,
}

impl Query for LockDirectory {
    type SqlType = BigInt;
}
impl<C> diesel::RunQueryDsl<C> for LockDirectory {}

/// The statement of either engine; they differ in the lock on the worker's row, which SQLite's writer has anyway.
macro_rules! lock_directory {
    ($backend:ty, $row_lock:literal) => {
        impl QueryFragment<$backend> for LockDirectory {
            fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, $backend>) -> QueryResult<()> {
                out.push_sql("WITH me AS (SELECT epoch FROM worker_epochs WHERE epoch = ");
                out.push_bind_param::<BigInt, _>(&self.token)?;
                out.push_sql($row_lock);
                out.push_sql(") INSERT INTO directory_work (directory_id, sequence, lease_token, lease_until, shard) SELECT ");
                out.push_bind_param::<Text, _>(&self.directory)?;
                // 0 means no truth yet, and 1 is left for an answer that was asked for before the directory was known.
                out.push_sql(", 2, me.epoch, ");
                QueryFragment::<$backend>::walk_ast(&self.length, out.reborrow())?;
                out.push_sql(", ");
                out.push_bind_param::<Integer, _>(&self.shard)?;
                out.push_sql(
                    " FROM me WHERE true ON CONFLICT (directory_id) DO UPDATE SET sequence = directory_work.sequence + 1, \
                     lease_token = excluded.lease_token, lease_until = excluded.lease_until, shard = excluded.shard \
                     WHERE directory_work.lease_token = excluded.lease_token OR directory_work.lease_until <= ",
                );
                QueryFragment::<$backend>::walk_ast(&NOW, out.reborrow())?;
                out.push_sql(" RETURNING sequence");
                Ok(())
            }
        }
    };
}
lock_directory!(Pg, " FOR KEY SHARE");
lock_directory!(Sqlite, "");

const NOW: FromNow = FromNow(0);

/// Keeps this worker's row among the known ones for the rest of the transaction.
///
/// # Errors
/// [`DbError::Forgotten`] if there is none.
pub(super) async fn keep_known(connection: &mut DbConnection, lease: &Lease) -> Result<(), DbError> {
    let row = worker_epochs::table.find(lease.token).select(worker_epochs::epoch);
    let known: Option<i64> = match connection {
        DbConnection::Postgres(c) => row.for_key_share().first(&mut **c).await.optional()?,
        DbConnection::Sqlite(c) => row.first(&mut **c).await.optional()?,
    };
    known.map(drop).ok_or(DbError::Forgotten)
}

/// Locks a directory for the rest of the transaction and takes the next number of its sequence. The row lock keeps
/// fold and refresh apart; the lease keeps other workers out, and is prolonged by this.
///
/// # Errors
/// [`DbError::LeaseLost`] if another worker's lease on the directory runs, if this worker was not seen alive for longer
/// than a lease runs, or if the database no longer knows it.
pub async fn lock(connection: &mut DbConnection, directory: &DirectoryId, lease: &Lease) -> Result<i64, DbError> {
    let numbers = lock_together(connection, &[directory], lease).await?;
    Ok(numbers[0])
}

/// Locks, for the rest of the transaction, those of the directories whose rows nobody else has locked, and that are not
/// deleted: what such a one is told may take its last memberships away, which takes as long as they are many. Waiting for
/// one while holding others would let all of them wait for it, and whoever waits for two could wait for ever.
///
/// # Errors
/// [`DbError`] if the query fails.
pub async fn lock_free(
    connection: &mut DbConnection,
    directories: &[&DirectoryId],
) -> Result<HashSet<String>, DbError> {
    let ids: Vec<&str> = directories.iter().map(|id| id.as_str()).collect();
    let deleted = directories::table
        .filter(directories::directory_id.eq(directory_work::directory_id))
        .filter(directories::deleted_at.is_not_null());
    let free = directory_work::table
        .filter(directory_work::directory_id.eq_any(ids))
        .filter(not(exists(deleted)))
        .order(directory_work::directory_id)
        .select(directory_work::directory_id);
    let free: Vec<String> = match connection {
        DbConnection::Postgres(c) => free.for_update().skip_locked().load(&mut **c).await?,
        DbConnection::Sqlite(c) => free.load(&mut **c).await?,
    };
    Ok(free.into_iter().collect())
}

/// As [`lock`], for several directories; of more than one, each has to be locked by [`lock_free`] before.
///
/// # Errors
/// As [`lock`], for any of them.
pub async fn lock_together(
    connection: &mut DbConnection,
    directories: &[&DirectoryId],
    lease: &Lease,
) -> Result<Vec<i64>, DbError> {
    let statement = |directory: &DirectoryId| {
        // Who was away for too long may have been replaced, even by one whose own lease has run out since.
        let share = lease.share()?;
        // What is not in our share is not kept from whoever has it.
        let length = if share.has(directory) { milliseconds(lease.length) } else { 0 };
        let shard = shard_of(directory.as_str());
        Some(LockDirectory { token: lease.token, directory: directory.to_string(), length: FromNow(length), shard })
    };
    let lock = async |mut reader: Reader<'_>, directory: &DirectoryId| {
        let lost = || DbError::LeaseLost(directory.to_string());
        let statement = statement(directory).ok_or_else(lost)?;
        let number: Option<i64> = with_reader!(reader, c => RunQueryDsl::get_result(statement, c).await.optional())?;
        number.ok_or_else(lost)
    };
    match connection {
        // All are on their way before the first is answered.
        DbConnection::Postgres(object) => {
            try_join_all(directories.iter().map(|directory| lock(Reader::Postgres(object), directory))).await
        }
        DbConnection::Sqlite(object) => {
            let mut numbers = Vec::with_capacity(directories.len());
            for directory in directories {
                numbers.push(lock(Reader::Sqlite(object), directory).await?);
            }
            Ok(numbers)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_spread_evenly_and_each_has_one_worker() {
        for of in 1..=7_u32 {
            let mut counts = vec![0_u32; of as usize];
            for number in 0..7000 {
                let id = DirectoryId::from_stored(format!("directory_01HX{number:022}"));
                let holders: Vec<u32> = (0..of).filter(|rank| Share { rank: *rank, of }.has(&id)).collect();
                assert_eq!(holders.len(), 1);
                counts[holders[0] as usize] += 1;
            }
            let fair = 7000 / of;
            assert!(counts.iter().all(|count| (fair * 8 / 10..=fair * 12 / 10).contains(count)), "{counts:?}");
        }
    }

    #[test]
    fn a_share_lapses_when_the_worker_was_not_seen_for_a_lease() {
        let seen = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        let lease = |length| Lease { token: 1, length, share: Arc::new(Mutex::new((Share::WHOLE, Some(seen)))) };
        assert_eq!(lease(Duration::from_secs(60)).share(), Some(Share::WHOLE));
        assert_eq!(lease(Duration::from_secs(1)).share(), None);
    }
}
