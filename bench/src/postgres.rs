//! A PostgreSQL server of the run's own, as `initdb` makes it: fsync and synchronous_commit are on.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use crate::{Result, proc, until};

/// Ends with the pipe that we hold, however we end.
const KEEPER: &str = r#"
"$2/initdb" -D "$1/data" -U postgres -A trust -E UTF8 --locale=C >"$1/initdb.log" 2>&1 || exit 1
"$2/postgres" -D "$1/data" -k "$1" -c listen_addresses= -c fsync=on -c synchronous_commit=on -c max_connections=200 \
  -c shared_preload_libraries=pg_stat_statements >"$1/server.log" 2>&1 &
server=$!
cat >/dev/null
kill -INT $server
wait $server
rm -rf "$1"
"#;

/// The database of a turn.
pub const DATABASE: &str = "bench";

/// The running server.
pub struct Postgres {
    folder: PathBuf,
    binaries: PathBuf,
    keeper: Child,
}

impl Postgres {
    /// Makes a cluster below `TMPDIR` and starts it; as another user if we are root, since PostgreSQL refuses to be.
    pub async fn start() -> Result<Self> {
        let binaries =
            binaries().ok_or("PostgreSQL's initdb was not found: install PostgreSQL, or put it on the PATH")?;
        let folder = tempfile::Builder::new().prefix("dm-bench-pg-").tempdir()?.keep();
        let root = Command::new("id").arg("-u").output()?.stdout.starts_with(b"0");
        let mut command = if root {
            let known = Command::new("id").args(["-u", "postgres"]).output()?.status.success();
            let owner = if known { "postgres" } else { "nobody" };
            Command::new("chown").arg(owner).arg(&folder).status()?;
            let mut command = Command::new("runuser");
            command.args(["-u", owner, "--", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        command.args(["-c", KEEPER, "keeper"]).arg(&folder).arg(&binaries);
        let keeper = command.current_dir("/").stdin(Stdio::piped()).spawn()?;
        let server = Self { folder, binaries, keeper };
        until("PostgreSQL starts", Duration::from_secs(60), async || server.connect("postgres").await.is_ok()).await?;
        Ok(server)
    }

    /// Makes an empty database in place of the one that had the name.
    pub async fn create_database(&self, name: &str) -> Result<String> {
        let client = self.connect("postgres").await?;
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
        client.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        self.connect(name).await?.batch_execute("CREATE EXTENSION pg_stat_statements").await?;
        Ok(self.url(name))
    }

    /// A client of a database.
    pub async fn connect(&self, database: &str) -> Result<Client> {
        let (client, connection) = tokio_postgres::connect(&self.url(database), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// The server's CPU time so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        let file = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap_or_default();
        file.lines().next().and_then(|pid| pid.parse().ok()).map_or(0.0, proc::cpu_seconds_with_children)
    }

    /// Transactions a second of `pgbench`: 64 clients, one row of 1 KB a transaction.
    pub async fn pgbench(&self, seconds: u64) -> Result<f64> {
        self.create_database("pgbench").await?;
        self.connect("pgbench")
            .await?
            .batch_execute("CREATE TABLE events (id bigserial PRIMARY KEY, body bytea NOT NULL)")
            .await?;
        let script = tempfile::NamedTempFile::new()?;
        std::fs::write(&script, format!("INSERT INTO events (body) VALUES ('\\\\x{}');\n", "5a".repeat(1024)))?;
        let output = tokio::process::Command::new(self.binaries.join("pgbench"))
            .args(["-n", "-M", "prepared", "-c", "64", "-j", "2", "-U", "postgres", "-T", &seconds.to_string()])
            .arg("-h")
            .arg(&self.folder)
            .arg("-f")
            .arg(script.path())
            .arg("pgbench")
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split_whitespace().next()?.parse().ok());
        tps.ok_or_else(|| format!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)).into())
    }

    fn url(&self, database: &str) -> String {
        let host = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{host}/{database}")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn binaries() -> Option<PathBuf> {
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = packaged.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    folders.into_iter().find(|folder| ["initdb", "postgres", "pgbench"].iter().all(|name| folder.join(name).exists()))
}
