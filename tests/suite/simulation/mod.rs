//! Convergence by simulation: random histories of changes, webhooks, faults and crashes, played to the real engine on a
//! real database. A seed decides everything.
//!
//! `SIMULATION_HISTORIES` (on PostgreSQL `SIMULATION_HISTORIES_POSTGRESQL`) says how many, `SIMULATION_SEED` where to
//! begin, `SIMULATION_JOBS` how many at a time; with `SIMULATION_SHORTEN=0` a history that fails is not shortened.

mod campaign;
mod checks;
mod history;
mod network;
mod op;
mod regressions;
mod run;
mod stage;

use self::campaign::Campaign;
use self::history::Kind;
pub use self::history::Random;
use crate::outage::number;
use crate::support::Engine;

fn simulate(engine: Engine, kind: Kind, default: usize) {
    let variable = match engine {
        Engine::Sqlite => "SIMULATION_HISTORIES",
        Engine::Postgres => "SIMULATION_HISTORIES_POSTGRESQL",
    };
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let campaign = Campaign {
        engine,
        kind,
        first: number("SIMULATION_SEED", 1) as u64,
        count: number(variable, default) as u64,
        jobs: number("SIMULATION_JOBS", cores),
        shortens: number("SIMULATION_SHORTEN", 1) != 0,
    };
    if let Err(failures) = campaign.run() {
        panic!("{failures}");
    }
}

mod sqlite {
    use super::*;

    #[test]
    fn random_histories_converge() {
        simulate(Engine::Sqlite, Kind::Any, 2000);
    }

    #[test]
    fn the_poller_alone_heals_lost_webhooks() {
        simulate(Engine::Sqlite, Kind::PollerAlone, 500);
    }

    #[test]
    fn reconciles_alone_heal_lost_webhooks() {
        simulate(Engine::Sqlite, Kind::ReconcileAlone, 500);
    }

    #[test]
    fn histories_that_failed_once_converge() {
        regressions::play(Engine::Sqlite);
    }
}

mod postgres {
    use super::*;

    #[test]
    fn random_histories_converge() {
        simulate(Engine::Postgres, Kind::Any, 200);
    }

    #[test]
    fn the_poller_alone_heals_lost_webhooks() {
        simulate(Engine::Postgres, Kind::PollerAlone, 50);
    }

    #[test]
    fn reconciles_alone_heal_lost_webhooks() {
        simulate(Engine::Postgres, Kind::ReconcileAlone, 50);
    }

    #[test]
    fn histories_that_failed_once_converge() {
        regressions::play(Engine::Postgres);
    }
}
