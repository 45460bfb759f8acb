//! What the API, the control routes and the handle of an emulator have in common.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::Utc;

use crate::delivery::Deliveries;
use crate::events::EmittedEvent;
use crate::limits::Limits;
use crate::options::Options;
use crate::world::World;

/// How the API misbehaves; requests under way keep what they met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
}

/// Which path is counted how often.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) by_path: BTreeMap<String, u64>,
    pub(crate) by_directory: BTreeMap<String, BTreeMap<String, u64>>,
}

/// The settings that can change while the emulator runs.
#[derive(Clone, Debug)]
struct Settings {
    api_key: String,
    fault: ApiFault,
    latency: Duration,
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
            }),
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

    pub(crate) fn events(&self) -> Vec<EmittedEvent> {
        lock(&self.state).log.clone()
    }

    pub(crate) fn redeliver(&self, event_id: &str) -> bool {
        let state = lock(&self.state);
        let found = state.log.binary_search_by(|event| event.id.as_str().cmp(event_id));
        match found {
            Ok(index) => self.deliveries.enqueue(&state.log[index]),
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

    pub(crate) fn counts(&self) -> MutexGuard<'_, Counts> {
        lock(&self.counts)
    }
}

impl Counts {
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
