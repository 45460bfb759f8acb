//! Reconciles, on schedule and by command, and the brake. No webhook is delivered here.

use std::process::{Command, Output};
use std::time::Duration;

use directory_mirror::clock::Clock;
use directory_mirror::model::UserState;
use directory_mirror::webhook::inbox_event;
use workos_emulator::{Amount, BulkSpec, Deactivation, NewDirectory, UserChange};

use crate::support::{Engine, PATIENCE, Scene, on_both_engines, wait_until};

on_both_engines!(
    the_schedule_alone_brings_equality,
    a_reconcile_of_what_is_equal_writes_no_row,
    a_scan_that_is_interrupted_goes_on_where_it_was,
    the_brake_stops_a_vanished_company_until_it_is_confirmed,
    a_few_who_vanish_are_removed,
    the_command_tells_the_drift_and_mends_it,
    a_directory_that_is_enabled_again_is_reconciled,
    a_directory_that_fails_keeps_no_other_from_a_sync,
);

struct Company {
    directory: String,
    users: Vec<String>,
    groups: Vec<String>,
}

fn found(scene: &Scene, people: usize) -> Company {
    let directory = scene.emulator.create_directory(NewDirectory::named("Acme"));
    let spec = BulkSpec {
        users: Amount::Number(people),
        groups: Amount::Number(4),
        memberships: Amount::Number(people * 2),
        silent: true,
    };
    let made = scene.emulator.bulk_create(&directory, spec).unwrap();
    Company { directory, users: made.users, groups: made.groups }
}

fn change(scene: &Scene, company: &Company) {
    let (emulator, users) = (&scene.emulator, &company.users);
    let title = UserChange { job_title: Some("Anew".to_owned()), ..UserChange::default() };
    emulator.update_user(&users[0], title).unwrap();
    emulator.deactivate_user(&users[1], Deactivation::UpdatedInactive).unwrap();
    emulator.deactivate_user(&users[2], Deactivation::DeletedGone).unwrap();
    emulator.rename_group(&company.groups[0], "Renamed").unwrap();
    emulator.delete_group(&company.groups[1]).unwrap();
    let (group, user) = scene
        .emulator
        .truth()
        .members
        .into_iter()
        .find(|(group, user)| *group == company.groups[2] && !users[..3].contains(user))
        .unwrap();
    emulator.remove_member(&group, &user).unwrap();
}

async fn reconciled(scene: &Scene, directory: &str) {
    let db = scene.service().db();
    let now = Clock::system().now();
    assert_eq!(db.request_scan(None, now).await.unwrap(), 1);
    let over = wait_until(PATIENCE, async || {
        db.directory_health().await.unwrap().iter().any(|health| {
            let row = &health.directory;
            row.record.id.as_str() == directory
                && health.scan_requested_at.is_none()
                && row.sync_status.as_str() == "synced"
                && row.last_synced_at.is_some_and(|at| at > now)
        })
    })
    .await;
    assert!(over, "the scan does not end");
}

async fn the_schedule_alone_brings_equality(engine: Engine) {
    let mut scene = Scene::set(engine).await;
    scene.set_variable("RECONCILE_INTERVAL", "200ms");
    let company = found(&scene, 130);
    scene.start_service().await;
    scene.settle().await;
    change(&scene, &company);
    scene.settle().await;
    scene.stop().await;
}

async fn a_reconcile_of_what_is_equal_writes_no_row(engine: Engine) {
    let mut scene = Scene::set(engine).await;
    let company = found(&scene, 130);
    scene.start_service().await;
    scene.settle().await;
    let copy = async || {
        let mirror = scene.service().db().copy_mirror().await.unwrap();
        (mirror.users, mirror.groups, mirror.members)
    };
    let before = copy().await;
    assert!(before.0.iter().all(|row| row.verified_at.is_some()));
    reconciled(&scene, &company.directory).await;
    // Each write of a row moves its `verified_at`.
    assert_eq!(before, copy().await);
    scene.stop().await;
}

async fn a_scan_that_is_interrupted_goes_on_where_it_was(engine: Engine) {
    let mut scene = Scene::set(engine).await;
    found(&scene, 1000);
    scene.emulator.set_latency(Duration::from_millis(20));
    scene.start_service().await;
    let pages = |scene: &Scene| scene.emulator.request_counts().get("/directory_users").copied().unwrap_or_default();
    assert!(wait_until(PATIENCE, async || pages(&scene) >= 24).await);
    scene.service.take().unwrap().stop().await;
    scene.start_service().await;
    scene.settle().await;
    // Ten pages of users, and those of four groups with 500 members each; what was under way or waited to be written is
    // read twice.
    let pages = pages(&scene);
    assert!((30..=45).contains(&pages), "{pages} pages");
    scene.stop().await;
}

async fn the_brake_stops_a_vanished_company_until_it_is_confirmed(engine: Engine) {
    let mut scene = Scene::set(engine).await;
    let company = found(&scene, 60);
    scene.start_service().await;
    scene.settle().await;
    let memberships = scene.service().db().copy_mirror().await.unwrap().members.len();
    let vanished = &company.users[..40];
    for user in vanished {
        scene.emulator.change(|world| world.silently(|world| world.delete_user(user))).unwrap();
    }
    reconciled(&scene, &company.directory).await;
    let db = scene.service().db();
    let braked = async || db.directory_health().await.unwrap()[0].braked_at.is_some();
    assert!(wait_until(PATIENCE, braked).await, "no brake");
    let active = async || {
        let mirror = db.copy_mirror().await.unwrap();
        mirror.users.iter().filter(|row| row.state == UserState::Active && row.deleted_at.is_none()).count()
    };
    assert_eq!(active().await, 60, "nobody goes unasked");
    let members = async || db.copy_mirror().await.unwrap().members.len();
    assert_eq!(members().await, memberships, "and keeps the memberships");
    let health: serde_json::Value = reqwest::get(scene.url("/health")).await.unwrap().json().await.unwrap();
    let remedy = health["directories"][0]["brake"]["remedy"].as_str().unwrap_or_default();
    assert!(remedy.contains("--confirm-removals"), "{health}");
    let listed = command(&scene, &["directories", "list"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("the brake holds"), "{listed:?}");
    let examined = command(&scene, &["doctor"]);
    assert!(String::from_utf8_lossy(&examined.stdout).contains("their removal is held"), "{examined:?}");
    let output = command(&scene, &["sync", &company.directory, "--confirm-removals"]);
    assert!(output.status.success(), "{output:?}");
    scene.settle().await;
    assert!(!braked().await);
    assert_eq!(active().await, 20);
    scene.stop().await;
}

async fn a_few_who_vanish_are_removed(engine: Engine) {
    let mut scene = Scene::set(engine).await;
    let company = found(&scene, 60);
    scene.start_service().await;
    scene.settle().await;
    for user in &company.users[..15] {
        scene.emulator.change(|world| world.silently(|world| world.delete_user(user))).unwrap();
    }
    reconciled(&scene, &company.directory).await;
    scene.settle().await;
    scene.stop().await;
}

fn command(scene: &Scene, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_directory-mirror"));
    command.args(arguments).env_clear().current_dir(std::env::temp_dir());
    command.envs(scene.variables.iter().map(|(name, value)| (*name, value.as_str())));
    command.output().unwrap()
}

async fn the_command_tells_the_drift_and_mends_it(engine: Engine) {
    let mut scene = Scene::set(engine).await;
    let company = found(&scene, 130);
    scene.start_service().await;
    scene.settle().await;
    change(&scene, &company);
    scene.emulator.create_user(&company.directory, workos_emulator::NewUser::invented(7000, "acme.example")).unwrap();
    let before = scene.service().db().copy_mirror().await.unwrap();
    let output = command(&scene, &["sync", "--all", "--dry-run"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{printed}");
    let users = &company.users;
    for line in [
        format!("different  user {}: job_title, custom_attributes, raw_attributes, updated_at", users[0]),
        format!("extra      user {}", users[2]),
        format!("different  group {}: name, raw_attributes, updated_at", company.groups[0]),
        format!("extra      group {}", company.groups[1]),
    ] {
        assert!(printed.contains(&line), "{line} is missing from:\n{printed}");
    }
    assert_eq!(printed.matches("missing    user").count(), 1, "{printed}");
    assert!(printed.contains(&format!("of {}", company.groups[2])), "{printed}");
    let after = scene.service().db().copy_mirror().await.unwrap();
    assert_eq!((before.users, before.groups), (after.users, after.groups), "a dry run changes nothing");
    if engine == Engine::Sqlite {
        // Without a server the command does the work itself.
        scene.service.take().unwrap().stop().await;
    }
    let output = command(&scene, &["sync", &company.directory]);
    assert!(output.status.success(), "{output:?}");
    let output = command(&scene, &["sync", "--all", "--dry-run"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    scene.stop().await;
}

async fn a_directory_that_fails_keeps_no_other_from_a_sync(engine: Engine) {
    let mut scene = Scene::start(engine).await;
    let company = found(&scene, 10);
    scene.settle().await;
    let db = scene.service().db().clone();
    let invented = r#"{"object":"event","id":"event_1","event":"dsync.user.created","created_at":"2026-01-15T12:00:00.000Z","data":{"directory_id":"directory_0","directory_user_id":"directory_user_1"}}"#;
    let event = inbox_event(invented.as_bytes().to_vec(), Clock::system().now(), "webhook");
    db.store_events(vec![event]).await.unwrap();
    assert!(wait_until(PATIENCE, async || db.directory_health().await.unwrap().len() == 2).await);
    scene.service.take().unwrap().stop().await;
    // On SQLite it keeps the file's claim.
    drop(db);
    let output = command(&scene, &["sync", "--all"]);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(printed.contains("directory_0: not reconciled: "), "{output:?}");
    assert!(printed.contains(&format!("{}: synced, 10 users", company.directory)), "{output:?}");
    scene.stop().await;
}

async fn a_directory_that_is_enabled_again_is_reconciled(engine: Engine) {
    let scene = Scene::start(engine).await;
    let company = found(&scene, 30);
    scene.emulator.rename_group(&company.groups[3], "Told").unwrap();
    scene.settle().await;
    let db = scene.service().db();
    assert!(command(&scene, &["directories", "disable", &company.directory]).status.success());
    change(&scene, &company);
    assert!(scene.emulator.wait_for_deliveries(PATIENCE).await);
    assert!(wait_until(PATIENCE, async || db.backlog().await.unwrap().pending == 0).await);
    let outcomes = db.event_outcomes().await.unwrap();
    assert!(outcomes.iter().filter(|(_, status, _)| status == "ignored").count() >= 5, "{outcomes:?}");
    assert!(command(&scene, &["directories", "enable", &company.directory]).status.success());
    scene.settle().await;
    let listed = command(&scene, &["directories", "list"]);
    assert!(String::from_utf8(listed.stdout).unwrap().contains("enabled"));
    scene.stop().await;
}
