//! Many histories, some at a time; one that fails is shortened and printed as a test.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::history::{Kind, history};
use super::op::{NEWEST, Op};
use super::run::Simulation;
use super::stage::Stage;
use crate::support::Engine;

/// After so many failures no further history is begun.
const FAILURES: usize = 3;

pub struct Campaign {
    pub engine: Engine,
    pub kind: Kind,
    pub first: u64,
    pub count: u64,
    pub jobs: usize,
    /// Whether a failing history is shortened; if not, the first failure ends all.
    pub shortens: bool,
}

impl Campaign {
    /// Runs all histories; the error says which failed, and how to see it again.
    pub fn run(&self) -> Result<(), String> {
        let began = Instant::now();
        let next = AtomicU64::new(self.first);
        let failures = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                // A stack of its own size: debug builds of nested steps need it.
                let job = std::thread::Builder::new().stack_size(16 << 20);
                job.spawn_scoped(scope, || {
                    on_stage(self.engine, async |stage| self.job(stage, &next, &failures).await);
                })
                .unwrap();
            }
        });
        let failures = failures.into_inner().unwrap();
        let played = next.into_inner().min(self.first + self.count) - self.first;
        println!("{played} histories of {:?} on {:?} in {:.1?}", self.kind, self.engine, began.elapsed());
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n\n")) }
    }

    async fn job(&self, stage: &Stage, next: &AtomicU64, failures: &Mutex<Vec<String>>) {
        let enough = if self.shortens { FAILURES } else { 1 };
        while failures.lock().unwrap().len() < enough {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.first + self.count {
                return;
            }
            let ops = history(self.kind, seed);
            if let Err(wrong) = play(stage, &ops).await {
                let kind = self.kind;
                if !self.shortens {
                    failures.lock().unwrap().push(format!("seed {seed} of {kind:?}: {wrong}"));
                    continue;
                }
                println!("seed {seed} of {kind:?} fails: {wrong}");
                let shortest = shrink(stage, ops, &wrong).await;
                let again = play(stage, &shortest).await.err();
                let again = again.unwrap_or_else(|| "this time nothing was wrong".to_owned());
                failures.lock().unwrap().push(format!(
                    "seed {seed} of {kind:?}: {wrong}\nIts shortest form, for tests/suite/simulation/regressions.rs: \
                     {again}\n(\"seed {seed}\", {}),",
                    as_code(&shortest)
                ));
            }
        }
    }
}

/// Runs `play` on a thread of its own with a database of its own.
pub fn on_stage(engine: Engine, play: impl AsyncFnOnce(&Stage)) {
    let mut runtime = match engine {
        // One thread, so that nothing depends on chance.
        Engine::Sqlite => tokio::runtime::Builder::new_current_thread(),
        // Migrations on PostgreSQL block, which that runtime refuses.
        Engine::Postgres => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let stage = Stage::set(engine).await;
        play(&stage).await;
    });
}

/// Plays one history from an empty database.
pub async fn play(stage: &Stage, ops: &[Op]) -> Result<(), String> {
    Simulation::start(stage).await.run(ops).await
}

/// What is wrong, whoever it is about.
fn kind_of(wrong: &str) -> String {
    let demand = wrong.strip_prefix("after op ").and_then(|rest| rest.split_once(": ")).map_or(wrong, |(_, rest)| rest);
    let demand = demand.trim_start_matches("while it settled: ");
    let first = demand.split(';').next().unwrap_or(demand);
    first.split_whitespace().filter(|word| !word.contains(|sign: char| sign.is_ascii_digit())).collect()
}

async fn fails_likewise(stage: &Stage, ops: &[Op], wrong: &str) -> bool {
    play(stage, ops).await.is_err_and(|other| kind_of(&other) == kind_of(wrong))
}

/// The shortest part of a failing history that still fails in the same way: parts are left out, large ones first, and at
/// last ops within ops.
async fn shrink(stage: &Stage, mut ops: Vec<Op>, wrong: &str) -> Vec<Op> {
    let mut part = ops.len() / 2;
    while part > 0 {
        let (mut start, before) = (0, ops.len());
        while start < ops.len() {
            let mut shorter = ops.clone();
            shorter.drain(start..(start + part).min(ops.len()));
            if fails_likewise(stage, &shorter, wrong).await {
                ops = shorter;
            } else {
                start += part;
            }
        }
        // What was needed may be so no longer once something later has gone.
        part = if part == 1 && ops.len() < before { 1 } else { part / 2 };
    }
    let mut place = 0;
    while place < ops.len() {
        match simpler(&ops, place) {
            Some(simpler) if fails_likewise(stage, &simpler, wrong).await => ops = simpler,
            _ => place += 1,
        }
        for inner in 0..inner_count(&ops, place) {
            let Some(shorter) = without_inner(&ops, place, inner) else { break };
            if fails_likewise(stage, &shorter, wrong).await {
                ops = shorter;
                break;
            }
        }
    }
    ops
}

/// The history as a line of Rust.
fn as_code(ops: &[Op]) -> String {
    let code =
        format!("{ops:?}").replace('[', "vec![").replace("Crash(", "Crash(Doing::").replace("Api(", "Api(Fault::");
    code.replace(&NEWEST.to_string(), "usize::MAX")
}

/// The history with a simpler op at this place.
fn simpler(ops: &[Op], place: usize) -> Option<Vec<Op>> {
    let simpler = match &ops[place] {
        Op::RefreshWhile(directory, _, meanwhile) if meanwhile.is_empty() => Op::Refresh(*directory),
        Op::CreateUsers(directory, count) if *count > 1 => Op::CreateUsers(*directory, count - 1),
        Op::Vanish(directory, count) if *count > 1 => Op::Vanish(*directory, count - 1),
        _ => return None,
    };
    let mut ops = ops.to_vec();
    ops[place] = simpler;
    Some(ops)
}

fn inner_count(ops: &[Op], place: usize) -> usize {
    match ops.get(place) {
        Some(Op::RefreshWhile(_, _, meanwhile)) => meanwhile.len(),
        _ => 0,
    }
}

fn without_inner(ops: &[Op], place: usize, inner: usize) -> Option<Vec<Op>> {
    let mut ops = ops.to_vec();
    let Op::RefreshWhile(_, _, meanwhile) = &mut ops[place] else { return None };
    meanwhile.remove(inner);
    Some(ops)
}
