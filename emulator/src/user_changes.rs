//! The changes of users, each with exactly the events that production sends for it.

use std::collections::BTreeSet;

use crate::entries::{ACTIVE, INACTIVE, Id, UserEntry, Words};
use crate::events::Updated;
use crate::inputs::{Deactivation, NewUser, UserChange, WorldError};
use crate::records::UserCounts;
use crate::world::World;

impl World {
    /// Makes an active user and returns its id. Emits `dsync.user.created`.
    ///
    /// # Errors
    /// The directory does not exist.
    pub fn create_user(&mut self, directory_id: &str, new: NewUser) -> Result<String, WorldError> {
        self.create_user_in_state(directory_id, new, ACTIVE)
    }

    /// As [`World::create_user`], with the user in `state` from the first.
    ///
    /// # Errors
    /// The directory does not exist.
    pub fn create_user_in_state(
        &mut self,
        directory_id: &str,
        new: NewUser,
        state: &str,
    ) -> Result<String, WorldError> {
        let now = self.out.now();
        let home = self.directory_entry(directory_id)?.home.clone();
        let id = Id::from(self.out.ids.next("directory_user_"));
        let idp_id = new.idp_id.unwrap_or_else(|| format!("00u{}", self.out.ids.key(17)));
        let words = &mut self.words;
        let entry = UserEntry {
            id: id.clone(),
            home,
            idp_id: idp_id.into(),
            email: boxed(new.email),
            first_name: words.share_filled(&new.first_name),
            last_name: words.share_filled(&new.last_name),
            job_title: words.share_filled(&new.job_title),
            department: words.share_filled(&new.department),
            role: new.role.and_then(|slug| words.share_filled(&slug)),
            state: words.share(state),
            raw: new.raw_attributes.map(Box::new),
            created_at: now,
            updated_at: now,
            deleted: false,
            groups: BTreeSet::new(),
        };
        self.insert_user(entry);
        Ok(id.to_string())
    }

    fn insert_user(&mut self, entry: UserEntry) {
        if !self.out.silent {
            self.out.emit("dsync.user.created", &entry.home.organization_id, &entry.record());
        }
        if let Some(directory) = self.directories.get_mut(&entry.home.directory_id) {
            directory.users.insert(entry.id.clone());
            *state_count(&mut directory.record.metadata.users, &entry.state) += 1;
        }
        self.users.insert(entry.id.clone(), entry);
    }

    /// Changes a user. Emits `dsync.user.updated`, if anything changes.
    ///
    /// # Errors
    /// The user does not exist.
    pub fn update_user(&mut self, id: &str, change: UserChange) -> Result<(), WorldError> {
        self.alter_user(id, |user, words| {
            replace(words, &mut user.first_name, change.first_name);
            replace(words, &mut user.last_name, change.last_name);
            replace(words, &mut user.job_title, change.job_title);
            replace(words, &mut user.department, change.department);
            replace(words, &mut user.role, change.role);
            if let Some(email) = change.email {
                user.email = boxed(email);
            }
        })
    }

    /// Deactivates a user; see [`Deactivation`] for what is emitted. Nothing is, if there is nothing left to do.
    ///
    /// # Errors
    /// The user does not exist.
    pub fn deactivate_user(&mut self, id: &str, deactivation: Deactivation) -> Result<(), WorldError> {
        match deactivation {
            Deactivation::UpdatedInactive => self.set_user_state(id, INACTIVE),
            Deactivation::DeletedKept => self.delete_but_keep_user(id),
            Deactivation::DeletedGone => self.delete_user(id),
        }
    }

    /// Makes a kept user active again, with the memberships it had, which are not announced again. Emits
    /// `dsync.user.updated`, if it was not active.
    ///
    /// # Errors
    /// The user does not exist.
    pub fn reactivate_user(&mut self, id: &str) -> Result<(), WorldError> {
        self.set_user_state(id, ACTIVE)
    }

    /// Suspends a user: `dsync.user.updated` with the state `suspended`, unless it was.
    ///
    /// # Errors
    /// The user does not exist.
    pub fn suspend_user(&mut self, id: &str) -> Result<(), WorldError> {
        self.set_user_state(id, "suspended")
    }

    /// Sets any state, known to WorkOS's documents or not. Emits `dsync.user.updated`, if it is another one.
    ///
    /// # Errors
    /// The user does not exist.
    pub fn set_user_state(&mut self, id: &str, state: &str) -> Result<(), WorldError> {
        if state == ACTIVE {
            // Who is there again is announced again when leaving.
            self.user_entry(id)?.deleted = false;
        }
        self.alter_user(id, |user, words| user.state = words.share(state))
    }

    /// Brings somebody back who left, as newer environments do: a new user with the same `idp_id`, address and attributes,
    /// and without memberships. Returns the new id. Emits `dsync.user.created`.
    ///
    /// # Errors
    /// Nobody had this id, or the person is active, under this id or another one.
    pub fn rehire_user(&mut self, id: &str) -> Result<String, WorldError> {
        let former = self.departed.get(id).or_else(|| self.users.get(id));
        let former = former.ok_or_else(|| WorldError::UnknownUser(id.to_owned()))?;
        let directory = self.directories.get(&former.home.directory_id);
        let colleagues = directory.iter().flat_map(|directory| &directory.users).filter_map(|id| self.users.get(id));
        let is_there = |user: &UserEntry| user.is_active() && user.idp_id == former.idp_id;
        if former.is_active() || colleagues.into_iter().any(is_there) {
            return Err(WorldError::StillActive(id.to_owned()));
        }
        let now = self.out.now();
        let new_id = Id::from(self.out.ids.next("directory_user_"));
        let entry = UserEntry {
            id: new_id.clone(),
            state: self.words.share(ACTIVE),
            created_at: now,
            updated_at: now,
            deleted: false,
            groups: BTreeSet::new(),
            ..former.clone()
        };
        self.insert_user(entry);
        Ok(new_id.to_string())
    }

    fn delete_but_keep_user(&mut self, id: &str) -> Result<(), WorldError> {
        let now = self.out.now();
        let inactive = self.words.share(INACTIVE);
        let entry = self.user_entry(id)?;
        if entry.deleted {
            return Ok(());
        }
        entry.deleted = true;
        let was = std::mem::replace(&mut entry.state, inactive);
        if &*was != INACTIVE {
            entry.updated_at = now;
        }
        let (record, home) = (entry.record(), entry.home.clone());
        self.count_state(&home.directory_id, &was, INACTIVE);
        self.out.emit("dsync.user.deleted", &home.organization_id, &record);
        Ok(())
    }

    /// Deletes a user for good; its memberships vanish without events of their own. Emits `dsync.user.deleted`, unless a
    /// deletion was announced before.
    ///
    /// # Errors
    /// The user does not exist.
    pub fn delete_user(&mut self, id: &str) -> Result<(), WorldError> {
        let now = self.out.now();
        let mut entry = self.users.remove(id).ok_or_else(|| WorldError::UnknownUser(id.to_owned()))?;
        for group in std::mem::take(&mut entry.groups) {
            if let Some(group) = self.groups.get_mut(&group) {
                group.members.remove(id);
            }
        }
        if let Some(directory) = self.directories.get_mut(&entry.home.directory_id) {
            directory.users.remove(id);
            *state_count(&mut directory.record.metadata.users, &entry.state) -= 1;
        }
        if entry.is_active() {
            entry.state = self.words.share(INACTIVE);
            entry.updated_at = now;
        }
        if !entry.deleted && !self.out.silent {
            self.out.emit("dsync.user.deleted", &entry.home.organization_id, &entry.record());
        }
        self.departed.insert(entry.id.clone(), entry);
        Ok(())
    }

    /// Applies `change` and emits `dsync.user.updated`, unless nothing came of it.
    fn alter_user(&mut self, id: &str, change: impl FnOnce(&mut UserEntry, &mut Words)) -> Result<(), WorldError> {
        let now = self.out.now();
        let Some(entry) = self.users.get_mut(id) else {
            return Err(WorldError::UnknownUser(id.to_owned()));
        };
        let old = entry.record();
        change(entry, &mut self.words);
        if entry.record() == old {
            return Ok(());
        }
        entry.updated_at = now;
        let (new, home) = (entry.record(), entry.home.clone());
        self.count_state(&home.directory_id, &old.state, &new.state);
        if !self.out.silent {
            self.out.emit("dsync.user.updated", &home.organization_id, &Updated::new(&old, &new));
        }
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

fn replace(words: &mut Words, field: &mut Option<Id>, value: Option<String>) {
    if let Some(value) = value {
        *field = words.share_filled(&value);
    }
}

/// An empty text is none.
fn boxed(text: String) -> Option<Box<str>> {
    (!text.is_empty()).then(|| text.into())
}
