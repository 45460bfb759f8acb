//! Health: whether the process runs, whether it can work, and how it fares. No personal data.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::config::Secret;
use crate::inbox::Inbox;
use crate::metrics::Check;
use crate::sync::{Engine, Worker};

/// How long the database may take to answer a check: whoever probes waits no longer.
const PATIENCE: Duration = Duration::from_secs(5);
const BRAKED: &str = "more users and groups have vanished at once than is likely, and no event announced it; nothing was \
     removed: check the directory in WorkOS, and if it is right run `directory-mirror sync <directory> --confirm-removals`";

/// What the health routes look at.
pub struct HealthState {
    /// The engine, with its database and API client.
    pub engine: Arc<Engine>,
    /// The worker, until it is stopped.
    pub worker: Arc<Mutex<Option<Worker>>>,
    /// Where webhooks hand their events in.
    pub inbox: Inbox,
    /// When the process started.
    pub started_at: Timestamp,
    /// Whether this process keeps the mirror.
    pub works: bool,
    /// Whether the Events API is polled.
    pub polls: bool,
    /// If set, the report asks for it.
    pub token: Option<Secret>,
}

impl HealthState {
    /// Each check by name, with what is wrong.
    pub(super) async fn checks(&self) -> Vec<(Check, Result<(), String>)> {
        let db = &self.engine.db;
        let (pinged, current) = tokio::join!(
            tokio::time::timeout(PATIENCE, db.ping()),
            tokio::time::timeout(PATIENCE, db.migrations_are_current()),
        );
        let database = match pinged {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err("the database does not answer".to_owned()),
        };
        let alive = self
            .worker
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .as_ref()
            .is_some_and(Worker::is_alive);
        let inbox = if self.inbox.is_alive() {
            Ok(())
        } else {
            Err("the writer of the inbox has ended, and no event can be stored: restart the process".to_owned())
        };
        let worker = match (self.works, alive, self.engine.lease.share()) {
            (false, ..) | (true, true, Some(_)) => Ok(()),
            (true, true, None) => {
                Err("the database has not seen this worker alive for LEASE_TTL: others have taken over its work"
                    .to_owned())
            }
            (true, false, _) => Err("a worker has ended: restart the process".to_owned()),
        };
        let migrations = match current {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err("migrations of this version are missing: restart to run them".to_owned()),
            Ok(Err(_)) | Err(_) => Err("the migrations cannot be read".to_owned()),
        };
        vec![
            (Check::Database, database),
            (Check::Migrations, migrations),
            (Check::Inbox, inbox),
            (Check::Workers, worker),
        ]
    }
}

/// `GET /health/live`
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

/// `GET /health/ready`: 503 with the failing checks.
pub async fn ready(state: web::Data<HealthState>) -> HttpResponse {
    let failing: serde_json::Map<String, Value> = state
        .checks()
        .await
        .into_iter()
        .filter_map(|(check, result)| Some((check.as_str().to_owned(), Value::String(result.err()?))))
        .collect();
    if failing.is_empty() {
        HttpResponse::Ok().json(json!({"status": "ok"}))
    } else {
        HttpResponse::ServiceUnavailable().json(json!({"status": "failing", "failing": failing}))
    }
}

/// `GET /health`: the whole report.
pub async fn report(request: HttpRequest, state: web::Data<HealthState>) -> HttpResponse {
    if !may_read(&request, state.token.as_ref()) {
        return unauthorized();
    }
    let checks = state.checks().await;
    // What else there is to tell would be waited for as long.
    let answers = checks.iter().all(|(check, result)| *check != Check::Database || result.is_ok());
    let checks: serde_json::Map<String, Value> = checks
        .into_iter()
        .map(|(check, result)| {
            (check.as_str().to_owned(), Value::String(result.err().unwrap_or_else(|| "ok".to_owned())))
        })
        .collect();
    if !answers {
        return HttpResponse::ServiceUnavailable().json(json!({"status": "failing", "checks": checks}));
    }
    let now = state.engine.clock.now();
    let db = &state.engine.db;
    let (backlog, directories, poller) = tokio::join!(db.backlog(), db.directory_health(), db.poller());
    let (Ok(backlog), Ok(directories), Ok(poller)) = (backlog, directories, poller) else {
        return HttpResponse::ServiceUnavailable().json(json!({"status": "failing", "checks": checks}));
    };
    let directories: Vec<Value> = directories
        .into_iter()
        .map(|health| {
            json!({
                "directory_id": health.directory.record.id.as_str(),
                "state": health.directory.record.state,
                "enabled": health.directory.enabled,
                "sync_status": health.directory.sync_status.as_str(),
                "last_event_at": health.directory.last_event_at,
                "last_synced_at": health.directory.last_synced_at,
                "deleted_at": health.directory.deleted_at,
                "error": health.last_error,
                "brake": health.braked_at.map(|at| json!({"since": at, "remedy": BRAKED})),
            })
        })
        .collect();
    HttpResponse::Ok().json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": (now - state.started_at).num_seconds(),
        "checks": checks,
        "worker": worker_report(&state),
        "inbox": {
            "pending": backlog.pending,
            "oldest_pending_seconds": backlog.oldest_pending.map(|at| (now - at).num_seconds()),
            "dead": backlog.dead,
        },
        "marks": backlog.marks,
        "api": api_report(&state.engine),
        "events_poller": poller.filter(|_| state.polls).map(|poller| json!({
            "polled_at": poller.polled_at,
            "newest_event_at": poller.newest_at,
            "error": poller.last_error,
        })),
        "directories": directories,
    }))
}

fn worker_report(state: &HealthState) -> Value {
    if !state.works {
        return json!({"works": false});
    }
    let share = state.engine.lease.share();
    json!({
        "works": true,
        "token": state.engine.lease.token(),
        "rank": share.map(|share| share.rank),
        "of": share.map(|share| share.of),
    })
}

fn api_report(engine: &Engine) -> Value {
    let Some(client) = &engine.client else {
        let why = "WORKOS_API_KEY is not set: the mirror shows what events say, and nothing is verified";
        return json!({"mode": "unverified", "reason": why});
    };
    let health = client.health();
    json!({
        "mode": "verified",
        "last_success_at": health.last_success,
        "error": health.error.map(|error| error.to_string()),
    })
}

pub(super) fn unauthorized() -> HttpResponse {
    let error = json!({"error": {"code": "unauthorized", "message": "send HEALTH_TOKEN as a bearer token"}});
    HttpResponse::Unauthorized().json(error)
}

/// Whether a request may read what asks for the token, if one is set.
pub(super) fn may_read(request: &HttpRequest, token: Option<&Secret>) -> bool {
    use sha2::{Digest, Sha256};
    let Some(token) = token else { return true };
    let sent = request.headers().get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    // Hashes compare in a time that tells nothing about the token.
    sent.is_some_and(|sent| Sha256::digest(sent.as_bytes()) == Sha256::digest(token.expose().as_bytes()))
}
