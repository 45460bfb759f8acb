//! From marks and beliefs to the moves of the next wave. Pure.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use super::plan::{self, GroupFacts, Move, PathCosts, Place, Target, Urgency, UserFacts, Work};
use crate::db::{Beliefs, ListPlace};
use crate::model::{Mark, MarkTarget};
use crate::workos::Priority;

/// Records on a page of WorkOS's lists.
const PAGE_SIZE: NonZeroU32 = NonZeroU32::new(100).unwrap();

/// A move, the marks that it covers, and who goes first.
pub(super) struct WaveMove<'a> {
    pub(super) step: Move<'a>,
    pub(super) marks: Vec<Mark>,
    pub(super) priority: Priority,
}

/// The first moves of the plan for these marks, up to about `requests` requests.
pub(super) fn next_wave<'a>(
    marks: &'a [Mark],
    beliefs: &'a Beliefs,
    costs: PathCosts,
    requests: u32,
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
    let mut planned = 0;
    let plan = plan::plan(work);
    tracing::debug!(marks = by_target.len(), requests = plan.requests.total(), "planned");
    let in_its_turn = if plan.requests.total() <= u64::from(requests) { Priority::Small } else { Priority::Bulk };
    for step in plan.moves {
        if planned >= requests {
            break;
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

/// Memberships are shown only between records that are there, so records that nobody has seen yet are fetched first.
fn wanted<'a>(marks: &'a [Mark], beliefs: &Beliefs) -> Vec<&'a Mark> {
    let unseen = |mark: &&Mark| match &mark.target {
        MarkTarget::User(id) => !beliefs.users.contains_key(id),
        MarkTarget::Group(id) => !beliefs.groups.contains_key(id),
        _ => false,
    };
    let is_record = |mark: &&Mark| matches!(mark.target, MarkTarget::User(_) | MarkTarget::Group(_));
    let records_first = marks.iter().any(|mark| unseen(&mark));
    marks.iter().filter(|mark| !records_first || is_record(mark)).collect()
}

fn place<Id>(place: &ListPlace<Id>) -> Place<'_, Id> {
    match (NonZeroU32::new(place.rank), &place.previous) {
        (Some(rank), Some(cursor)) => Place::After { rank, cursor },
        _ => Place::First,
    }
}
