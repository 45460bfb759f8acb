//! From where the Events API is read again after the database was restored from a backup. Pure.

use chrono::TimeDelta;

use super::round::KEPT;
use crate::clock::Timestamp;
use crate::db::PollerState;

/// An inbox may hold an event and lack one that is older by so much: they are stored as they arrive.
const MARGIN: TimeDelta = TimeDelta::hours(1);
/// As far back as the poller goes, less a day, within which the service has to be started.
const FARTHEST: TimeDelta = KEPT.checked_sub(&TimeDelta::days(1)).expect("89 days are more than one");

/// From where the Events API is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewind {
    /// Events created since then are read.
    pub from: Timestamp,
    /// Whether events from before that are missing too, but the API keeps them no more.
    pub cut_short: bool,
}

/// The poller's state after a restore: it reads from `since`, or from a little before the `newest` event that the
/// inbox holds; never from later than it would have gone on, so that nothing is skipped.
#[must_use]
pub fn rewind(
    state: PollerState,
    newest: Option<Timestamp>,
    since: Option<Timestamp>,
    now: Timestamp,
) -> (PollerState, Rewind) {
    let would_go_on = state.read_to.unwrap_or(state.started_at).min(now);
    let wanted = since.or_else(|| newest.map(|newest| newest - MARGIN)).unwrap_or(would_go_on).min(would_go_on);
    let from = wanted.max(now - FARTHEST);
    // A cursor of before the restore may be unknown by now, and what it had passed may be missing.
    let state = PollerState { read_to: Some(from), round: None, last_error: None, ..state };
    (state, Rewind { from, cut_short: wanted < from })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Round;
    use crate::sync::poll::round;

    fn day(days: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + TimeDelta::days(days)
    }

    fn state(read_to: Option<Timestamp>) -> PollerState {
        let cursor = Round { began_at: day(200), cursor: "event_1".to_owned(), reached: day(199) };
        PollerState {
            started_at: day(1),
            read_to,
            round: Some(cursor),
            newest_at: Some(day(200)),
            polled_at: None,
            last_error: Some("unreachable".to_owned()),
        }
    }

    #[test]
    fn it_reads_from_the_newest_event_or_from_where_it_would_have_gone_on() {
        let now = day(210);
        for (name, read_to, newest, since, from) in [
            ("the newest event is older", Some(day(200)), Some(day(190)), None, day(190) - MARGIN),
            ("the newest event is younger", Some(day(200)), Some(day(205)), None, day(200)),
            ("an empty inbox", Some(day(200)), None, None, day(200)),
            ("asked for", Some(day(200)), Some(day(190)), Some(day(150)), day(150)),
            ("asked for, and would skip some", Some(day(200)), Some(day(190)), Some(day(205)), day(200)),
            ("a place in the future", Some(day(300)), None, None, now),
        ] {
            let (state, rewind) = rewind(state(read_to), newest, since, now);
            assert_eq!(rewind, Rewind { from, cut_short: false }, "{name}");
            assert_eq!((state.read_to, state.round, state.last_error), (Some(from), None, None), "{name}");
        }
    }

    #[test]
    fn it_reads_what_the_api_keeps_and_no_more() {
        let now = day(210);
        for (read_to, since, cut_short) in [
            (Some(day(123)), None, false),
            (Some(day(100)), None, true),
            (None, None, true),
            (Some(day(200)), Some(day(10)), true),
        ] {
            let (state, rewind) = rewind(state(read_to), None, since, now);
            assert_eq!(rewind.cut_short, cut_short, "{read_to:?} {since:?}");
            // It is read rather than given up, by a service that starts within the next hours too.
            let later = now + TimeDelta::hours(23);
            assert!(matches!(round::next(&state, later), round::Next::Read(_)), "{read_to:?} {since:?}");
        }
    }

    #[test]
    fn to_do_it_twice_is_to_do_it_once() {
        let (once, first) = rewind(state(Some(day(200))), Some(day(190)), None, day(210));
        let (twice, second) = rewind(once.clone(), Some(day(190)), None, day(210));
        assert_eq!((once, first), (twice, second));
    }
}
