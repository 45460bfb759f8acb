//! Who plans requests and applies their answers. Nearly all of the CPU that the API costs goes there.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time;

/// After this long a turn is not waited for any more: whoever has it waits for something itself, such as a directory that is
/// locked.
const PATIENCE: Duration = Duration::from_secs(1);

/// Directories plan and apply one after the other. One at a time carries twice what WorkOS's limit lets through; all that a
/// burst made due at once would keep every core busy, and a webhook's commit waiting. Nobody has a turn while the API is
/// waited for.
#[derive(Debug)]
pub(super) struct Processing {
    turns: Semaphore,
    patience: Duration,
}

impl Default for Processing {
    fn default() -> Self {
        Self { turns: Semaphore::new(1), patience: PATIENCE }
    }
}

impl Processing {
    /// Waits for a turn, which ends with what is given back. Revocations wait for nobody.
    pub(super) async fn turn(&self, revokes: bool) -> Option<SemaphorePermit<'_>> {
        // Without a turn the work is as right, and only less polite.
        if revokes { None } else { time::timeout(self.patience, self.turns.acquire()).await.ok()?.ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turn_that_does_not_end_holds_nobody_up_for_ever_and_revocations_never() {
        let processing = Processing { patience: Duration::from_secs(3600), ..Processing::default() };
        let held = processing.turn(false).await;
        assert!(held.is_some());
        assert!(processing.turn(true).await.is_none());
        let processing = Processing { patience: Duration::ZERO, ..Processing::default() };
        let held = processing.turn(false).await;
        assert!(processing.turn(false).await.is_none());
        drop(held);
        assert!(processing.turn(false).await.is_some());
    }
}
