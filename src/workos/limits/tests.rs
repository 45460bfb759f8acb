use proptest::prelude::*;

use super::*;

fn users_of(directory: &str, priority: Priority) -> Request {
    Request { directory: Some(directory.to_owned()), on_users_path: true, priority }
}

fn groups_of(directory: &str, priority: Priority) -> Request {
    Request { directory: Some(directory.to_owned()), on_users_path: false, priority }
}

/// Sends all that can go at this instant and answers whose turn it was.
fn send_all(limits: &mut Limits, now: Instant) -> Vec<Ticket> {
    std::iter::from_fn(|| match limits.next(now) {
        Next::Send(ticket) => Some(ticket),
        Next::Wait(_) | Next::Nothing => None,
    })
    .collect()
}

#[test]
fn without_limits_nothing_waits() {
    let (mut limits, now) = (Limits::new(0, 0), Instant::now());
    for _ in 0..1000 {
        limits.enqueue(users_of("a", Priority::Bulk));
    }
    assert_eq!(send_all(&mut limits, now).len(), 1000);
}

#[test]
fn a_place_in_a_directorys_window_is_free_a_second_after_the_answer() {
    let (mut limits, start) = (Limits::new(0, 2), Instant::now());
    for _ in 0..4 {
        limits.enqueue(users_of("a", Priority::Bulk));
    }
    limits.enqueue(users_of("b", Priority::Bulk));
    limits.enqueue(groups_of("a", Priority::Bulk));
    assert_eq!(send_all(&mut limits, start).len(), 4, "two of a, one of b, and the other path");
    assert_eq!(limits.next(start), Next::Nothing, "no answer has come");
    let answered_at = start + Duration::from_millis(300);
    limits.answered(&users_of("a", Priority::Bulk), answered_at);
    assert_eq!(limits.next(answered_at), Next::Wait(answered_at + Duration::from_secs(1)));
    assert_eq!(send_all(&mut limits, answered_at + Duration::from_secs(1)).len(), 1);
}

#[test]
fn who_asks_for_room_learns_how_much_there_is_or_when() {
    let (mut limits, start) = (Limits::new(0, 4), Instant::now());
    assert_eq!(limits.users_room("a", 2, start), Ok(4), "never asked about");
    for _ in 0..3 {
        limits.enqueue(users_of("a", Priority::Bulk));
    }
    assert_eq!(send_all(&mut limits, start).len(), 3);
    assert_eq!(limits.users_room("a", 0, start), Ok(1));
    assert_eq!(limits.users_room("a", 2, start), Err(start + Duration::from_millis(250)), "no answer has come");
    let answered = |milliseconds: u64| start + Duration::from_millis(milliseconds);
    (1..=3).for_each(|number| limits.answered(&users_of("a", Priority::Bulk), answered(number * 100)));
    let second = Duration::from_secs(1);
    assert_eq!(limits.users_room("a", 2, answered(300)), Err(answered(100) + second));
    assert_eq!(limits.users_room("a", 9, answered(300)), Err(answered(300) + second), "more than the limit never go");
    assert_eq!(limits.users_room("a", 2, answered(200) + second), Ok(3));
    assert_eq!(Limits::new(0, 0).users_room("a", 9, start), Ok(u32::MAX));
}

#[test]
fn revocations_go_first_then_small_plans_and_directories_take_turns() {
    let (mut limits, now) = (Limits::new(60, 0), Instant::now());
    let bulk: Vec<Ticket> = (0..3).map(|_| limits.enqueue(groups_of("big", Priority::Bulk))).collect();
    let other = limits.enqueue(groups_of("other", Priority::Bulk));
    let small = limits.enqueue(groups_of("small", Priority::Small));
    let leaver = limits.enqueue(groups_of("leaver", Priority::Revocation));
    let mut order = Vec::new();
    for second in 0..20 {
        order.extend(send_all(&mut limits, now + Duration::from_secs(second * 2)));
    }
    // Every fourth goes to whoever has waited longest.
    assert_eq!(order, [leaver, small, bulk[0], bulk[1], other, bulk[2]]);
}

#[test]
fn bulk_leaves_a_reserve_to_what_is_urgent() {
    let (mut limits, now) = (Limits::new(6000, 0), Instant::now());
    for _ in 0..1000 {
        limits.enqueue(groups_of("big", Priority::Bulk));
    }
    let at_once = send_all(&mut limits, now).len();
    assert!((100..200).contains(&at_once), "{at_once}");
    let leavers: Vec<Ticket> = (0..100).map(|_| limits.enqueue(groups_of("b", Priority::Revocation))).collect();
    let sent = send_all(&mut limits, now);
    assert_eq!(sent, leavers, "a hundred need not wait for the others");
}

#[test]
fn a_429_pauses_its_directory_and_a_second_one_elsewhere_the_key() {
    let (mut limits, now) = (Limits::new(0, 0), Instant::now());
    let until = now + Duration::from_secs(5);
    assert!(!limits.refused(&users_of("a", Priority::Small), until, now));
    limits.enqueue(groups_of("a", Priority::Revocation));
    let of_b = limits.enqueue(users_of("b", Priority::Bulk));
    assert_eq!(send_all(&mut limits, now), [of_b]);
    assert_eq!(limits.next(now), Next::Wait(until));
    assert!(!limits.refused(&users_of("a", Priority::Small), until, now), "the same directory again");
    assert!(limits.refused(&users_of("b", Priority::Small), until, now + Duration::from_secs(30)));
    limits.enqueue(groups_of("c", Priority::Revocation));
    assert_eq!(send_all(&mut limits, until - Duration::from_millis(1)), []);
    assert_eq!(send_all(&mut limits, until).len(), 2);
    assert!(!limits.refused(&users_of("c", Priority::Small), until, now + Duration::from_secs(120)), "long after");
}

#[test]
fn nothing_is_sent_by_a_share_that_has_lapsed_nor_what_waited_meanwhile() {
    let (mut limits, now) = (Limits::new(0, 4), Instant::now());
    let second = Duration::from_secs(1);
    limits.share_among(1, Duration::ZERO, Some(second), now);
    limits.enqueue(users_of("a", Priority::Revocation));
    assert_eq!(limits.next(now + 2 * second), Next::Nothing);
    limits.share_among(1, Duration::ZERO, Some(second), now + 2 * second);
    assert_eq!(limits.next(now + 2 * second), Next::Nothing, "it was for what others have taken over");
    let anew = limits.enqueue(users_of("a", Priority::Revocation));
    assert_eq!(limits.next(now + 2 * second), Next::Send(anew));
}

#[test]
fn who_is_withdrawn_is_not_sent() {
    let (mut limits, now) = (Limits::new(0, 1), Instant::now());
    let first = limits.enqueue(users_of("a", Priority::Small));
    assert!(limits.withdraw(first));
    assert!(!limits.withdraw(first));
    assert_eq!(limits.next(now), Next::Nothing);
}

#[test]
fn a_budget_that_is_shared_anew_waits_for_what_others_sent() {
    let (mut limits, now) = (Limits::new(6000, 4), Instant::now());
    let settled = now + Duration::from_secs(5);
    limits.share_among(3, Duration::from_secs(5), None, now);
    limits.enqueue(groups_of("a", Priority::Small));
    assert_eq!(limits.next(now), Next::Wait(settled), "the others do not know yet");
    assert_eq!(send_all(&mut limits, settled).len(), 1);
    limits.enqueue(users_of("b", Priority::Small));
    assert_eq!(limits.next(settled), Next::Wait(settled + Duration::from_secs(1)), "who had b may just have asked");
    assert_eq!(send_all(&mut limits, settled + Duration::from_secs(1)).len(), 1);
}

proptest! {
    /// However requests come and whenever they are answered, no window of the server sees more than its limit.
    #[test]
    fn no_window_ever_sees_more_than_its_limit(
        per_minute in 1..500_u32,
        per_second in 1..8_u32,
        share in 1..4_u32,
        steps in proptest::collection::vec((0..400_u64, 0..3_usize, any::<bool>(), 0..3_u8, 0..900_u64), 1..200),
    ) {
        let start = Instant::now();
        let mut limits = Limits::new(per_minute, per_second);
        limits.share_among(share, Duration::ZERO, None, start);
        let (mut now, mut under_way) = (start + Duration::from_secs(2), Vec::<(Instant, Request)>::new());
        let (mut of_key, mut of_users) = (Vec::new(), Vec::new());
        let mut requests = HashMap::new();
        for (pass, directory, on_users_path, priority, latency) in steps {
            now += Duration::from_millis(pass);
            under_way.sort_by_key(|(at, _)| *at);
            while under_way.first().is_some_and(|(at, _)| *at <= now) {
                let (at, request) = under_way.remove(0);
                limits.answered(&request, at);
            }
            let directory = Some(["a", "b", "c"][directory].to_owned());
            let priority = [Priority::Revocation, Priority::Small, Priority::Bulk][usize::from(priority)];
            let request = Request { directory, on_users_path, priority };
            requests.insert(limits.enqueue(request.clone()), request);
            while let Next::Send(ticket) = limits.next(now) {
                let request = requests[&ticket].clone();
                // The server counts it some time before the answer.
                let counted_at = now + Duration::from_millis(latency / 2);
                of_key.push(now);
                if request.on_users_path {
                    of_users.push((request.directory.clone(), counted_at));
                }
                under_way.push((now + Duration::from_millis(latency), request));
            }
        }
        for at in &of_key {
            let seen = of_key.iter().filter(|other| **other >= *at && **other < *at + KEY_WINDOW).count();
            prop_assert!(seen <= (per_minute as usize).div_ceil(share as usize).max(1), "{seen} in a minute");
        }
        for (directory, at) in &of_users {
            let seen = of_users.iter().filter(|(one, other)| one == directory && *other >= *at && *other < *at + USERS_WINDOW);
            prop_assert!(seen.count() <= per_second as usize);
        }
    }
}
