//! The part of the mirror that one batch touches.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::model::{
    Change, DirectoryGroupId, DirectoryId, DirectoryRecord, DirectoryRow, DirectoryUserId, EdgeMemory, GroupRecord,
    GroupRow, Hint, Mark, MarkTarget, Memory, Stamp, SyncStatus, UserRecord, UserRow, UserState,
};

/// A membership: group, then user.
pub type EdgeKey = (DirectoryGroupId, DirectoryUserId);

/// A row, if there is one, with what is remembered about it.
#[derive(Debug, Clone)]
pub struct Entity<R> {
    /// What is remembered.
    pub memory: Memory,
    /// The row.
    pub row: Option<R>,
    /// The id belongs to another directory: nothing of ours may touch it.
    pub foreign: bool,
    /// The row is to be written.
    pub row_changed: bool,
    /// The memory is to be written.
    pub memory_changed: bool,
}

impl<R> Default for Entity<R> {
    fn default() -> Self {
        Self { memory: Memory::default(), row: None, foreign: false, row_changed: false, memory_changed: false }
    }
}

/// A membership with what is remembered about it.
#[derive(Debug, Clone, Default)]
pub struct Edge {
    /// What is remembered; `present` says whether the mirror shows the edge.
    pub memory: EdgeMemory,
    /// Whether the mirror showed it when it was loaded.
    pub was_present: bool,
    /// The memory is to be written.
    pub changed: bool,
}

/// Which users, groups and edges a batch needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Users, those of edges included.
    pub users: BTreeSet<DirectoryUserId>,
    /// Groups, those of edges included.
    pub groups: BTreeSet<DirectoryGroupId>,
    /// Memberships.
    pub edges: BTreeSet<EdgeKey>,
}

impl Touched {
    /// Adds what a hint is about.
    pub fn add_hint(&mut self, hint: &Hint) {
        match &hint.change {
            Change::UserCreated(id, _) | Change::UserUpdated(id, _) | Change::UserDeleted(id) => {
                self.users.insert(id.clone());
            }
            Change::GroupCreated(id, _) | Change::GroupUpdated(id, _) | Change::GroupDeleted(id) => {
                self.groups.insert(id.clone());
            }
            Change::MemberAdded { group, user, .. } | Change::MemberRemoved { group, user } => {
                self.add_edge(group.clone(), user.clone());
            }
            Change::DirectoryChanged(_) | Change::DirectoryDeleted | Change::Token => {}
        }
    }

    /// Adds a membership and both its ends.
    pub fn add_edge(&mut self, group: DirectoryGroupId, user: DirectoryUserId) {
        self.groups.insert(group.clone());
        self.users.insert(user.clone());
        self.edges.insert((group, user));
    }
}

/// The part of one directory's mirror that a batch touches.
#[derive(Debug, Clone)]
pub struct WorkingSet {
    /// Whose.
    pub directory_id: DirectoryId,
    /// The directory itself.
    pub directory: Entity<DirectoryRow>,
    /// Its users.
    pub users: BTreeMap<DirectoryUserId, Entity<UserRow>>,
    /// Its groups.
    pub groups: BTreeMap<DirectoryGroupId, Entity<GroupRow>>,
    /// Its memberships.
    pub edges: BTreeMap<EdgeKey, Edge>,
    /// The marks there were.
    pub marks: BTreeMap<MarkTarget, Mark>,
    /// Marks to write.
    pub marks_set: BTreeSet<MarkTarget>,
    /// Marks to remove, as they were. One that is set again is removed first and begins anew.
    pub marks_cleared: BTreeMap<MarkTarget, Mark>,
    /// When the hint was received that is being folded: marks remember it.
    pub hinted_at: Option<Timestamp>,
    /// Users whose every edge goes.
    pub users_without_edges: BTreeSet<DirectoryUserId>,
    /// Groups whose every edge goes.
    pub groups_without_edges: BTreeSet<DirectoryGroupId>,
    /// The directory was deleted: everything in it goes.
    pub everything_goes: bool,
    /// Users that are another directory's, whatever an event said: what is remembered of them goes.
    pub disowned_users: BTreeSet<DirectoryUserId>,
    /// Such groups.
    pub disowned_groups: BTreeSet<DirectoryGroupId>,
}

impl WorkingSet {
    /// A set with nothing in it.
    #[must_use]
    pub fn empty(directory_id: DirectoryId) -> Self {
        Self {
            directory_id,
            directory: Entity::default(),
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
            edges: BTreeMap::new(),
            marks: BTreeMap::new(),
            marks_set: BTreeSet::new(),
            marks_cleared: BTreeMap::new(),
            hinted_at: None,
            users_without_edges: BTreeSet::new(),
            groups_without_edges: BTreeSet::new(),
            everything_goes: false,
            disowned_users: BTreeSet::new(),
            disowned_groups: BTreeSet::new(),
        }
    }

    /// Sets a mark that is due now; a mark that stands already takes the new version and starts over.
    pub fn mark(&mut self, target: MarkTarget, version: i64, now: Timestamp) {
        let (urgent, hinted_at) = (false, self.hinted_at);
        let (due_at, set_at) = (now, now);
        // The replica that made a second look necessary may answer this too.
        let looks_again = self.marks.get(&target).is_some_and(Mark::is_second_look);
        let contradictions = if looks_again { Mark::SECOND_LOOK } else { 0 };
        self.put_mark(Mark { target, version, due_at, contradictions, failures: 0, urgent, set_at, hinted_at });
    }

    /// Has what is marked looked at once more after the next answer, which may lag unnoticed.
    pub fn look_twice(&mut self, target: &MarkTarget) {
        if let Some(mark) = self.marks.get(target).filter(|mark| mark.contradictions == 0).cloned() {
            self.put_mark(Mark { contradictions: Mark::SECOND_LOOK, ..mark });
        }
    }

    /// Writes a mark as it is, but that one which stands already keeps the instants at which it was first set.
    pub fn put_mark(&mut self, mut mark: Mark) {
        if let Some(standing) = self.marks.get(&mark.target) {
            mark.set_at = standing.set_at;
            mark.hinted_at = standing.hinted_at.or(mark.hinted_at);
        }
        self.marks_set.insert(mark.target.clone());
        self.marks.insert(mark.target.clone(), mark);
    }

    /// Clears a mark unless it is newer than the request with this number.
    pub fn clear_mark(&mut self, target: &MarkTarget, number: i64) {
        if self.is_marked_after(target, number) {
            return;
        }
        if let Some(mark) = self.marks.remove(target) {
            self.marks_set.remove(target);
            self.marks_cleared.entry(target.clone()).or_insert(mark);
        }
    }

    /// Whether a mark was set after the request with this number.
    #[must_use]
    pub fn is_marked_after(&self, target: &MarkTarget, number: i64) -> bool {
        self.marks.get(target).is_some_and(|mark| mark.version > number)
    }

    /// The API says that the user is another directory's: an event named the wrong one.
    pub fn disown_user(&mut self, id: &DirectoryUserId) {
        if self.user(id).disown() {
            self.disowned_users.insert(id.clone());
        }
    }

    /// As for users.
    pub fn disown_group(&mut self, id: &DirectoryGroupId) {
        if self.group(id).disown() {
            self.disowned_groups.insert(id.clone());
        }
    }

    /// The user's entry, made if need be.
    pub fn user(&mut self, id: &DirectoryUserId) -> &mut Entity<UserRow> {
        self.users.entry(id.clone()).or_default()
    }

    /// The group's entry, made if need be.
    pub fn group(&mut self, id: &DirectoryGroupId) -> &mut Entity<GroupRow> {
        self.groups.entry(id.clone()).or_default()
    }

    /// The membership's entry, made if need be.
    pub fn edge(&mut self, key: &EdgeKey) -> &mut Edge {
        self.edges.entry(key.clone()).or_default()
    }

    /// Whether the mirror shows the target as taken away, by no more than a hint.
    #[must_use]
    pub fn is_revoked_by_hint(&self, target: &MarkTarget) -> bool {
        match target {
            MarkTarget::Directory => self.directory.is_gone(),
            MarkTarget::User(id) => self
                .users
                .get(id)
                .and_then(|user| user.row.as_ref())
                .is_some_and(|row| row.state == UserState::Inactive && row.verified_at.is_none()),
            MarkTarget::Group(id) => self
                .groups
                .get(id)
                .and_then(|group| group.row.as_ref())
                .is_some_and(|row| row.deleted_at.is_some() && row.verified_at.is_none()),
            MarkTarget::Edge(group, user) => self
                .edges
                .get(&(group.clone(), user.clone()))
                .is_some_and(|edge| edge.memory.hint.as_ref().is_some_and(|hint| hint.removes)),
            MarkTarget::UserGroups(_) | MarkTarget::GroupMembers(_) => false,
        }
    }

    /// Whether both ends of a membership stand in the mirror.
    #[must_use]
    pub fn has_both_ends(&self, (group, user): &EdgeKey) -> bool {
        let group = self.groups.get(group).and_then(|entity| entity.row.as_ref());
        let user = self.users.get(user).and_then(|entity| entity.row.as_ref());
        group.is_some_and(|row| row.deleted_at.is_none()) && user.is_some_and(|row| row.deleted_at.is_none())
    }

    /// Makes sure that the directory has a row, for the tables that refer to it. What is not known stays empty.
    /// Its record is to be fetched.
    pub fn register_directory(&mut self, organization_id: Option<String>, number: i64, now: Timestamp) {
        if let Some(row) = &mut self.directory.row {
            if row.record.organization_id.is_none() && organization_id.is_some() {
                row.record.organization_id = organization_id;
                self.directory.row_changed = true;
            }
        } else {
            let was_deleted = self.directory.is_gone();
            self.mark(MarkTarget::Directory, number, now);
            let record = DirectoryRecord {
                id: self.directory_id.clone(),
                organization_id,
                name: None,
                kind: None,
                state: "linked".to_owned(),
                domains: None,
                external_key: None,
                created_at: None,
                updated_at: None,
            };
            self.directory.set_directory(record, now);
            if was_deleted {
                self.keep_directory_deleted(now);
            }
        }
    }

    /// Keeps a directory deleted whose record was shown anew.
    pub fn keep_directory_deleted(&mut self, now: Timestamp) {
        if let Some(row) = &mut self.directory.row {
            row.deleted_at = row.deleted_at.or(Some(now));
            row.record.state = "deleting".to_owned();
            self.directory.row_changed = true;
        }
    }
}

impl<R> Entity<R> {
    /// Whether no more than an event says that the id belongs to another directory: its truth has to tell.
    #[must_use]
    pub fn is_only_claimed(&self) -> bool {
        self.foreign && self.row.is_none()
    }

    /// Takes over what only an event gave to another directory, now that the API says whose it is. Answers whether it was so.
    pub fn take_over(&mut self) -> bool {
        let claimed = self.is_only_claimed();
        if claimed {
            *self = Self { memory_changed: true, ..Self::default() };
        }
        claimed
    }

    fn disown(&mut self) -> bool {
        let ours = !self.foreign && self.row.is_none();
        if ours {
            *self = Self::default();
        }
        ours
    }

    /// Whether content with this stamp may replace what the row shows.
    #[must_use]
    pub fn takes(&self, stamp: &Stamp) -> bool {
        self.memory.snapshot.as_ref().is_none_or(|shown| shown <= stamp)
    }
}

impl Entity<DirectoryRow> {
    /// Whether the directory was deleted, as far as is known.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.row
            .as_ref()
            .map_or_else(|| self.memory.hint.as_ref().is_some_and(|hint| hint.removes), |row| row.deleted_at.is_some())
    }

    /// Shows this record; what the sender left out stays.
    pub fn set_directory(&mut self, mut record: DirectoryRecord, now: Timestamp) {
        self.row_changed = true;
        let Some(row) = &mut self.row else {
            self.row = Some(DirectoryRow {
                record,
                enabled: true,
                sync_status: SyncStatus::Never,
                last_event_at: None,
                last_synced_at: None,
                deleted_at: None,
                created_at: now,
            });
            return;
        };
        record.domains = record.domains.or_else(|| row.record.domains.take());
        record.external_key = record.external_key.or_else(|| row.record.external_key.take());
        if row.record.state != "linked" && record.state == "linked" {
            // What happened while it was off was not told (rule 3).
            row.sync_status = SyncStatus::Never;
        }
        row.record = record;
    }
}

impl Entity<UserRow> {
    /// Whether the newest thing known is that the user was taken away.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.row.as_ref().is_some_and(|row| row.deleted_at.is_some())
            || self.memory.open_hint().is_some_and(|hint| hint.removes)
    }

    /// Whether the API has said exactly this record. A mark that stands beside it says that more was heard since.
    #[must_use]
    pub fn is_confirmed_as(&self, record: &UserRecord) -> bool {
        self.row.as_ref().is_some_and(|row| {
            let state = UserState::from_source(&record.state);
            row.verified_at.is_some() && (row.state, row.deleted_at, &row.record) == (state, None, record)
        })
    }

    /// Shows this record. Answers whether the user came back by it: to life, or as somebody inactive.
    pub fn set_user(&mut self, record: UserRecord, verified_at: Option<Timestamp>, now: Timestamp) -> bool {
        if verified_at.is_some() && self.is_confirmed_as(&record) {
            // Once more: nothing to write.
            return false;
        }
        let state = UserState::from_source(&record.state);
        let deactivated_at = (state == UserState::Inactive).then_some(now);
        self.row_changed = true;
        let Some(row) = &mut self.row else {
            self.row = Some(UserRow {
                id: Uuid::now_v7(),
                record,
                state,
                verified_at,
                deactivated_at,
                deleted_at: None,
                deletion_reason: None,
                created_at: now,
            });
            return false;
        };
        // A tombstone took the memberships along, those of somebody inactive too.
        let came_back = row.deleted_at.is_some() || (row.state == UserState::Inactive && state == UserState::Active);
        row.deactivated_at = row.deactivated_at.filter(|_| state == UserState::Inactive).or(deactivated_at);
        row.record = record;
        row.state = state;
        row.verified_at = verified_at;
        row.deleted_at = None;
        row.deletion_reason = None;
        came_back
    }
}

impl Entity<GroupRow> {
    /// Whether the newest thing known is that the group was taken away.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.row.as_ref().is_some_and(|row| row.deleted_at.is_some())
            || self.memory.open_hint().is_some_and(|hint| hint.removes)
    }

    /// Whether the API has said exactly this record. A mark that stands beside it says that more was heard since.
    #[must_use]
    pub fn is_confirmed_as(&self, record: &GroupRecord) -> bool {
        self.row
            .as_ref()
            .is_some_and(|row| row.verified_at.is_some() && (row.deleted_at, &row.record) == (None, record))
    }

    /// Shows this record. Answers whether the group came back by it.
    pub fn set_group(&mut self, record: GroupRecord, verified_at: Option<Timestamp>, now: Timestamp) -> bool {
        if verified_at.is_some() && self.is_confirmed_as(&record) {
            return false;
        }
        self.row_changed = true;
        let Some(row) = &mut self.row else {
            let created = GroupRow { id: Uuid::now_v7(), record, verified_at, deleted_at: None, created_at: now };
            self.row = Some(created);
            return false;
        };
        let came_back = row.deleted_at.is_some();
        row.record = record;
        row.verified_at = verified_at;
        row.deleted_at = None;
        came_back
    }
}
