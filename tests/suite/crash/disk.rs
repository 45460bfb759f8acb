//! A disk that can be full.
//!
//! As root it is a small file system of its own, so that writing fails as it does in production. Otherwise the process
//! gets a limit on the size of files instead, which every write then exceeds.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::is_root;

/// Where a play's database is.
pub enum Disk {
    Small { folder: PathBuf, keeper: Child },
    Limited(TempDir),
}

/// Ends with the process, however that ends: it reads from a pipe that only we hold. A signal to all, such as Ctrl-C, must
/// not end it before it has cleared up.
const KEEPER: &str = r#"
trap '' INT TERM HUP
mount -t tmpfs -o size=512m,mode=777 directory-mirror-test "$1" 2>/dev/null || exit 1
echo mounted
cat >/dev/null
umount -l "$1"
rmdir "$1"
"#;

impl Disk {
    pub fn make() -> Self {
        // PostgreSQL may run as another user.
        let open = std::fs::Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().prefix("dm-disk-").permissions(open).tempdir().unwrap();
        if !is_root() {
            return Self::Limited(folder);
        }
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "keeper"]).arg(folder.path()).current_dir("/");
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            keeper.wait().unwrap();
            return Self::Limited(folder);
        }
        Self::Small { folder: folder.keep(), keeper }
    }

    pub fn folder(&self) -> &Path {
        match self {
            Self::Small { folder, .. } => folder,
            Self::Limited(folder) => folder.path(),
        }
    }

    /// Whether it can be filled for every process, and not only for our own.
    pub fn is_small(&self) -> bool {
        matches!(self, Self::Small { .. })
    }

    /// Leaves no room.
    pub fn fill(&self, process: u32) {
        match self {
            Self::Small { folder, .. } => {
                let mut filler = std::fs::File::create(folder.join("filler")).unwrap();
                for size in [1 << 20, 1 << 12] {
                    while filler.write_all(&vec![0; size]).is_ok() {}
                }
            }
            Self::Limited(_) => limit_files(process, "0:unlimited"),
        }
    }

    /// Makes room again.
    pub fn free(&self, process: u32) {
        match self {
            Self::Small { folder, .. } => std::fs::remove_file(folder.join("filler")).unwrap(),
            Self::Limited(_) => limit_files(process, "unlimited:unlimited"),
        }
    }
}

fn limit_files(process: u32, limit: &str) {
    let limited = Command::new("prlimit").args(["--pid", &process.to_string(), &format!("--fsize={limit}")]).status();
    assert!(limited.unwrap().success(), "prlimit of util-linux is needed");
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Self::Small { keeper, .. } = self {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }
}
