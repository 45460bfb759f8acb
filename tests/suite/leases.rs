//! Who may commit: a worker that slept, read something stale or was shut out must not.

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use directory_mirror::clock::Clock;
use directory_mirror::db::{Db, DbError, Lease, PollerState};
use directory_mirror::model::{DirectoryId, EventStatus};
use directory_mirror::sync::{Engine as Worker, Retention, Step};
use directory_mirror::webhook::inbox_event;
use serde_json::json;

use crate::replicas::open;
use crate::support::{Engine, PATIENCE, TestDatabase, connect, run, wait_until};

fn worker(db: &Db, lease: Lease) -> Worker {
    Worker::new(db.clone(), None, Clock::system(), lease, Retention::new(None))
}

/// Stores that a user came into the directory.
async fn store_created(db: &Db, directory: &DirectoryId, number: usize) -> String {
    let (id, now) = (format!("event_{number}"), Utc::now() - TimeDelta::seconds(1));
    let user = json!({"object": "directory_user", "id": format!("directory_user_{number}"),
        "directory_id": directory.as_str(), "organization_id": null, "idp_id": number.to_string(), "state": "active",
        "emails": [], "custom_attributes": {}, "raw_attributes": {}, "created_at": now, "updated_at": now});
    let body = json!({"id": id, "event": "dsync.user.created", "created_at": now, "data": user}).to_string();
    db.store_events(vec![inbox_event(body.into_bytes(), Utc::now(), "webhook")]).await.unwrap();
    id
}

#[test]
fn who_slept_past_its_lease_cannot_commit_even_when_nobody_elses_runs() {
    run(async {
        let database = TestDatabase::new(Engine::Postgres).await;
        let client = connect(&[("DATABASE_URL", database.url.clone())]).await;
        let (db, now) = (open(&database, "1s").await, Clock::system().now());
        let directory = DirectoryId::from_stored("directory_1".to_owned());
        let sleeper = db.new_lease(now).await.unwrap();
        db.seen_alive(&sleeper).await.unwrap();
        db.next_number(&directory, &sleeper).await.unwrap();
        assert!(wait_until(PATIENCE, async || sleeper.share().is_none()).await);
        let other = db.new_lease(now).await.unwrap();
        assert!(wait_until(PATIENCE, async || db.next_number(&directory, &other).await.is_ok()).await);
        // The other is gone as well, and its lease has run out.
        client.batch_execute("UPDATE directory_sync.directory_work SET lease_until = 'epoch'").await.unwrap();
        let late = db.next_number(&directory, &sleeper).await;
        assert!(matches!(late, Err(DbError::LeaseLost(_))), "{late:?}");
        db.seen_alive(&sleeper).await.unwrap();
        db.next_number(&directory, &sleeper).await.unwrap();
    });
}

#[test]
fn what_another_worker_finished_meanwhile_is_not_folded_again() {
    run(async {
        let database = TestDatabase::new(Engine::Postgres).await;
        let mut client = connect(&[("DATABASE_URL", database.url.clone())]).await;
        let db = open(&database, "600s").await;
        let directory = DirectoryId::from_stored("directory_1".to_owned());
        let slow = Arc::new(worker(&db, db.new_lease(Utc::now()).await.unwrap()));
        db.next_number(&directory, &slow.lease).await.unwrap();
        store_created(&db, &directory, 1).await;
        store_created(&db, &directory, 2).await;
        // It has read both events when it waits for the directory's row.
        let other = client.transaction().await.unwrap();
        other.batch_execute("SELECT 1 FROM directory_sync.directory_work FOR UPDATE").await.unwrap();
        let folding = tokio::spawn({
            let slow = Arc::clone(&slow);
            async move { slow.fold_step().await }
        });
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        let waiting = async || other.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) > 0;
        assert!(wait_until(PATIENCE, waiting).await);
        other
            .batch_execute(
                "UPDATE directory_sync.inbox_events SET status = 'skipped', reason = 'by another'
                 WHERE event_id = 'event_1'",
            )
            .await
            .unwrap();
        other.commit().await.unwrap();
        assert_eq!(folding.await.unwrap().unwrap(), Step::Idle);
        assert_eq!(db.copy_mirror().await.unwrap().users.len(), 0, "nothing of a stale batch is applied");
        assert_eq!(slow.fold_step().await.unwrap(), Step::Ran);
        let users = db.copy_mirror().await.unwrap().users;
        assert_eq!(users.len(), 1, "only what was still pending");
        let outcomes = db.event_outcomes().await.unwrap();
        assert!(outcomes.contains(&("event_1".into(), "skipped".into(), Some("by another".into()))), "{outcomes:?}");
    });
}

#[test]
fn an_end_is_never_written_over() {
    run(async {
        let database = TestDatabase::new(Engine::Sqlite).await;
        let (db, now) = (open(&database, "15s").await, Utc::now());
        let id = store_created(&db, &DirectoryId::from_stored("directory_1".to_owned()), 1).await;
        let ids = [id.as_str()];
        assert_eq!(db.finish_events(&ids, EventStatus::Applied, "first", now).await.unwrap(), 1);
        assert_eq!(db.finish_events(&ids, EventStatus::Dead, "second", now).await.unwrap(), 0);
        assert_eq!(db.event_outcomes().await.unwrap()[0].2.as_deref(), Some("first"));
    });
}

#[test]
fn an_event_that_only_a_newer_version_can_fold_waits_for_it() {
    run(async {
        let database = TestDatabase::new(Engine::Postgres).await;
        let client = connect(&[("DATABASE_URL", database.url.clone())]).await;
        let db = open(&database, "600s").await;
        let directory = DirectoryId::from_stored("directory_1".to_owned());
        let older = worker(&db, db.new_lease(Utc::now()).await.unwrap());
        store_created(&db, &directory, 1).await;
        assert_eq!(older.fold_step().await.unwrap(), Step::Ran);
        client
            .batch_execute(
                "ALTER TABLE directory_sync.directories DROP CONSTRAINT directories_sync_status_check;
                 UPDATE directory_sync.directories SET sync_status = 'hibernating'",
            )
            .await
            .unwrap();
        store_created(&db, &directory, 2).await;
        let again = "UPDATE directory_sync.inbox_events SET next_attempt_at = NULL";
        for _ in 0..7 {
            older.fold_step().await.unwrap();
            client.batch_execute(again).await.unwrap();
        }
        let backlog = db.backlog().await.unwrap();
        assert_eq!((backlog.dead, backlog.pending), (0, 1));
        client.batch_execute("UPDATE directory_sync.directories SET sync_status = 'synced'").await.unwrap();
        older.fold_step().await.unwrap();
        assert_eq!(db.backlog().await.unwrap().pending, 0);
    });
}

#[test]
fn the_place_in_the_events_moves_only_from_where_it_was_read_and_by_who_is_known() {
    run(async {
        for engine in [Engine::Sqlite, Engine::Postgres] {
            let database = TestDatabase::new(engine).await;
            let (db, now) = (open(&database, "600s").await, Utc::now());
            let lease = db.new_lease(now).await.unwrap();
            db.start_poller(now).await.unwrap();
            let read = db.poller().await.unwrap().unwrap();
            let moved = |minutes| {
                let at = read.started_at + TimeDelta::minutes(minutes);
                PollerState { read_to: Some(at), ..read.clone() }
            };
            assert!(db.advance_poller(&lease, &read, &moved(1)).await.unwrap());
            db.note_poll_error("a 503").await.unwrap();
            assert!(!db.advance_poller(&lease, &read, &moved(2)).await.unwrap(), "somebody has moved it");
            assert!(db.advance_poller(&lease, &moved(1), &moved(2)).await.unwrap(), "an error is no move");
            db.recover(&moved(-9), now).await.unwrap();
            let late = db.advance_poller(&lease, &moved(-9), &moved(3)).await;
            assert!(matches!(late, Err(DbError::Forgotten)), "{late:?}");
            assert_eq!(db.poller().await.unwrap().unwrap().read_to, moved(-9).read_to);
        }
    });
}
