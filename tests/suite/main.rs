//! The service as a whole, over HTTP, against the emulator: the same tests on SQLite and on a real PostgreSQL.

mod architecture;
mod crash;
mod deploy;
mod doctor;
mod fixtures;
mod fuzz;
mod mark_instants;
mod metrics;
mod operator;
mod outage;
mod poller;
mod process;
mod reconcile;
mod recover;
mod replay;
mod replicas;
mod retention;
mod schema;
mod simulation;
mod support;
mod sync;
mod visible;
mod webhook;
