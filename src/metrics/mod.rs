//! Metrics for Prometheus: what is counted, and how it is written. docs/METRICS.md lists them all.
//!
//! Every label's values are an enum: no id, name or address becomes a label, and the number of series is fixed.

mod gauges;
mod labels;

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use gauges::{PollerReadings, Readings, StoredReadings};
pub use labels::{
    ApiPath, ApiStatus, Check, DirectoryStatus, DriftKind, EventEnd, MarkKind, PauseScope, RefreshStep, Refusal,
    ScanEnd, Source,
};
pub use prometheus_text::CONTENT_TYPE;

/// Every name begins with it.
const PREFIX: &str = "directory_mirror";
/// Upper bounds in seconds, for work of the process and its database.
const STEP_SECONDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Upper bounds in seconds, for requests.
const REQUEST_SECONDS: [f64; 10] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Upper bounds in seconds, for what waits for the API and its limits.
const VERIFIED_SECONDS: [f64; 13] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21600.0];
/// Upper bounds in seconds, for what becomes visible without the API.
const VISIBLE_SECONDS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];

type Counters<L> = Family<L, Counter>;
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Where everything is counted. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    acknowledged: Counter,
    refused: Counters<Refusal>,
    webhook_seconds: Histogram,
    stored: Counters<Source>,
    commit_seconds: Histogram,
    folded: Counters<EventEnd>,
    fold_seconds: Histogram,
    hint_visible: Histogram,
    revocation_visible: Histogram,
    refresh_seconds: Histograms<RefreshStep>,
    verified: Counters<MarkKind>,
    hint_verified: Histogram,
    requests: Counters<(ApiPath, ApiStatus)>,
    request_seconds: Histograms<ApiPath>,
    limit_wait_seconds: Histogram,
    pauses: Counters<PauseScope>,
    scans: Counters<ScanEnd>,
    drift: Counters<DriftKind>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self(Arc::new(Inner::new()))
    }
}

impl Inner {
    fn new() -> Self {
        let mut all = Registrar(Registry::with_prefix(PREFIX));
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        all.0.register("build", "The version that runs", version);
        Self {
            acknowledged: all.counter("webhooks_acknowledged", "Webhooks that were stored and answered with 200"),
            refused: all.counters("webhooks_refused", "Webhooks that were not accepted, by cause", Refusal::ALL),
            webhook_seconds: all.histogram("webhook_seconds", "From a webhook's head to its answer", STEP_SECONDS),
            stored: all.counters("inbox_stored_events", "Events that the inbox did not have", Source::ALL),
            commit_seconds: all.histogram("inbox_commit_seconds", "A commit of the inbox", STEP_SECONDS),
            folded: all.counters("folded_events", "Events that were folded, by their end", EventEnd::ALL),
            fold_seconds: all.histogram(
                "fold_seconds",
                "Folding events of one directory, or of several in one transaction",
                STEP_SECONDS,
            ),
            hint_visible: all.histogram(
                "hint_visible_seconds",
                "From an event's reception to the commit that shows it, of applied events",
                VISIBLE_SECONDS,
            ),
            revocation_visible: all.histogram(
                "revocation_visible_seconds",
                "The same, of events that take something away or make a user inactive",
                VISIBLE_SECONDS,
            ),
            refresh_seconds: all.histograms(
                "refresh_seconds",
                "A step of refresh, with its requests and the wait for their limits",
                RefreshStep::ALL,
                || Histogram::new(VERIFIED_SECONDS),
            ),
            verified: all.counters("verified_marks", "Marks that an answer of the API cleared", MarkKind::ALL),
            hint_verified: all.histogram(
                "hint_verified_seconds",
                "From the reception of the first event that set a mark to the answer that cleared it",
                VERIFIED_SECONDS,
            ),
            requests: all.api_requests(),
            request_seconds: all.histograms(
                "api_request_seconds",
                "A request to the API, without the wait for our own limits",
                ApiPath::ALL,
                || Histogram::new(REQUEST_SECONDS),
            ),
            limit_wait_seconds: all.histogram(
                "api_limit_wait_seconds",
                "How long a request waited for our own limits",
                REQUEST_SECONDS,
            ),
            pauses: all.counters("api_pauses", "Pauses that a 429 caused", PauseScope::ALL),
            scans: all.counters("scans", "Scans that ended, and pages of scans that failed", ScanEnd::ALL),
            drift: all.counters(
                "reconcile_drift",
                "What a reconcile found to differ though no mark stood for it",
                DriftKind::ALL,
            ),
            registry: all.0,
        }
    }
}

/// Makes metrics and registers them. Those with labels begin with all their series, so that a rate sees the first event.
struct Registrar(Registry);

impl Registrar {
    fn counter(&mut self, name: &str, help: &str) -> Counter {
        let counter = Counter::default();
        self.0.register(name, help, counter.clone());
        counter
    }

    fn counters<L>(&mut self, name: &str, help: &str, values: &[L]) -> Counters<L>
    where
        L: EncodeLabelSet + Clone + std::hash::Hash + Eq + std::fmt::Debug + Send + Sync + 'static,
    {
        let family = Counters::<L>::default();
        values.iter().for_each(|value| drop(family.get_or_create(value)));
        self.0.register(name, help, family.clone());
        family
    }

    fn histogram<const N: usize>(&mut self, name: &str, help: &str, bounds: [f64; N]) -> Histogram {
        let histogram = Histogram::new(bounds);
        self.0.register(name, help, histogram.clone());
        histogram
    }

    fn histograms<L>(&mut self, name: &str, help: &str, values: &[L], new: fn() -> Histogram) -> Histograms<L>
    where
        L: EncodeLabelSet + Clone + std::hash::Hash + Eq + std::fmt::Debug + Send + Sync + 'static,
    {
        let family = Histograms::<L>::new_with_constructor(new);
        values.iter().for_each(|value| drop(family.get_or_create(value)));
        self.0.register(name, help, family.clone());
        family
    }

    fn api_requests(&mut self) -> Counters<(ApiPath, ApiStatus)> {
        let pairs: Vec<_> =
            ApiPath::ALL.iter().flat_map(|path| ApiStatus::ALL.iter().map(|status| (*path, *status))).collect();
        self.counters("api_requests", "Requests to the API, by path and what came of them", &pairs)
    }
}

impl Metrics {
    /// A webhook was answered with 200.
    pub fn acknowledged(&self, took: Duration) {
        self.0.acknowledged.inc();
        self.0.webhook_seconds.observe(took.as_secs_f64());
    }

    /// A webhook was not accepted.
    pub fn refused(&self, cause: Refusal, took: Duration) {
        self.0.refused.get_or_create(&cause).inc();
        self.0.webhook_seconds.observe(took.as_secs_f64());
    }

    /// The inbox committed webhooks.
    pub fn inbox_committed(&self, took: Duration) {
        self.0.commit_seconds.observe(took.as_secs_f64());
    }

    /// The inbox took this many events that it did not have.
    pub fn stored(&self, source: Source, events: usize) {
        self.0.stored.get_or_create(&source).inc_by(count(events));
    }

    /// This many events ended so.
    pub fn folded(&self, end: EventEnd, events: usize) {
        self.0.folded.get_or_create(&end).inc_by(count(events));
    }

    /// Events of one directory, or of several in one transaction, were folded and committed.
    pub fn fold_took(&self, took: Duration) {
        self.0.fold_seconds.observe(took.as_secs_f64());
    }

    /// A hint became visible this long after its reception. `revokes`: it takes something away.
    pub fn hint_visible(&self, after: TimeDelta, revokes: bool) {
        self.0.hint_visible.observe(seconds(after));
        if revokes {
            self.0.revocation_visible.observe(seconds(after));
        }
    }

    /// A step of refresh ended, well or not.
    pub fn refresh_took(&self, step: RefreshStep, took: Duration) {
        self.0.refresh_seconds.get_or_create(&step).observe(took.as_secs_f64());
    }

    /// An answer cleared a mark; `after` is how long after the reception of the hint that set it, if one did.
    pub fn verified(&self, kind: MarkKind, after: Option<TimeDelta>) {
        self.0.verified.get_or_create(&kind).inc();
        if let Some(after) = after {
            self.0.hint_verified.observe(seconds(after));
        }
    }

    /// A request to the API ended; `waited` is how long it waited for our own limits before.
    pub fn api_request(&self, path: ApiPath, status: ApiStatus, waited: Duration, took: Duration) {
        self.0.requests.get_or_create(&(path, status)).inc();
        self.0.request_seconds.get_or_create(&path).observe(took.as_secs_f64());
        self.0.limit_wait_seconds.observe(waited.as_secs_f64());
    }

    /// A 429 paused requests.
    pub fn paused(&self, scope: PauseScope) {
        self.0.pauses.get_or_create(&scope).inc();
    }

    /// A scan ended, or failed at a page.
    pub fn scan(&self, end: ScanEnd) {
        self.0.scans.get_or_create(&end).inc();
    }

    /// A reconcile found so much to differ.
    pub fn drift(&self, kind: DriftKind, found: usize) {
        self.0.drift.get_or_create(&kind).inc_by(count(found));
    }

    /// Everything in Prometheus's text format, version 0.0.4: what was counted, and the present state.
    #[must_use]
    pub fn encode(&self, readings: &Readings) -> String {
        let mut text = String::new();
        for registry in [&self.0.registry, &readings.registry(), &readings.process_registry()] {
            prometheus_text::encode(&mut text, registry).expect("writing to a String cannot fail");
        }
        text
    }
}

fn count(number: usize) -> u64 {
    number.try_into().unwrap_or(u64::MAX)
}

/// Zero if a clock went back.
fn seconds(delta: TimeDelta) -> f64 {
    delta.to_std().unwrap_or_default().as_secs_f64()
}
