//! `directory-mirror marks`: what has to be fetched, and why it waits.

use std::process::ExitCode;

use chrono::{SecondsFormat, TimeDelta};
use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::{Value, json};

use super::{CommandError, open_database};
use crate::clock::{Clock, Timestamp};
use crate::db::{Db, MarkEntry, MarkFilter};
use crate::mirror::HELD_FROM_MINUTES;
use crate::model::{DirectoryId, MarkKind};

#[derive(Debug, Subcommand)]
pub(super) enum MarksCommand {
    /// List marks, those first that are due first
    List {
        /// Only this directory's
        #[arg(long)]
        directory: Option<String>,
        /// directory, user, group, edge, user_groups or group_members
        #[arg(long, value_parser = parse_kind)]
        kind: Option<MarkKind>,
        /// Only those that are due now
        #[arg(long)]
        due: bool,
        /// How many
        #[arg(long, default_value_t = 50)]
        limit: i64,
        /// A JSON object a line
        #[arg(long)]
        json: bool,
    },
    // Its documentation is that of its arguments.
    Retry(RetryArguments),
}

/// Make marks due now that were put off; a running server takes them up within seconds
#[derive(Debug, Args)]
pub(super) struct RetryArguments {
    /// The directory's id
    #[arg(required_unless_present = "all")]
    directory: Option<String>,
    /// Those of every directory
    #[arg(long, conflicts_with = "directory")]
    all: bool,
    /// Only this kind: directory, user, group, edge, user_groups or group_members
    #[arg(long, value_parser = parse_kind)]
    kind: Option<MarkKind>,
}

fn parse_kind(text: &str) -> Result<MarkKind, String> {
    let words = MarkKind::ALL.map(MarkKind::as_str).join(", ");
    MarkKind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| format!("that is no kind of mark: {words}"))
}

pub(super) async fn run(command: MarksCommand) -> Result<ExitCode, CommandError> {
    let db = open_database().await?;
    let now = Clock::system().now();
    match command {
        MarksCommand::List { directory, kind, due, limit, json } => {
            let filter = MarkFilter { directory_id: directory, kind, due_at: due.then_some(now) };
            list(&db, &filter, limit.max(0), json, now).await
        }
        MarksCommand::Retry(arguments) => retry(&db, arguments, now).await,
    }
}

async fn list(db: &Db, filter: &MarkFilter, limit: i64, json: bool, now: Timestamp) -> Result<ExitCode, CommandError> {
    let marks = db.marks(filter, limit).await?;
    if json {
        marks.iter().for_each(|entry| say!("{}", as_json(entry, now)));
    } else if !marks.is_empty() {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(["directory", "to be fetched", "version", "since", "due", "contradicted", "failed", "waits"]);
        for entry in &marks {
            let mark = &entry.mark;
            table.add_row([
                entry.directory_id.to_string(),
                mark.target.to_string(),
                mark.version.to_string(),
                instant(mark.set_at),
                instant(mark.due_at),
                mark.contradictions.max(0).to_string(),
                mark.failures.to_string(),
                Wait::of(entry, now).to_string(),
            ]);
        }
        say!("{table}");
    }
    let all = db.count_marks(filter).await?;
    eprintln!("{} of {all} mark(s) listed", marks.len());
    Ok(ExitCode::SUCCESS)
}

async fn retry(db: &Db, arguments: RetryArguments, now: Timestamp) -> Result<ExitCode, CommandError> {
    let known = db.directory_health().await?;
    let mut chosen: Vec<DirectoryId> = known.into_iter().map(|one| one.directory.record.id).collect();
    if let Some(directory) = &arguments.directory {
        chosen.retain(|id| id.as_str() == directory);
        if chosen.is_empty() {
            return Err(CommandError::Usage(format!(
                "the mirror has no directory {directory}: see `directory-mirror directories list`"
            )));
        }
    }
    let mut retried = 0;
    for id in &chosen {
        retried += db.retry_marks(id, arguments.kind, now).await?;
    }
    say!("{retried} mark(s) that were put off are due now");
    Ok(ExitCode::SUCCESS)
}

/// Why a mark is there still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait<'a> {
    /// Nothing keeps it, but perhaps the rate limits.
    Due,
    /// The last requests for its directory failed.
    Failing(&'a str),
    /// Nothing is fetched for a disabled directory.
    Disabled,
    /// The first scan fetches everything, what is marked too.
    FirstScan,
    /// Unannounced removals wait for a confirmation.
    Braked,
    /// The API contradicts the newest event about it, and is asked again.
    Doubted,
    /// Its answer could not be read.
    Unreadable,
    /// No answer came, or an accepted one is looked at once more.
    PutOff,
}

impl<'a> Wait<'a> {
    fn of(entry: &'a MarkEntry, now: Timestamp) -> Self {
        let mark = &entry.mark;
        let due = mark.due_at <= now;
        let is_held = entry.braked && mark.due_at > now + TimeDelta::minutes(HELD_FROM_MINUTES);
        match &entry.last_error {
            _ if !entry.enabled => Self::Disabled,
            _ if entry.first_scan && mark.target.kind() != MarkKind::Directory => Self::FirstScan,
            _ if !due && mark.failures > 0 => Self::Unreadable,
            _ if is_held && mark.target.kind() != MarkKind::Directory => Self::Braked,
            _ if !due && mark.contradictions > 0 => Self::Doubted,
            Some(error) => Self::Failing(error),
            None if due => Self::Due,
            None => Self::PutOff,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Failing(_) => "failing",
            Self::Disabled => "disabled",
            Self::FirstScan => "first_scan",
            Self::Braked => "braked",
            Self::Doubted => "doubted",
            Self::Unreadable => "unreadable",
            Self::PutOff => "put_off",
        }
    }
}

impl std::fmt::Display for Wait<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Due => "due now",
            Self::Failing(error) => return write!(f, "the directory cannot go on: {error}"),
            Self::Disabled => "the directory is disabled",
            Self::FirstScan => "the directory's first scan fetches it",
            Self::Braked => "held by the brake, until `sync --confirm-removals`",
            Self::Doubted => "doubted: the API contradicts the newest event, and is asked again",
            Self::Unreadable => "put off: the API's answer could not be read",
            Self::PutOff => "put off",
        })
    }
}

fn as_json(entry: &MarkEntry, now: Timestamp) -> Value {
    use crate::model::MarkTarget as T;
    let mark = &entry.mark;
    let (group, user) = match &mark.target {
        T::Directory => (None, None),
        T::User(user) | T::UserGroups(user) => (None, Some(user)),
        T::Group(group) | T::GroupMembers(group) => (Some(group), None),
        T::Edge(group, user) => (Some(group), Some(user)),
    };
    json!({
        "directory_id": entry.directory_id.as_str(),
        "kind": mark.target.kind().as_str(),
        "directory_group_id": group.map(ToString::to_string),
        "directory_user_id": user.map(ToString::to_string),
        "version": mark.version,
        "set_at": mark.set_at,
        "due_at": mark.due_at,
        "contradictions": mark.contradictions.max(0),
        "failures": mark.failures,
        "urgent": mark.urgent,
        "waits": Wait::of(entry, now).as_str(),
        "directory_error": entry.last_error,
    })
}

fn instant(at: Timestamp) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::model::{DirectoryGroupId, DirectoryId, DirectoryUserId, Mark, MarkTarget};

    fn entry(target: MarkTarget, due_in: i64, contradictions: i32, failures: i32) -> MarkEntry {
        let due_at = Timestamp::UNIX_EPOCH + TimeDelta::seconds(due_in);
        MarkEntry {
            directory_id: DirectoryId::from_stored("directory_1".to_owned()),
            mark: Mark {
                target,
                version: 2,
                due_at,
                contradictions,
                failures,
                urgent: false,
                set_at: Timestamp::UNIX_EPOCH,
                hinted_at: None,
            },
            enabled: true,
            first_scan: false,
            braked: false,
            last_error: None,
        }
    }

    #[test]
    fn a_mark_says_why_it_waits() {
        let (user, group) =
            (DirectoryUserId::from_stored("u".to_owned()), DirectoryGroupId::from_stored("g".to_owned()));
        let record = || MarkTarget::User(user.clone());
        let edge = || MarkTarget::Edge(group.clone(), user.clone());
        let braked = |entry| MarkEntry { braked: true, ..entry };
        let failing = |entry| MarkEntry { last_error: Some("down".to_owned()), ..entry };
        let scanned = |entry| MarkEntry { first_scan: true, ..entry };
        for (entry, wait) in [
            (entry(record(), 0, 0, 0), Wait::Due),
            (entry(record(), 1, 0, 0), Wait::PutOff),
            (entry(record(), 1, 2, 0), Wait::Doubted),
            (entry(record(), 0, 2, 0), Wait::Due),
            (entry(edge(), 1, 0, 3), Wait::Unreadable),
            (braked(entry(record(), 1800, 3, 0)), Wait::Braked),
            (braked(entry(record(), 4, 3, 0)), Wait::Doubted),
            (braked(entry(record(), 0, 0, 0)), Wait::Due),
            (braked(entry(edge(), 1800, 0, 0)), Wait::Braked),
            (braked(entry(edge(), 1, 0, 0)), Wait::PutOff),
            (braked(entry(edge(), 1800, 0, 3)), Wait::Unreadable),
            (failing(entry(record(), 0, 0, 0)), Wait::Failing("down")),
            (failing(entry(record(), 1, 0, 1)), Wait::Unreadable),
            (scanned(entry(edge(), 0, 0, 0)), Wait::FirstScan),
            (scanned(entry(MarkTarget::Directory, 0, 0, 0)), Wait::Due),
            (MarkEntry { enabled: false, ..entry(record(), 0, 0, 0) }, Wait::Disabled),
        ] {
            assert_eq!(Wait::of(&entry, Timestamp::UNIX_EPOCH), wait, "{entry:?}");
        }
    }
}
