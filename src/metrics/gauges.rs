//! What is read anew at each scrape: the present state, most of it from the database.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::PREFIX;
use super::labels::{Check, DirectoryStatus, MarkKind};
use crate::clock::Timestamp;

/// The present state, as far as it could be read.
#[derive(Debug, Clone)]
pub struct Readings {
    /// The present instant, from which ages are counted.
    pub now: Timestamp,
    /// When the process started.
    pub started_at: Timestamp,
    /// Each check, and whether it holds.
    pub checks: Vec<(Check, bool)>,
    /// When an API request last succeeded; `None` if none has, or there is no key.
    pub api_last_success: Option<Timestamp>,
    /// What the database says; `None` if it cannot be read, and then those gauges are left out.
    pub stored: Option<StoredReadings>,
    /// The Events API poller; `None` if it does not run, or the database cannot be read.
    pub poller: Option<PollerReadings>,
}

/// What the database says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredReadings {
    /// Events that are not folded yet.
    pub pending: i64,
    /// When the oldest of them was received.
    pub oldest_pending: Option<Timestamp>,
    /// Events that could not be decoded or stored.
    pub dead: i64,
    /// For each kind of which there are marks: how many, and when the oldest was set.
    pub marks: Vec<(MarkKind, i64, Timestamp)>,
    /// How many directories stand where; what is left out is none.
    pub directories: Vec<(DirectoryStatus, i64)>,
    /// Followed directories whose last refresh failed.
    pub failing: i64,
    /// Followed directories whose removals the brake holds.
    pub braked: i64,
    /// Workers that say that they are alive; `None` on SQLite, where a lock on a file tells.
    pub workers: Option<i64>,
}

/// How far the Events API poller is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollerReadings {
    /// When the list was last read to its end; `None` if it never was.
    pub polled_at: Option<Timestamp>,
    /// `created_at` of the newest event that was read.
    pub newest_event_at: Option<Timestamp>,
    /// Whether the last request came to nothing.
    pub failing: bool,
}

type Seconds = Gauge<f64, AtomicU64>;

impl Readings {
    /// A registry that holds these values and no others.
    pub(super) fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix(PREFIX);
        let checks = by_label(&mut registry, "check", "Whether this holds: 1 or 0. All of them make the process ready");
        for (check, holds) in &self.checks {
            checks.get_or_create(check).set(i64::from(*holds));
        }
        if let Some(at) = self.api_last_success {
            seconds(
                &mut registry,
                "api_last_success_timestamp_seconds",
                "When a request to the API last succeeded, since 1970",
                since_1970(at),
            );
        }
        if let Some(stored) = &self.stored {
            self.register_inbox_and_marks(&mut registry, stored);
            register_directories(&mut registry, stored);
        }
        if let Some(poller) = &self.poller {
            register_poller(&mut registry, poller);
        }
        registry
    }

    /// The metric that Prometheus knows under this name of every process, without our prefix.
    pub(super) fn process_registry(&self) -> Registry {
        let mut registry = Registry::default();
        let started = since_1970(self.started_at);
        seconds(&mut registry, "process_start_time_seconds", "When the process started, since 1970", started);
        registry
    }

    fn register_inbox_and_marks(&self, registry: &mut Registry, stored: &StoredReadings) {
        number(registry, "inbox_pending_events", "Events that are not folded yet", stored.pending);
        let oldest = stored.oldest_pending.map_or(0.0, |at| self.age(at));
        seconds(
            registry,
            "inbox_oldest_pending_age_seconds",
            "How long ago the oldest event that is not folded was received",
            oldest,
        );
        number(registry, "inbox_dead_events", "Events that could not be decoded or stored", stored.dead);
        let marks = by_label::<MarkKind>(registry, "marks", "What has to be fetched");
        let ages = Family::<MarkKind, Seconds>::default();
        let help = "How long ago the oldest mark was set, since it was last clear";
        registry.register("mark_oldest_age_seconds", help, ages.clone());
        for kind in MarkKind::ALL {
            let found = stored.marks.iter().find(|(of, ..)| of == kind);
            marks.get_or_create(kind).set(found.map_or(0, |(_, count, _)| *count));
            ages.get_or_create(kind).set(found.map_or(0.0, |(.., oldest)| self.age(*oldest)));
        }
    }

    fn age(&self, at: Timestamp) -> f64 {
        // An instant ahead of our clock has no age.
        (self.now - at).to_std().unwrap_or_default().as_secs_f64()
    }
}

fn register_directories(registry: &mut Registry, stored: &StoredReadings) {
    let directories = by_label::<DirectoryStatus>(registry, "directories", "Directories, by where they stand");
    for status in DirectoryStatus::ALL {
        let found = stored.directories.iter().find(|(of, _)| of == status);
        directories.get_or_create(status).set(found.map_or(0, |(_, count)| *count));
    }
    number(registry, "directories_failing", "Followed directories whose last refresh failed", stored.failing);
    number(registry, "directories_braked", "Followed directories whose removals the brake holds", stored.braked);
    if let Some(workers) = stored.workers {
        number(registry, "workers", "Workers that say that they are alive", workers);
    }
}

fn register_poller(registry: &mut Registry, poller: &PollerReadings) {
    for (name, help, at) in [
        (
            "events_poller_last_poll_timestamp_seconds",
            "When the Events API was last read to its end, since 1970",
            poller.polled_at,
        ),
        (
            "events_poller_newest_event_timestamp_seconds",
            "When the newest event was created that was read, since 1970",
            poller.newest_event_at,
        ),
    ] {
        seconds(registry, name, help, at.map_or(0.0, since_1970));
    }
    let help = "Whether the last request of the poller failed: 1 or 0";
    number(registry, "events_poller_failing", help, i64::from(poller.failing));
}

fn by_label<L>(registry: &mut Registry, name: &str, help: &str) -> Family<L, Gauge>
where
    L: EncodeLabelSet + Clone + std::hash::Hash + Eq + std::fmt::Debug + Send + Sync + 'static,
{
    let family = Family::<L, Gauge>::default();
    registry.register(name, help, family.clone());
    family
}

fn number(registry: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn seconds(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Seconds::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn since_1970(at: Timestamp) -> f64 {
    (at - Timestamp::UNIX_EPOCH).to_std().unwrap_or_default().as_secs_f64()
}
