//! What the API, the control routes and the handle of an emulator have in common.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::api_chaos::{ApiChaos, ApiPlan};
use crate::chaos::ApiPlanner;
use crate::delivery::{Deliveries, EndpointId};
use crate::endpoints::EndpointChange;
use crate::events::EmittedEvent;
use crate::options::Options;
use crate::request::{ApiRequest, ApiResponse};
use crate::routes::Call;
use crate::world::World;

/// How the API misbehaves; requests under way keep what they met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiFault {
    /// It does not.
    #[default]
    None,
    /// Every request is answered with this status, 400 to 599, and a JSON `message`.
    Status(#[serde(deserialize_with = "error_status")] u16),
    /// Every request is answered 404 with a page of HTML, as by a proxy that lost its backend.
    HtmlNotFound,
    /// No request is ever answered.
    Hang,
    /// Every request is answered 429 with `Retry-After: 1`, in WorkOS's words.
    RateLimited,
}

fn error_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let status = u16::deserialize(deserializer)?;
    if (400..600).contains(&status) {
        Ok(status)
    } else {
        Err(de::Error::custom(format_args!("{status} is no status of an error (400 to 599)")))
    }
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
    fault: ApiFault,
    latency: Duration,
    chaos_seed: u64,
}

struct State {
    world: World,
    /// The endpoints that deliveries know, by the API's ids.
    endpoints: BTreeMap<String, EndpointId>,
    endpoints_version: u64,
}

pub(crate) struct Shared {
    pub(crate) deliveries: Arc<Deliveries>,
    state: Mutex<State>,
    settings: Mutex<Settings>,
    api_planner: Mutex<ApiPlanner>,
    counts: Mutex<Counts>,
}

impl Shared {
    pub(crate) fn new(options: &Options, deliveries: Arc<Deliveries>) -> Self {
        Self {
            deliveries,
            state: Mutex::new(State { world: World::new(options), endpoints: BTreeMap::new(), endpoints_version: 0 }),
            settings: Mutex::new(Settings {
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
        self.change_state(|state| change(&mut state.world))
    }

    /// Answers a request of the API, from the state of `lag` ago as far back as the API's chaos keeps it.
    pub(crate) fn answer(&self, request: &ApiRequest, lag: Duration) -> ApiResponse {
        let lag = TimeDelta::from_std(lag).unwrap_or(TimeDelta::MAX);
        self.change(|world| world.answer_from(request, lag))
    }

    /// The path of a request with its placeholder and the directory that it is about; `None` for an unknown path.
    pub(crate) fn subject(&self, request: &ApiRequest) -> Option<(&'static str, Option<String>)> {
        let call = Call::read(request)?;
        Some((call.template, self.read(|world| world.subject(&call).map(str::to_owned))))
    }

    /// Registers an endpoint for everything that is emitted.
    pub(crate) fn register_endpoint(&self, url: &str, secret: &str) -> EndpointId {
        let secret = Some(secret.to_owned());
        let id = self.change(|world| world.add_webhook_endpoint(url, EndpointChange { secret, ..Default::default() }));
        lock(&self.state).endpoints[&id]
    }

    pub(crate) fn remove_endpoint(&self, endpoint: EndpointId) {
        self.change_state(|state| {
            let found = state.endpoints.iter().find(|(_, known)| **known == endpoint);
            if let Some((id, _)) = found {
                // It is there: deliveries know no others.
                let _ = state.world.remove_webhook_endpoint(id);
            }
        });
    }

    fn change_state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        state.world.set_now(Utc::now());
        let result = change(&mut state);
        if state.endpoints_version != state.world.endpoints.version {
            state.tell_endpoints(&self.deliveries);
        }
        for event in &state.world.take_events() {
            self.deliveries.enqueue(event);
        }
        result
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&World) -> T) -> T {
        read(&lock(&self.state).world)
    }

    pub(crate) fn events(&self) -> Vec<EmittedEvent> {
        lock(&self.state).world.events()
    }

    pub(crate) fn redeliver(&self, event_id: &str) -> bool {
        let state = lock(&self.state);
        let event = state.world.out.log.get(event_id);
        if let Some(event) = event {
            self.deliveries.enqueue_again(event);
        }
        event.is_some()
    }

    pub(crate) fn forget_events(&self) {
        lock(&self.state).world.out.log.clear();
        self.deliveries.forget_finished();
    }

    pub(crate) fn api_key(&self) -> String {
        lock(&self.state).world.settings.api_key.clone()
    }

    pub(crate) fn set_api_key(&self, key: &str) {
        lock(&self.state).world.set_api_key(key);
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
        lock(&self.state).world.keep_history(chaos.lag);
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

impl State {
    /// Makes the endpoints that deliveries know those of the world.
    fn tell_endpoints(&mut self, deliveries: &Deliveries) {
        let Self { world, endpoints, endpoints_version } = self;
        endpoints.retain(|id, known| {
            let kept = world.endpoints.all().any(|endpoint| endpoint.id == *id);
            if !kept {
                deliveries.remove(*known);
            }
            kept
        });
        for endpoint in world.endpoints.all() {
            let register = || deliveries.register(&endpoint.endpoint_url, &endpoint.secret);
            let known = endpoints.entry(endpoint.id.clone()).or_insert_with(register);
            deliveries.configure(*known, endpoint);
        }
        *endpoints_version = world.endpoints.version;
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
