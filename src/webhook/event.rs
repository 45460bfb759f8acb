//! The event envelope, and what an event hints at. Pure.

use chrono::TimeDelta;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::envelope;
use crate::clock::Timestamp;
use crate::model::{
    Change, DirectoryGroupId, DirectoryId, DirectoryRecord, DirectoryUserId, EventId, GroupRecord, Hint, HintKey,
    UserRecord, parse_timestamp, read_json, without_nul,
};

/// What an envelope says before anyone decides what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// WorkOS's id of the event.
    pub event_id: EventId,
    /// WorkOS's `event`, such as `dsync.user.created`.
    pub event_type: String,
    /// The directory that its data names.
    pub directory_id: Option<String>,
    /// The organization that its data names.
    pub organization_id: Option<String>,
    /// `created_at`, where it can be read.
    pub occurred_at: Option<Timestamp>,
}

/// Why a body is not an event envelope, or not one we can fold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The body is not JSON.
    #[error("the body is not JSON (line {0}, column {1})")]
    NotJson(usize, usize),
    /// A field that every event has is missing, or cannot be stored.
    #[error("the body is not an event envelope: {0}")]
    NotAnEnvelope(&'static str),
    /// A directory-sync event whose data does not say what it is about.
    #[error("the event's data cannot be read: {0}")]
    Data(String),
}

/// The types of the events that are for the mirror.
pub const TYPES: [&str; 13] = [
    "dsync.activated",
    "dsync.deactivated",
    "dsync.deleted",
    "dsync.user.created",
    "dsync.user.updated",
    "dsync.user.deleted",
    "dsync.group.created",
    "dsync.group.updated",
    "dsync.group.deleted",
    "dsync.group.user_added",
    "dsync.group.user_removed",
    "dsync.token.created",
    "dsync.token.revoked",
];

/// Why an event is not for the mirror; `None` if it is.
#[must_use]
pub fn reason_to_ignore(event_type: &str) -> Option<&'static str> {
    match event_type {
        ours if TYPES.contains(&ours) => None,
        other if other.starts_with("dsync.") => {
            Some("a directory-sync event of a type that this version does not know")
        }
        _ => Some("not a directory-sync event"),
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, EventError> {
    read_json(body).map_err(|error| EventError::NotJson(error.line(), error.column()))
}

fn text(value: &Value, field: &str) -> Option<String> {
    value.get(field).and_then(Value::as_str).map(|text| without_nul(text.to_owned()))
}

/// Text that goes into an indexed or filtered column: what is too long for an id is not one.
fn short(text: Option<String>) -> Option<String> {
    text.map(without_nul).filter(|text| !text.is_empty() && text.len() <= crate::model::MAX_ID_BYTES)
}

/// Reads an envelope; unknown fields are of no concern.
///
/// # Errors
/// [`EventError`] if the body is not JSON or lacks `id` or `event`.
pub fn parse_envelope(body: &[u8]) -> Result<Envelope, EventError> {
    let fields: envelope::Fields = decode(body)?;
    let fields = fields.0;
    let event_type = short(fields.event).ok_or(EventError::NotAnEnvelope("it has no event"))?;
    let id = fields.id.map(without_nul).ok_or(EventError::NotAnEnvelope("it has no id"))?;
    let event_id = EventId::new(id).map_err(|_| EventError::NotAnEnvelope("its id is empty or too long"))?;
    let is_directory = event_type.matches('.').count() == 1 && event_type.starts_with("dsync.");
    let own_id = if is_directory { short(fields.data.id) } else { None };
    Ok(Envelope {
        event_id,
        directory_id: short(fields.data.directory_id).or(own_id),
        organization_id: short(fields.data.organization_id),
        occurred_at: fields.created_at.map(without_nul).as_deref().and_then(parse_timestamp),
        event_type,
    })
}

/// The id under which a body without an id of its own is kept: the same for the same bytes.
#[must_use]
pub fn id_from_hash(body: &[u8]) -> String {
    format!("sha256_{}", hex::encode(Sha256::digest(body)))
}

/// A hint may be so far ahead of our clock without being from the future: clocks differ, and what was created later has to
/// count as later.
const CLOCKS_DIFFER_SECONDS: i64 = 3600;

/// Reads what a stored event hints at.
///
/// # Errors
/// [`EventError::Data`] if its data does not name what it is about.
pub fn parse_hint(
    event_id: &EventId,
    event_type: &str,
    body: &[u8],
    received_at: Timestamp,
) -> Result<Hint, EventError> {
    let value: Value = decode(body)?;
    let data = value.get("data").unwrap_or(&Value::Null);
    let change = parse_change(event_type, data)?;
    let occurred_at = text(&value, "created_at").as_deref().and_then(parse_timestamp).unwrap_or(received_at);
    let is_directory = matches!(change, Change::DirectoryChanged(_) | Change::DirectoryDeleted);
    let directory = text(data, "directory_id").or_else(|| if is_directory { text(data, "id") } else { None });
    let directory_id = DirectoryId::new(directory.ok_or_else(|| EventError::Data("it names no directory".to_owned()))?)
        .map_err(|error| EventError::Data(error.to_string()))?;
    Ok(Hint {
        key: HintKey {
            at: occurred_at.min(received_at + TimeDelta::seconds(CLOCKS_DIFFER_SECONDS)),
            removes: change.removes(),
            event_id: event_id.clone(),
        },
        directory_id,
        change,
    })
}

fn parse_change(event_type: &str, data: &Value) -> Result<Change, EventError> {
    Ok(match event_type {
        "dsync.activated" | "dsync.deactivated" => {
            Change::DirectoryChanged(DirectoryRecord::from_json(data).ok().map(Box::new))
        }
        "dsync.deleted" => Change::DirectoryDeleted,
        "dsync.user.created" => Change::UserCreated(user_id(data)?, user_snapshot(data)),
        "dsync.user.updated" => Change::UserUpdated(user_id(data)?, user_snapshot(data)),
        "dsync.user.deleted" => Change::UserDeleted(user_id(data)?),
        "dsync.group.created" => Change::GroupCreated(group_id(data)?, group_snapshot(data)),
        "dsync.group.updated" => Change::GroupUpdated(group_id(data)?, group_snapshot(data)),
        "dsync.group.deleted" => Change::GroupDeleted(group_id(data)?),
        "dsync.group.user_added" => {
            let (group, user) = member(data)?;
            Change::MemberAdded {
                group,
                user,
                group_snapshot: data.get("group").and_then(group_snapshot),
                user_snapshot: data.get("user").and_then(user_snapshot),
            }
        }
        "dsync.group.user_removed" => {
            let (group, user) = member(data)?;
            Change::MemberRemoved { group, user }
        }
        _ => Change::Token,
    })
}

fn member(data: &Value) -> Result<(DirectoryGroupId, DirectoryUserId), EventError> {
    let group = data.get("group").and_then(|group| text(group, "id")).or_else(|| text(data, "directory_group_id"));
    let user = data.get("user").and_then(|user| text(user, "id")).or_else(|| text(data, "directory_user_id"));
    Ok((new_group_id(group)?, new_user_id(user)?))
}

fn user_id(data: &Value) -> Result<DirectoryUserId, EventError> {
    new_user_id(text(data, "id").or_else(|| text(data, "directory_user_id")))
}

fn group_id(data: &Value) -> Result<DirectoryGroupId, EventError> {
    new_group_id(text(data, "id").or_else(|| text(data, "directory_group_id")))
}

fn new_user_id(id: Option<String>) -> Result<DirectoryUserId, EventError> {
    let id = id.ok_or_else(|| EventError::Data("it names no user".to_owned()))?;
    DirectoryUserId::new(id).map_err(|error| EventError::Data(error.to_string()))
}

fn new_group_id(id: Option<String>) -> Result<DirectoryGroupId, EventError> {
    let id = id.ok_or_else(|| EventError::Data("it names no group".to_owned()))?;
    DirectoryGroupId::new(id).map_err(|error| EventError::Data(error.to_string()))
}

/// A thin payload has no snapshot: the record is fetched.
fn user_snapshot(data: &Value) -> Option<Box<UserRecord>> {
    UserRecord::from_json(data).ok().map(Box::new)
}

fn group_snapshot(data: &Value) -> Option<Box<GroupRecord>> {
    GroupRecord::from_json(data).ok().map(Box::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn body(event: &str, data: &Value) -> Vec<u8> {
        json!({"object": "event", "id": "event_1", "event": event, "data": data,
               "created_at": "2023-04-28 20:05:31.093", "news": {"x": 1}})
        .to_string()
        .into_bytes()
    }

    fn hint(event: &str, data: &Value) -> Result<Hint, EventError> {
        let id = EventId::from_stored("event_1".to_owned());
        parse_hint(&id, event, &body(event, data), "2026-01-01T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn thin_payloads_are_valid_hints() {
        let thin = json!({"directory_id": "d", "directory_user_id": "u", "directory_group_id": "g"});
        let user = DirectoryUserId::from_stored("u".to_owned());
        let group = DirectoryGroupId::from_stored("g".to_owned());
        for (event, change) in [
            ("dsync.user.created", Change::UserCreated(user.clone(), None)),
            ("dsync.user.deleted", Change::UserDeleted(user.clone())),
            ("dsync.group.updated", Change::GroupUpdated(group.clone(), None)),
            ("dsync.group.user_removed", Change::MemberRemoved { group, user }),
        ] {
            let hint = hint(event, &thin).unwrap();
            assert_eq!(hint.change, change);
            assert_eq!(hint.directory_id.as_str(), "d");
            assert_eq!(hint.key.removes, change.removes());
        }
    }

    #[test]
    fn a_hint_from_the_future_counts_from_soon_after_its_reception() {
        let id = EventId::from_stored("event_1".to_owned());
        let received: Timestamp = "2020-01-01T00:00:00Z".parse().unwrap();
        let body = body("dsync.deleted", &json!({"id": "d"}));
        assert_eq!(parse_hint(&id, "dsync.deleted", &body, received).unwrap().key.at, received + TimeDelta::hours(1));
    }

    #[test]
    fn what_names_nothing_is_refused_with_the_reason() {
        assert_eq!(
            hint("dsync.user.updated", &json!({})).unwrap_err().to_string(),
            "the event's data cannot be read: it names no user"
        );
        assert!(hint("dsync.user.updated", &json!({"id": "u"})).unwrap_err().to_string().contains("no directory"));
    }

    #[test]
    fn envelopes_are_told_from_other_bodies() {
        assert_eq!(parse_envelope(b"{").unwrap_err(), EventError::NotJson(1, 1));
        assert!(parse_envelope(b"[]").is_err());
        assert!(parse_envelope(br#"{"event":"dsync.deleted"}"#).is_err());
        let envelope = parse_envelope(&body("dsync.deleted", &json!({"id": "d", "organization_id": "o"}))).unwrap();
        assert_eq!(envelope.directory_id.as_deref(), Some("d"));
        assert_eq!(envelope.organization_id.as_deref(), Some("o"));
        assert!(envelope.occurred_at.is_some());
    }

    /// The same by way of a tree of everything.
    fn envelope_by_tree(body: &[u8]) -> Result<Envelope, EventError> {
        let value: Value = decode(body)?;
        let field = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
        let event_type = short(field(&value, "event")).ok_or(EventError::NotAnEnvelope("it has no event"))?;
        let id = text(&value, "id").ok_or(EventError::NotAnEnvelope("it has no id"))?;
        let event_id = EventId::new(id).map_err(|_| EventError::NotAnEnvelope("its id is empty or too long"))?;
        let data = value.get("data").unwrap_or(&Value::Null);
        let is_directory = event_type.matches('.').count() == 1 && event_type.starts_with("dsync.");
        let own_id = if is_directory { short(field(data, "id")) } else { None };
        Ok(Envelope {
            event_id,
            directory_id: short(field(data, "directory_id")).or(own_id),
            organization_id: short(field(data, "organization_id")),
            occurred_at: text(&value, "created_at").as_deref().and_then(parse_timestamp),
            event_type,
        })
    }

    #[test]
    fn what_is_not_kept_of_a_body_is_checked_all_the_same() {
        let deep = |depth: usize| format!(r#"{{"id":"1","event":"e","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        let (shallow, deep) = (deep(100), deep(200));
        for body in [
            r#"{"id":"1","event":"e","x":1e999}"#,
            r#"{"id":"1","event":"e","x":"\ud83d"}"#,
            r#"{"id":"1","event":"e","x":"\x"}"#,
            r#"{"id":"1","id":2,"event":"e"}"#,
            r#"{"id":2,"id":"1","event":"e","data":{"id":"2"},"data":[{"id":"1"}]}"#,
            r#"{"id":"1","event":"dsync.deleted","data":{"id":"2","directory_id":""}}"#,
            r#"{"id":"1","event":"dsync.user.deleted","data":{"id":"2","data":{"directory_id":"3"}}} x"#,
            r#"["id"]"#,
            &shallow,
            &deep,
        ] {
            assert_eq!(parse_envelope(body.as_bytes()), envelope_by_tree(body.as_bytes()), "{body}");
        }
        let not_utf_8 = b"{\"id\":\"1\",\"event\":\"e\",\"x\":\"\xff\"}";
        assert_eq!(parse_envelope(not_utf_8), envelope_by_tree(not_utf_8));
    }

    fn any_json() -> impl Strategy<Value = String> {
        let key = prop_oneof![
            Just("id"),
            Just("event"),
            Just("data"),
            Just("directory_id"),
            Just("organization_id"),
            Just("created_at"),
            Just("x"),
        ];
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("1.5e3".to_owned()),
            Just("-".to_owned()),
            Just("true".to_owned()),
            "\"(dsync[.](user[.])?deleted|[a-z]{0,3}|2020-01-01T00:00:00Z|.u0000)\"",
        ];
        leaf.prop_recursive(4, 24, 6, move |inner| {
            prop_oneof![
                prop::collection::vec((key.clone(), inner.clone()), 0..6).prop_map(|fields| {
                    let fields: Vec<String> =
                        fields.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                    format!("{{{}}}", fields.join(","))
                }),
                prop::collection::vec(inner, 0..3).prop_map(|items| format!("[{}]", items.join(","))),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_body_makes_the_parser_panic(body: Vec<u8>) {
            let _ = parse_envelope(&body);
        }

        #[test]
        fn an_envelope_says_what_the_whole_tree_says(body in any_json()) {
            prop_assert_eq!(parse_envelope(body.as_bytes()), envelope_by_tree(body.as_bytes()));
        }
    }
}
