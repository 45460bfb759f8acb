//! One system's turn: first sync, start, closed loop, fixed rate.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Bytes;

use crate::figures::{Figure, Figures};
use crate::load::{self, Outcome, Pace};
use crate::postgres::{DATABASE, Postgres};
use crate::system::{Places, Running, System};
use crate::world::{OTHERS_THAN_GROW, World};
use crate::{Arguments, Part, Result};

/// The directory of the first sync: how many users, groups and memberships.
const FIRST_SYNC: (usize, usize, usize) = (10_000, 100, 20_000);
/// Each directory of the loads, before anything happens in it.
const USERS: usize = 1000;
const GROUPS: usize = 10;
const MEMBERSHIPS: usize = 2000;
/// How long the load at a fixed rate lasts.
const RATE_SECONDS: u64 = 10;
/// How long nothing happens before memory is read.
const REST: Duration = Duration::from_secs(2);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(600);
const WAITS: &str = "SELECT EXISTS (SELECT FROM directory_sync.marks)
    OR EXISTS (SELECT FROM directory_sync.inbox_events WHERE status = 'pending')";

/// How much of what.
pub struct Plan {
    only: Option<Part>,
    directories: usize,
    newcomers: usize,
    closed_limit: Duration,
    rate: f64,
    statements: bool,
}

impl Plan {
    /// By the command line.
    pub fn new(arguments: &Arguments) -> Self {
        // A newcomer makes three events: created, added to a group, promoted; everybody else one.
        let each = arguments.events / arguments.directories;
        Self {
            only: arguments.only,
            directories: arguments.directories,
            newcomers: each.saturating_sub(USERS) / 3,
            closed_limit: Duration::from_secs(arguments.seconds),
            rate: arguments.rate,
            statements: arguments.statements,
        }
    }
}

/// Runs a system on empty databases and measures it.
pub async fn run(system: System, plan: &Plan, places: &Places, postgres: &Postgres) -> Result<Figures> {
    let mut figures = Figures::default();
    if plan.only != Some(Part::Loads) {
        first_sync(system, places, postgres, &mut figures).await?;
    }
    if plan.only != Some(Part::FirstSync) {
        loads(system, plan, places, postgres, &mut figures).await?;
    }
    Ok(figures)
}

async fn loads(system: System, plan: &Plan, places: &Places, postgres: &Postgres, figures: &mut Figures) -> Result<()> {
    let world = World::start(&places.binaries).await?;
    let mut directories = Vec::new();
    for number in 0..plan.directories {
        directories.push(world.directory(&format!("Customer {number}"), USERS, GROUPS, MEMBERSHIPS).await?);
    }
    let database = empty_database(system, places, postgres).await?;
    Running::prepare(system, places, &world, &database).await?;
    let (running, _) = Running::start(system, places, &world, &database).await?;
    running.first_sync(directories.len(), postgres, PATIENCE).await?;
    running.stop().await?;

    let (running, start) = Running::start(system, places, &world, &database).await?;
    figures.set(Figure::Start, start.as_secs_f64() * 1e3);
    tokio::time::sleep(REST).await;
    figures.set(Figure::IdleMemory, running.resident_mib().0);

    for directory in &directories {
        world.grow(directory, plan.newcomers).await?;
    }
    let events = world.take_events().await?;
    closed_loop(&running, &world, postgres, events, plan, figures).await?;
    let people = (directories.len() * (USERS + plan.newcomers)) as f64;
    for directory in &directories {
        world.promote(directory, (plan.rate * RATE_SECONDS as f64 / people).min(1.0), OTHERS_THAN_GROW).await?;
    }
    fixed_rate(&running, postgres, world.take_events().await?, plan.rate, figures).await?;
    figures.set(Figure::LoadedMemory, running.resident_mib().1);
    running.stop().await
}

async fn first_sync(system: System, places: &Places, postgres: &Postgres, figures: &mut Figures) -> Result<()> {
    let world = World::start(&places.binaries).await?;
    let (users, groups, memberships) = FIRST_SYNC;
    world.directory("Large", users, groups, memberships).await?;
    let database = empty_database(system, places, postgres).await?;
    Running::prepare(system, places, &world, &database).await?;
    world.take_request_count().await?;
    // Ours begins as soon as it runs, so its start counts; a peer waits until it is told.
    let mut started = Instant::now();
    let (running, _) = Running::start(system, places, &world, &database).await?;
    let cpu = if system.is_mirror() { 0.0 } else { running.cpu_seconds() };
    if !system.is_mirror() {
        started = Instant::now();
    }
    running.first_sync(1, postgres, PATIENCE).await?;
    figures.set(Figure::FirstSync, started.elapsed().as_secs_f64());
    figures.set(Figure::FirstSyncCpu, running.cpu_seconds() - cpu);
    figures.set(Figure::FirstSyncRequests, world.take_request_count().await? as f64);
    running.stop().await
}

async fn closed_loop(
    running: &Running,
    world: &World,
    postgres: &Postgres,
    events: Vec<Bytes>,
    plan: &Plan,
    figures: &mut Figures,
) -> Result<()> {
    let size = events.iter().map(Bytes::len).sum::<usize>() as f64 / events.len() as f64;
    figures.set(Figure::EventSize, size);
    world.take_request_count().await?;
    if running.system.uses_postgres() {
        postgres.connect(DATABASE).await?.batch_execute("SELECT pg_stat_statements_reset()").await?;
    }
    let before = Counters::read(running.system, postgres).await?;
    let cpu = (running.cpu_seconds(), postgres.cpu_seconds(), world.cpu_seconds());
    let started = Instant::now();
    let outcome = generate(running, events, Pace::Closed, plan.closed_limit).await?;
    let acknowledged = outcome.acknowledged as f64;
    drain(running, postgres).await?;
    let drained = started.elapsed().as_secs_f64();
    let per_event = |seconds: f64| seconds * 1e3 / acknowledged;
    figures.set(Figure::Acknowledged, acknowledged / outcome.elapsed.as_secs_f64());
    figures.set_latency(Figure::ClosedMedian, &outcome, 50.0);
    figures.set_latency(Figure::ClosedP99, &outcome, 99.0);
    figures.set(Figure::Drained, acknowledged / drained);
    let service = running.cpu_seconds() - cpu.0;
    figures.set(Figure::Cpu, per_event(service));
    figures.set(Figure::EmulatorCpu, per_event(world.cpu_seconds() - cpu.2));
    figures.set(Figure::GeneratorCpu, per_event(outcome.cpu_seconds));
    figures.set(Figure::Requests, world.take_request_count().await? as f64 / acknowledged);
    if running.system.uses_postgres() {
        let database = postgres.cpu_seconds() - cpu.1;
        figures.set(Figure::PostgresCpu, per_event(database));
        figures.set(Figure::TotalCpu, per_event(service + database));
        let after = Counters::read(running.system, postgres).await?;
        figures.set(Figure::Statements, (after.statements - before.statements) / acknowledged);
        figures.set(Figure::Commits, (after.commits - before.commits) / acknowledged);
        figures.set(Figure::Syncs, (after.syncs - before.syncs) / acknowledged);
        if plan.statements {
            print_statements(postgres, acknowledged).await?;
        }
    }
    Ok(())
}

async fn fixed_rate(
    running: &Running,
    postgres: &Postgres,
    events: Vec<Bytes>,
    rate: f64,
    figures: &mut Figures,
) -> Result<()> {
    let cpu = running.cpu_seconds();
    let outcome = generate(running, events, Pace::Rate(rate), Duration::from_secs(RATE_SECONDS)).await?;
    drain(running, postgres).await?;
    figures.set_latency(Figure::RateMedian, &outcome, 50.0);
    figures.set_latency(Figure::RateP99, &outcome, 99.0);
    figures.set(Figure::RateCpu, (running.cpu_seconds() - cpu) * 1e3 / outcome.acknowledged as f64);
    Ok(())
}

/// The generator has a thread of its own, so that nothing else delays it.
async fn generate(running: &Running, events: Vec<Bytes>, pace: Pace, limit: Duration) -> Result<Outcome> {
    let (target, events) = (running.target.clone(), Arc::new(events));
    let (send, outcome) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || drop(send.send(load::run(&target, &events, pace, limit))));
    let outcome = outcome.await??;
    if outcome.failed > 0 {
        return Err(format!("{}: {} events were not acknowledged", running.system.name(), outcome.failed).into());
    }
    Ok(outcome)
}

/// Waits until everything that was acknowledged has taken effect. While PostgreSQL still has something of ours to do, it
/// is asked that and nothing else, since the health report counts what waits.
async fn drain(running: &Running, postgres: &Postgres) -> Result<()> {
    let asks_database = running.system == System::Mirror;
    let client = if asks_database { Some(postgres.connect(DATABASE).await?) } else { None };
    let started = Instant::now();
    loop {
        let waits = match &client {
            Some(client) => client.query_one(WAITS, &[]).await?.get(0),
            None => false,
        };
        if !waits && running.is_drained().await? {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            return Err(format!("{} does not drain", running.system.name()).into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn empty_database(system: System, places: &Places, postgres: &Postgres) -> Result<String> {
    if system.uses_postgres() {
        return postgres.create_database(DATABASE).await;
    }
    let folder = places.scratch.join("sqlite");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder)?;
    Ok(format!("sqlite:{}", folder.join("mirror.db").display()))
}

/// What PostgreSQL counts.
#[derive(Default)]
struct Counters {
    statements: f64,
    commits: f64,
    syncs: f64,
}

impl Counters {
    async fn read(system: System, postgres: &Postgres) -> Result<Self> {
        if !system.uses_postgres() {
            return Ok(Self::default());
        }
        let client = postgres.connect(DATABASE).await?;
        let row = client
            .query_one(
                "SELECT (SELECT sum(calls) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
                         WHERE d.datname = current_database())::float8,
                        (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database())::float8,
                        (SELECT wal_sync FROM pg_stat_wal)::float8",
                &[],
            )
            .await?;
        Ok(Self {
            statements: row.try_get::<_, Option<f64>>(0)?.unwrap_or(0.0),
            commits: row.try_get(1)?,
            syncs: row.try_get(2)?,
        })
    }
}

async fn print_statements(postgres: &Postgres, events: f64) -> Result<()> {
    let client = postgres.connect(DATABASE).await?;
    let rows = client
        .query(
            "SELECT calls::float8, rows::float8, total_exec_time, left(regexp_replace(query, '\\s+', ' ', 'g'), 150)
             FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
             WHERE d.datname = current_database() ORDER BY total_exec_time DESC LIMIT 40",
            &[],
        )
        .await?;
    for row in rows {
        let (calls, touched, millis): (f64, f64, f64) = (row.get(0), row.get(1), row.get(2));
        let text: String = row.get(3);
        eprintln!("{:8.4}/event {touched:9} rows {:8.1} us/event  {text}", calls / events, millis * 1e3 / events);
    }
    Ok(())
}
