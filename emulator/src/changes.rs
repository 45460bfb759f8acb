//! The changes of directories, groups and memberships, each with exactly the events that production sends for it.

use std::collections::BTreeSet;

use serde_json::json;

use crate::events::{DirectoryData, MembershipData, Updated};
use crate::inputs::{NewDirectory, WorldError};
use crate::records::{Directory, DirectoryMetadata, Group};
use crate::world::{DirectoryEntry, GroupEntry, Id, World};

impl World {
    /// Emits `dsync.activated`.
    pub(crate) fn create_directory(&mut self, new: NewDirectory) -> String {
        let now = self.out.now();
        let ids = &mut self.out.ids;
        let record = Directory {
            object: "directory",
            organization_id: new.organization_id.unwrap_or_else(|| ids.next("org_")),
            id: ids.next("directory_"),
            external_key: ids.key(16),
            kind: new.kind,
            state: "linked".to_owned(),
            name: new.name,
            domain: filled(new.domain),
            metadata: DirectoryMetadata::default(),
            created_at: now,
            updated_at: now,
        };
        let data = DirectoryData::activated(&record, &mut self.out.ids);
        self.out.emit("dsync.activated", &data);
        let id = record.id.clone();
        let shared: Id = Id::from(id.as_str());
        self.directory_ids.insert(shared.clone());
        let entry = DirectoryEntry { record, users: BTreeSet::new(), groups: BTreeSet::new() };
        self.directories.insert(shared, entry);
        id
    }

    /// Emits nothing: only the API shows the new state.
    pub(crate) fn set_directory_state(&mut self, id: &str, state: &str) -> Result<(), WorldError> {
        let now = self.out.now();
        let record = &mut self.directory_entry(id)?.record;
        if record.state != state {
            record.state = state.to_owned();
            record.updated_at = now;
        }
        Ok(())
    }

    /// Emits `dsync.deleted` and nothing else, though everything in the directory goes with it.
    pub(crate) fn delete_directory(&mut self, id: &str) -> Result<(), WorldError> {
        let entry = self.directories.remove(id).ok_or_else(|| WorldError::UnknownDirectory(id.to_owned()))?;
        self.directory_ids.remove(id);
        for user in &entry.users {
            self.users.remove(user);
        }
        for group in &entry.groups {
            self.groups.remove(group);
        }
        let data = DirectoryData::deleted(&entry.record);
        self.out.emit("dsync.deleted", &data);
        Ok(())
    }

    /// Emits `dsync.group.created`.
    pub(crate) fn create_group(&mut self, directory_id: &str, name: &str) -> Result<String, WorldError> {
        let now = self.out.now();
        let organization_id = self.directory_entry(directory_id)?.record.organization_id.clone();
        let idp_id = format!("00g{}", self.out.ids.key(17));
        let record = Group {
            object: "directory_group",
            id: self.out.ids.next("directory_group_"),
            raw_attributes: json!({"displayName": name, "externalId": idp_id}),
            idp_id,
            directory_id: directory_id.to_owned(),
            organization_id,
            name: name.to_owned(),
            created_at: now,
            updated_at: now,
        };
        self.out.emit("dsync.group.created", &record);
        let id = record.id.clone();
        let shared: Id = Id::from(id.as_str());
        let directory = self.directory_entry(directory_id)?;
        directory.groups.insert(shared.clone());
        directory.record.metadata.groups += 1;
        let entry = GroupEntry { record, members: BTreeSet::new() };
        self.groups.insert(shared, entry);
        Ok(id)
    }

    /// Emits `dsync.group.updated`, if the name is another one.
    pub(crate) fn rename_group(&mut self, id: &str, name: &str) -> Result<(), WorldError> {
        let entry = self.groups.get_mut(id).ok_or_else(|| WorldError::UnknownGroup(id.to_owned()))?;
        if entry.record.name == name {
            return Ok(());
        }
        let old = entry.record.clone();
        entry.record.name = name.to_owned();
        entry.record.raw_attributes["displayName"] = name.into();
        entry.record.updated_at = self.out.now();
        let data = Updated::new(&old, &entry.record);
        self.out.emit("dsync.group.updated", &data);
        Ok(())
    }

    /// Emits `dsync.group.deleted` and no removals of members.
    pub(crate) fn delete_group(&mut self, id: &str) -> Result<(), WorldError> {
        let entry = self.groups.remove(id).ok_or_else(|| WorldError::UnknownGroup(id.to_owned()))?;
        for user in &entry.members {
            if let Some(user) = self.users.get_mut(user) {
                user.groups.remove(id);
            }
        }
        if let Some(directory) = self.directories.get_mut(&*entry.record.directory_id) {
            directory.groups.remove(id);
            directory.record.metadata.groups -= 1;
        }
        self.out.emit("dsync.group.deleted", &entry.record);
        Ok(())
    }

    /// Emits `dsync.group.user_added`, if the user was not a member.
    pub(crate) fn add_member(&mut self, group_id: &str, user_id: &str) -> Result<bool, WorldError> {
        self.set_membership(group_id, user_id, true)
    }

    /// Emits `dsync.group.user_removed`, if the user was a member.
    pub(crate) fn remove_member(&mut self, group_id: &str, user_id: &str) -> Result<bool, WorldError> {
        self.set_membership(group_id, user_id, false)
    }

    fn set_membership(&mut self, group_id: &str, user_id: &str, member: bool) -> Result<bool, WorldError> {
        let unknown_user = || WorldError::UnknownUser(user_id.to_owned());
        let shared_group = self.groups.get_key_value(group_id).map(|(id, _)| id.clone());
        let shared_user = self.users.get_key_value(user_id).map(|(id, _)| id.clone());
        let (Some(shared_group), Some(group)) = (shared_group, self.groups.get_mut(group_id)) else {
            return Err(WorldError::UnknownGroup(group_id.to_owned()));
        };
        let shared_user = shared_user.ok_or_else(unknown_user)?;
        let user = self.users.get_mut(user_id).ok_or_else(unknown_user)?;
        if user.record.directory_id != group.record.directory_id {
            return Err(unknown_user());
        }
        let (changed, event) = if member {
            user.groups.insert(shared_group);
            (group.members.insert(shared_user), "dsync.group.user_added")
        } else {
            user.groups.remove(group_id);
            (group.members.remove(user_id), "dsync.group.user_removed")
        };
        if changed {
            let data =
                MembershipData { directory_id: &group.record.directory_id, user: &user.record, group: &group.record };
            self.out.emit(event, &data);
        }
        Ok(changed)
    }

    pub(crate) fn directory_entry(&mut self, id: &str) -> Result<&mut DirectoryEntry, WorldError> {
        self.directories.get_mut(id).ok_or_else(|| WorldError::UnknownDirectory(id.to_owned()))
    }
}

/// An empty text is none.
pub(crate) fn filled(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
