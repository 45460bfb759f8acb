//! Hints about the directory itself (rule 12).

use super::super::truth::delete_directory;
use super::{DELETED, FETCH, FoldContext, NEWER, OLD, Outcome, REMEMBERED, advances, applied, is_old, stamp};
use crate::mirror::working_set::WorkingSet;
use crate::model::{DirectoryRecord, Hint, HintKey, MarkTarget};

pub(super) fn changed(
    set: &mut WorkingSet,
    hint: &Hint,
    record: Option<&DirectoryRecord>,
    at: &FoldContext,
) -> Outcome {
    set.mark(MarkTarget::Directory, at.number, at.now);
    if is_old(set.directory.memory.truth_at, hint, at) {
        return OLD;
    }
    let was_gone = set.directory.is_gone();
    let newest = advances(&mut set.directory, &hint.key);
    set.register_directory(None, at.number, at.now);
    let mut shown = false;
    if let Some(record) = record {
        let stamp = record.updated_at.map(|updated_at| stamp(updated_at, &hint.key));
        shown = stamp.as_ref().map_or(newest, |stamp| set.directory.takes(stamp));
        if shown {
            set.directory.set_directory(record.clone(), at.now);
            set.directory.memory.snapshot = stamp.or(set.directory.memory.snapshot.take());
            set.directory.memory_changed = true;
        }
    }
    if was_gone {
        // A deletion is final for its id unless a get answers 200.
        set.keep_directory_deleted(at.now);
        return applied("the directory was deleted: to be verified with the API");
    }
    if newest || shown { FETCH } else { NEWER }
}

/// Lets a 404 count, and has the directory asked for. Received while our clock was slow the event may seem older than what
/// we know, and no other will come.
pub(super) fn announce_removal(set: &mut WorkingSet, key: &HintKey, at: &FoldContext) {
    let memory = &mut set.directory.memory;
    let newest = memory.hint.as_ref().map_or(key.at, |newest| newest.at.max(key.at));
    memory.hint = Some(HintKey { at: newest, ..key.clone() });
    set.directory.memory_changed = true;
    set.mark(MarkTarget::Directory, at.number, at.now);
}

pub(super) fn deleted(set: &mut WorkingSet, key: &HintKey, at: &FoldContext) -> Outcome {
    let known = set.directory.row.as_ref().is_some_and(|row| row.deleted_at.is_none());
    if set.directory.memory.truth_is_newer_than(key.at) || key.at < at.oldest {
        if set.directory.row.is_some() && !known {
            return DELETED;
        }
        announce_removal(set, key, at);
        return if known { OLD } else { REMEMBERED };
    }
    if !advances(&mut set.directory, key) && at.verifies {
        if known {
            announce_removal(set, key, at);
        }
        return NEWER;
    }
    if !known {
        return REMEMBERED;
    }
    delete_directory(set, at.now);
    set.mark(MarkTarget::Directory, at.number, at.now);
    applied("the directory is deleted: its users are deactivated, its groups tombstoned")
}
