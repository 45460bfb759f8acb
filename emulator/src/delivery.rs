//! Sends events to the registered endpoints until they are acknowledged or given up.
//!
//! One task takes what is due and starts bounded attempts; a waiting event costs an entry in a queue and nothing else.
//! Source of the behaviour: WorkOS documentation, "Sync data with webhooks".

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::web::Bytes;
use chrono::Utc;
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use serde::Serialize;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::endpoints::{EndpointStatus, WebhookEndpoint};
use crate::events::EmittedEvent;
use crate::options::DeliveryOptions;
use crate::signature::sign;

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
}

/// One event on its way to one endpoint. A redelivery is a record of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeliveryRecord {
    /// The event's id.
    pub event_id: String,
    /// The event's type.
    pub event: String,
    /// Where it goes.
    pub endpoint: EndpointId,
    /// Attempts begun so far.
    pub attempts: u32,
    /// What became of it.
    pub outcome: DeliveryOutcome,
    /// The status of the last answer; `None` before the first, and when the last attempt got no answer in time.
    pub last_status: Option<u16>,
    /// How long the accepted attempt took, from sending to the head of the answer.
    pub acknowledged_latency: Option<Duration>,
}

struct Endpoint {
    url: Arc<str>,
    secret: Arc<str>,
    /// The types to send; `None` is all.
    events: Option<BTreeSet<String>>,
}

struct Delivery {
    record: DeliveryRecord,
    body: Bytes,
}

/// What an attempt sends, and where.
struct Attempt {
    url: Arc<str>,
    secret: Arc<str>,
    body: Bytes,
}

#[derive(Default)]
struct Queue {
    endpoints: BTreeMap<EndpointId, Endpoint>,
    endpoints_made: u64,
    deliveries: BTreeMap<u64, Delivery>,
    deliveries_made: u64,
    /// When to try which delivery; one under way is not in here.
    due: BTreeSet<(Instant, u64)>,
}

/// What the dispatcher finds at the head of the queue.
enum Next {
    Due(u64),
    NotBefore(Instant),
    Nothing,
}

pub(crate) struct Deliveries {
    options: DeliveryOptions,
    client: Client,
    queue: Mutex<Queue>,
    wake: Notify,
    pending: watch::Sender<usize>,
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
        let endpoint = Endpoint { url: url.into(), secret: secret.into(), events: None };
        queue.endpoints.insert(id, endpoint);
        id
    }

    /// Makes an endpoint what the API says of it; what is under way already is not called back.
    pub(crate) fn configure(&self, id: EndpointId, endpoint: &WebhookEndpoint) {
        let events = match endpoint.status {
            EndpointStatus::Enabled => endpoint.events.iter().cloned().collect(),
            EndpointStatus::Disabled => BTreeSet::new(),
        };
        let endpoint = Endpoint {
            url: endpoint.endpoint_url.as_str().into(),
            secret: endpoint.secret.as_str().into(),
            events: Some(events),
        };
        self.queue().endpoints.insert(id, endpoint);
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

    /// Queues the event for every endpoint that is registered now and wants it.
    pub(crate) fn enqueue(&self, event: &EmittedEvent) {
        let mut queue = self.queue();
        let wants = |endpoint: &Endpoint| endpoint.events.as_ref().is_none_or(|events| events.contains(&event.event));
        let wanting = queue.endpoints.iter().filter(|(_, endpoint)| wants(endpoint));
        let endpoints: Vec<EndpointId> = wanting.map(|(id, _)| *id).collect();
        let now = Instant::now();
        for &endpoint in &endpoints {
            let number = queue.deliveries_made;
            queue.deliveries_made += 1;
            let record = DeliveryRecord {
                event_id: event.id.clone(),
                event: event.event.clone(),
                endpoint,
                attempts: 0,
                outcome: DeliveryOutcome::Pending,
                last_status: None,
                acknowledged_latency: None,
            };
            let body = event.body.clone();
            queue.deliveries.insert(number, Delivery { record, body });
            queue.due.insert((now, number));
        }
        if !endpoints.is_empty() {
            self.pending.send_modify(|pending| *pending += endpoints.len());
            self.wake.notify_one();
        }
    }

    pub(crate) fn records(&self) -> Vec<DeliveryRecord> {
        let queue = self.queue();
        let deliveries = queue.deliveries.values();
        deliveries.map(|delivery| delivery.record.clone()).collect()
    }

    /// Drops the records of everything that is not pending.
    pub(crate) fn forget_finished(&self) {
        self.queue().deliveries.retain(|_, delivery| delivery.record.outcome == DeliveryOutcome::Pending);
    }

    /// Whether nothing is pending within `timeout`.
    pub(crate) async fn wait(&self, timeout: Duration) -> bool {
        let mut pending = self.pending.subscribe();
        let settled = pending.wait_for(|pending| *pending == 0);
        matches!(tokio::time::timeout(timeout, settled).await, Ok(Ok(_)))
    }

    /// Sends what is due, for ever. Stopping this task stops the attempts under way as well.
    pub(crate) async fn run(self: Arc<Self>) {
        let permits = Arc::new(Semaphore::new(self.options.concurrency.max(1)));
        let mut attempts = JoinSet::new();
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else {
                return;
            };
            let number = self.next_due().await;
            while attempts.try_join_next().is_some() {}
            let deliveries = self.clone();
            attempts.spawn(async move {
                deliveries.attempt(number).await;
                drop(permit);
            });
        }
    }

    async fn next_due(&self) -> u64 {
        loop {
            match self.take_due() {
                Next::Due(number) => return number,
                Next::Nothing => self.wake.notified().await,
                Next::NotBefore(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = self.wake.notified() => {}
                },
            }
        }
    }

    fn take_due(&self) -> Next {
        let mut queue = self.queue();
        match queue.due.first().copied() {
            None => Next::Nothing,
            Some((at, _)) if at > Instant::now() => Next::NotBefore(at),
            Some(head @ (_, number)) => {
                queue.due.remove(&head);
                Next::Due(number)
            }
        }
    }

    async fn attempt(&self, number: u64) {
        let Some(attempt) = self.begin(number) else {
            return;
        };
        let started = Instant::now();
        let answer = self.post(&attempt).await;
        let latency = started.elapsed();
        let status = answer.as_ref().map(|answer| answer.status().as_u16());
        self.finish(number, status, latency);
        // Reading to the end lets the connection be used again.
        if let Some(answer) = answer {
            let _ = answer.bytes().await;
        }
    }

    fn begin(&self, number: u64) -> Option<Attempt> {
        let mut queue = self.queue();
        let Queue { endpoints, deliveries, .. } = &mut *queue;
        let delivery = deliveries.get_mut(&number)?;
        let endpoint = endpoints.get(&delivery.record.endpoint)?;
        delivery.record.attempts += 1;
        Some(Attempt { url: endpoint.url.clone(), secret: endpoint.secret.clone(), body: delivery.body.clone() })
    }

    async fn post(&self, attempt: &Attempt) -> Option<reqwest::Response> {
        let now = Utc::now().timestamp_millis();
        let signature = sign(&attempt.secret, now, &attempt.body);
        let request = self
            .client
            .post(&*attempt.url)
            .header(CONTENT_TYPE, "application/json")
            .header("WorkOS-Signature", signature)
            .body(attempt.body.clone());
        request.send().await.inspect_err(|error| tracing::debug!(url = %attempt.url, %error, "no answer")).ok()
    }

    fn finish(&self, number: u64, status: Option<u16>, latency: Duration) {
        let mut queue = self.queue();
        let Queue { deliveries, due, .. } = &mut *queue;
        let Some(delivery) = deliveries.get_mut(&number) else {
            return;
        };
        let record = &mut delivery.record;
        let was_pending = record.outcome == DeliveryOutcome::Pending;
        record.last_status = status;
        if status.is_some_and(|status| (200..300).contains(&status)) {
            record.outcome = DeliveryOutcome::Acknowledged;
            record.acknowledged_latency = Some(latency);
        } else if record.attempts >= self.options.max_attempts {
            record.outcome = DeliveryOutcome::GivenUp;
        } else if was_pending {
            let at = Instant::now() + self.options.backoff(record.attempts);
            due.insert((at, number));
            self.wake.notify_one();
        }
        if was_pending && record.outcome != DeliveryOutcome::Pending {
            self.pending.send_modify(|pending| *pending -= 1);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
