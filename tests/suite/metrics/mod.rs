//! `GET /metrics`: a small story is counted, the text keeps Prometheus's rules and names nobody, and the documents name
//! only what is there.

mod documents;
mod scrape;

use chrono::Utc;
use directory_mirror::model::DirectoryId;
use workos_emulator::{ApiFault, Deactivation, NewDirectory, NewUser, UserChange};

use self::scrape::Scrape;
use crate::support::{Engine, PATIENCE, SECRET, Scene, on_both_engines, wait_until};

on_both_engines!(a_story_is_counted, nobody_is_named, a_reconcile_counts_what_no_mark_stood_for,);

const TOKEN: &str = "metrics-token";

async fn scrape(scene: &Scene) -> Scrape {
    let response = reqwest::Client::new().get(scene.url("/metrics")).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    Scrape::parse(response.text().await.unwrap())
}

async fn set(engine: Engine) -> Scene {
    let mut scene = Scene::set(engine).await;
    scene.set_variable("HEALTH_TOKEN", TOKEN);
    scene
}

async fn start(scene: &mut Scene) {
    scene.start_service().await;
    scene.emulator.register_endpoint(&scene.webhook(), SECRET);
}

struct Company {
    directory: String,
    groups: Vec<String>,
    users: Vec<String>,
}

fn found(scene: &Scene) -> Company {
    let emulator = &scene.emulator;
    let directory = emulator.create_directory(NewDirectory::named("Quillfeather Holding"));
    let groups = ["Wombat Keepers", "Zeppelin Pilots"].map(|name| emulator.create_group(&directory, name).unwrap());
    let person = |first, last| NewUser::named(first, last, "quillfeather.example");
    let people = [("Xanthippe", "Oberholtzer"), ("Thaddeus", "Vandersloot"), ("Philomena", "Quarrington")];
    let users = people.map(|(first, last)| emulator.create_user(&directory, person(first, last)).unwrap());
    emulator.add_member(&groups[0], &users[0]).unwrap();
    emulator.add_member(&groups[1], &users[1]).unwrap();
    Company { directory, groups: groups.into(), users: users.into() }
}

fn new_title(title: &str) -> UserChange {
    UserChange { job_title: Some(title.to_owned()), ..UserChange::default() }
}

async fn post(scene: &Scene, body: &str, signature: Option<&str>) -> u16 {
    let request = reqwest::Client::new().post(scene.webhook()).body(body.to_owned());
    let request = signature.into_iter().fold(request, |request, value| request.header("workos-signature", value));
    request.send().await.unwrap().status().as_u16()
}

async fn a_story_is_counted(engine: Engine) {
    let mut scene = set(engine).await;
    scene.set_variable("EVENTS_POLL_INTERVAL", "1");
    let company = found(&scene);
    start(&mut scene).await;
    scene.settle().await;
    assert_eq!(reqwest::get(scene.url("/metrics")).await.unwrap().status().as_u16(), 401, "the token is asked for");
    // Eight that were told before anybody listened: the directory, two groups, three users, two memberships.
    let polled = async || scrape(&scene).await.get("inbox_stored_events_total{source=\"events_api\"}") >= 8.0;
    assert!(wait_until(PATIENCE, polled).await, "{}", scrape(&scene).await.text);
    scene.settle().await;
    let before = scrape(&scene).await;
    for check in ["database", "migrations", "inbox", "workers"] {
        assert_eq!(before.get(&format!("check{{check=\"{check}\"}}")), 1.0);
    }
    assert_eq!(before.get("directories{status=\"synced\"}"), 1.0);
    assert!(before.get("api_requests_total{path=\"/directories\",status=\"200\"}") >= 1.0);
    assert!(before.get("refresh_seconds_count{step=\"scan_page\"}") >= 1.0);
    assert!(before.get("api_last_success_timestamp_seconds") > 1e9);

    outage(&scene, &company.users[0]).await;
    scene.emulator.deactivate_user(&company.users[1], Deactivation::DeletedGone).unwrap();
    scene.settle().await;

    refusals(&scene).await;
    let after = scrape(&scene).await;
    assert!(after.get("webhooks_acknowledged_total") >= 3.0, "an update, a removal and what is no envelope");
    assert_eq!(after.get("webhook_seconds_count"), after.get("webhooks_acknowledged_total") + 5.0);
    assert_eq!(after.get("inbox_dead_events"), 1.0);
    assert_eq!(after.get("inbox_pending_events"), 0.0);
    assert_eq!(after.get("marks{kind=\"user\"}"), 1.0, "who left just after being made is looked at once more");
    let applied = after.get("folded_events_total{status=\"applied\"}");
    assert!(applied >= 2.0 && after.get("hint_visible_seconds_count") == applied, "{}", after.text);
    assert!(after.get("revocation_visible_seconds_count") >= 1.0);
    assert!(after.get("revocation_visible_seconds_count") < applied);
    let verified = after.get("hint_verified_seconds_count") - before.get("hint_verified_seconds_count");
    let cleared = after.get("verified_marks_total{kind=\"user\"}") - before.get("verified_marks_total{kind=\"user\"}");
    assert!(verified >= 2.0 && cleared >= 2.0, "{}", after.text);
    // The first mark waited through the whole outage, which held up at least one 429's pause of a second.
    assert!(after.get("hint_verified_seconds_sum") - before.get("hint_verified_seconds_sum") > 1.0);
    let refused = |path: &str| after.get(&format!("api_requests_total{{path=\"{path}\",status=\"429\"}}"));
    assert!(refused("/directory_users/{id}") + refused("/events") >= 1.0);
    assert!(after.get("events_poller_last_poll_timestamp_seconds") > 1e9);
    let polls = async || scrape(&scene).await.get("events_poller_failing") == 0.0;
    assert!(wait_until(PATIENCE, polls).await, "the poller goes on after the outage");
    if matches!(engine, Engine::Postgres) {
        assert_eq!(after.get("workers"), 1.0);
    }
    let directory = DirectoryId::from_stored(company.directory.clone());
    assert!(scene.service().db().set_enabled(&directory, false).await.unwrap());
    assert_eq!(scrape(&scene).await.get("marks{kind=\"user\"}"), 0.0, "nobody waits for what was set aside");
    scene.stop().await;
}

/// The API fails in three ways while an event comes: it is visible all the same, and its mark waits.
async fn outage(scene: &Scene, user: &str) {
    scene.emulator.set_fault(ApiFault::Status(503));
    scene.emulator.update_user(user, new_title("Keeper")).unwrap();
    let waits = async || {
        let now = scrape(scene).await;
        now.get("api_requests_total{path=\"/directory_users/{id}\",status=\"5xx\"}") >= 1.0
            && now.get("marks{kind=\"user\"}") == 1.0
            && now.get("mark_oldest_age_seconds{kind=\"user\"}") > 0.0
    };
    assert!(wait_until(PATIENCE, waits).await);
    scene.emulator.set_fault(ApiFault::RateLimited);
    // The directory, or the key if the poller is refused first.
    let paused = async || {
        let now = scrape(scene).await;
        ["directory", "key"].iter().any(|scope| now.get(&format!("api_pauses_total{{scope=\"{scope}\"}}")) >= 1.0)
    };
    assert!(wait_until(PATIENCE, paused).await);
    scene.emulator.set_fault(ApiFault::Status(401));
    let refused = "api_requests_total{path=\"/directory_users/{id}\",status=\"401\"}";
    assert!(wait_until(PATIENCE, async || scrape(scene).await.get(refused) >= 1.0).await);
    scene.emulator.set_fault(ApiFault::None);
}

/// Five webhooks that are refused, and one that is taken though it is no envelope.
async fn refusals(scene: &Scene) {
    let now = Utc::now().timestamp_millis();
    let sign = |secret: &str, at: i64, body: &str| Some(workos_emulator::sign(secret, at, body.as_bytes()));
    let (thin, large, dead) = ("{}", " ".repeat(100_001), "no envelope");
    for (body, signature, status, cause) in [
        (thin, None, 401, "signature_missing"),
        (thin, Some("t=1, v1=00".to_owned()), 401, "signature_malformed"),
        (thin, sign("another", now, thin), 401, "signature_mismatch"),
        (thin, sign(SECRET, now - 600_000, thin), 401, "signature_stale"),
        (&large, sign(SECRET, now, &large), 413, "body_too_large"),
    ] {
        assert_eq!(post(scene, body, signature.as_deref()).await, status, "{cause}");
        assert_eq!(scrape(scene).await.get(&format!("webhooks_refused_total{{cause=\"{cause}\"}}")), 1.0, "{cause}");
    }
    assert_eq!(post(scene, dead, sign(SECRET, now, dead).as_deref()).await, 200);
}

async fn nobody_is_named(engine: Engine) {
    let mut scene = set(engine).await;
    start(&mut scene).await;
    let company = found(&scene);
    scene.settle().await;
    scene.emulator.set_fault(ApiFault::Status(500));
    scene.emulator.deactivate_user(&company.users[0], Deactivation::DeletedKept).unwrap();
    let marked = async || scrape(&scene).await.get("marks{kind=\"user\"}") >= 1.0;
    assert!(wait_until(PATIENCE, marked).await);
    let text = scrape(&scene).await.text.to_lowercase();
    let mut words: Vec<String> = ["quillfeather", "wombat", "zeppelin", "xanthippe", "oberholtzer", "vandersloot", "@"]
        .map(str::to_owned)
        .into();
    words.push("directory_user_".to_owned());
    words.extend([&company.directory, &company.groups[0], &company.users[0]].map(|id| id.to_lowercase()));
    for word in words {
        assert!(!text.contains(&word), "{word} occurs in\n{text}");
    }
    scene.emulator.set_fault(ApiFault::None);
    scene.stop().await;
}

async fn a_reconcile_counts_what_no_mark_stood_for(engine: Engine) {
    let mut scene = set(engine).await;
    let company = found(&scene);
    scene.start_service().await;
    scene.settle().await;
    let drift = |scrape: &Scrape| {
        ["missing", "extra", "different"].map(|kind| scrape.get(&format!("reconcile_drift_total{{kind=\"{kind}\"}}")))
    };
    let first = scrape(&scene).await;
    assert_eq!(drift(&first), [0.0; 3], "the first scan is no drift");
    assert_eq!(first.get("scans_total{outcome=\"finished\"}"), 1.0);
    scene.emulator.change(|world| {
        world.silently(|world| {
            world.update_user(&company.users[0], new_title("Pilot")).unwrap();
            world.delete_user(&company.users[2]).unwrap();
            world.create_user(&company.directory, NewUser::invented(1, "quillfeather.example")).unwrap();
        });
    });
    let db = scene.service().db();
    assert_eq!(db.request_scan(None, Utc::now()).await.unwrap(), 1);
    let finished = async || scrape(&scene).await.get("scans_total{outcome=\"finished\"}") >= 2.0;
    assert!(wait_until(PATIENCE, finished).await);
    scene.settle().await;
    assert_eq!(drift(&scrape(&scene).await), [1.0; 3]);
    // In step again: the next one finds nothing.
    assert_eq!(db.request_scan(None, Utc::now()).await.unwrap(), 1);
    let finished = async || scrape(&scene).await.get("scans_total{outcome=\"finished\"}") >= 3.0;
    assert!(wait_until(PATIENCE, finished).await);
    assert_eq!(drift(&scrape(&scene).await), [1.0; 3]);
    scene.stop().await;
}
