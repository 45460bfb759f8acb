//! The events that changes emit.
//!
//! Source of every shape: the `dsync.*` events of WorkOS's OpenAPI document.

use std::sync::Arc;

use actix_web::web::Bytes;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::event_log::EventLog;
use crate::ids::Ids;
use crate::records::{Directory, Group, User, iso_millis};

/// An event as it was emitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmittedEvent {
    /// `event_…`; a later event has a greater one.
    pub id: String,
    /// The type, such as `dsync.user.created`.
    pub event: String,
    /// The organization that it is about.
    pub organization_id: Arc<str>,
    /// When it was emitted; whole milliseconds.
    pub created_at: DateTime<Utc>,
    /// The JSON envelope: exactly the bytes that are signed and sent. A copy is cheap.
    pub body: Bytes,
}

/// Makes events: it holds the clock and the ids that they take, and logs them. A body is kept once, whoever has the event.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) ids: Ids,
    pub(crate) log: EventLog,
    /// While it is set nothing is emitted: no event, no id, no cost.
    pub(crate) silent: bool,
    now: DateTime<Utc>,
}

impl Outbox {
    pub(crate) fn new(ids: Ids) -> Self {
        Self { ids, log: EventLog::default(), silent: false, now: DateTime::UNIX_EPOCH }
    }

    /// Moves the clock to `now`, in whole milliseconds as WorkOS has them, and never backwards.
    pub(crate) fn set_now(&mut self, now: DateTime<Utc>) {
        let whole = now.duration_trunc(TimeDelta::milliseconds(1)).unwrap_or(now);
        self.now = self.now.max(whole);
        self.log.expire(self.now);
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.now
    }

    pub(crate) fn emit(&mut self, event: &'static str, organization_id: &Arc<str>, data: &impl Serialize) {
        if self.silent {
            return;
        }
        let id = self.ids.next("event_");
        let envelope = Envelope { object: "event", id: &id, event, data, created_at: self.now, context: Map::new() };
        let body = serde_json::to_vec(&envelope).expect("records have string keys only");
        self.log.push(EmittedEvent {
            event: event.to_owned(),
            organization_id: organization_id.clone(),
            created_at: self.now,
            body: Bytes::from(body.into_boxed_slice()),
            id,
        });
    }
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    object: &'static str,
    id: &'a str,
    event: &'static str,
    data: &'a T,
    #[serde(serialize_with = "iso_millis")]
    created_at: DateTime<Utc>,
    context: Map<String, Value>,
}

/// The data of `dsync.activated` and `dsync.deactivated` and, without its two last fields, of `dsync.deleted`.
#[derive(Serialize)]
pub(crate) struct DirectoryData<'a> {
    object: &'static str,
    id: &'a str,
    organization_id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    state: &'a str,
    name: &'a str,
    #[serde(serialize_with = "iso_millis")]
    created_at: DateTime<Utc>,
    #[serde(serialize_with = "iso_millis")]
    updated_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domains: Option<Vec<Domain<'a>>>,
}

#[derive(Serialize)]
struct Domain<'a> {
    object: &'static str,
    id: &'a str,
    domain: &'a str,
}

impl<'a> DirectoryData<'a> {
    pub(crate) fn deleted(directory: &'a Directory) -> Self {
        Self {
            object: directory.object,
            id: &directory.id,
            organization_id: &directory.organization_id,
            kind: &directory.kind,
            state: event_state(&directory.state),
            name: &directory.name,
            created_at: directory.created_at,
            updated_at: directory.updated_at,
            external_key: None,
            domains: None,
        }
    }

    /// With `domain_id` as the id of the directory's domain.
    pub(crate) fn activated(directory: &'a Directory, domain_id: &'a str) -> Self {
        let domain = directory.domain.as_deref();
        let domain = domain.map(|domain| Domain { object: "organization_domain", id: domain_id, domain });
        Self {
            external_key: Some(&directory.external_key),
            domains: Some(domain.into_iter().collect()),
            ..Self::deleted(directory)
        }
    }
}

/// The data of `dsync.group.user_added` and `dsync.group.user_removed`.
#[derive(Serialize)]
pub(crate) struct MembershipData<'a> {
    pub(crate) directory_id: &'a str,
    pub(crate) user: &'a User,
    pub(crate) group: &'a Group,
}

/// A bearer token of a SCIM directory: the data of `dsync.token.created` and `dsync.token.revoked`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TokenData {
    pub(crate) object: &'static str,
    pub(crate) id: String,
    pub(crate) directory_id: String,
    pub(crate) organization_id: String,
    pub(crate) token_suffix: String,
    #[serde(serialize_with = "iso_millis")]
    pub(crate) created_at: DateTime<Utc>,
}

/// The data of an `.updated` event.
#[derive(Serialize)]
pub(crate) struct Updated<'a, T> {
    #[serde(flatten)]
    record: &'a T,
    previous_attributes: Map<String, Value>,
}

impl<'a, T: Serialize> Updated<'a, T> {
    pub(crate) fn new(old: &T, record: &'a T) -> Self {
        Self { record, previous_attributes: previous_attributes(&attributes(old), &attributes(record)) }
    }
}

/// Webhooks use their own words for two of a directory's states.
fn event_state(state: &str) -> &str {
    match state {
        "linked" => "active",
        "unlinked" => "inactive",
        other => other,
    }
}

fn attributes(record: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(record) {
        Ok(Value::Object(attributes)) => attributes,
        _ => Map::new(),
    }
}

/// What changed, with the values from before: at the root and one level down in the raw and custom attributes;
/// `null` for what was not there. Source: WorkOS changelog of 2021-11-29, "Previous Attributes on Webhooks".
fn previous_attributes(old: &Map<String, Value>, new: &Map<String, Value>) -> Map<String, Value> {
    let mut previous = Map::new();
    for name in old.keys().chain(new.keys()) {
        let (was, is) = (old.get(name), new.get(name));
        if was == is || name == "updated_at" || previous.contains_key(name) {
            continue;
        }
        let value = match (name.as_str(), was, is) {
            ("raw_attributes" | "custom_attributes", Some(Value::Object(was)), Some(Value::Object(is))) => {
                Value::Object(previous_attributes(was, is))
            }
            _ => was.cloned().unwrap_or(Value::Null),
        };
        previous.insert(name.clone(), value);
    }
    previous
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn previous_attributes_are_shallow() {
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        let old = object(json!({
            "email": "a@x", "state": "active", "updated_at": 1,
            "emails": [{"value": "a@x"}], "custom_attributes": {"department": "A", "job_title": "T"},
        }));
        let new = object(json!({
            "email": "b@x", "state": "active", "updated_at": 2, "role": {"slug": "admin"},
            "emails": [{"value": "b@x"}], "custom_attributes": {"department": "B", "job_title": "T"},
        }));
        assert_eq!(
            Value::Object(previous_attributes(&old, &new)),
            json!({
                "email": "a@x", "emails": [{"value": "a@x"}], "role": null,
                "custom_attributes": {"department": "A"},
            })
        );
    }
}
