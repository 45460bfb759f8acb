//! The changes of users, each with exactly the events that production sends for it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::changes::filled;
use crate::events::Updated;
use crate::inputs::{Deactivation, NewUser, UserChange, WorldError};
use crate::records::{CustomAttributes, Email, Role, User, UserCounts};
use crate::world::{Id, UserEntry, World};

const ACTIVE: &str = "active";
const INACTIVE: &str = "inactive";

impl World {
    /// Emits `dsync.user.created`.
    pub(crate) fn create_user(&mut self, directory_id: &str, new: NewUser) -> Result<String, WorldError> {
        let now = self.out.now();
        let organization_id = self.directory_entry(directory_id)?.record.organization_id.clone();
        let ids = &mut self.out.ids;
        let given_raw = new.raw_attributes.is_some();
        let mut record = User {
            object: "directory_user",
            id: ids.next("directory_user_"),
            directory_id: directory_id.to_owned(),
            organization_id,
            idp_id: new.idp_id.unwrap_or_else(|| format!("00u{}", ids.key(17))),
            email: filled(new.email),
            first_name: filled(new.first_name),
            last_name: filled(new.last_name),
            name: None,
            emails: Vec::new(),
            username: None,
            job_title: filled(new.job_title),
            state: ACTIVE.to_owned(),
            custom_attributes: CustomAttributes { department: filled(new.department), job_title: None },
            raw_attributes: new.raw_attributes.unwrap_or(Value::Null),
            role: new.role.and_then(filled).map(|slug| Role { slug }),
            roles: Vec::new(),
            created_at: now,
            updated_at: now,
        };
        derive(&mut record, given_raw);
        self.out.emit("dsync.user.created", &record);
        let id = record.id.clone();
        let shared: Id = Id::from(id.as_str());
        let directory = self.directory_entry(directory_id)?;
        directory.users.insert(shared.clone());
        *state_count(&mut directory.record.metadata.users, ACTIVE) += 1;
        let entry = UserEntry { record, groups: BTreeSet::new(), given_raw, deleted: false };
        self.users.insert(shared, entry);
        Ok(id)
    }

    /// Emits `dsync.user.updated`, if anything changes.
    pub(crate) fn update_user(&mut self, id: &str, change: UserChange) -> Result<(), WorldError> {
        self.alter_user(id, |user| {
            replace(&mut user.first_name, change.first_name);
            replace(&mut user.last_name, change.last_name);
            replace(&mut user.email, change.email);
            replace(&mut user.job_title, change.job_title);
            replace(&mut user.custom_attributes.department, change.department);
            if let Some(slug) = change.role {
                user.role = filled(slug).map(|slug| Role { slug });
            }
        })
    }

    /// Emits what the kind of deactivation says; nothing if there is nothing left to do.
    pub(crate) fn deactivate_user(&mut self, id: &str, deactivation: Deactivation) -> Result<(), WorldError> {
        match deactivation {
            Deactivation::UpdatedInactive => self.alter_user(id, |user| user.state = INACTIVE.to_owned()),
            Deactivation::DeletedKept => self.delete_but_keep_user(id),
            Deactivation::DeletedGone => self.delete_user(id),
        }
    }

    /// Emits `dsync.user.updated`, if the user was inactive. Memberships are not announced again.
    pub(crate) fn reactivate_user(&mut self, id: &str) -> Result<(), WorldError> {
        self.user_entry(id)?.deleted = false;
        self.alter_user(id, |user| user.state = ACTIVE.to_owned())
    }

    fn delete_but_keep_user(&mut self, id: &str) -> Result<(), WorldError> {
        let now = self.out.now();
        let entry = self.user_entry(id)?;
        if entry.deleted {
            return Ok(());
        }
        entry.deleted = true;
        let given_raw = entry.given_raw;
        let was = std::mem::replace(&mut entry.record.state, INACTIVE.to_owned());
        if was != INACTIVE {
            entry.record.updated_at = now;
            derive(&mut entry.record, given_raw);
        }
        let record = entry.record.clone();
        self.count_state(&record.directory_id, &was, INACTIVE);
        self.out.emit("dsync.user.deleted", &record);
        Ok(())
    }

    fn delete_user(&mut self, id: &str) -> Result<(), WorldError> {
        let now = self.out.now();
        let mut entry = self.users.remove(id).ok_or_else(|| WorldError::UnknownUser(id.to_owned()))?;
        for group in &entry.groups {
            if let Some(group) = self.groups.get_mut(group) {
                group.members.remove(id);
            }
        }
        if let Some(directory) = self.directories.get_mut(&*entry.record.directory_id) {
            directory.users.remove(id);
            *state_count(&mut directory.record.metadata.users, &entry.record.state) -= 1;
        }
        if entry.record.is_active() {
            entry.record.state = INACTIVE.to_owned();
            entry.record.updated_at = now;
            derive(&mut entry.record, entry.given_raw);
        }
        if !entry.deleted {
            self.out.emit("dsync.user.deleted", &entry.record);
        }
        Ok(())
    }

    /// Applies `change` and emits `dsync.user.updated`, unless nothing came of it.
    fn alter_user(&mut self, id: &str, change: impl FnOnce(&mut User)) -> Result<(), WorldError> {
        let now = self.out.now();
        let entry = self.user_entry(id)?;
        let old = entry.record.clone();
        change(&mut entry.record);
        derive(&mut entry.record, entry.given_raw);
        if entry.record == old {
            return Ok(());
        }
        entry.record.updated_at = now;
        let new = entry.record.clone();
        self.count_state(&new.directory_id, &old.state, &new.state);
        self.out.emit("dsync.user.updated", &Updated::new(&old, &new));
        Ok(())
    }

    fn count_state(&mut self, directory_id: &str, old: &str, new: &str) {
        if let Some(directory) = self.directories.get_mut(directory_id) {
            let counts = &mut directory.record.metadata.users;
            *state_count(counts, old) -= 1;
            *state_count(counts, new) += 1;
        }
    }

    fn user_entry(&mut self, id: &str) -> Result<&mut UserEntry, WorldError> {
        self.users.get_mut(id).ok_or_else(|| WorldError::UnknownUser(id.to_owned()))
    }
}

fn state_count<'a>(counts: &'a mut UserCounts, state: &str) -> &'a mut u64 {
    if state == ACTIVE { &mut counts.active } else { &mut counts.inactive }
}

fn replace(field: &mut Option<String>, value: Option<String>) {
    if let Some(value) = value {
        *field = filled(value);
    }
}

/// Fills in what follows from the other fields.
fn derive(user: &mut User, given_raw: bool) {
    let names = [user.first_name.as_deref(), user.last_name.as_deref()];
    let names: Vec<&str> = names.into_iter().flatten().collect();
    user.name = filled(names.join(" "));
    user.username = user.email.clone();
    user.emails = user
        .email
        .iter()
        .map(|_| Email { primary: true, kind: "work".to_owned(), value: user.email.clone() })
        .collect();
    user.custom_attributes.job_title = user.job_title.clone();
    user.roles = user.role.iter().cloned().collect();
    if !given_raw {
        user.raw_attributes = json!({
            "id": user.idp_id,
            "userName": user.email,
            "name": {"givenName": user.first_name, "familyName": user.last_name},
            "title": user.job_title,
            "active": user.is_active(),
        });
    }
}
