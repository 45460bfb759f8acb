//! What is measured, and how it is shown.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::load::Outcome;
use crate::system::System;

/// Everything that is measured of a system, in the order of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Figure {
    Acknowledged,
    ClosedMedian,
    ClosedP99,
    RateMedian,
    RateP99,
    Cpu,
    RateCpu,
    PostgresCpu,
    TotalCpu,
    FirstSync,
    FirstSyncCpu,
    FirstSyncRequests,
    Drained,
    IdleMemory,
    LoadedMemory,
    Start,
    Statements,
    Commits,
    Syncs,
    Requests,
    EmulatorCpu,
    GeneratorCpu,
    EventSize,
}

/// What is to be reached: against the better handler of the same run, or on its own.
enum Goal {
    TimesPeer(f64),
    ShareOfPeer(f64),
    AtMost(f64),
}

impl Figure {
    const ALL: [Self; 23] = [
        Self::Acknowledged,
        Self::ClosedMedian,
        Self::ClosedP99,
        Self::RateMedian,
        Self::RateP99,
        Self::Cpu,
        Self::RateCpu,
        Self::PostgresCpu,
        Self::TotalCpu,
        Self::FirstSync,
        Self::FirstSyncCpu,
        Self::FirstSyncRequests,
        Self::Drained,
        Self::IdleMemory,
        Self::LoadedMemory,
        Self::Start,
        Self::Statements,
        Self::Commits,
        Self::Syncs,
        Self::Requests,
        Self::EmulatorCpu,
        Self::GeneratorCpu,
        Self::EventSize,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged events/s, 64 connections, closed loop",
            Self::ClosedMedian => "median acknowledgement, closed loop, ms",
            Self::ClosedP99 => "p99 acknowledgement, closed loop, ms",
            Self::RateMedian => "median acknowledgement at the fixed rate, ms",
            Self::RateP99 => "p99 acknowledgement at the fixed rate, ms",
            Self::Cpu => "CPU per event until drained, ms",
            Self::RateCpu => "CPU per event at the fixed rate, ms",
            Self::PostgresCpu => "PostgreSQL's CPU per event, closed loop, ms",
            Self::TotalCpu => "CPU per event with PostgreSQL's, closed loop, ms",
            Self::FirstSync => "first sync, 10,000 users and 100 groups, s",
            Self::FirstSyncCpu => "its CPU, s",
            Self::FirstSyncRequests => "its API requests",
            Self::Drained => "events/s from the first request until drained",
            Self::IdleMemory => "idle RSS, MiB",
            Self::LoadedMemory => "highest RSS under load, MiB",
            Self::Start => "start to first 200, ms",
            Self::Statements => "SQL statements per event",
            Self::Commits => "transactions per event",
            Self::Syncs => "WAL syncs per event",
            Self::Requests => "API requests per event",
            Self::EmulatorCpu => "emulator's CPU per event, ms",
            Self::GeneratorCpu => "load generator's CPU per event, ms",
            Self::EventSize => "mean size of an event, bytes",
        }
    }

    fn more_is_better(self) -> bool {
        matches!(self, Self::Acknowledged | Self::Drained)
    }

    fn goal(self) -> Option<Goal> {
        Some(match self {
            Self::Acknowledged | Self::Drained => Goal::TimesPeer(20.0),
            Self::ClosedP99 | Self::RateP99 | Self::FirstSync => Goal::ShareOfPeer(10.0),
            Self::Cpu => Goal::ShareOfPeer(15.0),
            Self::IdleMemory => Goal::AtMost(15.0),
            Self::LoadedMemory => Goal::AtMost(50.0),
            Self::Start => Goal::AtMost(60.0),
            _ => return None,
        })
    }
}

/// One system's figures of one round.
#[derive(Default)]
pub struct Figures(BTreeMap<Figure, f64>);

impl Figures {
    /// Notes a figure.
    pub fn set(&mut self, figure: Figure, value: f64) {
        self.0.insert(figure, value);
    }

    /// Notes a percentile in milliseconds.
    pub fn set_latency(&mut self, figure: Figure, outcome: &Outcome, percentile: f64) {
        self.set(figure, outcome.latencies.value_at_percentile(percentile) as f64 / 1e3);
    }

    /// All of them in one line.
    pub fn line(&self) -> String {
        self.0.iter().map(|(figure, value)| format!("{figure:?} {}", show(*value))).collect::<Vec<_>>().join(", ")
    }
}

/// The lowest, the middle and the highest of the rounds.
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { low, median, high })
    }

    fn show(&self) -> String {
        if self.low == self.high {
            return show(self.median);
        }
        format!("{} ({}–{})", show(self.median), show(self.low), show(self.high))
    }
}

/// The table: medians of the rounds, lowest and highest in brackets, and how ours compares.
pub fn table(results: &BTreeMap<System, Vec<Figures>>, pgbench: &[f64]) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    if let Some(spread) = Spread::of(pgbench.to_vec()) {
        let _ = writeln!(text, "`pgbench`, 64 clients, one row of 1 KB a transaction: {} a second\n", spread.show());
    }
    let names: Vec<&str> = results.keys().map(|system| system.name()).collect();
    let _ = writeln!(text, "| figure | {} | against the better handler | goal |", names.join(" | "));
    let _ = writeln!(text, "|{}", " --- |".repeat(names.len() + 3));
    for figure in Figure::ALL {
        let spreads: BTreeMap<System, Spread> = results
            .iter()
            .filter_map(|(system, rounds)| {
                let values = rounds.iter().filter_map(|round| round.0.get(&figure).copied()).collect();
                Some((*system, Spread::of(values)?))
            })
            .collect();
        if spreads.is_empty() {
            continue;
        }
        let cells: Vec<String> =
            results.keys().map(|system| spreads.get(system).map_or("–".to_owned(), Spread::show)).collect();
        let (compared, goal) = compare(figure, &spreads);
        let _ = writeln!(text, "| {} | {} | {compared} | {goal} |", figure.name(), cells.join(" | "));
    }
    text
}

/// Ours against the better of the peers, and what was to be reached.
fn compare(figure: Figure, spreads: &BTreeMap<System, Spread>) -> (String, String) {
    let medians = |mirror: bool| {
        spreads.iter().filter(move |(system, _)| system.is_mirror() == mirror).map(|(_, spread)| spread.median)
    };
    let ours = spreads.get(&System::Mirror).map(|spread| spread.median);
    let peer = if figure.more_is_better() { medians(false).reduce(f64::max) } else { medians(false).reduce(f64::min) };
    let ratio = ours.zip(peer).filter(|(ours, peer)| *ours > 0.0 && *peer > 0.0);
    let advantage = ratio.map(|(ours, peer)| if figure.more_is_better() { ours / peer } else { peer / ours });
    let goal = figure.goal();
    let compared = match advantage {
        None => "–".to_owned(),
        Some(times) if figure.more_is_better() => format!("{} times", show(times)),
        Some(times) if times >= 1.0 => format!("1 / {}", show(times)),
        Some(times) => format!("{} times as much", show(1.0 / times)),
    };
    let (wanted, reached) = match goal {
        None => return (compared, String::new()),
        Some(Goal::TimesPeer(times)) => (format!("{times} times"), advantage.map(|advantage| advantage >= times)),
        Some(Goal::ShareOfPeer(times)) => (format!("1 / {times}"), advantage.map(|advantage| advantage >= times)),
        Some(Goal::AtMost(most)) => (format!("{most}"), ours.map(|ours| ours <= most)),
    };
    let verdict = match reached {
        Some(true) => ": reached",
        Some(false) => ": not reached",
        None => "",
    };
    (compared, format!("{wanted}{verdict}"))
}

/// Three digits that count.
fn show(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
