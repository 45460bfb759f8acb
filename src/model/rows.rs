//! Rows of the mirror and what the engine remembers about them, without any trace of storage.

use chrono::TimeDelta;
use uuid::Uuid;

use super::{DirectoryRecord, EventId, GroupRecord, HintKey, SyncStatus, UserRecord, UserState};
use crate::clock::Timestamp;

/// How long the API's replicas, and the clocks on both sides, may lag behind an event.
const LAG_SECONDS: i64 = 60;

/// A row of `directories`.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectoryRow {
    /// What WorkOS says, or little more than the id while only events were seen.
    pub record: DirectoryRecord,
    /// Whether the mirror follows it.
    pub enabled: bool,
    /// How far its scan has come.
    pub sync_status: SyncStatus,
    /// When its last event was received.
    pub last_event_at: Option<Timestamp>,
    /// When every page of it was last read.
    pub last_synced_at: Option<Timestamp>,
    /// When we learned that it is gone.
    pub deleted_at: Option<Timestamp>,
    /// When the row was made.
    pub created_at: Timestamp,
}

impl DirectoryRow {
    /// Whether it is to be kept up to date: neither disabled here nor deleted.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.enabled && self.deleted_at.is_none()
    }
}

/// A row of `users` that the directory gave.
#[derive(Debug, Clone, PartialEq)]
pub struct UserRow {
    /// Our own id, a UUID v7; it stays with the WorkOS id for ever.
    pub id: Uuid,
    /// What WorkOS says.
    pub record: UserRecord,
    /// Whether the person may be let in.
    pub state: UserState,
    /// When the API last confirmed the row; `None` while it shows a snapshot.
    pub verified_at: Option<Timestamp>,
    /// When the user became inactive.
    pub deactivated_at: Option<Timestamp>,
    /// When the API confirmed that the user is gone.
    pub deleted_at: Option<Timestamp>,
    /// `directory_sync` where the directory took the user away.
    pub deletion_reason: Option<String>,
    /// When the row was made.
    pub created_at: Timestamp,
}

/// A row of `groups` that the directory gave.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupRow {
    /// Our own id, a UUID v7; it stays with the WorkOS id for ever.
    pub id: Uuid,
    /// What WorkOS says.
    pub record: GroupRecord,
    /// When the API last confirmed the row; `None` while it shows a snapshot.
    pub verified_at: Option<Timestamp>,
    /// When we learned that the group is gone.
    pub deleted_at: Option<Timestamp>,
    /// When the row was made.
    pub created_at: Timestamp,
}

/// The stamp of the content that a row shows: the record's own `updated_at`, then the event that brought it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// The record's `updated_at`.
    pub updated_at: Timestamp,
    /// The hint that carried it; `None` for an answer of the API, which any hint of the same stamp follows.
    pub event_id: Option<EventId>,
}

/// What is remembered about a user, group or directory, whether or not a row exists.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Memory {
    /// The newest hint that was folded.
    pub hint: Option<HintKey>,
    /// The content that the row shows.
    pub snapshot: Option<Stamp>,
    /// The request number of the last truth; 0 = none yet.
    pub truth_number: i64,
    /// When that truth was asked for.
    pub truth_at: Option<Timestamp>,
}

/// What is remembered about a membership, present or absent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EdgeMemory {
    /// Whether the mirror shows it.
    pub present: bool,
    /// The newest hint that was folded.
    pub hint: Option<HintKey>,
    /// The request number of the last truth; 0 = none yet.
    pub truth_number: i64,
    /// When that truth was asked for.
    pub truth_at: Option<Timestamp>,
}

impl Memory {
    /// Whether `at` lies before the last truth was asked for: then truth has seen it.
    #[must_use]
    pub fn truth_is_newer_than(&self, at: Timestamp) -> bool {
        self.truth_at.is_some_and(|truth_at| at < truth_at)
    }

    /// The newest hint, if no truth was asked for since.
    #[must_use]
    pub fn open_hint(&self) -> Option<&HintKey> {
        self.hint.as_ref().filter(|hint| !self.truth_is_newer_than(hint.at))
    }

    /// The newest hint, if the last truth was asked for so soon after it that a replica may not have known it.
    #[must_use]
    pub fn recent_hint(&self) -> Option<&HintKey> {
        recent(self.hint.as_ref(), self.truth_at)
    }
}

impl EdgeMemory {
    /// Whether it is absent only since nobody but the newest hint spoke of it.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        !self.present && self.truth_number == 0 && self.hint.as_ref().is_some_and(|hint| !hint.removes)
    }

    /// As [`Memory::recent_hint`].
    #[must_use]
    pub fn recent_hint(&self) -> Option<&HintKey> {
        recent(self.hint.as_ref(), self.truth_at)
    }
}

fn recent(hint: Option<&HintKey>, truth_at: Option<Timestamp>) -> Option<&HintKey> {
    hint.filter(|hint| truth_at.is_none_or(|truth_at| truth_at < hint.at + TimeDelta::seconds(LAG_SECONDS)))
}
