//! The scan of a directory: every user, group and membership, page by page, and a mark for what was not listed.

use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::ahead::{Lists, Room};
use super::refresh::Sent;
use super::{Engine, SyncError, answers};
use crate::clock::Timestamp;
use crate::db::{DbConnection, DbError, Scan, ScanPhase, brake, lease, scan, working_set};
use crate::metrics::{DriftKind, ScanEnd};
use crate::mirror::{self, Answer, EdgeKey, Entity, HELD_MINUTES, Touched, TruthContext, WorkingSet};
use crate::model::{
    DirectoryId, DirectoryRecord, DirectoryRow, GroupRecord, MarkTarget, Paging, SyncStatus, UserRecord, UserRow,
};
use crate::workos::{ApiError, Asked, ListFilter, Priority, WorkosClient};

/// Numbers that are taken together.
const NUMBERS_AT_ONCE: usize = 64;
/// Groups whose members are read in one step, and requests for them that are under way together.
const GROUPS_IN_A_STEP: i64 = 64;
const REQUESTS_AT_ONCE: usize = 8;
/// After this long no list is begun, so that marks have their turn.
const STEP: TimeDelta = TimeDelta::milliseconds(250);
/// Pages in one transaction. On SQLite they hold the write lock.
const PAGES_POSTGRES: usize = 10;
const PAGES_SQLITE: usize = 3;

/// One page, and how far the scan is once it is written.
pub(super) struct ScanPage {
    pub(super) users: Vec<UserRecord>,
    pub(super) groups: Vec<GroupRecord>,
    pub(super) next: Option<Scan>,
    pub(super) context: TruthContext,
}

/// What a scan found before its first request was sent.
#[derive(Clone, Copy)]
struct Before {
    /// Whether the directory was to be scanned anew.
    anew: bool,
    /// When a scan was asked for.
    requested_at: Option<Timestamp>,
}

/// Under which number an answer is applied is known once it is.
fn context(client: &WorkosClient, number: i64, asked: Asked, now: Timestamp) -> TruthContext {
    let Sent { asked_at, sent_at } = Sent::new(client, asked);
    TruthContext { number, sent_at, asked_at, now, applied_under: number }
}

fn numbers_from(first: i64) -> Range<i64> {
    first..first + NUMBERS_AT_ONCE as i64
}

/// Where the limits leave little room, requests at once would only wait, with their numbers growing old.
fn requests_at_once(client: &WorkosClient, directory: &DirectoryId) -> usize {
    let (spacing, _) = client.spacing();
    let by_limit = Duration::from_millis(100).as_micros().checked_div(spacing.as_micros()).unwrap_or(u128::MAX);
    let room = client.users_room(directory, 0).unwrap_or_default() as usize;
    usize::try_from(by_limit).unwrap_or(usize::MAX).min(room).clamp(1, REQUESTS_AT_ONCE)
}

/// Waits for what is being written.
async fn written<T>(writing: &mut Option<Pin<Box<impl Future<Output = T>>>>) -> T {
    match writing {
        Some(writing) => writing.await,
        None => std::future::pending().await,
    }
}

impl Engine {
    /// Registers and marks for a scan every linked directory that the key sees; refreshes those we have.
    ///
    /// # Errors
    /// [`SyncError`]; to be tried again.
    pub async fn discover_directories(&self) -> Result<(), SyncError> {
        let Some(client) = &self.client else { return Ok(()) };
        // As before every request: what a mark that was set since is about must not be taken for told.
        let numbers = self.db.next_number_of_each().await?;
        let (mut cursor, mut paging) = (None::<String>, Paging::default());
        loop {
            let page = client.directories(cursor.as_deref()).await?;
            page.note_in(&mut paging, |record| record.id.as_str())?;
            for record in page.records {
                let id = record.id.clone();
                let known = self.look_at(&id).await?.row.is_some();
                if known || record.state == "linked" {
                    let sent = Sent::new(client, page.asked);
                    match self.take_listed(record, numbers.get(&id).copied(), sent).await {
                        // The worker that has it keeps it fresh.
                        Err(SyncError::Db(DbError::LeaseLost(_))) => {}
                        taken => taken?,
                    }
                }
            }
            cursor = page.after;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// Applies what the list of directories says of one, by the number that was taken before the list was asked for. What
    /// was not known then had none.
    async fn take_listed(&self, record: DirectoryRecord, number: Option<i64>, sent: Sent) -> Result<(), SyncError> {
        let id = record.id.clone();
        let number = match number {
            Some(number) => number,
            // Younger than the answer: a mark that was set in between must stay.
            None => self.db.next_number(&id, &self.lease).await? - 1,
        };
        self.apply_directory(&id, Some(record), number, sent).await
    }

    /// What is known of a directory at this moment, outside any lock.
    pub(super) async fn look_at(&self, directory: &DirectoryId) -> Result<Entity<DirectoryRow>, DbError> {
        let mut connection = self.db.read().await?;
        working_set::load_only_directory(&mut connection, directory).await
    }

    /// Reads and writes the next pages of a directory's scan: those of one list, or the members of some groups. While pages
    /// are written the next ones are read, and what has come meanwhile is written together.
    pub(super) async fn scan_pages(&self, client: &WorkosClient, directory: &DirectoryId) -> Result<(), SyncError> {
        // Taken before anything is sent, as each has to be; that some of them wait is on the safe side.
        let first = self.db.next_numbers(directory, &self.lease, NUMBERS_AT_ONCE).await?;
        let mut numbers = numbers_from(first);
        let began = self.clock.now();
        let row = self.look_at(directory).await?.row;
        let anew = row.as_ref().is_none_or(|row| row.sync_status == SyncStatus::Never);
        let before = Before { anew, requested_at: self.db.scan_requested_at(directory).await? };
        let is_first = row.is_none_or(|row| row.last_synced_at.is_none());
        // A directory that has to be scanned anew begins at the beginning, whatever checkpoint there is.
        let checkpoint = if anew { None } else { self.db.scan(directory).await? };
        let scan = checkpoint.unwrap_or_else(|| Scan::from_the_beginning(first));
        let places = self.lists_to_read(directory, &scan).await?;
        if places.is_empty() {
            let context = context(client, first, client.asking(), began);
            let (users, groups) = (Vec::new(), Vec::new());
            self.write_pages(directory, vec![(scan, ScanPage { users, groups, next: None, context })], before).await?;
            return Ok(());
        }
        let mut lists = Lists::new(places);
        let (mut reading, mut writing) = (FuturesUnordered::new(), None);
        let (mut failure, mut stops) = (None, false);
        loop {
            let is_late = self.clock.now() - began > STEP;
            stops |= is_late && !lists.others_wait();
            if !stops && numbers.is_empty() && writing.is_none() {
                numbers = numbers_from(self.db.next_numbers(directory, &self.lease, NUMBERS_AT_ONCE).await?);
            }
            let room = Room { requests: requests_at_once(client, directory), begins: !is_late };
            while !stops
                && !numbers.is_empty()
                && let Some((index, place)) = lists.ask(room)
                && let Some(number) = numbers.next()
            {
                let page = self.read_page(client, directory, place, number, client.asking());
                reading.push(async move { (index, page.await) });
            }
            if writing.is_none() {
                let pages = lists.take(if self.db.is_postgres() { PAGES_POSTGRES } else { PAGES_SQLITE });
                if !pages.is_empty() {
                    writing = Some(Box::pin(self.write_pages(directory, pages, before)));
                } else if reading.is_empty() {
                    break;
                }
            }
            tokio::select! {
                biased;
                Some((index, page)) = reading.next(), if !reading.is_empty() => match page {
                    Ok(page) => lists.answered(index, page),
                    Err(error) => {
                        failure.get_or_insert(error);
                        stops = true;
                    }
                },
                written = written(&mut writing), if writing.is_some() => {
                    writing = None;
                    if !written? {
                        return Ok(());
                    }
                    // What was begun is read to its end, unless something does not wait for that.
                    stops |= is_late && self.has_something_urgent(directory, is_first).await?;
                }
            }
        }
        let Some(error) = failure else { return Ok(()) };
        if matches!(error, SyncError::Api(ApiError::Withheld)) {
            // Whoever has the directory now goes on from the checkpoint.
            return Err(error);
        }
        // A list that cannot be followed is read from its beginning; after an outage the scan goes on.
        let restart = matches!(error, SyncError::Api(ApiError::Undecodable(_)));
        self.write_failed(directory, restart).await?;
        Err(error)
    }

    /// The lists that come next, all of one phase: none if the scan is over.
    async fn lists_to_read(&self, directory: &DirectoryId, scan: &Scan) -> Result<Vec<Scan>, DbError> {
        if scan.phase != ScanPhase::Members || scan.cursor.is_some() {
            return Ok(vec![scan.clone()]);
        }
        let groups = self.db.next_groups(directory, scan.group.as_ref(), GROUPS_IN_A_STEP).await?;
        Ok(groups.into_iter().map(|group| Scan { group: Some(group), ..scan.clone() }).collect())
    }

    /// Whether marks are due for which a scan is interrupted. A first scan fetches what is marked anyway.
    async fn has_something_urgent(&self, directory: &DirectoryId, is_first: bool) -> Result<bool, DbError> {
        let due = self.db.due_marks(directory, self.clock.now(), 1).await?;
        Ok(due.iter().any(|mark| mark.urgent || !is_first))
    }

    async fn read_page(
        &self,
        client: &WorkosClient,
        directory: &DirectoryId,
        mut scan: Scan,
        number: i64,
        asked: Asked,
    ) -> Result<ScanPage, SyncError> {
        let caller = client.on_behalf_of(directory, Priority::Bulk);
        let phase = scan.phase;
        let cursor = scan.cursor.take();
        let (mut users, mut groups) = (Vec::new(), Vec::new());
        match scan.phase {
            ScanPhase::Groups => {
                let page = caller.groups(ListFilter::Directory(directory), cursor.as_deref()).await?;
                page.note_in(&mut scan.paging, |group| group.id.as_str())?;
                groups = page.records;
                scan.cursor = page.after;
            }
            ScanPhase::Users | ScanPhase::Members => {
                let list = scan.group.as_ref().map_or(ListFilter::Directory(directory), ListFilter::Group);
                let page = caller.users(list, cursor.as_deref()).await?;
                page.note_in(&mut scan.paging, |user| user.id.as_str())?;
                users = page.records;
                scan.cursor = page.after;
            }
        }
        if scan.cursor.is_none() {
            scan.paging = Paging::default();
            scan.phase = match phase {
                ScanPhase::Users => ScanPhase::Groups,
                ScanPhase::Groups | ScanPhase::Members => ScanPhase::Members,
            };
        }
        let context = context(client, number, asked, self.clock.now());
        Ok(ScanPage { users, groups, next: Some(scan), context })
    }

    /// Writes pages in one transaction. `false` if the scan cannot go on from them.
    async fn write_pages(
        &self,
        directory: &DirectoryId,
        mut pages: Vec<(Scan, ScanPage)>,
        before: Before,
    ) -> Result<bool, DbError> {
        let _turn = self.processing.turn(false).await;
        let now = self.clock.now();
        let mut touched = Touched::default();
        for (read, page) in &pages {
            touched.users.extend(page.users.iter().map(|user| user.id.clone()));
            touched.groups.extend(page.groups.iter().map(|group| group.id.clone()));
            if let Some(group) = &read.group {
                page.users.iter().for_each(|user| touched.add_edge(group.clone(), user.id.clone()));
            }
        }
        let mut transaction = self.db.begin_in_background().await?;
        let connection = transaction.connection();
        let applied_under = lease::lock(connection, directory, &self.lease).await?;
        pages.iter_mut().for_each(|(_, page)| page.context.applied_under = applied_under);
        let mut set = working_set::load(connection, directory, &touched).await?;
        let begins = pages.first().is_some_and(|(read, page)| read.number == page.context.number);
        let is_new = set.directory.row.as_ref().is_some_and(|row| row.sync_status == SyncStatus::Never);
        if set.directory.is_gone() || (is_new && !(begins && before.anew)) {
            // It was deleted while we read, and nothing is left to scan; or linked anew, and the scan has to begin again.
            scan::save_scan(connection, directory, None).await?;
            transaction.commit().await?;
            return Ok(false);
        }
        if let Some(requested_at) = before.requested_at.filter(|_| begins) {
            scan::requested_scan_begins(connection, directory, requested_at).await?;
        }
        let is_first = set.directory.row.as_ref().is_none_or(|row| row.last_synced_at.is_none());
        let mut drift = Drift::default();
        for (read, page) in &pages {
            apply_page(&mut set, read, page, &mut drift);
        }
        let next = pages.last().and_then(|(_, page)| page.next.as_ref());
        if next.is_none()
            && let Some((read, page)) = pages.last()
        {
            let not_listed = scan::not_listed_since(connection, directory, read.number).await?;
            drift.extra += not_listed.len();
            let stopped =
                !not_listed.is_empty() && self.stops_vanished(connection, directory, &not_listed, now).await?;
            for target in not_listed {
                set.mark(target.clone(), page.context.number, now);
                if stopped {
                    answers::put_off(&mut set, &target, now + TimeDelta::minutes(HELD_MINUTES));
                }
            }
        }
        set_status(&mut set, if next.is_none() { SyncStatus::Synced } else { SyncStatus::Running }, now);
        working_set::save(connection, &set, now).await?;
        scan::save_scan(connection, directory, next).await?;
        if next.is_none() {
            brake::release_if_settled(connection, directory).await?;
        }
        transaction.commit().await?;
        self.count_verified(&set);
        if !is_first {
            self.count_drift(&drift);
        }
        tracing::debug!(directory_id = %directory, pages = pages.len(), users = touched.users.len(), ?drift, "pages scanned");
        if next.is_none() {
            self.metrics.scan(ScanEnd::Finished);
            tracing::info!(directory_id = %directory, not_listed = drift.extra, "directory scanned");
        }
        Ok(true)
    }

    /// Whether so much is not listed that nothing of it is even asked about, memberships included, until somebody confirms
    /// that it is right or the API lists it again.
    async fn stops_vanished(
        &self,
        connection: &mut DbConnection,
        directory: &DirectoryId,
        not_listed: &[MarkTarget],
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let (mut brake, live) = brake::load(connection, directory).await?;
        let records = not_listed.iter().filter(|target| matches!(target, MarkTarget::User(_) | MarkTarget::Group(_)));
        let stopped = brake.stops_at_once(i64::try_from(records.count()).unwrap_or(i64::MAX), live, now);
        if stopped {
            tracing::error!(directory_id = %directory, "a scan misses too many users and groups at once: none is removed until `directory-mirror sync --confirm-removals` says that it is right");
            brake::save(connection, directory, &brake).await?;
        }
        Ok(stopped)
    }

    async fn write_failed(&self, directory: &DirectoryId, restart: bool) -> Result<(), DbError> {
        let now = self.clock.now();
        let mut transaction = self.db.begin_in_background().await?;
        let connection = transaction.connection();
        lease::lock(connection, directory, &self.lease).await?;
        let mut set = working_set::load(connection, directory, &Touched::default()).await?;
        if restart || set.directory.row.as_ref().is_some_and(|row| row.sync_status == SyncStatus::Never) {
            scan::save_scan(connection, directory, None).await?;
        }
        set_status(&mut set, SyncStatus::Failed, now);
        working_set::save(connection, &set, now).await?;
        transaction.commit().await?;
        self.metrics.scan(ScanEnd::Failed);
        Ok(())
    }

    fn count_drift(&self, drift: &Drift) {
        for (kind, found) in [
            (DriftKind::Missing, drift.missing),
            (DriftKind::Extra, drift.extra),
            (DriftKind::Different, drift.different),
        ] {
            self.metrics.drift(kind, found);
        }
    }
}

/// How a page differed from the mirror, but for what was marked and so known to be dirty.
#[derive(Debug, Default)]
struct Drift {
    missing: usize,
    extra: usize,
    different: usize,
}

impl Drift {
    fn add(&mut self, was_marked: bool, was_shown: bool, changed: bool) {
        match (was_shown, changed && !was_marked) {
            (_, false) => {}
            (false, true) => self.missing += 1,
            (true, true) => self.different += 1,
        }
    }
}

fn apply_page(set: &mut WorkingSet, read: &Scan, page: &ScanPage, drift: &mut Drift) {
    let directory = set.directory_id.clone();
    for user in page.users.iter().filter(|user| user.directory_id == directory) {
        if !(read.group.is_some() && is_known_already(set, user, read.number)) {
            let shown = set.user(&user.id).row.as_ref().is_some_and(|row| row.deleted_at.is_none());
            let marked = set.marks.contains_key(&MarkTarget::User(user.id.clone()));
            let was_changed = std::mem::take(&mut set.user(&user.id).row_changed);
            mirror::user_truth(set, &user.id, Answer::Is(user.clone()), &page.context);
            drift.add(marked, shown, set.user(&user.id).row_changed);
            set.user(&user.id).row_changed |= was_changed;
        }
        if let Some(group) = &read.group {
            let key = (group.clone(), user.id.clone());
            let shown = set.edge(&key).was_present;
            let marked = is_edge_marked(set, &key);
            mirror::edge_truth(set, &key, true, &page.context);
            drift.add(marked, shown, !shown && set.edge(&key).memory.present);
        }
    }
    for group in page.groups.iter().filter(|group| group.directory_id == directory) {
        let shown = set.group(&group.id).row.as_ref().is_some_and(|row| row.deleted_at.is_none());
        let marked = set.marks.contains_key(&MarkTarget::Group(group.id.clone()));
        mirror::group_truth(set, &group.id, Answer::Is(group.clone()), &page.context);
        drift.add(marked, shown, set.group(&group.id).row_changed);
    }
}

/// Whether this scan has said the same of the user already, with nothing in between: then there is nothing to write, and
/// each user would be written once more with each group.
fn is_known_already(set: &WorkingSet, user: &UserRecord, since: i64) -> bool {
    let shown = |row: &UserRow| row.record == *user && row.deleted_at.is_none() && row.verified_at.is_some();
    !set.marks.contains_key(&MarkTarget::User(user.id.clone()))
        && set.users.get(&user.id).is_some_and(|known| {
            known.memory.hint.is_none() && known.memory.truth_number >= since && known.row.as_ref().is_some_and(shown)
        })
}

fn is_edge_marked(set: &WorkingSet, (group, user): &EdgeKey) -> bool {
    [
        MarkTarget::Edge(group.clone(), user.clone()),
        MarkTarget::UserGroups(user.clone()),
        MarkTarget::GroupMembers(group.clone()),
    ]
    .iter()
    .any(|target| set.marks.contains_key(target))
}

fn set_status(set: &mut WorkingSet, status: SyncStatus, now: Timestamp) {
    if let Some(row) = &mut set.directory.row
        && (row.sync_status != status || status == SyncStatus::Synced)
    {
        row.sync_status = status;
        if status == SyncStatus::Synced {
            row.last_synced_at = Some(now);
        }
        set.directory.row_changed = true;
    }
}
