//! `directory-mirror sync`: a reconcile now, or the drift that one would mend.

mod drift;
mod progress;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use chrono::TimeDelta;
use clap::Args;

use self::progress::Progress;
use super::{CommandError, open_database};
use crate::clock::Clock;
use crate::config::{self, ApiConfig};
use crate::db::{Db, DbError, DirectoryHealth, MarkFilter};
use crate::model::{DirectoryId, SyncStatus};
use crate::sync::{Engine, Retention, Step, SyncError};
use crate::workos::WorkosClient;

/// Exit status of a dry run that found something.
const DRIFTED: u8 = 3;
/// How often the database is asked how far the server has come.
const LOOK: Duration = Duration::from_millis(250);
/// After so long without a server that takes the request up, we say so.
const SERVER_PATIENCE: Duration = Duration::from_secs(10);
/// After so long the command gives up; what was asked for stays so.
const LONGEST_SERVER_PATIENCE: Duration = Duration::from_secs(120);
const NOT_TAKEN_UP: &str = "asked for, and no server has taken it up: is `directory-mirror serve` running on this database, \
     with WORKOS_API_KEY set?";
/// So long we wait for what a scan did not list to be decided; where changes keep coming, that never ends.
const MARKS_PATIENCE: Duration = Duration::from_secs(30);
const FAILURES_IN_A_ROW: u32 = 8;
/// A directory with an error that came no further for so long is reported as failed; the server goes on trying. It is longer
/// than the server waits between two attempts.
const FAILING_PATIENCE: Duration = Duration::from_secs(60);

/// Why directories could not be reconciled now.
type Failed = BTreeMap<DirectoryId, String>;

#[derive(Debug, Args)]
pub(super) struct SyncArguments {
    /// The directory's id
    #[arg(required_unless_present = "all")]
    directory: Option<String>,
    /// Every directory that is enabled and not deleted
    #[arg(long, conflicts_with = "directory")]
    all: bool,
    /// Print what differs from WorkOS (ids and names of fields, no personal data) and change nothing (status 3: something does)
    #[arg(long)]
    dry_run: bool,
    /// Let removals go on that the brake stopped, and those of the next 24 hours
    #[arg(long, conflicts_with = "dry_run")]
    confirm_removals: bool,
}

pub(super) async fn run(arguments: SyncArguments) -> Result<ExitCode, CommandError> {
    let db = open_database().await?;
    let directories = choose(&db, &arguments).await?;
    if directories.is_empty() {
        say!("there is no directory to reconcile");
        return Ok(ExitCode::SUCCESS);
    }
    let api = config::read_api_config(&|name| std::env::var(name).ok())?;
    if arguments.dry_run {
        let client = client(&beside(api, db.workers_beside().await?))?;
        let mut drifted = false;
        for directory in &directories {
            drifted |= drift::print(&db, &client, directory).await?;
        }
        return Ok(if drifted { ExitCode::from(DRIFTED) } else { ExitCode::SUCCESS });
    }
    let now = Clock::system().now();
    for directory in &directories {
        if arguments.confirm_removals {
            db.confirm_removals(directory, now).await?;
        }
        db.request_scan(Some(directory), now).await?;
    }
    // A live worker does what was asked for; without one we do.
    let works = db.live_workers().await? == 0 && db.try_claim_worker()?;
    let failed = if works { work(&db, &api, &directories).await? } else { wait_for_server(&db, &directories).await? };
    report(&db, &directories, &failed).await
}

async fn choose(db: &Db, arguments: &SyncArguments) -> Result<Vec<DirectoryId>, CommandError> {
    let known = db.directory_health().await?;
    let Some(wanted) = &arguments.directory else {
        let followed = known.into_iter().filter(|one| one.directory.is_followed());
        return Ok(followed.map(|one| one.directory.record.id).collect());
    };
    let found = known.into_iter().find(|one| one.directory.record.id.as_str() == wanted).ok_or_else(|| {
        CommandError::Usage(format!(
            "the mirror has no directory {wanted}: `directory-mirror directories list` names those it has"
        ))
    })?;
    if !found.directory.is_followed() {
        return Err(CommandError::Usage(format!("{wanted} is deleted or disabled: there is nothing to reconcile")));
    }
    Ok(vec![found.directory.record.id])
}

/// The configuration with our part of the key's budget: so many workers use theirs meanwhile, and do not know of us.
fn beside(api: ApiConfig, workers: u32) -> ApiConfig {
    let part = match api.requests_per_minute {
        0 => 0,
        all => (all / workers.saturating_add(1)).max(1),
    };
    ApiConfig { requests_per_minute: part, ..api }
}

fn client(api: &ApiConfig) -> Result<WorkosClient, CommandError> {
    // Installed already where a server runs in the same process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    WorkosClient::new(api, Clock::system())
        .map_err(SyncError::from)?
        .ok_or_else(|| CommandError::Usage("WORKOS_API_KEY is not set: there is nothing to compare with".to_owned()))
}

/// Does what a server would do, for these directories.
async fn work(db: &Db, api: &ApiConfig, directories: &[DirectoryId]) -> Result<Failed, CommandError> {
    let clock = Clock::system();
    let lease = db.new_lease(clock.now()).await?;
    let retention = Retention::new(config::read_inbox_retention(&|name| std::env::var(name).ok())?);
    let engine = Engine::new(db.clone(), Some(client(api)?), clock, lease, retention);
    let done = work_off(&engine, directories).await;
    db.give_back(&engine.lease).await?;
    done
}

async fn work_off(engine: &Engine, directories: &[DirectoryId]) -> Result<Failed, CommandError> {
    while engine.fold_step().await? == Step::Ran {}
    let mut failed = Failed::new();
    for directory in directories {
        let mut progress = Progress::new(directory);
        let (mut failures, mut rested) = (0, Duration::ZERO);
        loop {
            match engine.refresh_step(directory).await {
                Ok(Step::Idle) => {
                    // What is asked for again a few seconds later belongs to it.
                    let held = engine
                        .db
                        .directory_health()
                        .await?
                        .iter()
                        .any(|one| is(one, directory) && one.braked_at.is_some());
                    if held || rested >= MARKS_PATIENCE || due_soon(&engine.db, directory).await? == 0 {
                        break;
                    }
                    tokio::time::sleep(LOOK).await;
                    rested += LOOK;
                }
                Ok(Step::Ran) => (failures, rested) = (0, Duration::ZERO),
                Err(error) if failures < FAILURES_IN_A_ROW && matches!(error, SyncError::Api(_)) => {
                    progress.note(&format!("{error}; tried again"));
                    tokio::time::sleep(LOOK * 2_u32.pow(failures)).await;
                    failures += 1;
                }
                // The others are reconciled all the same.
                Err(error @ (SyncError::Api(_) | SyncError::Doubtful(_))) => {
                    failed.insert(directory.clone(), error.to_string());
                    break;
                }
                Err(error) => return Err(error.into()),
            }
            progress.show(engine.db.scan(directory).await?.as_ref());
        }
    }
    Ok(failed)
}

/// Waits until the server has done what was asked.
async fn wait_for_server(db: &Db, directories: &[DirectoryId]) -> Result<Failed, CommandError> {
    let mut failed = Failed::new();
    for directory in directories {
        let mut progress = Progress::new(directory);
        let (mut waited, mut waited_for_marks, mut told) = (Duration::ZERO, Duration::ZERO, None);
        let (mut left, mut failing, mut seen) = (i64::MAX, Duration::ZERO, None);
        while let Some(health) = db.directory_health().await?.into_iter().find(|one| is(one, directory)) {
            let scan = db.scan(directory).await?;
            progress.show(scan.as_ref());
            let over = health.scan_requested_at.is_none()
                && scan.is_none()
                && health.directory.sync_status == SyncStatus::Synced;
            // What was not listed is asked for singly, unless the brake holds it.
            let due = due_soon(db, directory).await?;
            // The error may be an old one: what goes on does not fail.
            let goes_on = due < left || scan != seen;
            seen.clone_from(&scan);
            if due < left {
                waited_for_marks = Duration::ZERO;
            }
            left = due;
            let decided = over && (health.braked_at.is_some() || waited_for_marks >= MARKS_PATIENCE || due == 0);
            if decided || health.directory.deleted_at.is_some() {
                break;
            }
            waited_for_marks += if over { LOOK } else { Duration::ZERO };
            if health.last_error != told {
                told.clone_from(&health.last_error);
                told.iter().for_each(|error| progress.note(error));
            }
            failing = if health.last_error.is_some() && !goes_on { failing + LOOK } else { Duration::ZERO };
            if failing >= FAILING_PATIENCE {
                failed.extend(health.last_error.map(|error| (directory.clone(), error)));
                break;
            }
            waited += LOOK;
            let not_begun = health.scan_requested_at.is_some() && scan.is_none();
            if waited == SERVER_PATIENCE && not_begun && told.is_none() {
                progress.note(NOT_TAKEN_UP);
            }
            if waited >= LONGEST_SERVER_PATIENCE && not_begun {
                return Err(CommandError::NotTakenUp(told.unwrap_or_else(|| NOT_TAKEN_UP.to_owned())));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(failed)
}

/// Marks that are due, or will be within half a minute: what was just accepted is looked at once more later than that.
async fn due_soon(db: &Db, directory: &DirectoryId) -> Result<i64, DbError> {
    let soon = Clock::system().now() + TimeDelta::seconds(30);
    let filter = MarkFilter { directory_id: Some(directory.to_string()), due_at: Some(soon), ..MarkFilter::default() };
    db.count_marks(&filter).await
}

fn is(health: &DirectoryHealth, directory: &DirectoryId) -> bool {
    health.directory.record.id == *directory
}

async fn report(db: &Db, directories: &[DirectoryId], failed: &Failed) -> Result<ExitCode, CommandError> {
    let mut code = ExitCode::SUCCESS;
    for health in db.directory_health().await? {
        let id = &health.directory.record.id;
        if !directories.contains(id) {
            continue;
        }
        let size = db.directory_size(id).await?;
        let what = format!("{} users, {} groups, {} memberships", size.users, size.groups, size.members);
        if let Some(error) = failed.get(id) {
            code = ExitCode::FAILURE;
            say!("{id}: not reconciled: {error}; it stays asked for, and a running server goes on trying");
        } else if health.braked_at.is_some() {
            code = ExitCode::FAILURE;
            say!(
                "{id}: {what}; removals are stopped, since too many vanished at once: if that is right, add --confirm-removals"
            );
        } else {
            let due = due_soon(db, id).await?;
            let left = match size.marks {
                0 => String::new(),
                _ if due > 0 => {
                    code = ExitCode::FAILURE;
                    format!("; not finished: {due} records are still to be asked about")
                }
                marks => format!("; {marks} records are looked at once more within minutes"),
            };
            say!("{id}: {}, {what}{left}", health.directory.sync_status.as_str());
        }
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_workers_a_command_takes_one_part_of_the_budget() {
        let api = |requests_per_minute| ApiConfig {
            key: None,
            base_url: String::new(),
            requests_per_minute,
            directory_users_per_second: 4,
            events_poll_interval: None,
        };
        for (all, workers, part) in [(6000, 0, 6000), (6000, 2, 2000), (2, 5, 1), (0, 3, 0)] {
            assert_eq!(beside(api(all), workers).requests_per_minute, part, "{all} beside {workers}");
        }
    }
}
