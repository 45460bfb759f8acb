//! Faults of every kind strike the real process under load, one a round: `CRASH_ROUNDS` says how many, `CRASH_SEED`
//! decides which, in what order, and of what measure. `./scripts/crash` runs as many as you like.

mod clients;
mod disk;
mod faults;
mod ledger;
mod load;
mod process;
mod server;
mod slow;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use directory_mirror::config::Config;
use directory_mirror::db::Db;
use tokio::task::JoinSet;
use workos_emulator::{DeliveryOutcome, Emulator};

use self::disk::Disk;
use self::faults::Fault;
use self::ledger::{Database, Ledger};
use self::load::{Load, acknowledged};
use self::process::{Process, free_address};
use self::server::Server;
use crate::outage::number;
use crate::simulation::Random;
use crate::support::{Engine, PATIENCE, SECRET, emulator_options, on_both_engines, settle, variables, wait_until};

on_both_engines!(nothing_is_lost_or_doubled);

/// The most memory that the process may take while it is flooded with large bodies, in MiB.
const LARGE_BODIES_MIB: u64 = 400;

/// The process, what it works with, and what strikes it.
pub struct Play {
    engine: Engine,
    emulator: Emulator,
    variables: Vec<(&'static str, String)>,
    address: String,
    log: PathBuf,
    process: Process,
    /// Clients that wait for the service to end their connection.
    slow_clients: JoinSet<()>,
    random: Random,
    // In this order: the server's files are on the disk.
    server: Option<Server>,
    disk: Disk,
}

impl Play {
    async fn set(engine: Engine, seed: u64) -> Self {
        let disk = Disk::make();
        let mut options = emulator_options();
        // So that a pause of the process is long enough for senders to give up.
        options.delivery.timeout = Duration::from_secs(1);
        let emulator = Emulator::start(options).await.unwrap();
        let (server, url) = match engine {
            Engine::Sqlite => (None, format!("sqlite:{}", disk.folder().join("mirror.db").display())),
            Engine::Postgres => {
                let server = Server::start_in(disk.folder()).await;
                let url = server.url();
                (Some(server), url)
            }
        };
        let mut variables = variables(&emulator, &url);
        variables.retain(|(name, _)| *name != "WEBHOOK_MAX_BODY_BYTES" && *name != "BIND_ADDR");
        let address = free_address();
        emulator.register_endpoint(&format!("http://{address}/api/webhooks/workos/directory-sync"), SECRET);
        let log = std::env::temp_dir().join(format!("directory-mirror-crash-{engine:?}-{}.log", std::process::id()));
        let process = Process::start(&variables, &address, &log);
        let random = Random(seed);
        let slow_clients = JoinSet::new();
        Self { engine, emulator, variables, address, log, process, slow_clients, random, server, disk }
    }

    fn database(&self) -> Database {
        let url = self.variables.iter().find(|(name, _)| *name == "DATABASE_URL").unwrap().1.clone();
        Database { engine: self.engine, variables: self.variables.clone(), url }
    }

    /// Waits until the process answers that it is ready.
    async fn started(&mut self) {
        let ready = format!("http://{}/health/ready", self.address);
        let up = wait_until(PATIENCE, async || {
            self.process.assert_runs();
            reqwest::get(&ready).await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        assert!(up, "the process does not become ready:\n{}", self.process.log_end());
    }

    /// Kills the process and starts another in its place.
    fn restart(&mut self) {
        self.process.kill();
        self.process = Process::start(&self.variables, &self.address, &self.log);
    }

    /// Waits until the service has acknowledged an event that is newer than the fault's end, and is ready.
    async fn recovered(&mut self) -> Duration {
        let over = Instant::now();
        let before = self.emulator.deliveries().len();
        let back = wait_until(PATIENCE, async || {
            self.process.assert_runs();
            let newer = self.emulator.deliveries().into_iter().skip(before);
            newer.map(|delivery| delivery.outcome).any(|outcome| outcome == DeliveryOutcome::Acknowledged)
        })
        .await;
        assert!(back, "the service does not come back:\n{}", self.process.log_end());
        self.started().await;
        over.elapsed()
    }

    /// Waits until some more events are acknowledged, so that the next fault strikes in the middle of work.
    async fn in_the_middle(&mut self) {
        let more = acknowledged(&self.emulator).len() + 1 + self.random.below(40);
        let some = wait_until(PATIENCE, async || acknowledged(&self.emulator).len() >= more).await;
        assert!(some, "nothing is acknowledged:\n{}", self.process.log_end());
    }
}

async fn nothing_is_lost_or_doubled(engine: Engine) {
    let (rounds, seed) = (number("CRASH_ROUNDS", 12), number("CRASH_SEED", 1) as u64);
    let mut play = Play::set(engine, seed).await;
    if !play.disk.is_small() {
        println!("not root: the disk of PostgreSQL is never full, that of SQLite by a limit on the size of files");
    }
    let (database, mut ledger, mut deck) = (play.database(), Ledger::default(), Vec::new());
    let load = Load::start(&play.emulator, seed);
    let began = Instant::now();
    for round in 1..=rounds {
        if deck.is_empty() {
            deck = Fault::deck(&mut play.random, engine, play.disk.is_small());
        }
        let fault = deck.remove(0);
        play.in_the_middle().await;
        let struck = Instant::now();
        fault.strike(&mut play).await;
        let lasted = struck.elapsed();
        let back = play.recovered().await;
        let kept = acknowledged(&play.emulator);
        ledger.check(&database, &kept).await;
        println!(
            "{engine:?} round {round}: {fault:?} for {lasted:.1?}, back after {back:.1?}, {} acknowledged",
            kept.len()
        );
    }
    load.stop();
    end(play, &database, ledger, rounds, began).await;
}

/// Everything is delivered, folded and fetched; the mirror equals the emulator, and no slow client is left.
async fn end(mut play: Play, database: &Database, mut ledger: Ledger, rounds: usize, began: Instant) {
    let find = |name: &str| play.variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
    let db = Db::connect(&Config::read(&find).unwrap().database).unwrap();
    settle(&play.emulator, &db).await;
    let kept = acknowledged(&play.emulator);
    ledger.check(database, &kept).await;
    let let_go = tokio::time::timeout(PATIENCE, async { while play.slow_clients.join_next().await.is_some() {} }).await;
    assert!(let_go.is_ok(), "{} slow clients still hold their connections", play.slow_clients.len());
    play.process.assert_runs();
    println!(
        "{:?}: {rounds} rounds in {:.0?}: {} events acknowledged, {} ended, none lost, none doubled, the mirror is equal",
        play.engine,
        began.elapsed(),
        kept.len(),
        ledger.ended(),
    );
    play.emulator.stop().await;
    let _ = std::fs::remove_file(&play.log);
}
