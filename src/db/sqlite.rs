//! What is particular to SQLite: how a file is opened, locked and written.

use std::error::Error;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, ConnectionError, ConnectionResult, SqliteConnection};
use diesel_async::sync_connection_wrapper::{SpawnBlocking, SyncConnectionWrapper};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;

use super::DbError;

/// An SQLite connection used from async code.
pub type SqliteAsync = SyncConnectionWrapper<SqliteConnection, Calls>;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reads and writes.
    Write,
    /// Reads only.
    Read,
}

const PRAGMAS: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
     PRAGMA foreign_keys = ON; PRAGMA cache_size = -4000;";

/// Opens the file, creating it if need be.
pub async fn connect(path: String, access: Access, mut calls: Calls) -> ConnectionResult<SqliteAsync> {
    let opened = calls.spawn_blocking(move || open(&path, access)).await;
    let connection = opened.map_err(|error| ConnectionError::BadConnection(error.to_string()))??;
    Ok(SyncConnectionWrapper::with_runtime(connection, calls))
}

/// [`connect`] for callers that may block.
pub fn open(path: &str, access: Access) -> ConnectionResult<SqliteConnection> {
    let mut connection = SqliteConnection::establish(path)?;
    // busy_timeout stands first: switching to WAL needs a lock of its own.
    connection.batch_execute(PRAGMAS).map_err(ConnectionError::CouldntSetupConfiguration)?;
    if access == Access::Read {
        connection.batch_execute("PRAGMA query_only = ON;").map_err(ConnectionError::CouldntSetupConfiguration)?;
    }
    Ok(connection)
}

/// Begins a transaction that holds the write lock from its first moment: one that read first and wrote later would
/// fail with SQLITE_BUSY as soon as another process wrote in between.
pub async fn begin_immediate(connection: &mut SqliteAsync) -> Result<(), DbError> {
    connection
        .spawn_blocking(|connection| {
            diesel::connection::AnsiTransactionManager::begin_transaction_sql(connection, "BEGIN IMMEDIATE")
        })
        .await
        .map_err(DbError::from)
}

/// Takes the lock that only one worker can hold, on a file beside the database; waits up to 10 s for a predecessor
/// that is shutting down.
pub async fn lock_for_worker(database: &Path) -> Result<File, DbError> {
    const ATTEMPTS: u32 = 100;
    for attempt in 0..ATTEMPTS {
        if let Some(lock) = try_lock_for_worker(database)? {
            return Ok(lock);
        }
        if attempt == 0 {
            tracing::warn!("another worker uses the database; waiting up to 10 s for it to end");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(DbError::FileInUse(format!(
        "another worker uses {}: stop it first, or use PostgreSQL for more than one",
        database.to_string_lossy()
    )))
}

/// Takes that lock, unless another worker holds it.
pub fn try_lock_for_worker(database: &Path) -> Result<Option<File>, DbError> {
    let mut side_file = database.as_os_str().to_owned();
    side_file.push(".worker-lock");
    let refused = |error: &dyn std::fmt::Display| {
        DbError::FileInUse(format!("the lock file {} cannot be used: {error}", side_file.to_string_lossy()))
    };
    let file = File::options().create(true).truncate(false).write(true).open(&side_file).map_err(|e| refused(&e))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(refused(&error)),
    }
}

/// Where SQLite's calls run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// On tokio's blocking threads. A call whose future is dropped is waited for: the connection must not go back to the
    /// pool while it is in use. The stock spawner panics there on actix's single-threaded workers.
    OnThreads,
    /// On the caller's thread, after giving way once: in a simulation the same seed takes the same course.
    Here,
}

impl SpawnBlocking for Calls {
    fn spawn_blocking<'a, R>(
        &mut self,
        task: impl FnOnce() -> R + Send + 'static,
    ) -> BoxFuture<'a, Result<R, Box<dyn Error + Send + Sync + 'static>>>
    where
        R: Send + 'static,
    {
        if *self == Self::Here {
            return tokio::task::yield_now().map(|()| Ok(task())).boxed();
        }
        let (done, finished) = std::sync::mpsc::channel::<()>();
        // Dropped in this order if the call never begins: who waits for `done` finds the connection free.
        let call = (task, done);
        let handle = tokio::task::spawn_blocking(move || {
            let (task, _done) = call;
            task()
        });
        Call { handle, finished, complete: false }.result().boxed()
    }

    fn get_runtime() -> Self {
        Self::OnThreads
    }
}

struct Call<R> {
    handle: JoinHandle<R>,
    finished: std::sync::mpsc::Receiver<()>,
    complete: bool,
}

impl<R> Call<R> {
    async fn result(mut self) -> Result<R, Box<dyn Error + Send + Sync + 'static>> {
        let result = (&mut self.handle).await;
        self.complete = true;
        result.map_err(Into::into)
    }
}

impl<R> Drop for Call<R> {
    fn drop(&mut self) {
        if !self.complete {
            // A call that has not begun is cancelled, and its sender dropped; one that runs ends within milliseconds.
            self.handle.abort();
            let _ = self.finished.recv();
        }
    }
}
