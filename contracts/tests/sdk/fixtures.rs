//! `fixtures/`, read by the SDK.

use workos::EventSchema;

use crate::support::{decode_event, fixtures};

#[test]
fn the_story_decodes_and_holds_nothing_that_the_sdk_does_not_know() {
    let story = fixtures("fixtures");
    assert!(story.len() > 30);
    for (name, body) in story {
        decode_event(&name, &body);
    }
}

#[test]
fn every_awkward_one_is_still_an_event() {
    for (name, body) in fixtures("fixtures/awkward") {
        let event: EventSchema = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(event.id.starts_with("event_"), "{name}");
    }
}
