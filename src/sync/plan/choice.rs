//! Which lists to read.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::cover::lightest_cover;
use super::problem::{Edge, Problem};
use super::work::Urgency;

/// Up to so many lists, pairs of changes are tried.
const PAIRS: usize = 64;

/// How much work a plan may take, in looks at an edge or record: some tenths of a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// For each lightest cover.
    pub(super) cover: u64,
    /// For each improvement.
    pub(super) improve: u64,
}

impl Effort {
    pub(super) const USUAL: Self = Self { cover: 20_000_000, improve: 20_000_000 };
}

/// A choice of lists, each by its number.
pub(super) struct Choice {
    /// Those to read.
    pub(super) read: Vec<bool>,
    /// Those of them that revocations wait for.
    pub(super) urgent: Vec<bool>,
}

/// Chooses the lists to read.
pub(super) fn choose(problem: &Problem<'_>, effort: Effort) -> Choice {
    let naive = soonest_lists(problem, &problem.needed, |_| true);
    let urgent = urgent_lists(problem, effort);
    let chosen = best(problem, both(&problem.needed, &urgent), &naive, effort);
    if chosen.cost <= Selection::new(problem, problem.needed.clone(), &naive).cost {
        return Choice { read: chosen.read, urgent };
    }
    // Rare: the revocations' own best lists stand in the way of the others'. Their naive ones cannot.
    let urgent = soonest_lists(problem, &problem.called_for, is_revocation);
    Choice { read: best(problem, both(&problem.needed, &urgent), &naive, effort).read, urgent }
}

/// The lists for the revocations, as if nothing else were dirty; only that a list which is needed anyway and answers
/// soonest for one of them needs no other.
fn urgent_lists(problem: &Problem<'_>, effort: Effort) -> Vec<bool> {
    let waits = |edge: &&Edge| is_revocation(edge) && problem.needed[problem.soonest_list(edge) as usize];
    let mut urgent = problem.called_for.clone();
    problem.edges.iter().filter(waits).for_each(|edge| urgent[problem.soonest_list(edge) as usize] = true);
    let concerns = |edge: &Edge| is_revocation(edge) && !problem.needed[problem.soonest_list(edge) as usize];
    for list in lightest(problem, &urgent, &problem.weights, effort, concerns) {
        urgent[list as usize] = true;
    }
    urgent
}

fn is_revocation(edge: &Edge) -> bool {
    edge.urgency == Urgency::Revocation
}

fn both(one: &[bool], other: &[bool]) -> Vec<bool> {
    one.iter().zip(other).map(|(one, other)| *one || *other).collect()
}

/// The best choice found that reads at least `base`.
fn best<'p>(problem: &'p Problem<'_>, base: Vec<bool>, naive: &[bool], effort: Effort) -> Selection<'p> {
    let only = |read: &[u32]| {
        let mut lists = base.clone();
        read.iter().for_each(|list| lists[*list as usize] = true);
        Selection::new(problem, base.clone(), &lists)
    };
    let plain = lightest(problem, &base, &problem.weights, effort, |_| true);
    let credited = lightest(problem, &base, &credited_weights(&only(&[])), effort, |_| true);
    let naive: Vec<u32> = (0..problem.lists()).filter(|list| naive[*list as usize]).collect();
    let mut candidates = vec![only(&plain)];
    if credited != plain {
        candidates.push(only(&credited));
    }
    let naive = only(&naive);
    if candidates.iter().all(|candidate| naive.cost < candidate.cost) {
        candidates.push(naive);
    }
    candidates.iter_mut().for_each(|candidate| candidate.improve(effort.improve));
    candidates.into_iter().min_by_key(|candidate| candidate.cost).expect("there is at least one")
}

/// `base`, and of each edge that `concerns` us the list that decides it soonest.
fn soonest_lists(problem: &Problem<'_>, base: &[bool], concerns: impl Fn(&Edge) -> bool) -> Vec<bool> {
    let mut read = base.to_vec();
    for edge in problem.edges.iter().filter(|edge| concerns(edge)) {
        read[problem.soonest_list(edge) as usize] = true;
    }
    read
}

/// The edges that are not decided by the lists in `read`. (That of an inactive user always is: its list is needed.)
fn open_edges<'p>(problem: &'p Problem<'_>, read: &[bool]) -> impl Iterator<Item = &'p Edge> {
    problem.edges.iter().filter(move |edge| !read[edge.user as usize] && !read[edge.group as usize])
}

fn lightest(
    problem: &Problem<'_>,
    base: &[bool],
    weights: &[u64],
    effort: Effort,
    concerns: impl Fn(&Edge) -> bool,
) -> Vec<u32> {
    let open = open_edges(problem, base).filter(|edge| concerns(edge));
    let open: Vec<(u32, u32)> = open.map(|edge| (edge.user, edge.group)).collect();
    if open.is_empty() { Vec::new() } else { lightest_cover(&open, weights, effort.cover) }
}

/// The lists' weights, less what the records are worth that they show. A record is worth its share of its request.
fn credited_weights(selection: &Selection<'_>) -> Vec<u64> {
    let problem = selection.problem;
    let worth = [0, 1].map(|path: usize| {
        let track = &problem.tracks[path];
        let mut worth = vec![0; track.len()];
        for page in track.requests(|record| selection.shown[path][record] == 0) {
            let wanted: Vec<usize> = page.filter(|record| selection.shown[path][*record] == 0).collect();
            wanted.iter().for_each(|record| worth[*record] = track.weight / wanted.len() as u64);
        }
        worth
    });
    let credit = |list: u32| {
        let worth = &worth[problem.shown_track(list)];
        problem.shows.of(list).iter().map(|record| worth[*record as usize]).sum::<u64>()
    };
    (0..problem.lists()).map(|list| problem.weights[list as usize].saturating_sub(credit(list))).collect()
}

/// How to go back to the choice before a change.
struct Undo {
    /// Lists that were read or no longer read.
    changed: Vec<u32>,
    cost: u128,
    requests: [u64; 2],
}

/// A choice of lists that decides every edge, and what it weighs with the requests for the records they do not show.
struct Selection<'p> {
    problem: &'p Problem<'p>,
    /// These stay chosen.
    fixed: Vec<bool>,
    read: Vec<bool>,
    /// For each path's records, by how many of the chosen lists they are shown.
    shown: [Vec<u32>; 2],
    /// For each path, how many records are shown by a list.
    covered: [u64; 2],
    /// For each path, the requests for its other records.
    requests: [u64; 2],
    cost: u128,
    steps: u64,
}

impl<'p> Selection<'p> {
    fn new(problem: &'p Problem<'_>, fixed: Vec<bool>, read: &[bool]) -> Self {
        let shown = [0, 1].map(|path: usize| vec![0; problem.tracks[path].len()]);
        let nothing = vec![false; read.len()];
        let mut selection =
            Self { problem, fixed, read: nothing, shown, covered: [0; 2], requests: [0; 2], cost: 0, steps: 0 };
        for list in (0..problem.lists()).filter(|list| read[*list as usize]) {
            selection.toggle(list);
        }
        selection.recount(0);
        selection.recount(1);
        selection
    }

    /// Reads a list, or no longer; says whether other records are now left to be fetched. They are not yet counted.
    fn toggle(&mut self, list: u32) -> bool {
        let path = self.problem.shown_track(list);
        let records = self.problem.shows.of(list);
        let read = !self.read[list as usize];
        self.read[list as usize] = read;
        self.steps += 1 + records.len() as u64;
        let weight = u128::from(self.problem.weights[list as usize]);
        self.cost = if read { self.cost + weight } else { self.cost - weight };
        let covered = self.covered[path];
        for record in records {
            let shown = &mut self.shown[path][*record as usize];
            if read {
                self.covered[path] += u64::from(*shown == 0);
                *shown += 1;
            } else {
                *shown -= 1;
                self.covered[path] -= u64::from(*shown == 0);
            }
        }
        covered != self.covered[path]
    }

    /// Counts the requests for the records of a path that no list shows.
    fn recount(&mut self, path: usize) {
        let track = &self.problem.tracks[path];
        let before = self.requests[path];
        self.requests[path] = track.requests(|record| self.shown[path][record] == 0).count() as u64;
        self.steps += 1 + 8 * self.requests[path] + self.covered[path];
        self.cost += u128::from(self.requests[path]) * u128::from(track.weight);
        self.cost -= u128::from(before) * u128::from(track.weight);
    }

    /// Changes lists for as long as that saves something and steps are left.
    fn improve(&mut self, steps: u64) {
        let (problem, end) = (self.problem, self.steps.saturating_add(steps));
        let movable = |list: &u32| !(problem.decides.of(*list).is_empty() && problem.shows.of(*list).is_empty());
        let movable: Vec<u32> =
            (0..problem.lists()).filter(movable).filter(|list| !self.fixed[*list as usize]).collect();
        while self.change_singly(&movable, end) || (movable.len() <= PAIRS && self.change_a_pair(&movable, end)) {}
    }

    /// Changes one list after the other, always the one that saves most; says whether any did.
    fn change_singly(&mut self, movable: &[u32], end: u64) -> bool {
        let before = self.cost;
        let mut gains = BinaryHeap::new();
        for &list in movable {
            if self.steps < end {
                gains.extend(self.gain(list).map(|gain| (gain, Reverse(list))));
            }
        }
        while let Some((_, Reverse(list))) = gains.pop() {
            // What was changed since may have made it less.
            let Some(gain) = self.gain(list) else { continue };
            if gains.peek().is_some_and(|(next, _)| gain < *next) {
                gains.push((gain, Reverse(list)));
            } else {
                self.change(list);
            }
        }
        self.cost < before
    }

    /// Looks for two lists that save something if both are changed, though neither does alone.
    fn change_a_pair(&mut self, movable: &[u32], end: u64) -> bool {
        let before = self.cost;
        for &list in movable {
            let undo = self.change(list);
            for &other in movable {
                if self.steps < end {
                    let undo = self.change(other);
                    if self.cost < before {
                        return true;
                    }
                    self.undo(undo);
                }
            }
            self.undo(undo);
        }
        false
    }

    /// What would be saved by changing a list and whatever then has to follow.
    fn gain(&mut self, list: u32) -> Option<u128> {
        let before = self.cost;
        let undo = self.change(list);
        let gain = before.checked_sub(self.cost).filter(|gain| *gain > 0);
        self.undo(undo);
        gain
    }

    fn undo(&mut self, undo: Undo) {
        for list in undo.changed {
            self.toggle(list);
        }
        (self.cost, self.requests) = (undo.cost, undo.requests);
    }

    /// Changes a list. If it is no longer read, those are that decide its edges; then what has become needless is not.
    fn change(&mut self, list: u32) -> Undo {
        let problem = self.problem;
        let opposites = |list: u32| {
            let edges = problem.decides.of(list).iter();
            edges.map(move |edge| problem.edges[*edge as usize].opposite(list))
        };
        let mut undo = Undo { changed: vec![list], cost: self.cost, requests: self.requests };
        let mut recount = [false; 2];
        recount[problem.shown_track(list)] |= self.toggle(list);
        if !self.read[list as usize] {
            undo.changed.extend(opposites(list).filter(|other| !self.read[*other as usize]));
            for other in &undo.changed[1..] {
                recount[problem.shown_track(*other)] |= self.toggle(*other);
            }
        }
        (0..2).filter(|path| recount[*path]).for_each(|path| self.recount(path));
        let added = if self.read[list as usize] { 0..1 } else { 1..undo.changed.len() };
        for added in added {
            opposites(undo.changed[added]).for_each(|other| self.drop_if_needless(other, list, &mut undo.changed));
        }
        undo
    }

    /// Reads a list no longer if its edges are decided without it and its records cost less to fetch.
    fn drop_if_needless(&mut self, list: u32, except: u32, changed: &mut Vec<u32>) {
        let problem = self.problem;
        if list == except || !self.read[list as usize] || self.fixed[list as usize] {
            return;
        }
        let edges = problem.decides.of(list);
        self.steps += edges.len() as u64;
        if !edges.iter().all(|edge| self.read[problem.edges[*edge as usize].opposite(list) as usize]) {
            return;
        }
        let (cost, requests) = (self.cost, self.requests);
        if self.toggle(list) {
            self.recount(problem.shown_track(list));
        }
        if self.cost < cost {
            changed.push(list);
        } else {
            self.toggle(list);
            (self.cost, self.requests) = (cost, requests);
        }
    }
}
