//! A database for one history after the other: opened once, emptied in between.

use std::path::Path;

use diesel::sql_types::Text;
use diesel::{ExpressionMethods, QueryDsl};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use directory_mirror::clock::Timestamp;
use directory_mirror::config::Config;
use directory_mirror::db::schema::{directories, entity_memory, group_members, groups, inbox_events, users};
use directory_mirror::db::types::StoredInstant;
use directory_mirror::db::{Db, DbConnection};
use tempfile::TempDir;

use super::network::KEY;
use crate::support::{Engine, TestDatabase};

/// One Diesel body for both engines.
macro_rules! on {
    ($connection:expr, $c:ident => $body:expr) => {
        match $connection {
            DbConnection::Postgres(object) => {
                let $c = &mut **object;
                $body.unwrap()
            }
            DbConnection::Sqlite(object) => {
                let $c = &mut **object;
                $body.unwrap()
            }
        }
    };
}

pub struct Stage {
    pub db: Db,
    pub config: Config,
    clear: String,
    _folder: Option<TempDir>,
    _database: Option<TestDatabase>,
}

/// An event that was folded, or ignored since its directory is disabled.
pub struct FoldedEvent {
    pub id: String,
    pub ignored: bool,
    pub reason: String,
    pub received_at: Timestamp,
}

/// What the mirror shows of a directory, a user or a group, as far as the checks go by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub id: String,
    pub directory: String,
    pub active: bool,
    pub deleted_at: Option<Timestamp>,
    /// Whether the API confirmed it; of a directory, whether it was ever scanned to the end.
    pub verified: bool,
    /// The record's own `updated_at`.
    pub updated_at: Option<Timestamp>,
}

#[derive(diesel::QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

impl Stage {
    pub async fn set(engine: Engine) -> Self {
        let (url, folder, database) = match engine {
            Engine::Sqlite => {
                // In memory where the system has such a folder: a history commits hundreds of times.
                let memory = Path::new("/dev/shm");
                let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
                (format!("sqlite:{}", folder.path().join("mirror.db").display()), Some(folder), None)
            }
            Engine::Postgres => {
                let database = TestDatabase::new(engine).await;
                (database.url.clone(), None, Some(database))
            }
        };
        let variables = |name: &str| match name {
            "DATABASE_URL" => Some(url.clone()),
            "WORKOS_API_KEY" => Some(KEY.to_owned()),
            "WORKOS_API_BASE_URL" => Some("http://workos.test".to_owned()),
            "WORKOS_WEBHOOK_SECRET" => Some("s".to_owned()),
            "WORKOS_API_REQUESTS_PER_MINUTE" | "WORKOS_DIRECTORY_USERS_PER_SECOND" => Some("0".to_owned()),
            _ => None,
        };
        let config = Config::read(&variables).unwrap();
        drop(Db::open(&config.database).await.unwrap());
        let db = Db::connect_on_this_thread(&config.database).unwrap();
        let clear = statement_that_clears(&db).await;
        Self { db, config, clear, _folder: folder, _database: database }
    }

    /// Empties every table.
    pub async fn clear(&self) {
        let mut transaction = self.db.begin_in_background().await.unwrap();
        on!(transaction.connection(), c => c.batch_execute(&self.clear).await);
        transaction.commit().await.unwrap();
    }

    pub async fn directories(&self) -> Vec<Shown> {
        let mut connection = self.db.read().await.unwrap();
        type Row = (String, Option<StoredInstant>, Option<StoredInstant>);
        let rows: Vec<Row> = on!(&mut connection, c => {
            directories::table
                .select((directories::directory_id, directories::deleted_at, directories::last_synced_at))
                .load(c)
                .await
        });
        let shown = |(id, gone, scanned): Row| Shown {
            directory: id.clone(),
            id,
            active: gone.is_none(),
            deleted_at: gone.map(|at| at.0),
            verified: scanned.is_some(),
            updated_at: None,
        };
        rows.into_iter().map(shown).collect()
    }

    pub async fn users(&self) -> Vec<Shown> {
        type Row = (
            Option<String>,
            Option<String>,
            String,
            Option<StoredInstant>,
            Option<StoredInstant>,
            Option<StoredInstant>,
        );
        let mut connection = self.db.read().await.unwrap();
        let rows: Vec<Row> = on!(&mut connection, c => {
            users::table
                .select((
                    users::directory_user_id,
                    users::directory_id,
                    users::state,
                    users::deleted_at,
                    users::verified_at,
                    users::source_updated_at,
                ))
                .load(c)
                .await
        });
        let shown = |(id, directory, is, gone, verified, updated): Row| Shown {
            id: id.unwrap_or_default(),
            directory: directory.unwrap_or_default(),
            active: is == "active",
            deleted_at: gone.map(|at| at.0),
            verified: verified.is_some(),
            updated_at: updated.map(|at| at.0),
        };
        rows.into_iter().map(shown).collect()
    }

    pub async fn groups(&self) -> Vec<Shown> {
        type Row =
            (Option<String>, Option<String>, Option<StoredInstant>, Option<StoredInstant>, Option<StoredInstant>);
        let mut connection = self.db.read().await.unwrap();
        let rows: Vec<Row> = on!(&mut connection, c => {
            groups::table
                .select((
                    groups::directory_group_id,
                    groups::directory_id,
                    groups::deleted_at,
                    groups::verified_at,
                    groups::source_updated_at,
                ))
                .load(c)
                .await
        });
        let shown = |(id, directory, gone, verified, updated): Row| Shown {
            id: id.unwrap_or_default(),
            directory: directory.unwrap_or_default(),
            active: gone.is_none(),
            deleted_at: gone.map(|at| at.0),
            verified: verified.is_some(),
            updated_at: updated.map(|at| at.0),
        };
        rows.into_iter().map(shown).collect()
    }

    /// When the last truth about each user and group was asked for.
    pub async fn truths(&self) -> Vec<(String, Timestamp)> {
        let mut connection = self.db.read().await.unwrap();
        let rows: Vec<(String, Option<StoredInstant>)> = on!(&mut connection, c => {
            entity_memory::table.select((entity_memory::entity_id, entity_memory::truth_at)).load(c).await
        });
        rows.into_iter().filter_map(|(id, at)| Some((id, at?.0))).collect()
    }

    /// Who is in which group: group, then user.
    pub async fn members(&self) -> Vec<(String, String)> {
        let mut connection = self.db.read().await.unwrap();
        let rows: Vec<(Option<String>, Option<String>)> = on!(&mut connection, c => {
            group_members::table
                .inner_join(groups::table)
                .inner_join(users::table)
                .select((groups::directory_group_id, users::directory_user_id))
                .load(c)
                .await
        });
        rows.into_iter().map(|(group, user)| (group.unwrap_or_default(), user.unwrap_or_default())).collect()
    }

    /// The ids of every event that the inbox has.
    pub async fn event_ids(&self) -> Vec<String> {
        self.db.event_outcomes().await.unwrap().into_iter().map(|(id, ..)| id).collect()
    }
}

/// The events that came to an end.
pub async fn folded_events(db: &Db) -> Vec<FoldedEvent> {
    let mut connection = db.read().await.unwrap();
    let rows: Vec<(String, String, Option<String>, StoredInstant)> = on!(&mut connection, c => {
        inbox_events::table
            .filter(inbox_events::status.ne("pending"))
            .select((
                inbox_events::event_id,
                inbox_events::status,
                inbox_events::reason,
                inbox_events::received_at,
            ))
            .load(c)
            .await
    });
    let event = |(id, status, why, at): (String, String, Option<String>, StoredInstant)| FoldedEvent {
        id,
        ignored: status == "ignored",
        reason: why.unwrap_or_default(),
        received_at: at.0,
    };
    rows.into_iter().map(event).collect()
}

async fn statement_that_clears(db: &Db) -> String {
    let query = if db.is_postgres() {
        "SELECT tablename::text AS name FROM pg_tables WHERE schemaname = current_schema() AND tablename NOT LIKE '\\_\\_diesel%'"
    } else {
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE '\\_\\_diesel%' ESCAPE '\\'"
    };
    let mut connection = db.read().await.unwrap();
    let names: Vec<Name> = on!(&mut connection, c => diesel::sql_query(query).load(c).await);
    let mut names: Vec<String> = names.into_iter().map(|table| table.name).collect();
    assert!(names.len() > 8, "{names:?}");
    if db.is_postgres() {
        return format!("TRUNCATE {}", names.join(", "));
    }
    // Who refers to others goes first: a pragma that defers the check would make SQLite compile every statement anew.
    names.sort_by_key(|name| match name.as_str() {
        "directories" => 2,
        "users" | "groups" => 1,
        _ => 0,
    });
    names.iter().map(|name| format!("DELETE FROM {name};")).collect()
}
