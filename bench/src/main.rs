//! directory-mirror beside the handler that WorkOS's documentation shows: the same load, the same PostgreSQL, the same
//! emulator, in turns. Prints a table as Markdown. `scripts/bench` builds everything and runs it.

mod figures;
mod load;
mod postgres;
mod proc;
mod round;
mod system;
mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::figures::Figures;
use crate::postgres::Postgres;
use crate::system::{Places, System};

/// What any part of a run may end with.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measures directory-mirror beside two hand-written handlers and prints a table as Markdown.
#[derive(Parser)]
struct Arguments {
    /// Rounds; in each every system has its turn, on an empty database.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The systems, by default all.
    #[arg(long, value_enum, value_delimiter = ',')]
    systems: Vec<System>,
    /// Directories that the load is spread over.
    #[arg(long, default_value_t = 10)]
    directories: usize,
    /// Events of the closed loop, about.
    #[arg(long, default_value_t = 28_000)]
    events: usize,
    /// The longest that the closed loop may take, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Events a second of the load at a fixed rate.
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    /// The first sync of 10,000 users alone, or the loads alone.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Folder of the release binaries.
    #[arg(long, default_value = "target/release")]
    binaries: PathBuf,
    /// Folder of the peers, after `npm install`.
    #[arg(long, default_value = "bench/peers")]
    peers: PathBuf,
    /// After the closed loop print the statements that took part, by how often.
    #[arg(long)]
    statements: bool,
}

/// What can be measured alone.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    FirstSync,
    Loads,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("dm-bench-").tempdir()?;
    let places = Places {
        binaries: arguments.binaries.canonicalize()?,
        peers: arguments.peers.canonicalize()?,
        scratch: scratch.path().to_owned(),
    };
    let mut systems = arguments.systems.clone();
    if systems.is_empty() {
        systems = vec![System::Mirror, System::Documented, System::AckFirst, System::MirrorSqlite];
    }
    let postgres = Postgres::start().await?;
    let (mut results, mut pgbench) = (BTreeMap::<System, Vec<Figures>>::new(), Vec::new());
    for number in 0..arguments.rounds {
        let tps = postgres.pgbench(5).await?;
        eprintln!("round {}: pgbench {tps:.0}/s", number + 1);
        pgbench.push(tps);
        for turn in 0..systems.len() {
            // Each round begins with another one, so that none is always first on a rested machine.
            let system = systems[(turn + number) % systems.len()];
            let plan = round::Plan::new(&arguments);
            let figures = round::run(system, &plan, &places, &postgres).await?;
            eprintln!("round {}: {}: {}", number + 1, system.name(), figures.line());
            results.entry(system).or_default().push(figures);
        }
    }
    print!("{}", figures::table(&results, &pgbench));
    Ok(())
}

/// Asks until the answer is yes.
async fn until(what: &str, patience: Duration, mut condition: impl AsyncFnMut() -> bool) -> Result<()> {
    let started = Instant::now();
    while !condition().await {
        if started.elapsed() > patience {
            return Err(format!("{what}: not within {patience:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
