//! What a directory's last waves met. Forgotten with the process, which costs a few requests and no truth.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::TimeDelta;

use crate::model::{DirectoryId, Mark, MarkTarget};

/// A mark whose request failed is tried again after so long, and after 4, 8 … seconds while other requests succeed.
const FIRST_WAIT_SECONDS: i64 = 2;
const LONGEST_WAIT_SECONDS: i64 = 60;
/// More than this is not remembered.
const MOST_TARGETS: usize = 100_000;

/// Marks whose requests had no answer, and marks that a page or a list was asked for and did not show.
#[derive(Debug, Default)]
pub(super) struct Lately(Mutex<BTreeMap<DirectoryId, Targets>>);

#[derive(Debug, Default)]
struct Targets {
    /// How often in a row there was no answer: an outage counts against no mark, so the marks themselves do not say.
    unanswered: BTreeMap<MarkTarget, u32>,
    not_shown: BTreeSet<MarkTarget>,
}

impl Lately {
    /// There was no answer for these marks. Answers for how long each is put off: longer each time only if `others` had
    /// an answer, since an outage is not theirs.
    pub(super) fn had_no_answer(
        &self,
        directory: &DirectoryId,
        marks: Vec<Mark>,
        others: bool,
    ) -> Vec<(Mark, TimeDelta)> {
        if !others {
            return marks.into_iter().map(|mark| (mark, TimeDelta::seconds(FIRST_WAIT_SECONDS))).collect();
        }
        let mut all = self.lock();
        let targets = all.entry(directory.clone()).or_default();
        if targets.unanswered.len() >= MOST_TARGETS {
            targets.unanswered.clear();
        }
        let wait = |mark: Mark| {
            let times = targets.unanswered.entry(mark.target.clone()).or_default();
            *times = (*times + 1).min(6);
            let seconds = (1_i64 << *times).min(LONGEST_WAIT_SECONDS);
            (mark, TimeDelta::seconds(seconds))
        };
        marks.into_iter().map(wait).collect()
    }

    /// There was an answer for these marks, whatever it said.
    pub(super) fn had_an_answer(&self, directory: &DirectoryId, marks: &[Mark]) {
        let mut all = self.lock();
        let Some(targets) = all.get_mut(directory) else { return };
        for mark in marks {
            targets.unanswered.remove(&mark.target);
            targets.not_shown.remove(&mark.target);
        }
        if targets.unanswered.is_empty() && targets.not_shown.is_empty() {
            all.remove(directory);
        }
    }

    /// A page or a list that was asked for these marks did not show them.
    pub(super) fn did_not_show(&self, directory: &DirectoryId, marks: &[Mark]) {
        let mut all = self.lock();
        let targets = all.entry(directory.clone()).or_default();
        if targets.not_shown.len() >= MOST_TARGETS {
            targets.not_shown.clear();
        }
        targets.not_shown.extend(marks.iter().map(|mark| mark.target.clone()));
    }

    /// Which of these marks are to be asked for by themselves, until they had an answer.
    pub(super) fn not_shown(&self, directory: &DirectoryId, marks: &[Mark]) -> Vec<MarkTarget> {
        let all = self.lock();
        let Some(targets) = all.get(directory) else { return Vec::new() };
        marks.iter().filter(|mark| targets.not_shown.contains(&mark.target)).map(|mark| mark.target.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DirectoryId, Targets>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
