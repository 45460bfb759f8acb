//! What strange answers of the API do to the engine: each test writes down what the API says.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::TimeDelta;
use diesel_async::SimpleAsyncConnection;
use directory_mirror::clock::{Clock, Timestamp};
use directory_mirror::config::Config;
use directory_mirror::db::{Db, DbConnection, MarkEntry, MarkFilter, MirrorCopy};
use directory_mirror::model::DirectoryId;
use directory_mirror::sync::{Engine as Sync, Retention, Step, SyncError};
use directory_mirror::webhook::inbox_event;
use directory_mirror::workos::{Reply, Transport, WorkosClient};
use serde_json::{Value, json};

use crate::support::{Engine, TestDatabase, on_both_engines};

on_both_engines!(
    directories_that_are_listed_in_a_circle_are_noticed,
    an_answer_about_another_record_is_none,
    one_record_that_cannot_be_read_spoils_no_page,
    attributes_are_stored_as_they_are_read,
    a_request_that_always_fails_is_made_more_and_more_rarely,
    what_a_page_does_not_show_is_asked_for_by_itself_in_a_later_wave,
    a_scan_that_a_fast_clock_asked_for_is_done_once,
    a_directory_linked_anew_while_its_first_page_is_read_is_scanned_anew,
    an_event_that_names_the_wrong_directory_shuts_nobody_out,
    a_membership_outlives_the_row_that_an_application_made_of_it,
);

/// What the API answers, and what it was asked.
#[derive(Default)]
struct Says {
    answers: BTreeMap<String, (u16, String)>,
    asked: Vec<String>,
    now: Option<Timestamp>,
    /// The answer to this waits until it is taken out.
    held: Option<String>,
}

#[derive(Clone, Default)]
struct Api(Arc<Mutex<Says>>);

impl Api {
    fn says(&self) -> MutexGuard<'_, Says> {
        self.0.lock().unwrap()
    }

    /// From now on it answers so. Lists are named by their path and query without `limit` and `order`.
    fn answers(&self, url: &str, body: impl Into<String>) {
        self.says().answers.insert(url.to_owned(), (200, body.into()));
    }

    fn lists(&self, url: &str, records: &[Value], after: Option<&str>) {
        self.answers(url, json!({"data": records, "list_metadata": {"after": after}}).to_string());
    }

    fn fails(&self, url: &str, status: u16) {
        self.says().answers.insert(url.to_owned(), (status, "{}".to_owned()));
    }

    /// What it was asked since this was last called.
    fn was_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.says().asked)
    }
}

impl Transport for Api {
    fn exchange(&self, url: reqwest::Url) -> Pin<Box<dyn Future<Output = Result<Reply, String>> + Send + '_>> {
        let kept = url.query_pairs().filter(|(name, _)| name != "limit" && name != "order");
        let query = kept.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
        let name = if query.is_empty() { url.path().to_owned() } else { format!("{}?{query}", url.path()) };
        let mut says = self.says();
        says.asked.push(name.clone());
        let is_list = url.path().matches('/').count() == 1;
        let unknown = if is_list { (200, r#"{"data": []}"#) } else { (404, r#"{"message": "Not Found"}"#) };
        let found = says.answers.get(&name).cloned();
        let (status, body) = found.unwrap_or_else(|| (unknown.0, unknown.1.to_owned()));
        let reply = Reply { status, retry_after: Duration::ZERO, date: says.now, body: body.into_bytes() };
        drop(says);
        Box::pin(async move {
            while self.says().held.as_ref() == Some(&name) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(reply)
        })
    }
}

/// The engine on a database of its own.
struct Play {
    api: Api,
    sync: Sync,
    clock: Arc<Mutex<Timestamp>>,
    events: AtomicUsize,
    _database: TestDatabase,
}

impl Play {
    async fn start(engine: Engine) -> Self {
        let database = TestDatabase::new(engine).await;
        let variables = |name: &str| match name {
            "DATABASE_URL" => Some(database.url.clone()),
            "WORKOS_API_KEY" => Some("sk_test_key".to_owned()),
            "WORKOS_API_BASE_URL" => Some("http://workos.test".to_owned()),
            "WORKOS_WEBHOOK_SECRET" => Some("s".to_owned()),
            "WORKOS_API_REQUESTS_PER_MINUTE" | "WORKOS_DIRECTORY_USERS_PER_SECOND" => Some("0".to_owned()),
            _ => None,
        };
        let config = Config::read(&variables).unwrap();
        let db = Db::open(&config.database).await.unwrap();
        let (api, now) = (Api::default(), Arc::new(Mutex::new("2026-11-01T12:00:00Z".parse::<Timestamp>().unwrap())));
        let clock = Clock::from_fn({
            let now = Arc::clone(&now);
            move || *now.lock().unwrap()
        });
        let client = WorkosClient::with_transport(&config.api, clock.clone(), api.clone());
        let lease = db.new_lease(clock.now()).await.unwrap();
        let sync = Sync::new(db, client, clock, lease, Retention::new(None));
        Self { api, sync, clock: now, events: AtomicUsize::new(0), _database: database }
    }

    /// A directory that the API knows and that was scanned while it was empty.
    async fn with_directory(engine: Engine) -> Self {
        let play = Self::start(engine).await;
        play.know_directory("d").await;
        play
    }

    async fn know_directory(&self, id: &str) {
        let record = directory(id);
        self.api.answers(&format!("/directories/{id}"), record.to_string());
        self.api.lists("/directories", &[record], None);
        self.sync.discover_directories().await.unwrap();
        self.refresh(id).await;
        self.api.was_asked();
    }

    /// Lets time pass.
    fn pass(&self, seconds: i64) {
        *self.clock.lock().unwrap() += TimeDelta::seconds(seconds);
    }

    /// An event comes in and is folded.
    async fn event(&self, kind: &str, data: Value) {
        let now = self.sync.clock.now();
        let id = format!("event_{:04}", self.events.fetch_add(1, Ordering::Relaxed));
        let body = json!({"object": "event", "id": id, "event": kind, "data": data, "created_at": now.to_rfc3339()});
        let event = inbox_event(body.to_string().into_bytes(), now, "webhook");
        self.sync.db.store_events(vec![event]).await.unwrap();
        while self.sync.fold_step().await.unwrap() == Step::Ran {}
    }

    async fn step(&self, directory: &str) -> Result<Step, SyncError> {
        self.sync.refresh_step(&DirectoryId::from_stored(directory.to_owned())).await
    }

    /// Steps until nothing is due.
    async fn refresh(&self, directory: &str) {
        for _ in 0..100 {
            if matches!(self.step(directory).await, Ok(Step::Idle)) {
                return;
            }
        }
        panic!("there is always something to do: {:?}", self.marks().await);
    }

    async fn mirror(&self) -> MirrorCopy {
        self.sync.db.copy_mirror().await.unwrap()
    }

    async fn sql(&self, statement: &str) {
        let mut transaction = self.sync.db.begin_in_background().await.unwrap();
        match transaction.connection() {
            DbConnection::Postgres(object) => object.batch_execute(statement).await.unwrap(),
            DbConnection::Sqlite(object) => object.batch_execute(statement).await.unwrap(),
        }
        transaction.commit().await.unwrap();
    }

    async fn marks(&self) -> Vec<MarkEntry> {
        self.sync.db.marks(&MarkFilter::default(), 1000).await.unwrap()
    }
}

fn directory(id: &str) -> Value {
    json!({"id": id, "name": "Acme", "state": "linked", "updated_at": "2026-10-01T00:00:00Z"})
}

fn user(id: &str, directory: &str) -> Value {
    json!({
        "id": id, "directory_id": directory, "state": "active", "email": format!("{id}@acme.example"),
        "custom_attributes": {}, "created_at": "2026-10-01T00:00:00Z", "updated_at": "2026-10-01T00:00:00Z",
    })
}

async fn directories_that_are_listed_in_a_circle_are_noticed(engine: Engine) {
    let play = Play::start(engine).await;
    // A cycle that leaves out the first page, and each page gives another cursor than the one before.
    play.api.lists("/directories", &[directory("d1")], Some("a"));
    play.api.lists("/directories?after=a", &[directory("d2")], Some("b"));
    play.api.lists("/directories?after=b", &[directory("d3")], Some("a"));
    let discovered = tokio::time::timeout(Duration::from_secs(60), play.sync.discover_directories()).await;
    let error = discovered.expect("discovery ends").unwrap_err();
    assert!(error.to_string().contains("starts over"), "{error}");
    assert_eq!(play.mirror().await.directories.len(), 3, "what was listed is taken");
}

async fn an_answer_about_another_record_is_none(engine: Engine) {
    let play = Play::with_directory(engine).await;
    for id in ["u1", "u2"] {
        play.api.answers(&format!("/directory_users/{id}"), user(id, "d").to_string());
        play.event("dsync.user.created", user(id, "d")).await;
        play.refresh("d").await;
    }
    let before = play.mirror().await.users;
    play.pass(60);
    play.api.answers("/directory_users/u1", user("u2", "d").to_string());
    play.api.answers("/directory_groups/g", group("h", "d").to_string());
    play.event("dsync.user.updated", json!({"directory_id": "d", "directory_user_id": "u1"})).await;
    play.event("dsync.group.created", json!({"directory_id": "d", "directory_group_id": "g"})).await;
    play.refresh("d").await;
    assert_eq!(play.mirror().await.users, before, "neither of them changed");
    assert!(play.mirror().await.groups.is_empty(), "and no group was made");
    let marks = play.marks().await;
    assert_eq!(marks.iter().map(|entry| entry.mark.failures).collect::<Vec<_>>(), [1, 1], "both are asked for again");
}

async fn one_record_that_cannot_be_read_spoils_no_page(engine: Engine) {
    let play = Play::with_directory(engine).await;
    let (number, nested) = (r#"{"n": 1e999}"#, format!("{{\"n\": {}{}}}", "[".repeat(200), "]".repeat(200)));
    let strange = |id: &str, attributes: &str| {
        user(id, "d").to_string().replace(r#""custom_attributes":{}"#, &format!(r#""custom_attributes":{attributes}"#))
    };
    let records =
        [user("u1", "d").to_string(), strange("u2", number), strange("u3", &nested), user("u4", "d").to_string()];
    play.api.answers(
        "/directory_users?directory=d",
        format!(r#"{{"data": [{}], "list_metadata": {{}}}}"#, records.join(", ")),
    );
    play.api.answers("/directory_users/u2", &*records[1]);
    play.event("dsync.user.created", json!({"directory_id": "d", "directory_user_id": "u2"})).await;
    play.sync.db.request_scan(None, play.sync.clock.now()).await.unwrap();
    play.refresh("d").await;
    let mirror = play.mirror().await;
    let shown: Vec<&str> = mirror.users.iter().map(|row| row.record.id.as_str()).collect();
    assert_eq!(shown, ["u1", "u4"]);
    assert_eq!(mirror.directories[0].sync_status.as_str(), "synced");
    assert!(play.marks().await.iter().all(|entry| entry.mark.failures == 1), "{:?}", play.marks().await);
}

async fn attributes_are_stored_as_they_are_read(engine: Engine) {
    let play = Play::with_directory(engine).await;
    // Numbers that a quick reader of JSON misses by a bit, and ones that PostgreSQL writes in another way.
    let attributes = r#"{"a": [0.10000000000000001, 31.245270191439438, 121.48791951161945, 2.2250738585072014e-308,
        1e16, 1e17, 12345678901234567000.0, 1e20, 1e300, -1e18, -0.0, 1.0, 1e-7, 9007199254740993.0, 5e-324]}"#;
    let record = user("u", "d")
        .to_string()
        .replace(r#""custom_attributes":{}"#, &format!(r#""custom_attributes":{attributes}"#));
    play.api.answers("/directory_users?directory=d", format!(r#"{{"data": [{record}], "list_metadata": {{}}}}"#));
    let mut seen = Vec::new();
    for _ in 0..3 {
        play.sync.db.request_scan(None, play.sync.clock.now()).await.unwrap();
        play.refresh("d").await;
        seen.extend(play.mirror().await.users);
        play.pass(3600);
    }
    // Each write of a row moves its `verified_at`.
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[1], seen[2]);
}

/// An event that names a user and tells nothing else.
fn thin(directory: &str, user: &str) -> Value {
    json!({"directory_id": directory, "directory_user_id": user})
}

async fn a_request_that_always_fails_is_made_more_and_more_rarely(engine: Engine) {
    let play = Play::with_directory(engine).await;
    play.api.fails("/directory_users/u", 500);
    play.event("dsync.user.created", thin("d", "u")).await;
    for _ in 0..3 {
        assert!(play.step("d").await.is_err());
        let mark = &play.marks().await[0].mark;
        assert_eq!((mark.due_at - play.sync.clock.now()).num_seconds(), 2, "an outage is nobody's failure");
        play.pass(2);
    }
    let mut waits = Vec::new();
    play.api.answers("/directory_users/v", user("v", "d").to_string());
    for _ in 0..7 {
        play.event("dsync.user.updated", thin("d", "v")).await;
        while !matches!(play.step("d").await, Ok(Step::Idle)) {}
        let marks = play.marks().await;
        let mark = marks.iter().find(|entry| entry.mark.target.to_string() == "user u").unwrap();
        assert_eq!(mark.mark.failures, 0, "an outage counts against no mark");
        let wait = (mark.mark.due_at - play.sync.clock.now()).num_seconds();
        waits.push(wait);
        play.pass(wait);
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60]);
    play.api.answers("/directory_users/u", user("u", "d").to_string());
    play.refresh("d").await;
    play.api.fails("/directory_users/u", 500);
    play.event("dsync.user.updated", thin("d", "u")).await;
    assert!(play.step("d").await.is_err());
    let waits = play.marks().await.iter().map(|entry| (entry.mark.due_at - play.sync.clock.now()).num_seconds()).min();
    assert_eq!(waits, Some(2), "an answer starts it over");
}

async fn what_a_page_does_not_show_is_asked_for_by_itself_in_a_later_wave(engine: Engine) {
    let play = Play::with_directory(engine).await;
    let ids: Vec<String> = (1..=5).map(|number| format!("u{number}")).collect();
    let users: Vec<Value> = ids.iter().map(|id| user(id, "d")).collect();
    play.api.lists("/directory_users?directory=d", &users, None);
    play.sync.db.request_scan(None, play.sync.clock.now()).await.unwrap();
    play.refresh("d").await;
    play.pass(3600);
    for (id, user) in ids.iter().zip(&users) {
        play.api.answers(&format!("/directory_users/{id}"), user.to_string());
        play.event("dsync.user.updated", thin("d", id)).await;
    }
    play.pass(60);
    play.api.lists("/directory_users?directory=d", &[], None);
    play.api.was_asked();
    play.step("d").await.unwrap();
    assert_eq!(
        play.api.was_asked(),
        ["/directory_users?directory=d"],
        "the page is asked for, and nothing waits for more"
    );
    play.refresh("d").await;
    let mut asked = play.api.was_asked();
    asked.sort();
    assert_eq!(asked, ids.iter().map(|id| format!("/directory_users/{id}")).collect::<Vec<_>>());
    assert!(play.marks().await.is_empty());
}

async fn a_scan_that_a_fast_clock_asked_for_is_done_once(engine: Engine) {
    let play = Play::with_directory(engine).await;
    let tomorrow = play.sync.clock.now() + TimeDelta::days(1);
    play.sync.db.request_scan(None, tomorrow).await.unwrap();
    play.refresh("d").await;
    let pages = play.api.was_asked().iter().filter(|url| *url == "/directory_users?directory=d").count();
    assert_eq!(pages, 1);
}

async fn a_directory_linked_anew_while_its_first_page_is_read_is_scanned_anew(engine: Engine) {
    let play = Play::with_directory(engine).await;
    let page = "/directory_users?directory=d";
    play.sync.db.request_scan(None, play.sync.clock.now()).await.unwrap();
    play.api.says().held = Some(page.to_owned());
    let meanwhile = async {
        while !play.api.says().asked.iter().any(|url| url == page) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for (state, updated_at) in [("inactive", "2026-10-02T00:00:00Z"), ("active", "2026-10-03T00:00:00Z")] {
            play.pass(1);
            let data = json!({"id": "d", "name": "Acme", "state": state, "updated_at": updated_at});
            play.event("dsync.activated", data).await;
        }
        play.api.says().held = None;
    };
    let (step, ()) = tokio::join!(play.step("d"), meanwhile);
    step.unwrap();
    assert_eq!(play.mirror().await.directories[0].sync_status.as_str(), "never");
    play.refresh("d").await;
    assert_eq!(play.mirror().await.directories[0].sync_status.as_str(), "synced");
    assert_eq!(play.api.was_asked().iter().filter(|url| *url == page).count(), 2);
}

fn group(id: &str, directory: &str) -> Value {
    json!({"id": id, "directory_id": directory, "name": "Group", "updated_at": "2026-10-01T00:00:00Z"})
}

async fn an_event_that_names_the_wrong_directory_shuts_nobody_out(engine: Engine) {
    let play = Play::start(engine).await;
    play.know_directory("x").await;
    play.know_directory("y").await;
    let people = ["disproved", "hinted", "joined", "scanned"];
    play.api.answers("/directory_groups/g", group("g", "y").to_string());
    for id in people {
        play.api.answers(&format!("/directory_users/{id}"), user(id, "y").to_string());
        play.api.lists(&format!("/directory_groups?user={id}"), &[group("g", "y")], None);
    }
    let shown = async || {
        let mirror = play.mirror().await;
        assert!(mirror.users.iter().all(|row| row.record.directory_id.as_str() == "y"));
        let mut members: Vec<String> = mirror.members.iter().map(|(_, user)| user.to_string()).collect();
        members.sort();
        (mirror.users.iter().map(|row| row.record.id.to_string()).collect::<Vec<_>>(), members)
    };
    // Events that name the wrong directory, and memberships in it.
    let edge = |directory: &str, user: &str| json!({"directory_id": directory, "directory_user_id": user, "directory_group_id": "g"});
    play.event("dsync.user.created", thin("x", "disproved")).await;
    play.event("dsync.group.user_added", edge("x", "disproved")).await;
    play.refresh("x").await;
    assert!(shown().await.0.is_empty());
    play.event("dsync.user.created", thin("y", "disproved")).await;
    play.refresh("y").await;
    play.event("dsync.group.user_added", edge("y", "disproved")).await;
    play.refresh("y").await;
    assert_eq!(shown().await, (vec!["disproved".to_owned()], vec!["disproved".to_owned()]));
    // The right directory tells of them before the wrong one has asked.
    for id in people {
        play.event("dsync.user.created", thin("x", id)).await;
        play.event("dsync.group.user_added", edge("x", id)).await;
    }
    play.event("dsync.user.updated", thin("y", "hinted")).await;
    play.event("dsync.group.user_added", edge("y", "joined")).await;
    play.refresh("y").await;
    play.refresh("x").await;
    let expected: Vec<String> = people[..3].iter().map(|&id| id.to_owned()).collect();
    assert_eq!(shown().await, (expected.clone(), expected));
    // Nobody tells, and a scan lists them.
    play.event("dsync.user.updated", thin("x", "scanned")).await;
    let users: Vec<Value> = people.iter().map(|id| user(id, "y")).collect();
    play.api.lists("/directory_users?directory=y", &users, None);
    play.api.lists("/directory_users?group=g", &users, None);
    play.api.lists("/directory_groups?directory=y", &[group("g", "y")], None);
    play.sync.db.request_scan(None, play.sync.clock.now()).await.unwrap();
    play.refresh("y").await;
    play.refresh("x").await;
    let everybody: Vec<String> = people.iter().map(|&id| id.to_owned()).collect();
    assert_eq!(shown().await, (everybody.clone(), everybody));
}

async fn a_membership_outlives_the_row_that_an_application_made_of_it(engine: Engine) {
    let play = Play::with_directory(engine).await;
    play.api.lists("/directory_users?directory=d", &[user("u", "d")], None);
    play.api.lists("/directory_groups?directory=d", &[group("g", "d")], None);
    let scan = async || {
        play.pass(3600);
        play.sync.db.request_scan(None, play.sync.clock.now()).await.unwrap();
        play.refresh("d").await;
    };
    scan().await;
    play.sql(
        "INSERT INTO group_members (group_id, user_id, provenance, created_at) \
         SELECT groups.id, users.id, 'local', users.created_at FROM groups CROSS JOIN users",
    )
    .await;
    play.api.lists("/directory_users?group=g", &[user("u", "d")], None);
    scan().await;
    assert_eq!(play.mirror().await.members.len(), 0, "what was given by hand is not the directory's");
    play.sql("DELETE FROM group_members").await;
    scan().await;
    assert_eq!(play.mirror().await.members.len(), 1);
}
