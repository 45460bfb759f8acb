//! The Events API poller: what no webhook brought arrives all the same.

use chrono::{TimeDelta, Utc};
use directory_mirror::cli::compare::differences;
use directory_mirror::clock::Clock;
use directory_mirror::db::{Db, Direction, EventFilter, Round};
use serde_json::{Value, json};
use workos_emulator::{ApiFault, Deactivation, NewDirectory, NewUser, UserChange, WebhookChaos};

use crate::support::{Engine, PATIENCE, SECRET, Scene, on_both_engines, wait_until};

on_both_engines!(
    without_any_webhook_the_poller_alone_brings_equality,
    what_happened_while_the_service_was_down_arrives,
    half_of_all_webhooks_may_be_lost,
    a_cursor_that_is_refused_or_starts_over_is_recovered_from,
    the_first_start_counts_even_if_the_api_is_down,
    what_is_older_than_the_api_keeps_leads_to_a_scan,
);

struct Company {
    directory: String,
    users: Vec<String>,
    groups: Vec<String>,
}

fn found(scene: &Scene, people: usize) -> Company {
    let emulator = &scene.emulator;
    let directory = emulator.create_directory(NewDirectory::named("Acme"));
    let groups = (0..3).map(|n| emulator.create_group(&directory, &format!("Team {n}")).unwrap()).collect();
    let users = (0..people).map(|n| emulator.create_user(&directory, NewUser::invented(n, "a.example")).unwrap());
    let company = Company { users: users.collect(), directory, groups };
    for (number, user) in company.users.iter().enumerate() {
        emulator.add_member(&company.groups[number % 3], user).unwrap();
    }
    company
}

fn retitle(scene: &Scene, user: &str, title: &str) {
    let change = UserChange { job_title: Some(title.to_owned()), ..UserChange::default() };
    scene.emulator.update_user(user, change).unwrap();
}

/// Some of each kind; a title makes a change of each user, so that there is more than a page of events.
fn change_everything(scene: &Scene, company: &Company, title: &str) {
    let (emulator, users, groups) = (&scene.emulator, &company.users, &company.groups);
    users.iter().skip(4).for_each(|user| retitle(scene, user, title));
    emulator.deactivate_user(&users[0], Deactivation::UpdatedInactive).unwrap();
    emulator.deactivate_user(&users[1], Deactivation::DeletedKept).unwrap();
    emulator.deactivate_user(&users[2], Deactivation::DeletedGone).unwrap();
    emulator.remove_member(&groups[0], &users[3]).unwrap();
    emulator.rename_group(&groups[0], title).unwrap();
    emulator.delete_group(&groups[1]).unwrap();
    let hire = emulator.create_user(&company.directory, NewUser::invented(9999, "a.example")).unwrap();
    emulator.add_member(&groups[2], &hire).unwrap();
}

/// A scene whose directory was scanned and is at rest, so that nothing but news of a change leads to it.
async fn at_rest(engine: Engine, people: usize) -> (Scene, Company) {
    let mut scene = Scene::set(engine).await;
    let company = found(&scene, people);
    scene.set_variable("EVENTS_POLL_INTERVAL", "50ms");
    scene.start_service().await;
    scene.settle().await;
    (scene, company)
}

async fn stop_service(scene: &mut Scene) -> Db {
    let service = scene.service.take().unwrap();
    let db = service.db().clone();
    service.stop().await;
    db
}

/// As [`Scene::settle`], without waiting for what is looked at once more a minute later.
async fn become_equal(scene: &Scene) {
    let mut found = Vec::new();
    let equal = wait_until(PATIENCE, async || {
        found = differences(&scene.service().db().copy_mirror().await.unwrap(), &scene.emulator.truth());
        found.is_empty()
    })
    .await;
    assert!(equal, "the mirror differs: {found:#?}");
}

async fn health(scene: &Scene) -> Value {
    reqwest::get(scene.url("/health")).await.unwrap().json().await.unwrap()
}

async fn control(scene: &Scene, request: reqwest::RequestBuilder) {
    assert!(request.send().await.unwrap().status().is_success(), "{}", scene.emulator.url());
}

async fn without_any_webhook_the_poller_alone_brings_equality(engine: Engine) {
    let (scene, company) = at_rest(engine, 130).await;
    change_everything(&scene, &company, "Anew");
    scene.settle().await;
    let second = scene.emulator.create_directory(NewDirectory::named("Second"));
    scene.emulator.create_user(&second, NewUser::invented(1, "b.example")).unwrap();
    scene.settle().await;
    // The inbox holds what a webhook would have brought, once.
    let db = scene.service().db();
    let entries = db.events(&EventFilter::default(), Direction::OldestFirst, None, 10_000).await.unwrap();
    let emitted = scene.emulator.events();
    assert_eq!(entries.len(), emitted.len());
    for event in &emitted {
        let (entry, body) = entries.iter().find(|(entry, _)| entry.event_id == event.id).unwrap();
        assert_eq!((entry.source.as_str(), body.as_slice()), ("events_api", event.body.as_ref()));
    }
    let newest = emitted.iter().map(|event| event.created_at).max().unwrap();
    let report = health(&scene).await["events_poller"].clone();
    assert_eq!(report["newest_event_at"], json!(newest), "{report}");
    assert!(report["polled_at"].is_string() && report["error"].is_null(), "{report}");
    scene.stop().await;
}

async fn what_happened_while_the_service_was_down_arrives(engine: Engine) {
    let (mut scene, company) = at_rest(engine, 130).await;
    stop_service(&mut scene).await;
    change_everything(&scene, &company, "Meanwhile");
    scene.start_service().await;
    scene.settle().await;
    scene.stop().await;
}

async fn half_of_all_webhooks_may_be_lost(engine: Engine) {
    let (scene, company) = at_rest(engine, 130).await;
    scene.emulator.set_webhook_chaos(WebhookChaos { drop: 0.5, ..WebhookChaos::default() }).unwrap();
    scene.emulator.register_endpoint(&scene.webhook(), SECRET);
    change_everything(&scene, &company, "Half");
    scene.settle().await;
    let poller = async || {
        let db = scene.service().db();
        db.events(&EventFilter::default(), Direction::OldestFirst, None, 10_000).await.unwrap().len()
    };
    let emitted = scene.emulator.events().len();
    assert!(wait_until(PATIENCE, async || poller().await == emitted).await, "each event is in the inbox once");
    scene.stop().await;
}

async fn a_cursor_that_is_refused_or_starts_over_is_recovered_from(engine: Engine) {
    let (mut scene, company) = at_rest(engine, 130).await;
    for manner in ["refuse", "restart"] {
        let settings = format!("{}/emulator/settings", scene.emulator.url());
        control(&scene, reqwest::Client::new().patch(settings).json(&json!({"unknown_cursor": manner}))).await;
        let db = stop_service(&mut scene).await;
        // As if the process had ended within a round, and the API had forgotten the round's place since.
        let mut state = db.poller().await.unwrap().unwrap();
        let reached = Utc::now() + TimeDelta::minutes(10);
        state.round = Some(Round { began_at: reached, cursor: "event_unknown".to_owned(), reached });
        db.save_poller(&state).await.unwrap();
        drop(db);
        company.users.iter().skip(10).for_each(|user| retitle(&scene, user, manner));
        scene.start_service().await;
        scene.settle().await;
        let whole = async || {
            let state = scene.service().db().poller().await.unwrap().unwrap();
            state.round.is_none() && state.last_error.is_none() && state.polled_at.is_some()
        };
        assert!(wait_until(PATIENCE, whole).await, "{manner}: no round ends");
    }
    scene.stop().await;
}

async fn the_first_start_counts_even_if_the_api_is_down(engine: Engine) {
    let mut scene = Scene::set(engine).await;
    scene.set_variable("EVENTS_POLL_INTERVAL", "50ms");
    scene.emulator.set_fault(ApiFault::Status(503));
    scene.start_service().await;
    let started = scene.service().db().poller().await.unwrap().unwrap();
    assert!(wait_until(PATIENCE, async || health(&scene).await["events_poller"]["error"].is_string()).await);
    let company = found(&scene, 20);
    stop_service(&mut scene).await;
    retitle(&scene, &company.users[0], "Before the API was ever reached");
    scene.start_service().await;
    scene.emulator.set_fault(ApiFault::None);
    let db = scene.service().db();
    let all = async || db.event_outcomes().await.unwrap().len() == scene.emulator.events().len();
    assert!(wait_until(PATIENCE, all).await, "events since the first start are missing");
    scene.settle().await;
    let state = db.poller().await.unwrap().unwrap();
    assert_eq!(state.started_at, started.started_at, "a later start changes nothing");
    scene.stop().await;
}

async fn what_is_older_than_the_api_keeps_leads_to_a_scan(engine: Engine) {
    let mut scene = Scene::set(engine).await;
    let company = found(&scene, 20);
    scene.set_variable("EVENTS_POLL_INTERVAL", "50ms");
    scene.start_service_with(Clock::from_fn(|| Utc::now() - TimeDelta::days(100))).await;
    scene.settle().await;
    stop_service(&mut scene).await;
    change_everything(&scene, &company, "Long ago");
    let second = scene.emulator.create_directory(NewDirectory::named("Second"));
    scene.emulator.create_user(&second, NewUser::invented(1, "b.example")).unwrap();
    control(&scene, reqwest::Client::new().post(format!("{}/emulator/events/prune", scene.emulator.url()))).await;
    scene.start_service().await;
    become_equal(&scene).await;
    // And goes on by events.
    retitle(&scene, &company.users[5], "Today");
    become_equal(&scene).await;
    scene.stop().await;
}
