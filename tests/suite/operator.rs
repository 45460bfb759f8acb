//! The commands by which an operator looks at the database: `events`, `why` and `migrate`, as processes.

use std::process::{Command, Output};

use workos_emulator::{Deactivation, NewDirectory, NewUser};

use crate::support::{Engine, PATIENCE, SECRET, Scene, TestDatabase, on_both_engines, wait_until};

on_both_engines!(
    an_exported_inbox_plays_to_the_same_rows,
    events_are_listed_shown_and_folded_again,
    why_tells_where_a_state_comes_from_and_nothing_personal,
    migrate_tells_first_and_then_does
);

pub fn run(database: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_directory-mirror"));
    command.args(arguments).env_clear().current_dir(std::env::temp_dir()).env("DATABASE_URL", database);
    command.output().unwrap()
}

pub fn database(scene: &Scene) -> &str {
    scene.variables.iter().find(|(name, _)| *name == "DATABASE_URL").map(|(_, url)| url.as_str()).unwrap()
}

/// What a command of the operator prints; it has to succeed.
fn printed(scene: &Scene, arguments: &[&str]) -> String {
    let output = run(database(scene), arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn keyless(engine: Engine) -> Scene {
    let mut scene = Scene::set(engine).await;
    scene.variables.retain(|(name, _)| *name != "WORKOS_API_KEY");
    scene.start_service().await;
    scene
}

async fn folded(scene: &Scene) {
    assert!(scene.emulator.wait_for_deliveries(PATIENCE).await);
    let db = scene.service().db();
    assert!(wait_until(PATIENCE, async || db.backlog().await.unwrap().pending == 0).await);
}

async fn an_exported_inbox_plays_to_the_same_rows(engine: Engine) {
    let first = keyless(engine).await;
    first.emulator.register_endpoint(&first.webhook(), SECRET);
    let directory = first.emulator.create_directory(NewDirectory::named("Acme"));
    let group = first.emulator.create_group(&directory, "Team").unwrap();
    for number in 0..130 {
        let user = NewUser::invented(number, "acme.example");
        let user = first.emulator.create_user(&directory, user).unwrap();
        first.emulator.add_member(&group, &user).unwrap();
    }
    folded(&first).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("inbox.jsonl").to_string_lossy().into_owned();
    printed(&first, &["events", "export", "--out", &file]);
    assert!(!run(database(&first), &["events", "export", "--out", &file]).status.success(), "a file is never replaced");
    let (group_only, lines) = (["events", "export", "--type", "dsync.group.created"], std::fs::read_to_string(&file));
    assert_eq!(printed(&first, &group_only).lines().count(), 1);
    let told: Vec<serde_json::Value> = lines.unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.len(), first.service().db().event_outcomes().await.unwrap().len());

    let second = keyless(engine).await;
    let server = second.url("");
    let mut command = Command::new(env!("CARGO_BIN_EXE_directory-mirror"));
    command.args(["replay", &file, "--url", &server]).env_clear().current_dir(folder.path());
    assert!(command.env("WORKOS_WEBHOOK_SECRET", SECRET).output().unwrap().status.success());
    folded(&second).await;
    let differences = directory_mirror::cli::compare::differences(
        &second.service().db().copy_mirror().await.unwrap(),
        &first.emulator.truth(),
    );
    assert!(differences.is_empty(), "{differences:#?}");
    first.stop().await;
    second.stop().await;
}

async fn events_are_listed_shown_and_folded_again(engine: Engine) {
    let scene = keyless(engine).await;
    let post = async |id: &str, data: serde_json::Value| {
        let event = serde_json::json!({"id": id, "event": "dsync.user.created", "data": data});
        let body = event.to_string();
        let signature = workos_emulator::sign(SECRET, chrono::Utc::now().timestamp_millis(), body.as_bytes());
        let request = reqwest::Client::new().post(scene.webhook()).header("WorkOS-Signature", signature).body(body);
        assert!(request.send().await.unwrap().status().is_success());
    };
    let user = serde_json::json!({"id": "directory_user_1", "directory_id": "directory_1", "state": "active",
        "email": "jane@acme.example", "updated_at": "2026-01-01T00:00:00Z"});
    post("event_good", user).await;
    post("event_without_directory", serde_json::json!({"id": "directory_user_2"})).await;
    let db = scene.service().db();
    assert!(wait_until(PATIENCE, async || db.backlog().await.unwrap().dead == 1).await);
    assert!(wait_until(PATIENCE, async || db.backlog().await.unwrap().pending == 0).await);

    let all = printed(&scene, &["events", "list"]);
    assert_eq!(all.lines().count(), 2, "{all}");
    assert!(all.lines().next().unwrap().contains("event_without_directory"), "the newest first: {all}");
    let dead = printed(&scene, &["events", "list", "--status", "dead"]);
    assert!(dead.contains("event_without_directory") && !dead.contains("event_good"), "{dead}");
    assert_eq!(printed(&scene, &["events", "list", "--limit", "1"]).lines().count(), 1);
    assert_eq!(run(database(&scene), &["events", "list", "--status", "lost"]).status.code(), Some(2));
    assert!(!printed(&scene, &["events", "show", "event_good"]).contains("jane@"));
    assert!(printed(&scene, &["events", "show", "event_good", "--body"]).contains("jane@"));
    assert_eq!(run(database(&scene), &["events", "show", "event_unknown"]).status.code(), Some(1));

    assert!(printed(&scene, &["events", "retry", "--dead"]).starts_with("1 event"));
    assert!(wait_until(PATIENCE, async || db.backlog().await.unwrap().dead == 1).await, "folded, and dead again");
    assert_eq!(run(database(&scene), &["events", "retry", "event_unknown"]).status.code(), Some(1));
    scene.stop().await;
}

async fn why_tells_where_a_state_comes_from_and_nothing_personal(engine: Engine) {
    let scene = Scene::start(engine).await;
    let directory = scene.emulator.create_directory(NewDirectory::named("Acme"));
    let group = scene.emulator.create_group(&directory, "Team").unwrap();
    let jane = NewUser { email: "jane@acme.example".to_owned(), ..NewUser::named("Jane", "Doe", "acme.example") };
    let jane = scene.emulator.create_user(&directory, jane).unwrap();
    scene.emulator.add_member(&group, &jane).unwrap();
    scene.settle().await;
    scene.emulator.deactivate_user(&jane, Deactivation::DeletedKept).unwrap();
    scene.settle().await;

    let why = printed(&scene, &["why", &jane]);
    for part in ["inactive", "dsync.user.deleted", "a removal", "last truth: request", "mark: ", directory.as_str()] {
        assert!(why.contains(part), "{part}: {why}");
    }
    assert!(!why.contains("jane@"), "{why}");
    let by_address = printed(&scene, &["why", "jane@acme.example", "--show-personal"]);
    assert!(by_address.contains(&jane) && by_address.contains("email: jane@acme.example"), "{by_address}");
    assert!(printed(&scene, &["why", &group]).contains("members: "));
    assert!(printed(&scene, &["why", &directory]).contains("scan synced"));
    assert_eq!(run(database(&scene), &["why", "directory_user_unknown"]).status.code(), Some(1));
    scene.stop().await;
}

async fn migrate_tells_first_and_then_does(engine: Engine) {
    let database = TestDatabase::new(engine).await;
    let text = |output: Output| String::from_utf8(output.stdout).unwrap();
    let refused = run(&database.url, &["events", "list"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("directory-mirror migrate"), "{refused:?}");
    assert!(text(run(&database.url, &["migrate", "--dry-run"])).contains("would run "));
    assert!(text(run(&database.url, &["migrate", "--dry-run"])).contains("would run "), "nothing was changed");
    assert!(text(run(&database.url, &["migrate"])).contains("ran "));
    assert_eq!(text(run(&database.url, &["migrate"])), "the database is up to date\n");
    assert!(run(&database.url, &["events", "list"]).status.success());
}
