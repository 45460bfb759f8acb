//! How a directory differs from what WorkOS says of it, read without changing anything.

use std::collections::{BTreeMap, BTreeSet};

use super::CommandError;
use crate::db::{Db, MirrorCopy};
use crate::model::{DirectoryId, GroupRecord, Paging, UserRecord, UserState};
use crate::sync::SyncError;
use crate::workos::{ApiError, ListFilter, Page, Priority, WorkosClient};

/// What WorkOS says of one directory.
#[derive(Debug, Default)]
struct Source {
    users: BTreeMap<String, UserRecord>,
    groups: BTreeMap<String, GroupRecord>,
    members: BTreeSet<(String, String)>,
    /// Records that cannot be read are there all the same.
    unreadable_users: Unreadable,
    unreadable_groups: Unreadable,
    /// Groups with members that cannot be told.
    vague_groups: BTreeSet<String>,
}

/// Records of a list that cannot be read.
#[derive(Debug, Default)]
struct Unreadable {
    ids: BTreeSet<String>,
    /// How many do not even show their id.
    nameless: usize,
}

impl Unreadable {
    /// What is told of them, and of an entity that no record names.
    fn lines<'a>(&self, kind: &str, absent: impl Iterator<Item = &'a str>) -> Vec<String> {
        let mut lines: Vec<String> = self.ids.iter().map(|id| format!("unreadable {kind} {id}")).collect();
        if self.nameless > 0 {
            lines.push(format!("unreadable {kind}: {} without an id, so that nobody counts as extra", self.nameless));
        } else {
            let extra = absent.filter(|id| !self.ids.contains(*id));
            lines.extend(extra.map(|id| format!("extra      {kind} {id}")));
        }
        lines
    }
}

/// Prints the drift of a directory, a line each, and answers whether there is any.
pub(super) async fn print(db: &Db, client: &WorkosClient, directory: &DirectoryId) -> Result<bool, CommandError> {
    let source = read(client, directory).await?;
    let found = compare(&source, &db.copy_mirror().await?, directory);
    found.iter().for_each(|line| say!("{line}"));
    say!("{directory}: {} difference(s)", found.len());
    Ok(!found.is_empty())
}

async fn read(client: &WorkosClient, directory: &DirectoryId) -> Result<Source, SyncError> {
    let caller = client.on_behalf_of(directory, Priority::Bulk);
    if caller.record().await?.is_none() {
        return Err(SyncError::Doubtful("the API does not know this directory: is the key of the right environment?"));
    }
    let mut source = Source::default();
    let whole = ListFilter::Directory(directory);
    let (users, unreadable) =
        read_list(async |after| caller.users(whole, after).await, |user| user.id.as_str()).await?;
    source.unreadable_users = unreadable;
    for user in users {
        source.users.insert(user.id.to_string(), user);
    }
    let (groups, unreadable) =
        read_list(async |after| caller.groups(whole, after).await, |group| group.id.as_str()).await?;
    source.unreadable_groups = unreadable;
    for group in groups {
        let of_group = ListFilter::Group(&group.id);
        let (users, unreadable) =
            read_list(async |after| caller.users(of_group, after).await, |user| user.id.as_str()).await?;
        if unreadable.nameless > 0 {
            source.vague_groups.insert(group.id.to_string());
        }
        let members = users.into_iter().map(|user| user.id.to_string()).chain(unreadable.ids);
        source.members.extend(members.map(|user| (group.id.to_string(), user)));
        source.groups.insert(group.id.to_string(), group);
    }
    Ok(source)
}

async fn read_list<R>(
    page: impl AsyncFn(Option<&str>) -> Result<Page<R>, ApiError>,
    id: impl Fn(&R) -> &str,
) -> Result<(Vec<R>, Unreadable), ApiError> {
    let (mut records, mut unreadable, mut paging) = (Vec::new(), Unreadable::default(), Paging::default());
    let mut after: Option<String> = None;
    loop {
        let page = page(after.as_deref()).await?;
        page.note_in(&mut paging, &id)?;
        records.extend(page.records);
        unreadable.nameless += page.unreadable - page.unreadable_ids.len();
        unreadable.ids.extend(page.unreadable_ids);
        after = page.after;
        if after.is_none() {
            return Ok((records, unreadable));
        }
    }
}

/// Each difference as a line of ids and names of fields.
fn compare(source: &Source, mirror: &MirrorCopy, directory: &DirectoryId) -> Vec<String> {
    let mut found = Vec::new();
    let users: BTreeMap<&str, _> = mirror
        .users
        .iter()
        .filter(|row| row.record.directory_id == *directory && row.deleted_at.is_none())
        .map(|row| (row.record.id.as_str(), row))
        .collect();
    let groups: BTreeMap<&str, _> = mirror
        .groups
        .iter()
        .filter(|row| row.record.directory_id == *directory && row.deleted_at.is_none())
        .map(|row| (row.record.id.as_str(), row))
        .collect();
    for (id, record) in &source.users {
        match users.get(id.as_str()) {
            None => found.push(format!("missing    user {id}")),
            Some(row) if row.record != *record => {
                found.push(format!("different  user {id}: {}", user_fields(&row.record, record).join(", ")));
            }
            Some(_) => {}
        }
    }
    let absent = users.keys().copied().filter(|id| !source.users.contains_key(*id));
    found.extend(source.unreadable_users.lines("user", absent));
    for (id, record) in &source.groups {
        match groups.get(id.as_str()) {
            None => found.push(format!("missing    group {id}")),
            Some(row) if row.record != *record => {
                found.push(format!("different  group {id}: {}", group_fields(&row.record, record).join(", ")));
            }
            Some(_) => {}
        }
    }
    let absent = groups.keys().copied().filter(|id| !source.groups.contains_key(*id));
    found.extend(source.unreadable_groups.lines("group", absent));
    // The memberships of what is extra go with it.
    let ours = |group: &str| source.groups.contains_key(group);
    let members: BTreeSet<(String, String)> = mirror.members.iter().filter(|(group, _)| ours(group)).cloned().collect();
    let line = |kind: &str, (group, user): &(String, String)| format!("{kind} member {user} of {group}");
    // Memberships of those who cannot be read cannot be mirrored.
    let missing = source.members.difference(&members).filter(|(_, user)| !source.unreadable_users.ids.contains(user));
    found.extend(missing.map(|edge| line("missing   ", edge)));
    // An inactive user's absence from a list decides nothing: its memberships may stand.
    let decided = |user: &str| {
        source.users.contains_key(user) && users.get(user).is_some_and(|row| row.state == UserState::Active)
    };
    let extra = members
        .difference(&source.members)
        .filter(|(group, user)| decided(user) && !source.vague_groups.contains(group));
    found.extend(extra.map(|edge| line("extra     ", edge)));
    found
}

/// Names of the fields whose values differ.
macro_rules! differing {
    ($a:expr, $b:expr; $($field:ident),+ $(,)?) => {{
        let mut fields = Vec::new();
        $(if $a.$field != $b.$field { fields.push(stringify!($field)); })+
        fields
    }};
}

fn user_fields(ours: &UserRecord, theirs: &UserRecord) -> Vec<&'static str> {
    differing!(ours, theirs; directory_id, organization_id, idp_id, email, first_name, last_name, display_name, username,
        job_title, state, role, custom_attributes, raw_attributes, created_at, updated_at)
}

fn group_fields(ours: &GroupRecord, theirs: &GroupRecord) -> Vec<&'static str> {
    differing!(ours, theirs; directory_id, organization_id, idp_id, name, raw_attributes, created_at, updated_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_not_extra() {
        let unreadable =
            |ids: &[&str], nameless| Unreadable { ids: ids.iter().map(|id| (*id).to_owned()).collect(), nameless };
        let absent = || ["a", "b"].into_iter();
        assert_eq!(unreadable(&["b"], 0).lines("user", absent()), ["unreadable user b", "extra      user a"]);
        let vague = unreadable(&[], 2).lines("user", absent());
        assert_eq!(vague, ["unreadable user: 2 without an id, so that nobody counts as extra"]);
    }
}
