//! The queue of what goes to the registered endpoints, and the account of what became of it.
//!
//! A waiting event costs an entry here and no task; its body is shared with the log of events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::web::Bytes;
use reqwest::Client;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::endpoints::{EndpointStatus, WebhookEndpoint};
use crate::events::EmittedEvent;
use crate::options::DeliveryOptions;
use crate::reached::Reached;
use crate::webhook_chaos::{DeliveryKind, PlannedDelivery, SignaturePlan, WebhookChaos};
use crate::webhook_planner::WebhookPlanner;

/// A registered endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct EndpointId(u64);

/// What became of an event at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryOutcome {
    /// Not yet accepted, and going to be tried again.
    Pending,
    /// Answered with a 2xx.
    Acknowledged,
    /// Out of attempts, or its endpoint was removed.
    GivenUp,
    /// Never sent: chaos dropped it.
    Dropped,
    /// A forgery that was answered with anything but a 2xx, as it should be. It is not tried again.
    Refused,
}

/// One event on its way to one endpoint. Whatever is sent beside the first sending is a record of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeliveryRecord {
    /// The event's id.
    pub event_id: String,
    /// The event's type.
    pub event: String,
    /// Why it is sent.
    pub kind: DeliveryKind,
    /// How it is signed.
    pub signature: SignaturePlan,
    /// Where it goes.
    pub endpoint: EndpointId,
    /// Attempts begun so far; those before the first answer of an endpoint that is waited for do not count.
    pub attempts: u32,
    /// What became of it.
    pub outcome: DeliveryOutcome,
    /// The status of the last answer; `None` before the first, and when the last attempt got no answer in time.
    pub last_status: Option<u16>,
    /// How long the accepted attempt took, from sending to the head of the answer.
    pub acknowledged_latency: Option<Duration>,
}

/// Which deliveries to list. Forgeries are in the two groups of their own only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryFilter {
    /// Accepted.
    Delivered,
    /// Answered with anything but a 2xx at the last attempt, whether or not there will be another, or given up.
    Refused,
    /// Not yet accepted, and going to be tried.
    Pending,
    /// Never sent.
    Dropped,
    /// Tampered with or mistimed, whatever the answer.
    Forged,
    /// Tampered with or mistimed, and accepted: the consumer is at fault.
    ForgedAccepted,
}

impl DeliveryFilter {
    pub(crate) const ALL: [Self; 6] =
        [Self::Delivered, Self::Refused, Self::Pending, Self::Dropped, Self::Forged, Self::ForgedAccepted];

    /// Whether the delivery belongs to the list.
    pub fn accepts(self, record: &DeliveryRecord) -> bool {
        let forged = record.kind.is_forged();
        match (self, record.outcome) {
            (Self::Forged, _) => forged,
            (Self::ForgedAccepted, outcome) => forged && outcome == DeliveryOutcome::Acknowledged,
            (Self::Delivered, DeliveryOutcome::Acknowledged)
            | (Self::Pending, DeliveryOutcome::Pending)
            | (Self::Dropped, DeliveryOutcome::Dropped) => !forged,
            (Self::Refused, DeliveryOutcome::GivenUp) => !forged && record.attempts > 0,
            (Self::Refused, DeliveryOutcome::Pending) => !forged && record.last_status.is_some(),
            _ => false,
        }
    }
}

pub(crate) struct Endpoint {
    pub(crate) url: Arc<str>,
    pub(crate) secret: Arc<str>,
    /// The types to send; `None` is all.
    events: Option<BTreeSet<String>>,
    pub(crate) reached: Reached,
}

pub(crate) struct Delivery {
    pub(crate) record: DeliveryRecord,
    /// Shared by all deliveries of the event.
    pub(crate) body: Bytes,
}

#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) endpoints: BTreeMap<EndpointId, Endpoint>,
    endpoints_made: u64,
    pub(crate) deliveries: BTreeMap<u64, Delivery>,
    deliveries_made: u64,
    /// When to try which delivery; one under way is not in here.
    pub(crate) due: BTreeSet<(Instant, u64)>,
    planner: WebhookPlanner,
    /// What is held back until the event at a position was queued, by that position and the delivery's number: when it
    /// is due at the latest, and its delay after the release.
    held: BTreeMap<(u64, u64), (Instant, Duration)>,
}

pub(crate) struct Deliveries {
    pub(crate) options: DeliveryOptions,
    pub(crate) client: Client,
    queue: Mutex<Queue>,
    pub(crate) wake: Notify,
    pub(crate) pending: watch::Sender<usize>,
}

impl Deliveries {
    pub(crate) fn new(options: DeliveryOptions) -> Result<Self, reqwest::Error> {
        // The TLS backend asks for the process's provider; one that is installed already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .timeout(options.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("workos-emulator/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .build()?;
        Ok(Self { options, client, queue: Mutex::default(), wake: Notify::new(), pending: watch::Sender::new(0) })
    }

    pub(crate) fn register(&self, url: &str, secret: &str) -> EndpointId {
        let mut queue = self.queue();
        queue.endpoints_made += 1;
        let id = EndpointId(queue.endpoints_made);
        let endpoint = Endpoint { url: url.into(), secret: secret.into(), events: None, reached: Reached::default() };
        queue.endpoints.insert(id, endpoint);
        id
    }

    /// Makes an endpoint what the API says of it; what is under way already is not called back.
    pub(crate) fn configure(&self, id: EndpointId, endpoint: &WebhookEndpoint) {
        let events = match endpoint.status {
            EndpointStatus::Enabled => endpoint.events.iter().cloned().collect(),
            EndpointStatus::Disabled => BTreeSet::new(),
        };
        if let Some(known) = self.queue().endpoints.get_mut(&id) {
            known.url = endpoint.endpoint_url.as_str().into();
            known.secret = endpoint.secret.as_str().into();
            known.events = Some(events);
        }
    }

    /// What is on its way to the endpoint is given up.
    pub(crate) fn remove(&self, id: EndpointId) {
        let mut queue = self.queue();
        let Queue { endpoints, deliveries, due, .. } = &mut *queue;
        endpoints.remove(&id);
        let mut given_up = 0;
        for delivery in deliveries.values_mut() {
            let record = &mut delivery.record;
            if record.endpoint == id && record.outcome == DeliveryOutcome::Pending {
                record.outcome = DeliveryOutcome::GivenUp;
                given_up += 1;
            }
        }
        due.retain(|(_, number)| deliveries.get(number).is_some_and(|delivery| delivery.record.endpoint != id));
        self.pending.send_modify(|pending| *pending -= given_up);
    }

    /// Plans the webhooks of the events to come by this chaos, from position 0 on.
    pub(crate) fn set_chaos(&self, chaos: WebhookChaos, seed: u64) {
        let mut queue = self.queue();
        queue.planner = WebhookPlanner::new(chaos, seed);
        // Positions start anew, so what waits for one is due without it.
        queue.release(u64::MAX);
        self.wake.notify_one();
    }

    pub(crate) fn chaos(&self) -> WebhookChaos {
        self.queue().planner.chaos().clone()
    }

    /// Queues a new event for every endpoint that is registered now and wants it, as chaos plans it.
    pub(crate) fn enqueue(&self, event: &EmittedEvent) {
        let mut queue = self.queue();
        let (position, planned) = queue.planner.next(event);
        let hold = queue.planner.chaos().reorder_hold;
        let dropped = planned.iter().all(|(_, plan)| plan.kind != DeliveryKind::Emission);
        let now = Instant::now();
        let mut pending = 0;
        for (event, plan) in &planned {
            for endpoint in queue.wanting(event) {
                let number = queue.add(event, endpoint, plan);
                if plan.overtaken_by > 0 {
                    let latest = now + hold + plan.delay;
                    queue.due.insert((latest, number));
                    queue.held.insert((position + plan.overtaken_by, number), (latest, plan.delay));
                } else {
                    queue.due.insert((now + plan.delay, number));
                }
                pending += 1;
            }
        }
        if dropped {
            for endpoint in queue.wanting(event) {
                queue.add_dropped(event, endpoint);
            }
        }
        queue.release(position);
        self.announce(pending);
    }

    /// Queues an event of the past for every endpoint that is registered now and wants it; chaos spares it.
    pub(crate) fn enqueue_again(&self, event: &EmittedEvent) {
        let plan = PlannedDelivery { kind: DeliveryKind::Redelivery, ..PlannedDelivery::emission() };
        let mut queue = self.queue();
        let endpoints = queue.wanting(event);
        for &endpoint in &endpoints {
            let number = queue.add(event, endpoint, &plan);
            queue.due.insert((Instant::now(), number));
        }
        self.announce(endpoints.len());
    }

    fn announce(&self, added: usize) {
        if added > 0 {
            self.pending.send_modify(|pending| *pending += added);
        }
        self.wake.notify_one();
    }

    pub(crate) fn records(&self) -> Vec<DeliveryRecord> {
        self.records_where(|_| true)
    }

    /// The records that are wanted, in the order of queueing.
    pub(crate) fn records_where(&self, wanted: impl Fn(&DeliveryRecord) -> bool) -> Vec<DeliveryRecord> {
        let queue = self.queue();
        let records = queue.deliveries.values().map(|delivery| &delivery.record);
        records.filter(|record| wanted(record)).cloned().collect()
    }

    /// How many deliveries belong to each list.
    pub(crate) fn counts(&self) -> BTreeMap<DeliveryFilter, usize> {
        let queue = self.queue();
        let mut counts = BTreeMap::from(DeliveryFilter::ALL.map(|filter| (filter, 0)));
        for delivery in queue.deliveries.values() {
            for (filter, count) in &mut counts {
                *count += usize::from(filter.accepts(&delivery.record));
            }
        }
        counts
    }

    /// Drops the records of everything that is not pending.
    pub(crate) fn forget_finished(&self) {
        let mut queue = self.queue();
        queue.planner.forget_past();
        queue.deliveries.retain(|_, delivery| delivery.record.outcome == DeliveryOutcome::Pending);
    }

    /// Whether nothing is pending within `timeout`.
    pub(crate) async fn wait(&self, timeout: Duration) -> bool {
        let mut pending = self.pending.subscribe();
        let settled = pending.wait_for(|pending| *pending == 0);
        matches!(tokio::time::timeout(timeout, settled).await, Ok(Ok(_)))
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn wanting(&self, event: &EmittedEvent) -> Vec<EndpointId> {
        let wants = |endpoint: &Endpoint| endpoint.events.as_ref().is_none_or(|types| types.contains(&event.event));
        self.endpoints.iter().filter(|(_, endpoint)| wants(endpoint)).map(|(id, _)| *id).collect()
    }

    fn add(&mut self, event: &EmittedEvent, endpoint: EndpointId, plan: &PlannedDelivery) -> u64 {
        let number = self.deliveries_made;
        self.deliveries_made += 1;
        let record = DeliveryRecord {
            event_id: event.id.clone(),
            event: event.event.clone(),
            kind: plan.kind,
            signature: plan.signature,
            endpoint,
            attempts: 0,
            outcome: DeliveryOutcome::Pending,
            last_status: None,
            acknowledged_latency: None,
        };
        let body = event.body.clone();
        self.deliveries.insert(number, Delivery { record, body });
        number
    }

    fn add_dropped(&mut self, event: &EmittedEvent, endpoint: EndpointId) {
        let number = self.add(event, endpoint, &PlannedDelivery::emission());
        if let Some(delivery) = self.deliveries.get_mut(&number) {
            delivery.record.outcome = DeliveryOutcome::Dropped;
        }
    }

    /// Lets go what waited for the event at `position` or an earlier one.
    fn release(&mut self, position: u64) {
        let now = Instant::now();
        while let Some(entry) = self.held.first_entry() {
            let &(until, number) = entry.key();
            if until > position {
                break;
            }
            let (latest, delay) = entry.remove();
            // It may have become due by time, or be gone with its endpoint.
            if self.due.remove(&(latest, number)) {
                self.due.insert(((now + delay).min(latest), number));
            }
        }
    }
}
