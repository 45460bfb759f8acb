//! `directory-mirror migrate`

use std::process::ExitCode;

use clap::Args;

use super::{CommandError, read_database_config};
use crate::db::{pending_migrations, run_migrations};

#[derive(Debug, Args)]
pub(super) struct MigrateArguments {
    /// Name what would run, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(arguments: MigrateArguments) -> Result<ExitCode, CommandError> {
    let config = read_database_config()?;
    let pending = pending_migrations(&config).await?;
    if pending.is_empty() {
        say!("the database is up to date");
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.dry_run {
        run_migrations(&config).await?;
    }
    let what = if arguments.dry_run { "would run" } else { "ran" };
    pending.iter().for_each(|name| say!("{what} {name}"));
    Ok(ExitCode::SUCCESS)
}
