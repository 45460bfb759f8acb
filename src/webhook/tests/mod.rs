//! Signature and envelope, by property.

mod envelope;
mod signature;
