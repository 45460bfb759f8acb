//! Hints about memberships: each orders its edge, not its ends (rules 1, 7 and 8).

use super::{EQUAL, FETCH, FOREIGN, FoldContext, NEWER, OLD, Outcome, REMEMBERED, applied, groups, is_old, users};
use crate::mirror::working_set::{Edge, WorkingSet};
use crate::model::{DirectoryGroupId, DirectoryUserId, GroupRecord, Hint, HintKey, MarkTarget, UserRecord};

pub(super) fn added(
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
        if set.user(user.0).is_only_claimed() {
            set.mark(MarkTarget::User(user.0.clone()), at.number, at.now);
        }
        if set.group(group.0).is_only_claimed() {
            set.mark(MarkTarget::Group(group.0.clone()), at.number, at.now);
        }
        return FOREIGN;
    }
    users::meet(set, hint, user, at);
    groups::meet(set, hint, group, at);
    let has_both_ends = set.has_both_ends(&key);
    let edge = set.edge(&key);
    if is_old(edge.memory.truth_at, hint, at) {
        advances(edge, &hint.key);
        if edge.memory.present && !marked {
            return EQUAL;
        }
        set.mark(target, at.number, at.now);
        return OLD;
    }
    if !advances(edge, &hint.key) {
        return NEWER;
    }
    if edge.memory.present && edge.memory.truth_number > 0 && !marked {
        return EQUAL;
    }
    edge.memory.present |= has_both_ends;
    set.mark(target, at.number, at.now);
    FETCH
}

pub(super) fn removed(
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
        let (present, was_asked_for) = (edge.memory.present, edge.memory.truth_at.is_some());
        if present || was_asked_for {
            // Also of what is gone: a replica that lags may yet list it.
            advances(edge, &hint.key);
        }
        if present {
            set.mark(target, at.number, at.now);
            return OLD;
        }
        return REMEMBERED;
    }
    if !advances(edge, &hint.key) {
        return NEWER;
    }
    if !edge.memory.present {
        return REMEMBERED;
    }
    edge.memory.present = false;
    set.mark(target, at.number, at.now);
    applied("the membership is gone: to be verified with the API")
}

/// Whether a hint is newer than the newest one about the membership; if so it becomes the newest.
fn advances(edge: &mut Edge, key: &HintKey) -> bool {
    let newer = edge.memory.hint.as_ref().is_none_or(|newest| newest < key);
    if newer {
        edge.memory.hint = Some(key.clone());
        edge.changed = true;
    }
    newer
}

/// Shows the memberships that were announced before both their ends were there: with an API a mark brings them.
pub(super) fn show_those_announced(set: &mut WorkingSet) {
    let announced = |set: &WorkingSet| -> Vec<_> {
        let wanted = set.edges.iter().filter(|(_, edge)| edge.memory.is_announced()).map(|(key, _)| key.clone());
        wanted.filter(|key| set.has_both_ends(key)).collect()
    };
    for key in announced(set) {
        let edge = set.edge(&key);
        edge.memory.present = true;
        edge.changed = true;
    }
}
