//! Several directories in one fold: they share its transaction, and none is held up by what is wrong with another.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use directory_mirror::clock::Clock;
use directory_mirror::config::Config;
use directory_mirror::db::Db;
use directory_mirror::model::DirectoryId;
use directory_mirror::sync::{Engine as Worker, Retention, Step};
use directory_mirror::webhook::inbox_event;
use directory_mirror::workos::{Reply, Transport, WorkosClient};
use serde_json::{Value, json};

use crate::support::{Engine, PATIENCE, TestDatabase, connect, on_both_engines, run, wait_until};

on_both_engines!(a_directory_that_was_deleted_is_folded_beside_the_others);

/// The API, which fold never asks.
struct Unasked;

impl Transport for Unasked {
    fn exchange(&self, _: reqwest::Url) -> Pin<Box<dyn Future<Output = Result<Reply, String>> + Send + '_>> {
        Box::pin(async { Err("nobody is there".to_owned()) })
    }
}

/// A worker on a database of its own, which knows these directories.
struct Stage {
    worker: Arc<Worker>,
    database: TestDatabase,
}

impl Stage {
    async fn new(engine: Engine, directories: &[&str]) -> Self {
        let database = TestDatabase::new(engine).await;
        let variables = |name: &str| match name {
            "DATABASE_URL" => Some(database.url.clone()),
            "WORKOS_API_KEY" => Some("sk_test_key".to_owned()),
            "WORKOS_WEBHOOK_SECRET" => Some("s".to_owned()),
            _ => None,
        };
        let config = Config::read(&variables).unwrap();
        let db = Db::open(&config.database).await.unwrap();
        let clock = Clock::system();
        let client = WorkosClient::with_transport(&config.api, clock.clone(), Unasked);
        let lease = db.new_lease(clock.now()).await.unwrap();
        for directory in directories {
            let directory = DirectoryId::from_stored((*directory).to_owned());
            db.next_number(&directory, &lease).await.unwrap();
        }
        let worker = Worker::new(db, client, clock, lease, Retention::new(None));
        Self { worker: Arc::new(worker), database }
    }

    async fn store(&self, id: &str, kind: &str, data: Value) {
        let at = Utc::now() - TimeDelta::seconds(1);
        let body = json!({"id": id, "event": kind, "created_at": at, "data": data}).to_string();
        let event = inbox_event(body.into_bytes(), Utc::now(), "webhook");
        self.worker.db.store_events(vec![event]).await.unwrap();
    }

    async fn store_created(&self, directory: &str) {
        let at = Utc::now() - TimeDelta::seconds(1);
        let user = json!({"object": "directory_user", "id": format!("user_of_{directory}"), "directory_id": directory,
            "idp_id": "1", "state": "active", "emails": [], "custom_attributes": {}, "raw_attributes": {},
            "created_at": at, "updated_at": at});
        self.store(&format!("event_of_{directory}"), "dsync.user.created", user).await;
    }

    /// The users that are shown, deleted ones left out.
    async fn shown(&self) -> Vec<String> {
        let users = self.worker.db.copy_mirror().await.unwrap().users;
        let live = users.into_iter().filter(|row| row.deleted_at.is_none());
        let mut ids: Vec<String> = live.map(|row| row.record.id.to_string()).collect();
        ids.sort();
        ids
    }

    async fn ends(&self) -> BTreeMap<String, String> {
        self.worker.db.event_outcomes().await.unwrap().into_iter().map(|(id, status, _)| (id, status)).collect()
    }

    /// Has the database do this with each new row of the first directory's users.
    async fn on_each_user_of_a(&self, what: &str) {
        let client = connect(&[("DATABASE_URL", self.database.url.clone())]).await;
        let statement = format!(
            "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN IF NEW.directory_id = 'a' THEN {what} END IF; RETURN NEW; END $$;
             CREATE TRIGGER meddle BEFORE INSERT ON directory_sync.users FOR EACH ROW EXECUTE FUNCTION meddle()"
        );
        client.batch_execute(&statement).await.unwrap();
    }
}

fn pairs<const N: usize>(of: [(&str, &str); N]) -> BTreeMap<String, String> {
    of.into_iter().map(|(id, status)| (id.to_owned(), status.to_owned())).collect()
}

async fn a_directory_that_was_deleted_is_folded_beside_the_others(engine: Engine) {
    let stage = Stage::new(engine, &["a", "b", "c"]).await;
    for directory in ["a", "b"] {
        stage.store_created(directory).await;
    }
    assert_eq!(stage.worker.fold_step().await.unwrap(), Step::Ran);
    assert_eq!(stage.shown().await, ["user_of_a", "user_of_b"]);
    stage.store("event_gone", "dsync.deleted", json!({"object": "directory", "id": "a", "state": "deleting"})).await;
    stage.store_created("c").await;
    assert_eq!(stage.worker.fold_step().await.unwrap(), Step::Ran);
    assert_eq!(stage.shown().await, ["user_of_b", "user_of_c"]);
    let late = json!({"directory_id": "a", "user": {"id": "user_of_a"}, "group": {"id": "group"}});
    stage.store("event_late", "dsync.group.user_added", late).await;
    let again = json!({"object": "directory_user", "id": "user_of_c", "directory_id": "c", "state": "inactive",
        "updated_at": Utc::now()});
    stage.store("event_again", "dsync.user.deleted", again).await;
    assert_eq!(stage.worker.fold_step().await.unwrap(), Step::Ran);
    assert_eq!(stage.worker.fold_step().await.unwrap(), Step::Idle, "one step took both");
    assert_eq!(stage.shown().await, ["user_of_b", "user_of_c"], "c's waits for the API, inactive");
}

#[test]
fn a_directory_that_is_locked_holds_up_no_other() {
    run(async {
        let stage = Stage::new(Engine::Postgres, &["a", "b", "c"]).await;
        let mut client = connect(&[("DATABASE_URL", stage.database.url.clone())]).await;
        let other = client.transaction().await.unwrap();
        let lock = "SELECT 1 FROM directory_sync.directory_work WHERE directory_id = 'a' FOR UPDATE";
        other.batch_execute(lock).await.unwrap();
        for directory in ["a", "b", "c"] {
            stage.store_created(directory).await;
        }
        let folding = tokio::spawn({
            let worker = Arc::clone(&stage.worker);
            async move { worker.fold_step().await }
        });
        assert!(wait_until(PATIENCE, async || stage.shown().await == ["user_of_b", "user_of_c"]).await);
        other.commit().await.unwrap();
        assert_eq!(folding.await.unwrap().unwrap(), Step::Ran);
        assert_eq!(stage.shown().await, ["user_of_a", "user_of_b", "user_of_c"]);
    });
}

#[test]
fn data_that_is_refused_holds_up_no_other_directory() {
    run(async {
        let stage = Stage::new(Engine::Postgres, &["a", "b", "c"]).await;
        stage.on_each_user_of_a("RAISE EXCEPTION 'not this one' USING ERRCODE = 'check_violation';").await;
        for directory in ["a", "b", "c"] {
            stage.store_created(directory).await;
        }
        assert_eq!(stage.worker.fold_step().await.unwrap(), Step::Ran);
        assert_eq!(stage.shown().await, ["user_of_b", "user_of_c"]);
        let ends = pairs([("event_of_a", "pending"), ("event_of_b", "applied"), ("event_of_c", "applied")]);
        assert_eq!(stage.ends().await, ends);
        assert_eq!(stage.worker.fold_step().await.unwrap(), Step::Idle, "it is put off");
    });
}

#[test]
fn what_another_finished_meanwhile_costs_other_directories_nothing() {
    run(async {
        let stage = Stage::new(Engine::Postgres, &["a", "b"]).await;
        // In the transaction itself: the count of events that it finishes is what tells.
        stage
            .on_each_user_of_a(
                "UPDATE directory_sync.inbox_events SET status = 'skipped', reason = 'by another'
                     WHERE event_id = 'event_of_a';",
            )
            .await;
        for directory in ["a", "b"] {
            stage.store_created(directory).await;
        }
        assert_eq!(stage.worker.fold_step().await.unwrap(), Step::Ran);
        assert_eq!(stage.shown().await, ["user_of_b"], "of the other nothing is applied");
        assert_eq!(stage.ends().await, pairs([("event_of_a", "pending"), ("event_of_b", "applied")]));
    });
}
