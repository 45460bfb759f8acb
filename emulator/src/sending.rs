//! Sends what is due to the registered endpoints until it is acknowledged or given up.
//!
//! One task takes what is due and starts bounded attempts.
//! Source of the behaviour: WorkOS documentation, "Sync data with webhooks".

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Bytes;
use chrono::Utc;
use reqwest::header::CONTENT_TYPE;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::delivery::{Deliveries, DeliveryOutcome, Queue};
use crate::signature::sign;
use crate::webhook_chaos::SignaturePlan;

/// What an attempt sends, and where.
struct Attempt {
    url: Arc<str>,
    secret: Arc<str>,
    signature: SignaturePlan,
    body: Bytes,
}

impl Attempt {
    /// The signature's header and the body, sent at `now`, in Unix milliseconds.
    fn seal(&self, now: i64) -> (String, Bytes) {
        let genuine = |time| sign(&self.secret, time, &self.body);
        match self.signature {
            SignaturePlan::Genuine => (genuine(now), self.body.clone()),
            SignaturePlan::WrongSecret => (sign(&format!("not {}", self.secret), now, &self.body), self.body.clone()),
            SignaturePlan::AlteredBody => (genuine(now), altered(&self.body)),
            SignaturePlan::Mistimed(error) => (genuine(now + error), self.body.clone()),
        }
    }
}

/// The JSON object with one more member: what an attacker could add to a message that was overheard.
fn altered(body: &[u8]) -> Bytes {
    let members = body.strip_prefix(b"{").unwrap_or(body);
    Bytes::from([br#"{"tampered":true,"#, members].concat())
}

/// What the dispatcher finds at the head of the queue.
enum Next {
    Due(u64),
    /// What was due waits for an endpoint that has not answered yet.
    Waits,
    NotBefore(Instant),
    Nothing,
}

impl Deliveries {
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
                Next::Waits => {}
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
                if queue.waits_for_endpoint(number) { Next::Waits } else { Next::Due(number) }
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
        Some(Attempt {
            url: endpoint.url.clone(),
            secret: endpoint.secret.clone(),
            signature: delivery.record.signature,
            body: delivery.body.clone(),
        })
    }

    async fn post(&self, attempt: &Attempt) -> Option<reqwest::Response> {
        let (signature, body) = attempt.seal(Utc::now().timestamp_millis());
        let request = self
            .client
            .post(&*attempt.url)
            .header(CONTENT_TYPE, "application/json")
            .header("WorkOS-Signature", signature)
            .body(body);
        request.send().await.inspect_err(|error| tracing::debug!(url = %attempt.url, %error, "no answer")).ok()
    }

    fn finish(&self, number: u64, status: Option<u16>, latency: Duration) {
        let mut queue = self.queue();
        if self.options.wait_for_first_answer {
            let waits = queue.endpoint_reached(number, status.is_some());
            self.wake.notify_one();
            if waits {
                return;
            }
        }
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
            if record.kind.is_forged() {
                tracing::warn!(event = %record.event_id, kind = ?record.kind, "the endpoint accepted a forgery");
            }
        } else if record.kind.is_forged() {
            record.outcome = if status.is_some() { DeliveryOutcome::Refused } else { DeliveryOutcome::GivenUp };
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signature_is_right_or_wrong_as_planned() {
        let body = Bytes::from_static(br#"{"id":"event_1"}"#);
        let now = 1_700_000_000_000;
        let seal = |signature| {
            let attempt = Attempt { url: "".into(), secret: "secret".into(), signature, body: body.clone() };
            attempt.seal(now)
        };
        let right = sign("secret", now, &body);
        assert_eq!(seal(SignaturePlan::Genuine), (right.clone(), body.clone()));
        let (header, sent) = seal(SignaturePlan::WrongSecret);
        assert!(header != right && sent == body);
        let (header, sent) = seal(SignaturePlan::AlteredBody);
        assert_eq!((header, &*sent), (right, br#"{"tampered":true,"id":"event_1"}"#.as_slice()));
        let (header, sent) = seal(SignaturePlan::Mistimed(-300_000));
        assert_eq!((header, sent), (sign("secret", now - 300_000, &body), body.clone()));
    }
}
