//! A database per test, a service in this process, and an emulator beside it.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use directory_mirror::app::Service;
use directory_mirror::cli::compare::differences;
use directory_mirror::clock::Clock;
use directory_mirror::config::Config;
use directory_mirror::db::{Db, MarkFilter};
use tempfile::TempDir;
use workos_emulator::{DeliveryOptions, Emulator, Options};

pub const SECRET: &str = "test-secret";
/// How long a condition may take to come true on a busy machine; a doubtful answer is looked at once more a minute later.
pub const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// Makes a test of each function, once for each engine: `sqlite::name` and `postgres::name`.
macro_rules! on_both_engines {
    ($($name:ident),+ $(,)?) => {
        mod sqlite { $(#[test] fn $name() { $crate::support::run(super::$name($crate::support::Engine::Sqlite)); })+ }
        mod postgres { $(#[test] fn $name() { $crate::support::run(super::$name($crate::support::Engine::Postgres)); })+ }
    };
}
pub(crate) use on_both_engines;

pub fn run(test: impl Future<Output = ()>) {
    directory_mirror::telemetry::start(directory_mirror::config::LogFormat::Text, "off");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test);
}

/// An empty database that goes with this value.
pub struct TestDatabase {
    pub url: String,
    _folder: Option<TempDir>,
}

impl TestDatabase {
    pub async fn new(engine: Engine) -> Self {
        match engine {
            Engine::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("sqlite:{}", folder.path().join("mirror.db").display());
                Self { url, _folder: Some(folder) }
            }
            Engine::Postgres => Self { url: postgres().create_database().await, _folder: None },
        }
    }
}

/// A service with its database, and an emulator that posts to it.
pub struct Scene {
    pub emulator: Emulator,
    pub service: Option<Service>,
    _database: TestDatabase,
    pub variables: Vec<(&'static str, String)>,
}

pub fn emulator_options() -> Options {
    let delivery = DeliveryOptions {
        first_retry: Duration::from_millis(20),
        max_retry: Duration::from_millis(500),
        max_attempts: 100_000,
        ..DeliveryOptions::default()
    };
    Options { requests_per_minute: 0, directory_users_per_second: 0, delivery, ..Options::default() }
}

/// The configuration of a service beside the emulator, without limits of its own.
pub fn variables(emulator: &Emulator, database_url: &str) -> Vec<(&'static str, String)> {
    vec![
        ("DATABASE_URL", database_url.to_owned()),
        ("WORKOS_API_BASE_URL", emulator.url().to_owned()),
        ("WORKOS_API_KEY", emulator.api_key()),
        ("WORKOS_WEBHOOK_SECRET", format!("another-secret,{SECRET}")),
        ("WORKOS_API_REQUESTS_PER_MINUTE", "0".to_owned()),
        ("WORKOS_DIRECTORY_USERS_PER_SECOND", "0".to_owned()),
        ("WEBHOOK_MAX_BODY_BYTES", "100000".to_owned()),
        ("EVENTS_POLL_INTERVAL", "0".to_owned()),
        ("BIND_ADDR", "127.0.0.1:0".to_owned()),
    ]
}

impl Scene {
    /// An emulator and a database; the service is not started.
    pub async fn set(engine: Engine) -> Self {
        let emulator = Emulator::start(emulator_options()).await.unwrap();
        let database = TestDatabase::new(engine).await;
        let variables = variables(&emulator, &database.url);
        Self { emulator, service: None, _database: database, variables }
    }

    /// [`Scene::set`], with the service up and the emulator posting to it.
    pub async fn start(engine: Engine) -> Self {
        let mut scene = Self::set(engine).await;
        scene.start_service().await;
        scene.emulator.register_endpoint(&scene.webhook(), SECRET);
        scene
    }

    pub fn set_variable(&mut self, name: &'static str, value: &str) {
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value.to_owned()));
    }

    pub async fn start_service(&mut self) {
        self.start_service_with(Clock::system()).await;
    }

    pub async fn start_service_with(&mut self, clock: Clock) {
        let find = |name: &str| self.variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        let config = Config::read(&find).unwrap();
        self.service = Some(Service::start(&config, clock).await.unwrap());
    }

    pub fn service(&self) -> &Service {
        self.service.as_ref().unwrap()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.service().address())
    }

    pub fn webhook(&self) -> String {
        self.url("/api/webhooks/workos/directory-sync")
    }

    /// [`settle`] with the service in this process.
    pub async fn settle(&self) {
        settle(&self.emulator, self.service().db()).await;
    }

    pub async fn stop(mut self) {
        if let Some(service) = self.service.take() {
            service.stop().await;
        }
        self.emulator.stop().await;
    }
}

/// Marks without those that a minute passes before: an answer about somebody who was just made is looked at once more
/// then, though the mirror shows it already.
pub async fn marks_due_soon(db: &Db) -> i64 {
    let soon = Clock::system().now() + TimeDelta::seconds(30);
    db.count_marks(&MarkFilter { due_at: Some(soon), ..MarkFilter::default() }).await.unwrap()
}

/// Waits until everything is delivered, folded and fetched and the mirror equals the emulator; and then demands that no
/// event is left or dead.
pub async fn settle(emulator: &Emulator, db: &Db) {
    assert!(emulator.wait_for_deliveries(PATIENCE).await, "events are not delivered");
    let mut found = Vec::new();
    let equal = wait_until(PATIENCE, async || {
        let backlog = db.backlog().await.unwrap();
        found = differences(&db.copy_mirror().await.unwrap(), &emulator.truth());
        let directories = db.directory_health().await.unwrap();
        let scanned = directories
            .iter()
            .all(|health| health.directory.deleted_at.is_some() || health.directory.sync_status.as_str() == "synced");
        backlog.pending == 0 && marks_due_soon(db).await == 0 && scanned && found.is_empty()
    })
    .await;
    assert!(equal, "the mirror differs ({} ways): {found:#?} {:?}", found.len(), db.backlog().await);
    assert_eq!(db.backlog().await.unwrap().dead, 0, "an event is dead");
}

/// Asks until the answer is yes; `false` if it never is.
pub async fn wait_until(patience: Duration, mut condition: impl AsyncFnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        let asked = Instant::now();
        if condition().await {
            return true;
        }
        if started.elapsed() > patience {
            return false;
        }
        // What is dear to ask is asked more rarely, so that asking does not become the load.
        tokio::time::sleep(Duration::from_millis(10).max(asked.elapsed() * 4)).await;
    }
}

/// A PostgreSQL server of this test binary's own. It ends with the process, however that ends: its keeper reads from a
/// pipe that only we hold.
struct PostgresServer {
    folder: PathBuf,
    keeper: Child,
}

const KEEPER: &str = r#"
"$2/initdb" -D "$1/data" -U postgres -A trust -N -E UTF8 --locale=C >"$1/initdb.log" 2>&1 || exit 1
"$2/postgres" -D "$1/data" -k "$1" -c listen_addresses= -c fsync=off -c max_connections=400 >"$1/server.log" 2>&1 &
server=$!
cat >/dev/null
kill -INT $server
wait $server
rm -rf "$1"
"#;

fn postgres() -> &'static PostgresServer {
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    SERVER.get_or_init(PostgresServer::start)
}

impl PostgresServer {
    fn start() -> Self {
        let binaries = postgres_binaries()
            .expect("PostgreSQL's initdb was not found: run ./scripts/test, which installs it, or put it on the PATH");
        let folder = tempfile::Builder::new().prefix("dm-pg-").tempdir().unwrap().keep();
        let keeper = as_server_owner("sh", &folder)
            .args(["-c", KEEPER, "keeper"])
            .arg(&folder)
            .arg(binaries)
            .current_dir("/")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self { folder, keeper }
    }

    fn config(&self, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.folder).user("postgres").dbname(database);
        config
    }

    async fn create_database(&self) -> String {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut client = None;
        wait_until(PATIENCE, async || {
            client = self.config("postgres").connect(tokio_postgres::NoTls).await.ok();
            client.is_some()
        })
        .await;
        let (client, connection) = client.unwrap_or_else(|| {
            let log = |file| std::fs::read_to_string(self.folder.join(file)).unwrap_or_default();
            panic!("PostgreSQL did not start: {}{}", log("initdb.log"), log("server.log"))
        });
        tokio::spawn(connection);
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        format!("postgres://postgres@{}/{name}", self.folder.display().to_string().replace('/', "%2F"))
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Some(pipe) = &mut self.keeper.stdin {
            let _ = pipe.flush();
        }
    }
}

/// A command that may run PostgreSQL in `folder`: initdb and the server refuse to be run by root.
pub fn as_server_owner(program: impl AsRef<OsStr>, folder: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let owner = if has_user("postgres") { "postgres" } else { "nobody" };
    assert!(Command::new("chown").arg(owner).arg(folder).status().unwrap().success());
    let mut command = Command::new("runuser");
    command.args(["-u", owner, "--"]).arg(program);
    command
}

pub fn postgres_binaries() -> Option<PathBuf> {
    let on_path =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let mut packaged: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    packaged.sort();
    packaged
        .into_iter()
        .rev()
        .chain(on_path)
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.starts_with(b"0"))
}

fn has_user(name: &str) -> bool {
    Command::new("id").arg(name).output().is_ok_and(|output| output.status.success())
}

/// A client of a scene's PostgreSQL database.
pub async fn connect(variables: &[(&'static str, String)]) -> tokio_postgres::Client {
    let url = &variables.iter().find(|(name, _)| *name == "DATABASE_URL").unwrap().1;
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The project's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
