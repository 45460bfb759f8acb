//! The work in numbers: what the choice of lists is made on.

use super::pages::Track;
use super::work::{Entry, PathCosts, Urgency, Work};
use crate::model::{DirectoryGroupId, DirectoryUserId};

/// Weights compare by requests first: these bits hold the time.
const TIME_BITS: u32 = 40;
/// Longer lists than this (6.5 million records) weigh no more, so that no weight overflows.
const MAX_PAGES: u32 = 1 << 16;

/// A path of the API, with a limit of its own. Also the number of its [`Track`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    Users = 0,
    Groups = 1,
}

/// A dirty edge between two lists, either of which decides it; of an inactive user, only the user's own does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    /// The list of the user's groups.
    pub(super) user: u32,
    /// The list of the group's members.
    pub(super) group: u32,
    pub(super) urgency: Urgency,
}

impl Edge {
    /// The other of its lists.
    pub(super) fn opposite(&self, list: u32) -> u32 {
        if list == self.user { self.group } else { self.user }
    }
}

/// For each list some numbers, in one block.
#[derive(Debug)]
pub(super) struct Rows {
    starts: Vec<u32>,
    numbers: Vec<u32>,
}

impl Rows {
    /// Sorts pairs (list, number) by list; within a list they keep their order.
    pub(super) fn new(lists: usize, pairs: impl Iterator<Item = (u32, u32)> + Clone) -> Self {
        let mut starts = vec![0; lists + 1];
        pairs.clone().for_each(|(list, _)| starts[list as usize + 1] += 1);
        for list in 0..lists {
            starts[list + 1] += starts[list];
        }
        let mut free = starts.clone();
        let mut numbers = vec![0; starts[lists] as usize];
        for (list, number) in pairs {
            numbers[free[list as usize] as usize] = number;
            free[list as usize] += 1;
        }
        Self { starts, numbers }
    }

    /// The numbers of a list.
    pub(super) fn of(&self, list: u32) -> &[u32] {
        &self.numbers[self.starts[list as usize] as usize..self.starts[list as usize + 1] as usize]
    }
}

/// Every entity has one list, which may be read or not: lists `0..users.len()` are the groups of a user, those after
/// them the members of a group.
#[derive(Debug)]
pub(super) struct Problem<'a> {
    /// In the order of their ids, as the groups are, so that the order of the input does not matter.
    pub(super) users: Vec<Entry<'a, DirectoryUserId>>,
    pub(super) groups: Vec<Entry<'a, DirectoryGroupId>>,
    /// How many pages each list has.
    pub(super) pages: Vec<u32>,
    /// What reading each list weighs.
    pub(super) weights: Vec<u64>,
    /// Lists that nothing else can stand in for.
    pub(super) needed: Vec<bool>,
    /// Lists that are dirty as a whole, by revocations.
    pub(super) called_for: Vec<bool>,
    pub(super) edges: Vec<Edge>,
    /// The edges that each list decides.
    pub(super) decides: Rows,
    /// The dirty records that each list shows, of [`Problem::shown_track`].
    pub(super) shows: Rows,
    /// The dirty users and the dirty groups.
    pub(super) tracks: [Track; 2],
}

impl<'a> Problem<'a> {
    pub(super) fn new(work: Work<'a>) -> Self {
        let Work { page_size, costs, users, groups, dirty_edges, known_edges } = work;
        let (users, user_numbers) = sorted(users.entries);
        let (groups, group_numbers) = sorted(groups.entries);
        let first_group = users.len() as u32;
        let lists = users.len() + groups.len();
        let page_size = page_size.get();
        let number = |user: u32, group: u32| (user_numbers[user as usize], first_group + group_numbers[group as usize]);

        let edges = edges(dirty_edges.into_iter().map(|(user, group, urgency)| (number(user, group), urgency)));
        let active = |user: u32| users[user as usize].active;
        let by_user = (0u32..).zip(&edges).map(|(edge, ends)| (ends.user, edge));
        let by_group =
            (0u32..).zip(&edges).filter(|(_, ends)| active(ends.user)).map(|(edge, ends)| (ends.group, edge));
        let decides = Rows::new(lists, by_user.chain(by_group));

        let dirty: Vec<Option<Urgency>> =
            users.iter().map(|user| user.list).chain(groups.iter().map(|group| group.list)).collect();
        let called_for = dirty.iter().map(|urgency| *urgency == Some(Urgency::Revocation)).collect();
        let mut needed: Vec<bool> = dirty.iter().map(Option::is_some).collect();
        edges.iter().filter(|edge| !active(edge.user)).for_each(|edge| needed[edge.user as usize] = true);

        let tracks = [
            Track::new(&users, page_size, weight(1, Path::Users, costs)),
            Track::new(&groups, page_size, weight(1, Path::Groups, costs)),
        ];
        let mut known: Vec<_> = known_edges.into_iter().map(|(user, group)| number(user, group)).collect();
        known.sort_unstable();
        known.dedup();
        let shows = shows(&known, &users, &groups, &tracks);

        let pages: Vec<u32> = users.iter().map(|user| pages(user.listed, page_size)).collect();
        let pages = [pages, groups.iter().map(|group| self::pages(group.listed, page_size)).collect()].concat();
        let path = |list: usize| if list < users.len() { Path::Groups } else { Path::Users };
        let weights = pages.iter().enumerate().map(|(list, &pages)| weight(pages, path(list), costs)).collect();
        Self { users, groups, pages, weights, needed, called_for, edges, decides, shows, tracks }
    }

    /// How many lists there are.
    pub(super) fn lists(&self) -> u32 {
        self.pages.len() as u32
    }

    /// The group whose members a list holds; `None` for the groups of a user.
    pub(super) fn group_of(&self, list: u32) -> Option<usize> {
        (list as usize).checked_sub(self.users.len())
    }

    /// The list that decides an edge by the fewest requests.
    pub(super) fn soonest_list(&self, edge: &Edge) -> u32 {
        let only_by_user = !self.users[edge.user as usize].active;
        let user_is_lighter = self.weights[edge.user as usize] <= self.weights[edge.group as usize];
        if only_by_user || user_is_lighter { edge.user } else { edge.group }
    }

    /// The records that a list shows: a group's members are users, and a user's groups are groups.
    pub(super) fn shown_track(&self, list: u32) -> usize {
        (if self.group_of(list).is_some() { Path::Users } else { Path::Groups }) as usize
    }
}

fn weight(pages: u32, path: Path, costs: PathCosts) -> u64 {
    let time = match path {
        Path::Users => costs.users,
        Path::Groups => costs.groups,
    };
    u64::from(pages.min(MAX_PAGES)) * ((1 << TIME_BITS) + u64::from(time))
}

fn pages(records: u32, page_size: u32) -> u32 {
    records.div_ceil(page_size).max(1)
}

/// The entries by id, and for each former number the new one.
fn sorted<Id: Ord>(entries: Vec<Entry<'_, Id>>) -> (Vec<Entry<'_, Id>>, Vec<u32>) {
    let mut keyed: Vec<(u32, Entry<'_, Id>)> = (0..).zip(entries).collect();
    keyed.sort_unstable_by(|(_, one), (_, other)| one.id.cmp(other.id));
    let mut numbers = vec![0; keyed.len()];
    for (new, (old, _)) in (0..).zip(&keyed) {
        numbers[*old as usize] = new;
    }
    (keyed.into_iter().map(|(_, entry)| entry).collect(), numbers)
}

/// Each edge once, as a revocation if it was called one.
fn edges(given: impl Iterator<Item = ((u32, u32), Urgency)>) -> Vec<Edge> {
    let mut edges: Vec<Edge> = given.map(|((user, group), urgency)| Edge { user, group, urgency }).collect();
    edges.sort_unstable_by_key(|edge| (edge.user, edge.group, std::cmp::Reverse(edge.urgency)));
    edges.dedup_by_key(|edge| (edge.user, edge.group));
    edges
}

/// Which list shows which dirty record. A revoked record never waits for a list: it gets a request of its own.
fn shows(
    known: &[(u32, u32)],
    users: &[Entry<'_, DirectoryUserId>],
    groups: &[Entry<'_, DirectoryGroupId>],
    tracks: &[Track; 2],
) -> Rows {
    let mut record_of = vec![None; users.len() + groups.len()];
    for (track, first) in tracks.iter().zip([0, users.len()]) {
        for (record, entry) in (0u32..).zip(&track.entries) {
            record_of[first + *entry as usize] = Some(record);
        }
    }
    let may_wait = |urgency: Option<Urgency>| urgency == Some(Urgency::Ordinary);
    let is_shown = |user: u32| users[user as usize].active && may_wait(users[user as usize].record);
    let shown_users = known.iter().filter(|(user, _)| is_shown(*user));
    let shown_users = shown_users.filter_map(|&(user, group)| Some((group, record_of[user as usize]?)));
    let shown_groups = known.iter().filter(|(_, group)| may_wait(groups[*group as usize - users.len()].record));
    let shown_groups = shown_groups.filter_map(|&(user, group)| Some((user, record_of[group as usize]?)));
    let pairs: Vec<(u32, u32)> = shown_users.chain(shown_groups).collect();
    Rows::new(record_of.len(), pairs.iter().copied())
}
