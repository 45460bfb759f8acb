//! What the webhook answers, and what it keeps.

use chrono::Utc;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Engine, PATIENCE, SECRET, Scene, connect, on_both_engines, run, wait_until};

on_both_engines!(answers, keeps_what_it_cannot_read, folds_duplicates_once, survives_a_client_that_hangs_up);

fn event(id: &str, event: &str, data: &Value) -> Vec<u8> {
    json!({"object": "event", "id": id, "event": event, "data": data, "created_at": Utc::now().to_rfc3339()})
        .to_string()
        .into_bytes()
}

async fn post(scene: &Scene, body: Vec<u8>, signature: Option<String>) -> reqwest::Response {
    let mut request = reqwest::Client::new().post(scene.webhook()).body(body);
    if let Some(signature) = signature {
        request = request.header("workos-signature", signature);
    }
    request.send().await.unwrap()
}

fn sign(body: &[u8]) -> Option<String> {
    Some(workos_emulator::sign(SECRET, Utc::now().timestamp_millis(), body))
}

async fn outcome_of(scene: &Scene, id: &str) -> Option<(String, Option<String>)> {
    let outcomes = scene.service().db().event_outcomes().await.unwrap();
    outcomes.into_iter().find(|(known, ..)| known == id).map(|(_, status, reason)| (status, reason))
}

async fn answers(engine: Engine) {
    let scene = Scene::start(engine).await;
    let body = event("event_1", "dsync.token.created", &json!({"id": "t", "directory_id": "d"}));
    let now = Utc::now().timestamp_millis();
    let spaced = [&b"  "[..], &body, b"\n"].concat();
    for (what, body, signature, status) in [
        ("valid", body.clone(), sign(&body), 200),
        ("valid, with white space around the body", spaced.clone(), sign(&spaced), 200),
        ("no signature", body.clone(), None, 401),
        ("wrong secret", body.clone(), Some(workos_emulator::sign("x", now, &body)), 401),
        ("another body", body.clone(), sign(b"{}"), 401),
        ("unknown component", body.clone(), sign(&body).map(|header| header + ", v2=00"), 401),
        ("too old", body.clone(), Some(workos_emulator::sign(SECRET, now - 181_000, &body)), 401),
        ("from the future", body.clone(), Some(workos_emulator::sign(SECRET, now + 190_000, &body)), 401),
        ("too large", vec![b' '; 100_001], sign(&[b' '; 100_001]), 413),
    ] {
        let response = post(&scene, body, signature).await;
        assert_eq!(response.status().as_u16(), status, "{what}");
        let answer: Value = response.json().await.unwrap();
        let expected = if status == 200 { json!({"received": true}) } else { answer.clone() };
        assert_eq!(answer, expected, "{what}");
        assert_eq!(answer.get("error").is_some(), status != 200, "{what}");
    }
    assert_eq!(scene.service().db().event_outcomes().await.unwrap().len(), 1, "refused requests leave nothing");
    let get = reqwest::get(scene.webhook()).await.unwrap();
    assert_eq!(get.status(), StatusCode::METHOD_NOT_ALLOWED);
    for path in ["/health/live", "/health/ready", "/health"] {
        assert_eq!(reqwest::get(scene.url(path)).await.unwrap().status(), StatusCode::OK, "{path}");
    }
    scene.stop().await;
}

async fn keeps_what_it_cannot_read(engine: Engine) {
    let scene = Scene::start(engine).await;
    let hashed = |body: &[u8]| directory_mirror::webhook::event::id_from_hash(body);
    for body in [&b"not json"[..], b"{\"id\":\"x\"}", b""] {
        assert_eq!(post(&scene, body.to_vec(), sign(body)).await.status(), StatusCode::OK);
        let (status, reason) = outcome_of(&scene, &hashed(body)).await.unwrap();
        assert_eq!(status, "dead");
        assert!(reason.is_some());
    }
    for (id, kind) in [("event_a", "user.created"), ("event_b", "dsync.galaxy.collided")] {
        let body = event(id, kind, &json!({}));
        assert_eq!(post(&scene, body.clone(), sign(&body)).await.status(), StatusCode::OK);
        assert_eq!(outcome_of(&scene, id).await.unwrap().0, "ignored");
    }
    let body = event("event_c", "dsync.user.updated", &json!({"id": "directory_user_x"}));
    post(&scene, body.clone(), sign(&body)).await;
    let dead = wait_until(PATIENCE, async || outcome_of(&scene, "event_c").await.unwrap().0 == "dead").await;
    assert!(dead, "an event that names no directory is dead");
    scene.stop().await;
}

async fn folds_duplicates_once(engine: Engine) {
    let scene = Scene::start(engine).await;
    let data = json!({"id": "directory_token_1", "directory_id": "directory_1"});
    let body = event("event_twice", "dsync.token.created", &data);
    let posts = (0..40).map(|_| post(&scene, body.clone(), sign(&body)));
    for response in futures_util::future::join_all(posts).await {
        assert_eq!(response.status(), StatusCode::OK);
    }
    let applied = wait_until(PATIENCE, async || outcome_of(&scene, "event_twice").await.unwrap().0 == "applied").await;
    assert!(applied);
    assert_eq!(scene.service().db().event_outcomes().await.unwrap().len(), 1);
    scene.stop().await;
}

/// The stock way of running SQLite's calls panics when a request's future is dropped on an actix thread.
async fn survives_a_client_that_hangs_up(engine: Engine) {
    use tokio::io::AsyncWriteExt;
    let scene = Scene::start(engine).await;
    for round in 0..30 {
        let body =
            event(&format!("event_gone_{round}"), "dsync.token.created", &json!({"id": "t", "directory_id": "d"}));
        let mut stream = tokio::net::TcpStream::connect(scene.service().address()).await.unwrap();
        let head = format!(
            "POST /api/webhooks/workos/directory-sync HTTP/1.1\r\nhost: x\r\nworkos-signature: {}\r\ncontent-length: {}\r\n\r\n",
            sign(&body).unwrap(),
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        drop(stream);
        let mut asker = tokio::net::TcpStream::connect(scene.service().address()).await.unwrap();
        asker.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        drop(asker);
    }
    let body = event("event_last", "dsync.token.created", &json!({"id": "t", "directory_id": "d"}));
    assert_eq!(post(&scene, body.clone(), sign(&body)).await.status(), StatusCode::OK);
    assert_eq!(reqwest::get(scene.url("/health/ready")).await.unwrap().status(), StatusCode::OK);
    scene.stop().await;
}

#[test]
fn stores_though_postgres_dropped_every_connection() {
    run(async {
        let scene = Scene::start(Engine::Postgres).await;
        let client = connect(&scene.variables).await;
        for id in ["event_1", "event_2"] {
            let body = event(id, "dsync.token.created", &json!({"id": "t", "directory_id": "d"}));
            assert_eq!(post(&scene, body.clone(), sign(&body)).await.status(), StatusCode::OK, "{id}");
            let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                          WHERE datname = current_database() AND pid <> pg_backend_pid()";
            client.batch_execute(others).await.unwrap();
        }
        let stored = client.query_one("SELECT count(*) FROM directory_sync.inbox_events", &[]).await.unwrap();
        assert_eq!(stored.get::<_, i64>(0), 2);
        scene.stop().await;
    });
}
