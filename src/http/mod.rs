//! Every route, in one table.

pub mod connections;
mod health;
mod metrics;

use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::{Error, HttpResponse, guard, web};
use serde_json::json;

pub use health::HealthState;

use crate::webhook::{self, WebhookError};

/// Adds the routes. The app's data must hold `WebhookConfig`, `BodyMemory`, `Clock`, `Inbox` and [`HealthState`].
/// The webhook is there if this process `receives`.
pub fn configure(config: &mut web::ServiceConfig, receives: bool) {
    if receives {
        config.service(
            web::resource(webhook::PATH)
                .wrap(from_fn(count_and_log))
                .route(web::post().to(webhook::receive))
                .default_service(web::to(method_not_allowed)),
        );
    }
    config
        .route("/health/live", web::route().guard(get_or_head()).to(health::live))
        .route("/health/ready", web::route().guard(get_or_head()).to(health::ready))
        .route("/health", web::get().to(health::report))
        .route("/metrics", web::get().to(metrics::report));
}

/// Probes ask with either.
fn get_or_head() -> impl guard::Guard {
    guard::Any(guard::Get()).or(guard::Head())
}

async fn method_not_allowed() -> HttpResponse {
    let error = json!({"error": {"code": "method_not_allowed", "message": "this endpoint takes POST only"}});
    HttpResponse::MethodNotAllowed().insert_header(("Allow", "POST")).json(error)
}

async fn count_and_log(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let started = Instant::now();
    let method = request.method().clone();
    let health = request.app_data::<web::Data<HealthState>>().cloned();
    let response = next.call(request).await;
    let error = response.as_ref().map_or_else(Some, |response| response.response().error());
    let status = match &response {
        Ok(response) => response.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    let took = started.elapsed();
    if let Some(health) = health {
        let metrics = &health.engine.metrics;
        match error.and_then(Error::as_error::<WebhookError>) {
            Some(error) => metrics.refused(error.refusal(), took),
            None if status.is_success() => metrics.acknowledged(took),
            // Not a webhook, such as a GET.
            None => {}
        }
    }
    let micros = took.as_micros();
    // The log is written while the request waits: a line for each event would be much of what it costs.
    if status.is_success() {
        tracing::debug!(%method, path = webhook::PATH, status = status.as_u16(), micros, "request");
    } else {
        tracing::info!(%method, path = webhook::PATH, status = status.as_u16(), micros, "request");
    }
    response
}
