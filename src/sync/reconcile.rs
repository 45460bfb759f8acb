//! The scan of a directory: every user, group and membership, page by page, and a mark for what was not listed.

use super::{Engine, SyncError};
use crate::clock::Timestamp;
use crate::db::{DbError, Scan, ScanPhase, progress, working_set};
use crate::mirror::{self, Answer, Entity, Touched, TruthContext, WorkingSet};
use crate::model::{DirectoryId, DirectoryRow, GroupRecord, MarkTarget, SyncStatus, UserRecord};
use crate::workos::{ApiError, ListFilter, WorkosClient};

/// One page, and how far the scan is once it is written.
struct ScanPage {
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
                    let id = record.id.clone();
                    let number = self.db.next_number(&id, self.lease).await?;
                    // The number is younger than the answer: a mark that was set in between must stay.
                    self.apply_directory(&id, Some(record), number - 1, page.sent_at).await?;
                }
            }
            if page.after.is_none() || page.after == cursor {
                return Ok(());
            }
            cursor = page.after;
        }
    }

    /// What is known of a directory at this moment, outside any lock.
    pub(super) async fn look_at(&self, directory: &DirectoryId) -> Result<Entity<DirectoryRow>, DbError> {
        let mut connection = self.db.read().await?;
        Ok(working_set::load(&mut connection, directory, &Touched::default()).await?.directory)
    }

    /// Reads and writes the next page of a directory's scan.
    pub(super) async fn scan_page(&self, client: &WorkosClient, directory: &DirectoryId) -> Result<(), SyncError> {
        let number = self.db.next_number(directory, self.lease).await?;
        let sent_at = self.clock.now();
        let anew = self.look_at(directory).await?.row.is_none_or(|row| row.sync_status == SyncStatus::Never);
        // A directory that has to be scanned anew begins at the beginning, whatever checkpoint there is.
        let scan = if anew { None } else { self.db.scan(directory).await? };
        let scan = scan.unwrap_or(Scan { phase: ScanPhase::Users, cursor: None, group: None, number });
        let page = match self.read_page(client, directory, scan.clone(), number, sent_at).await {
            Ok(page) => page,
            Err(error) => {
                self.write_status(directory, SyncStatus::Failed).await?;
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
        let cursor = scan.cursor.take();
        let (mut users, mut groups, mut finished) = (Vec::new(), Vec::new(), false);
        let whole = ListFilter::Directory(directory);
        match scan.phase {
            ScanPhase::Users => {
                let page = client.users(directory, whole, cursor.as_deref()).await?;
                users = page.records;
                scan.cursor = page.after;
                if scan.cursor.is_none() {
                    scan.phase = ScanPhase::Groups;
                }
            }
            ScanPhase::Groups => {
                let page = client.groups(whole, cursor.as_deref()).await?;
                groups = page.records;
                scan.cursor = page.after;
                if scan.cursor.is_none() {
                    scan.phase = ScanPhase::Members;
                }
            }
            ScanPhase::Members => {
                if cursor.is_none() {
                    scan.group = self.db.next_group(directory, scan.group.as_ref()).await?;
                }
                match &scan.group {
                    Some(group) => {
                        let page = client.users(directory, ListFilter::Group(group), cursor.as_deref()).await?;
                        users = page.records;
                        scan.cursor = page.after;
                    }
                    None => finished = true,
                }
            }
        }
        if scan.cursor.is_some() && scan.cursor == cursor {
            return Err(ApiError::Undecodable("a list's cursor does not advance".to_owned()).into());
        }
        let context = TruthContext { number, sent_at, now: self.clock.now() };
        Ok(ScanPage { users, groups, next: (!finished).then_some(scan), context })
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
        progress::lock(connection, directory, self.lease).await?;
        let mut set = working_set::load(connection, directory, &touched).await?;
        if set.directory.is_gone() {
            // It was deleted while we read: there is nothing left to scan.
            progress::save_scan(connection, directory, None).await?;
            return Ok(transaction.commit().await?);
        }
        let begins = read.number == page.context.number;
        if !begins && set.directory.row.as_ref().is_some_and(|row| row.sync_status == SyncStatus::Never) {
            // It was linked or deleted anew while we read: the scan has to begin again.
            progress::save_scan(connection, directory, None).await?;
            return Ok(transaction.commit().await?);
        }
        apply_page(&mut set, &page, members_of.as_ref());
        let finished = page.next.is_none();
        if finished {
            for target in progress::not_listed_since(connection, directory, read.number).await? {
                set.mark(target, page.context.number, now);
            }
        }
        set_status(&mut set, if finished { SyncStatus::Synced } else { SyncStatus::Running }, now);
        working_set::save(connection, &set, now).await?;
        progress::save_scan(connection, directory, page.next.as_ref()).await?;
        transaction.commit().await?;
        tracing::info!(directory_id = %directory, phase = ?read.phase, users = page.users.len(), groups = page.groups.len(), finished, "page scanned");
        Ok(())
    }

    async fn write_status(&self, directory: &DirectoryId, status: SyncStatus) -> Result<(), DbError> {
        let now = self.clock.now();
        let mut transaction = self.db.begin_in_background().await?;
        let connection = transaction.connection();
        progress::lock(connection, directory, self.lease).await?;
        let mut set = working_set::load(connection, directory, &Touched::default()).await?;
        if set.directory.row.as_ref().is_some_and(|row| row.sync_status == SyncStatus::Never) {
            progress::save_scan(connection, directory, None).await?;
        }
        set_status(&mut set, status, now);
        working_set::save(connection, &set, now).await?;
        transaction.commit().await
    }
}

fn apply_page(set: &mut WorkingSet, page: &ScanPage, members_of: Option<&crate::model::DirectoryGroupId>) {
    let directory = set.directory_id.clone();
    for user in page.users.iter().filter(|user| user.directory_id == directory) {
        mirror::user_truth(set, &user.id, Answer::Is(user.clone()), &page.context);
        if let Some(group) = members_of {
            mirror::edge_truth(set, &(group.clone(), user.id.clone()), true, &page.context);
        }
    }
    for group in page.groups.iter().filter(|group| group.directory_id == directory) {
        mirror::group_truth(set, &group.id, Answer::Is(group.clone()), &page.context);
    }
    // The lists of a finished scan cover what asked for whole lists.
    if page.next.is_none() {
        let lists = set.marks.keys().filter(|target| matches!(target, MarkTarget::GroupMembers(_))).cloned();
        for target in lists.collect::<Vec<_>>() {
            set.clear_mark(&target, page.context.number);
        }
    }
}

fn set_status(set: &mut WorkingSet, status: SyncStatus, now: Timestamp) {
    if let Some(row) = &mut set.directory.row {
        row.sync_status = status;
        if status == SyncStatus::Synced {
            row.last_synced_at = Some(now);
        }
        set.directory.row_changed = true;
    }
}
