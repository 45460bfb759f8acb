//! Migrations, embedded in the binary and run at start.

use std::path::Path;

use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel::sqlite::Sqlite;
use diesel_async::{AsyncMigrationHarness, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::connection::Guarded;
use super::{Db, DbError, postgres_tls, sqlite, with_connection};
use crate::config::{DatabaseConfig, PostgresConfig};

const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
/// The advisory lock's key: the ASCII bytes of `dirmirrr`, so that it is nobody else's by accident.
const LOCK: i64 = 0x6469_726d_6972_7272;

/// Creates the database's file or schema if need be, and runs what it lacks.
///
/// # Errors
/// [`DbError`] if the database cannot be reached or a migration fails.
pub async fn run(config: &DatabaseConfig) -> Result<(), DbError> {
    match config {
        DatabaseConfig::Postgres(postgres) => run_on_postgres(postgres).await,
        DatabaseConfig::Sqlite(path) => run_on_sqlite(path).await,
    }
}

/// What [`run`] would run, by names, in order. Creates nothing.
///
/// # Errors
/// [`DbError`] if the database cannot be reached.
pub async fn pending(config: &DatabaseConfig) -> Result<Vec<String>, DbError> {
    match config {
        DatabaseConfig::Postgres(postgres) => {
            let mut connection =
                postgres_tls::connect(postgres).await.map_err(|error| DbError::Unavailable(error.to_string()))?;
            let table = format!("\"{}\".__diesel_schema_migrations", postgres.schema);
            let exists = diesel::select(sql::<Bool>("to_regclass(").bind::<Text, _>(table).sql(") IS NOT NULL"));
            let run: Vec<String> = if exists.get_result(&mut connection).await? {
                __diesel_schema_migrations::table
                    .select(__diesel_schema_migrations::version)
                    .load(&mut connection)
                    .await?
            } else {
                Vec::new()
            };
            missing(&run)
        }
        DatabaseConfig::Sqlite(path) if !path.exists() => missing(&[]),
        DatabaseConfig::Sqlite(path) => {
            let path = path.to_string_lossy().into_owned();
            let read = tokio::task::spawn_blocking(move || -> Result<Vec<String>, DbError> {
                let mut connection = sqlite::open(&path, sqlite::Access::Read)
                    .map_err(|error| DbError::Unavailable(format!("{path}: {error}")))?;
                let tables = "SELECT count(*) FROM sqlite_master WHERE name = '__diesel_schema_migrations'";
                let exists: i64 = diesel::RunQueryDsl::get_result(
                    diesel::select(sql::<BigInt>(&format!("({tables})"))),
                    &mut connection,
                )?;
                if exists == 0 {
                    return Ok(Vec::new());
                }
                let versions = __diesel_schema_migrations::table.select(__diesel_schema_migrations::version);
                Ok(diesel::RunQueryDsl::load(versions, &mut connection)?)
            });
            let run = read.await.map_err(|error| DbError::Migration(error.to_string()))?;
            missing(&run?)
        }
    }
}

/// The migrations of this binary that are not among `run`. Both engines have the same versions.
fn missing(run: &[String]) -> Result<Vec<String>, DbError> {
    use diesel::migration::MigrationSource;
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| DbError::Migration(error.to_string());
    let ours = MigrationSource::<Pg>::migrations(&POSTGRES).map_err(failed)?;
    let names = ours.iter().map(|migration| migration.name());
    let mut missing: Vec<String> =
        names.filter(|name| !run.contains(&name.version().to_string())).map(ToString::to_string).collect();
    missing.sort();
    Ok(missing)
}

/// Creates the schema and brings it up to date; of several that start at once, one does it and the others wait.
async fn run_on_postgres(config: &PostgresConfig) -> Result<(), DbError> {
    let mut connection = postgres_tls::connect_without_timeouts(config)
        .await
        .map_err(|error| DbError::Unavailable(error.to_string()))?;
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

diesel::table! {
    __diesel_schema_migrations (version) {
        version -> Text,
    }
}

impl Db {
    /// Whether the database has every migration of this binary; a newer binary's database has more.
    ///
    /// # Errors
    /// [`DbError`] if the database cannot be asked.
    pub async fn migrations_are_current(&self) -> Result<bool, DbError> {
        let mut connection = Guarded::new(self.read().await?);
        let run: Vec<String> = with_connection!(connection.get(), c => {
            __diesel_schema_migrations::table.select(__diesel_schema_migrations::version).load(c).await
        })?;
        connection.give_back();
        Ok(missing(&run)?.is_empty())
    }
}

/// Creates the file and brings it up to date.
async fn run_on_sqlite(path: &Path) -> Result<(), DbError> {
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

#[cfg(test)]
mod tests {
    use diesel::RunQueryDsl;
    use diesel::connection::SimpleConnection;

    use super::{MigrationHarness, QueryDsl, SQLITE, Sqlite, run_on_sqlite, sqlite};

    const ROWS: &str = "
        INSERT INTO directories (directory_id, state, domains, sync_status, created_at, updated_at)
        VALUES ('directory_1', 'linked', '[]', 'synced', 1, 1);
        INSERT INTO users (id, directory_user_id, directory_id, state, custom_attributes, raw_attributes, provenance,
                           created_at, updated_at)
        VALUES ('0199c0de-0000-7000-8000-000000000001', 'directory_user_1', 'directory_1', 'active', '{}', '{}',
                'directory', 1, 1);
        INSERT INTO inbox_events (event_id, event_type, received_at, source, body, status, attempts)
        VALUES ('event_1', 'dsync.activated', 1, 'webhook', x'00', 'pending', 0);";

    #[tokio::test]
    async fn down_takes_back_what_up_made_even_with_rows_and_up_runs_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mirror.db");
        run_on_sqlite(&path).await.unwrap();
        let mut connection = sqlite::open(&path.to_string_lossy(), sqlite::Access::Write).unwrap();
        connection.batch_execute(ROWS).unwrap();
        run_on_sqlite(&path).await.unwrap();
        let users: i64 = super::super::schema::users::table.count().get_result(&mut connection).unwrap();
        assert_eq!(users, 1, "a second start changes no row");
        MigrationHarness::<Sqlite>::revert_all_migrations(&mut connection, SQLITE).unwrap();
        let left = "SELECT count(*) FROM sqlite_master WHERE name NOT LIKE '\\_\\_diesel%' ESCAPE '\\' AND name NOT LIKE 'sqlite%'";
        let left = diesel::select(diesel::dsl::sql::<diesel::sql_types::BigInt>(&format!("({left})")));
        assert_eq!(left.get_result::<i64>(&mut connection).unwrap(), 0);
        run_on_sqlite(&path).await.unwrap();
    }
}
