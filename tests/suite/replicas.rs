//! Several workers on one PostgreSQL database: who may write, and what happens when one dies or sleeps. The sizes of the
//! whole play come from `REPLICA_DIRECTORIES`, `REPLICA_ROUNDS` and `REPLICA_LEASE_SECONDS`.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use directory_mirror::cli::compare::differences;
use directory_mirror::clock::{Clock, Timestamp};
use directory_mirror::config::read_database_config;
use directory_mirror::db::{Db, DbError};
use directory_mirror::model::DirectoryId;
use tokio::net::{TcpListener, TcpStream};
use workos_emulator::{
    Deactivation, DeliveryOptions, Emulator, NewDirectory, NewUser, Options, UserChange, WebhookChaos,
};

use crate::outage::number;
use crate::support::{Engine, PATIENCE, SECRET, TestDatabase, connect, marks_due_soon, run, wait_until};

/// The database, with leases of so long.
pub async fn open(database: &TestDatabase, lease_ttl: &str) -> Db {
    let variables = |name: &str| match name {
        "DATABASE_URL" => Some(database.url.clone()),
        "LEASE_TTL" => Some(lease_ttl.to_owned()),
        _ => None,
    };
    Db::open(&read_database_config(&variables).unwrap()).await.unwrap()
}

#[test]
fn a_worker_that_wakes_up_late_cannot_commit() {
    run(async {
        let database = TestDatabase::new(Engine::Postgres).await;
        let (db, now) = (open(&database, "1s").await, Clock::system().now());
        let directory = DirectoryId::from_stored("directory_1".to_owned());
        let sleeper = db.new_lease(now).await.unwrap();
        db.seen_alive(&sleeper).await.unwrap();
        db.next_number(&directory, &sleeper).await.unwrap();
        let newborn = db.new_lease(now).await.unwrap();
        let other = db.new_lease(now).await.unwrap();
        let refused = db.next_number(&directory, &other).await;
        assert!(matches!(refused, Err(DbError::LeaseLost(_))), "the lease runs: {refused:?}");
        assert_eq!(db.seen_alive(&other).await.unwrap().of, 2);
        assert_eq!(db.seen_alive(&newborn).await.unwrap().of, 3, "nobody forgets who has not been heard of yet");
        let taken_over = wait_until(PATIENCE, async || {
            // Alone among the living once the sleeper is taken for dead.
            db.seen_alive(&other).await.unwrap().of == 1 && db.next_number(&directory, &other).await.is_ok()
        })
        .await;
        assert!(taken_over);
        let late = db.next_number(&directory, &sleeper).await;
        assert!(matches!(late, Err(DbError::LeaseLost(_))), "{late:?}");
        assert_eq!(sleeper.share(), None, "and it knows that it was away for too long");
    });
}

#[test]
fn a_clean_stop_and_a_newcomer_take_effect_at_once() {
    run(async {
        let database = TestDatabase::new(Engine::Postgres).await;
        let (db, now) = (open(&database, "600s").await, Clock::system().now());
        let directories: Vec<DirectoryId> =
            (0..20).map(|number| DirectoryId::from_stored(format!("directory_{number}"))).collect();
        let first = db.new_lease(now).await.unwrap();
        db.seen_alive(&first).await.unwrap();
        for directory in &directories {
            db.next_number(directory, &first).await.unwrap();
        }
        let second = db.new_lease(now).await.unwrap();
        assert_eq!(db.seen_alive(&second).await.unwrap().of, 2);
        let theirs = directories.iter().find(|directory| second.has(directory)).unwrap();
        assert!(db.next_number(theirs, &second).await.is_err(), "the first does not know yet");
        db.seen_alive(&first).await.unwrap();
        db.next_number(theirs, &second).await.unwrap();
        assert!(db.next_number(theirs, &first).await.is_err());
        db.give_back(&first).await.unwrap();
        assert_eq!(db.seen_alive(&second).await.unwrap().of, 1);
        for directory in &directories {
            db.next_number(directory, &second).await.unwrap();
        }
    });
}

/// A real process.
struct Replica {
    child: Child,
    address: String,
}

impl Replica {
    fn start(variables: &[(&'static str, String)], role: &str) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_directory-mirror"));
        command.args(["serve", "--role", role]).env_clear().current_dir(std::env::temp_dir());
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command.envs(variables.iter().map(|(name, value)| (*name, value.as_str())));
        let child = command.env("BIND_ADDR", &free).env("RUST_LOG", "off").spawn().unwrap();
        Self { child, address: free }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a load balancer does: each connection goes to the next replica that takes it.
async fn balance(replicas: Arc<Mutex<Vec<String>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let turn = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (replicas, turn) = (Arc::clone(&replicas), Arc::clone(&turn));
            tokio::spawn(async move {
                let addresses = replicas.lock().unwrap().clone();
                for _ in 0..addresses.len() {
                    let next = &addresses[turn.fetch_add(1, Ordering::Relaxed) % addresses.len()];
                    if let Ok(mut server) = TcpStream::connect(next).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                        return;
                    }
                }
            });
        }
    });
    address
}

fn emulator_options() -> Options {
    Options {
        delivery: DeliveryOptions {
            first_retry: Duration::from_millis(50),
            max_retry: Duration::from_millis(500),
            max_attempts: 100_000,
            ..DeliveryOptions::default()
        },
        webhook_chaos: WebhookChaos { drop: 0.0, ..WebhookChaos::moderate() },
        ..Options::default()
    }
}

#[test]
fn replicas_share_the_work_and_survive_each_others_death() {
    run(async {
        let emulator = Emulator::start(emulator_options()).await.unwrap();
        let database = TestDatabase::new(Engine::Postgres).await;
        let lease_seconds = number("REPLICA_LEASE_SECONDS", 3);
        let db = open(&database, &format!("{lease_seconds}s")).await;
        let variables = vec![
            ("DATABASE_URL", database.url.clone()),
            ("WORKOS_API_BASE_URL", emulator.url().to_owned()),
            ("WORKOS_API_KEY", emulator.api_key()),
            ("WORKOS_WEBHOOK_SECRET", SECRET.to_owned()),
            ("LEASE_TTL", format!("{lease_seconds}s")),
            ("EVENTS_POLL_INTERVAL", "5s".to_owned()),
        ];
        let start = |role| Replica::start(&variables, role);
        let (mut replicas, mut tokens) = (Vec::new(), Vec::new());
        for number in 1..=3 {
            replicas.push(start("all"));
            assert!(wait_until(PATIENCE, async || db.live_workers().await.unwrap() == number).await, "{number} live");
            tokens.push(newest_token(&database).await);
        }
        let addresses = Arc::new(Mutex::new(Vec::new()));
        let note = |replicas: &[Replica]| {
            *addresses.lock().unwrap() = replicas.iter().map(|one| one.address.clone()).collect();
        };
        note(&replicas);
        let balancer = balance(Arc::clone(&addresses)).await;
        emulator.register_endpoint(&format!("http://{balancer}/api/webhooks/workos/directory-sync"), SECRET);
        let mut company = Company::found(&emulator, number("REPLICA_DIRECTORIES", 12));
        let (mut takeovers, mut replaced) = (Vec::new(), None);
        for round in 0..number("REPLICA_ROUNDS", 3) {
            company.change(&emulator);
            let victim = round % replicas.len();
            let all_live = wait_until(PATIENCE * 3, async || db.live_workers().await.unwrap() == 3).await;
            assert!(all_live, "round {round}: three workers live");
            if let Some(newcomer) = replaced.take() {
                tokens[newcomer] = newest_token(&database).await;
            }
            if round % 3 == 1 {
                replicas[victim].signal("STOP");
            } else {
                replicas[victim].kill();
            }
            let died_at = Clock::system().now();
            let orphans = directories_of(&database, tokens[victim]).await;
            company.change(&emulator);
            let all_folded = wait_until(PATIENCE * 5, async || {
                let arrived = db.event_outcomes().await.unwrap().len() >= emulator.events().len();
                arrived && db.backlog().await.unwrap().pending == 0
            })
            .await;
            assert!(all_folded, "round {round}: {:?}", db.backlog().await);
            takeovers.extend(waits_for_another(&database, orphans, died_at).await);
            if round % 3 == 1 {
                replicas[victim].signal("CONT");
            } else {
                replicas[victim] = start(if round % 2 == 0 { "all" } else { "worker" });
                replaced = Some(victim);
                if round % 2 == 0 {
                    note(&replicas);
                }
            }
        }
        // In the end one is left, and has everything.
        company.change(&emulator);
        let receiving = addresses.lock().unwrap().clone();
        let survivor = replicas.iter().position(|one| receiving.contains(&one.address)).unwrap();
        let others = replicas.iter_mut().enumerate().filter(|(index, _)| *index != survivor);
        others.for_each(|(_, replica)| replica.kill());
        company.change(&emulator);
        let mut found = Vec::new();
        let equal = wait_until(PATIENCE * 10, async || {
            found = differences(&db.copy_mirror().await.unwrap(), &emulator.truth());
            let arrived = db.event_outcomes().await.unwrap().len() >= emulator.events().len();
            found.is_empty() && marks_due_soon(&db).await == 0 && arrived && db.backlog().await.unwrap().pending == 0
        })
        .await;
        assert!(equal, "the mirror differs: {found:?} {:?}", db.backlog().await);
        assert_eq!(db.backlog().await.unwrap().dead, 0);
        let refused = emulator.request_counts().get("429").copied().unwrap_or_default();
        assert_eq!(refused, 0, "the replicas together went over a limit");
        let longest = longest_wait(&database).await;
        if std::env::var_os("REPLICA_DIRECTORIES").is_none() {
            // The dead are noticed a little after their leases end, and this machine may be busy with other tests.
            let most = lease_seconds as f64 + 3.0;
            assert!(longest < most, "an event waited {longest:.1} s to be folded, LEASE_TTL being {lease_seconds} s");
        }
        takeovers.sort_by(f64::total_cmp);
        assert!(!takeovers.is_empty(), "no worker died that had a directory");
        println!(
            "{} directories, {} events: equal; {refused} requests over a limit; LEASE_TTL {lease_seconds} s",
            company.directories.len(),
            emulator.events().len(),
        );
        println!(
            "{} times a directory was orphaned: its events waited for another worker {:.1} s (median), {:.1} s (longest); the \
             longest that any event waited: {longest:.1} s",
            takeovers.len(),
            takeovers[takeovers.len() / 2],
            takeovers[takeovers.len() - 1],
        );
        drop(replicas);
        emulator.stop().await;
    });
}

/// That of the worker that started last.
async fn newest_token(database: &TestDatabase) -> i64 {
    let client = connect(&[("DATABASE_URL", database.url.clone())]).await;
    client.query_one("SELECT max(epoch) FROM directory_sync.worker_epochs", &[]).await.unwrap().get(0)
}

/// The directories that a worker was the last to work on.
async fn directories_of(database: &TestDatabase, token: i64) -> Vec<String> {
    let client = connect(&[("DATABASE_URL", database.url.clone())]).await;
    let query = "SELECT directory_id FROM directory_sync.directory_work WHERE lease_token = $1";
    client.query(query, &[&token]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// In seconds, for each directory of a dead worker that had events: how long one waited at the most for another worker, since
/// the death or since it was received.
async fn waits_for_another(database: &TestDatabase, orphans: Vec<String>, died_at: Timestamp) -> Vec<f64> {
    let client = connect(&[("DATABASE_URL", database.url.clone())]).await;
    let query = "SELECT max(extract(epoch FROM processed_at - greatest(received_at, to_timestamp($2))))::float8
        FROM directory_sync.inbox_events
        WHERE directory_id = ANY($1) AND processed_at > to_timestamp($2) GROUP BY directory_id";
    let died_at = died_at.timestamp_micros() as f64 / 1e6;
    let rows = client.query(query, &[&orphans, &died_at]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// In seconds: what a worker's death cost the events of its directories.
async fn longest_wait(database: &TestDatabase) -> f64 {
    let client = connect(&[("DATABASE_URL", database.url.clone())]).await;
    let query = "SELECT max(extract(epoch FROM processed_at - received_at))::float8 FROM directory_sync.inbox_events";
    client.query_one(query, &[]).await.unwrap().get(0)
}

#[test]
fn replicas_that_start_at_once_migrate_once() {
    run(async {
        let database = TestDatabase::new(Engine::Postgres).await;
        let opened = futures_util::future::join_all((0..6).map(|_| open(&database, "15s"))).await;
        for db in opened {
            assert!(db.migrations_are_current().await.unwrap());
        }
    });
}

/// Many small directories, each of which changes a little in a round.
struct Company {
    directories: Vec<Directory>,
    round: usize,
}

struct Directory {
    id: String,
    users: Vec<String>,
    groups: Vec<String>,
}

impl Company {
    fn found(emulator: &Emulator, count: usize) -> Self {
        let directories = (0..count).map(|number| {
            let id = emulator.create_directory(NewDirectory::named(&format!("Company {number}")));
            let user = |one: usize| emulator.create_user(&id, NewUser::named("Ada", &one.to_string(), "a.example"));
            let users: Vec<String> = (0..4).map(|one| user(one).unwrap()).collect();
            let groups = (0..2).map(|one| emulator.create_group(&id, &format!("Team {one}")).unwrap()).collect();
            Directory { users, groups, id }
        });
        Self { directories: directories.collect(), round: 0 }
    }

    fn change(&mut self, emulator: &Emulator) {
        self.round += 1;
        for (number, directory) in self.directories.iter_mut().enumerate() {
            let user = directory.users[(self.round + number) % directory.users.len()].clone();
            let group = &directory.groups[self.round % directory.groups.len()];
            match (self.round + number) % 5 {
                0 | 1 => drop(emulator.add_member(group, &user).unwrap()),
                2 => {
                    let change =
                        UserChange { job_title: Some(format!("Title {}", self.round)), ..UserChange::default() };
                    emulator.update_user(&user, change).unwrap();
                }
                3 => drop(emulator.remove_member(group, &user).unwrap()),
                _ => {
                    emulator.deactivate_user(&user, Deactivation::DeletedGone).unwrap();
                    directory.users.retain(|known| *known != user);
                    let name = format!("{}-{number}", self.round);
                    let new = NewUser::named("Eve", &name, "a.example");
                    directory.users.push(emulator.create_user(&directory.id, new).unwrap());
                }
            }
        }
    }
}
