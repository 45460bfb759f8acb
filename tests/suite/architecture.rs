//! Imports run downward (docs/ARCHITECTURE.md): this reads the `use` lines and keeps it so.

use std::path::{Path, PathBuf};

use crate::support::root;

/// From the top to the bottom; a room may use those in rows below its own, and those beside it in the same row.
const ROWS: [&[&str]; 6] = [
    &["main", "lib"],
    &["cli"],
    &["app"],
    &["http", "sync"],
    &["webhook", "inbox", "workos", "mirror", "db"],
    &["model", "config", "clock", "metrics", "telemetry"],
];
const PURE: [&str; 9] = [
    "src/metrics/",
    "src/mirror/",
    "src/model/",
    "src/sync/plan/",
    "src/sync/poll/",
    "src/webhook/signature.rs",
    "src/webhook/event.rs",
    "src/workos/limits.rs",
    "src/sync/turns.rs",
];
const EFFECTS: [&str; 3] = ["diesel", "actix_web", "reqwest"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn row_of(room: &str) -> usize {
    ROWS.iter().position(|row| row.contains(&room)).unwrap_or_else(|| panic!("{room} has no place in ROWS"))
}

#[test]
fn imports_run_downward() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    assert!(files.len() > 30);
    for file in files {
        let relative = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let room = relative.trim_start_matches("src/").split(['/', '.']).next().unwrap().to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (number, line) in code.lines().enumerate() {
            let uses = line.match_indices("crate::").map(|(at, sign)| &line[at + sign.len()..]);
            for target in uses.map(|rest| rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap()) {
                if !target.is_empty() && ROWS.concat().contains(&target) {
                    assert!(row_of(&room) <= row_of(target), "{relative}:{}: {room} uses {target}", number + 1);
                }
            }
            let is_pure = PURE.iter().any(|pure| relative.starts_with(pure));
            let effect = EFFECTS.iter().find(|effect| is_pure && line.contains(&format!("{effect}::")));
            assert!(effect.is_none(), "{relative}:{}: pure code uses {}", number + 1, effect.unwrap());
            let knows_diesel = relative.starts_with("src/db/") || !line.contains("diesel::");
            assert!(knows_diesel, "{relative}:{}: Diesel outside src/db", number + 1);
        }
    }
}

#[test]
fn the_emulator_shares_no_code_with_the_service() {
    let manifest = std::fs::read_to_string(root().join("emulator/Cargo.toml")).unwrap();
    assert!(!manifest.contains("directory-mirror"));
}
