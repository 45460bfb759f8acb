//! The requests of a plan's moves.

use std::collections::BTreeSet;

use chrono::TimeDelta;

use super::plan::Move;
use super::{Engine, SyncError};
use crate::mirror::EdgeKey;
use crate::model::{DirectoryGroupId, DirectoryId, DirectoryUserId, GroupRecord, Mark, MarkTarget, Paging, UserRecord};
use crate::workos::{ApiError, Caller, ListFilter};

/// What the API said.
pub(super) enum Fetched {
    /// A user's record, or 404.
    User(DirectoryUserId, Option<Box<UserRecord>>),
    /// A group's record, or 404.
    Group(DirectoryGroupId, Option<Box<GroupRecord>>),
    /// A page of users, which proves nobody's absence.
    Users(Vec<UserRecord>),
    /// A page of groups, which proves no absence either.
    Groups(Vec<GroupRecord>),
    /// A whole membership list.
    List(Box<MembershipList>),
    /// The answer cannot be decoded.
    Failed(Vec<Mark>, String),
    /// There was no answer: for how long each mark is put off.
    Unanswered(Vec<(Mark, TimeDelta)>),
    /// A page or a list was asked for these and does not show them, which proves nothing: each is to be asked for by itself.
    NotShown(Vec<Mark>),
}

/// A user's groups or a group's members, read to the end, with the edges that were known before.
pub(super) struct MembershipList {
    pub(super) owner: MarkTarget,
    pub(super) users: Vec<UserRecord>,
    pub(super) groups: Vec<GroupRecord>,
    pub(super) known: Vec<EdgeKey>,
    /// Whether the API answers the owner itself with 200, where that matters: an empty list is also what it says of an
    /// id it never knew.
    pub(super) owner_exists: bool,
    pub(super) marks: Vec<Mark>,
}

impl Engine {
    /// Makes the requests of one move for these marks.
    pub(super) async fn fetch(
        &self,
        caller: Caller<'_>,
        step: Move<'_>,
        marks: &[Mark],
    ) -> Result<Vec<Fetched>, SyncError> {
        let whole = ListFilter::Directory(caller.directory());
        let fetched = match step {
            Move::GetUser(id) => return Ok(vec![fetch_user(caller, id, marks).await?]),
            Move::GetGroup(id) => return Ok(vec![fetch_group(caller, id, marks).await?]),
            Move::UserPage { after } => {
                Fetched::Users(caller.users(whole, after.map(DirectoryUserId::as_str)).await?.records)
            }
            Move::GroupPage { after } => {
                Fetched::Groups(caller.groups(whole, after.map(DirectoryGroupId::as_str)).await?.records)
            }
            Move::GroupsOfUser { user, .. } => {
                let known = self.db.known_edges(Some(user), None).await?;
                fetch_list(caller, MarkTarget::UserGroups(user.clone()), known, marks).await?
            }
            Move::MembersOfGroup { group, .. } => {
                let known = self.db.known_edges(None, Some(group)).await?;
                fetch_list(caller, MarkTarget::GroupMembers(group.clone()), known, marks).await?
            }
        };
        let not_shown = not_shown(&fetched, caller.directory(), marks);
        let mut fetched = with_missing_owner(fetched);
        fetched.push(Fetched::NotShown(not_shown));
        Ok(fetched)
    }
}

/// The marks of records that a page or a list was to show and does not, or shows as another directory's.
fn not_shown(fetched: &Fetched, directory: &DirectoryId, marks: &[Mark]) -> Vec<Mark> {
    let (users, groups): (&[UserRecord], &[GroupRecord]) = match fetched {
        Fetched::Users(users) => (users, &[]),
        Fetched::Groups(groups) => (&[], groups),
        Fetched::List(list) => (&list.users, &list.groups),
        _ => return Vec::new(),
    };
    let users: BTreeSet<_> = users.iter().filter(|user| user.directory_id == *directory).map(|user| &user.id).collect();
    let groups: BTreeSet<_> =
        groups.iter().filter(|group| group.directory_id == *directory).map(|group| &group.id).collect();
    let missing = marks.iter().filter(|mark| match &mark.target {
        MarkTarget::User(id) => !users.contains(id),
        MarkTarget::Group(id) => !groups.contains(id),
        _ => false,
    });
    missing.cloned().collect()
}

async fn fetch_user(caller: Caller<'_>, id: &DirectoryUserId, marks: &[Mark]) -> Result<Fetched, ApiError> {
    match caller.user(id).await {
        Err(ApiError::Undecodable(reason)) => Ok(Fetched::Failed(marks.to_vec(), reason)),
        answer => Ok(Fetched::User(id.clone(), answer?.map(Box::new))),
    }
}

async fn fetch_group(caller: Caller<'_>, id: &DirectoryGroupId, marks: &[Mark]) -> Result<Fetched, ApiError> {
    match caller.group(id).await {
        Err(ApiError::Undecodable(reason)) => Ok(Fetched::Failed(marks.to_vec(), reason)),
        answer => Ok(Fetched::Group(id.clone(), answer?.map(Box::new))),
    }
}

async fn fetch_list(
    caller: Caller<'_>,
    owner: MarkTarget,
    known: Vec<EdgeKey>,
    marks: &[Mark],
) -> Result<Fetched, ApiError> {
    // A replica that does not know the owner yet would have nothing of what the mark of all its memberships is for.
    let of_records = |mark: &Mark| matches!(mark.target, MarkTarget::User(_) | MarkTarget::Group(_));
    let nothing_to_lose = known.is_empty() && marks.iter().all(of_records);
    match read_list(caller, &owner, nothing_to_lose).await {
        Ok((users, groups, owner_exists)) => {
            let marks = marks.to_vec();
            Ok(Fetched::List(Box::new(MembershipList { owner, users, groups, known, owner_exists, marks })))
        }
        Err(ApiError::Undecodable(reason)) => Ok(Fetched::Failed(marks.to_vec(), reason)),
        Err(error) => Err(error),
    }
}

/// The 404 that a list's owner was found to have is an answer of its own, and the list waits for what becomes of it.
fn with_missing_owner(list: Fetched) -> Vec<Fetched> {
    let owner = match &list {
        Fetched::List(list) if !list.owner_exists => match &list.owner {
            MarkTarget::UserGroups(user) => Some(Fetched::User(user.clone(), None)),
            MarkTarget::GroupMembers(group) => Some(Fetched::Group(group.clone(), None)),
            _ => None,
        },
        _ => None,
    };
    owner.into_iter().chain([list]).collect()
}

async fn read_list(
    caller: Caller<'_>,
    owner: &MarkTarget,
    nothing_to_lose: bool,
) -> Result<(Vec<UserRecord>, Vec<GroupRecord>, bool), ApiError> {
    let (mut users, mut groups) = (Vec::new(), Vec::new());
    let (mut cursor, mut paging) = (None::<String>, Paging::default());
    loop {
        let (after, unreadable) = match owner {
            MarkTarget::UserGroups(user) => {
                let page = caller.groups(ListFilter::User(user), cursor.as_deref()).await?;
                page.note_in(&mut paging, |group| group.id.as_str())?;
                groups.extend(page.records);
                (page.after, page.unreadable)
            }
            MarkTarget::GroupMembers(group) => {
                let page = caller.users(ListFilter::Group(group), cursor.as_deref()).await?;
                page.note_in(&mut paging, |user| user.id.as_str())?;
                users.extend(page.records);
                (page.after, page.unreadable)
            }
            _ => (None, 0),
        };
        if unreadable > 0 {
            return Err(ApiError::Undecodable("a list holds records that cannot be read".to_owned()));
        }
        cursor = after;
        if cursor.is_none() {
            break;
        }
    }
    let owner_exists = match owner {
        // An empty list takes nothing away and settles nothing, whether the id exists or not.
        _ if nothing_to_lose => true,
        MarkTarget::UserGroups(user) if groups.is_empty() => caller.user(user).await?.is_some(),
        MarkTarget::GroupMembers(group) if users.is_empty() => caller.group(group).await?.is_some(),
        _ => true,
    };
    Ok((users, groups, owner_exists))
}
