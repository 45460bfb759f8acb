//! What the emulator signs is accepted by the SDK; what the SDK signs is accepted by the service.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use directory_mirror::config::Secret;
use directory_mirror::webhook::signature::{SignatureError, SignatureHeader};
use workos::{WebhookVerifier, compute_webhook_signature};

use crate::support::{SECRET, change_everything, decode_event, emulator, fixtures, receiver, unlimited};

#[tokio::test]
async fn the_sdk_accepts_every_webhook_of_the_emulator() {
    let (url, mut arrivals) = receiver().await;
    let emulator = emulator(unlimited()).await;
    emulator.register_endpoint(&url, SECRET);
    change_everything(&emulator);
    let sent = emulator.events();
    let verifier = WebhookVerifier::new(SECRET);
    for _ in 0..sent.len() {
        let arrival = tokio::time::timeout(crate::support::PATIENCE, arrivals.recv()).await.unwrap().unwrap();
        let event = verifier.construct_event(&arrival.header, &arrival.body).unwrap();
        assert!(sent.iter().any(|known| known.id == event.id && known.event == event.event));
        decode_event(&event.event, &arrival.body);
        let stranger = WebhookVerifier::new("another secret");
        assert!(stranger.construct_event(&arrival.header, &arrival.body).is_err());
    }
    let kinds: std::collections::BTreeSet<&str> = sent.iter().map(|event| event.event.as_str()).collect();
    assert_eq!(kinds.len(), 10, "every type but those of tokens and dsync.deactivated: {kinds:?}");
    emulator.stop().await;
}

fn accepts(header: &str, body: &str, now: DateTime<Utc>) -> Result<(), SignatureError> {
    let secrets = [Secret::new("an older one"), Secret::new(SECRET)];
    SignatureHeader::parse(header)?.verify(body.as_bytes(), &secrets, Duration::from_secs(180), now)
}

/// Bodies of all forms, among them what no JSON library would write.
fn bodies() -> Vec<String> {
    let mut bodies: Vec<String> =
        ["fixtures", "fixtures/awkward"].into_iter().flat_map(|folder| fixtures(folder).into_values()).collect();
    bodies.extend(["", " ", "{}", "\u{0}", "ü", "{\"a\": 1}\r\n"].map(str::to_owned));
    bodies
}

#[test]
fn the_service_and_the_emulator_agree_with_the_sdk_on_every_signature() {
    let now = Utc::now();
    let at = now.timestamp_millis();
    for body in bodies() {
        let mac = compute_webhook_signature(SECRET, &at.to_string(), &body);
        let header = format!("t={at}, v1={mac}");
        assert_eq!(workos_emulator::sign(SECRET, at, body.as_bytes()), header);
        assert_eq!(accepts(&header, &body, now), Ok(()));
        assert_eq!(accepts(&header, &format!("{body} "), now), Err(SignatureError::Mismatch));
        assert_eq!(WebhookVerifier::new(SECRET).verify_payload(&header, &body).unwrap(), body);
    }
}

#[test]
fn the_service_and_the_sdk_refuse_the_same_headers() {
    let now = DateTime::from_timestamp_millis(1_700_000_000_000).unwrap();
    let at = now.timestamp_millis();
    let mac = compute_webhook_signature(SECRET, &at.to_string(), "body");
    let mac_of = |at: &str| compute_webhook_signature(SECRET, at, "body");
    let clock = std::time::UNIX_EPOCH + Duration::from_millis(at.unsigned_abs());
    let sdk = WebhookVerifier::new(SECRET).with_clock(move || clock);
    let edge = TimeDelta::seconds(180).num_milliseconds();
    let signed_at = |at: i64| format!("t={at}, v1={}", mac_of(&at.to_string()));
    for (header, holds) in [
        (format!("t={at}, v1={mac}"), true),
        (format!("t={at},v1={mac}"), true),
        (format!(" v1={mac} ,  t={at}"), true),
        (signed_at(at - edge), true),
        (signed_at(at + edge), true),
        (signed_at(at - edge - 1), false),
        (signed_at(at + edge + 1), false),
        (signed_at(at / 1000), false),
        (format!("t={at}, v1={mac}, v2={mac}"), false),
        (format!("t={at}"), false),
        (format!("v1={mac}"), false),
        (String::new(), false),
        (format!("t={at}, v1={}", mac_of("0")), false),
        (format!("t=soon, v1={}", mac_of("soon")), false),
    ] {
        assert_eq!(sdk.verify_payload(&header, "body").is_ok(), holds, "SDK: {header}");
        assert_eq!(accepts(&header, "body", now).is_ok(), holds, "service: {header}");
    }
}
