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
    for user in read_list(async |after| caller.users(whole, after).await, |user| user.id.as_str()).await? {
        source.users.insert(user.id.to_string(), user);
    }
    for group in read_list(async |after| caller.groups(whole, after).await, |group| group.id.as_str()).await? {
        let of_group = ListFilter::Group(&group.id);
        for user in read_list(async |after| caller.users(of_group, after).await, |user| user.id.as_str()).await? {
            source.members.insert((group.id.to_string(), user.id.to_string()));
        }
        source.groups.insert(group.id.to_string(), group);
    }
    Ok(source)
}

async fn read_list<R>(
    page: impl AsyncFn(Option<&str>) -> Result<Page<R>, ApiError>,
    id: impl Fn(&R) -> &str,
) -> Result<Vec<R>, ApiError> {
    let (mut records, mut paging) = (Vec::new(), Paging::default());
    let mut after: Option<String> = None;
    loop {
        let page = page(after.as_deref()).await?;
        page.note_in(&mut paging, &id)?;
        records.extend(page.records);
        after = page.after;
        if after.is_none() {
            return Ok(records);
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
    found.extend(users.keys().filter(|id| !source.users.contains_key(**id)).map(|id| format!("extra      user {id}")));
    for (id, record) in &source.groups {
        match groups.get(id.as_str()) {
            None => found.push(format!("missing    group {id}")),
            Some(row) if row.record != *record => {
                found.push(format!("different  group {id}: {}", group_fields(&row.record, record).join(", ")));
            }
            Some(_) => {}
        }
    }
    found.extend(
        groups.keys().filter(|id| !source.groups.contains_key(**id)).map(|id| format!("extra      group {id}")),
    );
    // The memberships of what is extra go with it.
    let ours = |group: &str| source.groups.contains_key(group);
    let members: BTreeSet<(String, String)> = mirror.members.iter().filter(|(group, _)| ours(group)).cloned().collect();
    let line = |kind: &str, (group, user): &(String, String)| format!("{kind} member {user} of {group}");
    found.extend(source.members.difference(&members).map(|edge| line("missing   ", edge)));
    // An inactive user's absence from a list decides nothing: its memberships may stand.
    let decided = |user: &str| {
        source.users.contains_key(user) && users.get(user).is_some_and(|row| row.state == UserState::Active)
    };
    let extra = members.difference(&source.members).filter(|(_, user)| decided(user));
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
