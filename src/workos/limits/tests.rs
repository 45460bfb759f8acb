use proptest::prelude::*;

use super::*;

fn users_of(directory: &str, priority: Priority) -> Request {
    Request { directory: Some(directory.to_owned()), on_users_path: true, priority }
}

fn groups_of(directory: &str, priority: Priority) -> Request {
    Request { directory: Some(directory.to_owned()), on_users_path: false, priority }
}

/// Limits of a process that has run for a minute, and the time.
fn settled(requests_per_minute: u32, users_per_second: u32) -> (Limits, Instant) {
    let start = Instant::now();
    (Limits::new(requests_per_minute, users_per_second, start), start + Duration::from_secs(60))
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
    let (mut limits, now) = settled(0, 0);
    for _ in 0..1000 {
        limits.enqueue(users_of("a", Priority::Bulk));
    }
    assert_eq!(send_all(&mut limits, now).len(), 1000);
}

#[test]
fn a_place_in_a_directorys_window_is_free_a_second_after_the_answer() {
    let (mut limits, start) = settled(0, 2);
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
    let (mut limits, start) = settled(0, 4);
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
    assert_eq!(settled(0, 0).0.users_room("a", 9, start), Ok(u32::MAX));
}

#[test]
fn revocations_go_first_then_small_plans_and_directories_take_turns() {
    let (mut limits, now) = settled(60, 0);
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
    let (mut limits, now) = settled(6000, 0);
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
    let (mut limits, now) = settled(0, 0);
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
    let (mut limits, now) = settled(0, 4);
    let second = Duration::from_secs(1);
    limits.share_among(Share::WHOLE, Duration::ZERO, Some(now + second), now);
    limits.enqueue(groups_of("a", Priority::Revocation));
    assert_eq!(limits.next(now + 2 * second), Next::Nothing);
    limits.share_among(Share::WHOLE, Duration::ZERO, Some(now + 3 * second), now + 2 * second);
    assert_eq!(limits.next(now + 2 * second), Next::Nothing, "it was for what others have taken over");
    let anew = limits.enqueue(groups_of("a", Priority::Revocation));
    assert_eq!(limits.next(now + 2 * second), Next::Send(anew));
}

#[test]
fn who_is_withdrawn_is_not_sent() {
    let (mut limits, now) = settled(0, 1);
    let first = limits.enqueue(users_of("a", Priority::Small));
    assert!(limits.withdraw(first));
    assert!(!limits.withdraw(first));
    assert_eq!(limits.next(now), Next::Nothing);
}

const HALVES: [Share; 2] = [Share { rank: 0, of: 2 }, Share { rank: 1, of: 2 }];

/// A directory of that half.
fn in_half(half: usize) -> &'static str {
    ["a", "b", "c", "d", "e"].into_iter().find(|id| HALVES[half].has_id(id)).unwrap()
}

#[test]
fn a_newcomer_leaves_the_budget_to_the_others_until_they_know_of_it() {
    let (mut limits, now) = settled(6000, 4);
    let learned = now + Duration::from_secs(5);
    limits.share_among(HALVES[0], Duration::from_secs(5), None, now);
    limits.enqueue(groups_of(in_half(0), Priority::Revocation));
    let Next::Wait(until) = limits.next(now) else { panic!("it goes at once") };
    assert!(until > learned && until < learned + Duration::from_millis(100), "there is no burst to begin with");
    assert_eq!(send_all(&mut limits, until).len(), 1);
    limits.share_among(Share::WHOLE, Duration::from_secs(5), None, now + Duration::from_secs(1));
    limits.enqueue(groups_of("a", Priority::Revocation));
    assert_eq!(send_all(&mut limits, until + Duration::from_secs(1)).len(), 1);
}

#[test]
fn a_newcomer_who_is_alone_at_last_waits_no_longer() {
    let (mut limits, now) = settled(6000, 4);
    limits.share_among(HALVES[0], Duration::from_secs(600), None, now);
    limits.share_among(Share::WHOLE, Duration::from_secs(600), None, now + Duration::from_secs(1));
    limits.enqueue(groups_of("a", Priority::Bulk));
    assert_eq!(send_all(&mut limits, now + Duration::from_secs(3)).len(), 1);
}

#[test]
fn a_process_starts_without_a_burst_and_waits_for_what_one_before_it_may_have_asked() {
    let start = Instant::now();
    let mut limits = Limits::new(6000, 4, start);
    for _ in 0..4 {
        limits.enqueue(users_of("a", Priority::Revocation));
        limits.enqueue(groups_of("b", Priority::Revocation));
    }
    assert_eq!(send_all(&mut limits, start), []);
    assert_eq!(send_all(&mut limits, start + HANDOVER - Duration::from_millis(1)).len(), 4, "those of b");
    assert_eq!(send_all(&mut limits, start + HANDOVER).len(), 4);
}

#[test]
fn what_was_sent_before_the_share_changed_still_counts() {
    let (mut limits, now) = settled(0, 4);
    limits.share_among(HALVES[0], Duration::ZERO, None, now);
    let (now, own) = (now + 10 * HANDOVER, in_half(0));
    for _ in 0..8 {
        limits.enqueue(users_of(own, Priority::Small));
    }
    assert_eq!(send_all(&mut limits, now).len(), 4);
    limits.share_among(Share::WHOLE, Duration::ZERO, None, now);
    assert_eq!(send_all(&mut limits, now), [], "four are under way");
    (0..4).for_each(|_| limits.answered(&users_of(own, Priority::Small), now));
    assert_eq!(send_all(&mut limits, now), [], "four count for a second");
    assert_eq!(send_all(&mut limits, now + USERS_WINDOW).len(), 4, "and nobody else asked, so it waits no longer");
}

#[test]
fn an_old_answer_makes_no_room_that_there_is_not() {
    let (mut limits, now) = settled(0, 1);
    limits.share_among(HALVES[0], Duration::ZERO, None, now);
    let (now, own) = (now + 10 * HANDOVER, in_half(0));
    limits.enqueue(users_of(own, Priority::Small));
    assert_eq!(send_all(&mut limits, now).len(), 1);
    limits.share_among(HALVES[1], Duration::ZERO, None, now);
    limits.share_among(HALVES[0], Duration::ZERO, None, now);
    for _ in 0..3 {
        limits.enqueue(users_of(own, Priority::Small));
    }
    let later = now + 2 * HANDOVER;
    assert_eq!(send_all(&mut limits, later), [], "the old one is still under way");
    limits.answered(&users_of(own, Priority::Small), later);
    assert_eq!(send_all(&mut limits, later + USERS_WINDOW).len(), 1);
    assert_eq!(send_all(&mut limits, later + 2 * USERS_WINDOW), [], "that one is under way");
}

#[test]
fn a_pause_outlasts_any_change_of_the_share() {
    let (mut limits, now) = settled(0, 0);
    let (until, own) = (now + Duration::from_secs(60), in_half(0));
    limits.refused(&users_of(own, Priority::Small), until, now);
    limits.share_among(HALVES[0], Duration::ZERO, None, now);
    limits.share_among(Share::WHOLE, Duration::ZERO, None, now);
    limits.enqueue(users_of(own, Priority::Small));
    assert_eq!(limits.next(now + Duration::from_secs(30)), Next::Wait(until));
}

#[test]
fn what_waits_for_a_directory_that_is_given_away_is_never_sent() {
    let (mut limits, now) = settled(6000, 4);
    limits.share_among(Share::WHOLE, Duration::ZERO, None, now);
    limits.enqueue(groups_of(in_half(1), Priority::Bulk));
    let kept = limits.enqueue(groups_of(in_half(0), Priority::Bulk));
    let unowned = limits.enqueue(Request { directory: None, ..groups_of("a", Priority::Bulk) });
    limits.share_among(HALVES[0], Duration::ZERO, None, now);
    assert_eq!(send_all(&mut limits, now + Duration::from_secs(60)), [kept, unowned]);
    assert!(!limits.is_ours(&users_of(in_half(1), Priority::Bulk)));
}

#[test]
fn a_directory_that_was_another_s_is_left_alone_for_a_moment_and_its_own_is_not() {
    let (mut limits, now) = settled(0, 4);
    limits.share_among(HALVES[0], Duration::ZERO, None, now);
    let now = now + 10 * HANDOVER;
    limits.share_among(Share::WHOLE, Duration::ZERO, None, now);
    let own = limits.enqueue(users_of(in_half(0), Priority::Small));
    let gained = limits.enqueue(users_of(in_half(1), Priority::Small));
    assert_eq!(send_all(&mut limits, now), [own]);
    assert_eq!(limits.next(now), Next::Wait(now + HANDOVER));
    assert_eq!(limits.users_room(in_half(1), 1, now), Err(now + HANDOVER));
    assert_eq!(send_all(&mut limits, now + HANDOVER), [gained]);
}

/// Several processes as one server sees them.
struct Fleet {
    now: Instant,
    budget: (u32, u32),
    members: Vec<Member>,
    born: u32,
    /// By key, and by directory where it goes to its users.
    counted: (Vec<Instant>, Vec<(String, Instant)>),
}

struct Member {
    name: u32,
    limits: Limits,
    share: Share,
    /// When it next says that it is alive, and so hears of the others.
    hears_at: Instant,
    requests: HashMap<Ticket, Request>,
    under_way: Vec<(Instant, Request)>,
}

impl Fleet {
    const SETTLING: Duration = Duration::from_secs(3);

    fn share_of(&self, name: u32) -> Share {
        let rank = self.members.iter().position(|one| one.name == name).unwrap();
        Share { rank: u32::try_from(rank).unwrap(), of: u32::try_from(self.members.len()).unwrap() }
    }

    fn join(&mut self) {
        self.born += 1;
        self.members.push(Member {
            name: self.born,
            limits: Limits::new(self.budget.0, self.budget.1, self.now),
            share: Share::WHOLE,
            hears_at: self.now,
            requests: HashMap::new(),
            under_way: Vec::new(),
        });
        self.hear();
    }

    fn hear(&mut self) {
        let shares: Vec<Share> = self.members.iter().map(|one| self.share_of(one.name)).collect();
        for (member, share) in self.members.iter_mut().zip(shares).filter(|(one, _)| one.hears_at <= self.now) {
            member.share = share;
            member.limits.share_among(share, Self::SETTLING, None, self.now);
            member.hears_at = self.now + Self::SETTLING * 9 / 10;
        }
    }

    /// Of the members the one that has the directory, unless another does not know that yet: its lease keeps this one out.
    fn ask(&mut self, request: &Request) {
        let directory = request.directory.as_deref().unwrap();
        let mut having = self.members.iter_mut().filter(|one| one.share.has_id(directory));
        if let (Some(member), None) = (having.next(), having.next()) {
            member.requests.insert(member.limits.enqueue(request.clone()), request.clone());
        }
    }

    fn go_on(&mut self, pass: Duration, latency: Duration) {
        self.now += pass;
        self.hear();
        for member in &mut self.members {
            member.under_way.sort_by_key(|(at, _)| *at);
            while member.under_way.first().is_some_and(|(at, _)| *at <= self.now) {
                let (at, request) = member.under_way.remove(0);
                member.limits.answered(&request, at);
            }
            while let Next::Send(ticket) = member.limits.next(self.now) {
                let request = member.requests[&ticket].clone();
                self.counted.0.push(self.now);
                if request.on_users_path {
                    // The server counts it some time before the answer.
                    self.counted.1.push((request.directory.clone().unwrap(), self.now + latency / 2));
                }
                member.under_way.push((self.now + latency, request));
            }
        }
    }
}

proptest! {
    /// However processes come and go, the server sees no more than its limits from all of them together, as long as each
    /// change is known to all before the next: one that was undone before some heard of it leaves two with a directory.
    #[test]
    fn processes_that_come_and_go_stay_within_the_limits_together(
        per_minute in 60..400_u32,
        per_second in 1..6_u32,
        steps in proptest::collection::vec((0..500_u64, 0..24_u8, 0..6_usize, any::<bool>(), 0..900_u64), 1..300),
    ) {
        let budget = (per_minute, per_second);
        let mut fleet =
            Fleet { now: Instant::now(), budget, members: Vec::new(), born: 0, counted: (Vec::new(), Vec::new()) };
        fleet.join();
        let mut known_to_all = fleet.now;
        for (pass, action, directory, on_users_path, latency) in steps {
            let changes = fleet.now >= known_to_all;
            match action {
                0 if changes && fleet.members.len() < 4 => {
                    fleet.join();
                    known_to_all = fleet.now + 2 * Fleet::SETTLING;
                }
                1 | 2 if changes && fleet.members.len() > 1 => {
                    fleet.members.remove(directory % fleet.members.len());
                    known_to_all = fleet.now + 2 * Fleet::SETTLING;
                }
                _ => {
                    let directory = Some(["a", "b", "c", "d", "e", "f"][directory].to_owned());
                    let request = Request { directory, on_users_path, priority: Priority::Small };
                    (0..4).for_each(|_| fleet.ask(&request));
                }
            }
            fleet.go_on(Duration::from_millis(pass), Duration::from_millis(latency));
        }
        let (of_key, of_users) = &fleet.counted;
        for at in of_key {
            let seen = of_key.iter().filter(|other| **other >= *at && **other < *at + KEY_WINDOW).count();
            prop_assert!(seen <= per_minute as usize, "{seen} in a minute");
        }
        for (directory, at) in of_users {
            let within = |other: &Instant| *other >= *at && *other < *at + USERS_WINDOW;
            let seen = of_users.iter().filter(|(one, other)| one == directory && within(other)).count();
            prop_assert!(seen <= per_second as usize, "{seen} of {directory} in a second");
        }
    }

    /// However requests come and whenever they are answered, no window of the server sees more than its limit.
    #[test]
    fn no_window_ever_sees_more_than_its_limit(
        per_minute in 1..500_u32,
        per_second in 1..8_u32,
        share in 1..4_u32,
        steps in proptest::collection::vec((0..400_u64, 0..3_usize, any::<bool>(), 0..3_u8, 0..900_u64), 1..200),
    ) {
        let start = Instant::now();
        let mut limits = Limits::new(per_minute, per_second, start);
        limits.share_among(Share { rank: 0, of: share }, Duration::ZERO, None, start);
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
            if !limits.is_ours(&request) {
                continue;
            }
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
