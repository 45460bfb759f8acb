//! Lets what comes in a burst gather, so that an entity is fetched once and not after each of its events. Pure.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::DirectoryId;

/// How long fold rests before it looks for more, if it could take all there was: an event that comes alone is folded at
/// once, and those that come in its wake share their statements.
pub(super) const FOLD_REST: Duration = Duration::from_millis(20);
/// A burst is over when nothing has come for so long.
pub(super) const LULL: Duration = Duration::from_millis(100);
/// What comes after a pause of this length comes alone, and nothing waits for more.
const QUIET: Duration = Duration::from_millis(250);
/// A directory waits no longer than this for the end of a burst.
const LONGEST: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
struct Burst {
    /// Since when there has been something to wait for.
    since: Instant,
    last: Instant,
    /// What came first, after a time without events.
    alone: bool,
}

/// The directories whose events come in bursts.
#[derive(Debug, Default)]
pub(super) struct Gathering(Mutex<Bursts>);

#[derive(Debug, Default)]
struct Bursts {
    of: HashMap<DirectoryId, Burst>,
    /// Whether more events wait than fold takes at a time: then a pause between two of a directory says nothing.
    fold_is_behind: bool,
}

impl Gathering {
    /// Events of these directories were folded, and perhaps more wait.
    pub(super) fn folded(&self, directories: Vec<DirectoryId>, more_wait: bool, now: Instant) {
        let mut bursts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_behind = std::mem::replace(&mut bursts.fold_is_behind, more_wait);
        // While fold is behind, what it has not come to says nothing.
        let kept = if was_behind || more_wait { LONGEST } else { QUIET };
        bursts.of.retain(|_, burst| now.saturating_duration_since(burst.last) < kept);
        for directory in directories {
            let burst = Burst { since: now, last: now, alone: true };
            bursts
                .of
                .entry(directory)
                .and_modify(|burst| {
                    if std::mem::take(&mut burst.alone) {
                        burst.since = now;
                    }
                    burst.last = now;
                })
                .or_insert(burst);
        }
    }

    /// Fold found nothing, or cannot go on.
    pub(super) fn fold_rests(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fold_is_behind = false;
    }

    /// The directory has its turn: what comes from now on is waited for anew.
    pub(super) fn begins(&self, directory: &DirectoryId, now: Instant) {
        if let Some(burst) = self.0.lock().unwrap_or_else(PoisonError::into_inner).of.get_mut(directory) {
            burst.since = now;
        }
    }

    /// Whether the directory's marks are better left alone for a moment.
    pub(super) fn holds(&self, directory: &DirectoryId, now: Instant) -> bool {
        let bursts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bursts.of.get(directory).is_some_and(|burst| {
            !burst.alone
                && (bursts.fold_is_behind || now.saturating_duration_since(burst.last) < LULL)
                && now.saturating_duration_since(burst.since) < LONGEST
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_alone_is_never_held_and_a_burst_not_for_long() {
        let (gathering, start) = (Gathering::default(), Instant::now());
        let id = DirectoryId::from_stored("directory_1".to_owned());
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        gathering.folded(vec![id.clone()], false, start);
        assert!(!gathering.holds(&id, start));
        for at in (20..3000).step_by(20) {
            gathering.folded(vec![id.clone()], false, after(at));
            assert_eq!(gathering.holds(&id, after(at)), at < 2020, "{at}");
        }
        gathering.begins(&id, after(2980));
        assert!(gathering.holds(&id, after(2990)));
        assert!(!gathering.holds(&id, after(3090)), "nothing has come for a while");
        gathering.folded(vec![id.clone()], true, after(3090));
        assert!(gathering.holds(&id, after(4000)), "it may be among what waits");
        gathering.fold_rests();
        assert!(!gathering.holds(&id, after(4010)));
        gathering.folded(vec![id.clone()], false, after(8000));
        assert!(!gathering.holds(&id, after(8000)));
    }
}
