//! How far a reconcile has come: a line that changes on a terminal, lines otherwise.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::db::{Scan, ScanPhase};
use crate::model::DirectoryId;

const BETWEEN_LINES: Duration = Duration::from_secs(5);

pub(super) struct Progress {
    directory: DirectoryId,
    bar: Option<ProgressBar>,
    told_at: Instant,
}

impl Progress {
    pub(super) fn new(directory: &DirectoryId) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { directory: directory.clone(), bar, told_at: Instant::now() }
    }

    /// Tells where the scan is.
    pub(super) fn show(&mut self, scan: Option<&Scan>) {
        let Some(scan) = scan else { return };
        let what = match (scan.phase, &scan.group) {
            (ScanPhase::Users, _) => "users".to_owned(),
            (ScanPhase::Groups, _) => "groups".to_owned(),
            (ScanPhase::Members, None) => "members".to_owned(),
            (ScanPhase::Members, Some(group)) => format!("members of {group}"),
        };
        let line = format!("{}: {what}, page {}", self.directory, scan.paging.pages() + 1);
        match &self.bar {
            Some(bar) => bar.set_message(line),
            None if self.told_at.elapsed() >= BETWEEN_LINES => {
                self.told_at = Instant::now();
                eprintln!("{line}");
            }
            None => {}
        }
    }

    /// Tells what stands in the way.
    pub(super) fn note(&self, text: &str) {
        let line = format!("{}: {text}", self.directory);
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
