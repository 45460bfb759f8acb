//! What a developer needs to know at the start.

use std::fmt::Write;

use workos_emulator::{Emulator, EndpointStatus, Truth, World};

/// The directories that are named; of more only the number is told.
const NAMED: usize = 10;

/// What to set in the consumer, where webhooks go, which directories there are, and a first change.
pub(crate) fn text(emulator: &Emulator, secret: &str) -> String {
    let (url, key) = (emulator.url(), emulator.api_key());
    let mut text = format!(
        "WorkOS Directory Sync, emulated, at {url}\n\nSet in the consumer:\n  WORKOS_API_BASE_URL={url}\n  \
         WORKOS_API_KEY={key}\n  WORKOS_WEBHOOK_SECRET={secret}\n\n"
    );
    // Writing to a string cannot fail.
    let _ = write!(text, "{}", webhooks(emulator));
    let truth = emulator.truth();
    let _ = write!(text, "\n{}\nA first change:\n  {}", directories(&truth), first_change(url, &truth));
    text
}

fn webhooks(emulator: &Emulator) -> String {
    let endpoints = emulator.read(World::webhook_endpoints);
    let enabled = endpoints.iter().filter(|endpoint| endpoint.status == EndpointStatus::Enabled);
    let list: String = enabled.map(|endpoint| format!("  {}\n", endpoint.endpoint_url)).collect();
    if list.is_empty() {
        return "No webhooks are sent: start with --endpoint URL, or register one by POST /webhook_endpoints\n"
            .to_owned();
    }
    format!("Webhooks go to (and wait, if nobody is there yet):\n{list}")
}

fn directories(truth: &Truth) -> String {
    if truth.directories.is_empty() {
        return "There is no directory yet: start with --seed-file FILE or --users NUMBER, or make one by hand.\n"
            .to_owned();
    }
    let mut text = "Directories:\n".to_owned();
    for directory in truth.directories.values().take(NAMED) {
        let users = truth.users.values().filter(|user| user.directory_id == directory.id).count();
        let groups = directory.metadata.groups;
        let (id, name, kind, state) = (&directory.id, &directory.name, &directory.kind, &directory.state);
        let _ = writeln!(text, "  {id}  {name}, {kind}, {state}: {users} users, {groups} groups");
    }
    if let Some(more) = truth.directories.len().checked_sub(NAMED).filter(|more| *more > 0) {
        let _ = writeln!(text, "  and {more} more");
    }
    text
}

fn first_change(url: &str, truth: &Truth) -> String {
    let json = "-H 'Content-Type: application/json'";
    match truth.users.keys().next() {
        Some(id) => {
            format!("curl -X PATCH {url}/emulator/users/{id} {json} -d '{{\"job_title\":\"Countess\"}}'")
        }
        None => format!("curl -X POST {url}/emulator/directories {json} -d '{{\"name\":\"Acme\"}}'"),
    }
}
