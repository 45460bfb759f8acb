//! The WorkOS API: the only code that speaks to it.

mod client;
mod limits;

pub use client::{ApiError, ApiHealth, ListFilter, Page, WorkosClient};
