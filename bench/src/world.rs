//! The company that is mirrored: `workos-emulator` as a process of its own, and what happens in it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use hyper::body::Bytes;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::{Result, free_port, proc, until};

/// The key that the emulator accepts.
pub const API_KEY: &str = "sk_test_emulator";

/// Over how many parts the events of a load repeat their mix.
const WAVES: usize = 20;
/// More than the grain of WorkOS's instants.
const INSTANT: Duration = Duration::from_millis(2);
/// A seed that [`World::grow`] does not use.
pub const OTHERS_THAN_GROW: usize = WAVES;

/// A running emulator without rate limits and without endpoints: the load generator posts its events.
pub struct World {
    /// Its base URL.
    pub url: String,
    child: Child,
    client: reqwest::Client,
}

impl World {
    /// Starts it; the same seed gives the same ids in each run.
    pub async fn start(binaries: &Path) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(binaries.join("workos-emulator"));
        command.args(["serve", "--limits-scale", "0", "--seed", "7", "--port", &port.to_string()]);
        let child = command.stdout(Stdio::null()).env("RUST_LOG", "warn").kill_on_drop(true).spawn()?;
        let world = Self { url: format!("http://127.0.0.1:{port}"), child, client: reqwest::Client::new() };
        until("the emulator starts", Duration::from_secs(10), async || {
            world.client.get(format!("{}/emulator/requests", world.url)).send().await.is_ok()
        })
        .await?;
        Ok(world)
    }

    /// Makes a directory with people and groups, of which no event tells.
    pub async fn directory(&self, name: &str, users: usize, groups: usize, memberships: usize) -> Result<String> {
        let made = self.post("/directories", &json!({"name": name})).await?;
        let id = made.as_str().ok_or("the emulator answers no directory id")?.to_owned();
        let people = json!({"users": users, "groups": groups, "memberships": memberships, "silent": true});
        self.post(&format!("/directories/{id}/bulk"), &people).await?;
        self.forget_events().await?;
        Ok(id)
    }

    /// Newcomers with a membership each, and another job title for as many as there are people: `dsync.user.created`,
    /// `.updated`, `dsync.group.created` and `.user_added`. All kinds come throughout, so that a system that meets only the
    /// first part of the events meets the same mix.
    pub async fn grow(&self, directory: &str, newcomers: usize) -> Result<()> {
        for wave in 0..WAVES {
            let count = newcomers * (wave + 1) / WAVES - newcomers * wave / WAVES;
            let people = json!({"users": count, "groups": 1, "memberships": count});
            self.post(&format!("/directories/{directory}/bulk"), &people).await?;
            // What happens to one person within a millisecond is looked at twice, a minute apart: not what is measured here.
            tokio::time::sleep(INSTANT).await;
            self.promote(directory, 1.0 / WAVES as f64, wave).await?;
            tokio::time::sleep(INSTANT).await;
        }
        Ok(())
    }

    /// Another job title for a share of the people; the seed chooses whom.
    pub async fn promote(&self, directory: &str, share: f64, seed: usize) -> Result<()> {
        let change = json!({"action": "update", "share": share, "seed": seed});
        self.post(&format!("/directories/{directory}/bulk-change"), &change).await?;
        Ok(())
    }

    /// The bodies of all events since the last call: in order within each directory, which take turns.
    pub async fn take_events(&self) -> Result<Vec<Bytes>> {
        let text = self.client.get(format!("{}/emulator/events", self.url)).send().await?.text().await?;
        let bodies: Vec<Box<RawValue>> = serde_json::from_str(&text)?;
        let mut by_directory: BTreeMap<String, Vec<Bytes>> = BTreeMap::new();
        for body in bodies {
            let event: Value = serde_json::from_str(body.get())?;
            let directory = event["data"]["directory_id"].as_str().unwrap_or_default().to_owned();
            by_directory.entry(directory).or_default().push(Bytes::from(body.get().to_owned()));
        }
        self.forget_events().await?;
        let most = by_directory.values().map(Vec::len).max().unwrap_or(0);
        let turns = (0..most).flat_map(|turn| by_directory.values().filter_map(move |events| events.get(turn)));
        Ok(turns.cloned().collect())
    }

    /// Requests to the API since the last call.
    pub async fn take_request_count(&self) -> Result<u64> {
        let url = format!("{}/emulator/requests", self.url);
        let counts: Value = self.client.get(&url).send().await?.json().await?;
        self.client.delete(&url).send().await?;
        let by_path = counts["by_path"].as_object();
        Ok(by_path.map_or(0, |paths| paths.values().filter_map(Value::as_u64).sum()))
    }

    /// The emulator's CPU time so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        self.child.id().map_or(0.0, proc::cpu_seconds)
    }

    async fn forget_events(&self) -> Result<()> {
        self.client.delete(format!("{}/emulator/events", self.url)).send().await?;
        Ok(())
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let response = self.client.post(format!("{}/emulator{path}", self.url)).json(body).send().await?;
        let status = response.status();
        let answer: Value = response.json().await?;
        if status.is_success() { Ok(answer["result"].clone()) } else { Err(format!("{path}: {answer}").into()) }
    }
}
