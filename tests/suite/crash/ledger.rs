//! What was true once and has to stay true: nothing lost, nothing doubled.

use std::collections::{BTreeMap, BTreeSet};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;

use crate::support::{Engine, connect};

/// Rows that never change once they are there: what must be unique, and what must stay. The same SQL for both engines.
const LASTING: [(&str, &str); 3] = [
    (
        "event",
        "SELECT event_id AS name, status || ' at ' || CAST(processed_at AS text) AS value FROM inbox_events \
         WHERE status <> 'pending'",
    ),
    (
        "user",
        "SELECT directory_user_id AS name, CAST(id AS text) || ' since ' || CAST(created_at AS text) AS value \
         FROM users WHERE directory_user_id IS NOT NULL",
    ),
    (
        "group",
        "SELECT directory_group_id AS name, CAST(id AS text) || ' since ' || CAST(created_at AS text) AS value \
         FROM groups WHERE directory_group_id IS NOT NULL",
    ),
];
const EVENTS: &str = "SELECT event_id AS name, '' AS value FROM inbox_events";

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    value: String,
}

/// What was seen so far.
#[derive(Default)]
pub struct Ledger {
    seen: BTreeMap<(&'static str, String), String>,
}

impl Ledger {
    /// Compares the database with what was seen before; panics on the first thing lost, doubled or changed.
    pub async fn check(&mut self, database: &Database, acknowledged: &BTreeSet<String>) {
        let stored: BTreeSet<String> = database.lines(EVENTS).await.into_iter().map(|line| line.name).collect();
        let lost: Vec<&String> = acknowledged.difference(&stored).collect();
        assert!(lost.is_empty(), "{} acknowledged events are lost: {lost:?}", lost.len());
        for (kind, query) in LASTING {
            let mut names = BTreeSet::new();
            for line in database.lines(query).await {
                assert!(names.insert(line.name.clone()), "{kind} {} is there twice", line.name);
                let before = self.seen.entry((kind, line.name.clone())).or_insert_with(|| line.value.clone());
                assert_eq!(*before, line.value, "{kind} {} has changed", line.name);
            }
            let gone = self.seen.keys().find(|(of, name)| *of == kind && !names.contains(name));
            assert!(gone.is_none(), "{kind} {} is gone", gone.unwrap().1);
        }
    }

    /// How many events have ended so far.
    pub fn ended(&self) -> usize {
        self.seen.keys().filter(|(kind, _)| *kind == "event").count()
    }
}

/// A play's database, looked at past the service's own code.
pub struct Database {
    pub engine: Engine,
    pub variables: Vec<(&'static str, String)>,
    pub url: String,
}

impl Database {
    async fn lines(&self, query: &str) -> Vec<Line> {
        match self.engine {
            Engine::Sqlite => {
                let path = self.url.strip_prefix("sqlite:").unwrap();
                let mut connection = SqliteConnection::establish(path).unwrap();
                connection.batch_execute("PRAGMA busy_timeout = 30000").unwrap();
                diesel::sql_query(query).load(&mut connection).unwrap()
            }
            Engine::Postgres => {
                let client = connect(&self.variables).await;
                client.batch_execute("SET search_path TO directory_sync").await.unwrap();
                let rows = client.query(query, &[]).await.unwrap();
                rows.into_iter().map(|row| Line { name: row.get("name"), value: row.get("value") }).collect()
            }
        }
    }
}
