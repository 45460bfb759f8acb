//! Refresh: works through a directory's marks against the API, by the fewest requests.
//!
//! Each wave is planned anew from all marks that are due, and the plan's first moves are made. Each move takes a number
//! of the directory's sequence before its first request is sent.

use std::time::Instant;

use chrono::TimeDelta;
use futures_util::future::join_all;

use super::fetch::Fetched;
use super::{Engine, Step, SyncError, answers, planning};
use crate::clock::Timestamp;
use crate::db::{DbConnection, DbError, brake, lease, working_set};
use crate::metrics::RefreshStep;
use crate::mirror::{self, Answer, HELD_MINUTES, Touched, TruthContext, WorkingSet};
use crate::model::{DirectoryId, DirectoryRecord, Mark, MarkTarget, SyncStatus};
use crate::workos::{ApiError, Asked, Priority, WorkosClient};

/// A mark that cannot be decided, since the API's answers are in doubt, is looked at again after this long.
const DOUBT_SECONDS: i64 = 60;
const UNKNOWN_DIRECTORY: &str = "the API does not know this directory, though no event said that it was deleted: check \
     that WORKOS_API_KEY belongs to the environment that sends the webhooks; nothing was removed";

/// An answer and the number of its request.
struct Answered {
    number: i64,
    fetched: Fetched,
}

/// When the requests of a wave were sent: by our clock, and by the API's.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    pub(super) asked_at: Timestamp,
    pub(super) sent_at: Timestamp,
}

impl Sent {
    pub(super) fn new(client: &WorkosClient, asked: Asked) -> Self {
        Self { asked_at: asked.at, sent_at: client.in_server_time(asked) }
    }
}

enum ScanToDo {
    None,
    First,
    Again { begins: bool },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Marks {
    All,
    Urgent,
}

impl Engine {
    /// Does one piece of work for a directory: its own record, then a page of its scan, then a wave of marks.
    ///
    /// # Errors
    /// [`SyncError`]; what was not written stays marked.
    pub async fn refresh_step(&self, directory: &DirectoryId) -> Result<Step, SyncError> {
        let Some(client) = &self.client else { return Ok(Step::Idle) };
        let now = self.clock.now();
        let marks = self.db.due_marks(directory, now, planning::HORIZON as i64).await?;
        if marks.first().is_some_and(|mark| mark.target == MarkTarget::Directory) {
            self.timed(RefreshStep::Directory, self.refresh_directory(client, directory)).await?;
            return Ok(Step::Ran);
        }
        match self.scan_to_do(directory, marks.is_empty()).await? {
            ScanToDo::None if marks.is_empty() => return Ok(Step::Idle),
            ScanToDo::None => {
                self.timed(RefreshStep::Wave, self.refresh_wave(client, directory, marks, Marks::All)).await?;
            }
            // A first scan fetches what is marked anyway; only who left is asked for at once.
            ScanToDo::First => {
                let urgent: Vec<Mark> = marks.into_iter().filter(|mark| mark.urgent).collect();
                self.refresh_beside_scan(client, directory, urgent, Marks::Urgent).await?;
                self.timed(RefreshStep::ScanPage, self.scan_pages(client, directory)).await?;
            }
            ScanToDo::Again { begins } => {
                if begins {
                    // A key that does not know the directory would list nothing.
                    self.timed(RefreshStep::Directory, self.refresh_directory(client, directory)).await?;
                }
                // A long scan must not keep a change waiting.
                self.refresh_beside_scan(client, directory, marks, Marks::All).await?;
                self.timed(RefreshStep::ScanPage, self.scan_pages(client, directory)).await?;
            }
        }
        Ok(Step::Ran)
    }

    /// A wave between two pages of a scan. A request that fails for itself alone does not keep the scan from going on: in
    /// an outage the scan's own request fails as well.
    async fn refresh_beside_scan(
        &self,
        client: &WorkosClient,
        directory: &DirectoryId,
        marks: Vec<Mark>,
        which: Marks,
    ) -> Result<(), SyncError> {
        if marks.is_empty() {
            return Ok(());
        }
        match self.timed(RefreshStep::Wave, self.refresh_wave(client, directory, marks, which)).await {
            Err(SyncError::Api(error)) if may_concern_one_request(&error) => {
                tracing::warn!(directory_id = %directory, %error, "a request fails; its mark is put off, and the scan goes on");
                Ok(())
            }
            wave => wave,
        }
    }

    async fn timed<T>(&self, step: RefreshStep, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let result = work.await;
        self.metrics.refresh_took(step, started.elapsed());
        result
    }

    async fn refresh_directory(&self, client: &WorkosClient, directory: &DirectoryId) -> Result<(), SyncError> {
        let number = self.db.next_number(directory, &self.lease).await?;
        let asked = client.asking();
        let answer = client.on_behalf_of(directory, Priority::Small).record().await?;
        self.apply_directory(directory, answer, number, Sent::new(client, asked)).await
    }

    /// Applies what the API says of a directory. A 404 that no event announced removes nothing.
    pub(super) async fn apply_directory(
        &self,
        directory: &DirectoryId,
        answer: Option<DirectoryRecord>,
        number: i64,
        Sent { asked_at, sent_at }: Sent,
    ) -> Result<(), SyncError> {
        let now = self.clock.now();
        let mut transaction = self.db.begin_in_background().await?;
        let connection = transaction.connection();
        let applied_under = lease::lock(connection, directory, &self.lease).await?;
        let mut set = working_set::load(connection, directory, &Touched::default()).await?;
        let announced = set.directory.is_gone() || set.directory.memory.hint.as_ref().is_some_and(|hint| hint.removes);
        let doubtful = answer.is_none() && !announced;
        if doubtful {
            answers::put_off(&mut set, &MarkTarget::Directory, now + TimeDelta::seconds(DOUBT_SECONDS));
        } else {
            let answer = answer.map_or(Answer::Gone, Answer::Is);
            let context = TruthContext { number, sent_at, asked_at, now, applied_under };
            let verdict = mirror::directory_truth(&mut set, answer, &context);
            tracing::info!(directory_id = %directory, ?verdict, "directory fetched");
        }
        working_set::save(connection, &set, now).await?;
        transaction.commit().await?;
        self.count_verified(&set);
        if doubtful { Err(SyncError::Doubtful(UNKNOWN_DIRECTORY)) } else { Ok(()) }
    }

    /// A scan that failed waits for the marks that are due, so that what stops it does not stop everything. A directory
    /// whose own record was never fetched is not scanned: a wrong key would list nothing.
    async fn scan_to_do(&self, directory: &DirectoryId, nothing_else: bool) -> Result<ScanToDo, SyncError> {
        let known = self.look_at(directory).await?;
        let fetched = known.memory.truth_number > 0;
        let Some(row) = known.row.filter(|row| fetched && row.is_followed()) else {
            return Ok(ScanToDo::None);
        };
        let wanted = match row.sync_status {
            SyncStatus::Synced => self.db.scan_requested_at(directory).await?.is_some(),
            SyncStatus::Failed => nothing_else,
            SyncStatus::Never | SyncStatus::Running => true,
        };
        Ok(match row.last_synced_at {
            _ if !wanted => ScanToDo::None,
            None => ScanToDo::First,
            Some(_) => ScanToDo::Again { begins: self.db.scan(directory).await?.is_none() },
        })
    }

    async fn refresh_wave(
        &self,
        client: &WorkosClient,
        directory: &DirectoryId,
        mut marks: Vec<Mark>,
        which: Marks,
    ) -> Result<(), SyncError> {
        let costs = planning::path_costs(client.spacing());
        while let Err(at) = client.users_room(directory, planning::least_room(&marks, costs)) {
            tokio::time::sleep_until(at).await;
            // Others may have come in meanwhile, and the directory's own record goes first.
            marks = self.db.due_marks(directory, self.clock.now(), planning::HORIZON as i64).await?;
            marks.retain(|mark| mark.target != MarkTarget::Directory && (mark.urgent || which == Marks::All));
        }
        if marks.is_empty() {
            return Ok(());
        }
        let users_room = client.users_room(directory, 0).unwrap_or_default();
        let revokes = marks.iter().any(|mark| mark.urgent);
        let turn = self.processing.turn(revokes).await;
        let now = self.clock.now();
        let mut beliefs = self.db.beliefs(directory, &marks, now).await?;
        if planning::are_part_of_more(&marks, now) {
            beliefs.read_users_by(&self.db.user_page_cursors(directory, planning::PAGE_SIZE.get()).await?);
        }
        for target in self.lately.not_shown(directory, &marks) {
            beliefs.lose_place(&target);
        }
        let wave = planning::next_wave(&marks, &beliefs, costs, users_room);
        drop(turn);
        let first = self.db.next_numbers(directory, &self.lease, wave.len()).await?;
        let asked = client.asking();
        let requests = wave
            .iter()
            .map(async |one| self.fetch(client.on_behalf_of(directory, one.priority), one.step, &one.marks).await);
        let (mut answers, mut failure) = (Vec::new(), None);
        let results = join_all(requests).await;
        let any_answered = results.iter().any(Result::is_ok);
        for ((number, result), one) in (first..).zip(results).zip(&wave) {
            let fetched = match result {
                Ok(fetched) => {
                    self.lately.had_an_answer(directory, &one.marks);
                    fetched
                }
                // Whoever has the directory now goes on at once.
                Err(error @ SyncError::Api(ApiError::Withheld)) => {
                    failure = Some(error);
                    continue;
                }
                Err(error) => {
                    failure = Some(error);
                    vec![Fetched::Unanswered(self.lately.had_no_answer(directory, one.marks.clone(), any_answered))]
                }
            };
            for one in &fetched {
                match one {
                    Fetched::NotShown(marks) => self.lately.did_not_show(directory, marks),
                    // What a page or a list that always fails was to show is asked for by itself.
                    Fetched::Failed(marks, _) if marks.len() > 1 => self.lately.did_not_show(directory, marks),
                    Fetched::Unanswered(marks) if any_answered && marks.len() > 1 => {
                        let marks: Vec<Mark> = marks.iter().map(|(mark, _)| mark.clone()).collect();
                        self.lately.did_not_show(directory, &marks);
                    }
                    _ => {}
                }
            }
            answers.extend(fetched.into_iter().map(|fetched| Answered { number, fetched }));
        }
        let answers: Vec<&Answered> = answers.iter().collect();
        let sent = Sent::new(client, asked);
        let unannounced = self.apply(directory, &answers, sent, (false, revokes)).await?;
        if !unannounced.is_empty() {
            let number = self.db.next_number(directory, &self.lease).await?;
            let asked = client.asking();
            if client.on_behalf_of(directory, Priority::Small).record().await?.is_none() {
                self.put_off_users_and_groups(directory, &unannounced).await?;
                let sent = Sent::new(client, asked);
                return self.apply_directory(directory, None, number, sent).await;
            }
            self.apply(directory, &unannounced, sent, (true, revokes)).await?;
        }
        match failure {
            // What always fails for one record holds up nobody else.
            Some(SyncError::Api(error)) if any_answered && may_concern_one_request(&error) => {
                tracing::warn!(directory_id = %directory, %error, "a request fails; its mark is put off");
                Ok(())
            }
            failure => failure.map_or(Ok(()), Err),
        }
    }

    /// Applies a wave's answers in one transaction. Gives back the 404s that no event announced, which it left alone.
    async fn apply<'a>(
        &self,
        directory: &DirectoryId,
        answers: &[&'a Answered],
        sent: Sent,
        (directory_exists, revokes): (bool, bool),
    ) -> Result<Vec<&'a Answered>, DbError> {
        let _turn = self.processing.turn(revokes).await;
        let now = self.clock.now();
        let mut touched = Touched::default();
        answers.iter().for_each(|one| answers::touch(&mut touched, &one.fetched));
        let mut transaction = self.db.begin_in_background().await?;
        let connection = transaction.connection();
        let applied_under = lease::lock(connection, directory, &self.lease).await?;
        let mut set = working_set::load(connection, directory, &touched).await?;
        let mut unannounced = Vec::new();
        let stopped = directory_exists && self.stops_removals(connection, &set, answers).await?;
        if !set.directory.is_gone() {
            for one in answers {
                if stopped && answers::removes_unannounced(&set, &one.fetched) {
                    continue;
                }
                let Sent { sent_at, asked_at } = sent;
                let context = TruthContext { number: one.number, sent_at, asked_at, now, applied_under };
                if !answers::apply_one(&mut set, &one.fetched, &context, directory_exists) {
                    unannounced.push(*one);
                }
            }
        }
        working_set::save(connection, &set, now).await?;
        brake::release_if_settled(connection, directory).await?;
        transaction.commit().await?;
        self.count_verified(&set);
        tracing::debug!(directory_id = %directory, answers = answers.len(), "truth fetched");
        Ok(unannounced)
    }

    /// Whether the brake stops the removals among these answers: those of what the mirror shows and no event announced.
    async fn stops_removals(
        &self,
        connection: &mut DbConnection,
        set: &WorkingSet,
        answers: &[&Answered],
    ) -> Result<bool, DbError> {
        let removals: Vec<&Answered> =
            answers.iter().copied().filter(|one| answers::removes_unannounced(set, &one.fetched)).collect();
        if removals.is_empty() {
            return Ok(false);
        }
        let (directory, now) = (&set.directory_id, self.clock.now());
        let (mut brake, live) = brake::load(connection, directory).await?;
        let was_braked = brake.braked_at.is_some();
        let allowed = brake.allows(i64::try_from(removals.len()).unwrap_or(i64::MAX), live, now);
        brake::save(connection, directory, &brake).await?;
        if allowed {
            return Ok(false);
        }
        if !was_braked {
            tracing::error!(directory_id = %directory, "too many users and groups have vanished at once: none is removed until `directory-mirror sync --confirm-removals` says that it is right");
        }
        let held: Vec<&Mark> = removals.iter().filter_map(|one| answers::mark_of(set, &one.fetched)).collect();
        brake::hold(connection, directory, &held, now + TimeDelta::minutes(HELD_MINUTES)).await?;
        Ok(true)
    }

    async fn put_off_users_and_groups(&self, directory: &DirectoryId, doubted: &[&Answered]) -> Result<(), DbError> {
        let now = self.clock.now();
        let mut touched = Touched::default();
        doubted.iter().for_each(|one| answers::touch(&mut touched, &one.fetched));
        let mut transaction = self.db.begin_in_background().await?;
        let connection = transaction.connection();
        lease::lock(connection, directory, &self.lease).await?;
        let mut set = working_set::load(connection, directory, &touched).await?;
        // The directory's own mark decides about all of these, and must not wait with them.
        for target in set.marks.keys().filter(|target| **target != MarkTarget::Directory).cloned().collect::<Vec<_>>() {
            answers::put_off(&mut set, &target, now + TimeDelta::seconds(DOUBT_SECONDS));
        }
        working_set::save(connection, &set, now).await?;
        transaction.commit().await
    }
}

/// Whether the API may answer other requests while this one fails.
fn may_concern_one_request(error: &ApiError) -> bool {
    matches!(error, ApiError::Unreachable(_) | ApiError::Status(_))
}
