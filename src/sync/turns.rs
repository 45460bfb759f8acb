//! Whose turn it is: which of the directories that have something due are worked on at the same time. Pure.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::db::Due;
use crate::model::DirectoryId;

/// Directories that are worked on at the same time. Most of that time they wait for the API.
const AT_ONCE: usize = 48;
/// How many more may be, if they have revocations to verify: these never wait for others' scans.
const MORE_FOR_REVOCATIONS: usize = 16;
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// Waits that double after each failure.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(FIRST_BACKOFF)
    }

    pub(super) fn next(&mut self, longest: Duration) -> Duration {
        let wait = self.0.min(longest);
        self.0 = (self.0 * 2).min(LONGEST_BACKOFF);
        wait
    }

    pub(super) fn reset(&mut self) {
        self.0 = FIRST_BACKOFF;
    }
}

/// A directory whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) directory: DirectoryId,
    /// Whether its last turn failed.
    pub(super) failed_before: bool,
}

/// Who is worked on, who has to wait after a failure, and whose last turn was when.
#[derive(Debug, Default)]
pub(super) struct Turns {
    running: HashMap<DirectoryId, Due>,
    failing: HashMap<DirectoryId, (Backoff, Instant)>,
    last_turns: HashMap<DirectoryId, u64>,
    turns: u64,
}

impl Turns {
    /// Chooses among the directories that have something due: revocations first, then whoever has waited for more turns.
    /// They count as running until [`Turns::ended`].
    /// Who `gathers` has to wait, and keeps its place.
    pub(super) fn choose(
        &mut self,
        mut due: Vec<(DirectoryId, Due)>,
        gathers: impl Fn(&DirectoryId, Due) -> bool,
        now: Instant,
    ) -> Vec<Turn> {
        let have_something: HashSet<&DirectoryId> = due.iter().map(|(directory, _)| directory).collect();
        self.last_turns.retain(|directory, _| have_something.contains(directory));
        let last = |directory: &DirectoryId| self.last_turns.get(directory).copied().unwrap_or_default();
        due.sort_by_key(|(directory, due)| (*due, last(directory)));
        let mut chosen = Vec::new();
        for (directory, due) in due {
            let waits = gathers(&directory, due) || self.failing.get(&directory).is_some_and(|(_, until)| *until > now);
            let room = if due == Due::Revocations { AT_ONCE + MORE_FOR_REVOCATIONS } else { AT_ONCE };
            if waits || self.running.len() >= room || self.running.contains_key(&directory) {
                continue;
            }
            self.turns += 1;
            self.last_turns.insert(directory.clone(), self.turns);
            self.running.insert(directory.clone(), due);
            chosen.push(Turn { failed_before: self.failing.contains_key(&directory), directory });
        }
        chosen
    }

    /// Takes note of how a turn ended; after a failure the directory waits, at most `longest`.
    pub(super) fn ended(&mut self, directory: DirectoryId, failed: bool, longest: Duration, now: Instant) {
        self.running.remove(&directory);
        if failed {
            let (backoff, until) = self.failing.entry(directory).or_insert((Backoff::new(), now));
            *until = now + backoff.next(longest);
        } else {
            self.failing.remove(&directory);
        }
    }

    /// Nobody is worked on any more.
    pub(super) fn all_ended(&mut self) {
        self.running.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> DirectoryId {
        DirectoryId::from_stored(format!("directory_{number:03}"))
    }

    fn names(turns: &[Turn]) -> Vec<&DirectoryId> {
        turns.iter().map(|turn| &turn.directory).collect()
    }

    #[test]
    fn a_leaver_never_waits_for_scans() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        let scans: Vec<_> = (0..500).map(|number| (id(number), Due::Scan)).collect();
        assert_eq!(turns.choose(scans.clone(), |_, _| false, now).len(), AT_ONCE);
        let mut due = scans;
        due[499].1 = Due::Revocations;
        assert_eq!(names(&turns.choose(due, |_, _| false, now)), [&id(499)]);
    }

    #[test]
    fn directories_take_turns() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        let due: Vec<_> = (0..100).map(|number| (id(number), Due::Scan)).collect();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..3 {
            let chosen = turns.choose(due.clone(), |_, _| false, now);
            for turn in chosen {
                seen.insert(turn.directory.clone());
                turns.ended(turn.directory, false, LONGEST_BACKOFF, now);
            }
        }
        assert_eq!(seen.len(), 100);
    }

    #[test]
    fn who_failed_waits_longer_each_time() {
        let (mut turns, mut now) = (Turns::default(), Instant::now());
        for wait in [250, 500, 1000] {
            assert_eq!(turns.choose(vec![(id(1), Due::Marks)], |_, _| false, now).len(), 1);
            turns.ended(id(1), true, Duration::from_secs(5), now);
            assert_eq!(turns.choose(vec![(id(1), Due::Marks)], |_, _| false, now), []);
            now += Duration::from_millis(wait);
        }
        assert!(turns.choose(vec![(id(1), Due::Marks)], |_, _| false, now)[0].failed_before);
    }
}
