//! `directory-mirror replay`, as a process, against a running service.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use chrono::{DateTime, Utc};
use directory_mirror::clock::Clock;
use directory_mirror::model::UserState;
use serde_json::json;

use crate::support::{Engine, PATIENCE, SECRET, Scene, on_both_engines, root, wait_until};

on_both_engines!(
    plays_the_fixtures_and_plays_them_again,
    the_order_and_copies_do_not_matter,
    posts_exported_bodies_as_they_came,
    refusals_are_told_and_counted
);

/// Runs the command where no `.env` is; all that it knows of the server is what `variables` and `arguments` say.
fn replay(arguments: &[&str], variables: &[(&str, &str)], input: &[u8]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_directory-mirror"));
    command.arg("replay").args(arguments).env_clear().current_dir(folder.path()).envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    process.stdin.take().unwrap().write_all(input).unwrap();
    process.wait_with_output().unwrap()
}

/// Plays to the scene's service; answers the exit status and the lines of standard output.
fn play(scene: &Scene, arguments: &[&str], input: &[u8]) -> (Option<i32>, Vec<String>) {
    let address = scene.service().address().to_string();
    let output = replay(arguments, &[("BIND_ADDR", &address), ("WORKOS_WEBHOOK_SECRET", SECRET)], input);
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text.lines().map(str::to_owned).collect())
}

fn fixtures() -> String {
    root().join("fixtures").to_string_lossy().into_owned()
}

fn event(id: &str) -> String {
    json!({"id": id, "event": "dsync.token.created", "data": {"id": "t", "directory_id": "d"}}).to_string()
}

fn count(lines: &[String], end: &str) -> usize {
    lines.iter().filter(|line| line.ends_with(end)).count()
}

/// A service without an API key that takes bodies of any fixture's size.
async fn start(engine: Engine, clock: Clock) -> Scene {
    let mut scene = Scene::set(engine).await;
    scene.variables.retain(|(name, _)| !matches!(*name, "WORKOS_API_KEY" | "WEBHOOK_MAX_BODY_BYTES"));
    scene.variables.push(("WEBHOOK_TOLERANCE", "100000d".to_owned()));
    scene.start_service_with(clock).await;
    scene
}

async fn events_in(scene: &Scene) -> usize {
    scene.service().db().event_outcomes().await.unwrap().len()
}

async fn plays_the_fixtures_and_plays_them_again(engine: Engine) {
    let scene = start(engine, Clock::system()).await;
    let (status, lines) = play(&scene, &[&fixtures()], b"");
    let total = count(&lines, "  accepted");
    assert_eq!(status, Some(0), "{lines:#?}");
    assert!(total > 70 && lines.len() == total + 1, "{lines:#?}");
    let first = format!(" 1/{total}  dsync.activated           event_01KERQ5P3JER59RB7MC75BVRBN  {}/01-", fixtures());
    assert!(lines[0].starts_with(&first), "{}", lines[0]);
    assert!(lines[total].contains(&format!("{total} accepted, 0 refused")), "{}", lines[total]);
    assert_eq!(events_in(&scene).await, total);
    // The server has them all: it accepts them, and takes none a second time.
    let (status, lines) = play(&scene, &[&fixtures()], b"");
    assert_eq!((status, count(&lines, "  accepted")), (Some(0), total));
    assert_eq!(events_in(&scene).await, total);
    // Under new ids it takes each once more; the copies share theirs.
    let (status, lines) = play(&scene, &["--fresh-ids", "--duplicate=2", "--shuffle", &fixtures()], b"");
    assert_eq!(status, Some(0));
    assert_eq!((count(&lines, "  accepted"), count(&lines, "  duplicate")), (total, total));
    assert_eq!(events_in(&scene).await, 2 * total);
    scene.stop().await;
}

/// What is live, by ids. Of what is gone, the order decides how much is known as long as only snapshots count.
async fn live_rows(scene: &Scene) -> BTreeSet<String> {
    let db = scene.service().db();
    let folded = wait_until(PATIENCE, async || db.backlog().await.unwrap().pending == 0).await;
    assert!(folded, "events are left: {:?}", db.backlog().await);
    let mirror = db.copy_mirror().await.unwrap();
    let directories = mirror.directories.iter().filter(|row| row.deleted_at.is_none());
    let users = mirror.users.iter().filter(|row| row.state == UserState::Active);
    let groups = mirror.groups.iter().filter(|row| row.deleted_at.is_none());
    let mut rows: BTreeSet<String> = directories.map(|row| format!("{} {}", row.record.id, row.record.state)).collect();
    rows.extend(users.map(|row| format!("{:?}", row.record)));
    rows.extend(groups.map(|row| format!("{:?}", row.record)));
    rows.extend(mirror.members.iter().map(|(group, user)| format!("{group} {user}")));
    rows
}

async fn the_order_and_copies_do_not_matter(engine: Engine) {
    // The day after the last fixture: of older events than the inbox remembers, the mirror shows nothing.
    let day: DateTime<Utc> = "2026-02-10T00:00:00Z".parse().unwrap();
    let started = Instant::now();
    let clock = Clock::from_fn(move || day + started.elapsed());
    let mut played = Vec::new();
    for arguments in [&["--duplicate=1"][..], &["--shuffle=7", "--duplicate=3"]] {
        let scene = start(engine, clock.clone()).await;
        let (status, lines) = play(&scene, &[arguments, &[&fixtures()]].concat(), b"");
        assert_eq!(status, Some(0), "{lines:#?}");
        played.push(live_rows(&scene).await);
        scene.stop().await;
    }
    assert!(played[0].len() > 30, "{}", played[0].len());
    assert_eq!(played[0], played[1]);
}

async fn posts_exported_bodies_as_they_came(engine: Engine) {
    let scene = start(engine, Clock::system()).await;
    let indented = "{\n  \"id\": \"event_indented\",\r\n  \"event\": \"dsync.token.created\"\n}\n";
    let exported = [
        json!({"object": "inbox_event", "event_id": "event_indented", "body": indented}),
        json!({"object": "inbox_event", "event_id": "sha256_", "event_type": "", "body_base64": "e/8="}),
    ];
    let lines = exported.map(|row| row.to_string()).join("\n");
    let (status, lines) = play(&scene, &["-"], lines.as_bytes());
    assert_eq!((status, count(&lines, "  accepted")), (Some(0), 2), "{lines:#?}");
    let mut ids: Vec<String> =
        scene.service().db().event_outcomes().await.unwrap().into_iter().map(|(id, ..)| id).collect();
    ids.sort();
    // The server hashes a body that it cannot read: these are the very bytes.
    assert_eq!(ids, ["event_indented".to_owned(), directory_mirror::webhook::event::id_from_hash(b"{\xff")]);
    scene.stop().await;
}

async fn refusals_are_told_and_counted(engine: Engine) {
    let mut scene = Scene::set(engine).await;
    scene.start_service().await;
    let large = format!("{{\"x\":\"{}\",{}", "x".repeat(100_000), &event("event_large")[1..]);
    let input = format!("[{},{large}]", event("event_small"));
    let (status, lines) = play(&scene, &["-"], input.as_bytes());
    assert_eq!(status, Some(1), "{lines:#?}");
    assert!(lines[0].ends_with("  accepted"));
    assert!(lines[1].ends_with("refused: 413 the body is larger than this endpoint takes"), "{}", lines[1]);
    let url = format!("http://{}", scene.service().address());
    let arguments = ["--url", &url, "--secret", "hunter2", "-"];
    let output = replay(&arguments, &[("WORKOS_WEBHOOK_SECRET", SECRET)], event("event_other").as_bytes());
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(told.contains("refused: 401 the request's signature does not hold"), "{told}");
    assert!(told.contains("0 accepted, 1 refused") && told.contains("WORKOS_WEBHOOK_SECRET"), "{told}");
    assert!(!told.contains("hunter2"));
    assert_eq!(events_in(&scene).await, 1);
    scene.stop().await;
}

#[test]
fn without_a_server_it_says_what_to_start() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = replay(&["-"], &[("BIND_ADDR", &free), ("WORKOS_WEBHOOK_SECRET", "s")], event("a").as_bytes());
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains(&free) && message.contains("directory-mirror serve"), "{message}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // Ends with the test's process.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let output = replay(&["--url", &url, "--secret=s", "--duplicate=9", "-"], &[], event("a").as_bytes());
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(told.matches("refused: no answer").count(), 3, "{told}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("6 of 9 events were not posted"));
}

#[test]
fn nothing_is_sent_if_anything_is_no_event() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| fs::write(folder.path().join(name), content).unwrap();
    write("good.json", &event("a"));
    write("lines.ndjson", &format!("{}\n{{\"id\":\"a\"}}\n{{\n", event("b")));
    write("text.json", "Dear server");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let output = replay(&["--url", &url, "--secret=s", &path(""), &path("none.json")], &[], b"");
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    for place in ["lines.ndjson:2: ", "lines.ndjson:3: ", "text.json:1: ", "none.json: "] {
        assert!(told.contains(place), "{place} is missing from: {told}");
    }
    assert!(!told.contains("good.json"), "{told}");
    assert!(listener.accept().is_err(), "nothing connects");
    assert_eq!(replay(&["--url", &url, "-"], &[], event("a").as_bytes()).status.code(), Some(2), "no secret");
    assert_eq!(replay(&["-"], &[("WORKOS_WEBHOOK_SECRET", "s")], b"[]").status.code(), Some(2), "no events");
    assert_eq!(replay(&[], &[], b"").status.code(), Some(2), "no inputs");
}

#[test]
fn a_dry_run_and_curl_commands_need_no_server() {
    let output = replay(&["--dry-run", "--duplicate=2", &fixtures()], &[], b"");
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(told.lines().count(), told.matches(" bytes\n").count() + 1);
    assert!(told.contains("156 would be posted"), "{}", told.lines().last().unwrap());

    let file = Path::new(&fixtures()).join("33-dsync.deleted.json").display().to_string();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".env"), "WORKOS_WEBHOOK_SECRET=hunter2\nBIND_ADDR=[::]:81\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_directory-mirror"));
    command.args(["replay", "--print-curl", &file]).env_clear().current_dir(folder.path());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let told = String::from_utf8(output.stdout).unwrap();
    let signed = told.split("WorkOS-Signature: ").nth(1).unwrap().split('\'').next().unwrap();
    let milliseconds = signed.trim_start_matches("t=").split(',').next().unwrap().parse().unwrap();
    assert_eq!(signed, workos_emulator::sign("hunter2", milliseconds, &fs::read(&file).unwrap()));
    let end = format!("--data-binary '@{file}' 'http://[::1]:81/api/webhooks/workos/directory-sync'\n");
    assert!(told.starts_with("# 1/1  dsync.deleted ") && told.ends_with(&end), "{told}");
}
