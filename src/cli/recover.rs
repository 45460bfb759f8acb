//! `directory-mirror recover`: makes a database that was restored from a backup ready to go on.

use std::process::ExitCode;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;

use super::{CommandError, open_database};
use crate::clock::{Clock, Timestamp};
use crate::config::{self, ApiConfig};
use crate::db::{PollerState, Restored};
use crate::sync::{Rewind, rewind};

/// Prepares a database that was restored from a backup: run it before the service is started again.
///
/// It rewinds the Events API poller, asks for a scan of every enabled directory, and shuts out processes from before
/// the restore. To run it again does no harm.
#[derive(Debug, Args)]
pub(super) struct RecoverArguments {
    /// Read the Events API from this instant (2026-01-31T12:00:00Z), or from so long ago (36h, 7d), rather than from
    /// the newest event in the inbox; never from later than the service would have gone on
    #[arg(long, value_parser = parse_since)]
    since: Option<Since>,
    /// Do it: every process of the service is stopped
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Print what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    Instant(Timestamp),
    Ago(TimeDelta),
}

fn parse_since(text: &str) -> Result<Since, &'static str> {
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Ok(Since::Instant(instant.with_timezone(&Utc)));
    }
    let ago = config::parse_duration(text).and_then(|ago| TimeDelta::from_std(ago).ok());
    let ago = ago.filter(|ago| *ago <= TimeDelta::days(36_500));
    ago.map(Since::Ago).ok_or("give an instant such as 2026-01-31T12:00:00Z, or a duration such as 36h or 7d")
}

impl Since {
    fn before(self, now: Timestamp) -> Result<Timestamp, CommandError> {
        match self {
            Self::Ago(ago) => Ok(now - ago),
            Self::Instant(instant) if instant <= now => Ok(instant),
            Self::Instant(_) => {
                Err(CommandError::Usage("--since is in the future: name an instant before the backup".to_owned()))
            }
        }
    }
}

pub(super) async fn run(arguments: RecoverArguments) -> Result<ExitCode, CommandError> {
    let now = Clock::system().now();
    let since = arguments.since.map(|since| since.before(now)).transpose()?;
    let db = open_database().await?;
    let api = config::read_api_config(&|name| std::env::var(name).ok())?;
    // No process of the service was ever started on an empty database.
    let state = db.poller().await?.unwrap_or(PollerState {
        started_at: now,
        read_to: None,
        round: None,
        newest_at: None,
        polled_at: None,
        last_error: None,
    });
    let restored = db.restored().await?;
    let (place, rewind) = rewind(state, restored.newest_event_at, since, now);
    for line in plan(&restored, &rewind, &api) {
        say!("{line}");
    }
    if arguments.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.yes {
        return Err(CommandError::Usage(
            "nothing was changed: stop every process of the service, and add --yes".to_owned(),
        ));
    }
    // One that only receives shows neither here nor there, and does no harm.
    if !db.try_claim_worker()? || db.live_workers().await? > 0 {
        return Err(CommandError::WorkerRuns);
    }
    db.recover(&place, now).await?;
    say!("done. Next: start the service, and look at /health until every directory is synced and no mark is left.");
    Ok(ExitCode::SUCCESS)
}

fn plan(restored: &Restored, rewind: &Rewind, api: &ApiConfig) -> Vec<String> {
    let newest = restored
        .newest_event_at
        .map_or_else(|| "holds no event".to_owned(), |at| format!("its newest event is of {at:.0}"));
    let mut lines = vec![format!("inbox     {newest}")];
    lines.push(match (&api.key, api.events_poll_interval) {
        (Some(_), Some(_)) => format!("poller    reads the events again since {:.0}", rewind.from),
        (None, _) => "poller    off, since WORKOS_API_KEY is not set: what came after the backup is lost".to_owned(),
        (Some(_), None) => {
            "poller    off, by EVENTS_POLL_INTERVAL=0: scans alone bring what came after the backup".to_owned()
        }
    });
    if rewind.cut_short {
        lines.push("          WorkOS keeps older events no more: the scans alone bring what they told".to_owned());
    }
    lines.push(format!(
        "scans     {} directories, and at the next start those that the mirror does not know",
        restored.directories
    ));
    lines.push("processes those from before the restore can change nothing any more".to_owned());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_an_instant_or_so_long_ago() {
        let now = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        let before = |text: &str| parse_since(text).unwrap().before(now).unwrap();
        assert_eq!(before("7d"), now - TimeDelta::days(7));
        assert_eq!(before("3600"), now - TimeDelta::hours(1));
        assert_eq!(before("2026-01-31T13:00:00+01:00").to_rfc3339(), "2026-01-31T12:00:00+00:00");
        assert!(parse_since("2099-01-01T00:00:00Z").unwrap().before(now).is_err());
        for text in ["yesterday", "", "-1h", "2026-01-31", "999999999999999999"] {
            assert!(parse_since(text).is_err(), "{text}");
        }
    }
}
