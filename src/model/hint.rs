//! A hint: what an event says happened to one directory's records.

use super::{
    DirectoryGroupId, DirectoryId, DirectoryRecord, DirectoryUserId, EventId, GroupRecord, UserRecord, UserState,
};
use crate::clock::Timestamp;

/// How hints about one entity order among themselves: by when WorkOS says it happened, a removal after a change of the
/// same instant, and then by event id. The order is total, so the result does not depend on the order of folding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HintKey {
    /// The event's `created_at`, but no more than an hour later than when we received it.
    pub at: Timestamp,
    /// Whether the hint takes something away.
    pub removes: bool,
    /// The event that brought it.
    pub event_id: EventId,
}

/// One event, decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Hint {
    /// Its place among the hints about the same entity.
    pub key: HintKey,
    /// Whose records changed.
    pub directory_id: DirectoryId,
    /// What changed.
    pub change: Change,
}

/// What changed. A snapshot is absent in thin payloads, which name only ids; large ones are boxed.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// `dsync.activated`, or `dsync.deactivated` (in WorkOS's OpenAPI document only): the directory changed.
    DirectoryChanged(Option<Box<DirectoryRecord>>),
    /// `dsync.deleted`: the directory and everything in it is gone.
    DirectoryDeleted,
    /// `dsync.user.created`: its memberships are announced by events of their own.
    UserCreated(DirectoryUserId, Option<Box<UserRecord>>),
    /// `dsync.user.updated`.
    UserUpdated(DirectoryUserId, Option<Box<UserRecord>>),
    /// `dsync.user.deleted`.
    UserDeleted(DirectoryUserId),
    /// `dsync.group.created`.
    GroupCreated(DirectoryGroupId, Option<Box<GroupRecord>>),
    /// `dsync.group.updated`.
    GroupUpdated(DirectoryGroupId, Option<Box<GroupRecord>>),
    /// `dsync.group.deleted`: no `user_removed` events follow.
    GroupDeleted(DirectoryGroupId),
    /// `dsync.group.user_added`, with the snapshots it carries.
    MemberAdded {
        /// The group.
        group: DirectoryGroupId,
        /// The user.
        user: DirectoryUserId,
        /// The group as the event shows it.
        group_snapshot: Option<Box<GroupRecord>>,
        /// The user as the event shows it.
        user_snapshot: Option<Box<UserRecord>>,
    },
    /// `dsync.group.user_removed`.
    MemberRemoved {
        /// The group.
        group: DirectoryGroupId,
        /// The user.
        user: DirectoryUserId,
    },
    /// `dsync.token.created` and `.revoked`: recorded for audit, no effect on the mirror.
    Token,
}

impl Change {
    /// Whether the change takes something away; such changes are folded ahead of a backlog.
    #[must_use]
    pub fn removes(&self) -> bool {
        matches!(
            self,
            Self::DirectoryDeleted | Self::UserDeleted(_) | Self::GroupDeleted(_) | Self::MemberRemoved { .. }
        )
    }

    /// Whether somebody may lose access by the change: it takes something away, or says that a user is not active.
    #[must_use]
    pub fn revokes(&self) -> bool {
        let inactive = |record: &UserRecord| UserState::from_source(&record.state) == UserState::Inactive;
        match self {
            Self::UserUpdated(_, Some(record)) => inactive(record),
            _ => self.removes(),
        }
    }
}
