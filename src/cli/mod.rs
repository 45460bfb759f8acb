//! The commands, one file each.

pub mod compare;
mod demo;
mod replay;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    Serve,
    /// Play a company's week against a built-in WorkOS emulator, with no account and no set-up
    Demo(demo::DemoArguments),
    // Its documentation is that of its arguments.
    Replay(replay::ReplayArguments),
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
            Command::Serve => serve::run().await,
            Command::Demo(arguments) => demo::run(arguments).await,
            Command::Replay(arguments) => replay::run(arguments).await,
        }
    })
}
