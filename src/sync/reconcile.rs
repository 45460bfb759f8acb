//! The scan of a directory: every user, group and membership, page by page, and a mark for what was not listed.

use super::{Engine, SyncError};
use crate::clock::Timestamp;
use crate::db::{DbError, Scan, ScanPhase, brake, lease, scan, working_set};
use crate::metrics::{DriftKind, ScanEnd};
use crate::mirror::{self, Answer, EdgeKey, Entity, Touched, TruthContext, WorkingSet};
use crate::model::{
    DirectoryGroupId, DirectoryId, DirectoryRecord, DirectoryRow, GroupRecord, MarkTarget, SyncStatus, UserRecord,
};
use crate::workos::{ApiError, ListFilter, Priority, WorkosClient};

/// Pages of one list, at a hundred records each: more than any directory has.
const MOST_PAGES: i64 = 100_000;

/// One page, and how far the scan is once it is written.
struct ScanPage {
    asked_at: Timestamp,
    users: Vec<UserRecord>,
    groups: Vec<GroupRecord>,
    next: Option<Scan>,
    context: TruthContext,
}

impl Engine {
    /// Registers and marks for a scan every linked directory that the key sees; refreshes those we have.
    ///
    /// # Errors
    /// [`SyncError`]; to be tried again.
    pub async fn discover_directories(&self) -> Result<(), SyncError> {
        let Some(client) = &self.client else { return Ok(()) };
        let mut cursor = None;
        loop {
            let page = client.directories(cursor.as_deref()).await?;
            for record in page.records {
                let known = self.look_at(&record.id).await?.row.is_some();
                if known || record.state == "linked" {
                    match self.take_listed(record, client.in_server_time(page.sent_at)).await {
                        // The worker that has it keeps it fresh.
                        Err(SyncError::Db(DbError::LeaseLost(_))) => {}
                        taken => taken?,
                    }
                }
            }
            if page.after.is_none() || page.after == cursor {
                return Ok(());
            }
            cursor = page.after;
        }
    }

    async fn take_listed(&self, record: DirectoryRecord, sent_at: Timestamp) -> Result<(), SyncError> {
        let id = record.id.clone();
        let number = self.db.next_number(&id, &self.lease).await?;
        // The number is younger than the answer: a mark that was set in between must stay.
        self.apply_directory(&id, Some(record), number - 1, sent_at).await
    }

    /// What is known of a directory at this moment, outside any lock.
    pub(super) async fn look_at(&self, directory: &DirectoryId) -> Result<Entity<DirectoryRow>, DbError> {
        let mut connection = self.db.read().await?;
        working_set::load_only_directory(&mut connection, directory).await
    }

    /// Reads and writes the next page of a directory's scan.
    pub(super) async fn scan_page(&self, client: &WorkosClient, directory: &DirectoryId) -> Result<(), SyncError> {
        let number = self.db.next_number(directory, &self.lease).await?;
        let sent_at = self.clock.now();
        let anew = self.look_at(directory).await?.row.is_none_or(|row| row.sync_status == SyncStatus::Never);
        // A directory that has to be scanned anew begins at the beginning, whatever checkpoint there is.
        let checkpoint = if anew { None } else { self.db.scan(directory).await? };
        let scan = checkpoint.unwrap_or_else(|| Scan::from_the_beginning(number));
        let page = match self.read_page(client, directory, scan.clone(), number, sent_at).await {
            Ok(page) => page,
            Err(error) => {
                // A list that cannot be followed is read from its beginning; after an outage the scan goes on.
                let restart = matches!(error, SyncError::Api(ApiError::Undecodable(_)));
                self.write_failed(directory, restart).await?;
                return Err(error);
            }
        };
        self.write_page(directory, &scan, page).await
    }

    async fn read_page(
        &self,
        client: &WorkosClient,
        directory: &DirectoryId,
        mut scan: Scan,
        number: i64,
        sent_at: Timestamp,
    ) -> Result<ScanPage, SyncError> {
        let caller = client.on_behalf_of(directory, Priority::Bulk);
        let phase = scan.phase;
        let cursor = scan.cursor.take();
        let (mut users, mut groups, mut finished) = (Vec::new(), Vec::new(), false);
        let whole = ListFilter::Directory(directory);
        match scan.phase {
            ScanPhase::Users => {
                let page = caller.users(whole, cursor.as_deref()).await?;
                users = page.records;
                scan.cursor = page.after;
            }
            ScanPhase::Groups => {
                let page = caller.groups(whole, cursor.as_deref()).await?;
                groups = page.records;
                scan.cursor = page.after;
            }
            ScanPhase::Members => {
                if cursor.is_none() {
                    scan.group = self.db.next_group(directory, scan.group.as_ref()).await?;
                }
                match &scan.group {
                    Some(group) => {
                        let page = caller.users(ListFilter::Group(group), cursor.as_deref()).await?;
                        users = page.records;
                        scan.cursor = page.after;
                    }
                    None => finished = true,
                }
            }
        }
        let ids = users.iter().map(|user| user.id.as_str()).chain(groups.iter().map(|group| group.id.as_str()));
        notice_a_list_without_end(&mut scan, &ids.collect::<Vec<_>>())?;
        if scan.cursor.is_none() {
            (scan.first, scan.pages) = (None, 0);
            scan.phase = match phase {
                ScanPhase::Users => ScanPhase::Groups,
                ScanPhase::Groups | ScanPhase::Members => ScanPhase::Members,
            };
        }
        let context = TruthContext { number, sent_at: client.in_server_time(sent_at), now: self.clock.now() };
        Ok(ScanPage { asked_at: sent_at, users, groups, next: (!finished).then_some(scan), context })
    }

    async fn write_page(&self, directory: &DirectoryId, read: &Scan, page: ScanPage) -> Result<(), SyncError> {
        let now = page.context.now;
        let members_of = if read.phase == ScanPhase::Members {
            page.next.as_ref().and_then(|scan| scan.group.clone())
        } else {
            None
        };
        let mut touched = Touched::default();
        touched.users.extend(page.users.iter().map(|user| user.id.clone()));
        touched.groups.extend(page.groups.iter().map(|group| group.id.clone()));
        if let Some(group) = &members_of {
            page.users.iter().for_each(|user| touched.add_edge(group.clone(), user.id.clone()));
        }
        let mut transaction = self.db.begin_in_background().await?;
        let connection = transaction.connection();
        lease::lock(connection, directory, &self.lease).await?;
        let mut set = working_set::load(connection, directory, &touched).await?;
        if set.directory.is_gone() {
            // It was deleted while we read: there is nothing left to scan.
            scan::save_scan(connection, directory, None).await?;
            return Ok(transaction.commit().await?);
        }
        let begins = read.number == page.context.number;
        if !begins && set.directory.row.as_ref().is_some_and(|row| row.sync_status == SyncStatus::Never) {
            // It was linked or deleted anew while we read: the scan has to begin again.
            scan::save_scan(connection, directory, None).await?;
            return Ok(transaction.commit().await?);
        }
        if begins {
            scan::requested_scan_begins(connection, directory, page.asked_at).await?;
        }
        let is_first = set.directory.row.as_ref().is_none_or(|row| row.last_synced_at.is_none());
        let mut drift = apply_page(&mut set, &page, members_of.as_ref());
        let finished = page.next.is_none();
        if finished {
            for target in scan::not_listed_since(connection, directory, read.number).await? {
                drift.extra += 1;
                set.mark(target, page.context.number, now);
            }
        }
        set_status(&mut set, if finished { SyncStatus::Synced } else { SyncStatus::Running }, now);
        working_set::save(connection, &set, now).await?;
        scan::save_scan(connection, directory, page.next.as_ref()).await?;
        if finished {
            brake::release_if_settled(connection, directory).await?;
        }
        transaction.commit().await?;
        self.count_verified(&set);
        if !is_first {
            self.count_drift(&drift);
        }
        tracing::debug!(directory_id = %directory, phase = ?read.phase, users = page.users.len(), groups = page.groups.len(), ?drift, "page scanned");
        if finished {
            self.metrics.scan(ScanEnd::Finished);
            tracing::info!(directory_id = %directory, not_listed = drift.extra, "directory scanned");
        }
        Ok(())
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

/// A cursor that starts over would keep a scan busy for ever.
fn notice_a_list_without_end(scan: &mut Scan, ids: &[&str]) -> Result<(), ApiError> {
    let again = scan.pages > 0 && scan.first.as_deref().is_some_and(|first| ids.contains(&first));
    if again || scan.pages >= MOST_PAGES {
        return Err(ApiError::Undecodable("a list starts over, or never ends".to_owned()));
    }
    if scan.pages == 0 {
        scan.first = ids.first().map(|&id| id.to_owned());
    }
    scan.pages += 1;
    Ok(())
}

fn apply_page(set: &mut WorkingSet, page: &ScanPage, members_of: Option<&DirectoryGroupId>) -> Drift {
    let directory = set.directory_id.clone();
    let mut drift = Drift::default();
    for user in page.users.iter().filter(|user| user.directory_id == directory) {
        let shown = set.user(&user.id).row.as_ref().is_some_and(|row| row.deleted_at.is_none());
        let marked = set.marks.contains_key(&MarkTarget::User(user.id.clone()));
        mirror::user_truth(set, &user.id, Answer::Is(user.clone()), &page.context);
        drift.add(marked, shown, set.user(&user.id).row_changed);
        if let Some(group) = members_of {
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
    // The lists of a finished scan cover what asked for whole lists.
    if page.next.is_none() {
        let lists = set.marks.keys().filter(|target| matches!(target, MarkTarget::GroupMembers(_))).cloned();
        for target in lists.collect::<Vec<_>>() {
            set.clear_mark(&target, page.context.number);
        }
    }
    drift
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_starts_over_is_noticed_and_no_list_is_endless() {
        let mut scan = Scan::from_the_beginning(1);
        for page in [["a", "b"], ["c", "d"], ["e", "f"]] {
            assert_eq!(notice_a_list_without_end(&mut scan, &page), Ok(()));
        }
        assert!(notice_a_list_without_end(&mut scan, &["a", "b"]).is_err());
        scan.pages = MOST_PAGES;
        assert!(notice_a_list_without_end(&mut scan, &["g", "h"]).is_err());
    }
}
