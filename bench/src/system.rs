//! What is measured: directory-mirror on either engine, and the documented handler in two modes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::load::{Target, post_once};
use crate::postgres::{DATABASE, Postgres};
use crate::world::{API_KEY, World};
use crate::{Result, free_port, proc};

const SECRET: &str = "whsec_bench";
const SYNCED: &str = "SELECT count(*) FROM directory_sync.directories WHERE sync_status = 'synced'";

/// One of the systems that are compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum)]
pub enum System {
    /// directory-mirror on PostgreSQL.
    Mirror,
    /// directory-mirror on SQLite.
    MirrorSqlite,
    /// The documented handler, which answers when its work is done.
    Documented,
    /// The same, answering first.
    AckFirst,
}

/// Where programs and scratch files are.
pub struct Places {
    /// `target/release`.
    pub binaries: PathBuf,
    /// `bench/peers`, with its `node_modules`.
    pub peers: PathBuf,
    /// For SQLite files and logs.
    pub scratch: PathBuf,
}

impl System {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mirror => "directory-mirror",
            Self::MirrorSqlite => "directory-mirror, SQLite",
            Self::Documented => "documented handler",
            Self::AckFirst => "ack-first handler",
        }
    }

    /// Whether it is ours.
    pub fn is_mirror(self) -> bool {
        matches!(self, Self::Mirror | Self::MirrorSqlite)
    }

    /// Whether its data is in PostgreSQL.
    pub fn uses_postgres(self) -> bool {
        self != Self::MirrorSqlite
    }

    fn path(self) -> &'static str {
        if self.is_mirror() { "/api/webhooks/workos/directory-sync" } else { "/webhooks" }
    }

    /// The command that serves, with nothing in its environment but what is given here.
    fn command(self, places: &Places, world: &World, database: &str, port: u16) -> Command {
        let mut command = Command::new(match self.is_mirror() {
            true => places.binaries.join("directory-mirror"),
            false => PathBuf::from("node"),
        });
        command.env_clear();
        for name in ["PATH", "HOME"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if self.is_mirror() {
            command.env("BIND_ADDR", format!("127.0.0.1:{port}"));
            // Our own limits off, as those of the emulator. No poller: it would read the events as well.
            for (name, value) in [
                ("WORKOS_API_REQUESTS_PER_MINUTE", "0"),
                ("WORKOS_DIRECTORY_USERS_PER_SECOND", "0"),
                ("EVENTS_POLL_INTERVAL", "0"),
            ] {
                command.env(name, value);
            }
        } else {
            command.arg(places.peers.join("server.mjs")).env("NODE_ENV", "production");
            command.env("PORT", port.to_string());
            command.env("MODE", if self == Self::AckFirst { "ack-first" } else { "await" });
        }
        command
            .env("DATABASE_URL", database)
            .env("WORKOS_API_BASE_URL", &world.url)
            .env("WORKOS_API_KEY", API_KEY)
            .env("WORKOS_WEBHOOK_SECRET", SECRET)
            .current_dir(&places.scratch)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}

/// A system that runs.
pub struct Running {
    /// Which one.
    pub system: System,
    /// Where to post.
    pub target: Target,
    child: Child,
    client: reqwest::Client,
}

impl Running {
    /// Starts it; answers how long it took until a signed webhook was answered with 200.
    pub async fn start(system: System, places: &Places, world: &World, database: &str) -> Result<(Self, Duration)> {
        let port = free_port()?;
        let log = std::fs::File::create(log_file(&places.scratch, system))?;
        let mut command = system.command(places, world, database, port);
        if system.is_mirror() {
            command.arg("serve");
        }
        command.stdout(log.try_clone()?).stderr(log);
        let target = Target {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            path: system.path(),
            secret: SECRET.to_owned(),
        };
        let started = Instant::now();
        let mut running = Self { system, target, child: command.spawn()?, client: reqwest::Client::new() };
        // Of no concern to either: it is verified, stored or passed over, and answered.
        let event = format!(
            r#"{{"object":"event","id":"event_start_{port}","event":"session.created","data":{{}},"created_at":"2026-01-01T00:00:00.000Z"}}"#
        );
        loop {
            if matches!(post_once(&running.target, Bytes::from(event.clone())).await, Ok(200)) {
                return Ok((running, started.elapsed()));
            }
            if let Some(status) = running.child.try_wait()? {
                let log = std::fs::read_to_string(log_file(&places.scratch, system)).unwrap_or_default();
                return Err(format!("{} ended with {status}: {log}", system.name()).into());
            }
            if started.elapsed() > Duration::from_secs(30) {
                return Err(format!("{} does not answer 200", system.name()).into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Runs the migrations of an empty database, so that no figure has them in it.
    pub async fn prepare(system: System, places: &Places, world: &World, database: &str) -> Result<()> {
        if system.is_mirror() {
            let mut command = system.command(places, world, database, 0);
            let output = command.env("BIND_ADDR", "127.0.0.1:1").arg("migrate").output().await?;
            if !output.status.success() {
                return Err(format!("migrate: {}", String::from_utf8_lossy(&output.stderr)).into());
            }
        }
        Ok(())
    }

    /// Waits until every directory is read in full; a peer is told to read them. On PostgreSQL ours is asked nothing
    /// meanwhile, since its health report counts what it has.
    pub async fn first_sync(&self, directories: usize, postgres: &Postgres, patience: Duration) -> Result<()> {
        if !self.system.is_mirror() {
            let answer = self.client.post(self.url("/sync")).timeout(patience).send().await?;
            return answer.error_for_status().map(drop).map_err(Into::into);
        }
        let client = if self.system.uses_postgres() { Some(postgres.connect(DATABASE).await?) } else { None };
        let started = Instant::now();
        loop {
            let synced = match &client {
                Some(client) => client.query_one(SYNCED, &[]).await?.get::<_, i64>(0),
                None => {
                    let health = self.health().await?;
                    let known = health["directories"].as_array().map_or(&[][..], Vec::as_slice);
                    known.iter().filter(|one| one["sync_status"] == "synced").count() as i64
                }
            };
            if usize::try_from(synced)? >= directories {
                return Ok(());
            }
            if started.elapsed() > patience {
                return Err(format!("the first sync does not end: {}", self.health().await?).into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether everything that was acknowledged has taken effect: folded, and confirmed by the API where ours does that.
    pub async fn is_drained(&self) -> Result<bool> {
        if self.system.is_mirror() {
            let health = self.health().await?;
            if health["inbox"]["dead"] != 0 {
                return Err(format!("events are dead: {health}").into());
            }
            return Ok(health["inbox"]["pending"] == 0 && health["marks"] == 0);
        }
        let state: Value = self.client.get(self.url("/pending")).send().await?.json().await?;
        if state["failed"] != 0 {
            return Err(format!("the handler failed {} times", state["failed"]).into());
        }
        Ok(state["pending"] == 0)
    }

    /// CPU time so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        self.child.id().map_or(0.0, proc::cpu_seconds)
    }

    /// Resident memory in MiB: now, and at its highest.
    pub fn resident_mib(&self) -> (f64, f64) {
        self.child.id().map_or((0.0, 0.0), proc::resident_mib)
    }

    /// Ends it.
    pub async fn stop(mut self) -> Result<()> {
        if let Some(pid) = self.child.id() {
            Command::new("kill").arg(pid.to_string()).status().await?;
        }
        self.child.wait().await?;
        Ok(())
    }

    async fn health(&self) -> Result<Value> {
        Ok(self.client.get(self.url("/health")).send().await?.json().await?)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.target.address)
    }
}

fn log_file(scratch: &Path, system: System) -> PathBuf {
    scratch.join(format!("{system:?}.log"))
}
