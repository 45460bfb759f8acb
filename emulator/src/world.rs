//! What there is: directories, users, groups and memberships, and how to read them. The changes are in `changes` and `user_changes`.
//!
//! No clock, no network: the time is set from outside, and the events of a change are collected by the caller.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::events::{EmittedEvent, Outbox};
use crate::history::Versioned;
use crate::ids::Ids;
use crate::paging::{Page, PageQuery, page};
use crate::records::{Directory, Group, Truth, User};

/// Ids are shared between the indexes: a membership costs two pointers.
pub(crate) type Id = Arc<str>;

/// The state of an environment, with an index for every list that the API offers.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) out: Outbox,
    pub(crate) directory_ids: BTreeSet<Id>,
    pub(crate) directories: Versioned<DirectoryEntry>,
    pub(crate) users: Versioned<UserEntry>,
    pub(crate) groups: Versioned<GroupEntry>,
}

#[derive(Debug)]
pub(crate) struct DirectoryEntry {
    pub(crate) record: Directory,
    pub(crate) users: BTreeSet<Id>,
    pub(crate) groups: BTreeSet<Id>,
}

#[derive(Clone, Debug)]
pub(crate) struct UserEntry {
    pub(crate) record: User,
    pub(crate) groups: BTreeSet<Id>,
    /// The raw attributes were given, and are not derived from the other fields.
    pub(crate) given_raw: bool,
    /// A deletion was announced, though the record is kept.
    pub(crate) deleted: bool,
}

#[derive(Debug)]
pub(crate) struct GroupEntry {
    pub(crate) record: Group,
    pub(crate) members: BTreeSet<Id>,
}

/// What narrows the list of directories. Source: parameters of `GET /directories` in WorkOS's OpenAPI document.
#[derive(Debug, Default)]
pub(crate) struct DirectoryFilter<'a> {
    pub(crate) organization_id: Option<&'a str>,
    pub(crate) search: Option<String>,
    pub(crate) domain: Option<&'a str>,
}

impl World {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self {
            out: Outbox::new(Ids::seeded(seed)),
            directory_ids: BTreeSet::new(),
            directories: Versioned::default(),
            users: Versioned::default(),
            groups: Versioned::default(),
        }
    }

    /// Sets the time of the changes to come; an earlier time than before has no effect.
    pub(crate) fn set_now(&mut self, now: DateTime<Utc>) {
        self.out.set_now(now);
        self.tell_time(self.out.now());
    }

    /// The events since the last call, in their order.
    pub(crate) fn take_events(&mut self) -> Vec<EmittedEvent> {
        self.out.take()
    }

    pub(crate) fn directory(&self, id: &str) -> Option<&Directory> {
        self.directories.get(id).map(|entry| &entry.record)
    }

    pub(crate) fn user(&self, id: &str) -> Option<&User> {
        self.users.get(id).map(|entry| &entry.record)
    }

    pub(crate) fn group(&self, id: &str) -> Option<&Group> {
        self.groups.get(id).map(|entry| &entry.record)
    }

    /// The groups of a user, in the order of their making.
    pub(crate) fn groups_of(&self, user_id: &str) -> Vec<&Group> {
        let groups = self.users.get(user_id).map(|entry| &entry.groups);
        groups.into_iter().flatten().filter_map(|id| self.group(id)).collect()
    }

    pub(crate) fn directories_page(&self, query: &PageQuery, filter: &DirectoryFilter<'_>) -> Page<'_> {
        page(&self.directory_ids, query, |id| self.directory(id).is_some_and(|directory| filter.accepts(directory)))
    }

    pub(crate) fn directory_users_page(&self, directory_id: &str, query: &PageQuery) -> Page<'_> {
        match self.directories.get(directory_id) {
            Some(entry) => page(&entry.users, query, |_| true),
            None => Page::default(),
        }
    }

    pub(crate) fn directory_groups_page(&self, directory_id: &str, query: &PageQuery) -> Page<'_> {
        match self.directories.get(directory_id) {
            Some(entry) => page(&entry.groups, query, |_| true),
            None => Page::default(),
        }
    }

    pub(crate) fn members_page(&self, group_id: &str, query: &PageQuery, omit_inactive: bool) -> Page<'_> {
        match self.groups.get(group_id) {
            Some(entry) => {
                page(&entry.members, query, |id| !omit_inactive || self.user(id).is_some_and(User::is_active))
            }
            None => Page::default(),
        }
    }

    pub(crate) fn user_groups_page(&self, user_id: &str, query: &PageQuery) -> Page<'_> {
        match self.users.get(user_id) {
            Some(entry) => page(&entry.groups, query, |_| true),
            None => Page::default(),
        }
    }

    pub(crate) fn truth(&self) -> Truth {
        let mut truth = Truth::default();
        for entry in self.directories.values() {
            let record = entry.record.clone();
            truth.directories.insert(record.id.clone(), record);
        }
        for entry in self.users.values() {
            let record = entry.record.clone();
            truth.users.insert(record.id.clone(), record);
        }
        for entry in self.groups.values() {
            let record = entry.record.clone();
            let edges = entry.members.iter();
            truth.members.extend(edges.map(|user| (record.id.clone(), user.to_string())));
            truth.groups.insert(record.id.clone(), record);
        }
        truth
    }
}

impl DirectoryFilter<'_> {
    fn accepts(&self, directory: &Directory) -> bool {
        self.organization_id.is_none_or(|id| directory.organization_id == id)
            && self.domain.is_none_or(|domain| directory.domain.as_deref() == Some(domain))
            && self.search.as_ref().is_none_or(|text| directory.name.to_lowercase().contains(text))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::inputs::{Deactivation, NewDirectory, NewUser, UserChange, WorldError};

    /// The events since the last call: types and data.
    fn emitted(world: &mut World) -> Vec<(String, Value)> {
        let events = world.take_events().into_iter();
        events
            .map(|event| {
                let body: Value = serde_json::from_slice(&event.body).expect("an event's body is JSON");
                assert_eq!(body["id"], event.id.as_str());
                assert_eq!(body["event"], event.event.as_str());
                (event.event, body["data"].clone())
            })
            .collect()
    }

    /// The only event since the last call.
    fn only(world: &mut World, event: &str) -> Value {
        let events = emitted(world);
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(events[0].0, event);
        events[0].1.clone()
    }

    fn acme(world: &mut World) -> String {
        let id = world.create_directory(NewDirectory::named("Acme"));
        let data = only(world, "dsync.activated");
        assert_eq!(data["state"], "active");
        assert_eq!(data["domains"][0]["domain"], "acme.example");
        assert!(data.get("domain").is_none());
        id
    }

    #[test]
    fn each_change_emits_what_production_emits() -> Result<(), WorldError> {
        let mut world = World::seeded(1);
        let acme = acme(&mut world);
        let ada = world.create_user(&acme, NewUser::named("Ada", "Lovelace", "acme.example"))?;
        let data = only(&mut world, "dsync.user.created");
        assert_eq!(data["name"], "Ada Lovelace");
        assert!(data.get("groups").is_none());
        let team = world.create_group(&acme, "Team")?;
        only(&mut world, "dsync.group.created");

        assert!(world.add_member(&team, &ada)?);
        let data = only(&mut world, "dsync.group.user_added");
        assert_eq!(data["user"]["id"], ada.as_str());
        assert_eq!(data["group"]["id"], team.as_str());
        assert_eq!(data["directory_id"], acme.as_str());
        assert!(!world.add_member(&team, &ada)?);
        assert!(emitted(&mut world).is_empty());

        let change = UserChange { email: Some("ada@acme.example".to_owned()), ..UserChange::default() };
        world.update_user(&ada, change.clone())?;
        let data = only(&mut world, "dsync.user.updated");
        let previous = &data["previous_attributes"];
        assert_eq!(previous["email"], "ada.lovelace@acme.example");
        assert!(previous.get("state").is_none());
        world.update_user(&ada, change)?;
        assert!(emitted(&mut world).is_empty());

        world.rename_group(&team, "Crew")?;
        let data = only(&mut world, "dsync.group.updated");
        assert_eq!(data["previous_attributes"]["name"], "Team");
        assert!(world.remove_member(&team, &ada)?);
        only(&mut world, "dsync.group.user_removed");
        world.delete_group(&team)?;
        only(&mut world, "dsync.group.deleted");
        world.set_directory_state(&acme, "unlinked")?;
        assert!(emitted(&mut world).is_empty());
        world.delete_directory(&acme)?;
        let data = only(&mut world, "dsync.deleted");
        assert_eq!(data["state"], "inactive");
        assert_eq!(world.truth(), Truth::default());
        Ok(())
    }

    #[test]
    fn deactivation_in_its_three_ways() -> Result<(), WorldError> {
        for (how, event) in [
            (Deactivation::UpdatedInactive, "dsync.user.updated"),
            (Deactivation::DeletedKept, "dsync.user.deleted"),
            (Deactivation::DeletedGone, "dsync.user.deleted"),
        ] {
            let mut world = World::seeded(1);
            let acme = acme(&mut world);
            let ada = world.create_user(&acme, NewUser::named("Ada", "L", "acme.example"))?;
            let team = world.create_group(&acme, "Team")?;
            world.add_member(&team, &ada)?;
            world.take_events();

            world.deactivate_user(&ada, how)?;
            let data = only(&mut world, event);
            assert_eq!(data["state"], "inactive");
            let kept = how != Deactivation::DeletedGone;
            let truth = world.truth();
            assert_eq!(truth.users.contains_key(&ada), kept);
            assert_eq!(truth.members.len(), usize::from(kept));
            let counts = truth.directories[&acme].metadata.users;
            assert_eq!((counts.active, counts.inactive), (0, u64::from(kept)));
            if kept {
                world.deactivate_user(&ada, how)?;
                assert!(emitted(&mut world).is_empty());
                world.reactivate_user(&ada)?;
                let data = only(&mut world, "dsync.user.updated");
                assert_eq!(data["previous_attributes"]["state"], "inactive");
                assert_eq!(world.truth().members.len(), 1);
            } else {
                let gone = Err(WorldError::UnknownUser(ada.clone()));
                assert_eq!(world.reactivate_user(&ada), gone);
            }
        }
        Ok(())
    }

    #[test]
    fn memberships_stay_within_a_directory() -> Result<(), WorldError> {
        let mut world = World::seeded(1);
        let (acme, other) = (acme(&mut world), acme(&mut world));
        let ada = world.create_user(&acme, NewUser::named("Ada", "L", "acme.example"))?;
        let team = world.create_group(&other, "Team")?;
        let refused = Err(WorldError::UnknownUser(ada.clone()));
        assert_eq!(world.add_member(&team, &ada), refused);
        Ok(())
    }
}
