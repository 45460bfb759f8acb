//! Whatever WorkOS signs is kept, ends in a state with a reason, and is read the same however it is dressed.

use chrono::{DateTime, SecondsFormat, TimeDelta};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::clock::Timestamp;
use crate::model::{Change, DirectoryGroupId, DirectoryUserId, EventId, Hint, MAX_ID_BYTES};
use crate::webhook::event::{EventError, TYPES, id_from_hash, parse_envelope, parse_hint};
use crate::webhook::inbox_event;

fn received() -> Timestamp {
    "2026-01-15T12:00:00Z".parse().unwrap()
}

fn hint_of(event_type: &str, body: &Value) -> Result<Hint, EventError> {
    let id = EventId::new("event_1").unwrap();
    parse_hint(&id, event_type, body.to_string().as_bytes(), received())
}

/// Often names that an envelope or a record has, and text with U+0000.
fn any_name() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "id",
        "event",
        "data",
        "created_at",
        "updated_at",
        "directory_id",
        "organization_id",
        "user",
        "group",
        "state",
        "name",
        "directory_user_id",
        "directory_group_id",
        "raw_attributes",
        "emails",
        "role",
        "roles",
        "domains",
    ]);
    prop_oneof![3 => known.prop_map(str::to_owned), 1 => any::<String>(), 1 => "[a-z\0]{0,6}"]
}

fn any_text() -> impl Strategy<Value = String> {
    let types = prop::sample::select(TYPES.to_vec()).prop_map(str::to_owned);
    let long = (MAX_ID_BYTES - 3..MAX_ID_BYTES + 3).prop_map(|length| "x".repeat(length));
    prop_oneof![
        4 => any::<String>(), 3 => types, 2 => "[a-z\0]{0,8}", 1 => long,
        1 => Just("2023-04-28 20:05:31.093".to_owned()), 1 => Just("2099-12-31T23:59:59Z".to_owned()), 1 => Just("dsync.galaxy.collided".to_owned()),
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec((any_name(), inner), 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Mostly an envelope, with data of every kind.
fn any_event() -> impl Strategy<Value = Value> {
    let event = (any_text(), any_text(), any_json(), any_text()).prop_map(|(id, event, data, created_at)| {
        json!({"object": "event", "id": id, "event": event, "data": data, "created_at": created_at})
    });
    prop_oneof![3 => event, 1 => any_json()]
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let cut = (any_event(), any::<prop::sample::Index>()).prop_map(|(event, end)| {
        let mut body = event.to_string().into_bytes();
        body.truncate(end.index(body.len()));
        body
    });
    prop_oneof![
        4 => any_event().prop_map(|event| event.to_string().into_bytes()),
        1 => any_event().prop_map(|event| format!("\r\n{event:#}\n").into_bytes()),
        1 => cut,
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ]
}

/// A whole event with the records of its type.
fn well_formed(event_type: &str, created_at: &str) -> Value {
    let (user, group) = (record("directory_user_1"), record("directory_group_1"));
    let data = match event_type {
        "dsync.activated" | "dsync.deactivated" | "dsync.deleted" => record("directory_1"),
        "dsync.group.user_added" | "dsync.group.user_removed" => {
            json!({"directory_id": "directory_1", "user": user, "group": group})
        }
        of_group if of_group.starts_with("dsync.group.") => group,
        _ => user,
    };
    json!({"object": "event", "id": "event_1", "event": event_type, "data": data, "created_at": created_at})
}

fn record(id: &str) -> Value {
    let mut record = json!({
        "id": id, "organization_id": "org_1", "name": "Ada", "state": "active",
        "created_at": "2026-01-15T11:00:00.000Z", "updated_at": "2026-01-15T11:00:00.000Z",
    });
    if id != "directory_1" {
        record["directory_id"] = "directory_1".into();
    }
    record
}

/// Adds fields that nobody knows to every object.
fn dress(value: &mut Value, extra: &Map<String, Value>) {
    if let Value::Object(fields) = value {
        fields.values_mut().for_each(|inner| dress(inner, extra));
        fields.extend(extra.iter().map(|(name, value)| (format!("new_{name}"), value.clone())));
    }
}

proptest! {
    #[test]
    fn every_body_is_kept_as_it_is_and_ends_with_a_reason_or_waits(body in any_bytes()) {
        let event = inbox_event(body.clone(), received(), "webhook");
        prop_assert_eq!(&event.body, &body);
        let status = match parse_envelope(&body) {
            Err(_) => "dead",
            Ok(envelope) if TYPES.contains(&envelope.event_type.as_str()) => "pending",
            Ok(_) => "ignored",
        };
        prop_assert_eq!(event.status, status);
        prop_assert_eq!(event.reason.is_some_and(|reason| !reason.is_empty()), status != "pending");
        prop_assert_eq!(event.processed_at.is_some(), status != "pending");
        if status == "dead" {
            prop_assert_eq!(&event.event_id, &id_from_hash(&body));
        }
        let texts = [Some(&event.event_id), Some(&event.event_type), event.directory_id.as_ref(), event.organization_id.as_ref()];
        for text in texts.into_iter().flatten() {
            prop_assert!(!text.contains('\0') && text.len() <= MAX_ID_BYTES, "{:?} cannot be stored", text);
        }
    }

    #[test]
    fn what_waits_becomes_a_hint_or_a_reason(body in any_bytes()) {
        let Ok(envelope) = parse_envelope(&body) else { return Ok(()) };
        match parse_hint(&envelope.event_id, &envelope.event_type, &body, received()) {
            Ok(hint) => {
                prop_assert!(hint.key.at <= received() + TimeDelta::hours(1));
                prop_assert_eq!(hint.key.removes, hint.change.removes());
                if TYPES.contains(&envelope.event_type.as_str()) {
                    prop_assert_eq!(Some(hint.directory_id.as_str()), envelope.directory_id.as_deref());
                }
            }
            Err(error) => prop_assert!(error.to_string().len() > 10, "{error:?} says nothing"),
        }
    }

    #[test]
    fn unknown_fields_change_nothing(
        event_type in prop::sample::select(TYPES.to_vec()), extra in prop::collection::vec((any_name(), any_json()), 1..4),
    ) {
        let plain = well_formed(event_type, "2026-01-15T11:00:00.000Z");
        let mut dressed = plain.clone();
        dress(&mut dressed, &extra.into_iter().collect());
        let (plain_body, dressed_body) = (plain.to_string(), dressed.to_string());
        prop_assert_eq!(parse_envelope(plain_body.as_bytes()), parse_envelope(dressed_body.as_bytes()));
        let hint = hint_of(event_type, &plain);
        prop_assert!(hint.is_ok());
        prop_assert_eq!(hint, hint_of(event_type, &dressed));
    }

    #[test]
    fn every_way_to_write_an_instant_means_the_same(milliseconds in 0..4_102_444_800_000_i64, hours in -14..=14_i32) {
        let at = DateTime::from_timestamp_millis(milliseconds).unwrap();
        let zone = chrono::FixedOffset::east_opt(hours * 3600).unwrap();
        for text in [
            at.to_rfc3339_opts(SecondsFormat::Millis, true),
            at.to_rfc3339_opts(SecondsFormat::Micros, false),
            at.with_timezone(&zone).to_rfc3339_opts(SecondsFormat::AutoSi, true),
            at.format("%Y-%m-%d %H:%M:%S%.3f").to_string(),
            at.format("%Y-%m-%dT%H:%M:%S%.3f").to_string(),
        ] {
            let body = well_formed("dsync.deleted", &text).to_string();
            prop_assert_eq!(parse_envelope(body.as_bytes()).unwrap().occurred_at, Some(at), "{}", text);
        }
    }

    #[test]
    fn a_thin_payload_names_what_has_to_be_fetched(user in any_text(), group in any_text(), directory in any_text()) {
        let ids = (DirectoryUserId::new(user.clone()), DirectoryGroupId::new(group.clone()));
        let data = json!({"directory_id": directory, "directory_user_id": user, "directory_group_id": group});
        let thin = |event_type| hint_of(event_type, &json!({"id": "event_1", "event": event_type, "data": data}));
        let named = crate::model::DirectoryId::new(directory.clone()).is_ok();
        let changes = [
            ("dsync.user.created", ids.0.clone().ok().map(|user| Change::UserCreated(user, None))),
            ("dsync.user.updated", ids.0.clone().ok().map(|user| Change::UserUpdated(user, None))),
            ("dsync.user.deleted", ids.0.clone().ok().map(Change::UserDeleted)),
            ("dsync.group.created", ids.1.clone().ok().map(|group| Change::GroupCreated(group, None))),
            ("dsync.group.updated", ids.1.clone().ok().map(|group| Change::GroupUpdated(group, None))),
            ("dsync.group.deleted", ids.1.clone().ok().map(Change::GroupDeleted)),
            ("dsync.group.user_removed", match ids.clone() {
                (Ok(user), Ok(group)) => Some(Change::MemberRemoved { group, user }),
                _ => None,
            }),
            ("dsync.group.user_added", match ids {
                (Ok(user), Ok(group)) => Some(Change::MemberAdded { group, user, group_snapshot: None, user_snapshot: None }),
                _ => None,
            }),
        ];
        for (event_type, change) in changes {
            prop_assert_eq!(thin(event_type).ok().map(|hint| hint.change), change.filter(|_| named), "{}", event_type);
        }
    }

    /// PostgreSQL can store U+0000 in no text.
    #[test]
    fn no_hint_holds_nul(event_type in prop::sample::select(TYPES.to_vec()), place in 0..40usize) {
        let text = well_formed(event_type, "2026-01-15T11:00:00.000Z").to_string();
        let quotes: Vec<usize> = text.match_indices(":\"").map(|(at, _)| at + 2).collect();
        let at = quotes[place % quotes.len()];
        let body = format!("{}\\u0000{}", &text[..at], &text[at..]);
        let event = inbox_event(body.clone().into_bytes(), received(), "webhook");
        prop_assert_eq!(event.body, body.as_bytes());
        let id = EventId::new(event.event_id).unwrap();
        prop_assert!(!id.as_str().contains('\0') && !event.event_type.contains('\0'));
        if let Ok(hint) = parse_hint(&id, event_type, body.as_bytes(), received()) {
            // `Debug` writes U+0000 as `\0`, and no other text here has a backslash.
            prop_assert!(!format!("{hint:?}").contains("\\0"), "{hint:?}");
        }
    }
}
