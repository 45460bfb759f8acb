//! The life of directories, and the events that go with it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::changes::filled;
use crate::entries::{DirectoryEntry, Home, INACTIVE, Id};
use crate::events::{DirectoryData, MembershipData, TokenData};
use crate::inputs::{NewDirectory, WorldError};
use crate::records::{Directory, DirectoryMetadata};
use crate::world::World;

const LINKED: &str = "linked";

impl World {
    /// Makes an organization without a directory and returns its id. Emits nothing: `organization.created` is no concern
    /// of Directory Sync.
    pub fn create_organization(&mut self, name: &str) -> String {
        let id = self.out.ids.next("org_");
        self.add_organization(&id, name);
        id
    }

    /// As [`World::create_organization`], with an id of one's own.
    pub fn add_organization(&mut self, id: &str, name: &str) {
        self.organizations.insert(id.into(), name.to_owned());
    }

    /// Makes a directory, linked and empty, and returns its id. Emits `dsync.activated`.
    pub fn create_directory(&mut self, new: NewDirectory) -> String {
        let now = self.out.now();
        let organization_id = new.organization_id.unwrap_or_else(|| self.create_organization(&new.name));
        if !self.organizations.contains_key(organization_id.as_str()) {
            self.add_organization(&organization_id, &new.name);
        }
        let ids = &mut self.out.ids;
        let record = Directory {
            object: "directory",
            id: ids.next("directory_"),
            external_key: ids.key(16),
            kind: new.kind,
            state: LINKED.to_owned(),
            name: new.name,
            domain: filled(new.domain),
            metadata: DirectoryMetadata::default(),
            created_at: now,
            updated_at: now,
            organization_id,
        };
        let id = record.id.clone();
        let home =
            Home { directory_id: Id::from(id.as_str()), organization_id: record.organization_id.as_str().into() };
        let entry = DirectoryEntry {
            record,
            domain_id: ids.next("org_domain_"),
            users: BTreeSet::new(),
            groups: BTreeSet::new(),
            sync_requested_at: None,
            invented_users: 0,
            invented_groups: 0,
            home: Arc::new(home),
        };
        self.directory_ids.insert(entry.home.directory_id.clone());
        self.directories.insert(entry.home.directory_id.clone(), entry);
        self.announce_directory(&id, "dsync.activated");
        id
    }

    /// Sets a directory's state, in the API's words (`linked`, `unlinked`, `validating`, `invalid_credentials`,
    /// `deleting`). Emits nothing: only the API shows it, as production does for all but the two ends of a connection.
    ///
    /// # Errors
    /// The directory does not exist.
    pub fn set_directory_state(&mut self, id: &str, state: &str) -> Result<(), WorldError> {
        let now = self.out.now();
        let record = &mut self.directory_entry(id)?.record;
        if record.state != state {
            record.state = state.to_owned();
            record.updated_at = now;
        }
        Ok(())
    }

    /// Links a directory (again): `dsync.activated`, and then every user, group and membership is announced, as in an
    /// initial sync. Users whose deletion was announced are left out.
    ///
    /// # Errors
    /// The directory does not exist.
    pub fn activate_directory(&mut self, id: &str) -> Result<(), WorldError> {
        self.set_directory_state(id, LINKED)?;
        self.announce_directory(id, "dsync.activated");
        let Some(directory) = self.directories.get(id) else { return Ok(()) };
        let (home, out) = (directory.home.clone(), &mut self.out);
        for user in directory.users.iter().filter_map(|id| self.users.get(id)).filter(|user| !user.deleted) {
            out.emit("dsync.user.created", &home.organization_id, &user.record());
        }
        let groups = || directory.groups.iter().filter_map(|id| self.groups.get(id));
        for group in groups() {
            out.emit("dsync.group.created", &home.organization_id, &group.record);
        }
        for group in groups() {
            for user in group.members.iter().filter_map(|id| self.users.get(id)).filter(|user| !user.deleted) {
                let data = MembershipData { directory_id: id, user: &user.record(), group: &group.record };
                out.emit("dsync.group.user_added", &home.organization_id, &data);
            }
        }
        Ok(())
    }

    /// Unlinks a directory, and announces it by `dsync.deactivated`. Use [`World::set_directory_state`] for one that
    /// comes loose without a word: the event is in the Events API's schema, but no webhook endpoint can subscribe to it by
    /// name.
    ///
    /// # Errors
    /// The directory does not exist.
    pub fn unlink_directory(&mut self, id: &str) -> Result<(), WorldError> {
        self.set_directory_state(id, "unlinked")?;
        self.announce_directory(id, "dsync.deactivated");
        Ok(())
    }

    fn announce_directory(&mut self, id: &str, event: &'static str) {
        if let Some(entry) = self.directories.get(id) {
            let data = DirectoryData::activated(&entry.record, &entry.domain_id);
            self.out.emit(event, &entry.home.organization_id, &data);
        }
    }

    /// Deletes a directory and everything in it. Emits `dsync.deleted` and nothing else; in an environment with
    /// [`older_deletions`](crate::Options::older_deletions) everybody is announced first.
    ///
    /// # Errors
    /// The directory does not exist.
    pub fn delete_directory(&mut self, id: &str) -> Result<(), WorldError> {
        let entry = self.directories.remove(id).ok_or_else(|| WorldError::UnknownDirectory(id.to_owned()))?;
        self.directory_ids.remove(id);
        if self.settings.older_deletions {
            self.announce_everybody_gone(&entry);
        }
        for user in &entry.users {
            self.users.remove(user);
        }
        for group in &entry.groups {
            self.groups.remove(group);
        }
        self.departed.retain(|_, user| *user.home.directory_id != *id);
        self.tokens.retain(|_, token| token.directory_id != id);
        self.out.emit("dsync.deleted", &entry.home.organization_id, &DirectoryData::deleted(&entry.record));
        Ok(())
    }

    fn announce_everybody_gone(&mut self, directory: &DirectoryEntry) {
        let (organization_id, now) = (&directory.home.organization_id, self.out.now());
        let out = &mut self.out;
        let groups = || directory.groups.iter().filter_map(|id| self.groups.get(id));
        for group in groups() {
            for user in group.members.iter().filter_map(|id| self.users.get(id)) {
                let data =
                    MembershipData { directory_id: &directory.record.id, user: &user.record(), group: &group.record };
                out.emit("dsync.group.user_removed", organization_id, &data);
            }
        }
        let inactive = self.words.share(INACTIVE);
        for id in &directory.users {
            if let Some(user) = self.users.get_mut(id).filter(|user| !user.deleted) {
                if user.is_active() {
                    (user.state, user.updated_at) = (inactive.clone(), now);
                }
                out.emit("dsync.user.deleted", organization_id, &user.record());
            }
        }
        let groups = || directory.groups.iter().filter_map(|id| self.groups.get(id));
        for group in groups() {
            out.emit("dsync.group.deleted", organization_id, &group.record);
        }
    }

    /// Issues a bearer token for a directory's SCIM endpoint and returns its id. Emits `dsync.token.created`.
    ///
    /// # Errors
    /// The directory does not exist.
    pub fn create_token(&mut self, directory_id: &str) -> Result<String, WorldError> {
        let home = self.directory_entry(directory_id)?.home.clone();
        let token = TokenData {
            object: "directory_token",
            id: self.out.ids.next("directory_token_"),
            directory_id: directory_id.to_owned(),
            organization_id: home.organization_id.to_string(),
            token_suffix: self.out.ids.key(4),
            created_at: self.out.now(),
        };
        self.out.emit("dsync.token.created", &home.organization_id, &token);
        let id = token.id.clone();
        self.tokens.insert(id.clone(), token);
        Ok(id)
    }

    /// Revokes a token. Emits `dsync.token.revoked`.
    ///
    /// # Errors
    /// There is no such token, or no longer.
    pub fn revoke_token(&mut self, id: &str) -> Result<(), WorldError> {
        let token = self.tokens.remove(id).ok_or_else(|| WorldError::UnknownToken(id.to_owned()))?;
        self.out.emit("dsync.token.revoked", &token.organization_id.as_str().into(), &token);
        Ok(())
    }

    pub(crate) fn directory_entry(&mut self, id: &str) -> Result<&mut DirectoryEntry, WorldError> {
        self.directories.get_mut(id).ok_or_else(|| WorldError::UnknownDirectory(id.to_owned()))
    }
}
