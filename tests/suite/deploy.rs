//! What is deployed with agrees with what is built. The files themselves are checked by their own tools.

use crate::support::root;

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The value behind the first `name = "` of a manifest.
fn value<'a>(manifest: &'a str, name: &str) -> &'a str {
    let sign = format!("{name} = \"");
    let from = manifest.find(&sign).unwrap() + sign.len();
    manifest[from..].split('"').next().unwrap()
}

#[test]
fn the_container_is_built_by_the_version_that_the_manifest_wants() {
    let wanted = format!("ARG RUST_VERSION={}\n", value(&text("Cargo.toml"), "rust-version"));
    assert!(text("Containerfile").contains(&wanted), "{wanted}");
}

#[test]
fn the_container_is_built_from_every_package_of_the_workspace() {
    let manifest = text("Cargo.toml");
    let members = manifest.split("members = [").nth(1).unwrap().split(']').next().unwrap();
    let ignored = text(".dockerignore");
    for member in members.split(',').map(|member| member.trim().trim_matches('"')).filter(|member| !member.is_empty()) {
        assert!(ignored.lines().any(|line| line == format!("!{member}")), "{member} is missing from .dockerignore");
    }
}

#[test]
fn a_configuration_that_cannot_be_used_is_not_tried_again() {
    // 2 is what `serve` ends with then.
    assert!(text("deploy/directory-mirror.service").lines().any(|line| line == "RestartPreventExitStatus=2"));
}

#[test]
fn an_operator_finds_what_each_alert_means() {
    let (rules, manual) = (text("docs/alerts.yaml"), text("docs/OPERATIONS.md"));
    let names: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(manual.contains(name), "{name} is missing from docs/OPERATIONS.md");
    }
}
