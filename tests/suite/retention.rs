//! Retention: what is old goes, and may come again without harm; and the commands that prune and show.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{SubsecRound, TimeDelta, Utc};
use directory_mirror::clock::{Clock, Timestamp};
use directory_mirror::config::{ApiConfig, Config, DatabaseConfig};
use directory_mirror::db::types::StoredInstant;
use directory_mirror::db::{Db, Kind, MarkFilter, NewInboxEvent, working_set};
use directory_mirror::mirror::{Brake, Touched, WorkingSet};
use directory_mirror::model::{DirectoryGroupId, DirectoryId, DirectoryUserId, Mark, MarkTarget};
use directory_mirror::sync::{Engine as Worker, Retention, Step};
use directory_mirror::webhook::inbox_event;
use directory_mirror::workos::WorkosClient;
use serde_json::{Value, json};
use workos_emulator::{NewDirectory, NewUser};

use crate::operator::run as run_command;
use crate::support::{Engine, PATIENCE, Scene, TestDatabase, on_both_engines, wait_until};

on_both_engines!(
    finished_events_go_in_batches_and_the_dead_and_the_pending_stay,
    the_server_prunes_by_itself,
    large_bodies_make_small_batches,
    an_event_that_was_pruned_and_comes_again_sets_a_mark_and_no_more,
    hints_are_believed_as_long_as_they_are_remembered,
    absent_memberships_are_forgotten_after_ninety_days,
    removals_of_the_unknown_are_forgotten_after_ninety_days,
    without_an_api_the_memory_stays,
    events_are_pruned_by_command,
    marks_are_listed_and_retried,
    a_running_server_takes_up_what_is_retried,
);

const DAY: Duration = Duration::from_secs(86_400);

/// A worker whose steps the test takes, at a time that the test sets. Nothing is fetched unless it refreshes.
struct Stage {
    worker: Worker,
    days: Arc<AtomicI64>,
    database: TestDatabase,
}

impl Stage {
    async fn set(engine: Engine, retention: Option<Duration>) -> Self {
        Self::with_key(engine, retention, Some("sk_test")).await
    }

    async fn with_key(engine: Engine, retention: Option<Duration>, key: Option<&str>) -> Self {
        let database = TestDatabase::new(engine).await;
        let variables = [
            ("DATABASE_URL", database.url.as_str()),
            ("WORKOS_WEBHOOK_SECRET", "s"),
            ("WORKOS_API_BASE_URL", "http://127.0.0.1:9"),
        ];
        let find = |name: &str| {
            let one = variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            one.or_else(|| key.filter(|_| name == "WORKOS_API_KEY").map(str::to_owned))
        };
        let config = Config::read(&find).unwrap();
        let days = Arc::new(AtomicI64::new(0));
        let worker = worker(&config.database, &config.api, retention, &days).await;
        Self { worker, days, database }
    }

    fn db(&self) -> &Db {
        &self.worker.db
    }

    fn now(&self) -> Timestamp {
        self.worker.clock.now()
    }

    fn pass(&self, days: i64) {
        self.days.fetch_add(days, Ordering::Relaxed);
    }

    /// An event arrives that was made so many days ago, and is folded.
    async fn fold(&self, id: &str, event: &str, age_days: i64, data: Value) -> (String, String) {
        let created_at = self.now() - TimeDelta::days(age_days);
        let body = json!({"id": id, "event": event, "created_at": created_at, "data": data}).to_string();
        self.db().store_events(vec![inbox_event(body.into_bytes(), self.now(), "webhook")]).await.unwrap();
        while self.worker.fold_step().await.unwrap() == Step::Ran {}
        let outcomes = self.db().event_outcomes().await.unwrap();
        let (_, status, reason) = outcomes.into_iter().find(|(known, ..)| known == id).unwrap();
        (status, reason.unwrap())
    }

    async fn retain(&self) -> usize {
        let mut steps = 0;
        while self.worker.retention_step().await.unwrap() == Step::Ran {
            steps += 1;
        }
        steps
    }

    async fn events(&self) -> Vec<String> {
        self.db().event_outcomes().await.unwrap().into_iter().map(|(id, ..)| id).collect()
    }

    async fn marks(&self) -> Vec<MarkTarget> {
        let marks = self.db().marks(&MarkFilter::default(), 100).await.unwrap();
        marks.into_iter().map(|entry| entry.mark.target).collect()
    }

    /// The memberships that are remembered as absent.
    async fn absent(&self) -> i64 {
        self.db().count_edges(&Kind::Directory).await.unwrap().1
    }

    /// Whether a hint about it is remembered, whether or not there is a row.
    async fn remembers(&self, id: &str) -> bool {
        let mut found = self.db().find(id).await.unwrap().into_iter();
        let Some(one) = found.next() else { return false };
        let set = self.db().explain(&one).await.unwrap();
        match &one.kind {
            Kind::User(id) => set.users[id].memory.hint.is_some(),
            Kind::Group(id) => set.groups[id].memory.hint.is_some(),
            Kind::Directory => set.directory.memory.hint.is_some(),
        }
    }
}

async fn worker(
    database: &DatabaseConfig,
    api: &ApiConfig,
    retention: Option<Duration>,
    days: &Arc<AtomicI64>,
) -> Worker {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let days = Arc::clone(days);
    let clock = Clock::from_fn(move || Utc::now() + TimeDelta::days(days.load(Ordering::Relaxed)));
    let db = Db::open(database).await.unwrap();
    let lease = db.new_lease(clock.now()).await.unwrap();
    let client = WorkosClient::new(api, clock.clone()).unwrap();
    Worker::new(db, client, clock, lease, Retention::new(retention))
}

/// What a command prints; it has to succeed.
fn printed(database: &str, arguments: &[&str]) -> String {
    let output = run_command(database, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn user(id: &str) -> Value {
    json!({"id": id, "directory_id": "directory_1", "state": "active", "updated_at": "2026-01-01T00:00:00Z"})
}

fn group(id: &str) -> Value {
    json!({"id": id, "directory_id": "directory_1", "name": id, "updated_at": "2026-01-01T00:00:00Z"})
}

fn membership(group_id: &str, user_id: &str) -> Value {
    json!({"directory_id": "directory_1", "group": group(group_id), "user": user(user_id)})
}

fn event(id: &str, status: &'static str, finished_at: Option<Timestamp>, bytes: usize) -> NewInboxEvent {
    NewInboxEvent {
        event_id: id.to_owned(),
        event_type: "dsync.user.updated".to_owned(),
        directory_id: None,
        organization_id: None,
        occurred_at: None,
        received_at: StoredInstant(Utc::now()),
        source: "webhook",
        body: vec![b' '; bytes],
        status,
        reason: None,
        attempts: 0,
        processed_at: finished_at.map(StoredInstant),
    }
}

async fn finished_events_go_in_batches_and_the_dead_and_the_pending_stay(engine: Engine) {
    let stage = Stage::set(engine, Some(30 * DAY)).await;
    let ago = |days| Some(stage.now() - TimeDelta::days(days));
    for (number, status) in (0..).zip(["applied", "skipped", "ignored", "dead"]) {
        let old = (0..220).map(|one| event(&format!("old_{status}_{one}"), status, ago(31 + number), 10));
        stage.db().store_events(old.collect()).await.unwrap();
        let young = event(&format!("young_{status}"), status, ago(29), 10);
        stage.db().store_events(vec![young]).await.unwrap();
    }
    stage.db().store_events(vec![event("waiting", "pending", None, 10)]).await.unwrap();
    assert!(stage.retain().await >= 3, "660 events in one batch");
    let left = stage.events().await;
    assert_eq!(left.iter().filter(|id| id.starts_with("old_dead")).count(), 220);
    let others: Vec<&String> = left.iter().filter(|id| !id.starts_with("old_dead")).collect();
    assert_eq!(others, ["waiting", "young_applied", "young_dead", "young_ignored", "young_skipped"]);

    let forever = Stage::set(engine, None).await;
    forever.db().store_events(vec![event("old", "applied", ago(4000), 10)]).await.unwrap();
    forever.retain().await;
    assert_eq!(forever.events().await, ["old"]);
}

async fn the_server_prunes_by_itself(engine: Engine) {
    let mut scene = Scene::set(engine).await;
    scene.start_service().await;
    let ago = |days| Some(Utc::now() - TimeDelta::days(days));
    let db = scene.service().db();
    db.store_events(vec![event("old", "applied", ago(8), 10), event("young", "applied", ago(6), 10)]).await.unwrap();
    scene.service.take().unwrap().stop().await;
    scene.set_variable("INBOX_RETENTION", "7d");
    scene.start_service().await;
    let db = scene.service().db();
    let pruned = async || db.event_outcomes().await.unwrap().len() == 1;
    assert!(wait_until(PATIENCE, pruned).await);
    assert_eq!(db.event_outcomes().await.unwrap()[0].0, "young");
    scene.stop().await;
}

async fn large_bodies_make_small_batches(engine: Engine) {
    let stage = Stage::set(engine, Some(3 * DAY)).await;
    let old = Some(stage.now() - TimeDelta::days(4));
    let events = (0..4).map(|number| event(&format!("event_{number}"), "applied", old, 3_000_000));
    stage.db().store_events(events.collect()).await.unwrap();
    assert_eq!(stage.worker.retention_step().await.unwrap(), Step::Ran);
    assert_eq!(stage.events().await.len(), 3);
    stage.retain().await;
    assert!(stage.events().await.is_empty());
}

async fn an_event_that_was_pruned_and_comes_again_sets_a_mark_and_no_more(engine: Engine) {
    let stage = Stage::set(engine, Some(30 * DAY)).await;
    let added = membership("group_1", "user_1");
    stage.fold("event_1", "dsync.user.created", 0, user("user_1")).await;
    stage.fold("event_2", "dsync.group.created", 0, group("group_1")).await;
    stage.fold("event_3", "dsync.group.user_added", 0, added.clone()).await;
    stage.pass(1);
    stage.fold("event_4", "dsync.group.user_removed", 0, added.clone()).await;
    stage.pass(32);
    let marked = stage.marks().await.len();
    stage.retain().await;
    assert!(stage.events().await.is_empty());
    let rows = stage.db().copy_mirror().await.unwrap();

    // By a retry of WorkOS or the Events API: the same ids, as old as they are.
    let (status, reason) = stage.fold("event_3", "dsync.group.user_added", 33, added.clone()).await;
    assert_eq!(status, "applied", "{reason}");
    assert!(reason.contains("verified again"), "{reason}");
    stage.fold("event_1", "dsync.user.created", 33, user("user_1")).await;
    let news = [user("user_unknown"), user("user_2")];
    stage.fold("event_5", "dsync.user.created", 31, news[0].clone()).await;
    stage.fold("event_6", "dsync.user.created", 29, news[1].clone()).await;
    let after = stage.db().copy_mirror().await.unwrap();
    assert!(after.members.is_empty() && rows.members.is_empty());
    let ids: Vec<&str> = after.users.iter().map(|row| row.record.id.as_str()).collect();
    assert_eq!(ids, ["user_1", "user_2"], "a hint older than the inbox's retention shows nothing");
    let wanted = MarkTarget::User(DirectoryUserId::new("user_unknown").unwrap());
    assert!(stage.marks().await.contains(&wanted) && stage.marks().await.len() == marked + 2);
}

async fn hints_are_believed_as_long_as_they_are_remembered(engine: Engine) {
    for (retention, shown_at, not_shown_at) in
        [(Some(7 * DAY), 6, 8), (Some(30 * DAY), 29, 31), (Some(365 * DAY), 89, 91), (None, 89, 91)]
    {
        let stage = Stage::set(engine, retention).await;
        stage.fold("event_1", "dsync.user.created", shown_at, user("user_young")).await;
        stage.fold("event_2", "dsync.user.created", not_shown_at, user("user_old")).await;
        let rows = stage.db().copy_mirror().await.unwrap().users;
        let ids: Vec<&str> = rows.iter().map(|row| row.record.id.as_str()).collect();
        assert_eq!(ids, ["user_young"], "{retention:?}");
    }
}

async fn absent_memberships_are_forgotten_after_ninety_days(engine: Engine) {
    let stage = Stage::set(engine, None).await;
    stage.fold("event_1", "dsync.group.created", 0, group("group_1")).await;
    for number in 0..300 {
        let user_id = format!("user_{number:03}");
        // It takes away what the mirror does not have.
        let removed = membership("group_1", &user_id);
        stage.fold(&format!("event_removed_{number}"), "dsync.group.user_removed", 0, removed).await;
    }
    stage.fold("event_2", "dsync.group.user_added", 0, membership("group_1", "user_shown")).await;
    // One that was shown and is absent now, with a mark.
    stage.fold("event_3", "dsync.group.user_added", 0, membership("group_1", "user_marked")).await;
    stage.fold("event_4", "dsync.group.user_removed", 0, membership("group_1", "user_marked")).await;
    assert_eq!(stage.absent().await, 301);
    stage.pass(89);
    stage.retain().await;
    assert_eq!(stage.absent().await, 301, "before the time");
    stage.fold("event_5", "dsync.group.user_removed", 0, membership("group_1", "user_000")).await;
    stage.pass(2);
    stage.retain().await;
    assert_eq!(stage.absent().await, 2, "what was heard of lately, and what is marked");
    let (shown, _) = stage.db().count_edges(&Kind::Directory).await.unwrap();
    assert_eq!(shown, 1);
    // The old news that a removal had overtaken comes late, and nobody remembers the removal.
    let (_, reason) = stage.fold("event_6", "dsync.group.user_added", 92, membership("group_1", "user_299")).await;
    assert!(reason.contains("verified again"), "{reason}");
    let members = stage.db().copy_mirror().await.unwrap().members;
    assert_eq!(members, [("group_1".to_owned(), "user_shown".to_owned())]);
    let key = (DirectoryGroupId::new("group_1").unwrap(), DirectoryUserId::new("user_299").unwrap());
    assert!(stage.marks().await.contains(&MarkTarget::Edge(key.0, key.1)));
}

async fn clear_marks(stage: &Stage) {
    let marks = stage.marks().await;
    let mut transaction = stage.db().begin_in_background().await.unwrap();
    let mut set = WorkingSet::empty(DirectoryId::new("directory_1").unwrap());
    for target in marks {
        set.mark(target.clone(), 1, Utc::now());
        set.clear_mark(&target, 1);
    }
    working_set::save(transaction.connection(), &set, Utc::now()).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn removals_of_the_unknown_are_forgotten_after_ninety_days(engine: Engine) {
    let stage = Stage::set(engine, Some(30 * DAY)).await;
    stage.fold("event_1", "dsync.user.deleted", 0, user("user_unknown")).await;
    stage.fold("event_2", "dsync.group.deleted", 0, group("group_unknown")).await;
    stage.fold("event_3", "dsync.user.created", 0, user("user_known")).await;
    stage.fold("event_4", "dsync.group.created", 0, group("group_known")).await;
    stage.fold("event_5", "dsync.deleted", 0, json!({"id": "directory_unknown"})).await;
    stage.fold("event_6", "dsync.user.deleted", 0, user("user_marked")).await;
    stage.pass(89);
    clear_marks(&stage).await;
    stage.fold("event_7", "dsync.user.created", 90, user("user_marked")).await;
    stage.retain().await;
    assert!(stage.remembers("user_unknown").await && stage.remembers("group_unknown").await);
    stage.pass(2);
    stage.retain().await;
    assert!(!stage.remembers("user_unknown").await && !stage.remembers("group_unknown").await);
    for kept in ["user_known", "group_known", "directory_unknown", "user_marked"] {
        assert!(stage.remembers(kept).await, "{kept}");
    }
    stage.fold("event_8", "dsync.user.created", 92, user("user_unknown")).await;
    let users = stage.db().copy_mirror().await.unwrap().users;
    assert_eq!(users.len(), 1, "an old creation creates nothing");
}

async fn without_an_api_the_memory_stays(engine: Engine) {
    let stage = Stage::with_key(engine, Some(3 * DAY), None).await;
    stage.fold("event_1", "dsync.user.deleted", 0, user("user_1")).await;
    stage.fold("event_2", "dsync.group.user_removed", 0, membership("group_1", "user_2")).await;
    stage.pass(400);
    stage.retain().await;
    assert!(stage.events().await.is_empty());
    assert!(stage.remembers("user_1").await && stage.absent().await == 1);
    stage.fold("event_0", "dsync.user.created", 401, user("user_1")).await;
    stage.fold("event_3", "dsync.group.user_added", 401, membership("group_1", "user_2")).await;
    let rows = stage.db().copy_mirror().await.unwrap();
    assert!(rows.members.is_empty());
    assert!(rows.users.iter().all(|row| row.record.id.as_str() != "user_1" || row.state.as_str() == "inactive"));
}

async fn events_are_pruned_by_command(engine: Engine) {
    let stage = Stage::set(engine, None).await;
    let ago = |days| Some(Utc::now() - TimeDelta::days(days));
    let mut events: Vec<NewInboxEvent> =
        (0..600).map(|number| event(&format!("applied_{number}"), "applied", ago(40), 10)).collect();
    events.extend([
        event("skipped", "skipped", ago(10), 10),
        event("dead", "dead", ago(40), 10),
        event("waiting", "pending", None, 10),
    ]);
    stage.db().store_events(events).await.unwrap();
    let url = stage.database.url.as_str();
    assert_eq!(printed(url, &["events", "prune", "--dry-run"]), "600 event(s) would be pruned\n");
    assert_eq!(printed(url, &["events", "prune", "--older-than", "9d", "--dry-run"]), "601 event(s) would be pruned\n");
    assert_eq!(stage.events().await.len(), 603, "nothing was changed");
    assert_eq!(printed(url, &["events", "prune", "--status", "skipped"]), "0 event(s) pruned\n");
    assert_eq!(printed(url, &["events", "prune"]), "600 event(s) pruned\n");
    assert_eq!(stage.events().await, ["dead", "skipped", "waiting"]);
    for wrong in [["--status", "pending"], ["--status", "lost"], ["--older-than", "soon"]] {
        assert_eq!(run_command(url, &[&["events", "prune"], &wrong[..]].concat()).status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(printed(url, &["events", "prune", "--status", "dead", "--older-than", "30d"]), "1 event(s) pruned\n");
    assert_eq!(stage.events().await, ["skipped", "waiting"]);
}

async fn put_marks(db: &Db, directory: &DirectoryId, marks: Vec<Mark>, brake: Option<Brake>) {
    let mut transaction = db.begin_in_background().await.unwrap();
    let connection = transaction.connection();
    let mut set = working_set::load(connection, directory, &Touched::default()).await.unwrap();
    marks.into_iter().for_each(|mark| set.put_mark(mark));
    working_set::save(connection, &set, Utc::now()).await.unwrap();
    if let Some(brake) = brake {
        directory_mirror::db::brake::save(connection, directory, &brake).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

async fn marks_are_listed_and_retried(engine: Engine) {
    let stage = Stage::set(engine, None).await;
    let url = stage.database.url.as_str();
    // Sets marks of user_1 (due) and of its directory.
    stage.fold("event_1", "dsync.user.created", 0, user("user_1")).await;
    let user_id = |id: &str| DirectoryUserId::new(id).unwrap();
    let group_id = DirectoryGroupId::new("group_1").unwrap();
    let later = (Utc::now() + TimeDelta::hours(1)).trunc_subsecs(6);
    let mark = |target, contradictions, failures| Mark {
        target,
        version: 7,
        due_at: later,
        contradictions,
        failures,
        urgent: false,
        set_at: Utc::now(),
        hinted_at: None,
    };
    let put_off = vec![
        mark(MarkTarget::User(user_id("user_2")), 2, 0),
        mark(MarkTarget::Edge(group_id.clone(), user_id("user_2")), 0, 3),
        mark(MarkTarget::GroupMembers(group_id), 0, 0),
    ];
    let directory = DirectoryId::new("directory_1").unwrap();
    put_marks(stage.db(), &directory, put_off, None).await;

    let lines = |arguments: &[&str]| -> Vec<Value> {
        let printed = printed(url, &[&["marks", "list", "--json"], arguments].concat());
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = lines(&[]);
    assert_eq!(all.len(), 5);
    assert_eq!(all[4]["due_at"], json!(later), "the last to be due");
    assert_eq!(lines(&["--due"]).len(), 2);
    assert_eq!(lines(&["--limit", "3"]).len(), 3);
    assert_eq!(lines(&["--directory", "directory_2"]).len(), 0);
    let edge = &lines(&["--kind", "edge"])[0];
    assert_eq!((&edge["directory_group_id"], &edge["directory_user_id"]), (&json!("group_1"), &json!("user_2")));
    assert_eq!((&edge["failures"], &edge["waits"], &edge["version"]), (&json!(3), &json!("first_scan"), &json!(7)));
    let table = printed(url, &["marks", "list", "--kind", "user"]);
    assert!(table.contains("user user_1") && table.contains("user user_2") && !table.contains("group_1"), "{table}");
    assert_eq!(run_command(url, &["marks", "list", "--kind", "person"]).status.code(), Some(2));
    stage.db().set_enabled(&directory, false).await.unwrap();
    assert!(lines(&[]).iter().all(|line| line["waits"] == "disabled"));
    stage.db().set_enabled(&directory, true).await.unwrap();

    for wrong in
        [&["marks", "retry"][..], &["marks", "retry", "directory_2"], &["marks", "retry", "--all", "directory_1"]]
    {
        assert_eq!(run_command(url, wrong).status.code(), Some(2), "{wrong:?}");
    }
    let retried = |arguments: &[&str]| printed(url, &[&["marks", "retry"], arguments].concat());
    assert!(retried(&["directory_1", "--kind", "edge"]).starts_with("1 mark(s)"));
    let edge = &lines(&["--kind", "edge", "--due"])[0];
    assert_eq!(edge["failures"], 0);
    assert!(retried(&["--all"]).starts_with("2 mark(s)"));
    assert_eq!(lines(&["--due"]).len(), 5);
    assert!(lines(&["--kind", "user"]).iter().any(|line| line["contradictions"] == 2), "evidence stays");
}

async fn a_running_server_takes_up_what_is_retried(engine: Engine) {
    let scene = Scene::start(engine).await;
    let directory = scene.emulator.create_directory(NewDirectory::named("Acme"));
    let person = scene.emulator.create_user(&directory, NewUser::invented(1, "acme.example")).unwrap();
    scene.settle().await;
    let db = scene.service().db();
    let id = DirectoryId::new(directory).unwrap();
    let later = Utc::now() + TimeDelta::hours(1);
    let target = MarkTarget::User(DirectoryUserId::new(person).unwrap());
    let brake = Brake { braked_at: Some(Utc::now()), ..Brake::default() };
    let mark = Mark {
        target,
        version: 1,
        due_at: later,
        contradictions: 0,
        failures: 0,
        urgent: false,
        set_at: later,
        hinted_at: None,
    };
    put_marks(db, &id, vec![mark], Some(brake)).await;
    let url = crate::operator::database(&scene);
    assert!(printed(url, &["marks", "list"]).contains("held by the brake"));
    printed(url, &["marks", "retry", id.as_str()]);
    assert!(wait_until(PATIENCE, async || db.backlog().await.unwrap().marks == 0).await);
    scene.stop().await;
}
