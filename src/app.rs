//! Puts the service together, starts it and stops it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::Config;
use crate::db::{Db, DbError};
use crate::http::{self, HealthState, connections};
use crate::inbox::Inbox;
use crate::metrics::Metrics;
use crate::sync::{Engine, Retention, Worker};
use crate::webhook::BodyMemory;
use crate::workos::{ApiError, WorkosClient};

/// Two suffice: a request only waits for its commit.
const HTTP_THREADS: usize = 2;
/// Each may hold a small body and half a head, so this bounds the memory that clients can take.
const MAX_CONNECTIONS: usize = 1024;
/// How long requests under way may take once we are told to stop.
const SHUTDOWN_SECONDS: u64 = 5;

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error("{0}")]
    Db(#[from] DbError),
    /// The API client.
    #[error("{0}")]
    Api(#[from] ApiError),
    /// The address.
    #[error("{0} cannot be listened on: {1}; set BIND_ADDR to a free address")]
    Bind(SocketAddr, std::io::Error),
}

/// The running service.
pub struct Service {
    address: SocketAddr,
    engine: Arc<Engine>,
    worker: Arc<Mutex<Option<Worker>>>,
    server: ServerHandle,
    serving: JoinHandle<std::io::Result<()>>,
    inbox: Inbox,
    writer: JoinHandle<()>,
}

impl Service {
    /// Starts everything. The API is not waited for.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: &Config, clock: Clock) -> Result<Self, StartError> {
        // Bound first: a process that cannot serve must not take the work over from one that does.
        let listener =
            std::net::TcpListener::bind(config.bind).map_err(|error| StartError::Bind(config.bind, error))?;
        let address = listener.local_addr().map_err(|error| StartError::Bind(config.bind, error))?;
        // A second service in the same process finds the provider installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let db = Db::open(&config.database).await?;
        if config.role.works() {
            db.claim_worker().await?;
        }
        let lease = db.new_lease(clock.now()).await?;
        db.start_poller(clock.now()).await?;
        let metrics = Metrics::default();
        let client = WorkosClient::new(&config.api, clock.clone())?;
        let client = client.map(|client| client.with_metrics(metrics.clone()));
        if client.is_none() {
            tracing::warn!("WORKOS_API_KEY is not set: the mirror shows what events say, and nothing is verified");
        }
        let retention = Retention::new(config.inbox_retention);
        let mut engine = Engine::new(db.clone(), client, clock.clone(), lease, retention);
        engine.reconcile_interval = config.reconcile_interval;
        engine.metrics = metrics.clone();
        let engine = Arc::new(engine);
        if config.role.works() {
            engine.alive_step().await?;
        }
        let committed = Arc::new(Notify::new());
        let (inbox, writer) = Inbox::start(db, Arc::clone(&committed), metrics);
        let poll_interval = config.api.events_poll_interval.filter(|_| engine.client.is_some());
        let works = config.role.works();
        let worker = works.then(|| Worker::start(Arc::clone(&engine), committed, poll_interval));
        let worker = Arc::new(Mutex::new(worker));
        let health = web::Data::new(HealthState {
            engine: Arc::clone(&engine),
            worker: Arc::clone(&worker),
            inbox: inbox.clone(),
            started_at: clock.now(),
            polls: works && poll_interval.is_some(),
            works,
            token: config.health_token.clone(),
        });
        let (webhook, clock) = (web::Data::new(config.webhook.clone()), web::Data::new(clock));
        let memory = web::Data::new(BodyMemory::new(config.webhook.max_body_bytes));
        let (queue, receives) = (inbox.clone(), config.role.receives());
        let server = HttpServer::new(move || {
            App::new()
                .wrap(from_fn(connections::note_request))
                .app_data(webhook.clone())
                .app_data(memory.clone())
                .app_data(clock.clone())
                .app_data(web::Data::new(queue.clone()))
                .app_data(health.clone())
                .configure(|routes| http::configure(routes, receives))
        })
        .workers(HTTP_THREADS)
        .max_connections(connections::allowed(MAX_CONNECTIONS).div_ceil(HTTP_THREADS))
        .client_request_timeout(connections::HEAD_TIMEOUT)
        .on_connect(connections::watch)
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .disable_signals()
        .listen(listener)
        .map_err(|error| StartError::Bind(config.bind, error))?;
        let server = server.run();
        let handle = server.handle();
        let serving = tokio::spawn(server);
        let mode = if engine.client.is_some() { "verified" } else { "unverified" };
        let version = env!("CARGO_PKG_VERSION");
        tracing::info!(version, %address, path = crate::webhook::PATH, database = config.database.kind(), mode, "listening");
        Ok(Self { address, engine, worker, server: handle, serving, inbox, writer })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The database, for those who look.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.engine.db
    }

    /// Stops accepting, commits what is queued, releases the work in hand.
    pub async fn stop(self) {
        self.server.stop(true).await;
        let _ = self.serving.await;
        drop(self.inbox);
        let _ = self.writer.await;
        let worker = self.worker.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(worker) = worker {
            worker.stop().await;
        }
        tracing::info!("stopped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_end_of_the_inboxs_writer_shows_in_readiness() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::read(&|name| match name {
            "DATABASE_URL" => Some(format!("sqlite:{}", folder.path().join("mirror.db").display())),
            "WORKOS_WEBHOOK_SECRET" => Some("secret".to_owned()),
            "BIND_ADDR" => Some("127.0.0.1:0".to_owned()),
            _ => None,
        });
        let service = Service::start(&config.unwrap(), Clock::system()).await.unwrap();
        let url = format!("http://{}/health/ready", service.address());
        assert_eq!(reqwest::get(&url).await.unwrap().status(), 200);
        service.writer.abort();
        while !service.writer.is_finished() {
            tokio::task::yield_now().await;
        }
        let answer = reqwest::get(&url).await.unwrap();
        assert_eq!(answer.status(), 503);
        assert!(answer.text().await.unwrap().contains("\"inbox\""));
        service.stop().await;
    }
}
