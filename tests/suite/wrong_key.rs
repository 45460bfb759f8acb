//! The API answers, and what it says is about others: the key belongs to another environment, or a proxy answers 404 to
//! everything. An hour of it; `WRONG_KEY_SECONDS` says how long that takes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use directory_mirror::cli::compare::differences;
use directory_mirror::clock::Clock;
use directory_mirror::db::MirrorCopy;
use directory_mirror::model::UserState;
use serde_json::Value;
use workos_emulator::{Amount, ApiFault, BulkSpec, Emulator, NewDirectory, NewUser, Options, UserChange};

use crate::outage::number;
use crate::support::{Engine, PATIENCE, SECRET, Scene, emulator_options, on_both_engines, wait_until};

on_both_engines!(
    the_key_of_another_environment_removes_nobody,
    a_proxy_that_finds_nothing_removes_nobody,
    a_gateway_that_knows_no_route_removes_nobody,
);

const USERS: usize = 150;
/// How often things happen in the hour: a change, and every tenth time a scan is asked for.
const CHANGES: u32 = 120;

struct Company {
    directory: String,
    users: Vec<String>,
    groups: Vec<String>,
}

async fn the_key_of_another_environment_removes_nobody(engine: Engine) {
    let (mut scene, company) = founded(engine).await;
    let other = Emulator::start(Options { seed: 1, ..emulator_options() }).await.unwrap();
    let stranger = other.create_directory(NewDirectory::named("Stranger"));
    other.create_user(&stranger, NewUser::named("Sam", "Stranger", "other.example")).unwrap();
    let right = scene.emulator.url().to_owned();
    restart(&mut scene, other.url(), hour_in(seconds())).await;
    let error = an_hour_of_changes(&scene, &company).await;
    assert!(error.contains("check that WORKOS_API_KEY belongs to the environment"), "{error}");
    restart(&mut scene, &right, Clock::system()).await;
    recovers(scene, &company).await;
    other.stop().await;
}

async fn a_proxy_that_finds_nothing_removes_nobody(engine: Engine) {
    let (mut scene, company) = founded(engine).await;
    let url = scene.emulator.url().to_owned();
    scene.emulator.set_fault(ApiFault::HtmlNotFound);
    restart(&mut scene, &url, hour_in(seconds())).await;
    let error = an_hour_of_changes(&scene, &company).await;
    assert!(error.contains("the API answers with status 404"), "{error}");
    scene.emulator.set_fault(ApiFault::None);
    restart(&mut scene, &url, Clock::system()).await;
    recovers(scene, &company).await;
}

/// As some gateways do: a 404 of JSON with a message, just like that of the API.
async fn a_gateway_that_knows_no_route_removes_nobody(engine: Engine) {
    let (mut scene, company) = founded(engine).await;
    let url = scene.emulator.url().to_owned();
    scene.emulator.set_fault(ApiFault::Status(404));
    restart(&mut scene, &url, hour_in(seconds())).await;
    let error = an_hour_of_changes(&scene, &company).await;
    assert!(error.contains("404") || error.contains("WORKOS_API_KEY"), "{error}");
    scene.emulator.set_fault(ApiFault::None);
    restart(&mut scene, &url, Clock::system()).await;
    recovers(scene, &company).await;
}

fn seconds() -> usize {
    number("WRONG_KEY_SECONDS", 3)
}

/// A clock that begins with the present and shows an hour more after so many seconds.
fn hour_in(seconds: usize) -> Clock {
    let (started, now) = (Instant::now(), Utc::now());
    let faster = 3600.0 / seconds as f64;
    Clock::from_fn(move || now + TimeDelta::from_std(started.elapsed().mul_f64(faster)).unwrap())
}

/// A company that is mirrored, and more than the brake lets go at once.
async fn founded(engine: Engine) -> (Scene, Company) {
    let mut scene = Scene::set(engine).await;
    // Webhooks are stamped by the machine's clock.
    scene.set_variable("WEBHOOK_TOLERANCE", "1d");
    scene.set_variable("EVENTS_POLL_INTERVAL", "60");
    let directory = scene.emulator.create_directory(NewDirectory::named("Acme"));
    let spec = BulkSpec {
        users: Amount::Number(USERS),
        groups: Amount::Number(3),
        memberships: Amount::Number(USERS * 2),
        silent: true,
    };
    let made = scene.emulator.bulk_create(&directory, spec).unwrap();
    scene.start_service().await;
    scene.settle().await;
    (scene, Company { directory, users: made.users, groups: made.groups })
}

async fn restart(scene: &mut Scene, api: &str, clock: Clock) {
    scene.service.take().unwrap().stop().await;
    let old = scene.emulator.read(workos_emulator::World::webhook_endpoints);
    scene.emulator.change(|world| old.iter().for_each(|endpoint| world.remove_webhook_endpoint(&endpoint.id).unwrap()));
    scene.set_variable("WORKOS_API_BASE_URL", api);
    scene.start_service_with(clock).await;
    scene.emulator.register_endpoint(&scene.webhook(), SECRET);
}

/// Lets an hour pass, in which people are hired and changed, join groups, and reconciles are asked for; demands all the
/// while that nobody is removed. Answers why health says that the directory is not in step.
async fn an_hour_of_changes(scene: &Scene, company: &Company) -> String {
    let db = scene.service().db();
    let before = shown(&db.copy_mirror().await.unwrap());
    assert_eq!((before.0.len(), before.1.len()), (USERS, 3));
    let pause = Duration::from_secs_f64(seconds() as f64 / f64::from(CHANGES));
    for change in 0..CHANGES {
        // The pace of the load, not a wait for something to happen.
        tokio::time::sleep(pause).await;
        let user = &company.users[change as usize % USERS];
        let group = &company.groups[change as usize % 3];
        match change % 3 {
            0 => {
                let title = UserChange { job_title: Some(format!("Title {change}")), ..UserChange::default() };
                scene.emulator.update_user(user, title).unwrap();
            }
            1 => drop(scene.emulator.add_member(group, user).unwrap()),
            _ => {
                let hired = NewUser::named("Ada", &change.to_string(), "a.example");
                drop(scene.emulator.create_user(&company.directory, hired).unwrap());
            }
        }
        if change % 10 == 0 {
            db.request_scan(None, Utc::now()).await.unwrap();
            let now = shown(&db.copy_mirror().await.unwrap());
            assert!(before.0.is_subset(&now.0), "users are gone: {:?}", before.0.difference(&now.0));
            assert!(before.1.is_subset(&now.1), "groups are gone: {:?}", before.1.difference(&now.1));
            assert!(before.2.is_subset(&now.2), "memberships are gone: {:?}", before.2.difference(&now.2));
        }
    }
    assert!(scene.emulator.wait_for_deliveries(PATIENCE).await);
    let mut why = String::new();
    let says = wait_until(PATIENCE, async || {
        let report: Value = reqwest::get(scene.url("/health")).await.unwrap().json().await.unwrap();
        let directories = report["directories"].as_array().unwrap();
        let ours = directories.iter().find(|one| one["directory_id"] == company.directory.as_str()).unwrap();
        why = ours["error"].as_str().unwrap_or_default().to_owned();
        !why.is_empty()
    })
    .await;
    assert!(says, "health does not say why the directory is not in step");
    let after = shown(&db.copy_mirror().await.unwrap());
    assert!(before.0.is_subset(&after.0) && before.1.is_subset(&after.1) && before.2.is_subset(&after.2));
    println!(
        "an hour in {} s: {} users before, {} after, nobody removed; health says: {why}",
        seconds(),
        before.0.len(),
        after.0.len()
    );
    why
}

type Shown = (BTreeSet<String>, BTreeSet<String>, BTreeSet<(String, String)>);

/// The active users, the groups, and the memberships.
fn shown(mirror: &MirrorCopy) -> Shown {
    let users = mirror.users.iter().filter(|row| row.state == UserState::Active && row.deleted_at.is_none());
    let groups = mirror.groups.iter().filter(|row| row.deleted_at.is_none());
    (
        users.map(|row| row.record.id.to_string()).collect(),
        groups.map(|row| row.record.id.to_string()).collect(),
        mirror.members.iter().cloned().collect(),
    )
}

/// Demands that the company's part of the mirror becomes equal to the emulator.
async fn recovers(scene: Scene, company: &Company) {
    let db = scene.service().db();
    db.request_scan(None, Utc::now()).await.unwrap();
    let mut found = Vec::new();
    let equal = wait_until(PATIENCE, async || {
        let mut mirror = db.copy_mirror().await.unwrap();
        mirror.directories.retain(|row| row.record.id.as_str() == company.directory);
        mirror.users.retain(|row| row.record.directory_id.as_str() == company.directory);
        found = differences(&mirror, &scene.emulator.truth());
        let verified = mirror.users.iter().all(|row| row.verified_at.is_some());
        found.is_empty() && verified
    })
    .await;
    assert!(equal, "the mirror does not recover: {found:#?}");
    scene.stop().await;
}
