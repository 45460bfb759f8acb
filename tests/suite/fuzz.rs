//! What the fuzz targets demand of any bytes, demanded of the fixtures, so that the targets keep pace with the code.
//! `./scripts/fuzz` looks further.

use crate::support::root;

#[path = "../../fuzz/bodies.rs"]
mod bodies;

#[test]
fn the_fuzz_targets_hold_for_the_fixtures() {
    let folders = ["fixtures", "fixtures/awkward"].map(|folder| std::fs::read_dir(root().join(folder)).unwrap());
    let files = folders.into_iter().flatten().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let mut played = 0;
    for file in files {
        let body = std::fs::read(file).unwrap();
        bodies::envelope(&body);
        bodies::records(&body);
        bodies::header(&body);
        // A thousand places are enough to cut at; the largest fixture has megabytes.
        for end in (0..body.len().min(4096)).step_by(4) {
            bodies::envelope(&body[..end]);
            bodies::records(&body[..end]);
        }
        played += 1;
    }
    assert!(played > 70);
}

#[test]
fn the_header_target_tells_genuine_ones_from_others() {
    let line = "t=1728000000000, v1=f4b1";
    for data in [line, "", "t=1, v1=", "no header\n{}"] {
        bodies::header(data.as_bytes());
    }
    let at = chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::days(20_000);
    for away in [-181, -180, 0, 180, 181] {
        let signed = workos_emulator::sign("secret", at.timestamp_millis() + away * 1000, b"{}");
        bodies::header(format!("{signed}\n{{}}").as_bytes());
    }
}
