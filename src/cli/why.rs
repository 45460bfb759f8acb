//! `directory-mirror why`: how something came to be as the mirror shows it.

use std::process::ExitCode;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::Args;

use super::events::line;
use super::{CommandError, open_database};
use crate::clock::Timestamp;
use crate::db::{Db, Direction, EventFilter, Found, Kind};
use crate::mirror::{Entity, WorkingSet};
use crate::model::{DirectoryRow, GroupRow, Mark, Memory, UserRow};

/// How many events are shown.
const EVENTS: usize = 10;
/// How many of the directory's newest events are searched for those.
const SEARCHED: usize = 20_000;
const PAGE: i64 = 200;

#[derive(Debug, Args)]
pub(super) struct WhyArguments {
    /// A directory's, user's or group's id, WorkOS's or ours, or a user's address
    name: String,
    /// Show names, addresses and attributes too
    #[arg(long)]
    show_personal: bool,
}

pub(super) async fn run(arguments: WhyArguments) -> Result<ExitCode, CommandError> {
    let db = open_database().await?;
    let found = db.find(&arguments.name).await?;
    if found.is_empty() {
        eprintln!("the mirror neither has nor remembers that: no event and no answer of the API spoke of it");
        return Ok(ExitCode::FAILURE);
    }
    for (number, found) in found.iter().enumerate() {
        if number > 0 {
            say!("");
        }
        explain(&db, found, arguments.show_personal).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn explain(db: &Db, found: &Found, personal: bool) -> Result<(), CommandError> {
    let set = db.explain(found).await?;
    let (id, memory) = match &found.kind {
        Kind::User(id) => {
            let entity = set.users.get(id).cloned().unwrap_or_default();
            say!("user {id}");
            show_user(&entity, personal);
            show_directory_of(&set);
            show_edges(db, &found.kind, "memberships").await?;
            (id.to_string(), entity.memory)
        }
        Kind::Group(id) => {
            let entity = set.groups.get(id).cloned().unwrap_or_default();
            say!("group {id}");
            show_group(&entity);
            show_directory_of(&set);
            show_edges(db, &found.kind, "members").await?;
            (id.to_string(), entity.memory)
        }
        Kind::Directory => {
            say!("directory {}", found.directory_id);
            show_directory(&set.directory);
            (found.directory_id.to_string(), set.directory.memory.clone())
        }
    };
    show_memory(&memory);
    show_marks(&set);
    show_events(db, found, &id).await
}

fn show_user(entity: &Entity<UserRow>, personal: bool) {
    let Some(row) = &entity.row else {
        say!("  row: none; only what events said is remembered");
        return;
    };
    let state = row.state.as_str();
    let said = if row.deleted_at.is_some() { "its last record said" } else { "WorkOS says" };
    say!("  row: {} · {state} ({said} {})", row.id, row.record.state);
    if let Some(at) = row.deactivated_at {
        let reason = row.deletion_reason.as_deref().map(|reason| format!(" by {reason}")).unwrap_or_default();
        say!("  inactive since {}{reason}", instant(at));
    }
    if let Some(at) = row.deleted_at {
        say!("  gone since {}", instant(at));
    }
    say!("  the record's own updated_at: {}", instant(row.record.updated_at));
    show_verified(row.verified_at, row.deleted_at.is_some());
    if personal {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        say!("  email: {} · name: {}", text(&row.record.email), text(&row.record.display_name));
        say!("  role: {} · job title: {}", text(&row.record.role), text(&row.record.job_title));
        say!("  custom attributes: {}", row.record.custom_attributes);
    }
}

fn show_group(entity: &Entity<GroupRow>) {
    let Some(row) = &entity.row else {
        say!("  row: none; only what events said is remembered");
        return;
    };
    say!("  row: {} · {:?}", row.id, row.record.name);
    if let Some(at) = row.deleted_at {
        say!("  gone since {}", instant(at));
    }
    say!("  the record's own updated_at: {}", instant(row.record.updated_at));
    show_verified(row.verified_at, row.deleted_at.is_some());
}

fn show_directory(entity: &Entity<DirectoryRow>) {
    let Some(row) = &entity.row else {
        say!("  row: none; only what events said is remembered");
        return;
    };
    let followed = if row.enabled { "" } else { " · disabled here: its events are ignored" };
    say!("  row: WorkOS's state {} · scan {}{followed}", row.record.state, row.sync_status.as_str());
    if let Some(at) = row.deleted_at {
        say!("  gone since {}", instant(at));
    }
    say!("  last event: {} · last full scan: {}", maybe(row.last_event_at), maybe(row.last_synced_at));
}

fn show_directory_of(set: &WorkingSet) {
    let state = set.directory.row.as_ref().map_or("unknown", |row| row.record.state.as_str());
    say!("  directory: {} ({state})", set.directory_id);
}

fn show_verified(verified_at: Option<Timestamp>, is_gone: bool) {
    match verified_at {
        Some(at) if is_gone => {
            say!("  verified: gone, by the API's answer of {}, or with its directory later", instant(at));
        }
        Some(at) => say!("  verified: the API confirmed the row at {}", instant(at)),
        None => say!("  verified: no; the row shows what an event said, or lost what an event took away"),
    }
}

async fn show_edges(db: &Db, kind: &Kind, name: &str) -> Result<(), CommandError> {
    let (present, absent) = db.count_edges(kind).await?;
    say!("  {name}: {present} shown, {absent} remembered as absent");
    Ok(())
}

fn show_memory(memory: &Memory) {
    match &memory.hint {
        Some(hint) => {
            let what = if hint.removes { "a removal" } else { "no removal" };
            say!("  newest hint: {}, {what}, of {}", hint.event_id, instant(hint.at));
        }
        None => say!("  newest hint: none"),
    }
    match &memory.snapshot {
        Some(stamp) => {
            let by = stamp.event_id.as_ref().map_or_else(|| "the API".to_owned(), |id| format!("event {id}"));
            say!("  content shown: by {by}, updated at {}", instant(stamp.updated_at));
        }
        None => say!("  content shown: none"),
    }
    match memory.truth_at {
        Some(at) => say!("  last truth: request {} of its directory, sent {}", memory.truth_number, instant(at)),
        None => say!("  last truth: none; the API was never asked, or has not answered"),
    }
}

fn show_marks(set: &WorkingSet) {
    if set.marks.is_empty() {
        say!("  marks: none; nothing is to be fetched");
    }
    for Mark { target, due_at, contradictions, failures, .. } in set.marks.values() {
        let trouble = match (contradictions, failures) {
            (0, 0) => String::new(),
            (&Mark::SECOND_LOOK, _) => " · an answer that may lag is looked at once more".to_owned(),
            _ => format!(" · contradicted {contradictions} times · failed {failures} times"),
        };
        say!("  mark: {target} is to be fetched, due {}{trouble}", instant(*due_at));
    }
}

/// Events name what they are about only within their bodies, so the newest ones are searched.
async fn show_events(db: &Db, found: &Found, id: &str) -> Result<(), CommandError> {
    let filter = EventFilter { directory_id: Some(found.directory_id.to_string()), ..EventFilter::default() };
    let needle = quoted(id);
    let (mut shown, mut searched, mut place) = (0, 0, None);
    say!("  last events, the newest first:");
    while shown < EVENTS && searched < SEARCHED {
        let page = db.events(&filter, Direction::NewestFirst, place.as_ref(), PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        place = Some((last.received_at(), last.event_id.clone()));
        searched += page.len();
        for (entry, body) in page {
            if shown < EVENTS && body.windows(needle.len()).any(|window| window == needle.as_slice()) {
                say!("    {}", line(&entry));
                shown += 1;
            }
        }
    }
    if shown == 0 {
        say!("    none among the newest {searched} of its directory");
    }
    Ok(())
}

/// The id as it stands in JSON, so that no longer id is taken for it.
fn quoted(id: &str) -> Vec<u8> {
    format!("\"{id}\"").into_bytes()
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn maybe(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "never".to_owned(), instant)
}
