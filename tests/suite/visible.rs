//! How long after its webhook was sent a change is visible in the tables, while nothing else happens. A measurement:
//! `VISIBLE_EVENTS=500 cargo test --test suite -- visible --nocapture --test-threads 1`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::sqlite::SqliteConnection;
use workos_emulator::{Deactivation, NewDirectory, NewUser, UserChange};

use crate::outage::number;
use crate::support::{Engine, PATIENCE, Scene, connect, marks_due_soon, on_both_engines, wait_until};

on_both_engines!(a_lone_change_is_visible_soon);

/// Reads the tables as an application would, past the service.
enum Application {
    Sqlite(SqliteConnection),
    Postgres(tokio_postgres::Client),
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    count: i64,
}

impl Application {
    async fn connect(engine: Engine, scene: &Scene) -> Self {
        match engine {
            Engine::Sqlite => {
                let url = &scene.variables.iter().find(|(name, _)| *name == "DATABASE_URL").unwrap().1;
                Self::Sqlite(SqliteConnection::establish(url.trim_start_matches("sqlite:")).unwrap())
            }
            Engine::Postgres => {
                let client = connect(&scene.variables).await;
                client.batch_execute("SET search_path TO directory_sync").await.unwrap();
                Self::Postgres(client)
            }
        }
    }

    async fn count(&mut self, from: &str) -> i64 {
        let query = format!("SELECT count(*) AS count FROM {from}");
        match self {
            Self::Sqlite(connection) => diesel::sql_query(query).get_result::<Count>(connection).unwrap().count,
            Self::Postgres(client) => client.query_one(&query, &[]).await.unwrap().get(0),
        }
    }

    /// How long after `sent` the tables say so.
    async fn wait_for(&mut self, from: &str, count: i64, sent: Instant) -> Duration {
        while self.count(from).await != count {
            assert!(sent.elapsed() < PATIENCE, "never so: {count} of {from}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        sent.elapsed()
    }
}

async fn a_lone_change_is_visible_soon(engine: Engine) {
    let scene = Scene::start(engine).await;
    let emulator = &scene.emulator;
    let directory = emulator.create_directory(NewDirectory::named("Acme"));
    let group = emulator.create_group(&directory, "Team").unwrap();
    let mut user = String::new();
    scene.settle().await;
    let mut application = Application::connect(engine, &scene).await;
    let mut latencies: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for event in 0..number("VISIBLE_EVENTS", 10) {
        let sent = Instant::now();
        let (kind, from, count) = match event % 5 {
            0 => {
                let name = NewUser::named("Ada", &event.to_string(), "a.example");
                user = emulator.create_user(&directory, name).unwrap();
                ("changes", format!("users WHERE directory_user_id = '{user}' AND state = 'active'"), 1)
            }
            1 => {
                let change = UserChange { job_title: Some("Chair".to_owned()), ..UserChange::default() };
                emulator.update_user(&user, change).unwrap();
                ("changes", format!("users WHERE directory_user_id = '{user}' AND job_title = 'Chair'"), 1)
            }
            2 => {
                emulator.add_member(&group, &user).unwrap();
                ("changes", members_named(&user), 1)
            }
            3 => {
                emulator.remove_member(&group, &user).unwrap();
                ("revocations", members_named(&user), 0)
            }
            _ => {
                emulator.deactivate_user(&user, Deactivation::DeletedGone).unwrap();
                ("revocations", format!("users WHERE directory_user_id = '{user}' AND state = 'active'"), 0)
            }
        };
        latencies.entry(kind).or_default().push(application.wait_for(&from, count, sent).await);
        // The next one comes when nothing is under way any more.
        let idle = wait_until(PATIENCE, async || {
            let db = scene.service().db();
            db.backlog().await.unwrap().pending == 0 && marks_due_soon(db).await == 0
        });
        assert!(idle.await, "something is still under way");
    }
    for (kind, mut latencies) in latencies {
        latencies.sort();
        let at = |share: usize| latencies[(latencies.len() - 1) * share / 100];
        println!(
            "{engine:?}: {} {kind} visible: p50 {:?}, p99 {:?}, slowest {:?}",
            latencies.len(),
            at(50),
            at(99),
            at(100)
        );
    }
    scene.settle().await;
    scene.stop().await;
}

fn members_named(user: &str) -> String {
    format!(
        "active_group_members m JOIN users u ON u.id = m.user_id JOIN groups g ON g.id = m.group_id \
         WHERE u.directory_user_id = '{user}'"
    )
}
