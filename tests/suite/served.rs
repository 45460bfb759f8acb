//! The service as a process of its own, and its tables as any reader sees them.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use diesel::prelude::*;
use directory_mirror::config::Config;
use directory_mirror::db::Db;

use crate::support::{Engine, Scene, connect, wait_until};

const PATIENCE: Duration = Duration::from_secs(180);

/// A running `directory-mirror serve`; killed when it is dropped.
pub struct Served {
    process: Child,
    address: String,
}

impl Served {
    /// Starts it with the scene's variables and waits until it is ready.
    pub async fn start(scene: &Scene) -> Self {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut command = command(scene, &["serve"]);
        command.env("BIND_ADDR", &address).stderr(Stdio::inherit()).stdin(Stdio::null());
        let served = Self { process: command.spawn().unwrap(), address };
        let ready = format!("http://{}/health/ready", served.address);
        let up = async || reqwest::get(&ready).await.is_ok_and(|answer| answer.status().is_success());
        assert!(wait_until(PATIENCE, up).await, "the process does not become ready");
        served
    }

    /// Where webhooks go.
    pub fn webhook(&self) -> String {
        format!("http://{}/api/webhooks/workos/directory-sync", self.address)
    }

    /// The most memory that it ever had resident, in MB; `None` where the kernel does not tell.
    pub fn peak_memory_mb(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? / 1024)
    }

    /// The processor time that it has used, in seconds; `None` where the kernel does not tell.
    pub fn processor_seconds(&self) -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).ok()?;
        // The fields after the name in brackets; utime and stime are the 14th and 15th of all, in ticks of 10 ms.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
        Some((ticks(11)? + ticks(12)?) / 100.0)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program with the scene's variables and nothing else of this process's environment but `RUST_LOG`.
pub fn command(scene: &Scene, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_directory-mirror"));
    command.args(arguments).env_clear().current_dir(std::env::temp_dir());
    command.env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "off".to_owned()));
    command.envs(scene.variables.iter().map(|(name, value)| (*name, value.as_str())));
    command
}

/// The scene's database, without a service.
pub fn database(scene: &Scene) -> Db {
    let find = |name: &str| scene.variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
    Db::connect(&Config::read(&find).unwrap().database).unwrap()
}

/// The tables, by SQL.
pub enum Tables {
    Sqlite(Box<SqliteConnection>),
    Postgres(tokio_postgres::Client),
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = diesel::sql_types::Text)]
    text: String,
}

impl Tables {
    pub async fn open(scene: &Scene, engine: Engine) -> Self {
        match engine {
            Engine::Sqlite => {
                let url = &scene.variables.iter().find(|(name, _)| *name == "DATABASE_URL").unwrap().1;
                let mut connection = SqliteConnection::establish(url.strip_prefix("sqlite:").unwrap()).unwrap();
                diesel::sql_query("PRAGMA busy_timeout = 60000").execute(&mut connection).unwrap();
                Self::Sqlite(Box::new(connection))
            }
            Engine::Postgres => {
                let client = connect(&scene.variables).await;
                client.batch_execute("SET search_path TO directory_sync").await.unwrap();
                Self::Postgres(client)
            }
        }
    }

    /// The column `text` of each row.
    pub async fn texts(&mut self, query: &str) -> Vec<String> {
        match self {
            Self::Sqlite(connection) => {
                let rows = tokio::task::block_in_place(|| diesel::sql_query(query).load::<Row>(&mut **connection));
                rows.unwrap().into_iter().map(|row| row.text).collect()
            }
            Self::Postgres(client) => {
                let rows = client.query(query, &[]).await.unwrap();
                rows.into_iter().map(|row| row.get("text")).collect()
            }
        }
    }

    /// The value of an expression.
    pub async fn number(&mut self, expression: &str) -> u64 {
        let texts = self.texts(&format!("SELECT CAST({expression} AS text) AS text")).await;
        texts[0].parse().unwrap()
    }

    /// Runs a statement.
    pub async fn run(&mut self, statement: &str) {
        match self {
            Self::Sqlite(connection) => drop(diesel::sql_query(statement).execute(&mut **connection).unwrap()),
            Self::Postgres(client) => client.batch_execute(statement).await.unwrap(),
        }
    }
}
