//! The WorkOS API: the only code that speaks to it.

mod account;
mod client;
mod events;
mod gate;
mod limits;

pub use account::{Listing, Look};
pub use client::{ApiError, ApiHealth, Asked, Caller, ListFilter, Page, Reply, Transport, WorkosClient};
pub use events::{EventsFrom, EventsPage};
pub use limits::Priority;
