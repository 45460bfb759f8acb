//! A PostgreSQL server of a play's own, which can be stopped and started, with `fsync` on.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{PATIENCE, as_server_owner, postgres_binaries, wait_until};

/// How PostgreSQL is stopped.
#[derive(Debug, Clone, Copy)]
pub enum StopMode {
    /// Sessions are cut off, and the server ends in order.
    Fast,
    /// The server's processes just end; the next start recovers from the log.
    Immediate,
}

/// The server. It ends with this value, and with the process.
pub struct Server {
    folder: PathBuf,
    binaries: PathBuf,
    keeper: Child,
}

const KEEPER: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
"$2/pg_ctl" -D "$1/data" -m immediate -w stop >/dev/null 2>&1
rm -rf "$1/data"
"#;

impl Server {
    /// Makes a server in `folder` and starts it.
    pub async fn start_in(folder: &Path) -> Self {
        let binaries = postgres_binaries().expect("PostgreSQL's initdb was not found: run ./scripts/test");
        let folder = folder.join("postgres");
        std::fs::create_dir(&folder).unwrap();
        let mut keeper = as_server_owner("sh", &folder);
        keeper.args(["-c", KEEPER, "keeper"]).arg(&folder).arg(&binaries).current_dir("/").stdin(Stdio::piped());
        let server = Self { keeper: keeper.spawn().unwrap(), folder, binaries };
        let mut initdb = as_server_owner(server.binaries.join("initdb"), &server.folder);
        initdb.arg("-D").arg(server.folder.join("data"));
        // Small segments: the disk is small as well.
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--wal-segsize=1"]);
        run(initdb.stdout(Stdio::null())).await;
        server.start().await;
        server
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.folder.display().to_string().replace('/', "%2F"))
    }

    /// Stops it, whatever goes on.
    pub async fn stop(&self, mode: StopMode) {
        let mode = match mode {
            StopMode::Fast => "fast",
            StopMode::Immediate => "immediate",
        };
        run(self.control().args(["-m", mode, "-w", "-t", "60", "stop"])).await;
    }

    /// Starts it and waits until it has recovered.
    pub async fn start(&self) {
        let options = format!(
            "-k {} -c listen_addresses= -c fsync=on -c max_connections=50 -c shared_buffers=16MB -c max_wal_size=32MB",
            self.folder.display()
        );
        run(self.control().arg("-l").arg(self.folder.join("log")).args(["-w", "-t", "60", "-o", &options, "start"]))
            .await;
    }

    /// Starts it again if it gave up, as it does when its log finds no room.
    pub async fn start_if_down(&self) {
        let back = wait_until(PATIENCE, async || {
            if tokio_postgres::connect(&self.url(), tokio_postgres::NoTls).await.is_ok() {
                return true;
            }
            if !succeeds(self.control().arg("status")).await {
                self.start().await;
            }
            false
        })
        .await;
        assert!(back, "PostgreSQL does not come back");
    }

    fn control(&self) -> Command {
        let mut command = as_server_owner(self.binaries.join("pg_ctl"), &self.folder);
        command.arg("-D").arg(self.folder.join("data")).current_dir("/").stdout(Stdio::null());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

async fn succeeds(command: &mut Command) -> bool {
    let mut command = std::mem::replace(command, Command::new("true"));
    tokio::task::spawn_blocking(move || command.status().unwrap().success()).await.unwrap()
}

async fn run(command: &mut Command) {
    let shown = format!("{command:?}");
    assert!(succeeds(command).await, "{shown} failed");
}
