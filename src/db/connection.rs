//! Pools, connections and transactions of either engine.

use std::sync::Arc;
use std::time::Duration;

use diesel_async::pooled_connection::deadpool::{Object, Pool};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod};
use diesel_async::{AsyncConnection, AsyncPgConnection, TransactionManager};
use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::sqlite::{self, SqliteAsync};
use super::{DbError, migrations, postgres_tls};
use crate::config::{DatabaseConfig, PostgresConfig};

/// How long a caller waits for a connection before the database counts as unreachable.
const WAIT_FOR_CONNECTION: Duration = Duration::from_secs(5);
/// Connections to PostgreSQL for fold, health, and a few directories at once.
const POSTGRES_CONNECTIONS: usize = 8;
/// Those that only store events, so that an acknowledgement never waits for whatever else goes on: the webhooks' writer
/// and the poller.
pub(super) const POSTGRES_INBOX_CONNECTIONS: usize = 2;
/// The one by which a worker says that it is alive: a busy pool must not cost it its leases.
const POSTGRES_LIFE_CONNECTIONS: usize = 1;
const SQLITE_READERS: usize = 4;

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    pub(super) pools: Pools,
    /// How long a lease runs.
    lease_length: Duration,
    /// One background writer at a time, so that on SQLite the inbox waits for one short transaction at the most.
    background: Arc<Semaphore>,
    /// Held for as long as this process is the worker of an SQLite file.
    worker_lock: Arc<std::sync::Mutex<Option<std::fs::File>>>,
}

#[derive(Clone)]
pub(super) enum Pools {
    Postgres(PostgresPools),
    Sqlite { writer: Pool<SqliteAsync>, readers: Pool<SqliteAsync>, path: std::path::PathBuf },
}

#[derive(Clone)]
pub(super) struct PostgresPools {
    pub(super) work: Pool<AsyncPgConnection>,
    inbox: Pool<AsyncPgConnection>,
    life: Pool<AsyncPgConnection>,
}

/// A connection out of a pool.
#[allow(clippy::large_enum_variant, reason = "moved a few times in its life; a box would cost an allocation a query")]
pub enum DbConnection {
    /// To PostgreSQL.
    Postgres(Object<AsyncPgConnection>),
    /// To an SQLite file.
    Sqlite(Object<SqliteAsync>),
}

/// An open transaction. Dropped without [`Transaction::commit`], it is rolled back with its connection.
pub struct Transaction {
    /// Taken by `commit`, so that only an unfinished transaction throws its connection away.
    connection: Option<DbConnection>,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Db {
    /// Opens the database, creating the SQLite file or the PostgreSQL schema, and runs the migrations.
    ///
    /// # Errors
    /// [`DbError`] if the database cannot be reached or a migration fails.
    pub async fn open(config: &DatabaseConfig) -> Result<Self, DbError> {
        migrations::run(config).await?;
        Self::connect(config)
    }

    /// Prepares connections to a database as it stands: nothing is created, and no migration runs.
    ///
    /// # Errors
    /// [`DbError`] if the pools cannot be built; a database that is not there shows with the first query.
    pub fn connect(config: &DatabaseConfig) -> Result<Self, DbError> {
        Self::connect_with(config, sqlite::Calls::OnThreads)
    }

    /// As [`Db::connect`], for simulations: calls of SQLite run on the thread that makes them, so that a run can be repeated.
    ///
    /// # Errors
    /// As [`Db::connect`].
    pub fn connect_on_this_thread(config: &DatabaseConfig) -> Result<Self, DbError> {
        Self::connect_with(config, sqlite::Calls::Here)
    }

    fn connect_with(config: &DatabaseConfig, calls: sqlite::Calls) -> Result<Self, DbError> {
        let pools = match config {
            DatabaseConfig::Postgres(postgres) => Pools::Postgres(PostgresPools {
                work: postgres_pool(postgres, POSTGRES_CONNECTIONS)?,
                inbox: postgres_pool(postgres, POSTGRES_INBOX_CONNECTIONS)?,
                life: postgres_pool(postgres, POSTGRES_LIFE_CONNECTIONS)?,
            }),
            DatabaseConfig::Sqlite(path) => Pools::Sqlite {
                writer: sqlite_pool(path, 1, sqlite::Access::Write, calls)?,
                readers: sqlite_pool(path, SQLITE_READERS, sqlite::Access::Read, calls)?,
                path: path.clone(),
            },
        };
        let writers = if matches!(pools, Pools::Postgres(_)) { POSTGRES_CONNECTIONS / 2 } else { 1 };
        let lease_length = match config {
            // Shorter than what was promised, since the others notice the end of it a little later.
            DatabaseConfig::Postgres(postgres) => postgres.lease_ttl * 2 / 3,
            DatabaseConfig::Sqlite(_) => Duration::ZERO,
        };
        Ok(Self { pools, lease_length, background: Arc::new(Semaphore::new(writers)), worker_lock: Arc::default() })
    }

    /// Makes this process the only worker of an SQLite file; PostgreSQL has leases for that.
    ///
    /// # Errors
    /// [`DbError::FileInUse`] if another worker keeps the file for more than 10 s.
    pub async fn claim_worker(&self) -> Result<(), DbError> {
        if let Pools::Sqlite { path, .. } = &self.pools {
            let lock = sqlite::lock_for_worker(path).await?;
            *self.worker_lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(lock);
        }
        Ok(())
    }

    /// As [`Db::claim_worker`], at once or not at all: `false` if another worker keeps the file.
    ///
    /// # Errors
    /// [`DbError::FileInUse`] if the lock file cannot be used.
    pub fn try_claim_worker(&self) -> Result<bool, DbError> {
        if let Pools::Sqlite { path, .. } = &self.pools {
            let Some(lock) = sqlite::try_lock_for_worker(path)? else { return Ok(false) };
            *self.worker_lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(lock);
        }
        Ok(true)
    }

    /// How long a lease runs without being prolonged: two thirds of `LEASE_TTL`, within which others take over; zero on
    /// SQLite, where a lock on a file keeps others out.
    #[must_use]
    pub fn lease_length(&self) -> Duration {
        self.lease_length
    }

    /// Whether it is PostgreSQL.
    #[must_use]
    pub fn is_postgres(&self) -> bool {
        matches!(self.pools, Pools::Postgres(_))
    }

    /// A connection for reading.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] if none can be had.
    pub async fn read(&self) -> Result<DbConnection, DbError> {
        Ok(match &self.pools {
            Pools::Postgres(pools) => DbConnection::Postgres(take(&pools.work).await?),
            Pools::Sqlite { readers, .. } => DbConnection::Sqlite(take(readers).await?),
        })
    }

    /// A connection that only stores events.
    pub(super) async fn inbox_connection(&self) -> Result<DbConnection, DbError> {
        match &self.pools {
            Pools::Postgres(pools) => Ok(DbConnection::Postgres(take(&pools.inbox).await?)),
            Pools::Sqlite { writer, .. } => Ok(DbConnection::Sqlite(take(writer).await?)),
        }
    }

    /// Begins a write transaction for the inbox, which goes before everything else.
    ///
    /// # Errors
    /// [`DbError`] if no connection can be had or the transaction cannot begin.
    pub async fn begin_for_inbox(&self) -> Result<Transaction, DbError> {
        self.begin(None, |pools| &pools.inbox).await
    }

    /// Begins a write transaction by which a worker says that it is alive, or no longer.
    pub(super) async fn begin_for_life(&self) -> Result<Transaction, DbError> {
        if self.is_postgres() { self.begin(None, |pools| &pools.life).await } else { self.begin_in_background().await }
    }

    /// Begins a write transaction for background work.
    ///
    /// # Errors
    /// [`DbError`] if no connection can be had or the transaction cannot begin.
    pub async fn begin_in_background(&self) -> Result<Transaction, DbError> {
        // The semaphore is never closed; without a turn the transaction would still be correct, only less polite.
        let turn = Arc::clone(&self.background).acquire_owned().await.ok();
        self.begin(turn, |pools| &pools.work).await
    }

    async fn begin(
        &self,
        turn: Option<OwnedSemaphorePermit>,
        which: impl FnOnce(&PostgresPools) -> &Pool<AsyncPgConnection>,
    ) -> Result<Transaction, DbError> {
        let connection = match &self.pools {
            Pools::Postgres(pools) => DbConnection::Postgres(begin_on_postgres(which(pools)).await?),
            Pools::Sqlite { writer, .. } => {
                let mut object = take(writer).await?;
                sqlite::begin_immediate(&mut object).await?;
                DbConnection::Sqlite(object)
            }
        };
        Ok(Transaction { connection: Some(connection), _turn: turn })
    }
}

/// After a restart of the server every pooled connection is dead, and only its first use tells; so the begin is tried
/// on as many as there may be.
async fn begin_on_postgres(pool: &Pool<AsyncPgConnection>) -> Result<Object<AsyncPgConnection>, DbError> {
    let mut attempt = 0;
    loop {
        let mut object = take(pool).await?;
        match <AsyncPgConnection as AsyncConnection>::TransactionManager::begin_transaction(&mut *object).await {
            Ok(()) => return Ok(object),
            Err(error) => {
                drop(Object::take(object));
                attempt += 1;
                if attempt > POSTGRES_CONNECTIONS {
                    return Err(error.into());
                }
            }
        }
    }
}

impl DbConnection {
    /// Closes it, so that it does not go back to its pool.
    pub(super) fn discard(self) {
        match self {
            Self::Postgres(object) => drop(Object::take(object)),
            Self::Sqlite(object) => drop(Object::take(object)),
        }
    }
}

/// A connection that goes back to its pool only when its use has ended well: where the caller stops waiting for an
/// answer, nobody knows when the server will be done with it.
pub(super) struct Guarded(Option<DbConnection>);

impl Guarded {
    pub(super) fn new(connection: DbConnection) -> Self {
        Self(Some(connection))
    }

    pub(super) fn get(&mut self) -> &mut DbConnection {
        // `give_back` consumes it, so nobody can come here afterwards.
        self.0.as_mut().expect("it is there until it is given back")
    }

    pub(super) fn give_back(mut self) {
        self.0.take();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.discard();
        }
    }
}

impl Transaction {
    /// The connection within the transaction.
    pub fn connection(&mut self) -> &mut DbConnection {
        // `commit` consumes the transaction, so nobody can come here after it took the connection.
        self.connection.as_mut().expect("a transaction has its connection until it is committed")
    }

    /// Makes the changes durable.
    ///
    /// # Errors
    /// [`DbError`] if the commit fails: then nothing was changed.
    pub async fn commit(mut self) -> Result<(), DbError> {
        match self.connection() {
            DbConnection::Postgres(object) => {
                <AsyncPgConnection as AsyncConnection>::TransactionManager::commit_transaction(&mut **object).await?;
            }
            DbConnection::Sqlite(object) => {
                <SqliteAsync as AsyncConnection>::TransactionManager::commit_transaction(&mut **object).await?;
            }
        }
        self.connection.take();
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.discard();
        }
    }
}

pub(super) async fn take<C>(pool: &Pool<C>) -> Result<Object<C>, DbError>
where
    C: diesel_async::pooled_connection::PoolableConnection + Send + 'static,
    AsyncDieselConnectionManager<C>:
        deadpool::managed::Manager<Type = C, Error = diesel_async::pooled_connection::PoolError>,
{
    pool.get().await.map_err(|error| DbError::Unavailable(error.to_string()))
}

fn sqlite_pool(
    path: &std::path::Path,
    size: usize,
    access: sqlite::Access,
    calls: sqlite::Calls,
) -> Result<Pool<SqliteAsync>, DbError> {
    let mut config = ManagerConfig::default();
    config.recycling_method = RecyclingMethod::Fast;
    config.custom_setup = Box::new(move |url| sqlite::connect(url.into(), access, calls).boxed());
    build(AsyncDieselConnectionManager::new_with_config(path.to_string_lossy(), config), size)
}

fn postgres_pool(postgres: &PostgresConfig, size: usize) -> Result<Pool<AsyncPgConnection>, DbError> {
    let mut config = ManagerConfig::default();
    config.recycling_method = RecyclingMethod::Fast;
    let settings = postgres.clone();
    config.custom_setup = Box::new(move |_| {
        let settings = settings.clone();
        async move { postgres_tls::connect(&settings).await }.boxed()
    });
    build(AsyncDieselConnectionManager::new_with_config(String::new(), config), size)
}

fn build<C>(manager: AsyncDieselConnectionManager<C>, size: usize) -> Result<Pool<C>, DbError>
where
    C: diesel_async::pooled_connection::PoolableConnection + Send + 'static,
    AsyncDieselConnectionManager<C>:
        deadpool::managed::Manager<Type = C, Error = diesel_async::pooled_connection::PoolError>,
{
    Pool::builder(manager)
        .max_size(size)
        .wait_timeout(Some(WAIT_FOR_CONNECTION))
        .create_timeout(Some(WAIT_FOR_CONNECTION))
        .runtime(deadpool::Runtime::Tokio1)
        .build()
        .map_err(|error| DbError::Unavailable(error.to_string()))
}
