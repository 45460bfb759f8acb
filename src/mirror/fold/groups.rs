//! Hints about groups. As for users, what a row shows does not depend on the order of folding.

use super::{
    EQUAL, FETCH, FOREIGN, FoldContext, NEWER, OLD, Outcome, REMEMBERED, advances, applied, is_old, is_older_than,
    stamp,
};
use crate::clock::Timestamp;
use crate::mirror::working_set::{Entity, WorkingSet};
use crate::model::{DirectoryGroupId, GroupRecord, GroupRow, Hint, HintKey, MarkTarget};

pub(super) fn changed(
    set: &mut WorkingSet,
    hint: &Hint,
    (id, record): (&DirectoryGroupId, Option<&GroupRecord>),
    created: bool,
    at: &FoldContext,
) -> Outcome {
    set.register_directory(record.and_then(|record| record.organization_id.clone()), at.number, at.now);
    let target = MarkTarget::Group(id.clone());
    let marked = set.marks.contains_key(&target);
    let entity = set.group(id);
    if entity.is_only_claimed() {
        set.mark(target, at.number, at.now);
        return FETCH;
    }
    if entity.foreign {
        return FOREIGN;
    }
    let confirmed = !marked && record.is_some_and(|record| entity.is_confirmed_as(record));
    if is_old(entity.memory.truth_at, hint, at) {
        // A replica that lags may still say the contrary (rule 2).
        advances(entity, &hint.key);
        if confirmed {
            return EQUAL;
        }
        let lagged = record.is_some_and(|record| is_older_than(entity, record.updated_at));
        set.mark(target.clone(), at.number, at.now);
        if lagged {
            set.look_twice(&target);
        }
        return OLD;
    }
    let was_gone = entity.is_gone();
    let was_unknown = entity.row.is_none();
    let newest = advances(entity, &hint.key);
    if newest && confirmed {
        return EQUAL;
    }
    let shown = record.is_some_and(|record| show(entity, record, &hint.key, at.now));
    if newest && !shown {
        // The newest word is that the group is there, though an older one had the newer content.
        restore(entity);
    }
    if !newest && !shown && !was_unknown {
        return NEWER;
    }
    set.mark(target, at.number, at.now);
    if !newest {
        return applied("a newer event was folded already: to be verified with the API");
    }
    if was_gone || (was_unknown && !created) {
        set.mark(MarkTarget::GroupMembers(id.clone()), at.number, at.now);
    }
    FETCH
}

/// Shows a snapshot if it is not older than what is shown; a group that was taken away stays tombstoned.
/// Answers whether it was shown.
fn show(entity: &mut Entity<GroupRow>, record: &GroupRecord, key: &HintKey, now: Timestamp) -> bool {
    let stamp = stamp(record.updated_at, key);
    if !entity.takes(&stamp) {
        return false;
    }
    let deleted_at = entity.row.as_ref().and_then(|row| row.deleted_at);
    let was_live = entity.row.is_some() && deleted_at.is_none();
    entity.memory.snapshot = Some(stamp);
    entity.memory_changed = true;
    entity.set_group(record.clone(), None, now);
    let removed = entity.memory.hint.as_ref().is_some_and(|newest| newest.removes);
    if removed && (entity.memory.open_hint().is_some() || !was_live) {
        tombstone(entity, deleted_at.unwrap_or(now));
    }
    true
}

fn tombstone(entity: &mut Entity<GroupRow>, deleted_at: Timestamp) {
    if let Some(row) = &mut entity.row {
        row.deleted_at = row.deleted_at.or(Some(deleted_at));
        row.verified_at = None;
        entity.row_changed = true;
    }
}

fn restore(entity: &mut Entity<GroupRow>) {
    if let Some(row) = &mut entity.row
        && row.deleted_at.take().is_some()
    {
        row.verified_at = None;
        entity.row_changed = true;
    }
}

pub(super) fn deleted(set: &mut WorkingSet, hint: &Hint, id: &DirectoryGroupId, at: &FoldContext) -> Outcome {
    let entity = set.group(id);
    if entity.foreign {
        return FOREIGN;
    }
    let known = entity.row.as_ref().is_some_and(|row| row.deleted_at.is_none());
    if is_old(entity.memory.truth_at, hint, at) {
        if known || entity.memory.truth_at.is_some() {
            // Also of whoever is gone: a replica that lags may yet show the past.
            advances(entity, &hint.key);
        }
        if known {
            set.mark(MarkTarget::Group(id.clone()), at.number, at.now);
            return OLD;
        }
        return REMEMBERED;
    }
    if !advances(entity, &hint.key) {
        return NEWER;
    }
    if !known {
        return REMEMBERED;
    }
    tombstone(entity, at.now);
    set.groups_without_edges.insert(id.clone());
    for (_, edge) in set.edges.iter_mut().filter(|(key, _)| key.0 == *id) {
        edge.memory.present = false;
        edge.changed = true;
    }
    set.mark(MarkTarget::Group(id.clone()), at.number, at.now);
    applied("the group is tombstoned: to be verified with the API")
}

/// As for users: a membership hint shows a group that is new or newer, and revives none.
pub(super) fn meet(
    set: &mut WorkingSet,
    hint: &Hint,
    (id, record): (&DirectoryGroupId, Option<&GroupRecord>),
    at: &FoldContext,
) {
    let entity = set.group(id);
    let was_unknown = entity.row.is_none();
    let is_old = is_old(entity.memory.truth_at, hint, at);
    let newest = entity.memory.hint.as_ref();
    let removed = newest.is_some_and(|newest| newest.removes);
    let news_of_the_gone = entity.is_gone() && !is_old && newest.is_none_or(|newest| newest.at < hint.key.at);
    let tombstoned = entity.row.as_ref().is_some_and(|row| row.deleted_at.is_some());
    let gone_by_truth = tombstoned && !removed && entity.memory.truth_number > 0;
    let differs = |record: &&GroupRecord| entity.row.as_ref().is_none_or(|row| !at.verifies || row.record != **record);
    let shown = match record.filter(differs) {
        // After a 404 no snapshot of a membership brings anything back.
        Some(record) if !is_old && !gone_by_truth => show(entity, record, &hint.key, at.now),
        _ => false,
    };
    if was_unknown || shown || news_of_the_gone {
        set.mark(MarkTarget::Group(id.clone()), at.number, at.now);
    }
    if was_unknown || news_of_the_gone {
        set.mark(MarkTarget::GroupMembers(id.clone()), at.number, at.now);
    }
}
