//! The changes of groups and memberships, each with exactly the events that production sends for it.

use std::collections::BTreeSet;

use serde_json::json;

use crate::entries::{GroupEntry, Id};
use crate::events::{MembershipData, Updated};
use crate::inputs::WorldError;
use crate::records::Group;
use crate::world::World;

impl World {
    /// Makes an empty group and returns its id. Emits `dsync.group.created`.
    ///
    /// # Errors
    /// The directory does not exist.
    pub fn create_group(&mut self, directory_id: &str, name: &str) -> Result<String, WorldError> {
        let now = self.out.now();
        let home = self.directory_entry(directory_id)?.home.clone();
        let idp_id = format!("00g{}", self.out.ids.key(17));
        let record = Group {
            object: "directory_group",
            id: self.out.ids.next("directory_group_"),
            raw_attributes: json!({"displayName": name, "externalId": idp_id}),
            idp_id,
            directory_id: directory_id.to_owned(),
            organization_id: home.organization_id.to_string(),
            name: name.to_owned(),
            created_at: now,
            updated_at: now,
        };
        self.out.emit("dsync.group.created", &home.organization_id, &record);
        let id = record.id.clone();
        let shared: Id = Id::from(id.as_str());
        let directory = self.directory_entry(directory_id)?;
        directory.groups.insert(shared.clone());
        directory.record.metadata.groups += 1;
        let entry = GroupEntry { record, home, members: BTreeSet::new() };
        self.groups.insert(shared, entry);
        Ok(id)
    }

    /// Renames a group. Emits `dsync.group.updated`, if the name is another one.
    ///
    /// # Errors
    /// The group does not exist.
    pub fn rename_group(&mut self, id: &str, name: &str) -> Result<(), WorldError> {
        let entry = self.groups.get_mut(id).ok_or_else(|| WorldError::UnknownGroup(id.to_owned()))?;
        if entry.record.name == name {
            return Ok(());
        }
        let old = entry.record.clone();
        entry.record.name = name.to_owned();
        entry.record.raw_attributes["displayName"] = name.into();
        entry.record.updated_at = self.out.now();
        let data = Updated::new(&old, &entry.record);
        self.out.emit("dsync.group.updated", &entry.home.organization_id, &data);
        Ok(())
    }

    /// Deletes a group and its memberships. Emits `dsync.group.deleted` and no removals of members.
    ///
    /// # Errors
    /// The group does not exist.
    pub fn delete_group(&mut self, id: &str) -> Result<(), WorldError> {
        let entry = self.groups.remove(id).ok_or_else(|| WorldError::UnknownGroup(id.to_owned()))?;
        for user in &entry.members {
            if let Some(user) = self.users.get_mut(user) {
                user.groups.remove(id);
            }
        }
        if let Some(directory) = self.directories.get_mut(&entry.home.directory_id) {
            directory.groups.remove(id);
            directory.record.metadata.groups -= 1;
        }
        self.out.emit("dsync.group.deleted", &entry.home.organization_id, &entry.record);
        Ok(())
    }

    /// Makes a user a member, and says whether it was not one. Emits `dsync.group.user_added` if so.
    ///
    /// # Errors
    /// The group does not exist, or no such user in its directory.
    pub fn add_member(&mut self, group_id: &str, user_id: &str) -> Result<bool, WorldError> {
        self.set_membership(group_id, user_id, true)
    }

    /// Ends a membership, and says whether there was one. Emits `dsync.group.user_removed` if so.
    ///
    /// # Errors
    /// The group does not exist, or no such user in its directory.
    pub fn remove_member(&mut self, group_id: &str, user_id: &str) -> Result<bool, WorldError> {
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
        if user.home.directory_id != group.home.directory_id {
            return Err(unknown_user());
        }
        let (changed, event) = if member {
            user.groups.insert(shared_group);
            (group.members.insert(shared_user), "dsync.group.user_added")
        } else {
            user.groups.remove(group_id);
            (group.members.remove(user_id), "dsync.group.user_removed")
        };
        if changed && !self.out.silent {
            let (home, user) = (&group.home, user.record());
            let data = MembershipData { directory_id: &home.directory_id, user: &user, group: &group.record };
            self.out.emit(event, &home.organization_id, &data);
        }
        Ok(changed)
    }
}

/// An empty text is none.
pub(crate) fn filled(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
