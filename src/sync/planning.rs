//! From marks and beliefs to the moves of the next wave. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use chrono::TimeDelta;

use super::plan::{self, GroupFacts, Move, PathCosts, Place, Target, Urgency, UserFacts, Work};
use crate::clock::Timestamp;
use crate::db::{Beliefs, ListPlace};
use crate::model::{Mark, MarkTarget};
use crate::workos::Priority;

/// Records on a page of WorkOS's lists.
pub(super) const PAGE_SIZE: NonZeroU32 = NonZeroU32::new(100).unwrap();
/// Requests that are under way together for one directory: what they answer is in memory together.
const WAVE: u32 = 8;
/// A plan of no more requests goes before those that take long.
const SMALL: u64 = 16;
/// Marks that are planned together.
pub(super) const HORIZON: usize = 4096;
/// A mark that was set within this time says that more are coming in.
const COMING_IN: TimeDelta = TimeDelta::seconds(1);

/// A move, the marks that it covers, and who goes first.
pub(super) struct WaveMove<'a> {
    pub(super) step: Move<'a>,
    pub(super) marks: Vec<Mark>,
    pub(super) priority: Priority,
}

/// Whether these marks are but a part of what is dirty: a burst is coming in, or there are more than are planned together.
/// Pages that begin wherever a mark stands would leave gaps between them, each of which costs another page later. So they
/// are to begin where those of a scan do: then a burst over a whole directory costs no more than a scan.
pub(super) fn are_part_of_more(marks: &[Mark], now: Timestamp) -> bool {
    let comes_in = || marks.iter().any(|mark| mark.set_at > now - COMING_IN);
    marks.len() >= HORIZON || (marks.len() as u64 > SMALL && comes_in())
}

/// How many requests to `/directory_users` should be able to go at once before a wave for these marks is planned: half of
/// what its limit lets go in a second, so that waves are not made of single requests.
pub(super) fn least_room(marks: &[Mark], costs: PathCosts) -> u32 {
    if marks.is_empty() || !marks.iter().all(|mark| matches!(mark.target, MarkTarget::User(_))) {
        // There may be requests for the other path.
        return 0;
    }
    if marks.iter().any(|mark| mark.urgent) { 1 } else { (1000 / u32::from(costs.users)).clamp(2, WAVE) / 2 }
}

/// The first moves of the plan for these marks, with no more requests to `/directory_users` than have room: what waits
/// with its number taken cannot clear what is marked meanwhile.
pub(super) fn next_wave<'a>(
    marks: &'a [Mark],
    beliefs: &'a Beliefs,
    costs: PathCosts,
    users_room: u32,
) -> Vec<WaveMove<'a>> {
    let mut work = Work::new(PAGE_SIZE, costs);
    let wanted = wanted(marks, beliefs);
    let by_target: BTreeMap<Target<'a>, &Mark> =
        wanted.iter().filter_map(|mark| Some((Target::of(&mark.target)?, *mark))).collect();
    for (target, mark) in &by_target {
        work.add(*target, if mark.urgent { Urgency::Revocation } else { Urgency::Ordinary });
    }
    for (id, belief) in &beliefs.users {
        let place = belief.place.as_ref().map(place);
        work.know_user(id, UserFacts { place, groups: belief.groups, active: belief.active });
    }
    for (id, belief) in &beliefs.groups {
        let place = belief.place.as_ref().map(place);
        work.know_group(id, GroupFacts { place, members: belief.members });
    }
    for (group, user) in &beliefs.members {
        work.know_member(group, user);
    }
    let mut wave = Vec::new();
    let (mut planned, mut on_users_path) = (0, 0_u32);
    let plan = plan::plan(work);
    tracing::debug!(marks = by_target.len(), requests = plan.requests.total(), "planned");
    let in_its_turn = if plan.requests.total() <= SMALL { Priority::Small } else { Priority::Bulk };
    for step in plan.moves {
        if planned >= WAVE {
            break;
        }
        if step.step.is_on_users_path() {
            if on_users_path > 0 && on_users_path.saturating_add(step.step.requests()) > users_room {
                continue;
            }
            on_users_path = on_users_path.saturating_add(step.step.requests());
        }
        planned += step.step.requests();
        let covered = step.covers.iter().filter_map(|target| by_target.get(target)).map(|mark| (*mark).clone());
        let marks: Vec<Mark> = covered.collect();
        let revokes = marks.iter().any(|mark| mark.urgent);
        let priority = if revokes { Priority::Revocation } else { in_its_turn };
        wave.push(WaveMove { step: step.step, marks, priority });
    }
    wave
}

/// The costs of the paths, from the time that a request keeps each busy.
pub(super) fn path_costs((users, groups): (Duration, Duration)) -> PathCosts {
    // Without limits every path takes the same time.
    let cost = |spacing: Duration| u16::try_from(spacing.as_millis()).unwrap_or(u16::MAX).max(1);
    PathCosts { users: cost(users), groups: cost(groups) }
}

/// Memberships are shown only between records that are there, so those of records that nobody has seen yet wait for
/// them.
fn wanted<'a>(marks: &'a [Mark], beliefs: &Beliefs) -> Vec<&'a Mark> {
    let unseen: BTreeSet<&MarkTarget> = marks
        .iter()
        .map(|mark| &mark.target)
        .filter(|target| match target {
            MarkTarget::User(id) => !beliefs.users.contains_key(id),
            MarkTarget::Group(id) => !beliefs.groups.contains_key(id),
            _ => false,
        })
        .collect();
    let is_unseen = |target: MarkTarget| unseen.contains(&target);
    let waits = |mark: &Mark| match &mark.target {
        MarkTarget::Edge(group, user) => {
            is_unseen(MarkTarget::Group(group.clone())) || is_unseen(MarkTarget::User(user.clone()))
        }
        MarkTarget::UserGroups(user) => is_unseen(MarkTarget::User(user.clone())),
        MarkTarget::GroupMembers(group) => is_unseen(MarkTarget::Group(group.clone())),
        MarkTarget::Directory | MarkTarget::User(_) | MarkTarget::Group(_) => false,
    };
    marks.iter().filter(|mark| unseen.is_empty() || !waits(mark)).collect()
}

fn place<Id>(place: &ListPlace<Id>) -> Place<'_, Id> {
    match (NonZeroU32::new(place.rank), &place.previous) {
        (Some(rank), Some(cursor)) => Place::After { rank, cursor },
        _ => Place::First,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::db::{PageCursors, UserBelief};
    use crate::model::DirectoryUserId;

    const COSTS: PathCosts = PathCosts { users: 250, groups: 10 };

    fn id(number: u32) -> DirectoryUserId {
        DirectoryUserId::from_stored(format!("user_{number:05}"))
    }

    fn mark(user: DirectoryUserId, set_at: Timestamp) -> Mark {
        let (target, hinted_at) = (MarkTarget::User(user), None);
        Mark { target, version: 1, due_at: set_at, contradictions: 0, failures: 0, urgent: false, set_at, hinted_at }
    }

    /// What is believed of these users of a directory of so many.
    fn beliefs(marked: &BTreeSet<u32>, listed: u32, in_part: bool) -> Beliefs {
        let mut beliefs = Beliefs::default();
        for &rank in marked {
            let place = Some(ListPlace { rank, previous: rank.checked_sub(1).map(id) });
            beliefs.users.insert(id(rank), UserBelief { place, active: true, groups: 0 });
        }
        if in_part {
            let ends = (1..=listed / 100).map(|page| id(page * 100 - 1)).collect();
            beliefs.read_users_by(&PageCursors::new(100, ends));
        }
        beliefs
    }

    /// The requests for a burst over a whole directory that comes in within so many waves, in no order.
    fn requests_for_a_burst(users: u32, waves: u32) -> usize {
        let now = Timestamp::UNIX_EPOCH;
        let mut coming: Vec<u32> = (0..users).collect();
        coming.sort_by_key(|number| number.wrapping_mul(2_654_435_761));
        let (mut marked, mut fetched, mut requests) = (BTreeSet::new(), BTreeSet::new(), 0);
        loop {
            let rest = coming.len().saturating_sub((users / waves) as usize);
            marked.extend(coming.split_off(rest).into_iter().filter(|user| !fetched.contains(user)));
            let set_at = if coming.is_empty() { now - TimeDelta::seconds(5) } else { now };
            let marks: Vec<Mark> = marked.iter().map(|user| mark(id(*user), set_at)).take(HORIZON).collect();
            if marks.is_empty() {
                return requests;
            }
            let in_part = are_part_of_more(&marks, now);
            let planned: BTreeSet<u32> = marked.iter().copied().take(HORIZON).collect();
            let beliefs = beliefs(&planned, users, in_part);
            for step in next_wave(&marks, &beliefs, COSTS, 4) {
                requests += 1;
                match step.step {
                    Move::GetUser(user) => drop(fetched.insert(number(user))),
                    Move::UserPage { after } => {
                        let first = after.map_or(0, |cursor| number(cursor) + 1);
                        fetched.extend(first..(first + 100).min(users));
                    }
                    other => panic!("{other:?}"),
                }
            }
            marked.retain(|user| !fetched.contains(user));
        }
    }

    fn number(user: &DirectoryUserId) -> u32 {
        user.as_str()["user_".len()..].parse().unwrap()
    }

    #[test]
    fn a_burst_costs_little_more_than_a_scan_however_it_comes_in() {
        for (users, waves, most) in [(10_000, 1, 100), (10_000, 5, 102), (10_000, 40, 104), (2000, 10, 22)] {
            let requests = requests_for_a_burst(users, waves);
            assert!(requests <= most, "{requests} requests for {users} users within {waves} waves");
        }
    }

    #[test]
    fn a_wave_takes_no_more_than_has_room() {
        let marked: BTreeSet<u32> = (0..40).map(|number| number * 300).collect();
        let marks: Vec<Mark> = marked.iter().map(|user| mark(id(*user), Timestamp::UNIX_EPOCH)).collect();
        let beliefs = beliefs(&marked, 12_000, false);
        for (room, requests) in [(4, 4), (u32::MAX, 8), (1, 1), (0, 1)] {
            assert_eq!(next_wave(&marks, &beliefs, COSTS, room).len(), requests, "room for {room}");
        }
    }

    #[test]
    fn a_revocation_waits_for_one_place_and_the_other_path_for_none() {
        let ordinary = mark(id(1), Timestamp::UNIX_EPOCH);
        let list = Mark { target: MarkTarget::UserGroups(id(1)), ..ordinary.clone() };
        let urgent = Mark { urgent: true, ..ordinary.clone() };
        for (marks, least) in
            [(vec![ordinary.clone()], 2), (vec![ordinary.clone(), urgent], 1), (vec![ordinary.clone(), list], 0)]
        {
            assert_eq!(least_room(&marks, COSTS), least);
        }
        assert_eq!(least_room(&[ordinary], PathCosts { users: 1, groups: 1 }), 4);
    }
}
