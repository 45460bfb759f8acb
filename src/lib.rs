//! directory-mirror keeps a local database an exact mirror of every customer directory connected through WorkOS
//! Directory Sync.
//!
//! # The way an event goes
//! ```text
//! WorkOS ──POST──▶ webhook ──▶ inbox ──▶ fold ──▶ marks ──▶ refresh ──▶ mirror
//!                 verify      commit     local,     (per       fetch,      upserts
//!                 then 200    in groups  no network  directory) no open transaction
//! ```
//! - [`webhook`] verifies the signature over the raw body; a handler can hold only a verified event.
//! - [`inbox`] commits many events at once; only then is any of them answered with 200.
//! - [`sync`] folds events into provisional rows and marks, and fetches what is marked.
//! - [`mirror`] decides, without effects, what a hint or a truth does to a row.
//! - [`db`] is the only code that knows Diesel, [`workos`] the only code that speaks to the API.
//!
//! `docs/ARCHITECTURE.md` walks through an event, a first sync and a leaver.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod db;
pub mod http;
pub mod inbox;
pub mod metrics;
pub mod mirror;
pub mod model;
pub mod sync;
pub mod telemetry;
pub mod webhook;
pub mod workos;
