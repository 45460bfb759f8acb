use super::*;

/// So many minutes after the first start.
fn minute(minutes: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::minutes(minutes)
}

fn day(days: i64) -> Timestamp {
    minute(days * 24 * 60)
}

fn state(read_to: Option<Timestamp>) -> PollerState {
    PollerState { started_at: minute(0), read_to, round: None, newest_at: None, polled_at: None, last_error: None }
}

fn in_round(began_at: Timestamp, reached: Timestamp, read_to: Option<Timestamp>) -> PollerState {
    let round = Round { began_at, cursor: "event_9".to_owned(), reached };
    PollerState { round: Some(round), ..state(read_to) }
}

fn range(start: Timestamp, end: Option<Timestamp>) -> Next {
    Next::Read(EventsFrom::Range { start, end })
}

fn page(sent_at: Timestamp) -> PageSeen<'static> {
    PageSeen { sent_at, server_time: Some(sent_at), ..PageSeen::default() }
}

#[test]
fn a_round_begins_an_overlap_before_the_last_one_and_goes_on_by_its_cursor() {
    let cursor = Next::Read(EventsFrom::Cursor("event_9".to_owned()));
    let cases = [
        ("first poll", state(None), minute(1), range(minute(-5), None)),
        ("first poll after days without an API", state(None), day(3), range(minute(-5), None)),
        ("next round", state(Some(minute(60))), minute(61), range(minute(55), None)),
        ("after 40 days", state(Some(day(1))), day(41), range(day(1) - OVERLAP, Some(day(31) - OVERLAP))),
        ("within a round", in_round(minute(60), minute(58), Some(minute(50))), minute(61), cursor.clone()),
        ("within a round, after 88 days", in_round(day(1), day(1), None), day(89), cursor),
        ("our clock was ahead for a while", state(Some(day(50))), minute(60), range(minute(55), None)),
        ("first poll after 90 days", state(None), day(90), Next::Lost),
        ("90 days down", state(Some(day(5))), day(95), Next::Lost),
        ("90 days down within a round", in_round(day(5), day(5), Some(day(5))), day(95), Next::Lost),
        (
            "a slow first round over 88 days",
            in_round(day(88), day(60), None),
            day(90),
            Next::Read(EventsFrom::Cursor("event_9".to_owned())),
        ),
    ];
    for (name, state, now, expected) in cases {
        assert_eq!(next(&state, now), expected, "{name}");
    }
}

#[test]
fn a_round_is_read_to_its_end_and_the_next_begins_by_when_it_began() {
    let first =
        PageSeen { first: Some(minute(50)), newest: Some(minute(58)), after: Some("event_9"), ..page(minute(60)) };
    let (after_first, course) = after_page(state(Some(minute(50))), &first);
    assert_eq!(course, Course::GoesOn);
    assert_eq!(
        after_first,
        PollerState { newest_at: Some(minute(58)), ..in_round(minute(60), minute(58), Some(minute(50))) }
    );
    let last = PageSeen { first: Some(minute(58)), newest: Some(minute(65)), ..page(minute(66)) };
    let (end, course) = after_page(after_first, &last);
    assert_eq!(course, Course::Ends);
    // Not by the newest event: one of minute 61 may have been shown after its place had been passed.
    assert_eq!(end.read_to, Some(minute(60)));
    assert_eq!((end.round, end.newest_at, end.polled_at), (None, Some(minute(65)), Some(minute(66))));
}

#[test]
fn a_round_begins_by_the_clock_that_is_behind() {
    let cases = [
        ("both agree", Some(minute(60)), minute(60), minute(60)),
        ("ours is ahead", Some(minute(60)), minute(100), minute(60)),
        ("the server's is ahead", Some(minute(100)), minute(60), minute(60)),
        ("the server's is not told", None, minute(60), minute(40)),
    ];
    for (name, server_time, sent_at, expected) in cases {
        let page = PageSeen { newest: Some(minute(40)), server_time, ..page(sent_at) };
        assert_eq!(after_page(state(Some(minute(30))), &page).0.read_to, Some(expected), "{name}");
    }
    let quiet = PageSeen { server_time: None, ..page(minute(60)) };
    assert_eq!(after_page(state(Some(minute(30))), &quiet).0.read_to, Some(minute(30)), "nothing tells the time");
}

#[test]
fn a_long_time_is_read_in_ranges() {
    let now = day(70);
    let (state, course) = after_page(state(Some(day(1))), &page(now));
    assert_eq!((state.read_to, course), (Some(day(31) - OVERLAP), Course::NextRange));
    let (state, course) = after_page(state, &PageSeen { after: Some("event_9"), ..page(now) });
    assert_eq!(course, Course::GoesOn);
    let (state, course) = after_page(state, &page(now));
    assert_eq!(course, Course::NextRange, "by its cursor, too");
    let (state, course) = after_page(state, &page(now));
    assert_eq!((state.read_to, course), (Some(now), Course::Ends));
    // Our clock alone being ahead makes no future ranges.
    let ahead = PageSeen { server_time: Some(day(70)), ..page(day(130)) };
    assert_eq!(after_page(state, &ahead).1, Course::Ends);
}

#[test]
fn a_cursor_that_starts_over_is_noticed() {
    let before = in_round(minute(60), minute(58), Some(minute(50)));
    let cases = [
        ("a next page", Some(minute(58)), Some("event_10"), false),
        ("events slightly out of order", Some(minute(57)), Some("event_10"), false),
        ("nothing more", None, None, false),
        ("from the beginning", Some(minute(-4000)), Some("event_1"), true),
        ("the same page again", Some(minute(58)), Some("event_9"), true),
    ];
    for (name, first, after, expected) in cases {
        let page = PageSeen { first, newest: first, after, ..page(minute(60)) };
        let (after, course) = after_page(before.clone(), &page);
        assert_eq!(course == Course::StartedOver, expected, "{name}");
        if expected {
            assert_eq!((after.round, after.read_to), (None, Some(minute(58))), "{name}");
        }
    }
}

#[test]
fn without_its_cursor_a_round_begins_anew_by_time_and_forgets_nothing() {
    let cases = [
        ("in the past", in_round(minute(600), minute(58), Some(minute(50))), minute(58)),
        ("of events since the round began", in_round(minute(60), minute(65), Some(minute(50))), minute(60)),
        ("within the overlap", in_round(minute(60), minute(47), Some(minute(50))), minute(50)),
        ("of the first round", in_round(minute(60), minute(30), None), minute(30)),
    ];
    for (name, before, expected) in cases {
        let after = without_cursor(before);
        assert_eq!((after.read_to, after.round), (Some(expected), None), "{name}");
    }
}

#[test]
fn after_a_scan_was_requested_reading_goes_on_from_now() {
    let state = skipped_to(in_round(day(1), day(1), Some(day(1))), day(100));
    assert_eq!(next(&state, day(100)), range(day(100) - OVERLAP, None));
}
