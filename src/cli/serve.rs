//! `directory-mirror serve`

use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::Service;
use crate::clock::Clock;
use crate::config::{Config, Role};
use crate::telemetry;

/// The exit status for a configuration that cannot be used.
const BAD_CONFIGURATION: u8 = 2;
const LOGS: &str = "directory_mirror=info,warn";

#[derive(Debug, Args)]
pub(super) struct ServeArguments {
    /// What this process does: receive webhooks (web), keep the mirror (worker), or both
    #[arg(long, value_enum, default_value_t = Role::All)]
    role: Role,
}

pub(super) async fn run(arguments: ServeArguments) -> ExitCode {
    if let Err(error) = read_dotenv() {
        eprintln!("{error}");
        return ExitCode::from(BAD_CONFIGURATION);
    }
    let config = match Config::read(&|name| std::env::var(name).ok()) {
        Ok(config) => Config { role: arguments.role, ..config },
        Err(problems) => {
            eprintln!("the configuration has {} problem(s):\n{problems}", problems.0.len());
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    telemetry::start(config.log_format, LOGS);
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        eprintln!("signals cannot be listened to");
        return ExitCode::FAILURE;
    };
    let service = match Service::start(&config, Clock::system()).await {
        Ok(service) => service,
        Err(error) => {
            eprintln!("directory-mirror cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    service.stop().await;
    ExitCode::SUCCESS
}

/// A file `.env` that is there and cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(".env cannot be read: {0}")]
pub(super) struct DotenvError(String);

/// Adds the variables of `.env`, in the working directory or above it, to the environment, which wins.
///
/// # Errors
/// [`DotenvError`] if there is such a file, but it cannot be read.
pub(super) fn read_dotenv() -> Result<(), DotenvError> {
    match dotenvy::dotenv() {
        Err(error) if !error.not_found() => Err(DotenvError(describe(&error))),
        _ => Ok(()),
    }
}

/// The parser's own message repeats the line, which may hold a secret.
fn describe(error: &dotenvy::Error) -> String {
    match error {
        dotenvy::Error::LineParse(_, position) => format!("a line is malformed (at its character {position})"),
        other => other.to_string(),
    }
}
