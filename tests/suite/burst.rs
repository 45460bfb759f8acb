//! Every user of a directory changes at once, under the limits of the API. `BURST_USERS` and `BURST_USERS_PER_SECOND`
//! (the limit of `/directory_users`, at the API and for us) make it larger and as slow as it really is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use directory_mirror::cli::compare::differences;
use serde_json::Value;
use tokio::sync::Mutex;
use workos_emulator::{Amount, BulkAction, BulkChange, BulkSpec, EmittedEvent, Emulator, NewDirectory};

use crate::outage::number;
use crate::served::{Served, Tables, database};
use crate::support::{Engine, SECRET, Scene, emulator_options, on_both_engines, wait_until};

on_both_engines!(a_burst_is_shown_at_once_and_verified_by_pages);

/// Requests that post webhooks at once.
const SENDERS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(600);

async fn a_burst_is_shown_at_once_and_verified_by_pages(engine: Engine) {
    let (users, per_second) = (number("BURST_USERS", 500), number("BURST_USERS_PER_SECOND", 40));
    let mut scene = Scene::set(engine).await;
    let limit = u32::try_from(per_second).unwrap();
    let options = workos_emulator::Options {
        directory_users_per_second: limit,
        requests_per_minute: limit * 1500,
        ..emulator_options()
    };
    scene.emulator.stop().await;
    scene.emulator = Emulator::start(options).await.unwrap();
    let url = scene.emulator.url().to_owned();
    scene.set_variable("WORKOS_API_BASE_URL", &url);
    scene.set_variable("WORKOS_API_REQUESTS_PER_MINUTE", &(limit * 1500).to_string());
    scene.set_variable("WORKOS_DIRECTORY_USERS_PER_SECOND", &limit.to_string());
    let directory = scene.emulator.create_directory(NewDirectory::named("Large"));
    let spec = BulkSpec { users: Amount::Number(users), silent: true, ..BulkSpec::default() };
    scene.emulator.bulk_create(&directory, spec).unwrap();
    let served = Served::start(&scene).await;
    let mut tables = Tables::open(&scene, engine).await;
    let synced = async || tables.number("(SELECT count(*) FROM directories WHERE sync_status = 'synced')").await > 0;
    assert!(wait_until(PATIENCE, synced).await, "the first sync does not end");

    let known = scene.emulator.events().len();
    let change = BulkChange { action: BulkAction::Update, share: 1.0, seed: 0, silent: false };
    scene.emulator.bulk_change(&directory, &change).unwrap();
    let events = in_no_order(scene.emulator.events().split_off(known));
    assert_eq!(events.len(), users);
    scene.emulator.reset_request_counts();
    let processor = served.processor_seconds();
    let started = Instant::now();
    let posting = tokio::spawn(post(served.webhook(), events));
    let shown = watch(&mut tables, users).await;
    let acknowledged = posting.await.unwrap();
    let all_acknowledged = *acknowledged.values().max().unwrap();
    let verified = async || {
        let open = "(SELECT count(*) FROM marks) + (SELECT count(*) FROM inbox_events WHERE status = 'pending') \
                    + (SELECT count(*) FROM users WHERE verified_at IS NULL)";
        tables.number(open).await == 0
    };
    assert!(wait_until(PATIENCE, verified).await, "the burst is not verified");
    let verified = started.elapsed();
    let mirror = database(&scene).copy_mirror().await.unwrap();
    assert_eq!(differences(&mirror, &scene.emulator.truth()), Vec::<String>::new());

    let mut waits: Vec<Duration> =
        acknowledged.iter().map(|(user, at)| shown[user].saturating_duration_since(*at)).collect();
    waits.sort();
    let at = |permille: usize| waits[(waits.len() - 1) * permille / 1000];
    let counts = scene.emulator.request_counts();
    let requests: u64 = counts.values().sum();
    let pages = users.div_ceil(100);
    let fewest = Duration::from_secs_f64(pages as f64 / per_second as f64);
    println!(
        "{engine:?}: {users} changes acknowledged within {:?}; shown after p50 {:?}, p99 {:?}, longest {:?}; verified \
         within {verified:?}, {:.2} of the {fewest:?} for {pages} pages at {per_second}/s; {requests} requests; {:.1} s of \
         processor; refused: {:?}",
        all_acknowledged - started,
        at(500),
        at(990),
        at(1000),
        verified.as_secs_f64() / fewest.as_secs_f64(),
        served.processor_seconds().zip(processor).map_or(f64::NAN, |(after, before)| after - before),
        scene.emulator.request_counts_by_status(),
    );
    assert!(requests as usize * 4 <= users, "{requests} requests for {users} users: {counts:?}");
    drop(served);
    scene.stop().await;
}

/// In an order that has nothing to do with that of the list, the same in each run.
fn in_no_order(mut events: Vec<EmittedEvent>) -> Vec<EmittedEvent> {
    let mut random: u64 = 1;
    for place in (1..events.len()).rev() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        events.swap(place, (random >> 33) as usize % (place + 1));
    }
    events
}

/// Posts the events; answers when each user's was acknowledged.
async fn post(webhook: String, events: Vec<EmittedEvent>) -> HashMap<String, Instant> {
    let client = reqwest::Client::new();
    let queue = Arc::new(Mutex::new(events.into_iter()));
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (client, queue, webhook) = (client.clone(), Arc::clone(&queue), webhook.clone());
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                loop {
                    let Some(event) = queue.lock().await.next() else { return acknowledged };
                    let signature = workos_emulator::sign(SECRET, Utc::now().timestamp_millis(), &event.body);
                    let request = client.post(&webhook).body(event.body.clone()).header("workos-signature", signature);
                    assert!(request.send().await.unwrap().status().is_success());
                    let body: Value = serde_json::from_slice(&event.body).unwrap();
                    acknowledged.push((body["data"]["id"].as_str().unwrap().to_owned(), Instant::now()));
                }
            })
        })
        .collect();
    let mut acknowledged = HashMap::new();
    for sender in senders {
        acknowledged.extend(sender.await.unwrap());
    }
    acknowledged
}

/// Looks at the table again and again; answers when each user's change was first seen there.
async fn watch(tables: &mut Tables, users: usize) -> HashMap<String, Instant> {
    let changed = "SELECT directory_user_id AS text FROM users WHERE job_title LIKE 'Senior %'";
    let mut shown = HashMap::new();
    let started = Instant::now();
    while shown.len() < users {
        assert!(started.elapsed() < PATIENCE, "changes are not shown");
        // Not so often that the looking itself is the load.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let found = tables.texts(changed).await;
        let now = Instant::now();
        for user in found {
            shown.entry(user).or_insert(now);
        }
    }
    shown
}
