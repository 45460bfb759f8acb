//! Loads the part of the mirror that a batch touches, and writes back what changed.

mod load;
mod save;

pub use load::{announced_edges, load, load_only_directory, load_together};
pub use save::{save, save_together};

/// How many ids go into one `IN (…)`.
const IDS_PER_QUERY: usize = 1000;
