//! `fixtures/`, played to the service without an API key: what it answers, and which rows are there in the end.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use chrono::{DateTime, Utc};
use directory_mirror::clock::Clock;
use directory_mirror::db::Db;

use crate::support::{Engine, PATIENCE, SECRET, Scene, on_both_engines, root, wait_until};

on_both_engines!(
    the_story_ends_as_told,
    the_awkward_ones_end_as_told,
    the_order_of_the_fixtures_does_not_matter,
    what_comes_after_its_directorys_deletion_revives_nobody,
);

struct Fixture {
    name: String,
    body: Vec<u8>,
}

/// The files of a folder of fixtures, in the order of their names.
fn fixtures(folder: &str) -> Vec<Fixture> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let read = |file: PathBuf| Fixture {
        name: file.file_stem().unwrap().to_string_lossy().into_owned(),
        body: std::fs::read(&file).unwrap(),
    };
    files.into_iter().map(read).collect()
}

/// The day after the last fixture. On the machine's own clock the fixtures grow older than the inbox remembers.
fn clock() -> Clock {
    let day: DateTime<Utc> = "2026-02-10T00:00:00Z".parse().unwrap();
    let started = Instant::now();
    Clock::from_fn(move || day + started.elapsed())
}

async fn start(engine: Engine, clock: &Clock) -> Scene {
    let mut scene = Scene::set(engine).await;
    scene.variables.retain(|(name, _)| !matches!(*name, "WORKOS_API_KEY" | "WEBHOOK_MAX_BODY_BYTES"));
    scene.start_service_with(clock.clone()).await;
    scene
}

/// Posts each file, one after the other, and waits until all are folded.
async fn play(scene: &Scene, clock: &Clock, fixtures: &[Fixture]) {
    let client = reqwest::Client::new();
    for fixture in fixtures {
        let signature = workos_emulator::sign(SECRET, clock.now().timestamp_millis(), &fixture.body);
        let request = client.post(scene.webhook()).header("WorkOS-Signature", signature).body(fixture.body.clone());
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200, "{}", fixture.name);
    }
    let db = scene.service().db();
    let folded = wait_until(PATIENCE, async || db.backlog().await.unwrap().pending == 0).await;
    assert!(folded, "events are left: {:?}", db.backlog().await);
}

/// The rows, one a line, by names: what a person would say of them.
async fn rows(db: &Db) -> String {
    let mirror = db.copy_mirror().await.unwrap();
    let mut lines = Vec::new();
    let gone = |at: Option<DateTime<Utc>>| if at.is_some() { ", gone" } else { "" };
    for row in &mirror.directories {
        // A directory of which only its records were heard has no name.
        let name = row.record.name.as_deref().unwrap_or("?");
        let domains = row.record.domains.iter().flatten().map(|domain| format!(", {domain}")).collect::<String>();
        lines.push(format!("directory {name}: {}{domains}{}", row.record.state, gone(row.deleted_at)));
    }
    for row in &mirror.users {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        let record = &row.record;
        lines.push(format!(
            "user {} <{}>: {} ({}), {}, {}",
            text(&record.display_name),
            text(&record.email),
            row.state.as_str(),
            record.state,
            text(&record.job_title),
            text(&record.role)
        ));
    }
    for row in &mirror.groups {
        lines.push(format!("group {}{}", row.record.name, gone(row.deleted_at)));
    }
    for (group, user) in &mirror.members {
        let group = mirror.groups.iter().find(|row| row.record.id.as_str() == group).unwrap();
        let user = mirror.users.iter().find(|row| row.record.id.as_str() == user).unwrap();
        let name = user.record.display_name.as_deref().unwrap_or("-");
        lines.push(format!("member {} {name} ({})", group.record.name, user.state.as_str()));
    }
    lines.sort();
    lines.join("\n")
}

/// The events that were not folded, by the names of their files.
async fn outcomes(db: &Db, fixtures: &[Fixture], status: &str) -> BTreeSet<String> {
    let outcomes = db.event_outcomes().await.unwrap();
    let name_of = |id: &str| {
        let holds = |fixture: &&Fixture| {
            serde_json::from_slice::<serde_json::Value>(&fixture.body).unwrap()["id"].as_str() == Some(id)
        };
        fixtures.iter().find(holds).unwrap().name.clone()
    };
    outcomes.iter().filter(|(_, found, _)| found == status).map(|(id, ..)| name_of(id)).collect()
}

async fn the_story_ends_as_told(engine: Engine) {
    let clock = clock();
    let scene = start(engine, &clock).await;
    let fixtures = fixtures("fixtures");
    play(&scene, &clock, &fixtures).await;
    let db = scene.service().db();
    assert_eq!(rows(db).await, STORY.trim());
    for status in ["dead", "ignored"] {
        assert_eq!(outcomes(db, &fixtures, status).await, BTreeSet::new());
    }
    // Once more, and nothing changes: each event is known by its id.
    play(&scene, &clock, &fixtures).await;
    assert_eq!(rows(db).await, STORY.trim());
    assert_eq!(db.event_outcomes().await.unwrap().len(), fixtures.len());
    scene.stop().await;
}

async fn the_awkward_ones_end_as_told(engine: Engine) {
    let clock = clock();
    let scene = start(engine, &clock).await;
    let fixtures = fixtures("fixtures/awkward");
    play(&scene, &clock, &fixtures).await;
    let db = scene.service().db();
    assert_eq!(rows(db).await, AWKWARD.trim());
    let mirror = db.copy_mirror().await.unwrap();
    let raw = |name: &str| {
        let holds = |email: &String| email.starts_with(name);
        let user = mirror.users.iter().find(|row| row.record.email.as_ref().is_some_and(holds));
        user.unwrap().record.raw_attributes.to_string()
    };
    assert_eq!(raw("nula.byte"), "{\"no\u{FFFD}te\":\"a\u{FFFD}b\"}");
    assert!(raw("large.record").len() > 2_500_000);
    assert_eq!(outcomes(db, &fixtures, "dead").await, BTreeSet::new());
    let ignored = ["10-unknown-event-type", "30-another-kind-authkit-user", "31-another-kind-connection"];
    assert_eq!(outcomes(db, &fixtures, "ignored").await, ignored.map(str::to_owned).into());
    scene.stop().await;
}

/// Every fixture three times, in the order of a seed: some removals come before what they remove.
async fn the_order_of_the_fixtures_does_not_matter(engine: Engine) {
    let clock = clock();
    for (folder, told) in [("fixtures", STORY), ("fixtures/awkward", AWKWARD)] {
        for seed in 1..4u64 {
            let scene = start(engine, &clock).await;
            let mut shuffled: Vec<Fixture> = (0..3).flat_map(|_| fixtures(folder)).collect();
            let mut state = seed;
            shuffled.sort_by_cached_key(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state >> 32
            });
            play(&scene, &clock, &shuffled).await;
            assert_eq!(rows(scene.service().db()).await, told.trim(), "{folder} in the order of seed {seed}");
            scene.stop().await;
        }
    }
}

/// A membership shows two people before their directory is deleted; what made them arrives afterwards, each by itself.
async fn what_comes_after_its_directorys_deletion_revives_nobody(engine: Engine) {
    let clock = clock();
    let scene = start(engine, &clock).await;
    let number = |fixture: &Fixture| fixture.name[..2].parse::<u32>().unwrap();
    let mut old_style = fixtures("fixtures/awkward");
    old_style.retain(|fixture| number(fixture) >= 36);
    old_style.sort_by_key(|fixture| match number(fixture) {
        40 | 41 => 0,
        45 => 1,
        later => later,
    });
    for fixture in old_style {
        play(&scene, &clock, &[fixture]).await;
    }
    let rows = rows(scene.service().db()).await;
    for person in ["Opal Alder", "Otto Birch"] {
        let row = rows.lines().find(|row| row.contains(person)).unwrap_or_else(|| panic!("{rows}"));
        assert!(row.contains(": inactive (active)"), "{rows}");
    }
    scene.stop().await;
}

const STORY: &str = "
directory Heron & Finch pilot: deleting, pilot.heronfinch.example, gone
directory Heron & Finch: linked, heronfinch.example
group Interns, gone
group Research
group Sales
member Research Ada Okafor (active)
member Research Esra Brandt (active)
member Research Finn Moreau (active)
member Sales Bruno Lindqvist (active)
member Sales Chiyo Tanabe (active)
member Sales Dmitri Vale (active)
member Sales Dmitri Vale (inactive)
user Ada Okafor <ada.okafor@heronfinch.example>: active (active), Head of Engineering, admin
user Bruno Lindqvist <bruno.lindqvist@heronfinch.example>: active (active), Pulp Chemist, member
user Chiyo Tanabe <chiyo.tanabe@heronfinch.example>: active (active), Account Manager, member
user Dmitri Vale <dmitri.vale@heronfinch.example>: active (active), Key Account Manager, member
user Dmitri Vale <dmitri.vale@heronfinch.example>: inactive (active), Account Manager, member
user Esra Brandt <esra.brandt@heronfinch.example>: active (active), Process Engineer, member
user Finn Moreau <finn.moreau@heronfinch.example>: active (active), Intern, member
user Gita Rao <gita.rao@pilot.heronfinch.example>: inactive (active), Consultant, member
";

const AWKWARD: &str = "
directory ?: linked
directory Api Vocabulary: linked, linked.example
directory Novel Provider: hibernating, novel.example
directory Old Style: deleting, oldstyle.example, gone
directory Webhook Vocabulary: linked, active.example, second.active.example
group Clerks, gone
group Early Birds
group Ops\u{FFFD}
member Early Birds Early Bird (active)
user - <->: active (active), -, -
user - <abe.sent@awkward.example>: active (active), -, -
user Early Bird <early.bird@awkward.example>: active (active), Tester, member
user Future Stamp <future.stamp@awkward.example>: active (active), Tester, member
user Kim Post <post@awkward.example>: active (active), Tester, member
user Large Record <large.record@awkward.example>: active (active), Tester, member
user Mini Fied <mini.fied@awkward.example>: active (active), Tester, member
user Nu\u{FFFD}la Byte <nula.byte@awkward.example>: active (active), Tester, member
user Only Roles <only.roles@awkward.example>: active (active), Tester, auditor
user Opal Alder <opal.alder@oldstyle.example>: inactive (active), Clerk, member
user Otto Birch <otto.birch@oldstyle.example>: inactive (active), Clerk, member
user Ray Turner <ray.turner@awkward.example>: active (active), Tester, member
user Ray Turner <ray.turner@awkward.example>: inactive (active), Tester, member
user Rolf Roles <rolf.roles@awkward.example>: active (active), Tester, billing
user Sam Post <post@awkward.example>: inactive (inactive), Tester, member
user Sasha Batical <sasha.batical@awkward.example>: inactive (on_sabbatical), Tester, member
user Sue Spended <sue.spended@awkward.example>: inactive (suspended), Tester, member
user Twin Stamp <twin.stamp@awkward.example>: active (active), Second Title, member
user Una Known <una.known@awkward.example>: active (active), Tester, member
user Whit Space <whit.space@awkward.example>: active (active), Tester, member
user Zoe Noone <zoe.noone@awkward.example>: active (active), Tester, member
user Zoë Ünïcode 🐦 <zoe@awkward.example>: active (active), Tester, member
";
