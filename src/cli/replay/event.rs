//! An event to post, and its id within its bytes.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::value::RawValue;
use uuid::Uuid;

/// An event to post, in the bytes that are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// WorkOS's id of the event, or the inbox's for a body without one.
    pub(super) id: String,
    /// WorkOS's `event`; empty if the body has none.
    pub(super) event_type: String,
    /// The body, byte for byte.
    pub(super) body: Vec<u8>,
    /// Where it was read.
    pub(super) origin: Origin,
}

/// Where an event was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// The file, as it is shown.
    pub(super) name: Arc<str>,
    /// The line on which the event begins, from 1; `None` for an event in a file of its own.
    pub(super) line: Option<usize>,
    /// The file whose bytes are the body, if there is one.
    pub(super) file: Option<PathBuf>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// The members of a JSON object, undecoded. Of a name that comes twice the last counts, as for the server.
pub(super) struct Members<'a>(HashMap<String, &'a RawValue>);

impl<'a> Members<'a> {
    /// Reads an object; `None` if `json` is none.
    pub(super) fn of(json: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(json).ok().map(Self)
    }

    /// A member's JSON.
    pub(super) fn raw(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(|value| value.get())
    }

    /// A member's value, if it is a string.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.raw(name)?).ok()
    }
}

/// Where `part` stands in `whole`, of which it is a slice.
pub(super) fn offset_in(whole: &[u8], part: &str) -> usize {
    part.as_ptr().addr() - whole.as_ptr().addr()
}

/// Gives each event a new id, so that a server that knows it takes it as new.
///
/// Events that shared an id share the new one, and the new ids sort as the old ones did, because the mirror lets the
/// greater id win where two stamps are equal. A body without an id stays as it is.
pub(super) fn refresh_ids(events: &mut [Event]) {
    let known: BTreeSet<String> = events.iter().map(|event| event.id.clone()).collect();
    // UUIDs of version 7 grow.
    let fresh: HashMap<String, String> =
        known.into_iter().map(|id| (id, format!("event_replay_{}", Uuid::now_v7().simple()))).collect();
    for event in events {
        if let (Some(span), Some(id)) = (id_span(&event.body), fresh.get(&event.id)) {
            event.body.splice(span, format!("\"{id}\"").into_bytes());
            event.id.clone_from(id);
            event.origin.file = None;
        }
    }
}

/// Where the string that is the body's own `id` stands, with its quotes.
fn id_span(body: &[u8]) -> Option<Range<usize>> {
    let members = Members::of(body)?;
    members.text("id")?;
    let id = members.raw("id")?;
    let start = offset_in(body, id);
    Some(start..start + id.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, body: &str) -> Event {
        let origin = Origin { name: "f.json".into(), line: None, file: Some("f.json".into()) };
        Event { id: id.to_owned(), event_type: "dsync.deleted".to_owned(), body: body.as_bytes().to_vec(), origin }
    }

    fn refreshed(id: &str, body: &str) -> (String, String) {
        let mut events = [event(id, body)];
        refresh_ids(&mut events);
        let [event] = events;
        (event.id, String::from_utf8(event.body).unwrap())
    }

    #[test]
    fn only_the_events_own_id_is_replaced_and_every_other_byte_stays() {
        for (before, after) in [
            ("{\r\n\t\"object\" :\"event\",\"id\" :\t", " ,\"event\":\"e\",\"data\":{\"id\":\"event_1\"}}\r\n\n"),
            (
                "\n{\"data\":{\"id\":\"event_1\",\"x\":[{\"id\":\"event_1\"}]},\"event\":\"\\\"id\\\":\\\"event_1\\\"\",\"id\":",
                "}",
            ),
            ("{\"id\":\"event_0\",\"data\":\"event_1\",\"id\":", ",\"ident\":\"event_1\"}"),
            ("{\"\\u0069d\": ", "}"),
        ] {
            for quoted in ["\"event_1\"", "\"event\\u005f1\""] {
                let (id, body) = refreshed("event_1", &format!("{before}{quoted}{after}"));
                assert_ne!(id, "event_1");
                assert_eq!(body, format!("{before}\"{id}\"{after}"));
            }
        }
    }

    #[test]
    fn events_of_one_id_share_the_new_one_and_the_order_of_ids_stays() {
        let mut events: Vec<Event> =
            ["event_9", "event_2", "event_9", "event_5"].map(|id| event(id, &format!("{{\"id\":\"{id}\"}}"))).into();
        refresh_ids(&mut events);
        let ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
        assert_eq!(ids[0], ids[2]);
        assert!(ids[1] < ids[3] && ids[3] < ids[0], "{ids:?}");
        assert!(events.iter().all(|event| event.origin.file.is_none()), "the file holds the old id");
        let again = refreshed("event_9", "{\"id\":\"event_9\"}").0;
        assert!(!ids.contains(&again.as_str()), "ids are new each time");
    }

    #[test]
    fn a_body_without_an_id_stays_as_it_is() {
        for body in ["", "[1]", "no JSON", "{\"id\":7}", "{\"data\":{\"id\":\"x\"}}"] {
            assert_eq!(refreshed("sha256_0", body), ("sha256_0".to_owned(), body.to_owned()));
        }
    }
}
