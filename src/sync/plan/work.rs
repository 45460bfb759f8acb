//! What the planner is told: the targets, and what the mirror knows about them.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;

use crate::model::{DirectoryGroupId, DirectoryUserId, MarkTarget};

/// Something that has to be fetched and that a plan can cover: a [`MarkTarget`] without the directory's own record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target<'a> {
    /// A user's record.
    User(&'a DirectoryUserId),
    /// A group's record.
    Group(&'a DirectoryGroupId),
    /// Whether this user is in this group.
    Edge(&'a DirectoryGroupId, &'a DirectoryUserId),
    /// All groups of a user.
    UserGroups(&'a DirectoryUserId),
    /// All members of a group.
    GroupMembers(&'a DirectoryGroupId),
}

impl<'a> Target<'a> {
    /// The target of a mark; `None` for the directory's own record, which is asked for by itself.
    #[must_use]
    pub fn of(mark: &'a MarkTarget) -> Option<Self> {
        match mark {
            MarkTarget::Directory => None,
            MarkTarget::User(user) => Some(Self::User(user)),
            MarkTarget::Group(group) => Some(Self::Group(group)),
            MarkTarget::Edge(group, user) => Some(Self::Edge(group, user)),
            MarkTarget::UserGroups(user) => Some(Self::UserGroups(user)),
            MarkTarget::GroupMembers(group) => Some(Self::GroupMembers(group)),
        }
    }
}

/// How soon a target has to be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// In its turn.
    Ordinary,
    /// It takes access away: before everything that does not.
    Revocation,
}

/// Where the API is believed to list a record: what a page needs to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a, Id> {
    /// The list begins with it.
    First,
    /// Others come before it.
    After {
        /// How many.
        rank: NonZeroU32,
        /// The one right before it: a page after this cursor begins with the record.
        cursor: &'a Id,
    },
}

impl<'a, Id> Place<'a, Id> {
    /// How many records are listed before it.
    pub(super) fn rank(&self) -> u32 {
        match self {
            Self::First => 0,
            Self::After { rank, .. } => rank.get(),
        }
    }

    /// The cursor of the page that begins with it.
    pub(super) fn cursor(&self) -> Option<&'a Id> {
        match self {
            Self::First => None,
            Self::After { cursor, .. } => Some(cursor),
        }
    }
}

/// What the mirror knows of a user; the default is what it knows of one it never saw.
#[derive(Debug, Clone, Default)]
pub struct UserFacts<'a> {
    /// Its place in the directory's list of users; `None` if that is unknown or it is believed not to be listed.
    pub place: Option<Place<'a, DirectoryUserId>>,
    /// In how many groups it is.
    pub groups: u32,
    /// Whether it is active. Only active users are listed among a group's members.
    pub active: bool,
}

/// What the mirror knows of a group; the default is what it knows of one it never saw.
#[derive(Debug, Clone, Default)]
pub struct GroupFacts<'a> {
    /// Its place in the directory's list of groups; `None` if that is unknown or it is believed not to be listed.
    pub place: Option<Place<'a, DirectoryGroupId>>,
    /// How many members it has.
    pub members: u32,
}

/// How long one request keeps its path busy, in a unit of the caller's (milliseconds, say): the inverse of the limit.
/// It decides only between plans of equally many requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathCosts {
    /// Everything under `/directory_users`.
    pub users: u16,
    /// Everything under `/directory_groups`.
    pub groups: u16,
}

impl Default for PathCosts {
    /// WorkOS's documented limits, in milliseconds: 4 a second for a directory's users, 6,000 a minute for the key.
    fn default() -> Self {
        Self { users: 250, groups: 10 }
    }
}

/// A directory's targets and the facts about them. Whatever is said twice counts once.
#[derive(Debug)]
pub struct Work<'a> {
    pub(super) page_size: NonZeroU32,
    pub(super) costs: PathCosts,
    pub(super) users: Register<'a, DirectoryUserId>,
    pub(super) groups: Register<'a, DirectoryGroupId>,
    /// User, group.
    pub(super) dirty_edges: Vec<(u32, u32, Urgency)>,
    /// User, group.
    pub(super) known_edges: Vec<(u32, u32)>,
}

impl<'a> Work<'a> {
    /// Nothing to do yet, on an API whose pages hold `page_size` records.
    #[must_use]
    pub fn new(page_size: NonZeroU32, costs: PathCosts) -> Self {
        Self {
            page_size,
            costs,
            users: Register::default(),
            groups: Register::default(),
            dirty_edges: Vec::new(),
            known_edges: Vec::new(),
        }
    }

    /// Adds a target.
    pub fn add(&mut self, target: Target<'a>, urgency: Urgency) {
        match target {
            Target::User(user) => raise(&mut self.users.entry(user).1.record, urgency),
            Target::Group(group) => raise(&mut self.groups.entry(group).1.record, urgency),
            Target::UserGroups(user) => raise(&mut self.users.entry(user).1.list, urgency),
            Target::GroupMembers(group) => raise(&mut self.groups.entry(group).1.list, urgency),
            Target::Edge(group, user) => {
                self.dirty_edges.push((self.users.entry(user).0, self.groups.entry(group).0, urgency));
            }
        }
    }

    /// Tells what is known of a user.
    pub fn know_user(&mut self, user: &'a DirectoryUserId, facts: UserFacts<'a>) {
        let entry = self.users.entry(user).1;
        (entry.place, entry.listed, entry.active) = (facts.place, facts.groups, facts.active);
    }

    /// Tells what is known of a group.
    pub fn know_group(&mut self, group: &'a DirectoryGroupId, facts: GroupFacts<'a>) {
        let entry = self.groups.entry(group).1;
        (entry.place, entry.listed) = (facts.place, facts.members);
    }

    /// Tells that this user is believed to be in this group, so that the list of either shows the record of the other.
    /// Worth telling where one of the two records is dirty.
    pub fn know_member(&mut self, group: &'a DirectoryGroupId, user: &'a DirectoryUserId) {
        self.known_edges.push((self.users.entry(user).0, self.groups.entry(group).0));
    }
}

fn raise(urgency: &mut Option<Urgency>, to: Urgency) {
    *urgency = (*urgency).max(Some(to));
}

/// The users or the groups that were named, each once, numbered as they came.
#[derive(Debug)]
pub(super) struct Register<'a, Id> {
    numbers: HashMap<&'a Id, u32>,
    pub(super) entries: Vec<Entry<'a, Id>>,
}

/// All that was said of one user or group.
#[derive(Debug)]
pub(super) struct Entry<'a, Id> {
    pub(super) id: &'a Id,
    pub(super) place: Option<Place<'a, Id>>,
    /// How many records its own list has.
    pub(super) listed: u32,
    pub(super) active: bool,
    /// Whether its record is dirty.
    pub(super) record: Option<Urgency>,
    /// Whether its whole list is dirty.
    pub(super) list: Option<Urgency>,
}

impl<Id> Default for Register<'_, Id> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), entries: Vec::new() }
    }
}

impl<'a, Id: Eq + Hash> Register<'a, Id> {
    fn entry(&mut self, id: &'a Id) -> (u32, &mut Entry<'a, Id>) {
        let next = u32::try_from(self.entries.len()).expect("a directory has fewer than 2^32 users and groups");
        let number = *self.numbers.entry(id).or_insert(next);
        if number == next {
            self.entries.push(Entry { id, place: None, listed: 0, active: false, record: None, list: None });
        }
        (number, &mut self.entries[number as usize])
    }
}
