//! What the fuzz targets demand of any bytes. The test suite demands the same of the fixtures (`tests/suite/fuzz.rs`).

use std::time::Duration;

use chrono::DateTime;
use directory_mirror::clock::Timestamp;
use directory_mirror::config::Secret;
use directory_mirror::model::{Attributes, DirectoryRecord, GroupRecord, MAX_ID_BYTES, UserRecord};
use directory_mirror::webhook::event::{TYPES, parse_envelope, parse_hint};
use directory_mirror::webhook::inbox_event;
use directory_mirror::webhook::signature::{SignatureError, SignatureHeader, sign};
use serde_json::Value;

const TOLERANCE: Duration = Duration::from_secs(180);

fn now() -> Timestamp {
    DateTime::UNIX_EPOCH + chrono::TimeDelta::days(20_000)
}

/// A header, a line break, and a body.
///
/// No header is accepted but the one that the secret gives for this body, and that one is, with whatever body.
pub fn header(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (line, body) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let secrets = [Secret::new("another"), Secret::new("secret")];
    let genuine = sign(&secrets[1], now(), body);
    let parsed = SignatureHeader::parse(&genuine).expect("what we sign we parse");
    assert_eq!(parsed.verify(body, &secrets, TOLERANCE, now()), Ok(()));
    assert_eq!(parsed.verify(body, &secrets[..1], TOLERANCE, now()), Err(SignatureError::Mismatch));
    let Ok(line) = str::from_utf8(line) else { return };
    let Ok(given) = SignatureHeader::parse(line) else { return };
    let mut components: Vec<String> = line.split(',').map(|part| part.replace(char::is_whitespace, "")).collect();
    components.sort();
    assert!(components.len() == 2 && components[0].starts_with("t=") && components[1].starts_with("v1="), "{line:?}");
    let milliseconds: i64 = components[0][2..].parse().expect("a time that was parsed is a number");
    let expected = DateTime::from_timestamp_millis(milliseconds).map(|at| sign(&secrets[1], at, body));
    let is_genuine = expected.is_some_and(|it| it == format!("{}, {}", components[0], components[1].to_lowercase()));
    let result = given.verify(body, &secrets, TOLERANCE, now());
    if is_genuine {
        let away = now().timestamp_millis().abs_diff(milliseconds);
        let in_time = u128::from(away) <= TOLERANCE.as_millis();
        assert_eq!(result, if in_time { Ok(()) } else { Err(SignatureError::Stale) });
    } else {
        assert_eq!(result, Err(SignatureError::Mismatch));
    }
}

/// The body of a webhook: it is kept, it can be stored, and what waits to be folded can be read or says why not.
pub fn envelope(data: &[u8]) {
    let event = inbox_event(data.to_vec(), now(), "webhook");
    assert_eq!(event.body, data);
    assert!(!event.event_id.is_empty());
    let texts =
        [Some(&event.event_id), Some(&event.event_type), event.directory_id.as_ref(), event.organization_id.as_ref()];
    texts.into_iter().flatten().for_each(|text| is_short_and_storable(text));
    assert_eq!(event.reason.is_some(), event.status != "pending");
    let Ok(envelope) = parse_envelope(data) else {
        assert_eq!(event.status, "dead");
        return;
    };
    assert_eq!(event.event_id, envelope.event_id.as_str());
    is_stored_exactly(envelope.occurred_at);
    // As what its type says, and as whatever else could hold the same data.
    for event_type in TYPES.into_iter().chain([envelope.event_type.as_str()]) {
        let Ok(hint) = parse_hint(&envelope.event_id, event_type, data, now()) else { continue };
        assert!(hint.key.at <= now() + chrono::TimeDelta::hours(1));
        assert_eq!(hint.key.removes, hint.change.removes());
        is_short_and_storable(hint.directory_id.as_str());
        if event_type == envelope.event_type && event.status == "pending" {
            assert_eq!(envelope.directory_id.as_deref(), Some(hint.directory_id.as_str()));
        }
    }
}

/// JSON in which records may stand, as in an event or in an answer of the API: each can be stored, and reads the same
/// once it was.
pub fn records(data: &[u8]) {
    let Ok(json) = serde_json::from_slice::<Value>(data) else { return };
    let data = json.get("data").unwrap_or(&json);
    let ends = ["user", "group", "directory"].iter().filter_map(|name| data.get(name));
    let listed = data.as_array().into_iter().flatten();
    for value in std::iter::once(data).chain(ends).chain(listed) {
        record(value);
    }
}

fn record(value: &Value) {
    let Ok(stored) = Attributes::of(Some(value)).map(|stored| stored.to_json()) else { return };
    if let Ok(user) = UserRecord::from_json(value) {
        is_short_and_storable(user.id.as_str());
        is_short_and_storable(user.directory_id.as_str());
        let names = [&user.email, &user.first_name, &user.last_name, &user.display_name, &user.username];
        let others = [&user.organization_id, &user.idp_id, &user.job_title, &user.role, &Some(user.state.clone())];
        names.into_iter().chain(others).flatten().for_each(|text| is_storable(text));
        is_stored_as_json(&user.custom_attributes);
        is_stored_as_json(&user.raw_attributes);
        is_stored_exactly(Some(user.updated_at));
        is_stored_exactly(user.created_at);
        assert_eq!(UserRecord::from_json(&stored), Ok(user));
    }
    if let Ok(group) = GroupRecord::from_json(value) {
        is_short_and_storable(group.id.as_str());
        is_short_and_storable(group.directory_id.as_str());
        is_storable(&group.name);
        [&group.organization_id, &group.idp_id].into_iter().flatten().for_each(|text| is_storable(text));
        is_stored_as_json(&group.raw_attributes);
        is_stored_exactly(Some(group.updated_at));
        is_stored_exactly(group.created_at);
        assert_eq!(GroupRecord::from_json(&stored), Ok(group));
    }
    if let Ok(directory) = DirectoryRecord::from_json(value) {
        is_short_and_storable(directory.id.as_str());
        is_storable(&directory.state);
        [&directory.organization_id, &directory.name, &directory.kind, &directory.external_key]
            .into_iter()
            .flatten()
            .chain(directory.domains.iter().flatten())
            .for_each(|text| is_storable(text));
        is_stored_exactly(directory.updated_at);
        is_stored_exactly(directory.created_at);
        assert_eq!(DirectoryRecord::from_json(&stored), Ok(directory));
    }
}

fn is_storable(text: &str) {
    assert!(!text.contains('\0'), "PostgreSQL stores no U+0000: {text:?}");
}

fn is_short_and_storable(text: &str) {
    is_storable(text);
    assert!(text.len() <= MAX_ID_BYTES, "too long for an index: {text:?}");
}

fn is_stored_as_json(attributes: &Attributes) {
    let text = attributes.as_str();
    assert!(!text.contains("\\u0000"), "PostgreSQL stores no U+0000: {text}");
    let again = Attributes::from_stored(text.as_bytes()).expect("what was written as JSON is JSON");
    assert_eq!(again, *attributes, "reads otherwise than it was written");
}

/// The engines keep microseconds since 1970.
fn is_stored_exactly(at: Option<Timestamp>) {
    if let Some(at) = at {
        assert_eq!(DateTime::from_timestamp_micros(at.timestamp_micros()), Some(at));
    }
}
