//! `directory-mirror events`: the inbox, for operators.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{SecondsFormat, TimeDelta};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{CommandError, open_database};
use crate::clock::{Clock, Timestamp};
use crate::config::{self, SHORTEST_INBOX_RETENTION};
use crate::db::{Db, Direction, EventFilter, InboxEntry};
use crate::model::{EventId, EventStatus};

/// Bodies may be large: this many are in memory at a time.
const PAGE: i64 = 100;

#[derive(Debug, Subcommand)]
pub(super) enum EventsCommand {
    /// List events, the newest first
    List {
        #[command(flatten)]
        filter: Filter,
        /// How many
        #[arg(long, default_value_t = 50)]
        limit: i64,
    },
    /// Show one event and how it ended
    Show {
        /// The event's id
        event_id: String,
        /// Its body too, which holds personal data
        #[arg(long)]
        body: bool,
    },
    /// Fold events again; a running server takes them up within seconds
    Retry {
        /// Events, whatever their status
        #[arg(required_unless_present = "dead")]
        event_ids: Vec<String>,
        /// All events that are dead
        #[arg(long, conflicts_with = "event_ids")]
        dead: bool,
    },
    /// Write events with their bodies, which hold personal data, as lines for `directory-mirror replay`, the oldest first
    Export {
        #[command(flatten)]
        filter: Filter,
        /// A file that is not there yet; otherwise to standard output
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Delete finished events, in small batches, also beside a running server
    Prune {
        /// applied, skipped, ignored, or dead; without it all but the dead ones
        #[arg(long, value_parser = parse_finished)]
        status: Option<EventStatus>,
        /// Those that were finished longer ago than this, such as 30d or 12h [default: INBOX_RETENTION]
        #[arg(long, value_parser = humantime::parse_duration)]
        older_than: Option<Duration>,
        /// Say how many there are, and delete none
        #[arg(long)]
        dry_run: bool,
    },
}

fn parse_finished(text: &str) -> Result<EventStatus, &'static str> {
    match EventStatus::from_stored(text) {
        Some(EventStatus::Pending) => Err("a pending event is not folded yet, and is never pruned"),
        Some(status) => Ok(status),
        None => Err("that is no status: applied, skipped, ignored, dead"),
    }
}

#[derive(Debug, Args)]
pub(super) struct Filter {
    /// pending, applied, skipped, ignored or dead
    #[arg(long)]
    status: Option<String>,
    /// Only this directory's
    #[arg(long)]
    directory: Option<String>,
    /// Only this type, such as dsync.user.deleted
    #[arg(long = "type")]
    event_type: Option<String>,
}

impl Filter {
    fn read(self) -> Result<EventFilter, CommandError> {
        let status = self.status.map(|status| {
            let wrong =
                || CommandError::Usage(format!("{status:?} is no status: pending, applied, skipped, ignored, dead"));
            EventStatus::from_stored(&status).ok_or_else(wrong)
        });
        Ok(EventFilter { status: status.transpose()?, directory_id: self.directory, event_type: self.event_type })
    }
}

pub(super) async fn run(command: EventsCommand) -> Result<ExitCode, CommandError> {
    let db = open_database().await?;
    match command {
        EventsCommand::List { filter, limit } => list(&db, filter.read()?, limit).await,
        EventsCommand::Show { event_id, body } => show(&db, event_id, body).await,
        EventsCommand::Retry { event_ids, dead } => retry(&db, &event_ids, dead).await,
        EventsCommand::Export { filter, out } => export(&db, filter.read()?, out).await,
        EventsCommand::Prune { status, older_than, dry_run } => prune(&db, status, older_than, dry_run).await,
    }
}

/// An event in one line, without anything personal.
pub(super) fn line(entry: &InboxEntry) -> String {
    let at = entry.received_at().to_rfc3339_opts(SecondsFormat::Millis, true);
    let reason = entry.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{at}  {}  {}  by {}  {}{reason}", entry.event_id, entry.event_type, entry.source, entry.status)
}

async fn list(db: &Db, filter: EventFilter, limit: i64) -> Result<ExitCode, CommandError> {
    let mut left = limit.max(0);
    let mut listed = 0;
    let mut place = None;
    let mut out = std::io::stdout().lock();
    while left > 0 {
        let page = db.events(&filter, Direction::NewestFirst, place.as_ref(), left.min(PAGE)).await?;
        let Some((last, _)) = page.last() else { break };
        place = Some((last.received_at(), last.event_id.clone()));
        left -= i64::try_from(page.len()).unwrap_or(left);
        for (entry, _) in &page {
            writeln!(out, "{}", line(entry))?;
        }
        listed += page.len();
    }
    if left <= 0 && listed > 0 {
        eprintln!("{listed} listed; --limit lists more, if there are more");
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(db: &Db, id: String, with_body: bool) -> Result<ExitCode, CommandError> {
    let Some((entry, body)) = db.event(&EventId::from_stored(id.clone())).await? else {
        eprintln!("the inbox has no event {id}: it was never received");
        return Ok(ExitCode::FAILURE);
    };
    say!("{}", line(&entry));
    say!("directory: {}", entry.directory_id.as_deref().unwrap_or("none"));
    say!("failed attempts: {}", entry.attempts);
    say!("body: {} bytes", body.len());
    if with_body {
        say!("{}", String::from_utf8_lossy(&body));
    }
    Ok(ExitCode::SUCCESS)
}

async fn retry(db: &Db, ids: &[String], dead: bool) -> Result<ExitCode, CommandError> {
    let retried = db.retry_events((!dead).then_some(ids)).await?;
    say!("{retried} event(s) are pending again");
    let named: std::collections::BTreeSet<&String> = ids.iter().collect();
    let missing = if dead { 0 } else { named.len().saturating_sub(retried) };
    if missing > 0 {
        eprintln!("{missing} of the named events are not in the inbox");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

async fn export(db: &Db, filter: EventFilter, out: Option<PathBuf>) -> Result<ExitCode, CommandError> {
    let mut to: Box<dyn Write> = match &out {
        Some(path) => Box::new(std::io::BufWriter::new(create_private(path)?)),
        None => Box::new(std::io::stdout().lock()),
    };
    let mut place = None;
    let mut exported = 0_usize;
    loop {
        let page = db.events(&filter, Direction::OldestFirst, place.as_ref(), PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        place = Some((last.received_at(), last.event_id.clone()));
        for (entry, body) in page {
            writeln!(to, "{}", exported_line(&entry, body))?;
            exported += 1;
        }
    }
    to.flush()?;
    eprintln!("{exported} event(s) exported");
    Ok(ExitCode::SUCCESS)
}

async fn prune(
    db: &Db,
    status: Option<EventStatus>,
    older_than: Option<Duration>,
    dry_run: bool,
) -> Result<ExitCode, CommandError> {
    let configured = config::read_inbox_retention(&|name| std::env::var(name).ok())?;
    let older_than = older_than.or(configured).ok_or_else(|| {
        CommandError::Usage("INBOX_RETENTION is 0, which keeps events for ever: say --older-than".to_owned())
    })?;
    if older_than < SHORTEST_INBOX_RETENTION {
        return Err(CommandError::Usage(
            "--older-than is 3d at the least: WorkOS may send what is younger once more, or it is polled again"
                .to_owned(),
        ));
    }
    let now = Clock::system().now();
    let before = TimeDelta::from_std(older_than).ok().and_then(|older_than| now.checked_sub_signed(older_than));
    let before = before.unwrap_or(Timestamp::UNIX_EPOCH);
    let filter = EventFilter { status, ..EventFilter::default() };
    if dry_run {
        say!("{} event(s) would be pruned", db.count_prunable_events(&filter, before).await?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut pruned = 0;
    loop {
        let began = Instant::now();
        let batch = db.prune_events(&filter, before).await?;
        if batch == 0 {
            break;
        }
        pruned += batch;
        // A server beside us wants to write too.
        tokio::time::sleep(began.elapsed()).await;
    }
    say!("{pruned} event(s) pruned");
    Ok(ExitCode::SUCCESS)
}

/// A new file that only its owner reads.
fn create_private(path: &Path) -> Result<File, CommandError> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|error| CommandError::Usage(format!("{} cannot be created: {error}", path.display())))
}

/// The body goes byte for byte: as text where it is text.
fn exported_line(entry: &InboxEntry, body: Vec<u8>) -> Value {
    let mut line = json!({
        "object": "inbox_event",
        "event_id": entry.event_id,
        "event_type": entry.event_type,
        "received_at": entry.received_at(),
        "source": entry.source,
        "status": entry.status,
        "reason": entry.reason,
    });
    match String::from_utf8(body) {
        Ok(text) => line["body"] = Value::String(text),
        Err(error) => line["body_base64"] = Value::String(STANDARD.encode(error.as_bytes())),
    }
    line
}
