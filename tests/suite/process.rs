//! The process as an operator meets it: its exit statuses and its messages.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::support::{Engine, PATIENCE, Scene, on_both_engines, wait_until};

on_both_engines!(ends_with_zero_when_told_to_stop);

fn serve(variables: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_directory-mirror"));
    command.arg("serve").env_clear().current_dir(folder.path()).envs(variables.iter().copied());
    command.output().unwrap()
}

#[test]
fn a_bad_configuration_ends_with_two_and_names_every_problem() {
    let output = serve(&[("BIND_ADDR", "nowhere"), ("DATABASE_URL", "mysql://root:hunter2@db/x")]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    for name in ["BIND_ADDR", "DATABASE_URL", "WORKOS_WEBHOOK_SECRET"] {
        assert!(message.contains(name), "{message}");
    }
    assert!(!message.contains("hunter2"));
}

#[test]
fn a_database_that_is_not_there_ends_with_one_and_says_so() {
    let url = "postgres://nobody:hunter2@127.0.0.1:1/none";
    let output = serve(&[("WORKOS_WEBHOOK_SECRET", "s"), ("DATABASE_URL", url), ("RUST_LOG", "off")]);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("database cannot be reached") && !message.contains("hunter2"), "{message}");
}

async fn ends_with_zero_when_told_to_stop(engine: Engine) {
    let scene = Scene::set(engine).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_directory-mirror"));
    command.arg("serve").env_clear().current_dir(std::env::temp_dir()).stderr(Stdio::null());
    command.envs(scene.variables.iter().map(|(name, value)| (*name, value.as_str())));
    let mut process = command.env("BIND_ADDR", &free).spawn().unwrap();
    let health = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_directory-mirror"));
        command.arg("health").env_clear().current_dir(std::env::temp_dir()).env("BIND_ADDR", &free);
        command.output().unwrap()
    };
    let up = wait_until(PATIENCE, async || health().status.success()).await;
    assert!(up, "the process does not become ready");
    assert!(Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap().success());
    let mut status = None;
    let ended = wait_until(Duration::from_secs(10), async || {
        status = process.try_wait().unwrap();
        status.is_some()
    })
    .await;
    assert!(ended, "the process does not end within 10 s");
    assert_eq!(status.unwrap().code(), Some(0));
    let down = health();
    assert_eq!(down.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&down.stderr).starts_with("not healthy: "), "{down:?}");
    scene.stop().await;
}
