//! The worker: runs fold, refresh and the poller until it is told to stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::alive::{alive_loop, news_loop};
use super::gather::{FOLD_REST, Gathering, LULL};
use super::turns::{Backoff, Turns};
use super::{Engine, Step, SyncError, retention};
use crate::db::{DbError, Due};
use crate::model::DirectoryId;
use crate::workos::ApiError;

/// What one directory may do before others have their turn, and for how long.
const STEPS_IN_A_TURN: usize = 64;
/// The same while more events of the directory come in: a long burst must not keep what it marks from being fetched.
const STEPS_WHILE_GATHERING: usize = 8;
const TURN: Duration = Duration::from_secs(2);
/// How long a loop rests when nothing wakes it: the fallback, not the mechanism.
const REST: Duration = Duration::from_millis(250);
const LONGEST_BETWEEN_DISCOVERIES: Duration = Duration::from_secs(600);
const SHORTEST_SCHEDULE_REST: Duration = Duration::from_millis(50);
const LONGEST_SCHEDULE_REST: Duration = Duration::from_secs(30);
/// The longest wait after a failure while other requests succeed, and while none do.
const LONGEST_BACKOFF: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(30)];

/// The running loops.
pub struct Worker {
    fold: JoinHandle<()>,
    refresh: JoinHandle<()>,
    schedule: JoinHandle<()>,
    alive: JoinHandle<()>,
    news: JoinHandle<()>,
    poll: Option<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    engine: Arc<Engine>,
}

impl Worker {
    /// Starts the loops. `committed` tells of new events in the inbox. The Events API is read every `poll_interval`,
    /// or not at all; without an API it never is.
    #[must_use]
    pub fn start(engine: Arc<Engine>, committed: Arc<Notify>, poll_interval: Option<Duration>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let folded = Arc::new(Notify::new());
        let poll = poll_interval.filter(|_| engine.client.is_some()).map(|interval| {
            tokio::spawn(poll_loop(Arc::clone(&engine), Arc::clone(&committed), interval, stopped.clone()))
        });
        let alive = tokio::spawn(alive_loop(Arc::clone(&engine), stopped.clone()));
        let news = tokio::spawn(news_loop(Arc::clone(&engine), Arc::clone(&committed), stopped.clone()));
        let gathering = Arc::new(Gathering::default());
        let told = (Arc::clone(&folded), Arc::clone(&gathering));
        let fold = tokio::spawn(fold_loop(Arc::clone(&engine), committed, told, stopped.clone()));
        let hears = (Arc::clone(&folded), gathering);
        let refresh = tokio::spawn(refresh_loop(Arc::clone(&engine), hears, stopped.clone()));
        let retention = retention::run(Arc::clone(&engine), stopped.clone());
        let schedule = schedule_loop(Arc::clone(&engine), folded, stopped);
        let schedule = tokio::spawn(async {
            let ((), ()) = tokio::join!(schedule, retention);
        });
        Self { fold, refresh, schedule, alive, news, poll, stop, engine }
    }

    /// Whether all loops run that were started.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        // The other two have nothing to do on SQLite.
        let ended = self.engine.db.is_postgres() && (self.alive.is_finished() || self.news.is_finished());
        let tasks = [Some(&self.fold), Some(&self.refresh), Some(&self.schedule), self.poll.as_ref()];
        !ended && tasks.into_iter().flatten().all(|task| !task.is_finished())
    }

    /// Stops after the work in hand: fold ends its batch, requests under way are dropped with what they would have
    /// written. Other workers can take over at once.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.fold.await;
        let _ = self.refresh.await;
        let _ = self.schedule.await;
        if let Some(poll) = self.poll {
            let _ = poll.await;
        }
        let _ = self.alive.await;
        let _ = self.news.await;
        if let Err(error) = self.engine.db.give_back(&self.engine.lease).await {
            tracing::warn!(%error, "the leases cannot be given back; they run out by themselves");
        }
    }
}

async fn fold_loop(
    engine: Arc<Engine>,
    committed: Arc<Notify>,
    (folded, gathering): (Arc<Notify>, Arc<Gathering>),
    mut stop: watch::Receiver<bool>,
) {
    let mut backoff = Backoff::new();
    while !*stop.borrow() {
        let rest = match engine.fold_next().await {
            Ok(done) if done.step == Step::Ran => {
                backoff.reset();
                gathering.folded(done.directories, done.was_full, Instant::now());
                folded.notify_one();
                if !done.was_full {
                    tokio::select! {
                        () = tokio::time::sleep(FOLD_REST) => {}
                        _ = stop.changed() => {}
                    }
                }
                continue;
            }
            Ok(_) => {
                gathering.fold_rests();
                REST
            }
            Err(error) => {
                gathering.fold_rests();
                tracing::error!(%error, "events cannot be folded; they stay in the inbox");
                backoff.next(LONGEST_BACKOFF[0])
            }
        };
        tokio::select! {
            () = committed.notified() => {}
            () = tokio::time::sleep(rest) => {}
            _ = stop.changed() => {}
        }
    }
}

/// Looks at the schedule some times in each interval.
async fn schedule_loop(engine: Arc<Engine>, requested: Arc<Notify>, mut stop: watch::Receiver<bool>) {
    let rest = engine.reconcile_interval.map_or(LONGEST_SCHEDULE_REST, |interval| interval / 20);
    while !*stop.borrow() {
        match if engine.lease.is_first() { engine.schedule_step().await } else { Ok(Step::Idle) } {
            Ok(Step::Ran) => requested.notify_one(),
            Ok(Step::Idle) => {}
            Err(error) => tracing::warn!(%error, "the schedule cannot be looked at; tried again"),
        }
        tokio::select! {
            () = tokio::time::sleep(rest.clamp(SHORTEST_SCHEDULE_REST, LONGEST_SCHEDULE_REST)) => {}
            _ = stop.changed() => {}
        }
    }
}

async fn refresh_loop(
    engine: Arc<Engine>,
    (folded, gathering): (Arc<Notify>, Arc<Gathering>),
    mut stop: watch::Receiver<bool>,
) {
    let mut tasks: JoinSet<(DirectoryId, bool)> = JoinSet::new();
    let mut turns = Turns::default();
    let discovery = tokio::spawn(discover(Arc::clone(&engine), Arc::clone(&folded)));
    while !*stop.borrow() {
        let mut rest = REST;
        if engine.client.is_some() {
            match engine.db.directories_to_refresh(engine.clock.now(), &engine.lease).await {
                Ok(due) => {
                    let now = Instant::now();
                    // Only what verifies that something was taken away never waits.
                    let gathers = |directory: &DirectoryId, what| what == Due::Marks && gathering.holds(directory, now);
                    if due.iter().any(|(directory, what)| gathers(directory, *what)) {
                        rest = LULL;
                    }
                    for turn in turns.choose(due, gathers, now) {
                        gathering.begins(&turn.directory, now);
                        tasks.spawn(refresh_directory(
                            Arc::clone(&engine),
                            Arc::clone(&gathering),
                            turn.directory,
                            turn.failed_before,
                        ));
                    }
                }
                Err(error) => tracing::error!(%error, "what has to be fetched cannot be read"),
            }
        }
        tokio::select! {
            () = folded.notified() => {}
            () = tokio::time::sleep(rest) => {}
            _ = stop.changed() => {}
            Some(done) = tasks.join_next() => match done {
                Ok((directory, failed)) => turns.ended(directory, failed, longest_backoff(&engine), Instant::now()),
                // A task that panicked does not say whose it was: the others are let go as well and start again.
                Err(error) => {
                    tracing::error!(%error, "a refresh broke down");
                    tasks.shutdown().await;
                    turns.all_ended();
                }
            },
        }
    }
    discovery.abort();
    tasks.shutdown().await;
}

/// Reads the Events API to its end, and again after each interval. Of several workers the first does.
async fn poll_loop(engine: Arc<Engine>, committed: Arc<Notify>, interval: Duration, mut stop: watch::Receiver<bool>) {
    let mut backoff = Backoff::new();
    while !*stop.borrow() {
        let rest = if !engine.lease.is_first() {
            REST
        } else {
            let polled = tokio::select! {
                polled = engine.poll() => polled,
                _ = stop.changed() => break,
            };
            match polled {
                Ok(polled) => {
                    backoff.reset();
                    if polled.new_events > 0 {
                        committed.notify_one();
                    }
                    if polled.step == Step::Ran {
                        continue;
                    }
                    interval
                }
                Err(error) => {
                    tracing::warn!(%error, "the events cannot be polled; tried again");
                    backoff.next(longest_backoff(&engine))
                }
            }
        };
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            _ = stop.changed() => {}
        }
    }
}

/// Works until nothing is due for the directory, a request fails, or others have waited long enough. Answers whether it
/// failed: it is the caller who waits, so that a directory that fails keeps no other from its turn.
async fn refresh_directory(
    engine: Arc<Engine>,
    gathering: Arc<Gathering>,
    directory: DirectoryId,
    mut failed_before: bool,
) -> (DirectoryId, bool) {
    let started = Instant::now();
    for step in 1..=STEPS_IN_A_TURN {
        if started.elapsed() > TURN || !engine.lease.has(&directory) {
            break;
        }
        match engine.refresh_step(&directory).await {
            Ok(Step::Idle) => break,
            Ok(Step::Ran) => {
                if std::mem::take(&mut failed_before) {
                    note(&engine, &directory, None).await;
                }
                if step >= STEPS_WHILE_GATHERING && gathering.holds(&directory, Instant::now()) {
                    break;
                }
            }
            Err(SyncError::Db(DbError::LeaseLost(_)) | SyncError::Api(ApiError::Withheld)) => {
                tracing::info!(directory_id = %directory, "another worker has the directory");
                break;
            }
            Err(error) => {
                tracing::warn!(directory_id = %directory, %error, "the directory cannot be refreshed; tried again");
                note(&engine, &directory, Some(&error.to_string())).await;
                return (directory, true);
            }
        }
    }
    (directory, false)
}

async fn note(engine: &Engine, directory: &DirectoryId, error: Option<&str>) {
    if let Err(error) = engine.db.note_error(directory, error).await {
        tracing::warn!(directory_id = %directory, %error, "the directory's state cannot be noted");
    }
}

fn longest_backoff(engine: &Engine) -> Duration {
    let answers = engine.client.as_ref().and_then(|client| client.health().last_success);
    let lately = answers.is_some_and(|at| engine.clock.now() - at < chrono::TimeDelta::seconds(60));
    LONGEST_BACKOFF[usize::from(!lately)]
}

/// Lists the directories at the start, which never waits for the API, and again every ten minutes, or as often as reconciles are due: nothing
/// else tells of a directory whose events were lost, or that was linked again without any. Of several workers the first
/// does, and another once that is the first.
async fn discover(engine: Arc<Engine>, found: Arc<Notify>) {
    let mut backoff = Backoff::new();
    loop {
        while !engine.lease.is_first() {
            tokio::time::sleep(REST).await;
        }
        while let Err(error) = engine.discover_directories().await {
            tracing::warn!(%error, "the directories cannot be listed; tried again");
            tokio::time::sleep(backoff.next(longest_backoff(&engine))).await;
        }
        backoff.reset();
        found.notify_one();
        let Some(interval) = engine.reconcile_interval else { return };
        tokio::time::sleep(interval.min(LONGEST_BETWEEN_DISCOVERIES)).await;
    }
}
