//! Convergence by simulation: random histories of changes, webhooks, faults and crashes, played to the real engine on a
//! real database. A seed decides everything. `SIMULATION_HISTORIES` says how many, `SIMULATION_SEED` where to begin.

mod op;
mod run;

use std::path::Path;

use tempfile::TempDir;

pub use self::op::Random;
use self::op::{Op, history};
use self::run::Simulation;
use crate::outage::number;
use crate::support::{Engine, TestDatabase, run};

/// A database with all tables and nothing in it, to be copied for each history.
struct Template {
    folder: TempDir,
}

impl Template {
    async fn new() -> Self {
        // In memory where the system has such a folder: a history commits hundreds of times.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let config = directory_mirror::config::DatabaseConfig::Sqlite(folder.path().join("template.db"));
        drop(directory_mirror::db::Db::open(&config).await.unwrap());
        Self { folder }
    }

    fn copy(&self, name: &str) -> (TempDir, String) {
        let folder = tempfile::Builder::new().prefix(name).tempdir_in(self.folder.path()).unwrap();
        let path = folder.path().join("mirror.db");
        std::fs::copy(self.folder.path().join("template.db"), &path).unwrap();
        let url = format!("sqlite:{}", path.display());
        (folder, url)
    }
}

async fn on_sqlite(template: &Template, ops: &[Op]) -> Result<(), String> {
    let (_folder, url) = template.copy("history");
    Simulation::start(&url).await.run(ops).await
}

/// The shortest part of a failing history that still fails: parts are left out, large ones first.
async fn shrink(template: &Template, mut ops: Vec<Op>) -> Vec<Op> {
    let mut part = ops.len() / 2;
    while part > 0 {
        let mut start = 0;
        while start < ops.len() {
            let mut shorter = ops.clone();
            shorter.drain(start..(start + part).min(ops.len()));
            if on_sqlite(template, &shorter).await.is_err() {
                ops = shorter;
            } else {
                start += part;
            }
        }
        part /= 2;
    }
    ops
}

#[test]
fn random_histories_converge_on_sqlite() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    run(async {
        let template = Template::new().await;
        let (count, first) = (number("SIMULATION_HISTORIES", 100), number("SIMULATION_SEED", 1));
        for seed in first..first + count {
            let ops = history(seed as u64);
            if let Err(wrong) = on_sqlite(&template, &ops).await {
                let ops = shrink(&template, ops).await;
                let again = on_sqlite(&template, &ops).await;
                panic!("seed {seed}: {wrong}\nshortest: {again:?}\nlet ops = vec!{ops:?};");
            }
        }
    });
}

#[test]
fn random_histories_converge_on_postgresql() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    run(async {
        let (count, first) = (number("SIMULATION_HISTORIES_POSTGRESQL", 10), number("SIMULATION_SEED", 1));
        for seed in first..first + count {
            let database = TestDatabase::new(Engine::Postgres).await;
            let found = directory_mirror::config::read_database_config(&|name| {
                (name == "DATABASE_URL").then(|| database.url.clone())
            });
            drop(directory_mirror::db::Db::open(&found.unwrap()).await.unwrap());
            let result = Simulation::start(&database.url).await.run(&history(seed as u64)).await;
            assert_eq!(result, Ok(()), "seed {seed}: run SIMULATION_SEED={seed} on SQLite for the shortest history");
        }
    });
}
