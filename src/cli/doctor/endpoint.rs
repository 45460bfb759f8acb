//! Whether WorkOS has an endpoint that brings us every event. Pure.

use serde_json::Value;

use super::finding::Finding;
use crate::config::Secret;
use crate::webhook;
use crate::workos::Listing;

pub(super) const ENDPOINT: &str = "webhook endpoint";
const REGISTERED_SECRET: &str = "endpoint's secret";

/// The events without which the mirror would miss something: all that an endpoint can subscribe to by the enum of
/// `CreateWebhookEndpointDto` in WorkOS's OpenAPI document, which has neither `dsync.deactivated` nor the tokens' events.
pub(super) const NEEDED: [&str; 10] = [
    "dsync.activated",
    "dsync.deleted",
    "dsync.user.created",
    "dsync.user.updated",
    "dsync.user.deleted",
    "dsync.group.created",
    "dsync.group.updated",
    "dsync.group.deleted",
    "dsync.group.user_added",
    "dsync.group.user_removed",
];

pub(super) fn check(listing: &Listing, secrets: &[Secret]) -> Vec<Finding> {
    if !listing.is_complete() {
        let why = format!("the API answers with status {}; look at the dashboard", listing.last.status);
        return vec![Finding::skipped(ENDPOINT, &why)];
    }
    let remedy = format!(
        "in WorkOS's dashboard, add an endpoint https://<your host>{} with every dsync event, and copy its secret",
        webhook::PATH
    );
    let text =
        |endpoint: &Value, field: &str| endpoint.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_ours = |endpoint: &&Value| {
        let url = text(endpoint, "endpoint_url");
        reqwest::Url::parse(&url).is_ok_and(|url| url.path().trim_end_matches('/').ends_with(webhook::PATH))
    };
    let ours: Vec<&Value> = listing.records.iter().filter(is_ours).collect();
    let Some(first) = ours.first() else {
        let message = match listing.records.len() {
            0 => "the environment has none: no event will come".to_owned(),
            others => format!("none of the {others} of this environment ends in {}: no event will come", webhook::PATH),
        };
        return vec![Finding::error(ENDPOINT, message, remedy)];
    };
    let enabled = || ours.iter().filter(|endpoint| text(endpoint, "status") == "enabled");
    // An environment may have several services like this one: ours is the one whose secret we have.
    let signs_for_us = |endpoint: &&&Value| secrets.iter().any(|secret| secret.expose() == text(endpoint, "secret"));
    let Some(enabled) = enabled().find(signs_for_us).or_else(|| enabled().next()) else {
        let message = format!("{} is {}: no event will come", text(first, "id"), text(first, "status"));
        return vec![Finding::error(ENDPOINT, message, "enable it in WorkOS's dashboard")];
    };
    let id = text(enabled, "id");
    let subscribed: Vec<&str> =
        enabled.get("events").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let missing: Vec<&str> = NEEDED.into_iter().filter(|needed| !subscribed.contains(needed)).collect();
    let mut findings = vec![if missing.is_empty() {
        Finding::ok(ENDPOINT, format!("{id} is enabled for every event that is needed"))
    } else {
        let message = format!("{id} does not send {}", missing.join(", "));
        Finding::error(ENDPOINT, message, "add them to the endpoint in WorkOS's dashboard")
    }];
    findings.push(secret(&text(enabled, "secret"), &id, secrets));
    findings
}

/// Some answers leave the secret out.
fn secret(registered: &str, id: &str, secrets: &[Secret]) -> Finding {
    if registered.is_empty() {
        return Finding::note(REGISTERED_SECRET, "the API does not tell it: compare it in the dashboard");
    }
    if secrets.iter().any(|secret| secret.expose() == registered) {
        return Finding::ok(REGISTERED_SECRET, format!("that of {id} is among WORKOS_WEBHOOK_SECRET"));
    }
    let remedy = format!("copy the secret of {id} from WorkOS's dashboard into WORKOS_WEBHOOK_SECRET");
    Finding::error(REGISTERED_SECRET, format!("{id} signs with another one: every event would be refused"), remedy)
}
