//! What a hint or a truth does to a row: pure decisions, by the engine's rules (docs/ARCHITECTURE.md).
//!
//! A [`WorkingSet`] holds the rows, memories and marks that a batch touches. Storage loads it under the directory's
//! lock and writes back what changed, so no decision here can race with another about the same directory.

mod brake;
mod fold;
#[cfg(test)]
mod tests;
mod truth;
mod working_set;

pub use brake::{Brake, HELD_FROM_MINUTES, HELD_MINUTES};
pub use fold::{FoldContext, Outcome, fold};
pub use truth::{
    Answer, TruthContext, Verdict, directory_truth, edge_truth, group_truth, user_truth, would_ask_again_for_gone,
};
pub use working_set::{Edge, EdgeKey, Entity, Touched, WorkingSet};
