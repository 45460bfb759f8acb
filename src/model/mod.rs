//! Plain types that every other module may use: ids, states, records, hints and marks.

mod attributes;
mod hint;
mod ids;
mod json;
mod mark;
mod paging;
mod record;
mod rows;
mod state;

pub use attributes::{Attributes, TooDeep};
pub use hint::{Change, Hint, HintKey};
pub use ids::{DirectoryGroupId, DirectoryId, DirectoryUserId, EventId, IdError, MAX_ID_BYTES};
pub use json::read_json;
pub use mark::{Mark, MarkKind, MarkTarget};
pub use paging::{MOST_PAGES, Paging};
pub use record::{DirectoryRecord, GroupRecord, RecordError, UserRecord, parse_timestamp, without_nul};
pub use rows::{DirectoryRow, EdgeMemory, GroupRow, Memory, Stamp, UserRow};
pub use state::{EventStatus, Provenance, SyncStatus, UserState, directory_state};
