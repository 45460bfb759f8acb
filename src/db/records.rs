//! Rows as Diesel reads and writes them, and their way to and from the plain types of `model`.

use diesel::prelude::*;
use serde_json::Value;

use super::DbError;
use super::schema::{directories, edge_memory, entity_memory, group_members, groups, marks, users};
use super::types::{StoredAttributes, StoredInstant, StoredJson, StoredUuid};
use crate::clock::Timestamp;
use crate::mirror::EdgeKey;
use crate::model::{
    DirectoryGroupId, DirectoryId, DirectoryRecord, DirectoryRow, DirectoryUserId, EdgeMemory, EventId, GroupRecord,
    GroupRow, HintKey, Mark, MarkTarget, Memory, Stamp, SyncStatus, UserRecord, UserRow, UserState,
};

fn some(at: Option<Timestamp>) -> Option<StoredInstant> {
    at.map(StoredInstant)
}

fn plain(at: Option<StoredInstant>) -> Option<Timestamp> {
    at.map(|at| at.0)
}

fn unknown_word(column: &str, word: &str) -> DbError {
    DbError::NewerVersion(format!("{column} holds {word:?}, which this version does not know"))
}

#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = directories, treat_none_as_default_value = false)]
pub struct DirectoryRecordRow {
    directory_id: String,
    organization_id: Option<String>,
    name: Option<String>,
    kind: Option<String>,
    state: String,
    domains: StoredJson,
    external_key: Option<String>,
    enabled: bool,
    sync_status: String,
    last_event_at: Option<StoredInstant>,
    last_synced_at: Option<StoredInstant>,
    deleted_at: Option<StoredInstant>,
    source_created_at: Option<StoredInstant>,
    source_updated_at: Option<StoredInstant>,
    created_at: StoredInstant,
    updated_at: StoredInstant,
}

impl DirectoryRecordRow {
    pub fn from_model(row: &DirectoryRow, now: Timestamp) -> Self {
        let record = &row.record;
        let domains = record.domains.iter().flatten().cloned().map(Value::String).collect();
        Self {
            directory_id: record.id.to_string(),
            organization_id: record.organization_id.clone(),
            name: record.name.clone(),
            kind: record.kind.clone(),
            state: record.state.clone(),
            domains: StoredJson(Value::Array(domains)),
            external_key: record.external_key.clone(),
            enabled: row.enabled,
            sync_status: row.sync_status.as_str().to_owned(),
            last_event_at: some(row.last_event_at),
            last_synced_at: some(row.last_synced_at),
            deleted_at: some(row.deleted_at),
            source_created_at: some(record.created_at),
            source_updated_at: some(record.updated_at),
            created_at: StoredInstant(row.created_at),
            updated_at: StoredInstant(now),
        }
    }

    pub fn into_model(self) -> Result<DirectoryRow, DbError> {
        let domains = match self.domains.0 {
            Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        Ok(DirectoryRow {
            record: DirectoryRecord {
                id: DirectoryId::from_stored(self.directory_id),
                organization_id: self.organization_id,
                name: self.name,
                kind: self.kind,
                state: self.state,
                domains: Some(domains),
                external_key: self.external_key,
                created_at: plain(self.source_created_at),
                updated_at: plain(self.source_updated_at),
            },
            enabled: self.enabled,
            sync_status: SyncStatus::from_stored(&self.sync_status)
                .ok_or_else(|| unknown_word("directories.sync_status", &self.sync_status))?,
            last_event_at: plain(self.last_event_at),
            last_synced_at: plain(self.last_synced_at),
            deleted_at: plain(self.deleted_at),
            created_at: self.created_at.0,
        })
    }
}

#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = users, treat_none_as_default_value = false)]
pub struct UserRecordRow {
    id: StoredUuid,
    directory_user_id: Option<String>,
    directory_id: Option<String>,
    organization_id: Option<String>,
    idp_id: Option<String>,
    email: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    display_name: Option<String>,
    username: Option<String>,
    job_title: Option<String>,
    state: String,
    source_state: Option<String>,
    role: Option<String>,
    custom_attributes: StoredAttributes,
    raw_attributes: StoredAttributes,
    provenance: String,
    verified_at: Option<StoredInstant>,
    deactivated_at: Option<StoredInstant>,
    deleted_at: Option<StoredInstant>,
    deletion_reason: Option<String>,
    source_created_at: Option<StoredInstant>,
    source_updated_at: Option<StoredInstant>,
    created_at: StoredInstant,
    updated_at: StoredInstant,
}

impl UserRecordRow {
    pub fn from_model(row: &UserRow, now: Timestamp) -> Self {
        let record = row.record.clone();
        Self {
            id: StoredUuid(row.id),
            directory_user_id: Some(record.id.to_string()),
            directory_id: Some(record.directory_id.to_string()),
            organization_id: record.organization_id,
            idp_id: record.idp_id,
            email: record.email,
            first_name: record.first_name,
            last_name: record.last_name,
            display_name: record.display_name,
            username: record.username,
            job_title: record.job_title,
            state: row.state.as_str().to_owned(),
            source_state: Some(record.state),
            role: record.role,
            custom_attributes: StoredAttributes(record.custom_attributes),
            raw_attributes: StoredAttributes(record.raw_attributes),
            provenance: "directory".to_owned(),
            verified_at: some(row.verified_at),
            deactivated_at: some(row.deactivated_at),
            deleted_at: some(row.deleted_at),
            deletion_reason: row.deletion_reason.clone(),
            source_created_at: some(record.created_at),
            source_updated_at: some(Some(record.updated_at)),
            created_at: StoredInstant(row.created_at),
            updated_at: StoredInstant(now),
        }
    }

    pub fn into_model(self) -> Result<UserRow, DbError> {
        let (Some(id), Some(directory_id)) = (self.directory_user_id, self.directory_id) else {
            return Err(DbError::Data("a row of users has an id of WorkOS's but no directory".to_owned()));
        };
        Ok(UserRow {
            id: self.id.0,
            record: UserRecord {
                id: DirectoryUserId::from_stored(id),
                directory_id: DirectoryId::from_stored(directory_id),
                organization_id: self.organization_id,
                idp_id: self.idp_id,
                email: self.email,
                first_name: self.first_name,
                last_name: self.last_name,
                display_name: self.display_name,
                username: self.username,
                job_title: self.job_title,
                state: self.source_state.unwrap_or_default(),
                role: self.role,
                custom_attributes: self.custom_attributes.0,
                raw_attributes: self.raw_attributes.0,
                created_at: plain(self.source_created_at),
                updated_at: plain(self.source_updated_at).unwrap_or_default(),
            },
            state: UserState::from_stored(&self.state).ok_or_else(|| unknown_word("users.state", &self.state))?,
            verified_at: plain(self.verified_at),
            deactivated_at: plain(self.deactivated_at),
            deleted_at: plain(self.deleted_at),
            deletion_reason: self.deletion_reason,
            created_at: self.created_at.0,
        })
    }
}

#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = groups, treat_none_as_default_value = false)]
pub struct GroupRecordRow {
    id: StoredUuid,
    directory_group_id: Option<String>,
    directory_id: Option<String>,
    organization_id: Option<String>,
    idp_id: Option<String>,
    name: String,
    raw_attributes: StoredAttributes,
    provenance: String,
    verified_at: Option<StoredInstant>,
    deleted_at: Option<StoredInstant>,
    source_created_at: Option<StoredInstant>,
    source_updated_at: Option<StoredInstant>,
    created_at: StoredInstant,
    updated_at: StoredInstant,
}

impl GroupRecordRow {
    pub fn from_model(row: &GroupRow, now: Timestamp) -> Self {
        let record = row.record.clone();
        Self {
            id: StoredUuid(row.id),
            directory_group_id: Some(record.id.to_string()),
            directory_id: Some(record.directory_id.to_string()),
            organization_id: record.organization_id,
            idp_id: record.idp_id,
            name: record.name,
            raw_attributes: StoredAttributes(record.raw_attributes),
            provenance: "directory".to_owned(),
            verified_at: some(row.verified_at),
            deleted_at: some(row.deleted_at),
            source_created_at: some(record.created_at),
            source_updated_at: some(Some(record.updated_at)),
            created_at: StoredInstant(row.created_at),
            updated_at: StoredInstant(now),
        }
    }

    pub fn into_model(self) -> Result<GroupRow, DbError> {
        let (Some(id), Some(directory_id)) = (self.directory_group_id, self.directory_id) else {
            return Err(DbError::Data("a row of groups has an id of WorkOS's but no directory".to_owned()));
        };
        Ok(GroupRow {
            id: self.id.0,
            record: GroupRecord {
                id: DirectoryGroupId::from_stored(id),
                directory_id: DirectoryId::from_stored(directory_id),
                organization_id: self.organization_id,
                idp_id: self.idp_id,
                name: self.name,
                raw_attributes: self.raw_attributes.0,
                created_at: plain(self.source_created_at),
                updated_at: plain(self.source_updated_at).unwrap_or_default(),
            },
            verified_at: plain(self.verified_at),
            deleted_at: plain(self.deleted_at),
            created_at: self.created_at.0,
        })
    }
}

fn hint(at: Option<StoredInstant>, removes: bool, event_id: Option<String>) -> Option<HintKey> {
    Some(HintKey { at: at?.0, removes, event_id: EventId::from_stored(event_id?) })
}

#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = entity_memory, treat_none_as_default_value = false)]
pub struct MemoryRow {
    kind: String,
    pub entity_id: String,
    pub directory_id: String,
    hint_at: Option<StoredInstant>,
    hint_removes: bool,
    hint_event_id: Option<String>,
    snapshot_at: Option<StoredInstant>,
    snapshot_event_id: Option<String>,
    truth_number: i64,
    truth_at: Option<StoredInstant>,
}

impl MemoryRow {
    pub fn key(&self) -> (&str, &str) {
        (&self.entity_id, &self.kind)
    }

    pub fn from_model(kind: &str, entity_id: &str, directory_id: &str, memory: &Memory) -> Self {
        let hint = memory.hint.as_ref();
        let snapshot = memory.snapshot.as_ref();
        Self {
            kind: kind.to_owned(),
            entity_id: entity_id.to_owned(),
            directory_id: directory_id.to_owned(),
            hint_at: hint.map(|hint| StoredInstant(hint.at)),
            hint_removes: hint.is_some_and(|hint| hint.removes),
            hint_event_id: hint.map(|hint| hint.event_id.to_string()),
            snapshot_at: snapshot.map(|stamp| StoredInstant(stamp.updated_at)),
            snapshot_event_id: snapshot.and_then(|stamp| stamp.event_id.as_ref()).map(ToString::to_string),
            truth_number: memory.truth_number,
            truth_at: some(memory.truth_at),
        }
    }

    pub fn into_model(self) -> Memory {
        let event_id = self.snapshot_event_id.map(EventId::from_stored);
        Memory {
            hint: hint(self.hint_at, self.hint_removes, self.hint_event_id),
            snapshot: self.snapshot_at.map(|at| Stamp { updated_at: at.0, event_id }),
            truth_number: self.truth_number,
            truth_at: plain(self.truth_at),
        }
    }
}

#[derive(Debug, Clone, Queryable, Selectable, Insertable, QueryableByName)]
#[diesel(table_name = edge_memory, treat_none_as_default_value = false)]
pub struct EdgeMemoryRow {
    directory_group_id: String,
    directory_user_id: String,
    pub directory_id: String,
    present: bool,
    hint_at: Option<StoredInstant>,
    hint_removes: bool,
    hint_event_id: Option<String>,
    truth_number: i64,
    truth_at: Option<StoredInstant>,
    updated_at: StoredInstant,
}

impl EdgeMemoryRow {
    pub fn from_model(key: &EdgeKey, directory_id: &str, memory: &EdgeMemory, now: Timestamp) -> Self {
        let hint = memory.hint.as_ref();
        Self {
            directory_group_id: key.0.to_string(),
            directory_user_id: key.1.to_string(),
            directory_id: directory_id.to_owned(),
            present: memory.present,
            hint_at: hint.map(|hint| StoredInstant(hint.at)),
            hint_removes: hint.is_some_and(|hint| hint.removes),
            hint_event_id: hint.map(|hint| hint.event_id.to_string()),
            truth_number: memory.truth_number,
            truth_at: some(memory.truth_at),
            updated_at: StoredInstant(now),
        }
    }

    pub fn into_model(self) -> (EdgeKey, EdgeMemory) {
        let key = (
            DirectoryGroupId::from_stored(self.directory_group_id),
            DirectoryUserId::from_stored(self.directory_user_id),
        );
        let memory = EdgeMemory {
            present: self.present,
            hint: hint(self.hint_at, self.hint_removes, self.hint_event_id),
            truth_number: self.truth_number,
            truth_at: plain(self.truth_at),
        };
        (key, memory)
    }
}

#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = group_members)]
pub struct MemberRow {
    group_id: StoredUuid,
    user_id: StoredUuid,
    provenance: &'static str,
    created_at: StoredInstant,
}

impl MemberRow {
    pub fn from_directory(group_id: StoredUuid, user_id: StoredUuid, now: Timestamp) -> Self {
        Self { group_id, user_id, provenance: "directory", created_at: StoredInstant(now) }
    }
}

#[derive(Debug, Clone, Queryable, Selectable, Insertable, QueryableByName)]
#[diesel(table_name = marks, treat_none_as_default_value = false)]
pub struct MarkRow {
    pub directory_id: String,
    kind: String,
    directory_group_id: String,
    directory_user_id: String,
    version: i64,
    due_at: StoredInstant,
    contradictions: i32,
    failures: i32,
    urgent: bool,
    set_at: StoredInstant,
    hinted_at: Option<StoredInstant>,
}

/// A target's kind, group id and user id in the table; empty where the kind has none.
pub fn mark_kind(target: &MarkTarget) -> (&'static str, &str, &str) {
    match target {
        MarkTarget::Directory => ("directory", "", ""),
        MarkTarget::User(user) => ("user", "", user.as_str()),
        MarkTarget::Group(group) => ("group", group.as_str(), ""),
        MarkTarget::Edge(group, user) => ("edge", group.as_str(), user.as_str()),
        MarkTarget::UserGroups(user) => ("user_groups", "", user.as_str()),
        MarkTarget::GroupMembers(group) => ("group_members", group.as_str(), ""),
    }
}

impl MarkRow {
    pub fn from_model(directory_id: &str, mark: &Mark, urgent: bool) -> Self {
        let (kind, group, user) = mark_kind(&mark.target);
        Self {
            directory_id: directory_id.to_owned(),
            kind: kind.to_owned(),
            directory_group_id: group.to_owned(),
            directory_user_id: user.to_owned(),
            version: mark.version,
            due_at: StoredInstant(mark.due_at),
            contradictions: mark.contradictions,
            failures: mark.failures,
            urgent,
            set_at: StoredInstant(mark.set_at),
            hinted_at: mark.hinted_at.map(StoredInstant),
        }
    }

    /// `None` for a kind that a newer version wrote: that version will see to it.
    pub fn into_model(self) -> Option<Mark> {
        let group = DirectoryGroupId::from_stored(self.directory_group_id);
        let user = DirectoryUserId::from_stored(self.directory_user_id);
        let target = match self.kind.as_str() {
            "directory" => MarkTarget::Directory,
            "user" => MarkTarget::User(user),
            "group" => MarkTarget::Group(group),
            "edge" => MarkTarget::Edge(group, user),
            "user_groups" => MarkTarget::UserGroups(user),
            "group_members" => MarkTarget::GroupMembers(group),
            _ => return None,
        };
        Some(Mark {
            target,
            version: self.version,
            due_at: self.due_at.0,
            contradictions: self.contradictions,
            failures: self.failures,
            urgent: self.urgent,
            set_at: self.set_at.0,
            hinted_at: self.hinted_at.map(|at| at.0),
        })
    }
}
