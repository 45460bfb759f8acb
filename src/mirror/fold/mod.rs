//! What a hint does to the mirror (rules 1, 3, 6, 7, 8 and 13).

mod directories;
mod groups;
mod members;
mod users;

use super::working_set::{Entity, WorkingSet};
use crate::clock::Timestamp;
use crate::model::{Change, EventStatus, Hint, HintKey, MarkTarget, Stamp, SyncStatus};

/// When a batch of hints is folded.
#[derive(Debug, Clone, Copy)]
pub struct FoldContext {
    /// The number that this fold took from the directory's sequence: the version of its marks.
    pub number: i64,
    /// The present instant.
    pub now: Timestamp,
    /// Hints from before this instant are older than what the inbox remembers.
    pub oldest: Timestamp,
    /// Whether there is an API to fetch truth from. Without one the newest hints are all that will ever be known.
    pub verifies: bool,
}

/// How an event ended, with a reason that an operator can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Applied or skipped, or ignored if the directory is disabled.
    pub status: EventStatus,
    /// Why.
    pub reason: &'static str,
}

const fn applied(reason: &'static str) -> Outcome {
    Outcome { status: EventStatus::Applied, reason }
}

const fn skipped(reason: &'static str) -> Outcome {
    Outcome { status: EventStatus::Skipped, reason }
}

const FETCH: Outcome = applied("to be verified with the API");
const OLD: Outcome = applied("older than the last answer of the API, or than what is remembered: to be verified again");
const EQUAL: Outcome = skipped("the API already confirmed the same");
const NEWER: Outcome = skipped("a newer event was folded already");
const TIE: Outcome = applied("another event of the same instant was folded already: to be verified with the API");
const REMEMBERED: Outcome = skipped("takes away what the mirror does not have: remembered, nothing created");
const FOREIGN: Outcome = skipped("the id belongs to another directory");
const DELETED: Outcome = skipped("the directory is deleted");

/// Applies one hint.
pub fn fold(set: &mut WorkingSet, hint: &Hint, at: &FoldContext) -> Outcome {
    if let Some(row) = &mut set.directory.row {
        if !row.enabled {
            // Once it is enabled, a reconcile finds what was ignored.
            if row.sync_status != SyncStatus::Never {
                row.sync_status = SyncStatus::Never;
                set.directory.row_changed = true;
            }
            if hint.change == Change::DirectoryDeleted {
                // Once it is enabled, a 404 is found, which counts only if an event announced it (rule 4).
                directories::announce_removal(set, &hint.key, at);
            }
            return Outcome { status: EventStatus::Ignored, reason: "the directory is disabled" };
        }
        row.last_event_at = row.last_event_at.max(Some(at.now));
        set.directory.row_changed = true;
    }
    match &hint.change {
        Change::Token => return applied("recorded for audit"),
        Change::DirectoryChanged(snapshot) => return directories::changed(set, hint, snapshot.as_deref(), at),
        Change::DirectoryDeleted => return directories::deleted(set, &hint.key, at),
        _ => {}
    }
    if set.directory.is_gone() {
        return fold_into_deleted_directory(set, hint, at);
    }
    fold_entity(set, hint, at)
}

/// What is told late of a deleted directory becomes history: people who are inactive, groups that are gone.
fn fold_into_deleted_directory(set: &mut WorkingSet, hint: &Hint, at: &FoldContext) -> Outcome {
    let newest = set.directory.memory.hint.as_ref();
    let is_news = !hint.key.removes && newest.is_none_or(|newest| *newest < hint.key);
    fold_entity(set, hint, at);
    set.everything_goes = true;
    if is_news && !is_old(set.directory.memory.truth_at, hint, at) {
        set.mark(MarkTarget::Directory, at.number, at.now);
    }
    DELETED
}

fn fold_entity(set: &mut WorkingSet, hint: &Hint, at: &FoldContext) -> Outcome {
    let tied = tied_target(set, hint);
    let mut outcome = match &hint.change {
        Change::UserCreated(id, snapshot) => users::changed(set, hint, (id, snapshot.as_deref()), true, at),
        Change::UserUpdated(id, snapshot) => users::changed(set, hint, (id, snapshot.as_deref()), false, at),
        Change::UserDeleted(id) => users::deleted(set, hint, id, at),
        Change::GroupCreated(id, snapshot) => groups::changed(set, hint, (id, snapshot.as_deref()), true, at),
        Change::GroupUpdated(id, snapshot) => groups::changed(set, hint, (id, snapshot.as_deref()), false, at),
        Change::GroupDeleted(id) => groups::deleted(set, hint, id, at),
        Change::MemberAdded { group, user, group_snapshot, user_snapshot } => {
            members::added(set, hint, (group, group_snapshot.as_deref()), (user, user_snapshot.as_deref()), at)
        }
        Change::MemberRemoved { group, user } => members::removed(set, hint, group, user, at),
        Change::Token | Change::DirectoryChanged(_) | Change::DirectoryDeleted => skipped("handled above"),
    };
    if let Some(target) = tied {
        if outcome == NEWER {
            set.mark(target.clone(), at.number, at.now);
            outcome = TIE;
        }
        set.look_twice(&target);
    }
    if !at.verifies {
        members::show_those_announced(set);
    }
    outcome
}

/// What the hint is about, if the newest hint about it is another one of the same instant: which of them was last, only the
/// API knows. No answer contradicts both, so one that lags would pass unnoticed.
fn tied_target(set: &WorkingSet, hint: &Hint) -> Option<MarkTarget> {
    let (target, newest) = match &hint.change {
        Change::UserCreated(id, _) | Change::UserUpdated(id, _) | Change::UserDeleted(id) => {
            (MarkTarget::User(id.clone()), set.users.get(id)?.memory.hint.as_ref())
        }
        Change::GroupCreated(id, _) | Change::GroupUpdated(id, _) | Change::GroupDeleted(id) => {
            (MarkTarget::Group(id.clone()), set.groups.get(id)?.memory.hint.as_ref())
        }
        Change::MemberAdded { group, user, .. } | Change::MemberRemoved { group, user } => {
            let edge = set.edges.get(&(group.clone(), user.clone()))?;
            (MarkTarget::Edge(group.clone(), user.clone()), edge.memory.hint.as_ref())
        }
        Change::Token | Change::DirectoryChanged(_) | Change::DirectoryDeleted => return None,
    };
    newest.is_some_and(|newest| newest.at == hint.key.at && newest.event_id != hint.key.event_id).then_some(target)
}

fn is_old(truth_at: Option<Timestamp>, hint: &Hint, at: &FoldContext) -> bool {
    hint.key.at < at.oldest || truth_at.is_some_and(|truth_at| hint.key.at < truth_at)
}

/// Whether what is shown is older than this. If the hint that says so is older than the last truth, that came from a replica
/// that lags, and the next may as well.
fn is_older_than<R>(entity: &Entity<R>, updated_at: Timestamp) -> bool {
    entity.memory.snapshot.as_ref().is_some_and(|shown| shown.updated_at < updated_at)
}

fn stamp(updated_at: Timestamp, key: &HintKey) -> Stamp {
    Stamp { updated_at, event_id: Some(key.event_id.clone()) }
}

/// Whether a hint is newer than the newest one about the entity; if so it becomes the newest.
fn advances<R>(entity: &mut Entity<R>, key: &HintKey) -> bool {
    let newer = entity.memory.hint.as_ref().is_none_or(|newest| newest < key);
    if newer {
        entity.memory.hint = Some(key.clone());
        entity.memory_changed = true;
    }
    newer
}
