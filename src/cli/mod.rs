//! The commands, one file each.

/// Prints a line. A reader such as `head` may stop reading when it has seen enough: then the process ends, in peace.
macro_rules! say {
    ($($argument:tt)*) => { $crate::cli::print_line(format_args!($($argument)*)) };
}

pub mod compare;
mod demo;
mod directories;
mod doctor;
mod events;
mod health;
mod marks;
mod migrate;
mod own_server;
mod recover;
mod replay;
mod serve;
mod sync;
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, ConfigProblems, DatabaseConfig};
use crate::db::{Db, DbError, pending_migrations};
use crate::sync::SyncError;

/// Keeps a local database an exact mirror of the customer directories connected through WorkOS Directory Sync.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive webhooks and keep the mirror (configured by the environment and .env; see .env.example)
    Serve(serve::ServeArguments),
    /// Play a company's week against a built-in WorkOS emulator, with no account and no set-up
    Demo(demo::DemoArguments),
    // Its documentation is that of its arguments.
    Replay(replay::ReplayArguments),
    /// Look at the inbox: list, show, retry, export or prune events
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// Look at what has to be fetched: list marks, or make those due that were put off
    #[command(subcommand)]
    Marks(marks::MarksCommand),
    /// List the directories, or choose which are followed
    #[command(subcommand)]
    Directories(directories::DirectoriesCommand),
    /// Reconcile a directory with WorkOS now, or print how it differs
    Sync(sync::SyncArguments),
    /// Say why a user, group or directory is as it is: its row, hints, answers of the API, marks and last events
    Why(why::WhyArguments),
    /// Examine the set-up, a line for each thing that has to be right (status 1: warnings, 2: errors)
    Doctor(doctor::DoctorArguments),
    /// Bring the database up to date; serve does it by itself at its start
    Migrate(migrate::MigrateArguments),
    // Its documentation is that of its arguments.
    Recover(recover::RecoverArguments),
    /// Ask a running server whether it can work (status 0: yes, 1: no)
    Health(health::HealthArguments),
}

/// Why a command that works on the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Dotenv(#[from] serve::DotenvError),
    #[error("the configuration cannot be used:\n{0}")]
    Config(#[from] ConfigProblems),
    #[error("{0}")]
    Usage(String),
    #[error("the database lacks {0} migration(s): run `directory-mirror migrate`, or start `directory-mirror serve`")]
    NotMigrated(usize),
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Sync(#[from] SyncError),
    #[error("a worker uses this database: stop it first (one that died counts as alive for up to LEASE_TTL)")]
    WorkerRuns,
    #[error("the server has not begun what was asked for: {0}")]
    NotTakenUp(String),
    #[error("not healthy: {0}")]
    NotHealthy(String),
    #[error("cannot be written: {0}")]
    Write(#[from] std::io::Error),
}

fn print_line(line: std::fmt::Arguments<'_>) {
    use std::io::Write;
    if let Err(error) = writeln!(std::io::stdout().lock(), "{line}") {
        std::process::exit(i32::from(error.kind() != std::io::ErrorKind::BrokenPipe));
    }
}

/// The database as it stands, for commands that look at it beside a running server.
async fn open_database() -> Result<Db, CommandError> {
    let config = read_database_config()?;
    let missing = pending_migrations(&config).await?.len();
    if missing > 0 {
        return Err(CommandError::NotMigrated(missing));
    }
    Ok(Db::connect(&config)?)
}

fn read_database_config() -> Result<DatabaseConfig, CommandError> {
    serve::read_dotenv()?;
    Ok(config::read_database_config(&|name| std::env::var(name).ok())?)
}

/// 1 if something could not be done, 2 if it cannot be done as it was asked.
fn exit_code(result: Result<ExitCode, CommandError>) -> ExitCode {
    result.unwrap_or_else(|error| {
        // A reader such as `head` may stop reading when it has seen enough.
        if !matches!(&error, CommandError::Write(error) if error.kind() == std::io::ErrorKind::BrokenPipe) {
            eprintln!("{error}");
        }
        match error {
            CommandError::Dotenv(_) | CommandError::Config(_) | CommandError::Usage(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    })
}

/// Runs the command that the process was started with.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the runtime cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        match arguments.command {
            Command::Serve(arguments) => serve::run(arguments).await,
            Command::Demo(arguments) => demo::run(arguments).await,
            Command::Replay(arguments) => replay::run(arguments).await,
            Command::Events(command) => exit_code(events::run(command).await),
            Command::Marks(command) => exit_code(marks::run(command).await),
            Command::Directories(command) => exit_code(directories::run(command).await),
            Command::Sync(arguments) => exit_code(sync::run(arguments).await),
            Command::Why(arguments) => exit_code(why::run(arguments).await),
            Command::Doctor(arguments) => doctor::run(arguments).await,
            Command::Migrate(arguments) => exit_code(migrate::run(arguments).await),
            Command::Recover(arguments) => exit_code(recover::run(arguments).await),
            Command::Health(arguments) => exit_code(health::run(arguments).await),
        }
    })
}
