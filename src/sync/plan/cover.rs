//! The lightest set of lists that decides every edge: a minimum-weight vertex cover of a bipartite graph.
//!
//! Let water flow from a source through each user's list, along the edges, through each group's list into a sink; a
//! list lets through as much as it weighs, an edge any amount. No cover weighs less than the flow, since each unit of
//! it passes an edge, so one of that edge's lists is in the cover, and through a list passes no more than it weighs.
//! When no more can flow, those lists that hold it back form a cover of just that weight. So it is the lightest.
//!
//! The flow is found by Dinic's method: level the graph by a breadth-first search, send what the levels let through,
//! repeat. If the steps run out before that, the lists that are full are a cover: an edge between two that are not
//! would let more through. It weighs at most twice the flow, thus at most twice the lightest.

use super::problem::Rows;

const UNREACHED: u32 = u32::MAX;
const NO_EDGE: u32 = u32::MAX;

/// The lists of a lightest cover of `edges`, each from a user's list to a group's. Beyond about `steps` looks at an
/// edge it stops at a cover of at most twice that weight.
pub(super) fn lightest_cover(edges: &[(u32, u32)], weights: &[u64], steps: u64) -> Vec<u32> {
    let mut flow = Flow::new(edges, weights);
    while flow.level() {
        flow.send();
        if flow.steps > steps {
            let is_full = |list: &u32| flow.room[*list as usize] == 0 && !flow.edges_of.of(*list).is_empty();
            return (0..weights.len() as u32).filter(is_full).collect();
        }
    }
    // What the source still reaches is behind the lists that hold the flow back.
    let holds_back = |list: &u32| {
        let reached = flow.levels[*list as usize] != UNREACHED;
        !flow.edges_of.of(*list).is_empty() && reached == flow.is_group[*list as usize]
    };
    (0..weights.len() as u32).filter(holds_back).collect()
}

struct Flow<'e> {
    edges: &'e [(u32, u32)],
    edges_of: Rows,
    is_group: Vec<bool>,
    /// What can still pass each list: from the source into a user's, from a group's into the sink.
    room: Vec<u64>,
    /// What passes each edge.
    passes: Vec<u64>,
    /// Each list's distance from the source, by way of room.
    levels: Vec<u32>,
    /// For each list the first of its edges that may still lead on in this round.
    next: Vec<u32>,
    steps: u64,
}

impl<'e> Flow<'e> {
    fn new(edges: &'e [(u32, u32)], weights: &[u64]) -> Self {
        let by_user = (0u32..).zip(edges).map(|(edge, &(user, _))| (user, edge));
        let by_group = (0u32..).zip(edges).map(|(edge, &(_, group))| (group, edge));
        let mut is_group = vec![false; weights.len()];
        edges.iter().for_each(|&(_, group)| is_group[group as usize] = true);
        Self {
            edges,
            edges_of: Rows::new(weights.len(), by_user.chain(by_group)),
            is_group,
            room: weights.to_vec(),
            passes: vec![0; edges.len()],
            levels: Vec::new(),
            next: Vec::new(),
            steps: 0,
        }
    }

    /// Finds each list's distance from the source; `false` if the sink cannot be reached.
    fn level(&mut self) -> bool {
        self.levels = vec![UNREACHED; self.room.len()];
        self.next = vec![0; self.room.len()];
        let has_room = |list: &u32| {
            self.room[*list as usize] > 0 && !self.is_group[*list as usize] && !self.edges_of.of(*list).is_empty()
        };
        let mut queue: Vec<u32> = (0..self.room.len() as u32).filter(has_room).collect();
        queue.iter().for_each(|list| self.levels[*list as usize] = 0);
        let (mut at, mut sink) = (0, UNREACHED);
        while let Some(&list) = queue.get(at) {
            at += 1;
            let level = self.levels[list as usize];
            if level >= sink {
                break;
            }
            if self.is_group[list as usize] && self.room[list as usize] > 0 {
                sink = level;
                continue;
            }
            for &edge in self.edges_of.of(list) {
                self.steps += 1;
                let to = self.leads_to(list, edge);
                if let Some(to) = to.filter(|to| self.levels[*to as usize] == UNREACHED) {
                    self.levels[to as usize] = level + 1;
                    queue.push(to);
                }
            }
        }
        sink != UNREACHED
    }

    /// Where more can flow to from `list` along `edge`: on to a group, or back to a user where something passes.
    fn leads_to(&self, list: u32, edge: u32) -> Option<u32> {
        let (user, group) = self.edges[edge as usize];
        match list == user {
            true => Some(group),
            false => (self.passes[edge as usize] > 0).then_some(user),
        }
    }

    /// Sends along the levels until nothing more can flow there.
    fn send(&mut self) {
        let mut way = Vec::new();
        for source in 0..self.room.len() as u32 {
            while self.room[source as usize] > 0 && self.levels[source as usize] == 0 && self.find(source, &mut way) {
                self.push(source, &way);
            }
        }
    }

    /// Looks for a way to the sink along the levels, as its edges.
    fn find(&mut self, source: u32, way: &mut Vec<u32>) -> bool {
        way.clear();
        let mut lists = vec![source];
        while let Some(&list) = lists.last() {
            if self.is_group[list as usize] && self.room[list as usize] > 0 {
                return true;
            }
            let edge = self.next_edge(list);
            if edge == NO_EDGE {
                lists.pop();
                way.pop();
                if let Some(&before) = lists.last() {
                    self.next[before as usize] += 1;
                }
            } else {
                let (user, group) = self.edges[edge as usize];
                lists.push(if list == user { group } else { user });
                way.push(edge);
            }
        }
        false
    }

    /// The next edge that leads from `list` one level further.
    fn next_edge(&mut self, list: u32) -> u32 {
        while let Some(&edge) = self.edges_of.of(list).get(self.next[list as usize] as usize) {
            self.steps += 1;
            let further = self.levels[list as usize] + 1;
            if self.leads_to(list, edge).is_some_and(|to| self.levels[to as usize] == further) {
                return edge;
            }
            self.next[list as usize] += 1;
        }
        NO_EDGE
    }

    /// Sends along the way as much as its narrowest place lets through.
    fn push(&mut self, source: u32, way: &[u32]) {
        let sink = self.edges[*way.last().expect("a way has an edge") as usize].1;
        let back = way.iter().skip(1).step_by(2).map(|edge| self.passes[*edge as usize]);
        let amount = back.chain([self.room[source as usize], self.room[sink as usize]]).min().unwrap_or(0);
        for (step, edge) in way.iter().enumerate() {
            let passes = &mut self.passes[*edge as usize];
            *passes = if step % 2 == 0 { *passes + amount } else { *passes - amount };
        }
        self.room[source as usize] -= amount;
        self.room[sink as usize] -= amount;
    }
}
