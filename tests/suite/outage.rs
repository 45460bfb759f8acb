//! The API is down while events arrive. `OUTAGE_SECONDS` and `OUTAGE_EVENTS` make it longer.

use std::time::Duration;

use workos_emulator::{ApiFault, DeliveryOutcome, NewDirectory, NewUser, UserChange};

use crate::support::{Engine, Scene, on_both_engines};

on_both_engines!(events_are_acknowledged_and_converge_afterwards);

pub fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

async fn events_are_acknowledged_and_converge_afterwards(engine: Engine) {
    let scene = Scene::start(engine).await;
    let directory = scene.emulator.create_directory(NewDirectory::named("Acme"));
    let users: Vec<String> = (0..50)
        .map(|number| {
            scene.emulator.create_user(&directory, NewUser::named("Ada", &number.to_string(), "a.example")).unwrap()
        })
        .collect();
    scene.settle().await;
    let before = scene.emulator.deliveries().len();
    scene.emulator.set_fault(ApiFault::Status(503));
    let (seconds, events) = (number("OUTAGE_SECONDS", 1), number("OUTAGE_EVENTS", 200));
    let pause = Duration::from_secs_f64(seconds as f64 / events as f64);
    // The pace of the load, not a wait for something to happen.
    let mut pace = tokio::time::interval(pause.max(Duration::from_millis(1)));
    for event in 0..events {
        pace.tick().await;
        let change = UserChange { job_title: Some(format!("Title {event}")), ..UserChange::default() };
        scene.emulator.update_user(&users[event % users.len()], change).unwrap();
    }
    assert!(scene.emulator.wait_for_deliveries(Duration::from_secs(30)).await);
    let deliveries = scene.emulator.deliveries();
    let outage = &deliveries[before..];
    assert!(outage.iter().all(|delivery| delivery.outcome == DeliveryOutcome::Acknowledged && delivery.attempts == 1));
    let mut latencies: Vec<Duration> = outage.iter().filter_map(|delivery| delivery.acknowledged_latency).collect();
    latencies.sort();
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100];
    println!(
        "{engine:?}: {} acknowledged during {seconds} s without API: p50 {:?}, p99 {:?}",
        latencies.len(),
        at(50),
        at(99)
    );
    scene.emulator.set_fault(ApiFault::None);
    let recovered = std::time::Instant::now();
    scene.settle().await;
    println!("{engine:?}: equal {:?} after the API was back", recovered.elapsed());
    scene.stop().await;
}
