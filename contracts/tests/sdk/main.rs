//! WorkOS's own Rust SDK, unmodified, against the emulator and the service's verifier.

mod errors;
mod events;
mod fixtures;
mod reads;
mod signatures;
mod support;
