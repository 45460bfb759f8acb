//! Reads the world as it was: it is put back to that time, read, and put forward again. The cost is that of the changes
//! since, whatever the size of the world.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::entries::{DirectoryEntry, GroupEntry, Id, UserEntry};
use crate::records::{Directory, Group};
use crate::world::World;

/// A list that ids can be in.
enum Listing {
    Directories,
    UsersOf(Id),
    GroupsOf(Id),
    MembersOf(Id),
}

/// One step between the present and the past. Carried out, it gives the step back.
enum Step {
    Directory(Id, Option<DirectoryEntry>),
    DirectoryRecord(Id, Directory),
    Group(Id, Option<GroupEntry>),
    GroupRecord(Id, Group),
    User(Id, Option<Box<UserEntry>>),
    Listed { listing: Listing, id: Id, present: bool },
}

impl World {
    /// Keeps what was for so long from now on, for [`World::answer_from`]; what is kept already is forgotten when it is
    /// zero, as it is at first.
    pub fn keep_history(&mut self, window: Duration) {
        let window = TimeDelta::from_std(window).unwrap_or(TimeDelta::MAX);
        self.directories.window = window;
        self.users.window = window;
        self.groups.window = window;
        self.tell_time(self.out.now());
    }

    /// Tells the histories the time of the changes to come.
    pub(crate) fn tell_time(&mut self, now: DateTime<Utc>) {
        self.directories.set_now(now);
        self.users.set_now(now);
        self.groups.set_now(now);
    }

    /// Reads the world as it was at `time`, as far back as it is kept.
    pub(crate) fn read_as_of<T>(&mut self, time: DateTime<Utc>, read: impl FnOnce(&World) -> T) -> T {
        let mut back: Vec<Step> = Vec::new();
        for step in self.steps_to(time) {
            back.extend(self.carry_out(step));
        }
        let result = read(self);
        for step in back.into_iter().rev() {
            self.carry_out(step);
        }
        result
    }

    /// The steps to a past: directories first, then groups, so that each list is there before what is in it.
    fn steps_to(&self, time: DateTime<Utc>) -> Vec<Step> {
        let mut steps = Vec::new();
        for (id, was) in self.directories.since(time) {
            let is = self.directories.contains_key(&id);
            steps.push(Step::Listed { listing: Listing::Directories, id: id.clone(), present: was.is_some() });
            steps.push(match was {
                Some(shell) if is => Step::DirectoryRecord(id, shell.record),
                was => Step::Directory(id, was),
            });
        }
        for (id, was) in self.groups.since(time) {
            let is = self.groups.get(&id);
            if let Some(entry) = was.as_ref().or(is) {
                let listing = Listing::GroupsOf(entry.home.directory_id.clone());
                steps.push(Step::Listed { listing, id: id.clone(), present: was.is_some() });
            }
            steps.push(match was {
                Some(shell) if is.is_some() => Step::GroupRecord(id, shell.record),
                was => Step::Group(id, was),
            });
        }
        for (id, was) in self.users.since(time) {
            let is = self.users.get(&id);
            if let Some(entry) = was.as_ref().or(is) {
                let listing = Listing::UsersOf(entry.home.directory_id.clone());
                steps.push(Step::Listed { listing, id: id.clone(), present: was.is_some() });
            }
            let (old, new) = (groups(was.as_ref()), groups(is));
            steps.extend(old.symmetric_difference(&new).map(|group| Step::Listed {
                listing: Listing::MembersOf((*group).clone()),
                id: id.clone(),
                present: old.contains(group),
            }));
            steps.push(Step::User(id, was.map(Box::new)));
        }
        steps
    }

    /// `None` if nothing came of it.
    fn carry_out(&mut self, step: Step) -> Option<Step> {
        match step {
            Step::Directory(id, entry) => {
                let was = self.directories.replace(&id, entry);
                Some(Step::Directory(id, was))
            }
            Step::Group(id, entry) => {
                let was = self.groups.replace(&id, entry);
                Some(Step::Group(id, was))
            }
            Step::User(id, entry) => {
                let was = self.users.replace(&id, entry.map(|entry| *entry));
                Some(Step::User(id, was.map(Box::new)))
            }
            Step::DirectoryRecord(id, record) => {
                let entry = self.directories.present.get_mut(&id)?;
                let was = std::mem::replace(&mut entry.record, record);
                Some(Step::DirectoryRecord(id, was))
            }
            Step::GroupRecord(id, record) => {
                let entry = self.groups.present.get_mut(&id)?;
                let was = std::mem::replace(&mut entry.record, record);
                Some(Step::GroupRecord(id, was))
            }
            Step::Listed { listing, id, present } => {
                let set = self.listing(&listing)?;
                let changed = if present { set.insert(id.clone()) } else { set.remove(&id) };
                changed.then_some(Step::Listed { listing, id, present: !present })
            }
        }
    }

    fn listing(&mut self, listing: &Listing) -> Option<&mut BTreeSet<Id>> {
        match listing {
            Listing::Directories => Some(&mut self.directory_ids),
            Listing::UsersOf(id) => self.directories.present.get_mut(id).map(|entry| &mut entry.users),
            Listing::GroupsOf(id) => self.directories.present.get_mut(id).map(|entry| &mut entry.groups),
            Listing::MembersOf(id) => self.groups.present.get_mut(id).map(|entry| &mut entry.members),
        }
    }
}

fn groups(entry: Option<&UserEntry>) -> BTreeSet<&Id> {
    entry.into_iter().flat_map(|entry| &entry.groups).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::{Deactivation, NewDirectory, NewUser, UserChange, WorldError};
    use crate::options::Options;
    use crate::records::Truth;

    const WINDOW: Duration = Duration::from_secs(10);

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).expect("the time is in range")
    }

    /// What a reader sees: the records, and the lists by every way to them.
    type View = (Truth, Vec<String>);

    fn seen(world: &World) -> View {
        let mut lists = Vec::new();
        let mut list = |name: &str, ids: &BTreeSet<Id>| lists.push(format!("{name}: {ids:?}"));
        list("directories", &world.directory_ids);
        for (id, entry) in world.directories.iter() {
            list(&format!("users of {id}"), &entry.users);
            list(&format!("groups of {id}"), &entry.groups);
        }
        for (id, entry) in world.groups.iter() {
            list(&format!("members of {id}"), &entry.members);
        }
        for (id, entry) in world.users.iter() {
            list(&format!("groups of {id}"), &entry.groups);
        }
        lists.sort();
        (world.truth(), lists)
    }

    /// Every kind of change, one a second, and what was to be seen after each.
    fn story() -> Result<(World, Vec<View>), WorldError> {
        let mut world = World::new(&Options { seed: 1, ..Options::default() });
        let mut views = Vec::new();
        world.set_now(at(0));
        let acme = world.create_directory(NewDirectory::named("Acme"));
        let person = |name: &str| NewUser::named(name, "L", "acme.example");
        let (ada, alan) = (world.create_user(&acme, person("Ada"))?, world.create_user(&acme, person("Alan"))?);
        let (team, crew) = (world.create_group(&acme, "Team")?, world.create_group(&acme, "Crew")?);
        for user in [&ada, &alan] {
            world.add_member(&team, user)?;
        }
        world.keep_history(WINDOW);
        type Change<'a> = Box<dyn Fn(&mut World) -> Result<(), WorldError> + 'a>;
        let changes: Vec<Change<'_>> = vec![
            Box::new(|_| Ok(())),
            Box::new(|world| {
                let change = UserChange { email: Some("ada@acme.example".to_owned()), ..UserChange::default() };
                world.update_user(&ada, change)?;
                world.remove_member(&team, &ada)?;
                world.add_member(&crew, &ada).map(drop)
            }),
            Box::new(|world| {
                let grace = world.create_user(&acme, person("Grace"))?;
                world.add_member(&team, &grace).map(drop)
            }),
            Box::new(|world| world.deactivate_user(&alan, Deactivation::DeletedGone)),
            Box::new(|world| world.rename_group(&team, "Party")),
            Box::new(|world| world.delete_group(&crew)),
            Box::new(|world| {
                world.create_directory(NewDirectory::named("Globex"));
                world.set_directory_state(&acme, "unlinked")
            }),
            Box::new(|world| world.delete_directory(&acme)),
        ];
        for (second, change) in (0..).zip(&changes) {
            world.set_now(at(second));
            change(&mut world)?;
            views.push(seen(&world));
        }
        Ok((world, views))
    }

    #[test]
    fn each_past_is_what_was_seen_then_and_leaves_the_present_alone() -> Result<(), WorldError> {
        let (mut world, views) = story()?;
        let present = seen(&world);
        for (second, view) in (0..).zip(&views) {
            for time in [at(second), at(second) + TimeDelta::milliseconds(999)] {
                assert_eq!(world.read_as_of(time, seen), *view, "{second}");
                assert_eq!(seen(&world), present, "{second}");
            }
        }
        Ok(())
    }

    #[test]
    fn only_the_window_is_kept() -> Result<(), WorldError> {
        let (mut world, views) = story()?;
        world.set_now(at(14));
        // What the changes up to the fourth second superseded is forgotten.
        assert_eq!(world.read_as_of(at(0), seen), views[4]);
        world.set_now(at(100));
        assert_eq!(world.users.superseded.len() + world.groups.superseded.len(), 0);
        assert_eq!(world.read_as_of(at(0), seen), seen(&world));
        let (mut world, _) = story()?;
        world.keep_history(Duration::ZERO);
        assert_eq!(world.read_as_of(at(0), seen), seen(&world));
        Ok(())
    }
}
