//! Routes under `/emulator` for chaos and faults, and for what was asked, emitted and delivered.

use std::time::Duration;

use actix_web::web::{self, Bytes, Data, Path, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::chaos::{ChaosSettings, patched};
use crate::delivery::DeliveryFilter;
use crate::shared::{ApiFault, Counts, Shared};
use crate::span;

pub(crate) fn configure(config: &mut ServiceConfig) {
    config
        .route("/chaos", web::get().to(chaos))
        .route("/chaos", web::put().to(set_chaos))
        .route("/faults", web::get().to(faults))
        .route("/faults", web::put().to(set_faults))
        .route("/requests", web::get().to(requests))
        .route("/requests", web::delete().to(reset_requests))
        .route("/events", web::get().to(events))
        .route("/events", web::delete().to(forget_events))
        .route("/events/{id}/redeliver", web::post().to(redeliver))
        .route("/deliveries", web::get().to(deliveries))
        .route("/deliveries", web::delete().to(forget_deliveries))
        .route("/deliveries/counts", web::get().to(delivery_counts));
}

/// The faults that stay until they are set anew.
#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Faults {
    fault: ApiFault,
    #[serde(with = "span::text")]
    latency: Duration,
    /// `None` leaves the key as it is: there is no default to go back to.
    api_key: Option<String>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { fault: ApiFault::None, latency: Duration::ZERO, api_key: None }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventQuery {
    event: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeliveryQuery {
    outcome: Option<DeliveryFilter>,
    event: Option<String>,
    event_id: Option<String>,
    limit: Option<usize>,
}

fn unprocessable(error: &impl ToString) -> HttpResponse {
    HttpResponse::UnprocessableEntity().json(json!({"message": error.to_string()}))
}

/// 200 with what `answer` makes of the query's parameters, or 422.
fn asked<Q: DeserializeOwned>(request: &HttpRequest, answer: impl FnOnce(Q) -> HttpResponse) -> HttpResponse {
    match Query::<Q>::from_query(request.query_string()) {
        Ok(query) => answer(query.into_inner()),
        Err(error) => unprocessable(&error),
    }
}

/// Leaves out all but the last `limit`.
fn last<T>(mut all: Vec<T>, limit: Option<usize>) -> Vec<T> {
    let first = limit.map_or(0, |limit| all.len().saturating_sub(limit));
    all.split_off(first)
}

fn chaos_settings(shared: &Shared) -> ChaosSettings {
    ChaosSettings { seed: shared.chaos_seed(), webhooks: shared.deliveries.chaos(), api: shared.api_chaos() }
}

async fn chaos(shared: Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(chaos_settings(&shared))
}

/// Only what changes starts anew: the chaos of webhooks keeps its place when that of the API is set.
async fn set_chaos(shared: Data<Shared>, body: Bytes) -> HttpResponse {
    let old = chaos_settings(&shared);
    let new: ChaosSettings = match patched(&old, &body) {
        Ok(new) => new,
        Err(error) => return unprocessable(&error),
    };
    if let Err(error) = new.webhooks.check().and_then(|()| new.api.check()) {
        return unprocessable(&error);
    }
    shared.set_chaos_seed(new.seed);
    let reseeded = new.seed != old.seed;
    if reseeded || new.webhooks != old.webhooks {
        shared.deliveries.set_chaos(new.webhooks, new.seed);
    }
    if reseeded || new.api != old.api {
        shared.start_api_chaos(new.api);
    }
    HttpResponse::Ok().json(chaos_settings(&shared))
}

fn present_faults(shared: &Shared) -> Faults {
    Faults { fault: shared.fault(), latency: shared.latency(), api_key: Some(shared.api_key()) }
}

async fn faults(shared: Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(present_faults(&shared))
}

async fn set_faults(shared: Data<Shared>, body: Bytes) -> HttpResponse {
    let new = match patched(&present_faults(&shared), &body) {
        Ok(new) => new,
        Err(error) => return unprocessable(&error),
    };
    shared.set_fault(new.fault);
    shared.set_latency(new.latency);
    if let Some(key) = &new.api_key {
        shared.set_api_key(key);
    }
    HttpResponse::Ok().json(present_faults(&shared))
}

async fn requests(shared: Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(&*shared.counts())
}

async fn reset_requests(shared: Data<Shared>) -> HttpResponse {
    *shared.counts() = Counts::default();
    HttpResponse::NoContent().finish()
}

/// The envelopes as they were emitted, oldest first.
async fn events(shared: Data<Shared>, request: HttpRequest) -> HttpResponse {
    asked(&request, |query: EventQuery| {
        let mut events = shared.events();
        events.retain(|event| query.event.as_ref().is_none_or(|wanted| event.event == *wanted));
        let bodies: Vec<Bytes> = last(events, query.limit).into_iter().map(|event| event.body).collect();
        // Each body is JSON already, and is shown byte for byte.
        let list = [b"[".as_slice(), &bodies.join(b",".as_slice()), b"]"].concat();
        HttpResponse::Ok().content_type("application/json").body(list)
    })
}

async fn forget_events(shared: Data<Shared>) -> HttpResponse {
    shared.forget_events();
    HttpResponse::NoContent().finish()
}

async fn redeliver(shared: Data<Shared>, id: Path<String>) -> HttpResponse {
    if shared.redeliver(&id) {
        HttpResponse::Ok().json(json!({"result": true}))
    } else {
        HttpResponse::NotFound().json(json!({"message": format!("Event not found: '{id}'.")}))
    }
}

async fn deliveries(shared: Data<Shared>, request: HttpRequest) -> HttpResponse {
    asked(&request, |query: DeliveryQuery| {
        let records = shared.deliveries.records_where(|record| {
            query.outcome.is_none_or(|outcome| outcome.accepts(record))
                && query.event.as_ref().is_none_or(|event| record.event == *event)
                && query.event_id.as_ref().is_none_or(|id| record.event_id == *id)
        });
        HttpResponse::Ok().json(last(records, query.limit))
    })
}

async fn forget_deliveries(shared: Data<Shared>) -> HttpResponse {
    shared.deliveries.forget_finished();
    HttpResponse::NoContent().finish()
}

async fn delivery_counts(shared: Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(shared.deliveries.counts())
}
