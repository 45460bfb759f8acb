//! Refresh: works through a directory's marks against the API.
//!
//! Marks of one kind are fetched together in a wave. Its number is taken from the directory's sequence before the first
//! request is sent; requests of one wave are about different entities, so they need no order among themselves.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use futures_util::future::join_all;

use super::{Engine, Step, SyncError};
use crate::clock::Timestamp;
use crate::db::{DbError, progress, working_set};
use crate::mirror::{self, Answer, EdgeKey, Touched, TruthContext, WorkingSet};
use crate::model::{
    DirectoryGroupId, DirectoryId, DirectoryRecord, DirectoryUserId, GroupRecord, Mark, MarkTarget, SyncStatus,
    UserRecord,
};
use crate::workos::{ApiError, ListFilter, WorkosClient};

/// Requests that are under way together for one directory.
const WAVE: i64 = 16;
/// A mark whose answer cannot be decoded is tried again after 2, 4, 8 … seconds, and at this many failures rarely.
const MAX_FAILURES: i32 = 12;
/// A mark that cannot be decided, since the API's answers are in doubt, is looked at again after this long.
const DOUBT_SECONDS: i64 = 60;
/// A mark whose request failed is tried again after this long.
const UNANSWERED_SECONDS: i64 = 2;
const UNKNOWN_DIRECTORY: &str = "the API does not know this directory, though no event said that it was deleted: check \
     that WORKOS_API_KEY belongs to the environment that sends the webhooks; nothing was removed";

/// What the API said of one user or group in a wave.
enum Fetched {
    User(DirectoryUserId, Option<Box<UserRecord>>),
    Group(DirectoryGroupId, Option<Box<GroupRecord>>),
    /// A whole membership list.
    List(Box<MembershipList>),
    /// The answer cannot be decoded.
    Failed(Vec<Mark>, String),
    /// There was no answer.
    Unanswered(Vec<Mark>),
}

/// A user's groups or a group's members, read to the end, with the edges that were known before.
struct MembershipList {
    owner: MarkTarget,
    users: Vec<UserRecord>,
    groups: Vec<GroupRecord>,
    known: Vec<EdgeKey>,
    /// Whether the API answers the owner itself with 200: an empty list is also what it says of an id it never knew.
    owner_exists: bool,
    marks: Vec<Mark>,
}

impl Engine {
    /// Does one piece of work for a directory: its own record, then a page of its scan, then a wave of marks.
    ///
    /// # Errors
    /// [`SyncError`]; what was not written stays marked.
    pub async fn refresh_step(&self, directory: &DirectoryId) -> Result<Step, SyncError> {
        let Some(client) = &self.client else { return Ok(Step::Idle) };
        let now = self.clock.now();
        let marks = self.db.due_marks(directory, now, WAVE).await?;
        if marks.first().is_some_and(|mark| mark.target == MarkTarget::Directory) {
            self.refresh_directory(client, directory).await?;
            return Ok(Step::Ran);
        }
        if self.needs_scan(directory, marks.is_empty()).await? {
            self.scan_page(client, directory).await?;
            return Ok(Step::Ran);
        }
        if marks.is_empty() {
            return Ok(Step::Idle);
        }
        self.refresh_wave(client, directory, marks).await?;
        Ok(Step::Ran)
    }

    async fn refresh_directory(&self, client: &WorkosClient, directory: &DirectoryId) -> Result<(), SyncError> {
        let number = self.db.next_number(directory, self.lease).await?;
        let sent_at = self.clock.now();
        let answer = client.directory(directory).await?;
        self.apply_directory(directory, answer, number, sent_at).await
    }

    /// Applies what the API says of a directory. A 404 that no event announced removes nothing.
    pub(super) async fn apply_directory(
        &self,
        directory: &DirectoryId,
        answer: Option<DirectoryRecord>,
        number: i64,
        sent_at: Timestamp,
    ) -> Result<(), SyncError> {
        let now = self.clock.now();
        let mut transaction = self.db.begin_in_background().await?;
        let connection = transaction.connection();
        progress::lock(connection, directory, self.lease).await?;
        let mut set = working_set::load(connection, directory, &Touched::default()).await?;
        let announced = set.directory.is_gone() || set.directory.memory.hint.as_ref().is_some_and(|hint| hint.removes);
        let doubtful = answer.is_none() && !announced;
        if doubtful {
            put_off(&mut set, &MarkTarget::Directory, now + TimeDelta::seconds(DOUBT_SECONDS));
        } else {
            let answer = answer.map_or(Answer::Gone, Answer::Is);
            let verdict = mirror::directory_truth(&mut set, answer, &TruthContext { number, sent_at, now });
            tracing::info!(directory_id = %directory, ?verdict, "directory fetched");
        }
        working_set::save(connection, &set, now).await?;
        transaction.commit().await?;
        if doubtful { Err(SyncError::Doubtful(UNKNOWN_DIRECTORY)) } else { Ok(()) }
    }

    /// A scan that failed waits for the marks that are due, so that what stops it does not stop everything. A directory
    /// whose own record was never fetched is not scanned: a wrong key would list nothing.
    async fn needs_scan(&self, directory: &DirectoryId, nothing_else: bool) -> Result<bool, SyncError> {
        let known = self.look_at(directory).await?;
        let fetched = known.memory.truth_number > 0;
        Ok(known.row.is_some_and(|row| {
            fetched
                && row.enabled
                && row.deleted_at.is_none()
                && row.sync_status != SyncStatus::Synced
                && (nothing_else || row.sync_status != SyncStatus::Failed)
        }))
    }

    async fn refresh_wave(
        &self,
        client: &WorkosClient,
        directory: &DirectoryId,
        marks: Vec<Mark>,
    ) -> Result<(), SyncError> {
        let number = self.db.next_number(directory, self.lease).await?;
        let sent_at = self.clock.now();
        let fetches = group_marks(marks).into_iter().map(async |(target, marks)| {
            let result = self.fetch(client, directory, target, marks.clone()).await;
            result.map_err(|error| (marks, error))
        });
        let (mut fetched, mut failure) = (Vec::new(), None);
        for result in join_all(fetches).await {
            fetched.push(result.unwrap_or_else(|(marks, error)| {
                failure = Some(error);
                Fetched::Unanswered(marks)
            }));
        }
        let context = TruthContext { number, sent_at, now: self.clock.now() };
        let fetched: Vec<&Fetched> = fetched.iter().collect();
        let unannounced = self.apply(directory, &fetched, &context, false).await?;
        if !unannounced.is_empty() {
            if client.directory(directory).await?.is_none() {
                self.put_off_users_and_groups(directory, &unannounced).await?;
                return Err(SyncError::Doubtful(UNKNOWN_DIRECTORY));
            }
            self.apply(directory, &unannounced, &context, true).await?;
        }
        failure.map_or(Ok(()), Err)
    }

    async fn fetch(
        &self,
        client: &WorkosClient,
        directory: &DirectoryId,
        target: MarkTarget,
        marks: Vec<Mark>,
    ) -> Result<Fetched, SyncError> {
        let result = match &target {
            MarkTarget::User(id) => {
                client.user(directory, id).await.map(|answer| Fetched::User(id.clone(), answer.map(Box::new)))
            }
            MarkTarget::Group(id) => {
                client.group(id).await.map(|answer| Fetched::Group(id.clone(), answer.map(Box::new)))
            }
            _ => return self.fetch_list(client, directory, target, marks).await,
        };
        match result {
            Err(ApiError::Undecodable(reason)) => Ok(Fetched::Failed(marks, reason)),
            other => Ok(other?),
        }
    }

    async fn fetch_list(
        &self,
        client: &WorkosClient,
        directory: &DirectoryId,
        owner: MarkTarget,
        marks: Vec<Mark>,
    ) -> Result<Fetched, SyncError> {
        let known = match &owner {
            MarkTarget::UserGroups(user) => self.db.known_edges(Some(user), None).await?,
            MarkTarget::GroupMembers(group) => self.db.known_edges(None, Some(group)).await?,
            _ => Vec::new(),
        };
        match read_list(client, directory, &owner).await {
            Ok((users, groups, owner_exists)) => {
                Ok(Fetched::List(Box::new(MembershipList { owner, users, groups, known, owner_exists, marks })))
            }
            Err(ApiError::Undecodable(reason)) => Ok(Fetched::Failed(marks, reason)),
            Err(error) => Err(error.into()),
        }
    }

    /// Applies a wave's answers in one transaction. Gives back the 404s that no event announced, which it left alone.
    async fn apply<'a>(
        &self,
        directory: &DirectoryId,
        fetched: &[&'a Fetched],
        context: &TruthContext,
        directory_exists: bool,
    ) -> Result<Vec<&'a Fetched>, DbError> {
        let mut touched = Touched::default();
        fetched.iter().for_each(|one| touch(&mut touched, one));
        let mut transaction = self.db.begin_in_background().await?;
        let connection = transaction.connection();
        progress::lock(connection, directory, self.lease).await?;
        let mut set = working_set::load(connection, directory, &touched).await?;
        let mut unannounced = Vec::new();
        if !set.directory.is_gone() {
            for one in fetched {
                if !apply_one(&mut set, one, context, directory_exists) {
                    unannounced.push(*one);
                }
            }
        }
        working_set::save(connection, &set, context.now).await?;
        transaction.commit().await?;
        tracing::info!(directory_id = %directory, answers = fetched.len(), number = context.number, "truth fetched");
        Ok(unannounced)
    }

    async fn put_off_users_and_groups(&self, directory: &DirectoryId, fetched: &[&Fetched]) -> Result<(), DbError> {
        let now = self.clock.now();
        let mut touched = Touched::default();
        fetched.iter().for_each(|one| touch(&mut touched, one));
        let mut transaction = self.db.begin_in_background().await?;
        let connection = transaction.connection();
        progress::lock(connection, directory, self.lease).await?;
        let mut set = working_set::load(connection, directory, &touched).await?;
        for target in set.marks.keys().cloned().collect::<Vec<_>>() {
            put_off(&mut set, &target, now + TimeDelta::seconds(DOUBT_SECONDS));
        }
        working_set::save(connection, &set, now).await?;
        transaction.commit().await
    }
}

/// One fetch for each entity: the marks of edges are covered by the list of their user's groups.
fn group_marks(marks: Vec<Mark>) -> BTreeMap<MarkTarget, Vec<Mark>> {
    let mut fetches: BTreeMap<MarkTarget, Vec<Mark>> = BTreeMap::new();
    for mark in marks {
        let target = match &mark.target {
            MarkTarget::Edge(_, user) => MarkTarget::UserGroups(user.clone()),
            other => other.clone(),
        };
        fetches.entry(target).or_default().push(mark);
    }
    fetches
}

async fn read_list(
    client: &WorkosClient,
    directory: &DirectoryId,
    owner: &MarkTarget,
) -> Result<(Vec<UserRecord>, Vec<GroupRecord>, bool), ApiError> {
    let (mut users, mut groups) = (Vec::new(), Vec::new());
    let mut cursor: Option<String> = None;
    loop {
        let (after, unreadable) = match owner {
            MarkTarget::UserGroups(user) => {
                let page = client.groups(ListFilter::User(user), cursor.as_deref()).await?;
                groups.extend(page.records);
                (page.after, page.unreadable)
            }
            MarkTarget::GroupMembers(group) => {
                let page = client.users(directory, ListFilter::Group(group), cursor.as_deref()).await?;
                users.extend(page.records);
                (page.after, page.unreadable)
            }
            _ => (None, 0),
        };
        if unreadable > 0 {
            return Err(ApiError::Undecodable("a list holds records that cannot be read".to_owned()));
        }
        if after.is_none() {
            break;
        }
        if after == cursor {
            return Err(ApiError::Undecodable("a list's cursor does not advance".to_owned()));
        }
        cursor = after;
    }
    let owner_exists = match owner {
        MarkTarget::UserGroups(user) if groups.is_empty() => client.user(directory, user).await?.is_some(),
        MarkTarget::GroupMembers(group) if users.is_empty() => client.group(group).await?.is_some(),
        _ => true,
    };
    Ok((users, groups, owner_exists))
}

fn touch(touched: &mut Touched, fetched: &Fetched) {
    match fetched {
        Fetched::User(id, _) => drop(touched.users.insert(id.clone())),
        Fetched::Group(id, _) => drop(touched.groups.insert(id.clone())),
        Fetched::List(list) => {
            list.known.iter().for_each(|(group, user)| touched.add_edge(group.clone(), user.clone()));
            listed_edges(list, None).into_iter().for_each(|(group, user)| touched.add_edge(group, user));
            list.marks.iter().for_each(|mark| touch_target(touched, &mark.target));
        }
        Fetched::Failed(marks, _) | Fetched::Unanswered(marks) => {
            marks.iter().for_each(|mark| touch_target(touched, &mark.target));
        }
    }
}

fn touch_target(touched: &mut Touched, target: &MarkTarget) {
    match target {
        MarkTarget::User(user) | MarkTarget::UserGroups(user) => drop(touched.users.insert(user.clone())),
        MarkTarget::Group(group) | MarkTarget::GroupMembers(group) => drop(touched.groups.insert(group.clone())),
        MarkTarget::Edge(group, user) => touched.add_edge(group.clone(), user.clone()),
        MarkTarget::Directory => {}
    }
}

/// The edges of a list, or only those whose records belong to `directory`.
fn listed_edges(list: &MembershipList, directory: Option<&DirectoryId>) -> BTreeSet<EdgeKey> {
    let ours = |of: &DirectoryId| directory.is_none_or(|directory| directory == of);
    match &list.owner {
        MarkTarget::UserGroups(user) => {
            let groups = list.groups.iter().filter(|group| ours(&group.directory_id));
            groups.map(|group| (group.id.clone(), user.clone())).collect()
        }
        MarkTarget::GroupMembers(group) => {
            let users = list.users.iter().filter(|user| ours(&user.directory_id));
            users.map(|user| (group.clone(), user.id.clone())).collect()
        }
        _ => BTreeSet::new(),
    }
}

/// Applies one answer. `false` if it is a 404 that counts only once its directory is known to answer 200 (rule 4).
fn apply_one(set: &mut WorkingSet, fetched: &Fetched, at: &TruthContext, directory_exists: bool) -> bool {
    match fetched {
        Fetched::User(id, answer) => {
            let announced = set.users.get(id).is_some_and(|user| user.foreign || user.is_gone());
            if answer.is_none() && !announced && !directory_exists {
                return false;
            }
            if answer.as_ref().is_some_and(|record| record.directory_id != set.directory_id) {
                // An event named the wrong directory: the record is its own directory's business.
                set.clear_mark(&MarkTarget::User(id.clone()), at.number);
                return true;
            }
            let answer = answer.clone().map_or(Answer::Gone, |record| Answer::Is(*record));
            mirror::user_truth(set, id, answer, at);
        }
        Fetched::Group(id, answer) => {
            let announced = set.groups.get(id).is_some_and(|group| group.foreign || group.is_gone());
            if answer.is_none() && !announced && !directory_exists {
                return false;
            }
            if answer.as_ref().is_some_and(|record| record.directory_id != set.directory_id) {
                // An event named the wrong directory: the record is its own directory's business.
                set.clear_mark(&MarkTarget::Group(id.clone()), at.number);
                return true;
            }
            let answer = answer.clone().map_or(Answer::Gone, |record| Answer::Is(*record));
            mirror::group_truth(set, id, answer, at);
        }
        Fetched::List(list) => apply_list(set, list, at),
        Fetched::Unanswered(marks) => {
            // Put off, so that one request that always fails does not stop the others; a newer mark is not touched.
            let due_at = at.now + TimeDelta::seconds(UNANSWERED_SECONDS);
            for mark in marks {
                if !set.is_marked_after(&mark.target, mark.version) {
                    put_off(set, &mark.target, due_at);
                }
            }
        }
        Fetched::Failed(marks, reason) => {
            for mark in marks {
                let failures = mark.failures.saturating_add(1).min(MAX_FAILURES);
                tracing::error!(failures, reason, "an answer of the API cannot be read; its mark is put off");
                let due_at = at.now + TimeDelta::seconds(1 << failures);
                set.put_mark(Mark { failures, due_at, ..mark.clone() });
            }
        }
    }
    true
}

fn apply_list(set: &mut WorkingSet, list: &MembershipList, at: &TruthContext) {
    if !list.owner_exists && !owner_is_gone(set, &list.owner) {
        // The list of an id that is gone is empty (rule 5): its own record decides first, and its memberships with it.
        let record = match &list.owner {
            MarkTarget::UserGroups(user) => MarkTarget::User(user.clone()),
            MarkTarget::GroupMembers(group) => MarkTarget::Group(group.clone()),
            other => other.clone(),
        };
        set.mark(record, at.number, at.now);
        for mark in &list.marks {
            put_off(set, &mark.target, at.now + TimeDelta::seconds(1));
        }
        return;
    }
    for user in list.users.iter().filter(|user| user.directory_id == set.directory_id).cloned().collect::<Vec<_>>() {
        mirror::user_truth(set, &user.id.clone(), Answer::Is(user), at);
    }
    for group in list.groups.iter().filter(|group| group.directory_id == set.directory_id).cloned().collect::<Vec<_>>()
    {
        mirror::group_truth(set, &group.id.clone(), Answer::Is(group), at);
    }
    let listed = listed_edges(list, Some(&set.directory_id));
    for key in &listed {
        mirror::edge_truth(set, key, true, at);
    }
    let marked = list.marks.iter().filter_map(|mark| match &mark.target {
        MarkTarget::Edge(group, user) => Some((group.clone(), user.clone())),
        _ => None,
    });
    let absent: BTreeSet<EdgeKey> =
        list.known.iter().cloned().chain(marked).filter(|key| !listed.contains(key)).collect();
    let by_group = matches!(list.owner, MarkTarget::GroupMembers(_));
    for key in absent {
        let active = set
            .users
            .get(&key.1)
            .and_then(|user| user.row.as_ref())
            .is_some_and(|row| row.state == crate::model::UserState::Active);
        if active || !by_group {
            mirror::edge_truth(set, &key, false, at);
        }
    }
    set.clear_mark(&list.owner, at.number);
}

fn owner_is_gone(set: &WorkingSet, owner: &MarkTarget) -> bool {
    match owner {
        MarkTarget::UserGroups(user) => {
            set.users.get(user).and_then(|user| user.row.as_ref()).is_none_or(|row| row.deleted_at.is_some())
        }
        MarkTarget::GroupMembers(group) => {
            set.groups.get(group).and_then(|group| group.row.as_ref()).is_none_or(|row| row.deleted_at.is_some())
        }
        _ => false,
    }
}

fn put_off(set: &mut WorkingSet, target: &MarkTarget, due_at: Timestamp) {
    if let Some(mark) = set.marks.get(target).cloned() {
        set.put_mark(Mark { due_at, ..mark });
    }
}
