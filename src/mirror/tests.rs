//! The rules, by table and by property.

mod guards;
mod steps;

use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::clock::Timestamp;
use crate::model::{
    Change, DirectoryGroupId, DirectoryId, DirectoryUserId, EventId, GroupRecord, Hint, HintKey, Mark, MarkTarget,
    UserRecord, UserState,
};

fn at(second: i64) -> Timestamp {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn user_id(number: u8) -> DirectoryUserId {
    DirectoryUserId::new(format!("user_{number}")).unwrap()
}

fn group_id(number: u8) -> DirectoryGroupId {
    DirectoryGroupId::new(format!("group_{number}")).unwrap()
}

fn user(number: u8, state: &str, updated: i64) -> UserRecord {
    UserRecord::from_json(&json!({
        "id": user_id(number).as_str(), "directory_id": "directory", "state": state,
        "first_name": format!("as of {updated}"), "updated_at": at(updated).to_rfc3339(),
    }))
    .unwrap()
}

fn group(number: u8, updated: i64) -> GroupRecord {
    GroupRecord::from_json(&json!({
        "id": group_id(number).as_str(), "directory_id": "directory", "name": format!("as of {updated}"),
        "updated_at": at(updated).to_rfc3339(),
    }))
    .unwrap()
}

fn hint(second: i64, change: Change) -> Hint {
    let event_id = EventId::new(format!("event_{second}")).unwrap();
    let key = HintKey { at: at(second), removes: change.removes(), event_id };
    Hint { key, directory_id: DirectoryId::new("directory").unwrap(), change }
}

fn empty() -> WorkingSet {
    WorkingSet::empty(DirectoryId::new("directory").unwrap())
}

fn fold_at(set: &mut WorkingSet, hint: &Hint, number: i64, second: i64) -> Outcome {
    fold(set, hint, &FoldContext { number, now: at(second), oldest: at(-1_000_000), verifies: true })
}

fn truth(number: i64, second: i64) -> TruthContext {
    TruthContext { number, sent_at: at(second), asked_at: at(second), now: at(second), applied_under: number }
}

fn state_of(set: &WorkingSet, number: u8) -> Option<UserState> {
    set.users.get(&user_id(number)).and_then(|entity| entity.row.as_ref()).map(|row| row.state)
}

fn created(number: u8, second: i64) -> Hint {
    hint(second, Change::UserCreated(user_id(number), Some(Box::new(user(number, "active", second)))))
}

fn deleted(number: u8, second: i64) -> Hint {
    hint(second, Change::UserDeleted(user_id(number)))
}

#[test]
fn a_removal_of_the_unknown_creates_nothing_and_keeps_a_late_creation_out() {
    let mut set = empty();
    fold_at(&mut set, &deleted(1, 20), 1, 21);
    assert!(set.marks.is_empty() && state_of(&set, 1).is_none());
    fold_at(&mut set, &created(1, 10), 2, 22);
    assert_eq!(state_of(&set, 1), Some(UserState::Inactive), "as the other order would have left it");
    assert!(set.marks.contains_key(&MarkTarget::User(user_id(1))), "WorkOS may still have the user");
}

#[test]
fn an_answer_asked_for_before_a_mark_neither_writes_nor_clears_it() {
    let mut set = empty();
    fold_at(&mut set, &created(1, 10), 5, 11);
    let target = MarkTarget::User(user_id(1));
    let verdict = user_truth(&mut set, &user_id(1), Answer::Is(user(1, "inactive", 9)), &truth(4, 9));
    assert_eq!(verdict, Verdict::Superseded);
    assert!(set.marks.contains_key(&target));
    let verdict = user_truth(&mut set, &user_id(1), Answer::Is(user(1, "active", 10)), &truth(6, 12));
    assert_eq!(verdict, Verdict::Accepted);
    assert!(!set.marks.contains_key(&target));
}

#[test]
fn a_lagging_answer_is_asked_again_and_meanwhile_the_revocation_stands() {
    let mut set = empty();
    fold_at(&mut set, &created(1, 10), 1, 10);
    user_truth(&mut set, &user_id(1), Answer::Is(user(1, "active", 10)), &truth(2, 11));
    fold_at(&mut set, &deleted(1, 20), 3, 20);
    let target = MarkTarget::User(user_id(1));
    for (number, second, wait) in [(4, 20, 0), (5, 20, 1), (6, 21, 4)] {
        let verdict = user_truth(&mut set, &user_id(1), Answer::Is(user(1, "active", 10)), &truth(number, second));
        assert_eq!(verdict, Verdict::Contradicted);
        assert_eq!(state_of(&set, 1), Some(UserState::Inactive));
        assert_eq!(set.marks[&target].due_at, at(second) + TimeDelta::seconds(wait));
    }
    let verdict = user_truth(&mut set, &user_id(1), Answer::Is(user(1, "active", 10)), &truth(9, 25));
    assert_eq!(verdict, Verdict::Accepted);
    assert_eq!(state_of(&set, 1), Some(UserState::Active));
    assert_eq!(set.marks[&target].due_at, at(25 + 60), "a second look");
}

#[test]
fn neither_an_older_event_nor_a_clock_that_is_set_ends_a_second_look() {
    let mut set = empty();
    let target = MarkTarget::User(user_id(1));
    let lagging = || Answer::Is(user(1, "active", 10));
    fold_at(&mut set, &created(1, 20), 1, 20);
    for (number, second) in [(2, 20), (3, 20), (4, 21), (5, 25)] {
        user_truth(&mut set, &user_id(1), lagging(), &truth(number, second));
    }
    let older = Change::UserUpdated(user_id(1), Some(Box::new(user(1, "active", 10))));
    fold_at(&mut set, &hint(18, older), 6, 30);
    let set_forward = TruthContext { asked_at: at(200), now: at(200), ..truth(8, 32) };
    for (context, due) in [(truth(7, 31), 31 + 60), (set_forward, 200 + 60)] {
        user_truth(&mut set, &user_id(1), lagging(), &context);
        assert_eq!(set.marks[&target].due_at, at(due), "still a second look");
        put_due(&mut set, &target, 0);
    }
    user_truth(&mut set, &user_id(1), Answer::Is(user(1, "active", 20)), &truth(9, 92));
    assert!(!set.marks.contains_key(&target));
}

fn put_due(set: &mut WorkingSet, target: &MarkTarget, second: i64) {
    let mark = set.marks[target].clone();
    set.put_mark(Mark { due_at: at(second), ..mark });
}

#[test]
fn a_deletion_that_is_told_after_the_404_is_remembered_against_a_replica_that_lags() {
    let mut set = empty();
    fold_at(&mut set, &created(1, 10), 1, 10);
    for (number, second) in [(2, 30), (3, 30), (4, 31), (5, 35), (6, 35)] {
        user_truth(&mut set, &user_id(1), Answer::Gone, &truth(number, second));
    }
    fold_at(&mut set, &deleted(1, 30), 7, 36);
    user_truth(&mut set, &user_id(1), Answer::Is(user(1, "suspended", 30)), &truth(8, 40));
    let target = MarkTarget::User(user_id(1));
    assert_eq!(set.marks.get(&target).map(|mark| mark.due_at), Some(at(40 + 60)), "it is looked at again");
}

#[test]
fn a_removal_that_is_told_after_a_list_without_it_is_remembered_against_a_replica_that_lags() {
    let mut set = empty();
    fold_at(&mut set, &created(1, 10), 1, 10);
    fold_at(&mut set, &hint(10, Change::GroupCreated(group_id(1), Some(Box::new(group(1, 10))))), 2, 10);
    let key = (group_id(1), user_id(1));
    edge_truth(&mut set, &key, false, &truth(3, 100));
    let removed = Change::MemberRemoved { group: group_id(1), user: user_id(1) };
    fold_at(&mut set, &hint(98, removed), 4, 101);
    assert_eq!(edge_truth(&mut set, &key, true, &truth(5, 105)), Verdict::Contradicted);
}

#[test]
fn a_directory_that_is_there_an_hour_after_its_deletion_was_told_refutes_it() {
    for (second, announced) in [(3000, true), (3700, false)] {
        let mut set = empty();
        set.register_directory(None, 1, at(0));
        let record = set.directory.row.as_ref().unwrap().record.clone();
        let record = crate::model::DirectoryRecord { updated_at: Some(at(1)), ..record };
        fold_at(&mut set, &hint(20, Change::DirectoryDeleted), 1, 20);
        for number in 2..6 {
            put_due(&mut set, &MarkTarget::Directory, 0);
            directory_truth(&mut set, Answer::Is(record.clone()), &truth(number, second + number));
        }
        assert!(set.directory.row.as_ref().unwrap().deleted_at.is_none());
        assert_eq!(set.directory.memory.hint.is_some(), announced, "asked for at second {second}");
    }
}

#[test]
fn of_events_of_one_instant_a_second_look_decides() {
    let mut set = empty();
    fold_at(&mut set, &created(1, 10), 1, 10);
    let target = MarkTarget::User(user_id(1));
    let mut update = created(1, 10);
    update.key.event_id = EventId::new("event_10_too").unwrap();
    fold_at(&mut set, &update, 3, 10);
    user_truth(&mut set, &user_id(1), Answer::Is(user(1, "active", 10)), &truth(4, 11));
    assert_eq!(set.marks[&target].due_at, at(11 + 60));
    user_truth(&mut set, &user_id(1), Answer::Is(user(1, "active", 10)), &truth(5, 72));
    assert!(!set.marks.contains_key(&target));
}

#[test]
fn each_answer_starts_the_minute_of_a_second_look_anew_so_that_the_look_itself_is_the_last() {
    let mut set = empty();
    let target = MarkTarget::User(user_id(1));
    fold_at(&mut set, &created(1, 10), 1, 10);
    set.look_twice(&target);
    // Fetched with others, before the look is due.
    for (number, second) in [(2, 13), (3, 60), (4, 110)] {
        user_truth(&mut set, &user_id(1), Answer::Is(user(1, "active", 10)), &truth(number, second));
        assert_eq!(set.marks[&target].due_at, at(second + 60), "after the answer of second {second}");
    }
    user_truth(&mut set, &user_id(1), Answer::Is(user(1, "active", 10)), &truth(5, 170));
    assert!(!set.marks.contains_key(&target), "it is over");
}

#[test]
fn an_event_with_newer_content_than_an_answer_of_after_it_has_the_next_answer_looked_at_twice() {
    for (updated, looks_twice) in [(20, true), (10, false)] {
        let mut set = empty();
        let target = MarkTarget::User(user_id(1));
        user_truth(&mut set, &user_id(1), Answer::Is(user(1, "active", 10)), &truth(1, 21));
        let record = Some(Box::new(user(1, "suspended", updated)));
        fold_at(&mut set, &hint(20, Change::UserUpdated(user_id(1), record)), 2, 22);
        assert_eq!(state_of(&set, 1), Some(UserState::Active), "the truth is of after the event");
        user_truth(&mut set, &user_id(1), Answer::Is(user(1, "active", 10)), &truth(3, 22));
        assert_eq!(set.marks.get(&target).map(|mark| mark.due_at), looks_twice.then_some(at(22 + 60)));
    }
}

#[test]
fn an_answer_older_than_another_is_asked_for_again() {
    let mut set = empty();
    for (number, updated, state) in [(1, 10, "active"), (2, 20, "inactive")] {
        let answer = Answer::Is(user(1, state, updated));
        assert_eq!(user_truth(&mut set, &user_id(1), answer, &truth(number, 20)), Verdict::Accepted);
    }
    let lagging = user_truth(&mut set, &user_id(1), Answer::Is(user(1, "active", 10)), &truth(3, 22));
    assert_eq!((lagging, state_of(&set, 1)), (Verdict::Contradicted, Some(UserState::Inactive)));
}

#[test]
fn what_was_asked_for_together_or_too_soon_is_one_contradiction() {
    let mut set = empty();
    fold_at(&mut set, &created(1, 10), 1, 10);
    fold_at(&mut set, &deleted(1, 20), 2, 20);
    let target = MarkTarget::User(user_id(1));
    let mut lagging = |at: &TruthContext| {
        let verdict = user_truth(&mut set, &user_id(1), Answer::Is(user(1, "active", 10)), at);
        (verdict, set.marks[&target].contradictions)
    };
    // A wave of four, applied under 7.
    for (number, verdict) in [(3, Verdict::Contradicted), (4, Verdict::Superseded), (5, Verdict::Superseded)] {
        assert_eq!(lagging(&TruthContext { applied_under: 7, ..truth(number, 20) }), (verdict, 1));
    }
    assert_eq!(lagging(&truth(8, 20)), (Verdict::Contradicted, 2));
    for number in 9..20 {
        assert_eq!(lagging(&truth(number, 20)), (Verdict::Contradicted, 2), "before a second has passed");
    }
}

#[test]
fn a_removal_that_truth_has_settled_takes_nobody_away_later() {
    let mut set = empty();
    fold_at(&mut set, &created(1, 10), 1, 10);
    user_truth(&mut set, &user_id(1), Answer::Is(user(1, "active", 10)), &truth(2, 100));
    // An old removal, which the truth of a moment ago and the one that follows contradict.
    fold_at(&mut set, &deleted(1, 20), 3, 101);
    user_truth(&mut set, &user_id(1), Answer::Is(user(1, "active", 10)), &truth(4, 102));
    let added = Change::MemberAdded {
        group: group_id(1),
        user: user_id(1),
        group_snapshot: Some(Box::new(group(1, 5))),
        user_snapshot: Some(Box::new(user(1, "active", 120))),
    };
    fold_at(&mut set, &hint(120, added), 5, 121);
    assert_eq!(state_of(&set, 1), Some(UserState::Active));
}

#[test]
fn a_hint_older_than_the_truth_sets_a_mark_and_no_more() {
    let mut set = empty();
    fold_at(&mut set, &created(1, 10), 1, 10);
    user_truth(&mut set, &user_id(1), Answer::Is(user(1, "active", 10)), &truth(2, 50));
    let before = set.users[&user_id(1)].row.clone();
    let outcome = fold_at(&mut set, &deleted(1, 40), 3, 60);
    assert_eq!(set.users[&user_id(1)].row, before);
    assert!(set.marks.contains_key(&MarkTarget::User(user_id(1))), "{outcome:?}");
}

#[test]
fn content_that_the_api_confirmed_needs_no_mark() {
    let mut set = empty();
    user_truth(&mut set, &user_id(1), Answer::Is(user(1, "active", 10)), &truth(2, 11));
    set.register_directory(None, 1, at(0));
    set.clear_mark(&MarkTarget::Directory, 1);
    let outcome = fold_at(&mut set, &created(1, 10), 3, 12);
    assert_eq!(outcome.status, crate::model::EventStatus::Skipped);
    assert!(set.marks.is_empty());
}

#[test]
fn who_comes_back_has_the_memberships_fetched() {
    let mut set = empty();
    user_truth(&mut set, &user_id(1), Answer::Is(user(1, "inactive", 10)), &truth(2, 11));
    user_truth(&mut set, &user_id(1), Answer::Is(user(1, "active", 20)), &truth(3, 21));
    assert!(set.marks.contains_key(&MarkTarget::UserGroups(user_id(1))));
}

#[test]
fn who_comes_back_by_an_event_has_the_memberships_fetched_too() {
    let record = || Box::new(user(1, "active", 20));
    let added = Change::MemberAdded {
        group: group_id(1),
        user: user_id(1),
        group_snapshot: None,
        user_snapshot: Some(record()),
    };
    for change in [Change::UserUpdated(user_id(1), Some(record())), added] {
        let mut set = empty();
        user_truth(&mut set, &user_id(1), Answer::Is(user(1, "inactive", 10)), &truth(2, 11));
        fold_at(&mut set, &hint(20, change), 3, 21);
        assert_eq!(state_of(&set, 1), Some(UserState::Active));
        assert!(set.marks.contains_key(&MarkTarget::UserGroups(user_id(1))));
    }
}

#[test]
fn a_membership_event_revives_no_user() {
    let mut set = empty();
    for hint in [created(1, 10), deleted(1, 30)] {
        fold_at(&mut set, &hint, 1, 40);
    }
    let added = Change::MemberAdded {
        group: group_id(1),
        user: user_id(1),
        group_snapshot: Some(Box::new(group(1, 5))),
        user_snapshot: Some(Box::new(user(1, "active", 35))),
    };
    fold_at(&mut set, &hint(36, added), 2, 41);
    assert_eq!(state_of(&set, 1), Some(UserState::Inactive));
    assert!(set.marks.contains_key(&MarkTarget::User(user_id(1))), "newer than the removal: to be looked at");
}

#[test]
fn a_404_leaves_a_tombstone_that_late_truth_numbers_cannot_lift() {
    let mut set = empty();
    fold_at(&mut set, &created(1, 10), 1, 10);
    fold_at(&mut set, &deleted(1, 20), 2, 20);
    user_truth(&mut set, &user_id(1), Answer::Gone, &truth(5, 21));
    assert!(set.users[&user_id(1)].row.as_ref().unwrap().deleted_at.is_some());
    assert!(set.users_without_edges.contains(&user_id(1)));
    let verdict = user_truth(&mut set, &user_id(1), Answer::Is(user(1, "active", 10)), &truth(4, 19));
    assert_eq!(verdict, Verdict::Superseded);
}

fn any_user(updated: i64) -> impl Strategy<Value = (u8, Option<Box<UserRecord>>)> {
    (0..3u8, prop_oneof!["active", "suspended", "inactive"], any::<bool>())
        .prop_map(move |(number, state, thin)| (number, (!thin).then(|| Box::new(user(number, &state, updated)))))
}

fn any_change() -> impl Strategy<Value = (i64, Change)> {
    let one = (0..40i64, 0..40i64).prop_flat_map(|(second, updated)| {
        let snapshots = (any_user(updated), 0..2u8, any::<bool>());
        let change = (0..10u8, snapshots).prop_map(move |(kind, ((number, record), group_number, thin))| {
            let (user, group_of) = (user_id(number), group_id(group_number));
            let group_record = (!thin).then(|| Box::new(group(group_number, updated)));
            match kind {
                0 => Change::UserCreated(user, record),
                1 | 2 => Change::UserUpdated(user, record),
                3 => Change::UserDeleted(user),
                4 => Change::GroupCreated(group_of, group_record),
                5 => Change::GroupUpdated(group_of, group_record),
                6 => Change::GroupDeleted(group_of),
                7 => Change::MemberRemoved { group: group_of, user },
                _ => Change::MemberAdded { group: group_of, user, group_snapshot: group_record, user_snapshot: record },
            }
        });
        (Just(second), change)
    });
    prop_oneof![30 => one, 1 => (0..40i64).prop_map(|second| (second, Change::DirectoryDeleted))]
}

/// What the database does to the rows of a deleted directory when a batch is saved.
fn take_everything_away(set: &mut WorkingSet) {
    if !std::mem::take(&mut set.everything_goes) {
        return;
    }
    for row in set.users.values_mut().filter_map(|entity| entity.row.as_mut()) {
        row.state = UserState::Inactive;
        row.deleted_at = Some(at(0));
    }
    for row in set.groups.values_mut().filter_map(|entity| entity.row.as_mut()) {
        row.deleted_at = Some(at(0));
    }
    set.edges.values_mut().for_each(|edge| edge.memory.present = false);
}

type Shown = (Vec<(UserRecord, UserState, bool)>, Vec<(GroupRecord, bool)>, Vec<EdgeKey>, Option<bool>);

/// What applications would read after these hints, if there is no API.
fn play_unverified(hints: &[Hint]) -> Shown {
    let mut set = empty();
    let context = FoldContext { number: 1, now: at(100), oldest: Timestamp::MIN_UTC, verifies: false };
    for hint in hints {
        fold(&mut set, hint, &context);
        take_everything_away(&mut set);
    }
    let users = set.users.values().filter_map(|entity| entity.row.clone());
    let groups = set.groups.values().filter_map(|entity| entity.row.clone());
    let edges = set.edges.iter().filter(|(_, edge)| edge.memory.present).map(|(key, _)| key.clone());
    (
        users.map(|row| (row.record, row.state, row.deleted_at.is_some())).collect(),
        groups.map(|row| (row.record, row.deleted_at.is_some())).collect(),
        edges.collect(),
        set.directory.row.as_ref().map(|row| row.deleted_at.is_some()),
    )
}

proptest! {
    /// Whatever the order of folding and however often, the same hints show the same rows.
    #[test]
    fn the_order_of_folding_does_not_change_what_is_shown(
        changes in proptest::collection::vec(any_change(), 1..14),
        shuffled in Just((0..14usize).chain(0..14).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut sorted: Vec<Hint> = changes.into_iter().map(|(second, change)| hint(second, change)).enumerate()
            .map(|(number, mut hint)| { hint.key.event_id = EventId::new(format!("event_{number:02}")).unwrap(); hint })
            .collect();
        let disordered: Vec<Hint> = shuffled.into_iter().filter_map(|place| sorted.get(place).cloned()).collect();
        sorted.sort_by(|a, b| a.key.cmp(&b.key));
        prop_assert_eq!(play_unverified(&sorted), play_unverified(&disordered));
    }
}

#[test]
fn a_snapshot_of_the_time_before_a_404_brings_nobody_back() {
    let mut set = empty();
    set.register_directory(None, 1, at(0));
    fold_at(&mut set, &hint(5, Change::UserUpdated(user_id(1), None)), 2, 6);
    for (number, second) in [(3, 100), (4, 100), (5, 101), (6, 105)] {
        user_truth(&mut set, &user_id(1), Answer::Gone, &truth(number, second));
    }
    assert_eq!(set.users[&user_id(1)].memory.truth_number, 6, "accepted in the end");
    let added = Change::MemberAdded {
        group: group_id(1),
        user: user_id(1),
        group_snapshot: Some(Box::new(group(1, 5))),
        user_snapshot: Some(Box::new(user(1, "active", 5))),
    };
    fold_at(&mut set, &hint(50, added), 7, 110);
    assert_eq!(state_of(&set, 1), None);
    assert!(!set.edges[&(group_id(1), user_id(1))].memory.present);
    assert!(set.marks.contains_key(&MarkTarget::User(user_id(1))));
}

#[test]
fn a_404_right_after_a_creation_is_asked_again() {
    let mut set = empty();
    fold_at(&mut set, &hint(5, Change::UserCreated(user_id(1), None)), 2, 6);
    let verdict = user_truth(&mut set, &user_id(1), Answer::Gone, &truth(3, 6));
    assert_eq!(verdict, Verdict::Contradicted, "a replica may not know the user yet");
}

#[test]
fn a_removal_that_arrives_after_a_stale_answer_is_not_refuted_by_another() {
    let mut set = empty();
    fold_at(&mut set, &created(1, 10), 1, 10);
    user_truth(&mut set, &user_id(1), Answer::Is(user(1, "active", 10)), &truth(2, 21));
    fold_at(&mut set, &deleted(1, 20), 3, 22);
    let verdict = user_truth(&mut set, &user_id(1), Answer::Is(user(1, "active", 10)), &truth(4, 22));
    assert_eq!(verdict, Verdict::Contradicted);
    let verdict = user_truth(&mut set, &user_id(1), Answer::Gone, &truth(5, 23));
    assert_eq!(verdict, Verdict::Accepted);
    assert_eq!(state_of(&set, 1), Some(UserState::Inactive));
}

#[test]
fn an_old_deletion_of_a_directory_is_remembered_until_the_api_denies_it() {
    let mut set = empty();
    set.register_directory(None, 1, at(0));
    let record = set.directory.row.as_ref().unwrap().record.clone();
    let record = crate::model::DirectoryRecord { updated_at: Some(at(1)), ..record };
    directory_truth(&mut set, Answer::Is(record.clone()), &truth(2, 30));
    fold_at(&mut set, &hint(20, Change::DirectoryDeleted), 3, 40);
    assert!(set.directory.row.as_ref().unwrap().deleted_at.is_none(), "older than the truth: no more than a mark");
    assert!(set.directory.memory.hint.as_ref().unwrap().removes, "a 404 that follows was announced");
    assert_eq!(directory_truth(&mut set, Answer::Gone, &truth(4, 41)), Verdict::Accepted);
    assert!(set.everything_goes);
}

#[test]
fn a_directory_that_is_linked_again_is_scanned_again() {
    let mut set = empty();
    set.register_directory(None, 1, at(0));
    let linked = set.directory.row.as_ref().unwrap().record.clone();
    let unlinked = crate::model::DirectoryRecord { state: "unlinked".to_owned(), ..linked.clone() };
    set.directory.set_directory(unlinked, at(1));
    set.directory.row.as_mut().unwrap().sync_status = crate::model::SyncStatus::Synced;
    let activated = Change::DirectoryChanged(Some(Box::new(linked)));
    fold_at(&mut set, &hint(10, activated), 2, 11);
    assert_eq!(set.directory.row.as_ref().unwrap().sync_status, crate::model::SyncStatus::Never);
}
