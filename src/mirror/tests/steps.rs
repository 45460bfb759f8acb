//! Random sequences of hints and answers about a few users and groups, played to one working set.

use super::*;
use crate::model::{DirectoryRecord, EdgeMemory, GroupRow, Memory, UserRow};

/// What the API says, in answer to a request that was sent some steps ago.
#[derive(Debug, Clone)]
pub(super) enum Said {
    User(u8, Option<UserRecord>),
    Group(u8, Option<GroupRecord>),
    Edge(u8, u8, bool),
    Directory(bool),
}

#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "a few dozen in a test case")]
pub(super) enum Step {
    Hint(Hint),
    Truth { said: Said, steps_ago: i64, sent_before: i64 },
}

/// Folds take the numbers 10, 20, …; a request takes one between those of two steps.
const STRIDE: i64 = 10;

pub(super) fn any_said() -> impl Strategy<Value = Said> {
    let state = prop_oneof![3 => Just("active"), 1 => Just("inactive"), 1 => Just("suspended")];
    let record = (0..2u8, state, 0..40i64, any::<bool>());
    (0..10u8, record, 0..2u8, any::<bool>()).prop_map(
        |(kind, (number, state, updated, gone), other, listed)| match kind {
            0..=4 => Said::User(number, (!gone).then(|| user(number, state, updated))),
            5 | 6 => Said::Group(number, (!gone).then(|| group(number, updated))),
            7 | 8 => Said::Edge(number, other, listed),
            _ => Said::Directory(!gone),
        },
    )
}

/// The same answer with a record of this second.
pub(super) fn of_time(said: Said, updated: i64) -> Said {
    match said {
        Said::User(number, record) => Said::User(number, record.map(|record| user(number, &record.state, updated))),
        Said::Group(number, record) => Said::Group(number, record.map(|_| group(number, updated))),
        other => other,
    }
}

fn a_directory() -> DirectoryRecord {
    DirectoryRecord::from_json(&json!({"id": "directory", "state": "linked"})).unwrap()
}

fn any_step() -> impl Strategy<Value = Step> {
    let hint = any_change().prop_map(|(second, change)| Step::Hint(hint(second, change)));
    let activated = (0..40i64)
        .prop_map(|second| Step::Hint(self::hint(second, Change::DirectoryChanged(Some(Box::new(a_directory()))))));
    let truth = (any_said(), 0..4i64, prop_oneof![0..5i64, 0..200i64])
        .prop_map(|(said, steps_ago, sent_before)| Step::Truth { said, steps_ago, sent_before });
    prop_oneof![12 => hint, 1 => activated, 8 => truth]
}

pub(super) fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any_step(), 1..30).prop_map(|mut steps| {
        for (number, step) in steps.iter_mut().enumerate() {
            if let Step::Hint(hint) = step {
                hint.key.event_id = EventId::new(format!("event_{number:02}")).unwrap();
            }
        }
        steps
    })
}

pub(super) fn number_of(place: usize) -> i64 {
    (i64::try_from(place).unwrap() + 1) * STRIDE
}

/// Steps happen each second, from when most of the hints happened.
pub(super) fn time_of(place: usize) -> Timestamp {
    at(20 + i64::try_from(place).unwrap())
}

fn context_of(place: usize, steps_ago: i64, sent_before: i64) -> TruthContext {
    let now = time_of(place);
    let number = (number_of(place) - STRIDE * steps_ago - STRIDE / 2).max(1);
    let sent_at = now - TimeDelta::seconds(sent_before);
    TruthContext { number, sent_at, asked_at: sent_at, now, applied_under: number }
}

pub(super) fn apply(set: &mut WorkingSet, said: &Said, context: &TruthContext) -> Verdict {
    fn answer<R: Clone>(record: Option<&R>) -> Answer<R> {
        record.map_or(Answer::Gone, |record| Answer::Is(record.clone()))
    }
    let verdict = match said {
        Said::User(number, record) => user_truth(set, &user_id(*number), answer(record.as_ref()), context),
        Said::Group(number, record) => group_truth(set, &group_id(*number), answer(record.as_ref()), context),
        Said::Edge(group, user, listed) => edge_truth(set, &(group_id(*group), user_id(*user)), *listed, context),
        Said::Directory(lives) => {
            let record = lives.then(a_directory);
            directory_truth(set, answer(record.as_ref()), context)
        }
    };
    save(set);
    verdict
}

/// What the database does to the rows of a deleted directory, and to the memberships of those who are gone, when a batch
/// is saved.
fn save(set: &mut WorkingSet) {
    take_everything_away(set);
    let users = std::mem::take(&mut set.users_without_edges);
    let groups = std::mem::take(&mut set.groups_without_edges);
    for (key, edge) in &mut set.edges {
        edge.memory.present &= !groups.contains(&key.0) && !users.contains(&key.1);
    }
}

/// A sequence, and what stood before and after each of its steps.
pub(super) fn play(
    steps: &[Step],
    mut check: impl FnMut(usize, &Step, &WorkingSet, &WorkingSet, Option<(TruthContext, Verdict)>),
) {
    let mut set = empty();
    for (place, step) in steps.iter().enumerate() {
        let before = set.clone();
        let applied = match step {
            Step::Hint(hint) => {
                let (number, now) = (number_of(place), time_of(place));
                fold(&mut set, hint, &FoldContext { number, now, oldest: at(-1_000_000), verifies: true });
                save(&mut set);
                None
            }
            Step::Truth { said, steps_ago, sent_before } => {
                let context = context_of(place, *steps_ago, *sent_before);
                Some((context, apply(&mut set, said, &context)))
            }
        };
        check(place, step, &before, &set, applied);
    }
}

pub(super) fn user_row(set: &WorkingSet, id: &DirectoryUserId) -> Option<UserRow> {
    set.users.get(id).and_then(|entity| entity.row.clone())
}

pub(super) fn group_row(set: &WorkingSet, id: &DirectoryGroupId) -> Option<GroupRow> {
    set.groups.get(id).and_then(|entity| entity.row.clone())
}

pub(super) fn is_active(set: &WorkingSet, id: &DirectoryUserId) -> bool {
    user_row(set, id).is_some_and(|row| row.state == UserState::Active)
}

pub(super) fn is_live(set: &WorkingSet, id: &DirectoryGroupId) -> bool {
    group_row(set, id).is_some_and(|row| row.deleted_at.is_none())
}

pub(super) fn is_present(set: &WorkingSet, key: &EdgeKey) -> bool {
    set.edges.get(key).is_some_and(|edge| edge.memory.present)
}

pub(super) fn is_deleted(set: &WorkingSet) -> bool {
    set.directory.is_gone()
}

/// Whom and what the hint or answer is about, of the whole small world.
pub(super) fn everybody() -> impl Iterator<Item = DirectoryUserId> {
    (0..3).map(user_id)
}

pub(super) fn all_groups() -> impl Iterator<Item = DirectoryGroupId> {
    (0..2).map(group_id)
}

pub(super) fn all_edges() -> impl Iterator<Item = EdgeKey> {
    all_groups().flat_map(|group| everybody().map(move |user| (group.clone(), user)))
}

pub(super) fn newest_hint_of_user(set: &WorkingSet, id: &DirectoryUserId) -> Option<HintKey> {
    set.users.get(id).and_then(|entity| entity.memory.hint.clone())
}

pub(super) type Written = (Vec<Option<UserRow>>, Vec<Option<GroupRow>>, Vec<Memory>, Vec<EdgeMemory>);

/// Everything but marks.
pub(super) fn written(set: &WorkingSet) -> Written {
    let users = everybody().map(|id| set.users.get(&id).map(|entity| entity.memory.clone()).unwrap_or_default());
    let groups = all_groups().map(|id| set.groups.get(&id).map(|entity| entity.memory.clone()).unwrap_or_default());
    let edges = all_edges().map(|key| set.edges.get(&key).map(|edge| edge.memory.clone()).unwrap_or_default());
    (
        everybody().map(|id| user_row(set, &id)).collect(),
        all_groups().map(|id| group_row(set, &id)).collect(),
        users.chain(groups).collect(),
        edges.collect(),
    )
}

pub(super) fn number_of_last_truth(set: &WorkingSet, said: &Said) -> i64 {
    match said {
        Said::User(number, _) => set.users.get(&user_id(*number)).map_or(0, |entity| entity.memory.truth_number),
        Said::Group(number, _) => set.groups.get(&group_id(*number)).map_or(0, |entity| entity.memory.truth_number),
        Said::Edge(group, user, _) => {
            set.edges.get(&(group_id(*group), user_id(*user))).map_or(0, |edge| edge.memory.truth_number)
        }
        Said::Directory(_) => set.directory.memory.truth_number,
    }
}

pub(super) fn target_of(said: &Said) -> MarkTarget {
    match said {
        Said::User(number, _) => MarkTarget::User(user_id(*number)),
        Said::Group(number, _) => MarkTarget::Group(group_id(*number)),
        Said::Edge(group, user, _) => MarkTarget::Edge(group_id(*group), user_id(*user)),
        Said::Directory(_) => MarkTarget::Directory,
    }
}
