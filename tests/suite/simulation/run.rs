//! Runs a history against the real engine and a real database.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, Weak};
use std::task::Poll;
use std::time::Duration;

use chrono::TimeDelta;
use directory_mirror::cli::compare::differences;
use directory_mirror::clock::Clock;
use directory_mirror::db::{Db, MarkFilter};
use directory_mirror::model::DirectoryId;
use directory_mirror::sync::{Engine, Retention, Step};
use directory_mirror::webhook::inbox_event;
use directory_mirror::workos::{Reply, Transport, WorkosClient};
use workos_emulator::EmittedEvent;

use super::checks::Witness;
use super::network::Network;
use super::op::{Doing, Fault, Op, place};
use super::stage::{Stage, folded_events};

const RECONCILE_INTERVAL: Duration = Duration::from_secs(6 * 3600);
const ROUNDS_TO_SETTLE: usize = 40;
/// After so many rounds somebody confirms what the brake holds.
const ROUNDS_WITHOUT_OPERATOR: usize = 8;
const MINUTE: i64 = 61_000;
const HOUR: i64 = 3_700_000;
const STEPS_IN_A_ROW: usize = 400;
const STEPS_OF_PATIENCE: usize = 20;

struct Shared {
    network: Mutex<Network>,
    witness: Mutex<Witness>,
    /// What is to happen while a request is under way, and after how many others.
    meanwhile: Mutex<(usize, Vec<Op>)>,
    engine: Mutex<Weak<Engine>>,
    db: Db,
}

impl Shared {
    fn network<T>(&self, with: impl FnOnce(&mut Network) -> T) -> T {
        with(&mut self.network.lock().unwrap())
    }

    fn witness<T>(&self, with: impl FnOnce(&mut Witness) -> T) -> T {
        with(&mut self.witness.lock().unwrap())
    }

    /// Only what is acknowledged has arrived: a process that dies before leaves the webhook to be sent again.
    async fn arrive(&self, event: EmittedEvent) {
        let now = self.network(|network| network.our_now());
        self.db.store_events(vec![inbox_event(event.body.to_vec(), now, "webhook")]).await.unwrap();
        self.network(|network| {
            network.waiting.retain(|waiting| waiting.id != event.id);
            network.arrived.push(event);
        });
    }

    /// What may happen while a request is under way.
    async fn happen(&self, op: &Op) {
        match op {
            Op::Deliver(number) => {
                let count = self.network(|network| network.waiting.len());
                if count > 0 {
                    let event = self.network(|network| network.waiting[place(*number, count)].clone());
                    self.arrive(event).await;
                }
            }
            Op::DeliverAll => {
                for event in self.network(|network| network.waiting.clone()) {
                    self.arrive(event).await;
                }
            }
            Op::Redeliver(number) => {
                let arrived =
                    self.network(|network| network.arrived.get(place(*number, network.arrived.len())).cloned());
                if let Some(event) = arrived {
                    self.arrive(event).await;
                }
            }
            Op::Drop(number) => self.network(|network| network.lose(*number)),
            Op::LoseHalf(seed) => self.network(|network| network.lose_half(*seed)),
            Op::Pass(milliseconds) => self.network(|network| network.pass(*milliseconds)),
            Op::ClockOff(milliseconds) => {
                self.network(|network| network.clock_off = TimeDelta::milliseconds(*milliseconds));
                self.witness(|witness| witness.clock_changed = true);
            }
            Op::Api(fault) => self.network(|network| network.fault = *fault),
            Op::Lag(milliseconds) => self.network(|network| network.lag = TimeDelta::milliseconds(*milliseconds)),
            Op::Pages(size) => self.network(|network| network.page_size = Some(*size)),
            Op::OmitInactive => self.network(Network::omit_inactive),
            Op::RequestScan(number) => self.request_scan(*number).await,
            Op::Enable(number) => self.enable(*number, true).await,
            Op::Disable(number) => self.enable(*number, false).await,
            Op::ConfirmRemovals(number) => {
                if let Some(id) = self.directory(*number) {
                    self.confirm(&id).await;
                }
            }
            Op::RetryMarks(number) => {
                if let Some(id) = self.directory(*number) {
                    let now = self.network(|network| network.our_now());
                    self.db.retry_marks(&id, None, now).await.unwrap();
                }
            }
            Op::Fold => {
                let engine = self.engine.lock().unwrap().upgrade().unwrap();
                engine.fold_step().await.unwrap();
                self.note_folded().await;
            }
            change => self.network(|network| network.change(change)),
        }
    }

    /// What is answered to requests that are sent from now on comes after what was folded by now.
    async fn note_folded(&self) {
        let folded = folded_events(&self.db).await;
        let network = self.network.lock().unwrap();
        self.witness(|witness| witness.note_folded(folded, &network.emitted));
    }

    async fn request_scan(&self, number: usize) {
        if let Some(id) = self.directory(number) {
            let now = self.network(|network| network.our_now());
            self.db.request_scan(Some(&id), now).await.unwrap();
        }
    }

    async fn enable(&self, number: usize, enabled: bool) {
        if let Some(id) = self.directory(number) {
            self.db.set_enabled(&id, enabled).await.unwrap();
        }
        if enabled {
            self.request_scan(number).await;
        } else {
            self.network(|network| network.was_disabled = true);
        }
    }

    async fn confirm(&self, id: &DirectoryId) {
        let now = self.network(|network| network.our_now());
        self.db.confirm_removals(id, now).await.unwrap();
        self.witness(|witness| witness.confirmed.insert(id.to_string()));
    }

    fn directory(&self, number: usize) -> Option<DirectoryId> {
        self.network(|network| {
            let id = network.directories.get(place(number, network.directories.len()));
            id.map(|id| DirectoryId::from_stored(id.clone()))
        })
    }
}

struct Wire(Arc<Shared>);

impl Transport for Wire {
    fn exchange(&self, url: reqwest::Url) -> Pin<Box<dyn Future<Output = Result<Reply, String>> + Send + '_>> {
        Box::pin(async move {
            let sent = (self.0.witness(|witness| witness.sent(&url)), self.0.network(|network| network.now));
            // The others of a wave are sent before the first is answered, and a crash may come here.
            tokio::task::yield_now().await;
            let reply = self.0.network(|network| network.answer(&url));
            let meanwhile = {
                let mut meanwhile = self.0.meanwhile.lock().unwrap();
                let due = meanwhile.0 == 0;
                meanwhile.0 = meanwhile.0.saturating_sub(1);
                if due { std::mem::take(&mut meanwhile.1) } else { Vec::new() }
            };
            for op in &meanwhile {
                Box::pin(self.0.happen(op)).await;
            }
            tokio::task::yield_now().await;
            if let Ok(reply) = &reply {
                self.0.witness(|witness| witness.answered(sent, &url, reply.status, &reply.body));
            }
            reply
        })
    }
}

/// A mirror under simulation.
pub struct Simulation<'a> {
    stage: &'a Stage,
    shared: Arc<Shared>,
    engine: Arc<Engine>,
    polls: bool,
    reconciles: bool,
}

impl<'a> Simulation<'a> {
    pub async fn start(stage: &'a Stage) -> Self {
        stage.clear().await;
        let shared = Arc::new(Shared {
            network: Mutex::new(Network::new()),
            witness: Mutex::default(),
            meanwhile: Mutex::default(),
            engine: Mutex::default(),
            db: stage.db.clone(),
        });
        let engine = start_engine(stage, &shared, true).await;
        Self { stage, shared, engine, polls: true, reconciles: true }
    }

    /// Runs the history, lets everything come to rest, and answers what is wrong.
    pub async fn run(&mut self, history: &[Op]) -> Result<(), String> {
        for (number, op) in history.iter().enumerate() {
            self.play(op).await;
            let looks = !matches!(op, Op::Pass(_) | Op::Deliver(_) | Op::DeliverAll | Op::Redeliver(_));
            if looks && !op.is_change() {
                self.look().await.map_err(|wrong| format!("after op {number}: {wrong}"))?;
            }
        }
        self.settle().await
    }

    async fn play(&mut self, op: &Op) {
        match op {
            Op::Refresh(d) => drop(self.refresh(*d).await),
            Op::RefreshWhile(d, after, meanwhile) => {
                *self.shared.meanwhile.lock().unwrap() = (*after, meanwhile.clone());
                self.refresh(*d).await;
                self.shared.meanwhile.lock().unwrap().1.clear();
            }
            Op::RefreshPatiently(d) => {
                for wait in [0, 1000, 4000] {
                    self.shared.network(|network| network.pass(wait));
                    for _ in 0..STEPS_OF_PATIENCE {
                        if self.refresh(*d).await != Some(Step::Ran) {
                            break;
                        }
                    }
                }
            }
            Op::Poll if self.polls => drop(self.engine.poll_step().await),
            Op::Poll => {}
            Op::Discover => drop(self.engine.discover_directories().await),
            Op::Schedule => drop(self.engine.schedule_step().await.unwrap()),
            Op::PollerOff => {
                self.polls = false;
                self.shared.network(|network| network.keeps_deletions = true);
            }
            Op::ReconcileOff => {
                self.reconciles = false;
                self.restart().await;
            }
            Op::Crash(doing, d, steps) => self.crash(*doing, *d, *steps).await,
            other => self.shared.happen(other).await,
        }
    }

    /// Failures are part of the history: what was not written stays marked.
    async fn refresh(&self, number: usize) -> Option<Step> {
        let id = self.shared.directory(number)?;
        self.engine.refresh_step(&id).await.ok()
    }

    async fn restart(&mut self) {
        self.shared.witness(Witness::restarted);
        self.engine = start_engine(self.stage, &self.shared, self.reconciles).await;
    }

    /// Drops a step in the middle, with whatever it had open, and starts a new process.
    async fn crash(&mut self, doing: Doing, number: usize, steps: usize) {
        {
            let (engine, shared, polls) = (Arc::clone(&self.engine), Arc::clone(&self.shared), self.polls);
            let directory = shared.directory(number);
            let mut step = pin!(async move {
                match (doing, directory) {
                    (Doing::Receive, _) => shared.happen(&Op::Deliver(number)).await,
                    (Doing::Fold, _) => drop(engine.fold_step().await),
                    (Doing::Refresh, Some(directory)) => drop(engine.refresh_step(&directory).await),
                    (Doing::Poll, _) if polls => drop(engine.poll_step().await),
                    (Doing::Discover, _) => drop(engine.discover_directories().await),
                    (Doing::Schedule, _) => drop(engine.schedule_step().await),
                    _ => {}
                }
            });
            let mut left = steps;
            poll_fn(|context| {
                if left == 0 {
                    return Poll::Ready(());
                }
                left -= 1;
                step.as_mut().poll(context)
            })
            .await;
        }
        self.restart().await;
    }

    async fn look(&self) -> Result<(), String> {
        let mut witness = self.shared.witness(std::mem::take);
        let result = witness.look(self.stage, &self.shared.network).await;
        self.shared.witness(|place| *place = witness);
        result
    }

    async fn settle(&mut self) -> Result<(), String> {
        self.shared.network(|network| {
            (network.fault, network.lag, network.clock_off) = (Fault::None, TimeDelta::zero(), TimeDelta::zero());
            network.link_again(!self.polls);
        });
        self.shared.network(Network::tell_of_old_deletions);
        self.shared.happen(&Op::DeliverAll).await;
        for number in 0..self.shared.network(|network| network.directories.len()) {
            let id = self.shared.directory(number).unwrap();
            if !self.reconciles && self.shared.network(|network| network.needs_scan(id.as_str())) {
                self.shared.request_scan(number).await;
            }
            let health = self.shared.db.directory_health().await.unwrap();
            if health.iter().any(|one| one.directory.record.id == id && !one.directory.enabled) {
                self.shared.enable(number, true).await;
            }
        }
        self.restart().await;
        let (mut wrong, mut polled, mut discovered) = (String::new(), !self.polls, false);
        for round in 0..ROUNDS_TO_SETTLE {
            let patience = if self.polls && round < ROUNDS_WITHOUT_OPERATOR { MINUTE } else { HOUR };
            let time = self.time_till_a_mark_is_due().await.map_or(patience, |time| time.clamp(1, HOUR));
            self.shared.network(|network| network.pass(time));
            if !discovered {
                discovered = self.engine.discover_directories().await.is_ok();
            }
            if !polled {
                polled = self.poll_to_the_end().await;
            }
            if self.reconciles && (!self.polls || self.shared.network(|network| network.needs_reconcile())) {
                self.engine.schedule_step().await.unwrap();
            }
            wrong = match self.work_everything_off().await {
                Ok(()) => self.compare().await,
                Err(busy) => busy,
            };
            self.look().await.map_err(|wrong| format!("while it settled: {wrong}"))?;
            if wrong.is_empty() {
                return self.nothing_was_lost().await;
            }
            if round > ROUNDS_WITHOUT_OPERATOR {
                self.confirm_what_is_held().await;
            }
        }
        Err(wrong)
    }

    /// In milliseconds. A worker waits just so long: what is put off again and again by less than a round never settles.
    async fn time_till_a_mark_is_due(&self) -> Option<i64> {
        let first = self.shared.db.marks(&MarkFilter::default(), 1).await.unwrap();
        let now = self.shared.network(|network| network.our_now());
        first.first().map(|entry| (entry.mark.due_at - now).num_milliseconds())
    }

    async fn poll_to_the_end(&self) -> bool {
        for _ in 0..STEPS_IN_A_ROW {
            match self.engine.poll_step().await {
                Ok(Step::Idle) => return true,
                Ok(Step::Ran) => {}
                Err(_) => return false,
            }
        }
        false
    }

    async fn work_everything_off(&self) -> Result<(), String> {
        let mut steps = 0;
        let busy = |what: &str| Err(format!("{what} does not come to rest"));
        while self.engine.fold_step().await.map_err(|error| error.to_string())? == Step::Ran {
            steps += 1;
            if steps > STEPS_IN_A_ROW {
                return busy("fold");
            }
        }
        self.shared.note_folded().await;
        let now = self.shared.network(|network| network.our_now());
        let due = self.shared.db.directories_to_refresh(now, &self.engine.lease).await;
        for (directory, _) in due.map_err(|error| error.to_string())? {
            steps = 0;
            while let Ok(Step::Ran) = self.engine.refresh_step(&directory).await {
                steps += 1;
                if steps > STEPS_IN_A_ROW {
                    return busy("refresh");
                }
            }
        }
        Ok(())
    }

    async fn compare(&self) -> String {
        let backlog = self.shared.db.backlog().await.unwrap();
        if backlog.pending + backlog.marks + backlog.dead > 0 {
            let marks = self.shared.db.marks(&MarkFilter::default(), 3).await.unwrap();
            let marks: Vec<_> = marks.into_iter().map(|entry| (entry.directory_id, entry.mark)).collect();
            return format!(
                "not at rest: {backlog:?} at {}; first {marks:?}",
                self.shared.network(|network| network.our_now())
            );
        }
        let (mut truth, events_are_missing, omits_inactive) = self.shared.network(|network| {
            let events_are_missing = !self.polls || network.is_old() || network.was_disabled;
            (network.truth(), events_are_missing, network.omits_inactive)
        });
        let mut mirror = self.shared.db.copy_mirror().await.unwrap();
        let is_active = |user: &str| truth.users.get(user).is_some_and(|user| user.state == "active");
        let active: BTreeSet<String> = truth.users.keys().filter(|user| is_active(user)).cloned().collect();
        if events_are_missing {
            // Nothing but events tells what an inactive member was removed from.
            let (users, members) = (&truth.users, &truth.members);
            let is_excused = |user: &String| users.contains_key(user) && !active.contains(user);
            mirror.members.retain(|member| members.contains(member) || !is_excused(&member.1));
        }
        if omits_inactive {
            // A group's list does not show its inactive members. They are known once they are active again, if not before.
            truth.members.retain(|member| active.contains(&member.1) || mirror.members.contains(member));
        }
        differences(&mirror, &truth).join("; ")
    }

    /// What vanished for good without any event is held by the brake until somebody says that it is right.
    async fn confirm_what_is_held(&self) {
        for health in self.shared.db.directory_health().await.unwrap() {
            if health.braked_at.is_some() {
                self.shared.confirm(&health.directory.record.id).await;
            }
        }
    }

    async fn nothing_was_lost(&self) -> Result<(), String> {
        let stored: BTreeSet<String> = self.stage.event_ids().await.into_iter().collect();
        let lost =
            self.shared.network(|network| network.arrived.iter().find(|event| !stored.contains(&event.id)).cloned());
        lost.map_or(Ok(()), |event| Err(format!("{} was acknowledged and is lost", event.id)))
    }
}

async fn start_engine(stage: &Stage, shared: &Arc<Shared>, reconciles: bool) -> Arc<Engine> {
    let theirs = Arc::downgrade(shared);
    let clock = Clock::from_fn(move || theirs.upgrade().unwrap().network(|network| network.our_now()));
    let client = WorkosClient::with_transport(&stage.config.api, clock.clone(), Wire(Arc::clone(shared)));
    // The process before this one is dead, and the tests do not wait for its leases to run out.
    shared.db.end_all_leases().await.unwrap();
    let lease = shared.db.new_lease(clock.now()).await.unwrap();
    shared.db.start_poller(clock.now()).await.unwrap();
    let mut engine = Engine::new(shared.db.clone(), client, clock, lease, Retention::new(None));
    engine.reconcile_interval = reconciles.then_some(RECONCILE_INTERVAL);
    let engine = Arc::new(engine);
    *shared.engine.lock().unwrap() = Arc::downgrade(&engine);
    engine
}
