//! An emulator of WorkOS Directory Sync: the API, and the signed webhooks that tell of every change.
//!
//! An [`Emulator`] holds directories, users, groups and memberships. A change made through it is at once what the API
//! answers, and is announced to the registered endpoints with the events that production would send, at least once and in
//! no promised order. It keeps account of what it answered, sent and was told, so that a test can compare a consumer's
//! copy with [`Emulator::truth`]. Faults, latency and rate limits stand in for the bad days.
//!
//! It shares no code with any consumer: what is signed and answered here is written from WorkOS's documents alone.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use workos_emulator::{Emulator, NewDirectory, NewUser, Options};
//!
//! let emulator = Emulator::start(Options::default()).await?;
//! emulator.register_endpoint("http://127.0.0.1:8080/webhooks/workos", "secret");
//! let acme = emulator.create_directory(NewDirectory::named("Acme"));
//! emulator.create_user(&acme, NewUser::named("Ada", "Lovelace", "acme.example"))?;
//! # Ok(())
//! # }
//! ```
//!
//! For simulations there is a [`World`]: the same environment without sockets, threads or a clock. Time is set, requests
//! are answered, events are taken; a seed decides every id, so that each run repeats. Answers can lag behind the changes.
//!
//! ```
//! use std::time::Duration;
//!
//! use chrono::{DateTime, TimeDelta};
//! use workos_emulator::{ApiRequest, NewDirectory, NewUser, Options, World};
//!
//! let mut world = World::new(&Options { seed: 7, ..Options::default() });
//! world.keep_history(Duration::from_secs(10));
//! world.set_now(DateTime::from_timestamp(1_800_000_000, 0).expect("a time"));
//! let acme = world.create_directory(NewDirectory::named("Acme"));
//!
//! world.set_now(world.now() + TimeDelta::seconds(2));
//! let ada = world.create_user(&acme, NewUser::named("Ada", "Lovelace", "acme.example"))?;
//! let events: Vec<String> = world.take_events().into_iter().map(|event| event.event).collect();
//! assert_eq!(events, ["dsync.activated", "dsync.user.created"]);
//!
//! let request = ApiRequest::get(&format!("/directory_users/{ada}"), "sk_test_emulator");
//! assert_eq!(world.answer(&request).status, 200);
//! // As it was a second ago, when nobody knew of Ada.
//! assert_eq!(world.answer_from(&request, TimeDelta::seconds(1)).status, 404);
//! # Ok::<(), workos_emulator::WorldError>(())
//! ```

#![warn(missing_docs)]

mod answers;
mod api;
mod api_chaos;
mod api_error;
mod bulk;
mod changes;
mod chaos;
mod control;
mod control_chaos;
mod control_world;
mod delivery;
mod directory_changes;
mod emulator;
mod emulator_chaos;
mod endpoints;
mod entries;
mod event_log;
mod events;
mod events_api;
mod history;
mod ids;
mod inputs;
mod limits;
mod options;
mod paging;
mod people;
mod portal;
mod random;
mod reached;
mod records;
mod request;
mod routes;
mod seed;
mod sending;
mod shared;
mod signature;
mod span;
mod user_changes;
mod webhook_chaos;
mod webhook_planner;
mod world;

pub use api_chaos::{ApiChaos, ApiPlan};
pub use bulk::{Amount, BulkAction, BulkChange, BulkResult, BulkSpec, Edge};
pub use chaos::ChaosError;
pub use delivery::{DeliveryFilter, DeliveryOutcome, DeliveryRecord, EndpointId};
pub use emulator::{Emulator, StartError};
pub use endpoints::{DSYNC_EVENTS, EndpointChange, EndpointStatus, WebhookEndpoint, is_http_url};
pub use events::EmittedEvent;
pub use inputs::{Deactivation, NewDirectory, NewUser, UserChange, WorldError};
pub use options::{DeliveryOptions, Options, UnknownCursor};
pub use records::{CustomAttributes, Directory, DirectoryMetadata, Email, Group, Role, Truth, User, UserCounts};
pub use request::{ApiRequest, ApiResponse};
pub use seed::{SeedError, SeedFile};
pub use shared::ApiFault;
pub use signature::sign;
pub use span::{DurationRange, DurationRangeError};
pub use webhook_chaos::{DeliveryKind, PlannedDelivery, SignaturePlan, WebhookChaos};
pub use world::World;
