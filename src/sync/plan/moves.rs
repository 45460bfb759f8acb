//! From the chosen lists to moves in their order.

use std::cmp::Reverse;

use super::choice::Choice;
use super::problem::{Path, Problem};
use super::work::{Place, Target, Urgency};
use super::{Move, Plan, PlannedMove, Requests};

/// The targets by number: the edges, then the dirty users, the dirty groups, and the lists.
struct Numbers {
    records: [u32; 2],
    lists: u32,
    all: usize,
}

impl Numbers {
    fn new(problem: &Problem<'_>) -> Self {
        let users = problem.edges.len() as u32;
        let groups = users + problem.tracks[0].len() as u32;
        let lists = groups + problem.tracks[1].len() as u32;
        Self { records: [users, groups], lists, all: (lists + problem.lists()) as usize }
    }

    fn target<'a>(&self, problem: &Problem<'a>, number: u32) -> (Target<'a>, Urgency) {
        let user = |entry: u32| &problem.users[entry as usize];
        let group = |entry: u32| &problem.groups[entry as usize];
        let dirty = |urgency: Option<Urgency>| urgency.unwrap_or(Urgency::Ordinary);
        if let Some(list) = number.checked_sub(self.lists) {
            return match problem.group_of(list) {
                Some(entry) => (Target::GroupMembers(group(entry as u32).id), dirty(group(entry as u32).list)),
                None => (Target::UserGroups(user(list).id), dirty(user(list).list)),
            };
        }
        if let Some(record) = number.checked_sub(self.records[1]) {
            let entry = group(problem.tracks[1].entries[record as usize]);
            return (Target::Group(entry.id), dirty(entry.record));
        }
        if let Some(record) = number.checked_sub(self.records[0]) {
            let entry = user(problem.tracks[0].entries[record as usize]);
            return (Target::User(entry.id), dirty(entry.record));
        }
        let edge = &problem.edges[number as usize];
        let entry = problem.group_of(edge.group).expect("an edge leads to a group") as u32;
        (Target::Edge(group(entry).id, user(edge.user).id), edge.urgency)
    }
}

/// A move with the numbers of all targets that it is expected to cover.
struct Draft<'a> {
    step: Move<'a>,
    covers: Vec<u32>,
    /// How many of them are revocations that wait for it.
    revocations: u64,
}

impl<'a> Draft<'a> {
    /// Most for each request first. Of jobs one after the other, taking first what yields most in its time makes the
    /// mean wait shortest.
    fn rank(&self, yields: u64) -> (Reverse<u64>, Move<'a>) {
        (Reverse((yields << 20) / u64::from(self.step.requests())), self.step)
    }
}

/// The plan that reads these lists and fetches the records that they do not show by pages and single gets.
pub(super) fn plan<'a>(problem: &Problem<'a>, choice: &Choice) -> Plan<'a> {
    let numbers = Numbers::new(problem);
    let mut drafts = drafts(problem, &numbers, choice);
    let mut done = vec![false; numbers.all];
    let mut plan = Plan { moves: Vec::with_capacity(drafts.len()), requests: Requests::default() };
    let mut add = |draft: Draft<'a>, done: &mut Vec<bool>| {
        let first = draft.covers.into_iter().filter(|number| !std::mem::replace(&mut done[*number as usize], true));
        let covers: Vec<Target<'a>> = first.map(|number| numbers.target(problem, number).0).collect();
        if !covers.is_empty() {
            plan.requests.add(&draft.step);
            plan.moves.push(PlannedMove { step: draft.step, covers });
        }
    };
    drafts.sort_by_cached_key(|draft| draft.rank(draft.revocations));
    let mut others = Vec::new();
    for draft in drafts {
        let is_open = |number: &u32| !done[*number as usize] && is_revocation(problem, &numbers, *number);
        if draft.revocations > 0 && draft.covers.iter().any(is_open) {
            add(draft, &mut done);
        } else {
            others.push(draft);
        }
    }
    others.sort_by_cached_key(|draft| draft.rank(draft.covers.len() as u64));
    others.into_iter().for_each(|draft| add(draft, &mut done));
    plan
}

fn is_revocation(problem: &Problem<'_>, numbers: &Numbers, number: u32) -> bool {
    numbers.target(problem, number).1 == Urgency::Revocation
}

fn drafts<'a>(problem: &Problem<'a>, numbers: &Numbers, choice: &Choice) -> Vec<Draft<'a>> {
    let revocations =
        |covers: &[u32]| covers.iter().filter(|number| is_revocation(problem, numbers, **number)).count() as u64;
    let lists = (0..problem.lists()).filter(|list| choice.read[*list as usize]).map(|list| {
        let covers = list_covers(problem, numbers, list);
        let revocations = if choice.urgent[list as usize] { revocations(&covers) } else { 0 };
        Draft { step: list_move(problem, list), covers, revocations }
    });
    let records = [Path::Users, Path::Groups].into_iter().flat_map(|path| {
        let moves = record_moves(problem, numbers, &choice.read, path).into_iter();
        moves.map(|(step, covers)| Draft { step, revocations: revocations(&covers), covers })
    });
    lists.chain(records).collect()
}

fn list_move<'a>(problem: &Problem<'a>, list: u32) -> Move<'a> {
    let pages = problem.pages[list as usize];
    match problem.group_of(list) {
        Some(group) => Move::MembersOfGroup { group: problem.groups[group].id, pages },
        None => Move::GroupsOfUser { user: problem.users[list as usize].id, pages },
    }
}

fn list_covers(problem: &Problem<'_>, numbers: &Numbers, list: u32) -> Vec<u32> {
    let is_dirty = match problem.group_of(list) {
        Some(group) => problem.groups[group].list.is_some(),
        None => problem.users[list as usize].list.is_some(),
    };
    let first_record = numbers.records[problem.shown_track(list)];
    let records = problem.shows.of(list).iter().map(|record| first_record + record);
    let edges = problem.decides.of(list).iter().copied();
    edges.chain(records).chain(is_dirty.then_some(numbers.lists + list)).collect()
}

/// The requests for the records of a path that no list shows. A page also covers what it shows besides.
fn record_moves<'a>(problem: &Problem<'a>, numbers: &Numbers, read: &[bool], path: Path) -> Vec<(Move<'a>, Vec<u32>)> {
    let track = &problem.tracks[path as usize];
    let mut wanted = vec![true; track.len()];
    let shows_these = |list: &u32| read[*list as usize] && problem.shown_track(*list) == path as usize;
    for list in (0..problem.lists()).filter(shows_these) {
        problem.shows.of(list).iter().for_each(|record| wanted[*record as usize] = false);
    }
    let number = |record: usize| numbers.records[path as usize] + record as u32;
    let requests = track.requests(|record| wanted[record]).map(|page| {
        let entry = track.entries[page.start] as usize;
        let first = page.start;
        let page = (page.clone().filter(|record| wanted[*record]).count() > 1).then_some(page);
        let step = match path {
            Path::Users => {
                let user = &problem.users[entry];
                let after = user.place.as_ref().and_then(Place::cursor);
                if page.is_some() { Move::UserPage { after } } else { Move::GetUser(user.id) }
            }
            Path::Groups => {
                let group = &problem.groups[entry];
                let after = group.place.as_ref().and_then(Place::cursor);
                if page.is_some() { Move::GroupPage { after } } else { Move::GetGroup(group.id) }
            }
        };
        (step, page.map_or_else(|| vec![number(first)], |page| page.map(number).collect()))
    });
    requests.collect()
}
