//! `GET /events`: what happened, in the order of its happening.
//!
//! Source: WorkOS's OpenAPI document, operation `EventsController_list`; of retention and the longest range: WorkOS
//! documentation, "Events API".

use chrono::SecondsFormat;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::PAGE_SIZE;
use super::limits::{Priority, Request};
use super::{ApiError, WorkosClient};
use crate::clock::Timestamp;

/// Where a page of events begins. The two are never sent together: the documentation of `range_start` in the Rust crate `workos`
/// 0.8 calls it mutually exclusive with `after`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventsFrom {
    /// Behind the page that gave this cursor.
    Cursor(String),
    /// With the events that were created after `start` and, if it is given, before `end`.
    Range {
        /// `range_start`
        start: Timestamp,
        /// `range_end`: at most 30 days after the start.
        end: Option<Timestamp>,
    },
}

/// A page of events, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsPage {
    /// Each event, byte for byte: a webhook's body has the same fields.
    pub bodies: Vec<Vec<u8>>,
    /// The cursor of the next page; `None` on the last.
    pub after: Option<String>,
    /// When the request was sent, by our clock.
    pub sent_at: Timestamp,
    /// When it was answered, by the server's clock, if it says so.
    pub server_time: Option<Timestamp>,
}

#[derive(Deserialize)]
struct EventList {
    data: Vec<Box<RawValue>>,
    #[serde(default)]
    list_metadata: ListMetadata,
}

#[derive(Default, Deserialize)]
struct ListMetadata {
    #[serde(default)]
    after: Option<String>,
}

impl WorkosClient {
    /// `GET /events`: a page of the events of these types.
    ///
    /// # Errors
    /// [`ApiError`]; [`ApiError::UnknownCursor`] if the API refuses the cursor, which it may do with 400, 404 or 422.
    /// It may also start again at its first event without a word, which only the events tell.
    pub async fn events(&self, types: &[&str], from: &EventsFrom) -> Result<EventsPage, ApiError> {
        let types = types.join(",");
        let instant = |at: &Timestamp| at.to_rfc3339_opts(SecondsFormat::Millis, true);
        let mut place = Vec::new();
        match from {
            EventsFrom::Cursor(cursor) => place.push(("after", cursor.clone())),
            EventsFrom::Range { start, end } => {
                place.push(("range_start", instant(start)));
                place.extend(end.as_ref().map(|end| ("range_end", instant(end))));
            }
        }
        let mut query = vec![("events", types.as_str()), ("limit", PAGE_SIZE), ("order", "asc")];
        query.extend(place.iter().map(|(name, value)| (*name, value.as_str())));
        let sent_at = self.clock.now();
        let request = Request { directory: None, on_users_path: false, priority: Priority::Small };
        let by_cursor = matches!(from, EventsFrom::Cursor(_));
        match self.get_as::<EventList>(&["events"], &query, request).await {
            Ok(Some((list, server_time))) => Ok(EventsPage {
                bodies: list.data.into_iter().map(|event| event.get().as_bytes().to_vec()).collect(),
                after: list.list_metadata.after.filter(|cursor| !cursor.is_empty()),
                sent_at,
                server_time,
            }),
            Ok(None) | Err(ApiError::Status(400 | 422)) if by_cursor => Err(ApiError::UnknownCursor),
            Ok(None) => Err(ApiError::Status(404)),
            Err(error) => Err(error),
        }
    }
}
