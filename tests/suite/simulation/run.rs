//! Runs a history against the real engine and a real database.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, Weak};
use std::task::Poll;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use directory_mirror::cli::compare::differences;
use directory_mirror::clock::{Clock, Timestamp};
use directory_mirror::config::{ApiConfig, Config};
use directory_mirror::db::Db;
use directory_mirror::metrics::Metrics;
use directory_mirror::model::{DirectoryId, UserState};
use directory_mirror::sync::{Engine, Retention, Step};
use directory_mirror::webhook::inbox_event;
use directory_mirror::workos::{Reply, Transport, WorkosClient};
use workos_emulator::{ApiRequest, EmittedEvent, NewDirectory, NewUser, Options, UserChange, World, WorldError};

use super::op::{Fault, Op};

const KEY: &str = "sk_test_emulator";
/// A lag beyond this is answered with the oldest state there is.
const REMEMBERED: Duration = Duration::from_secs(3600);
const ROUNDS_TO_SETTLE: usize = 60;
const STEPS_IN_A_ROW: usize = 400;

/// WorkOS and the network.
struct Network {
    world: World,
    now: DateTime<Utc>,
    clock_off: TimeDelta,
    fault: Fault,
    lag: TimeDelta,
    directories: Vec<String>,
    users: Vec<String>,
    groups: Vec<String>,
    waiting: Vec<EmittedEvent>,
    arrived: Vec<EmittedEvent>,
    people: usize,
}

impl Network {
    fn new() -> Self {
        let options = Options { requests_per_minute: 0, directory_users_per_second: 0, ..Options::default() };
        let mut world = World::new(&options);
        let now = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        world.set_now(now);
        world.keep_history(REMEMBERED);
        Self {
            world,
            now,
            clock_off: TimeDelta::zero(),
            fault: Fault::None,
            lag: TimeDelta::zero(),
            directories: Vec::new(),
            users: Vec::new(),
            groups: Vec::new(),
            waiting: Vec::new(),
            arrived: Vec::new(),
            people: 0,
        }
    }

    fn pass(&mut self, milliseconds: i64) {
        self.now += TimeDelta::milliseconds(milliseconds);
        self.world.set_now(self.now);
    }

    fn our_now(&self) -> Timestamp {
        self.now + self.clock_off
    }

    fn create_user(&mut self, directory: &str, address: Option<String>) -> Result<(), WorldError> {
        self.people += 1;
        let mut person = NewUser::invented(self.people, "acme.example");
        person.email = address.unwrap_or(person.email);
        let id = self.world.create_user(directory, person)?;
        self.users.push(id);
        Ok(())
    }

    /// Changes the source; what is impossible at that moment is left out.
    fn change(&mut self, op: &Op) {
        let _impossible = self.try_change(op);
        self.waiting.extend(self.world.take_events());
    }

    fn try_change(&mut self, op: &Op) -> Result<(), WorldError> {
        let chosen = |list: &[String], number: usize| {
            let missing = || WorldError::UnknownUser(String::new());
            list.get(number % list.len().max(1)).cloned().ok_or_else(missing)
        };
        match op {
            Op::CreateDirectory => {
                let name = format!("Directory {}", self.directories.len());
                let id = self.world.create_directory(NewDirectory::named(&name));
                self.directories.push(id);
            }
            Op::DeleteDirectory(d) => self.world.delete_directory(&chosen(&self.directories, *d)?)?,
            Op::DirectoryState(d, state) => {
                self.world.set_directory_state(&chosen(&self.directories, *d)?, state)?;
            }
            Op::CreateUser(d) => self.create_user(&chosen(&self.directories, *d)?, None)?,
            Op::UpdateUser(u) => {
                self.people += 1;
                let change = UserChange { job_title: Some(format!("Title {}", self.people)), ..UserChange::default() };
                self.world.update_user(&chosen(&self.users, *u)?, change)?;
            }
            Op::RecycleAddress(u) => {
                let id = chosen(&self.users, *u)?;
                let truth = self.world.truth();
                let Some(user) = truth.users.get(&id) else { return Ok(()) };
                self.create_user(&user.directory_id, user.email.clone())?;
            }
            Op::Deactivate(u, how) => self.world.deactivate_user(&chosen(&self.users, *u)?, (*how).into())?,
            Op::Suspend(u) => self.world.suspend_user(&chosen(&self.users, *u)?)?,
            Op::Reactivate(u) => self.world.reactivate_user(&chosen(&self.users, *u)?)?,
            Op::Rehire(u) => {
                let id = self.world.rehire_user(&chosen(&self.users, *u)?)?;
                if !self.users.contains(&id) {
                    self.users.push(id);
                }
            }
            Op::DeleteUser(u) => self.world.delete_user(&chosen(&self.users, *u)?)?,
            Op::CreateGroup(d) => {
                let id = self.world.create_group(&chosen(&self.directories, *d)?, "Team")?;
                self.groups.push(id);
            }
            Op::RenameGroup(g) => {
                self.people += 1;
                self.world.rename_group(&chosen(&self.groups, *g)?, &format!("Team {}", self.people))?;
            }
            Op::DeleteGroup(g) => self.world.delete_group(&chosen(&self.groups, *g)?)?,
            Op::AddMember(g, u) => {
                self.world.add_member(&chosen(&self.groups, *g)?, &chosen(&self.users, *u)?)?;
            }
            Op::RemoveMember(g, u) => {
                self.world.remove_member(&chosen(&self.groups, *g)?, &chosen(&self.users, *u)?)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn answer(&mut self, url: &reqwest::Url) -> Result<Reply, String> {
        let reply = |status, body: &str| {
            Ok(Reply { status, retry_after: Duration::ZERO, date: None, body: body.as_bytes().to_vec() })
        };
        let is_list = ["/directories", "/directory_users", "/directory_groups", "/events"].contains(&url.path());
        match self.fault {
            Fault::None => {
                let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
                let request = ApiRequest::get(&format!("{}{query}", url.path()), KEY);
                let answer = self.world.answer_from(&request, self.lag);
                Ok(Reply {
                    status: answer.status,
                    retry_after: Duration::ZERO,
                    date: Some(self.now),
                    body: answer.body,
                })
            }
            Fault::Outage => Err("no route".to_owned()),
            Fault::ServerError => reply(503, r#"{"message":"Service Unavailable"}"#),
            Fault::RateLimited => reply(429, r#"{"message":"Too Many Requests"}"#),
            Fault::WrongKey => reply(401, r#"{"message":"Unauthorized"}"#),
            Fault::OtherEnvironment if is_list => {
                reply(200, r#"{"object":"list","data":[],"list_metadata":{"before":null,"after":null}}"#)
            }
            Fault::OtherEnvironment => reply(404, r#"{"message":"Not Found"}"#),
            Fault::ProxyNotFound => reply(404, "<html>Not Found</html>"),
        }
    }
}

struct Shared {
    network: Mutex<Network>,
    meanwhile: Mutex<Vec<Op>>,
    engine: Mutex<Weak<Engine>>,
    db: Db,
}

impl Shared {
    fn network<T>(&self, with: impl FnOnce(&mut Network) -> T) -> T {
        with(&mut self.network.lock().unwrap())
    }

    async fn arrive(&self, event: EmittedEvent) {
        let now = self.network(|network| network.our_now());
        self.db.store_events(vec![inbox_event(event.body.to_vec(), now, "webhook")]).await.unwrap();
        self.network(|network| {
            network.arrived.push(event);
        });
    }

    /// What may happen while a request is under way.
    async fn happen(&self, op: &Op) {
        match op {
            Op::Deliver(number) => {
                let event = self.network(|network| {
                    let count = network.waiting.len();
                    (count > 0).then(|| network.waiting.remove(number % count))
                });
                if let Some(event) = event {
                    self.arrive(event).await;
                }
            }
            Op::DeliverAll => {
                for event in self.network(|network| std::mem::take(&mut network.waiting)) {
                    self.arrive(event).await;
                }
            }
            Op::Redeliver(number) => {
                let arrived =
                    self.network(|network| network.arrived.get(number % network.arrived.len().max(1)).cloned());
                if let Some(event) = arrived {
                    self.arrive(event).await;
                }
            }
            Op::Drop(number) => self.network(|network| {
                let count = network.waiting.len();
                if count > 0 {
                    network.waiting.remove(number % count);
                }
            }),
            Op::Pass(milliseconds) => self.network(|network| network.pass(*milliseconds)),
            Op::ClockOff(milliseconds) => {
                self.network(|network| network.clock_off = TimeDelta::milliseconds(*milliseconds));
            }
            Op::Api(fault) => self.network(|network| network.fault = *fault),
            Op::Lag(milliseconds) => self.network(|network| network.lag = TimeDelta::milliseconds(*milliseconds)),
            Op::RequestScan(number) => {
                if let Some(id) = self.directory(*number) {
                    let now = self.network(|network| network.our_now());
                    self.db.request_scan(Some(&id), now).await.unwrap();
                }
            }
            Op::Fold => {
                let engine = self.engine.lock().unwrap().upgrade().unwrap();
                engine.fold_step().await.unwrap();
            }
            change => self.network(|network| network.change(change)),
        }
    }

    fn directory(&self, number: usize) -> Option<DirectoryId> {
        self.network(|network| {
            let id = network.directories.get(number % network.directories.len().max(1));
            id.map(|id| DirectoryId::from_stored(id.clone()))
        })
    }
}

struct Wire(Arc<Shared>);

impl Transport for Wire {
    fn exchange(&self, url: reqwest::Url) -> Pin<Box<dyn Future<Output = Result<Reply, String>> + Send + '_>> {
        Box::pin(async move {
            let reply = self.0.network(|network| network.answer(&url));
            let meanwhile = std::mem::take(&mut *self.0.meanwhile.lock().unwrap());
            for op in &meanwhile {
                Box::pin(self.0.happen(op)).await;
            }
            reply
        })
    }
}

/// A mirror under simulation.
pub struct Simulation {
    shared: Arc<Shared>,
    engine: Arc<Engine>,
    api: ApiConfig,
}

impl Simulation {
    pub async fn start(database: &str) -> Self {
        let variables = |name: &str| match name {
            "DATABASE_URL" => Some(database.to_owned()),
            "WORKOS_API_KEY" => Some(KEY.to_owned()),
            "WORKOS_API_BASE_URL" => Some("http://workos.test".to_owned()),
            "WORKOS_WEBHOOK_SECRET" => Some("s".to_owned()),
            "WORKOS_API_REQUESTS_PER_MINUTE" | "WORKOS_DIRECTORY_USERS_PER_SECOND" => Some("0".to_owned()),
            _ => None,
        };
        let config = Config::read(&variables).unwrap();
        let db = Db::connect(&config.database).unwrap();
        let shared = Arc::new(Shared {
            network: Mutex::new(Network::new()),
            meanwhile: Mutex::default(),
            engine: Mutex::default(),
            db,
        });
        let engine = start_engine(&shared, &config.api).await;
        Self { shared, engine, api: config.api }
    }

    /// Runs the history, lets everything come to rest, and answers what is wrong.
    pub async fn run(&mut self, history: &[Op]) -> Result<(), String> {
        for (number, op) in history.iter().enumerate() {
            match op {
                Op::Refresh(d) => self.refresh(*d).await,
                Op::RefreshWhile(d, meanwhile) => {
                    self.shared.meanwhile.lock().unwrap().clone_from(meanwhile);
                    self.refresh(*d).await;
                    self.shared.meanwhile.lock().unwrap().clear();
                }
                Op::Poll => drop(self.engine.poll_step().await),
                Op::Crash(d, wakes) => self.crash(*d, *wakes).await,
                other => self.shared.happen(other).await,
            }
            if matches!(op, Op::Fold | Op::Refresh(_) | Op::RefreshWhile(..) | Op::Crash(..)) {
                self.nobody_is_revived().await.map_err(|wrong| format!("after op {number}: {wrong}"))?;
            }
        }
        self.settle().await
    }

    async fn refresh(&self, number: usize) {
        if let Some(id) = self.shared.directory(number) {
            // Failures are part of the history: what was not written stays marked.
            let _failure = self.engine.refresh_step(&id).await;
        }
    }

    /// Drops a step in the middle, with whatever it had open, and starts a new process.
    async fn crash(&mut self, number: usize, wakes: usize) {
        {
            let directory = self.shared.directory(number);
            let engine = Arc::clone(&self.engine);
            let mut step = pin!(async move {
                if let Some(directory) = &directory {
                    let _failure = engine.refresh_step(directory).await;
                }
                let _failure = engine.fold_step().await;
            });
            let mut left = wakes;
            poll_fn(|context| {
                if left == 0 {
                    return Poll::Ready(());
                }
                left -= 1;
                step.as_mut().poll(context)
            })
            .await;
        }
        self.engine = start_engine(&self.shared, &self.api).await;
    }

    /// Nobody whom a newer hint took away is active again without an accepted truth.
    async fn nobody_is_revived(&self) -> Result<(), String> {
        let folded: BTreeMap<String, bool> = self
            .shared
            .db
            .event_outcomes()
            .await
            .unwrap()
            .into_iter()
            .map(|(id, status, _)| (id, status == "applied"))
            .collect();
        let emitted = self.shared.network(|network| network.world.events());
        let mut newest: BTreeMap<String, (Timestamp, bool, bool)> = BTreeMap::new();
        for event in emitted.iter().filter(|event| folded.get(&event.id) == Some(&true)) {
            let Some(change) = event.event.strip_prefix("dsync.user.") else { continue };
            let body: serde_json::Value = serde_json::from_slice(&event.body).unwrap();
            let user = body["data"]["id"].as_str().unwrap_or_default().to_owned();
            let at = event.created_at;
            let removes = change == "deleted";
            let entry = newest.entry(user).or_insert((at, removes, true));
            if at > entry.0 {
                *entry = (at, removes, true);
            } else if at == entry.0 && removes != entry.1 {
                entry.2 = false;
            }
        }
        let mirror = self.shared.db.copy_mirror().await.unwrap();
        for row in mirror.users.iter().filter(|row| row.state == UserState::Active && row.verified_at.is_none()) {
            if let Some((at, true, true)) = newest.get(row.record.id.as_str()) {
                return Err(format!("{} is active, though a hint of {at} took the user away", row.record.id));
            }
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), String> {
        self.shared.network(|network| {
            (network.fault, network.lag, network.clock_off) = (Fault::None, TimeDelta::zero(), TimeDelta::zero());
        });
        self.shared.happen(&Op::DeliverAll).await;
        let mut wrong = String::new();
        for _ in 0..ROUNDS_TO_SETTLE {
            self.shared.network(|network| network.pass(61_000));
            wrong = match self.work_everything_off().await {
                Ok(()) => self.compare().await,
                Err(busy) => busy,
            };
            if wrong.is_empty() {
                return Ok(());
            }
        }
        Err(wrong)
    }

    async fn work_everything_off(&self) -> Result<(), String> {
        for _ in 0..STEPS_IN_A_ROW {
            match self.engine.poll_step().await {
                Ok(Step::Idle) => break,
                Ok(Step::Ran) | Err(_) => {}
            }
        }
        let _failure = self.engine.discover_directories().await;
        let mut steps = 0;
        let busy = |what: &str| Err(format!("{what} does not come to rest"));
        while self.engine.fold_step().await.map_err(|error| error.to_string())? == Step::Ran {
            steps += 1;
            if steps > STEPS_IN_A_ROW {
                return busy("fold");
            }
        }
        let now = self.shared.network(|network| network.our_now());
        for (directory, _) in
            self.shared.db.directories_to_refresh(now, &self.engine.lease).await.map_err(|error| error.to_string())?
        {
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
            return format!("not at rest: {backlog:?}");
        }
        let truth = self.shared.network(|network| network.world.truth());
        differences(&self.shared.db.copy_mirror().await.unwrap(), &truth).join("; ")
    }
}

async fn start_engine(shared: &Arc<Shared>, api: &ApiConfig) -> Arc<Engine> {
    let theirs = Arc::downgrade(shared);
    let clock = Clock::from_fn(move || theirs.upgrade().unwrap().network(|network| network.our_now()));
    let client = WorkosClient::with_transport(api, clock.clone(), Wire(Arc::clone(shared))).unwrap();
    // As if the predecessor's leases had run out.
    shared.db.end_all_leases().await.unwrap();
    let lease = shared.db.new_lease(clock.now()).await.unwrap();
    let engine = Arc::new(Engine {
        db: shared.db.clone(),
        client,
        clock,
        lease,
        reconcile_interval: None,
        retention: Retention::new(None),
        metrics: Metrics::default(),
    });
    *shared.engine.lock().unwrap() = Arc::downgrade(&engine);
    let _started_at = engine.poll_step().await;
    engine
}
