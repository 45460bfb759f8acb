//! `GET /events`.
//!
//! Source: WorkOS's OpenAPI document, operation `EventsController_list`; of the longest range: WorkOS documentation,
//! "Events API".

use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::answers::ok;
use crate::api_error::ApiError;
use crate::event_log::EventFilter;
use crate::options::UnknownCursor;
use crate::paging::PageQuery;
use crate::request::ApiResponse;
use crate::routes::Call;
use crate::world::World;

/// The longest range that one request may ask for.
const LONGEST_RANGE: TimeDelta = TimeDelta::days(30);

#[derive(Serialize)]
struct EventList<'a> {
    object: &'static str,
    data: Vec<&'a RawValue>,
    list_metadata: After<'a>,
}

/// Unlike other lists, this one has no cursor backwards.
#[derive(Serialize)]
struct After<'a> {
    after: Option<&'a str>,
}

impl World {
    pub(crate) fn list_events(&self, call: &Call<'_>, time: DateTime<Utc>) -> Result<ApiResponse, ApiError> {
        let filter = EventFilter { until: time, ..filter(call)? };
        let mut query = PageQuery::parse(|name| call.parameter(name)).map_err(|message| {
            let field = if message.starts_with("limit") { "limit" } else { "order" };
            ApiError::InvalidField { field, code: "invalid" }
        })?;
        self.check_cursor("after", &mut query.after)?;
        self.check_cursor("before", &mut query.before)?;
        let page = self.out.log.page(&query, &filter);
        let events = page.ids.iter().filter_map(|id| self.out.log.get(id));
        // A body is embedded as it was signed and sent.
        let data = events.filter_map(|event| serde_json::from_slice::<&RawValue>(&event.body).ok()).collect();
        ok(&EventList { object: "list", data, list_metadata: After { after: page.metadata.after } })
    }

    fn check_cursor(&self, field: &'static str, cursor: &mut Option<String>) -> Result<(), ApiError> {
        let known = cursor.as_deref().is_none_or(|id| self.out.log.get(id).is_some());
        match self.settings.unknown_cursor {
            _ if known => {}
            UnknownCursor::Restart => *cursor = None,
            UnknownCursor::Refuse => return Err(ApiError::InvalidField { field, code: "invalid" }),
        }
        Ok(())
    }
}

fn filter<'a>(call: &'a Call<'_>) -> Result<EventFilter<'a>, ApiError> {
    let events = call.list_parameter("events");
    if events.is_empty() {
        return Err(ApiError::InvalidField { field: "events", code: "required" });
    }
    let (range_start, range_end) = (time(call, "range_start")?, time(call, "range_end")?);
    if let (Some(start), Some(end)) = (range_start, range_end)
        && (end < start || end - start > LONGEST_RANGE)
    {
        return Err(ApiError::InvalidField { field: "range_end", code: "invalid" });
    }
    Ok(EventFilter {
        events,
        organization_id: call.parameter("organization_id"),
        range_start,
        range_end,
        ..EventFilter::default()
    })
}

/// ISO 8601 with a zone, without one (UTC), or a date alone.
fn time(call: &Call<'_>, field: &'static str) -> Result<Option<DateTime<Utc>>, ApiError> {
    let Some(text) = call.parameter(field) else {
        return Ok(None);
    };
    let zoned = || DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()).ok();
    let local = || text.parse::<NaiveDateTime>().map(|time| time.and_utc()).ok();
    let date = || text.parse::<NaiveDate>().ok().and_then(|date| date.and_hms_opt(0, 0, 0)).map(|time| time.and_utc());
    let time = zoned().or_else(local).or_else(date);
    time.map(Some).ok_or(ApiError::InvalidField { field, code: "invalid" })
}
