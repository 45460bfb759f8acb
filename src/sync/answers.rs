//! What the answers of a wave do to the working set, by the decisions of [`mirror`].

use std::collections::BTreeSet;

use chrono::TimeDelta;

use super::fetch::{Fetched, MembershipList};
use crate::clock::Timestamp;
use crate::mirror::{self, Answer, EdgeKey, HELD_FROM_MINUTES, HELD_MINUTES, Touched, TruthContext, WorkingSet};
use crate::model::{DirectoryId, GroupRecord, Mark, MarkTarget, UserRecord};

/// A mark whose answer cannot be decoded is tried again after 2, 4, 8 … seconds, and at this many failures rarely.
const MAX_FAILURES: i32 = 12;

pub(super) fn touch(touched: &mut Touched, fetched: &Fetched) {
    match fetched {
        Fetched::User(id, _) => drop(touched.users.insert(id.clone())),
        Fetched::Group(id, _) => drop(touched.groups.insert(id.clone())),
        Fetched::Users(records) => touched.users.extend(records.iter().map(|user| user.id.clone())),
        Fetched::Groups(records) => touched.groups.extend(records.iter().map(|group| group.id.clone())),
        Fetched::List(list) => {
            list.known.iter().for_each(|(group, user)| touched.add_edge(group.clone(), user.clone()));
            listed_edges(list, None).into_iter().for_each(|(group, user)| touched.add_edge(group, user));
            list.marks.iter().for_each(|mark| touch_target(touched, &mark.target));
        }
        Fetched::Failed(marks, _) => marks.iter().for_each(|mark| touch_target(touched, &mark.target)),
        Fetched::Unanswered(marks) => marks.iter().for_each(|(mark, _)| touch_target(touched, &mark.target)),
        Fetched::NotShown(_) => {}
    }
}

fn touch_target(touched: &mut Touched, target: &MarkTarget) {
    match target {
        MarkTarget::User(user) | MarkTarget::UserGroups(user) => drop(touched.users.insert(user.clone())),
        MarkTarget::Group(group) | MarkTarget::GroupMembers(group) => drop(touched.groups.insert(group.clone())),
        MarkTarget::Edge(group, user) => touched.add_edge(group.clone(), user.clone()),
        MarkTarget::Directory => {}
    }
}

/// The edges of a list, or only those whose records belong to `directory`.
fn listed_edges(list: &MembershipList, directory: Option<&DirectoryId>) -> BTreeSet<EdgeKey> {
    let ours = |of: &DirectoryId| directory.is_none_or(|directory| directory == of);
    match &list.owner {
        MarkTarget::UserGroups(user) => {
            let groups = list.groups.iter().filter(|group| ours(&group.directory_id));
            groups.map(|group| (group.id.clone(), user.clone())).collect()
        }
        MarkTarget::GroupMembers(group) => {
            let users = list.users.iter().filter(|user| ours(&user.directory_id));
            users.map(|user| (group.clone(), user.id.clone())).collect()
        }
        _ => BTreeSet::new(),
    }
}

/// Applies one answer. `false` if it is a 404 that counts only once its directory is known to answer 200 (rule 4).
pub(super) fn apply_one(set: &mut WorkingSet, fetched: &Fetched, at: &TruthContext, directory_exists: bool) -> bool {
    match fetched {
        Fetched::User(id, answer) => {
            let announced = set.users.get(id).is_some_and(|user| user.foreign || user.is_gone());
            if answer.is_none() && !announced && !directory_exists {
                return false;
            }
            if answer.as_ref().is_some_and(|record| record.directory_id != set.directory_id) {
                // An event named the wrong directory: the record is its own directory's business.
                set.clear_mark(&MarkTarget::User(id.clone()), at.number);
                set.disown_user(id);
                return true;
            }
            let answer = answer.clone().map_or(Answer::Gone, |record| Answer::Is(*record));
            mirror::user_truth(set, id, answer, at);
        }
        Fetched::Group(id, answer) => {
            let announced = set.groups.get(id).is_some_and(|group| group.foreign || group.is_gone());
            if answer.is_none() && !announced && !directory_exists {
                return false;
            }
            if answer.as_ref().is_some_and(|record| record.directory_id != set.directory_id) {
                // An event named the wrong directory: the record is its own directory's business.
                set.clear_mark(&MarkTarget::Group(id.clone()), at.number);
                set.disown_group(id);
                return true;
            }
            let answer = answer.clone().map_or(Answer::Gone, |record| Answer::Is(*record));
            mirror::group_truth(set, id, answer, at);
        }
        Fetched::Users(records) => show_users(set, records, at),
        Fetched::Groups(records) => show_groups(set, records, at),
        Fetched::List(list) => apply_list(set, list, at),
        Fetched::Unanswered(marks) => {
            // Put off, so that one request that always fails does not stop the others; a newer mark is not touched.
            for (mark, wait) in marks {
                if !set.is_marked_after(&mark.target, mark.version) {
                    put_off(set, &mark.target, at.now + *wait);
                }
            }
        }
        Fetched::Failed(marks, reason) => {
            for mark in marks {
                if set.is_marked_after(&mark.target, mark.version) {
                    continue;
                }
                let Some(standing) = set.marks.get(&mark.target).cloned() else { continue };
                let failures = standing.failures.saturating_add(1).min(MAX_FAILURES);
                tracing::error!(failures, reason, "an answer of the API cannot be read; its mark is put off");
                let due_at = at.now + TimeDelta::seconds(1 << failures);
                set.put_mark(Mark { failures, due_at, ..standing });
            }
        }
        Fetched::NotShown(_) => {}
    }
    true
}

/// Whether this is a 404 of what the mirror shows, no event called it removed, and it would be believed now.
pub(super) fn removes_unannounced(set: &WorkingSet, fetched: &Fetched) -> bool {
    let (shown, target) = match fetched {
        Fetched::User(id, None) => {
            let shown = set.users.get(id).is_some_and(|user| !user.foreign && !user.is_gone() && user.row.is_some());
            (shown, MarkTarget::User(id.clone()))
        }
        Fetched::Group(id, None) => {
            let shown =
                set.groups.get(id).is_some_and(|group| !group.foreign && !group.is_gone() && group.row.is_some());
            (shown, MarkTarget::Group(id.clone()))
        }
        _ => return false,
    };
    shown && !mirror::would_ask_again_for_gone(set, &target)
}

/// The mark of a single record's answer.
pub(super) fn mark_of<'a>(set: &'a WorkingSet, fetched: &Fetched) -> Option<&'a Mark> {
    set.marks.get(&match fetched {
        Fetched::User(id, _) => MarkTarget::User(id.clone()),
        Fetched::Group(id, _) => MarkTarget::Group(id.clone()),
        _ => return None,
    })
}

fn apply_list(set: &mut WorkingSet, list: &MembershipList, at: &TruthContext) {
    if !list.owner_exists && !owner_is_gone(set, &list.owner) {
        // The list of an id that is gone is empty (rule 5): its own record decides first, and its memberships with it.
        let record = match &list.owner {
            MarkTarget::UserGroups(user) => MarkTarget::User(user.clone()),
            MarkTarget::GroupMembers(group) => MarkTarget::Group(group.clone()),
            other => other.clone(),
        };
        // A mark that stands keeps count of its contradictions: starting it over each time would leave it undecided.
        if !set.marks.contains_key(&record) {
            set.mark(record.clone(), at.number, at.now);
        }
        let soon = at.now + TimeDelta::seconds(1);
        let due_at = set.marks.get(&record).map_or(soon, |mark| mark.due_at.max(soon));
        for mark in list.marks.iter().filter(|mark| mark.target != record) {
            let is_record = matches!(mark.target, MarkTarget::User(_) | MarkTarget::Group(_));
            // What is being asked for again by itself keeps its time, which its own answer goes by.
            if !(is_record && mark.contradictions > 0) {
                put_off(set, &mark.target, due_at.max(mark.due_at));
            }
        }
        return;
    }
    show_users(set, &list.users, at);
    show_groups(set, &list.groups, at);
    let listed = listed_edges(list, Some(&set.directory_id));
    for key in &listed {
        mirror::edge_truth(set, key, true, at);
    }
    let marked = list.marks.iter().filter_map(|mark| match &mark.target {
        MarkTarget::Edge(group, user) => Some((group.clone(), user.clone())),
        _ => None,
    });
    let absent: BTreeSet<EdgeKey> =
        list.known.iter().cloned().chain(marked).filter(|key| !listed.contains(key)).collect();
    let by_group = matches!(list.owner, MarkTarget::GroupMembers(_));
    for key in absent {
        let active = set
            .users
            .get(&key.1)
            .and_then(|user| user.row.as_ref())
            .is_some_and(|row| row.state == crate::model::UserState::Active);
        if (active || !by_group) && !is_held(set, &key, at) {
            mirror::edge_truth(set, &key, false, at);
        }
    }
    set.clear_mark(&list.owner, at.number);
}

/// Whether the brake holds a membership that a scan missed: its mark is put off for longer than anything else
/// puts it off but an answer that cannot be read.
fn is_held(set: &WorkingSet, (group, user): &EdgeKey, at: &TruthContext) -> bool {
    let mark = set.marks.get(&MarkTarget::Edge(group.clone(), user.clone()));
    mark.is_some_and(|mark| {
        let minutes = (mark.due_at - at.now).num_minutes();
        mark.hinted_at.is_none() && mark.failures == 0 && (HELD_FROM_MINUTES..=HELD_MINUTES).contains(&minutes)
    })
}

/// Of what comes along unasked, only what is new is applied: a page of a hundred costs as much as what changed in it.
fn show_users(set: &mut WorkingSet, records: &[UserRecord], at: &TruthContext) {
    let directory = set.directory_id.clone();
    for user in records.iter().filter(|user| user.directory_id == directory) {
        let is_marked = set.marks.contains_key(&MarkTarget::User(user.id.clone()));
        if !is_marked && set.users.get(&user.id).is_some_and(|known| known.is_confirmed_as(user)) {
            continue;
        }
        mirror::user_truth(set, &user.id, Answer::Is(user.clone()), at);
    }
}

fn show_groups(set: &mut WorkingSet, records: &[GroupRecord], at: &TruthContext) {
    let directory = set.directory_id.clone();
    for group in records.iter().filter(|group| group.directory_id == directory) {
        let is_marked = set.marks.contains_key(&MarkTarget::Group(group.id.clone()));
        if !is_marked && set.groups.get(&group.id).is_some_and(|known| known.is_confirmed_as(group)) {
            continue;
        }
        mirror::group_truth(set, &group.id, Answer::Is(group.clone()), at);
    }
}

fn owner_is_gone(set: &WorkingSet, owner: &MarkTarget) -> bool {
    match owner {
        MarkTarget::UserGroups(user) => {
            set.users.get(user).and_then(|user| user.row.as_ref()).is_none_or(|row| row.deleted_at.is_some())
        }
        MarkTarget::GroupMembers(group) => {
            set.groups.get(group).and_then(|group| group.row.as_ref()).is_none_or(|row| row.deleted_at.is_some())
        }
        _ => false,
    }
}

pub(super) fn put_off(set: &mut WorkingSet, target: &MarkTarget, due_at: Timestamp) {
    if let Some(mark) = set.marks.get(target).cloned() {
        set.put_mark(Mark { due_at, ..mark });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DirectoryUserId;

    #[test]
    fn an_answer_that_cannot_be_read_puts_off_the_mark_that_was_asked_for_and_no_newer_one() {
        let now = Timestamp::UNIX_EPOCH;
        let target = MarkTarget::User(DirectoryUserId::from_stored("u".to_owned()));
        let at = TruthContext { number: 1, sent_at: now, asked_at: now, now, applied_under: 1 };
        for (version, failures, wait) in [(1, 1, 2), (2, 0, 0)] {
            let mut set = WorkingSet::empty(DirectoryId::from_stored("d".to_owned()));
            set.mark(target.clone(), 1, now);
            let asked_for = vec![set.marks[&target].clone()];
            set.mark(target.clone(), version, now);
            assert!(apply_one(&mut set, &Fetched::Failed(asked_for, String::new()), &at, true));
            let mark = &set.marks[&target];
            let expected = (version, failures, now + TimeDelta::seconds(wait));
            assert_eq!((mark.version, mark.failures, mark.due_at), expected);
        }
        let mut set = WorkingSet::empty(DirectoryId::from_stored("d".to_owned()));
        set.mark(target.clone(), 1, now);
        let cleared = vec![set.marks.remove(&target).unwrap()];
        set.marks_set.clear();
        assert!(apply_one(&mut set, &Fetched::Failed(cleared, String::new()), &at, true));
        assert!(set.marks.is_empty(), "what was settled meanwhile stays so");
    }
}
