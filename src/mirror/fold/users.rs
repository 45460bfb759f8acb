//! Hints about users.
//!
//! What a row shows does not depend on the order of folding: the content is that of the highest stamp, and who was taken
//! away by the newest hint is inactive whatever the content says.

use super::{
    EQUAL, FETCH, FOREIGN, FoldContext, NEWER, OLD, Outcome, REMEMBERED, advances, applied, is_old, is_older_than,
    stamp,
};
use crate::clock::Timestamp;
use crate::mirror::working_set::{Entity, WorkingSet};
use crate::model::{DirectoryUserId, Hint, HintKey, MarkTarget, UserRecord, UserRow, UserState};

pub(super) fn changed(
    set: &mut WorkingSet,
    hint: &Hint,
    (id, record): (&DirectoryUserId, Option<&UserRecord>),
    created: bool,
    at: &FoldContext,
) -> Outcome {
    set.register_directory(record.and_then(|record| record.organization_id.clone()), at.number, at.now);
    let target = MarkTarget::User(id.clone());
    let marked = set.marks.contains_key(&target);
    let entity = set.user(id);
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
    let shown = record.map_or(Shown::Nothing, |record| show(entity, record, &hint.key, at.now));
    if newest && shown == Shown::Nothing && !at.verifies {
        restore(entity);
    }
    if !newest && shown == Shown::Nothing && !was_unknown {
        return NEWER;
    }
    set.mark(target, at.number, at.now);
    if shown == Shown::CameBack || (newest && (was_gone || (was_unknown && !created))) {
        set.mark(MarkTarget::UserGroups(id.clone()), at.number, at.now);
    }
    if !newest {
        return applied("a newer event was folded already: to be verified with the API");
    }
    FETCH
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// The row is as it was.
    Nothing,
    /// It shows the snapshot.
    Content,
    /// It shows the snapshot, by which the user came back. Lists of members that were read before may have left the user out.
    CameBack,
}

/// Shows a snapshot if it is not older than what is shown; who was taken away stays away.
fn show(entity: &mut Entity<UserRow>, record: &UserRecord, key: &HintKey, now: Timestamp) -> Shown {
    let stamp = stamp(record.updated_at, key);
    if !entity.takes(&stamp) {
        return Shown::Nothing;
    }
    let stays_away = is_taken_away(entity);
    entity.memory.snapshot = Some(stamp);
    entity.memory_changed = true;
    let came_back = entity.set_user(record.clone(), None, now);
    if stays_away {
        revoke(entity, now);
    }
    if came_back && !stays_away { Shown::CameBack } else { Shown::Content }
}

/// Whether the newest hint is a removal, and no answer has called the user active since.
fn is_taken_away(entity: &Entity<UserRow>) -> bool {
    let removed = entity.memory.hint.as_ref().is_some_and(|newest| newest.removes);
    let is_active = entity.row.as_ref().is_some_and(|row| row.state == UserState::Active);
    removed && (entity.memory.open_hint().is_some() || !is_active)
}

fn revoke(entity: &mut Entity<UserRow>, now: Timestamp) {
    if let Some(row) = &mut entity.row {
        row.state = UserState::Inactive;
        row.deactivated_at = row.deactivated_at.or(Some(now));
        row.deletion_reason = Some("directory_sync".to_owned());
        row.verified_at = None;
        entity.row_changed = true;
    }
}

/// The newest word is that the user is there, though an older one had the newer content, and no API will tell more.
fn restore(entity: &mut Entity<UserRow>) {
    if let Some(row) = &mut entity.row {
        row.state = UserState::from_source(&row.record.state);
        row.deactivated_at = row.deactivated_at.filter(|_| row.state == UserState::Inactive);
        // A deleted directory takes away whoever is not marked as deleted, and so this user again.
        row.deleted_at = None;
        row.deletion_reason = None;
        entity.row_changed = true;
    }
}

/// The snapshot of a removal is not shown: where the removal comes first it has no row to show it in, and the API tells.
pub(super) fn deleted(set: &mut WorkingSet, hint: &Hint, id: &DirectoryUserId, at: &FoldContext) -> Outcome {
    let entity = set.user(id);
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
    revoke(entity, at.now);
    set.mark(MarkTarget::User(id.clone()), at.number, at.now);
    applied("the user is inactive: to be verified with the API")
}

/// A membership hint orders its edge, not its user: it shows a user that is new or newer, and revives nobody.
pub(super) fn meet(
    set: &mut WorkingSet,
    hint: &Hint,
    (id, record): (&DirectoryUserId, Option<&UserRecord>),
    at: &FoldContext,
) {
    let entity = set.user(id);
    let was_unknown = entity.row.is_none();
    let is_old = is_old(entity.memory.truth_at, hint, at);
    let newest = entity.memory.hint.as_ref();
    let news_of_the_gone =
        (entity.is_gone() || is_taken_away(entity)) && !is_old && newest.is_none_or(|newest| newest.at < hint.key.at);
    let gone_by_truth =
        entity.memory.truth_number > 0 && entity.row.as_ref().is_some_and(|row| row.deleted_at.is_some());
    let differs = |record: &&UserRecord| entity.row.as_ref().is_none_or(|row| !at.verifies || row.record != **record);
    let shown = match record.filter(differs) {
        // After a 404 no snapshot of a membership brings anybody back.
        Some(record) if !is_old && !gone_by_truth => show(entity, record, &hint.key, at.now),
        _ => Shown::Nothing,
    };
    if was_unknown || shown != Shown::Nothing || news_of_the_gone {
        set.mark(MarkTarget::User(id.clone()), at.number, at.now);
    }
    if was_unknown || shown == Shown::CameBack || news_of_the_gone {
        set.mark(MarkTarget::UserGroups(id.clone()), at.number, at.now);
    }
}
