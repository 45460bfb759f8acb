//! A PostgreSQL server that takes what it is sent and never answers, as one behind a half-open connection seems to be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use directory_mirror::db::DbError;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;

use crate::replicas::open;
use crate::support::{Engine, PATIENCE, SECRET, Scene, TestDatabase, run, wait_until};

/// Passes on what comes from `from`; swallows it while `silent`, and ends once that is over, as a network does that is back.
async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut silent: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 65_536];
    loop {
        let read = from.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        if *silent.borrow() {
            let _ = silent.wait_for(|silent| !silent).await;
            return Ok(());
        }
        to.write_all(&bytes[..read]).await?;
    }
}

/// Stands before the server's Unix socket. Answers its own URL of the database, and the switch.
async fn relay(database: &TestDatabase) -> (String, Arc<watch::Sender<bool>>) {
    let (host, name) = database.url.trim_start_matches("postgres://postgres@").rsplit_once('/').unwrap();
    let socket = format!("{}/.s.PGSQL.5432", host.replace("%2F", "/"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://postgres@{}/{name}?sslmode=disable", listener.local_addr().unwrap());
    let silent = Arc::new(watch::Sender::new(false));
    let switch = Arc::clone(&silent);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = UnixStream::connect(&socket).await else { continue };
            let silent = switch.subscribe();
            tokio::spawn(async move {
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::select! {
                    _ = pass_on(from_client, to_server, silent.clone()) => {}
                    _ = pass_on(from_server, to_client, silent) => {}
                }
            });
        }
    });
    (url, silent)
}

#[test]
fn a_webhook_is_refused_and_readiness_says_why_while_the_database_is_silent() {
    run(async {
        let database = TestDatabase::new(Engine::Postgres).await;
        let (url, silent) = relay(&database).await;
        let mut scene = Scene::set(Engine::Postgres).await;
        scene.set_variable("DATABASE_URL", &url);
        scene.start_service().await;
        let post = async |number: usize| {
            let body = json!({"id": format!("event_{number}"), "event": "dsync.token.created", "data": {},
                "created_at": Utc::now().to_rfc3339()});
            let body = body.to_string().into_bytes();
            let signature = workos_emulator::sign(SECRET, Utc::now().timestamp_millis(), &body);
            let request = reqwest::Client::new().post(scene.webhook()).body(body).header("workos-signature", signature);
            request.send().await.unwrap().status().as_u16()
        };
        let ready = async || reqwest::get(scene.url("/health/ready")).await.unwrap().status().as_u16();
        assert_eq!((post(1).await, ready().await), (200, 200));
        silent.send_replace(true);
        let started = Instant::now();
        assert_eq!(tokio::join!(post(2), ready()), (503, 503));
        assert!(started.elapsed() < Duration::from_secs(12), "after {:?}", started.elapsed());
        silent.send_replace(false);
        assert!(wait_until(PATIENCE, async || post(2).await == 200 && ready().await == 200).await);
        scene.stop().await;
    });
}

#[test]
fn acknowledgements_and_signs_of_life_do_not_wait_for_other_work() {
    run(async {
        let database = TestDatabase::new(Engine::Postgres).await;
        let db = open(&database, "15s").await;
        let lease = db.new_lease(Utc::now()).await.unwrap();
        let mut busy = Vec::new();
        let refused = loop {
            match tokio::time::timeout(Duration::from_millis(200), db.read()).await {
                Ok(connection) => busy.push(connection.unwrap()),
                Err(waits) => break waits,
            }
        };
        assert!(busy.len() <= 8, "{refused}: a process holds no more than its documents say");
        let body = json!({"id": "event_1", "event": "dsync.token.created", "data": {}}).to_string().into_bytes();
        let event = directory_mirror::webhook::inbox_event(body, Utc::now(), "webhook");
        let started = Instant::now();
        assert_eq!(db.store_events(vec![event]).await.unwrap(), 1);
        db.seen_alive(&lease).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(4), "after {:?}", started.elapsed());
        drop(busy);
    });
}

#[test]
fn a_statement_that_is_refused_is_not_tried_again() {
    run(async {
        let database = TestDatabase::new(Engine::Postgres).await;
        let db = open(&database, "15s").await;
        let client = crate::support::connect(&[("DATABASE_URL", database.url.clone())]).await;
        client
            .batch_execute(
                "CREATE SEQUENCE tries;
                 CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN PERFORM nextval(''public.tries''); RAISE EXCEPTION ''no''; END';
                 CREATE TRIGGER refuse BEFORE INSERT ON directory_sync.inbox_events
                 FOR EACH STATEMENT EXECUTE FUNCTION refuse()",
            )
            .await
            .unwrap();
        let body = json!({"id": "event_1", "event": "dsync.token.created", "data": {}}).to_string().into_bytes();
        let event = directory_mirror::webhook::inbox_event(body, Utc::now(), "webhook");
        let refused = db.store_events(vec![event]).await;
        assert!(matches!(refused, Err(DbError::Query(_))), "{refused:?}");
        let tries: i64 = client.query_one("SELECT last_value FROM tries", &[]).await.unwrap().get(0);
        assert_eq!(tries, 1);
    });
}
