//! What there is: directories, users, groups and memberships, and how to read them. The changes are in `changes`,
//! `user_changes` and `directory_changes`, the API's answers in `answers`.
//!
//! No clock, no network, no chance: the time is set from outside, and the events of a change are taken by the caller.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use chrono::{DateTime, Utc};

use crate::endpoints::WebhookEndpoints;
use crate::entries::{DirectoryEntry, GroupEntry, Id, UserEntry, Words};
use crate::events::{EmittedEvent, Outbox, TokenData};
use crate::history::Versioned;
use crate::ids::Ids;
use crate::inputs::Deactivation;
use crate::limits::Limits;
use crate::options::{Options, UnknownCursor};
use crate::paging::{Page, PageQuery, page};
use crate::records::{Directory, Group, Truth, User};

/// An environment without a server: its state, and the API's answers from it.
///
/// It is synchronous and repeatable: the time comes from [`World::set_now`], rate limits included, every id from the
/// seed. Changes are made by its methods, requests are answered by [`World::answer`], events are collected by
/// [`World::take_events`]. [`Emulator`](crate::Emulator) serves one over HTTP.
#[derive(Debug)]
pub struct World {
    pub(crate) settings: Settings,
    pub(crate) out: Outbox,
    pub(crate) organizations: BTreeMap<Id, String>,
    pub(crate) directory_ids: BTreeSet<Id>,
    pub(crate) directories: Versioned<DirectoryEntry>,
    pub(crate) users: Versioned<UserEntry>,
    pub(crate) groups: Versioned<GroupEntry>,
    /// Users who are gone, as they were: for a rehire.
    pub(crate) departed: HashMap<Id, UserEntry>,
    pub(crate) tokens: BTreeMap<String, TokenData>,
    pub(crate) words: Words,
    pub(crate) endpoints: WebhookEndpoints,
    pub(crate) limits: Limits,
    /// What the limits take for 1970: only differences matter to them.
    epoch: Instant,
}

/// What requests and changes go by.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) api_key: String,
    pub(crate) embed_groups: bool,
    pub(crate) omit_inactive_from_group_members: bool,
    pub(crate) unknown_cursor: UnknownCursor,
    pub(crate) older_deletions: bool,
    pub(crate) limits_scale: f64,
    pub(crate) webhook_secret: Option<String>,
}

/// What narrows the list of directories. Source: parameters of `GET /directories` in WorkOS's OpenAPI document.
#[derive(Debug, Default)]
pub(crate) struct DirectoryFilter<'a> {
    pub(crate) organization_id: Option<&'a str>,
    pub(crate) search: Option<String>,
    pub(crate) domain: Option<&'a str>,
}

impl World {
    /// An empty environment. Of `options`, what concerns the server and the sending of webhooks has no effect.
    pub fn new(options: &Options) -> Self {
        let scaled = |limit: u32| (f64::from(limit) * options.limits_scale).ceil() as u32;
        Self {
            settings: Settings {
                api_key: options.api_key.clone(),
                embed_groups: options.embed_groups,
                omit_inactive_from_group_members: options.omit_inactive_from_group_members,
                unknown_cursor: options.unknown_cursor,
                older_deletions: options.older_deletions,
                limits_scale: options.limits_scale,
                webhook_secret: options.webhook_secret.clone(),
            },
            out: Outbox::new(Ids::seeded(options.seed)),
            organizations: BTreeMap::new(),
            directory_ids: BTreeSet::new(),
            directories: Versioned::default(),
            users: Versioned::default(),
            groups: Versioned::default(),
            departed: HashMap::new(),
            tokens: BTreeMap::new(),
            words: Words::default(),
            endpoints: WebhookEndpoints::default(),
            limits: Limits::new(scaled(options.requests_per_minute), scaled(options.directory_users_per_second)),
            epoch: Instant::now(),
        }
    }

    /// The time of the world, which starts in 1970.
    pub fn now(&self) -> DateTime<Utc> {
        self.out.now()
    }

    /// The same time, as the limits reckon it.
    pub(crate) fn instant(&self) -> Instant {
        let since = self.now().signed_duration_since(DateTime::UNIX_EPOCH);
        self.epoch + since.to_std().unwrap_or_default()
    }

    /// Accepts only this bearer key from now on.
    pub fn set_api_key(&mut self, key: &str) {
        self.settings.api_key = key.to_owned();
    }

    /// Whether deletions go as in older environments; see [`Options::older_deletions`].
    pub fn set_older_deletions(&mut self, older: bool) {
        self.settings.older_deletions = older;
    }

    /// Whether lists of a group's members leave out inactive users; see [`Options::omit_inactive_from_group_members`].
    pub fn set_omit_inactive_from_group_members(&mut self, omit: bool) {
        self.settings.omit_inactive_from_group_members = omit;
    }

    /// How this environment tells of a deactivation, if nothing else is asked for.
    pub fn default_deactivation(&self) -> Deactivation {
        if self.settings.older_deletions { Deactivation::UpdatedInactive } else { Deactivation::DeletedGone }
    }

    /// Sets the time of the changes to come; an earlier time than before has no effect.
    pub fn set_now(&mut self, now: DateTime<Utc>) {
        self.out.set_now(now);
        self.tell_time(self.out.now());
    }

    /// The events since the last call, in their order. The Events API goes on answering them.
    pub fn take_events(&mut self) -> Vec<EmittedEvent> {
        self.out.log.take()
    }

    /// Every event that the Events API could answer, in order.
    pub fn events(&self) -> Vec<EmittedEvent> {
        self.out.log.all()
    }

    /// Forgets the events from before `before`, as production does after 90 days.
    pub fn prune_events(&mut self, before: DateTime<Utc>) {
        self.out.log.prune(before);
    }

    /// Runs `change` without any event: nothing is emitted, nothing logged.
    pub fn silently<T>(&mut self, change: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.out.silent, true);
        let result = change(self);
        self.out.silent = before;
        result
    }

    pub(crate) fn directory(&self, id: &str) -> Option<&Directory> {
        self.directories.get(id).map(|entry| &entry.record)
    }

    pub(crate) fn user(&self, id: &str) -> Option<User> {
        self.users.get(id).map(UserEntry::record)
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
                page(&entry.members, query, |id| !omit_inactive || self.users.get(id).is_some_and(UserEntry::is_active))
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

    /// A copy of everything that the API could answer.
    pub fn truth(&self) -> Truth {
        let mut truth = Truth::default();
        for entry in self.directories.values() {
            let record = entry.record.clone();
            truth.directories.insert(record.id.clone(), record);
        }
        for record in self.users.values().map(UserEntry::record) {
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
    use crate::inputs::{NewDirectory, NewUser, UserChange, WorldError};

    fn new_world() -> World {
        World::new(&Options { seed: 1, ..Options::default() })
    }

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
        let mut world = new_world();
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
            let mut world = new_world();
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
        let mut world = new_world();
        let (acme, other) = (acme(&mut world), acme(&mut world));
        let ada = world.create_user(&acme, NewUser::named("Ada", "L", "acme.example"))?;
        let team = world.create_group(&other, "Team")?;
        let refused = Err(WorldError::UnknownUser(ada.clone()));
        assert_eq!(world.add_member(&team, &ada), refused);
        Ok(())
    }
}
