//! Where the Events API is read next, and how far it has been read after a page. Pure.
//!
//! A round reads the list from some instant to its end. It begins [`OVERLAP`] before the instant at which the last one
//! began: an event that the API showed only later, at most so late, was created after that.

use chrono::TimeDelta;

use crate::clock::Timestamp;
use crate::db::{PollerState, Round};
use crate::workos::EventsFrom;

/// How late, or by how much out of order, the API may show an event.
pub const OVERLAP: TimeDelta = TimeDelta::minutes(5);
/// The API keeps events for 90 days; a day less leaves time to read them.
pub(super) const KEPT: TimeDelta = TimeDelta::days(89);
/// The longest range that a request may ask for.
const LONGEST_RANGE: TimeDelta = TimeDelta::days(30);

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Read this page.
    Read(EventsFrom),
    /// The API keeps what we need no more: the directories have to be scanned.
    Lost,
}

/// What matters of a page.
#[derive(Debug, Clone, Default)]
pub struct PageSeen<'a> {
    /// `created_at` of its first event, if that can be read.
    pub first: Option<Timestamp>,
    /// The newest `created_at` of its events.
    pub newest: Option<Timestamp>,
    /// The cursor of the next page.
    pub after: Option<&'a str>,
    /// When the request was sent, by our clock.
    pub sent_at: Timestamp,
    /// When it was answered, by the server's clock.
    pub server_time: Option<Timestamp>,
}

/// What a page means for the round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// There is a next page.
    GoesOn,
    /// The list was read to the end of the range, but not up to now: the next round follows at once.
    NextRange,
    /// The list was read to its end.
    Ends,
    /// The API started over without a word, as it may do about a cursor that it does not know.
    StartedOver,
}

/// What to do next.
pub fn next(state: &PollerState, now: Timestamp) -> Next {
    let start = range_start(state, now);
    let needed = state.round.as_ref().map_or(start, |round| round.reached);
    if needed < now - KEPT {
        return Next::Lost;
    }
    Next::Read(match &state.round {
        Some(round) => EventsFrom::Cursor(round.cursor.clone()),
        None => EventsFrom::Range { start, end: range_end(start, now) },
    })
}

/// How far the list has been read after the page that [`next`] asked for.
pub fn after_page(state: PollerState, page: &PageSeen<'_>) -> (PollerState, Course) {
    let newest_at = state.newest_at.max(page.newest);
    if started_over(state.round.as_ref(), page) {
        return (without_cursor(PollerState { newest_at, ..state }), Course::StartedOver);
    }
    let start = range_start(&state, page.sent_at);
    let end = range_end(start, page.sent_at);
    let (began_at, reached) = match &state.round {
        Some(round) => (round.began_at, round.reached),
        None => (began_at(&state, page, end), start),
    };
    let state = PollerState { newest_at, last_error: None, ..state };
    if let Some(cursor) = page.after {
        let round =
            Round { began_at, cursor: cursor.to_owned(), reached: page.newest.map_or(reached, |at| at.max(reached)) };
        return (PollerState { round: Some(round), ..state }, Course::GoesOn);
    }
    let course = if end.is_some_and(|end| end <= began_at) { Course::NextRange } else { Course::Ends };
    (PollerState { read_to: Some(began_at), round: None, polled_at: Some(page.sent_at), ..state }, course)
}

/// The state without the cursor that the API does not know: the next round begins by time, where this one has come to.
pub fn without_cursor(state: PollerState) -> PollerState {
    let read_to = state.round.as_ref().map(|round| round.reached.min(round.began_at));
    PollerState { read_to: read_to.max(state.read_to), round: None, ..state }
}

/// The state once a scan of all directories has been requested: it shows everything up to now.
pub fn skipped_to(state: PollerState, now: Timestamp) -> PollerState {
    PollerState { read_to: Some(now), round: None, ..state }
}

/// A clock that went ahead for a while must not leave a place in the future.
fn range_start(state: &PollerState, now: Timestamp) -> Timestamp {
    state.read_to.unwrap_or(state.started_at).min(now) - OVERLAP
}

fn range_end(start: Timestamp, now: Timestamp) -> Option<Timestamp> {
    Some(start + LONGEST_RANGE).filter(|end| *end < now)
}

/// When a round began, by the clock that also gives events their instants, so that ours being wrong loses none. A
/// server that doesn't tell the time has told it at least by its newest event.
fn began_at(state: &PollerState, page: &PageSeen<'_>, range_end: Option<Timestamp>) -> Timestamp {
    let told = state.newest_at.max(page.newest).max(state.read_to).unwrap_or(state.started_at);
    let began = page.server_time.unwrap_or(told).min(page.sent_at);
    range_end.map_or(began, |end| began.min(end))
}

/// Behind a cursor stands nothing that is much older than what stood before it, and another cursor.
fn started_over(round: Option<&Round>, page: &PageSeen<'_>) -> bool {
    round.is_some_and(|round| {
        page.after == Some(&round.cursor) || page.first.is_some_and(|first| first < round.reached - OVERLAP)
    })
}

#[cfg(test)]
mod tests;
