//! Migrations, embedded in the binary and run at start.

use std::path::Path;

use diesel::pg::Pg;
use diesel::sqlite::Sqlite;
use diesel_async::{AsyncMigrationHarness, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{DbError, postgres_tls, sqlite};
use crate::config::PostgresConfig;

const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
/// The advisory lock's key: the ASCII bytes of `dirmirrr`, so that it is nobody else's by accident.
const LOCK: i64 = 0x6469_726d_6972_7272;

/// Creates the schema and brings it up to date; of several that start at once, one does it and the others wait.
pub async fn run_on_postgres(config: &PostgresConfig) -> Result<(), DbError> {
    let mut connection =
        postgres_tls::connect(config).await.map_err(|error| DbError::Unavailable(error.to_string()))?;
    connection.batch_execute(&format!("SELECT pg_advisory_lock({LOCK})")).await?;
    // The lock goes with the connection, so an early return releases it too.
    connection.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS \"{}\"", config.schema)).await?;
    let mut harness = AsyncMigrationHarness::new(connection);
    let migrated = MigrationHarness::<Pg>::run_pending_migrations(&mut harness, POSTGRES)
        .map(drop)
        .map_err(|error| DbError::Migration(error.to_string()));
    harness.into_inner().batch_execute(&format!("SELECT pg_advisory_unlock({LOCK})")).await?;
    migrated
}

/// Creates the file and brings it up to date.
pub async fn run_on_sqlite(path: &Path) -> Result<(), DbError> {
    let path = path.to_string_lossy().into_owned();
    let migrated = tokio::task::spawn_blocking(move || {
        let mut connection = sqlite::open(&path, sqlite::Access::Write)
            .map_err(|error| DbError::Unavailable(format!("{path}: {error}")))?;
        MigrationHarness::<Sqlite>::run_pending_migrations(&mut connection, SQLITE)
            .map(drop)
            .map_err(|error| DbError::Migration(error.to_string()))
    });
    migrated.await.map_err(|error| DbError::Migration(error.to_string()))?
}
