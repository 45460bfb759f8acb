//! `directory-mirror doctor` against set-ups that are broken in one way each: it has to name the way.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;
use workos_emulator::{ApiChaos, EndpointChange, NewDirectory};

use crate::support::{Engine, PATIENCE, Scene, on_both_engines, run, wait_until};

on_both_engines!(a_good_set_up_has_no_warning, migrations_that_are_missing, a_key_of_another_environment);

/// A set-up in which nothing is wrong: endpoint, secret, key and migrated database.
async fn good(engine: Engine) -> Scene {
    let mut scene = Scene::set(engine).await;
    scene.set_variable("WORKOS_WEBHOOK_SECRET", "whsec_0123456789abcdef");
    scene.emulator.create_directory(NewDirectory::named("Acme"));
    let url = "http://127.0.0.1:1/api/webhooks/workos/directory-sync";
    let secret = Some("whsec_0123456789abcdef".to_owned());
    scene
        .emulator
        .change(|world| world.add_webhook_endpoint(url, EndpointChange { secret, ..EndpointChange::default() }));
    scene
}

struct Report {
    status: Option<i32>,
    checks: Vec<Value>,
    text: String,
}

impl Report {
    /// The severity and message of a check's first line.
    fn of(&self, check: &str) -> (&str, &str) {
        let found = self.checks.iter().find(|line| line["check"] == check).unwrap_or_else(|| panic!("{}", self.text));
        (found["severity"].as_str().unwrap(), found["message"].as_str().unwrap())
    }

    /// Demands this as the one thing that is wrong.
    fn blames(&self, check: &str, severity: &str, words: &str) {
        let (found, message) = self.of(check);
        assert!(found == severity && message.contains(words), "{}", self.text);
        for line in &self.checks {
            let bad = line["severity"] == "warning" || line["severity"] == "error";
            assert_eq!(bad, line["check"] == check, "{}", self.text);
            assert_eq!(bad, line["remedy"].is_string(), "{}", self.text);
        }
        assert_eq!(self.status, Some(if severity == "error" { 2 } else { 1 }));
    }
}

fn examine(scene: &Scene) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_directory-mirror"));
    command.args(["doctor", "--json"]).env_clear().current_dir(folder.path());
    command.envs(scene.variables.iter().map(|(name, value)| (*name, value.as_str())));
    let output = command.env("BIND_ADDR", "127.0.0.1:9").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains(&scene.emulator.api_key()) && !text.contains("hunter2") && !text.contains("0123456789"));
    let report: Value = serde_json::from_str(&text).unwrap();
    Report { status: output.status.code(), checks: report["checks"].as_array().unwrap().clone(), text }
}

async fn migrated(engine: Engine) -> Scene {
    let mut scene = good(engine).await;
    scene.start_service().await;
    scene.service.take().unwrap().stop().await;
    scene
}

async fn a_good_set_up_has_no_warning(engine: Engine) {
    let scene = migrated(engine).await;
    let report = examine(&scene);
    assert_eq!(report.status, Some(0), "{}", report.text);
    for check in ["configuration", "database", "migrations", "webhook secret", "API key", "directories"] {
        assert_eq!(report.of(check).0, "ok", "{}", report.text);
    }
    for check in ["webhook endpoint", "endpoint's secret", "clock"] {
        assert_eq!(report.of(check).0, "ok", "{}", report.text);
    }
    scene.stop().await;
}

async fn migrations_that_are_missing(engine: Engine) {
    let scene = good(engine).await;
    examine(&scene).blames("migrations", "warning", "lacks");
    scene.stop().await;
}

async fn a_key_of_another_environment(engine: Engine) {
    let mut scene = migrated(engine).await;
    // The emulators invent the same ids, so only a second directory is one that the other does not have.
    scene.emulator.create_directory(NewDirectory::named("Second"));
    scene.start_service().await;
    let db = scene.service().db().clone();
    assert!(wait_until(PATIENCE, async || db.directory_health().await.unwrap().len() == 2).await);
    scene.service.take().unwrap().stop().await;
    let other = good(Engine::Sqlite).await;
    scene.set_variable("WORKOS_API_BASE_URL", other.emulator.url());
    scene.set_variable("WORKOS_API_KEY", &other.emulator.api_key());
    examine(&scene).blames("directories", "error", "another environment");
    scene.stop().await;
    other.stop().await;
}

/// Breaks a good set-up on SQLite and demands that doctor blames it on what was broken.
fn broken(change: impl FnOnce(&mut Scene), check: &str, severity: &str, words: &str) {
    run(async {
        let mut scene = migrated(Engine::Sqlite).await;
        change(&mut scene);
        examine(&scene).blames(check, severity, words);
        scene.stop().await;
    });
}

#[test]
fn no_secret() {
    let change = |scene: &mut Scene| scene.variables.retain(|(name, _)| *name != "WORKOS_WEBHOOK_SECRET");
    broken(change, "configuration", "error", "WORKOS_WEBHOOK_SECRET is not set");
}

#[test]
fn the_secret_of_another_endpoint() {
    let change = |scene: &mut Scene| scene.set_variable("WORKOS_WEBHOOK_SECRET", "whsec_of_somebody_else");
    broken(change, "endpoint's secret", "error", "signs with another one");
}

#[test]
fn an_api_key_as_the_secret() {
    let change = |scene: &mut Scene| {
        scene.set_variable("WORKOS_WEBHOOK_SECRET", "sk_test_hunter2,whsec_0123456789abcdef");
    };
    broken(change, "webhook secret", "warning", "an API key");
}

#[test]
fn a_database_that_does_not_answer() {
    let change = |scene: &mut Scene| scene.set_variable("DATABASE_URL", "postgres://mirror:hunter2@127.0.0.1:1/none");
    broken(change, "database", "error", "cannot be reached");
}

#[test]
fn a_database_in_a_folder_that_is_not_there() {
    let change = |scene: &mut Scene| scene.set_variable("DATABASE_URL", "sqlite:/nowhere/at/all/mirror.db");
    run(async {
        let mut scene = good(Engine::Sqlite).await;
        change(&mut scene);
        let report = examine(&scene);
        assert_eq!(report.of("database").0, "error", "{}", report.text);
        assert!(report.of("database").1.contains("folder is not there"), "{}", report.text);
        scene.stop().await;
    });
}

#[test]
fn a_wrong_key() {
    let change = |scene: &mut Scene| scene.set_variable("WORKOS_API_KEY", "sk_test_wrong");
    broken(change, "API key", "error", "refuses the key with status 401");
}

#[test]
fn an_api_that_cannot_be_reached() {
    let change = |scene: &mut Scene| scene.set_variable("WORKOS_API_BASE_URL", "http://127.0.0.1:1");
    broken(change, "API key", "error", "cannot be reached");
}

#[test]
fn a_proxy_that_answers_html() {
    let chaos = ApiChaos { html_not_found_rate: 1.0, ..ApiChaos::default() };
    broken(|scene: &mut Scene| scene.emulator.set_api_chaos(chaos).unwrap(), "API key", "error", "not WorkOS's");
}

fn change_endpoint(scene: &Scene, change: EndpointChange) {
    scene.emulator.change(|world| {
        let id = world.webhook_endpoints()[0].id.clone();
        world.change_webhook_endpoint(&id, change).unwrap();
    });
}

#[test]
fn an_endpoint_with_another_path() {
    let change = EndpointChange { endpoint_url: Some("http://127.0.0.1:1/hook".to_owned()), ..Default::default() };
    broken(|scene: &mut Scene| change_endpoint(scene, change), "webhook endpoint", "error", "no event will come");
}

#[test]
fn a_disabled_endpoint() {
    let status = Some(workos_emulator::EndpointStatus::Disabled);
    let change = EndpointChange { status, ..Default::default() };
    broken(|scene: &mut Scene| change_endpoint(scene, change), "webhook endpoint", "error", "is disabled");
}

#[test]
fn an_endpoint_without_removals() {
    let events = workos_emulator::DSYNC_EVENTS.into_iter().filter(|event| !event.ends_with("user_removed"));
    let change = EndpointChange { events: Some(events.map(str::to_owned).collect()), ..Default::default() };
    let blamed = "does not send dsync.group.user_removed";
    broken(|scene: &mut Scene| change_endpoint(scene, change), "webhook endpoint", "error", blamed);
}

#[test]
fn of_several_endpoints_ours_is_the_one_whose_secret_we_have() {
    run(async {
        let scene = migrated(Engine::Sqlite).await;
        let of_another = Some("whsec_of_another_service".to_owned());
        change_endpoint(&scene, EndpointChange { secret: of_another, ..Default::default() });
        let secret = Some("whsec_0123456789abcdef".to_owned());
        let url = "http://127.0.0.1:2/api/webhooks/workos/directory-sync";
        scene.emulator.change(|world| world.add_webhook_endpoint(url, EndpointChange { secret, ..Default::default() }));
        assert_eq!(examine(&scene).of("endpoint's secret").0, "ok");
        scene.stop().await;
    });
}

#[test]
fn a_clock_that_is_wrong_by_minutes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let date = (chrono::Utc::now() - chrono::TimeDelta::minutes(10)).to_rfc2822().replace("+0000", "GMT");
    // An API whose clock is ten minutes behind ours; it ends with the test binary.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let body = r#"{"object":"list","data":[],"list_metadata":{"before":null,"after":null}}"#;
            let head =
                format!("HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: {}\r\nConnection: close", body.len());
            let _ = write!(stream, "{head}\r\n\r\n{body}");
        }
    });
    run(async {
        let mut scene = good(Engine::Sqlite).await;
        scene.set_variable("WORKOS_API_BASE_URL", &url);
        let report = examine(&scene);
        let (severity, message) = report.of("clock");
        assert!(severity == "error" && message.contains("ahead of"), "{}", report.text);
        scene.stop().await;
    });
}
