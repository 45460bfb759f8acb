//! What `/proc` tells of a process. Linux only.

use std::collections::HashMap;
use std::fs;

/// Clock ticks a second in `/proc`: 100 on every Linux that matters (`getconf CLK_TCK`).
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of a process, all its threads and the children it has waited for, in seconds.
pub fn cpu_seconds(pid: u32) -> f64 {
    stat(pid).map_or(0.0, |stat| stat.ticks / TICKS_PER_SECOND)
}

/// CPU time of a process and of its children, those that ended included, in seconds: a PostgreSQL server.
pub fn cpu_seconds_with_children(pid: u32) -> f64 {
    let mut total = cpu_seconds(pid);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Some(child) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            && let Some(stat) = stat(child)
            && stat.parent == pid
        {
            total += stat.ticks / TICKS_PER_SECOND;
        }
    }
    total
}

/// Resident memory in MiB: now, and at its highest.
pub fn resident_mib(pid: u32) -> (f64, f64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let fields: HashMap<&str, &str> = status.lines().filter_map(|line| line.split_once(':')).collect();
    let mib = |name: &str| {
        let kib = fields.get(name).and_then(|value| value.split_whitespace().next()?.parse::<f64>().ok());
        kib.unwrap_or(0.0) / 1024.0
    };
    (mib("VmRSS"), mib("VmHWM"))
}

struct Stat {
    parent: u32,
    ticks: f64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses; what follows the last one is numbers.
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<f64>().ok();
    // proc(5): ppid is field 4, utime to cstime are 14 to 17; the first here is field 3.
    let ticks = (11..=14).filter_map(number).sum();
    Some(Stat { parent: fields.get(1)?.parse().ok()?, ticks })
}
