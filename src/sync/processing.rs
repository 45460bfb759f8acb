//! How many directories' answers are planned and applied at the same time.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Turns at what costs a core: planning requests, and applying their answers. Nobody has one while the API is waited for. Half
/// of the cores stay free of it, or else what waits for a webhook's commit would queue behind bursts.
#[derive(Debug)]
pub struct Processing(Semaphore);

impl Default for Processing {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::at_once((cores / 2).max(1))
    }
}

impl Processing {
    /// So many directories at once, whatever the machine.
    #[must_use]
    pub fn at_once(directories: usize) -> Self {
        Self(Semaphore::new(directories))
    }

    /// Waits for a turn, which ends with the permit.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed; without a turn the work would still be right, only less polite.
        self.0.acquire().await.ok()
    }
}
