//! What a hint does to the mirror (rules 1, 3, 6, 7, 8 and 13).

use super::truth::delete_directory;
use super::working_set::{Entity, WorkingSet};
use crate::clock::Timestamp;
use crate::model::{
    Change, DirectoryGroupId, DirectoryRecord, DirectoryUserId, EventStatus, GroupRecord, GroupRow, Hint, HintKey,
    MarkTarget, Stamp, UserRecord, UserRow, UserState,
};

/// When a batch of hints is folded.
#[derive(Debug, Clone, Copy)]
pub struct FoldContext {
    /// The number that this fold took from the directory's sequence: the version of its marks.
    pub number: i64,
    /// The present instant.
    pub now: Timestamp,
    /// Hints from before this instant are older than what the inbox remembers.
    pub oldest: Timestamp,
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
const OLD: Outcome = applied("older than the last answer of the API: to be verified again");
const EQUAL: Outcome = skipped("the API already confirmed the same");
const NEWER: Outcome = skipped("a newer event was folded already");
const REMEMBERED: Outcome = skipped("takes away what the mirror does not have: remembered, nothing created");
const FOREIGN: Outcome = skipped("the id belongs to another directory");
const DELETED: Outcome = skipped("the directory is deleted");

/// Applies one hint.
pub fn fold(set: &mut WorkingSet, hint: &Hint, at: &FoldContext) -> Outcome {
    if let Some(row) = &mut set.directory.row {
        if !row.enabled {
            return Outcome { status: EventStatus::Ignored, reason: "the directory is disabled" };
        }
        row.last_event_at = row.last_event_at.max(Some(at.now));
        set.directory.row_changed = true;
    }
    match &hint.change {
        Change::Token => return applied("recorded for audit"),
        Change::DirectoryChanged(snapshot) => return directory_changed(set, hint, snapshot.as_deref(), at),
        Change::DirectoryDeleted => return directory_deleted(set, &hint.key, at),
        _ => {}
    }
    if set.directory.is_gone() {
        let newest = set.directory.memory.hint.as_ref();
        if !hint.key.removes
            && newest.is_none_or(|newest| *newest < hint.key)
            && !is_old(set.directory.memory.truth_at, hint, at)
        {
            set.mark(MarkTarget::Directory, at.number, at.now);
        }
        return DELETED;
    }
    match &hint.change {
        Change::UserCreated(id, snapshot) => user_changed(set, hint, id, snapshot.as_deref(), true, at),
        Change::UserUpdated(id, snapshot) => user_changed(set, hint, id, snapshot.as_deref(), false, at),
        Change::UserDeleted(id, snapshot) => user_deleted(set, hint, id, snapshot.as_deref(), at),
        Change::GroupCreated(id, snapshot) => group_changed(set, hint, id, snapshot.as_deref(), true, at),
        Change::GroupUpdated(id, snapshot) => group_changed(set, hint, id, snapshot.as_deref(), false, at),
        Change::GroupDeleted(id) => group_deleted(set, hint, id, at),
        Change::MemberAdded { group, user, group_snapshot, user_snapshot } => {
            member_added(set, hint, (group, group_snapshot.as_deref()), (user, user_snapshot.as_deref()), at)
        }
        Change::MemberRemoved { group, user } => member_removed(set, hint, group, user, at),
        Change::Token | Change::DirectoryChanged(_) | Change::DirectoryDeleted => skipped("handled above"),
    }
}

fn is_old(truth_at: Option<Timestamp>, hint: &Hint, at: &FoldContext) -> bool {
    hint.key.at < at.oldest || truth_at.is_some_and(|truth_at| hint.key.at < truth_at)
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

fn directory_changed(set: &mut WorkingSet, hint: &Hint, record: Option<&DirectoryRecord>, at: &FoldContext) -> Outcome {
    set.mark(MarkTarget::Directory, at.number, at.now);
    if is_old(set.directory.memory.truth_at, hint, at) {
        return OLD;
    }
    let was_gone = set.directory.is_gone();
    if !advances(&mut set.directory, &hint.key) {
        return NEWER;
    }
    if was_gone {
        // A deletion is final for its id unless a get answers 200 (rule 12).
        return applied("the directory was deleted: to be verified with the API");
    }
    match record {
        Some(record) => {
            let stamp = record.updated_at.map(|updated_at| stamp(updated_at, &hint.key));
            if stamp.as_ref().is_none_or(|stamp| set.directory.takes(stamp)) {
                set.directory.set_directory(record.clone(), at.now);
                set.directory.memory.snapshot = stamp.or(set.directory.memory.snapshot.take());
            }
        }
        None => set.register_directory(None, at.number, at.now),
    }
    FETCH
}

fn directory_deleted(set: &mut WorkingSet, key: &HintKey, at: &FoldContext) -> Outcome {
    let known = set.directory.row.as_ref().is_some_and(|row| row.deleted_at.is_none());
    if set.directory.memory.truth_is_newer_than(key.at) || key.at < at.oldest {
        if known {
            advances(&mut set.directory, key);
            set.mark(MarkTarget::Directory, at.number, at.now);
            return OLD;
        }
        return DELETED;
    }
    if !advances(&mut set.directory, key) {
        return NEWER;
    }
    if !known {
        return REMEMBERED;
    }
    delete_directory(set, at.now);
    set.mark(MarkTarget::Directory, at.number, at.now);
    applied("the directory is deleted: its users are deactivated, its groups tombstoned")
}

fn user_changed(
    set: &mut WorkingSet,
    hint: &Hint,
    id: &DirectoryUserId,
    record: Option<&UserRecord>,
    created: bool,
    at: &FoldContext,
) -> Outcome {
    set.register_directory(record.and_then(|record| record.organization_id.clone()), at.number, at.now);
    let target = MarkTarget::User(id.clone());
    let marked = set.marks.contains_key(&target);
    let entity = set.user(id);
    if entity.foreign {
        return FOREIGN;
    }
    let confirmed = !marked
        && entity
            .row
            .as_ref()
            .is_some_and(|row| row.verified_at.is_some() && row.deleted_at.is_none() && Some(&row.record) == record);
    if is_old(entity.memory.truth_at, hint, at) {
        if confirmed {
            return EQUAL;
        }
        set.mark(target, at.number, at.now);
        return OLD;
    }
    let was_gone = entity.is_gone();
    let was_unknown = entity.row.is_none();
    if !advances(entity, &hint.key) {
        return if was_unknown { meet_removed_user(set, id, record, hint, at) } else { NEWER };
    }
    if confirmed {
        return EQUAL;
    }
    let came_to_life = record.is_some_and(|record| show_user(entity, record, &hint.key, at.now));
    set.mark(target, at.number, at.now);
    if came_to_life || was_gone || (was_unknown && !created) {
        set.mark(MarkTarget::UserGroups(id.clone()), at.number, at.now);
    }
    FETCH
}

/// A user whose removal was folded before anything else of it: WorkOS may still have it, as inactive, so its truth is
/// fetched. What is shown meanwhile is what the other order would have left: an inactive user.
fn meet_removed_user(
    set: &mut WorkingSet,
    id: &DirectoryUserId,
    record: Option<&UserRecord>,
    hint: &Hint,
    at: &FoldContext,
) -> Outcome {
    let entity = set.user(id);
    if let Some(record) = record {
        show_user(entity, record, &hint.key, at.now);
        revoke_user(entity, at.now);
    }
    set.mark(MarkTarget::User(id.clone()), at.number, at.now);
    applied("a newer event took the user away: to be verified with the API")
}

fn revoke_user(entity: &mut Entity<UserRow>, now: Timestamp) {
    if let Some(row) = &mut entity.row {
        row.state = UserState::Inactive;
        row.deactivated_at = row.deactivated_at.or(Some(now));
        row.deletion_reason = Some("directory_sync".to_owned());
        row.verified_at = None;
        entity.row_changed = true;
    }
}

/// Shows a snapshot if it is not older than what is shown. Answers whether the user came to life by it.
fn show_user(entity: &mut Entity<UserRow>, record: &UserRecord, key: &HintKey, now: Timestamp) -> bool {
    let stamp = stamp(record.updated_at, key);
    if !entity.takes(&stamp) {
        return false;
    }
    entity.memory.snapshot = Some(stamp);
    entity.memory_changed = true;
    entity.set_user(record.clone(), None, now)
}

fn user_deleted(
    set: &mut WorkingSet,
    hint: &Hint,
    id: &DirectoryUserId,
    record: Option<&UserRecord>,
    at: &FoldContext,
) -> Outcome {
    let entity = set.user(id);
    if entity.foreign {
        return FOREIGN;
    }
    let known = entity.row.as_ref().is_some_and(|row| row.deleted_at.is_none());
    if is_old(entity.memory.truth_at, hint, at) {
        if known {
            advances(entity, &hint.key);
            set.mark(MarkTarget::User(id.clone()), at.number, at.now);
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
    if let Some(record) = record {
        show_user(entity, record, &hint.key, at.now);
    }
    revoke_user(entity, at.now);
    set.mark(MarkTarget::User(id.clone()), at.number, at.now);
    applied("the user is inactive: to be verified with the API")
}

fn group_changed(
    set: &mut WorkingSet,
    hint: &Hint,
    id: &DirectoryGroupId,
    record: Option<&GroupRecord>,
    created: bool,
    at: &FoldContext,
) -> Outcome {
    set.register_directory(record.and_then(|record| record.organization_id.clone()), at.number, at.now);
    let target = MarkTarget::Group(id.clone());
    let marked = set.marks.contains_key(&target);
    let entity = set.group(id);
    if entity.foreign {
        return FOREIGN;
    }
    let confirmed = !marked
        && entity
            .row
            .as_ref()
            .is_some_and(|row| row.verified_at.is_some() && row.deleted_at.is_none() && Some(&row.record) == record);
    if is_old(entity.memory.truth_at, hint, at) {
        if confirmed {
            return EQUAL;
        }
        set.mark(target, at.number, at.now);
        return OLD;
    }
    let was_gone = entity.is_gone();
    let was_unknown = entity.row.is_none();
    if !advances(entity, &hint.key) {
        if was_unknown {
            // Its removal was folded before anything else of it: only the API knows whether it was the last word.
            set.mark(target, at.number, at.now);
            return FETCH;
        }
        return NEWER;
    }
    if confirmed {
        return EQUAL;
    }
    if let Some(record) = record {
        show_group(entity, record, &hint.key, at.now);
    }
    set.mark(target, at.number, at.now);
    if was_gone || (was_unknown && !created) {
        set.mark(MarkTarget::GroupMembers(id.clone()), at.number, at.now);
    }
    FETCH
}

fn show_group(entity: &mut Entity<GroupRow>, record: &GroupRecord, key: &HintKey, now: Timestamp) {
    let stamp = stamp(record.updated_at, key);
    if entity.takes(&stamp) {
        entity.memory.snapshot = Some(stamp);
        entity.memory_changed = true;
        entity.set_group(record.clone(), None, now);
    }
}

fn group_deleted(set: &mut WorkingSet, hint: &Hint, id: &DirectoryGroupId, at: &FoldContext) -> Outcome {
    let entity = set.group(id);
    if entity.foreign {
        return FOREIGN;
    }
    let known = entity.row.as_ref().is_some_and(|row| row.deleted_at.is_none());
    if is_old(entity.memory.truth_at, hint, at) {
        if known {
            advances(entity, &hint.key);
            set.mark(MarkTarget::Group(id.clone()), at.number, at.now);
            return OLD;
        }
        return REMEMBERED;
    }
    if !advances(entity, &hint.key) {
        return NEWER;
    }
    let Some(row) = entity.row.as_mut().filter(|row| row.deleted_at.is_none()) else { return REMEMBERED };
    row.deleted_at = Some(at.now);
    row.verified_at = None;
    entity.row_changed = true;
    set.groups_without_edges.insert(id.clone());
    for (_, edge) in set.edges.iter_mut().filter(|(key, _)| key.0 == *id) {
        edge.memory.present = false;
        edge.changed = true;
    }
    set.mark(MarkTarget::Group(id.clone()), at.number, at.now);
    applied("the group is tombstoned: to be verified with the API")
}

fn member_added(
    set: &mut WorkingSet,
    hint: &Hint,
    group: (&DirectoryGroupId, Option<&GroupRecord>),
    user: (&DirectoryUserId, Option<&UserRecord>),
    at: &FoldContext,
) -> Outcome {
    set.register_directory(user.1.and_then(|record| record.organization_id.clone()), at.number, at.now);
    let key = (group.0.clone(), user.0.clone());
    let target = MarkTarget::Edge(key.0.clone(), key.1.clone());
    let marked = set.marks.contains_key(&target);
    if set.user(user.0).foreign || set.group(group.0).foreign {
        return FOREIGN;
    }
    meet_user(set, user.0, user.1, hint, at);
    meet_group(set, group.0, group.1, hint, at);
    let has_both_ends = set.has_both_ends(&key);
    let edge = set.edge(&key);
    if is_old(edge.memory.truth_at, hint, at) {
        if edge.memory.present && !marked {
            return EQUAL;
        }
        set.mark(target, at.number, at.now);
        return OLD;
    }
    if edge.memory.hint.as_ref().is_some_and(|newest| *newest >= hint.key) {
        return NEWER;
    }
    edge.memory.hint = Some(hint.key.clone());
    edge.changed = true;
    if edge.memory.present && edge.memory.truth_number > 0 && !marked {
        return EQUAL;
    }
    edge.memory.present |= has_both_ends;
    set.mark(target, at.number, at.now);
    FETCH
}

/// A membership hint orders its edge, not its user: it shows a user that is new or newer, and revives nobody.
fn meet_user(set: &mut WorkingSet, id: &DirectoryUserId, record: Option<&UserRecord>, hint: &Hint, at: &FoldContext) {
    let entity = set.user(id);
    let newest = entity.memory.hint.as_ref();
    if entity.is_gone() || newest.is_some_and(|newest| newest.removes) {
        if newest.is_none_or(|newest| newest.at < hint.key.at) && !is_old(entity.memory.truth_at, hint, at) {
            set.mark(MarkTarget::User(id.clone()), at.number, at.now);
            set.mark(MarkTarget::UserGroups(id.clone()), at.number, at.now);
        } else if entity.row.is_none() && entity.memory.truth_number == 0 {
            meet_removed_user(set, id, record, hint, at);
        }
        return;
    }
    let was_unknown = entity.row.is_none();
    if is_old(entity.memory.truth_at, hint, at) {
        if was_unknown {
            // The API was asked since and did not have it: no snapshot of the time before brings it back.
            set.mark(MarkTarget::User(id.clone()), at.number, at.now);
            set.mark(MarkTarget::UserGroups(id.clone()), at.number, at.now);
        }
        return;
    }
    let newer = record.filter(|record| {
        was_unknown || entity.memory.snapshot.as_ref().is_none_or(|shown| shown.updated_at < record.updated_at)
    });
    if let Some(record) = newer {
        show_user(entity, record, &hint.key, at.now);
    }
    if was_unknown || newer.is_some() {
        set.mark(MarkTarget::User(id.clone()), at.number, at.now);
    }
    if was_unknown {
        set.mark(MarkTarget::UserGroups(id.clone()), at.number, at.now);
    }
}

/// As [`meet_user`], for the group.
fn meet_group(
    set: &mut WorkingSet,
    id: &DirectoryGroupId,
    record: Option<&GroupRecord>,
    hint: &Hint,
    at: &FoldContext,
) {
    let entity = set.group(id);
    let newest = entity.memory.hint.as_ref();
    if entity.is_gone() || newest.is_some_and(|newest| newest.removes) {
        if newest.is_none_or(|newest| newest.at < hint.key.at) && !is_old(entity.memory.truth_at, hint, at) {
            set.mark(MarkTarget::Group(id.clone()), at.number, at.now);
            set.mark(MarkTarget::GroupMembers(id.clone()), at.number, at.now);
        }
        return;
    }
    let was_unknown = entity.row.is_none();
    if is_old(entity.memory.truth_at, hint, at) {
        if was_unknown {
            // The API was asked since and did not have it: no snapshot of the time before brings it back.
            set.mark(MarkTarget::Group(id.clone()), at.number, at.now);
            set.mark(MarkTarget::GroupMembers(id.clone()), at.number, at.now);
        }
        return;
    }
    let newer = record.filter(|record| {
        was_unknown || entity.memory.snapshot.as_ref().is_none_or(|shown| shown.updated_at < record.updated_at)
    });
    if let Some(record) = newer {
        show_group(entity, record, &hint.key, at.now);
    }
    if was_unknown || newer.is_some() {
        set.mark(MarkTarget::Group(id.clone()), at.number, at.now);
    }
    if was_unknown {
        set.mark(MarkTarget::GroupMembers(id.clone()), at.number, at.now);
    }
}

fn member_removed(
    set: &mut WorkingSet,
    hint: &Hint,
    group: &DirectoryGroupId,
    user: &DirectoryUserId,
    at: &FoldContext,
) -> Outcome {
    if set.user(user).foreign || set.group(group).foreign {
        return FOREIGN;
    }
    let target = MarkTarget::Edge(group.clone(), user.clone());
    let edge = set.edge(&(group.clone(), user.clone()));
    if is_old(edge.memory.truth_at, hint, at) {
        if edge.memory.present {
            if edge.memory.hint.as_ref().is_none_or(|newest| *newest < hint.key) {
                edge.memory.hint = Some(hint.key.clone());
                edge.changed = true;
            }
            set.mark(target, at.number, at.now);
            return OLD;
        }
        return REMEMBERED;
    }
    if edge.memory.hint.as_ref().is_some_and(|newest| *newest >= hint.key) {
        return NEWER;
    }
    edge.memory.hint = Some(hint.key.clone());
    edge.changed = true;
    if !edge.memory.present {
        return REMEMBERED;
    }
    edge.memory.present = false;
    set.mark(target, at.number, at.now);
    applied("the membership is gone: to be verified with the API")
}
