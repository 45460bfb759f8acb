//! Marks: what has to be fetched.

use std::fmt;

use super::{DirectoryGroupId, DirectoryUserId};
use crate::clock::Timestamp;

/// What is dirty within a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MarkTarget {
    /// The directory's own record.
    Directory,
    /// A user's record.
    User(DirectoryUserId),
    /// A group's record.
    Group(DirectoryGroupId),
    /// Whether this user is in this group.
    Edge(DirectoryGroupId, DirectoryUserId),
    /// All groups of a user: set when a user comes back to life.
    UserGroups(DirectoryUserId),
    /// All members of a group: set when a group comes back to life.
    GroupMembers(DirectoryGroupId),
}

/// The kinds of [`MarkTarget`], by the words that stand in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkKind {
    /// [`MarkTarget::Directory`].
    Directory,
    /// [`MarkTarget::User`].
    User,
    /// [`MarkTarget::Group`].
    Group,
    /// [`MarkTarget::Edge`].
    Edge,
    /// [`MarkTarget::UserGroups`].
    UserGroups,
    /// [`MarkTarget::GroupMembers`].
    GroupMembers,
}

impl MarkKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Directory, Self::User, Self::Group, Self::Edge, Self::UserGroups, Self::GroupMembers];

    /// The word that stands in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::User => "user",
            Self::Group => "group",
            Self::Edge => "edge",
            Self::UserGroups => "user_groups",
            Self::GroupMembers => "group_members",
        }
    }
}

impl MarkTarget {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> MarkKind {
        match self {
            Self::Directory => MarkKind::Directory,
            Self::User(_) => MarkKind::User,
            Self::Group(_) => MarkKind::Group,
            Self::Edge(..) => MarkKind::Edge,
            Self::UserGroups(_) => MarkKind::UserGroups,
            Self::GroupMembers(_) => MarkKind::GroupMembers,
        }
    }
}

impl fmt::Display for MarkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory => f.write_str("the directory's record"),
            Self::User(user) => write!(f, "user {user}"),
            Self::Group(group) => write!(f, "group {group}"),
            Self::Edge(group, user) => write!(f, "the membership of {user} in {group}"),
            Self::UserGroups(user) => write!(f, "all groups of {user}"),
            Self::GroupMembers(group) => write!(f, "all members of {group}"),
        }
    }
}

/// A dirty target and how far its verification has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// What is dirty.
    pub target: MarkTarget,
    /// The number, from the directory's sequence, at which it was set. A truth asked for earlier cannot clear it.
    pub version: i64,
    /// Not to be worked on before this instant.
    pub due_at: Timestamp,
    /// How often in a row the API contradicted the newest hint; [`Mark::SECOND_LOOK`] once that was accepted.
    pub contradictions: i32,
    /// How often the answer could not be decoded.
    pub failures: i32,
    /// Whether it verifies that something was taken away; decided when it is stored.
    pub urgent: bool,
    /// When it was first set since it was last clear.
    pub set_at: Timestamp,
    /// When the first hint was received that set it since then; `None` if only a scan or an answer did.
    pub hinted_at: Option<Timestamp>,
}

impl Mark {
    /// In place of a count: an answer that may come from a replica that lags was accepted, and is looked at once more.
    pub const SECOND_LOOK: i32 = -1;

    /// Whether it stands for the second look at an answer that may lag.
    #[must_use]
    pub fn is_second_look(&self) -> bool {
        self.contradictions == Self::SECOND_LOOK
    }
}
