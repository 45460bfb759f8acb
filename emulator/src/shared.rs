//! What the API, the control routes and the handle of an emulator have in common.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::api_chaos::{ApiChaos, ApiPlan};
use crate::chaos::ApiPlanner;
use crate::delivery::Deliveries;
use crate::events::EmittedEvent;
use crate::limits::Limits;
use crate::options::Options;
use crate::world::World;

/// How the API misbehaves; requests under way keep what they met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiFault {
    /// It does not.
    #[default]
    None,
    /// Every request is answered with this status and a JSON `message`.
    Status(u16),
    /// Every request is answered 404 with a page of HTML, as by a proxy that lost its backend.
    HtmlNotFound,
    /// No request is ever answered.
    Hang,
    /// Every request is answered 429 with `Retry-After: 1`, in WorkOS's words.
    RateLimited,
}

/// Which path is counted how often.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) by_path: BTreeMap<String, u64>,
    pub(crate) by_directory: BTreeMap<String, BTreeMap<String, u64>>,
    /// Answers by path and status; what was never answered is not in here.
    pub(crate) by_status: BTreeMap<String, BTreeMap<u16, u64>>,
}

/// The settings that can change while the emulator runs.
#[derive(Clone, Debug)]
struct Settings {
    api_key: String,
    fault: ApiFault,
    latency: Duration,
    chaos_seed: u64,
}

struct State {
    world: World,
    log: Vec<EmittedEvent>,
}

pub(crate) struct Shared {
    pub(crate) embed_groups: bool,
    pub(crate) omit_inactive_from_group_members: bool,
    pub(crate) limits: Limits,
    pub(crate) deliveries: Arc<Deliveries>,
    state: Mutex<State>,
    settings: Mutex<Settings>,
    api_planner: Mutex<ApiPlanner>,
    counts: Mutex<Counts>,
}

impl Shared {
    pub(crate) fn new(options: &Options, deliveries: Arc<Deliveries>) -> Self {
        Self {
            embed_groups: options.embed_groups,
            omit_inactive_from_group_members: options.omit_inactive_from_group_members,
            limits: Limits::new(options.requests_per_minute, options.directory_users_per_second),
            deliveries,
            state: Mutex::new(State { world: World::seeded(options.seed), log: Vec::new() }),
            settings: Mutex::new(Settings {
                api_key: options.api_key.clone(),
                fault: ApiFault::None,
                latency: Duration::ZERO,
                chaos_seed: options.chaos_seed,
            }),
            api_planner: Mutex::new(ApiPlanner::new(ApiChaos::default(), 0, Instant::now())),
            counts: Mutex::default(),
        }
    }

    /// Runs one change and sends off what it emitted, as one step: events are queued in the order of their changes.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let mut state = lock(&self.state);
        state.world.set_now(Utc::now());
        let result = change(&mut state.world);
        let events = state.world.take_events();
        for event in &events {
            self.deliveries.enqueue(event);
        }
        state.log.extend(events);
        result
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&World) -> T) -> T {
        read(&lock(&self.state).world)
    }

    /// Reads the world of `lag` ago, as far back as the API's chaos keeps it.
    pub(crate) fn read_past<T>(&self, lag: Duration, read: impl FnOnce(&World) -> T) -> T {
        if lag.is_zero() {
            return self.read(read);
        }
        let mut state = lock(&self.state);
        let now = Utc::now();
        state.world.tell_time(now);
        state.world.read_as_of(now - TimeDelta::from_std(lag).unwrap_or(TimeDelta::MAX), read)
    }

    pub(crate) fn events(&self) -> Vec<EmittedEvent> {
        lock(&self.state).log.clone()
    }

    pub(crate) fn redeliver(&self, event_id: &str) -> bool {
        let state = lock(&self.state);
        let found = state.log.binary_search_by(|event| event.id.as_str().cmp(event_id));
        match found {
            Ok(index) => self.deliveries.enqueue_again(&state.log[index]),
            Err(_) => return false,
        }
        true
    }

    pub(crate) fn forget_events(&self) {
        lock(&self.state).log = Vec::new();
        self.deliveries.forget_finished();
    }

    pub(crate) fn api_key(&self) -> String {
        lock(&self.settings).api_key.clone()
    }

    pub(crate) fn set_api_key(&self, key: &str) {
        lock(&self.settings).api_key = key.to_owned();
    }

    pub(crate) fn fault(&self) -> ApiFault {
        lock(&self.settings).fault
    }

    pub(crate) fn set_fault(&self, fault: ApiFault) {
        lock(&self.settings).fault = fault;
    }

    pub(crate) fn latency(&self) -> Duration {
        lock(&self.settings).latency
    }

    pub(crate) fn set_latency(&self, latency: Duration) {
        lock(&self.settings).latency = latency;
    }

    pub(crate) fn chaos_seed(&self) -> u64 {
        lock(&self.settings).chaos_seed
    }

    pub(crate) fn set_chaos_seed(&self, seed: u64) {
        lock(&self.settings).chaos_seed = seed;
    }

    pub(crate) fn api_chaos(&self) -> ApiChaos {
        lock(&self.api_planner).chaos().clone()
    }

    /// Starts the API's chaos anew, from position 0 on.
    pub(crate) fn start_api_chaos(&self, chaos: ApiChaos) {
        lock(&self.state).world.set_history_window(chaos.lag);
        *lock(&self.api_planner) = ApiPlanner::new(chaos, self.chaos_seed(), Instant::now());
    }

    /// What befalls a request that arrives now: the fault that was set, or else what chaos plans.
    pub(crate) fn plan_request(&self) -> ApiPlan {
        let planned = lock(&self.api_planner).next(Instant::now());
        let settings = lock(&self.settings);
        let fault = if settings.fault == ApiFault::None { planned.fault } else { settings.fault };
        ApiPlan { fault, latency: settings.latency + planned.latency, ..planned }
    }

    pub(crate) fn counts(&self) -> MutexGuard<'_, Counts> {
        lock(&self.counts)
    }
}

impl Counts {
    pub(crate) fn count_answer(&mut self, path: &str, status: u16) {
        let statuses = self.by_status.entry(path.to_owned()).or_default();
        *statuses.entry(status).or_default() += 1;
    }

    pub(crate) fn count(&mut self, path: &str, directory_id: Option<&str>) {
        *self.by_path.entry(path.to_owned()).or_default() += 1;
        if let Some(id) = directory_id {
            let paths = self.by_directory.entry(id.to_owned()).or_default();
            *paths.entry(path.to_owned()).or_default() += 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
