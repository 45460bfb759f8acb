//! `directory-mirror directories`: which there are, and whether they are followed.

use std::process::ExitCode;

use clap::Subcommand;

use super::{CommandError, open_database};
use crate::clock::Clock;
use crate::db::Db;
use crate::model::DirectoryId;

#[derive(Debug, Subcommand)]
pub(super) enum DirectoriesCommand {
    /// List them with their state and size
    List,
    /// Follow a directory again, from a reconcile on
    Enable {
        /// The directory's id
        directory: String,
    },
    /// Ignore a directory's events from now on; its rows stay as they are
    Disable {
        /// The directory's id
        directory: String,
    },
}

pub(super) async fn run(command: DirectoriesCommand) -> Result<ExitCode, CommandError> {
    let db = open_database().await?;
    match command {
        DirectoriesCommand::List => list(&db).await,
        DirectoriesCommand::Enable { directory } => set(&db, directory, true).await,
        DirectoriesCommand::Disable { directory } => set(&db, directory, false).await,
    }
}

async fn list(db: &Db) -> Result<ExitCode, CommandError> {
    for health in db.directory_health().await? {
        let row = &health.directory;
        let size = db.directory_size(&row.record.id).await?;
        let followed = match (row.deleted_at, row.enabled) {
            (Some(_), _) => "deleted",
            (None, true) => "enabled",
            (None, false) => "disabled",
        };
        let synced = row.last_synced_at.map_or_else(|| "never scanned".to_owned(), |at| format!("scanned {at:.0}"));
        say!(
            "{}  {followed:8}  {:8}  {:7}  {} users, {} groups, {synced}",
            row.record.id,
            row.record.state,
            row.sync_status.as_str(),
            size.users,
            size.groups
        );
        if let Some(since) = health.braked_at.filter(|_| row.is_followed()) {
            say!("    the brake holds unannounced removals since {since:.0}: see `directory-mirror sync --help`");
        }
        if let Some(error) = health.last_error.as_ref().filter(|_| row.is_followed()) {
            say!("    cannot go on: {error}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn set(db: &Db, directory: String, enabled: bool) -> Result<ExitCode, CommandError> {
    let id = DirectoryId::from_stored(directory);
    if !db.set_enabled(&id, enabled).await? {
        return Err(CommandError::Usage(format!(
            "the mirror has no directory {id}: see `directory-mirror directories list`"
        )));
    }
    if enabled {
        db.request_scan(Some(&id), Clock::system().now()).await?;
        say!("{id} is enabled; a running server reconciles it within seconds");
    } else {
        say!("{id} is disabled: its events are ignored until it is enabled again");
    }
    Ok(ExitCode::SUCCESS)
}
