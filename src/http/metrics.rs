//! `GET /metrics`: counters and the present state, for Prometheus. No personal data, and no ids.

use actix_web::{HttpRequest, HttpResponse, web};

use super::health::{HealthState, may_read, unauthorized};
use crate::metrics::{CONTENT_TYPE, PollerReadings, Readings};

/// `GET /metrics`: with a database that does not answer, too, but without what only the database knows.
pub async fn report(request: HttpRequest, state: web::Data<HealthState>) -> HttpResponse {
    if !may_read(&request, state.token.as_ref()) {
        return unauthorized();
    }
    let text = state.engine.metrics.encode(&readings(&state).await);
    HttpResponse::Ok().content_type(CONTENT_TYPE).body(text)
}

async fn readings(state: &HealthState) -> Readings {
    let engine = &state.engine;
    let checks = state.checks().await.into_iter().map(|(check, result)| (check, result.is_ok())).collect();
    let (stored, poller) = tokio::join!(engine.db.gauges(), engine.db.poller());
    let stored = stored.inspect_err(|error| tracing::warn!(%error, "the metrics lack what the database knows")).ok();
    Readings {
        now: engine.clock.now(),
        started_at: state.started_at,
        checks,
        api_last_success: engine.client.as_ref().and_then(|client| client.health().last_success),
        stored,
        poller: poller.ok().flatten().filter(|_| state.polls).map(|poller| PollerReadings {
            polled_at: poller.polled_at,
            newest_event_at: poller.newest_at,
            failing: poller.last_error.is_some(),
        }),
    }
}
