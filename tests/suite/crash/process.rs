//! The real process: started, struck by signals, looked at from outside.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

/// `directory-mirror serve`. It is killed with this value.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts one that listens on `address` and adds to the log.
    pub fn start(variables: &[(&'static str, String)], address: &str, log: &Path) -> Self {
        let file = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new("sh");
        // A limit on the size of files is to make writes fail; unignored, its signal would end the process.
        command.args(["-c", "trap '' XFSZ; exec \"$0\" serve", env!("CARGO_BIN_EXE_directory-mirror")]);
        command.env_clear().current_dir(std::env::temp_dir()).stdin(Stdio::null()).stderr(file);
        command.envs(variables.iter().map(|(name, value)| (*name, value.as_str())));
        command.env("BIND_ADDR", address).env("RUST_LOG", "directory_mirror=warn");
        Self { child: command.spawn().unwrap(), log: log.to_owned() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: the process can do nothing about it.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal by its name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let signal = format!("-{name}");
        assert!(Command::new("kill").args([&signal, &self.id().to_string()]).status().unwrap().success());
    }

    /// Panics, with the end of the log, if the process has ended by itself.
    pub fn assert_runs(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the process ended by itself with {status}:\n{}", self.log_end());
        }
    }

    /// The last lines of the log.
    pub fn log_end(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// From here on [`Process::peak_memory`] counts anew.
    pub fn forget_peak_memory(&self) {
        // The kernel's word for it; where it is refused, the peak counts from the start.
        let _ = std::fs::write(format!("/proc/{}/clear_refs", self.id()), "5");
    }

    /// The most memory that was resident at once, in MiB.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nothing uses, below those that the system gives to connections: there a client that retries while the
/// process is down could take it.
pub fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 6_000).unwrap();
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if let Ok(listener) = std::net::TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().unwrap().to_string();
        }
    }
}
