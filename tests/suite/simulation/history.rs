//! Histories from seeds.

use super::op::{Doing, Fault, How, NEWEST, Op};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// What a history is to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Everything together; one in ten is of a directory large enough for the brake.
    Any,
    /// Half of the webhooks are lost: the poller alone brings equality.
    PollerAlone,
    /// Half of the webhooks are lost and nothing is polled: reconciles alone bring equality.
    ReconcileAlone,
}

/// Numbers that a seed decides (SplitMix64).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// The history of a seed.
pub fn history(kind: Kind, seed: u64) -> Vec<Op> {
    let mut random = Random(seed);
    let mut ops = match kind {
        Kind::Any => Vec::new(),
        Kind::PollerAlone => vec![Op::ReconcileOff, Op::LoseHalf(seed)],
        Kind::ReconcileAlone => vec![Op::PollerOff, Op::LoseHalf(seed)],
    };
    if random.below(3) == 0 {
        ops.push(Op::Pages(1 + random.below(3)));
    }
    if random.below(3) == 0 {
        ops.push(Op::OmitInactive);
    }
    if kind == Kind::Any && random.below(10) == 0 {
        large(&mut random, &mut ops);
        return ops;
    }
    let length = ops.len() + 20 + random.below(80);
    ops.push(Op::CreateDirectory);
    if random.below(3) == 0 {
        ops.extend([Op::CreateGroup(0), Op::OldUsers(0, 1 + random.below(6))]);
    }
    ops.extend([Op::CreateUser(0), Op::CreateGroup(0), Op::AddMember(0, 0)]);
    if random.below(2) == 0 {
        ops.extend([Op::DeliverAll, Op::Fold, Op::Refresh(0), Op::Refresh(0), Op::Refresh(0), Op::Refresh(0)]);
    }
    while ops.len() < length {
        let next = if random.below(15) == 0 { story(&mut random) } else { vec![any(&mut random, true)] };
        ops.extend(next.into_iter().filter(|op| fits(kind, op)));
    }
    ops
}

/// Whether the op leaves the history to what is to be shown.
fn fits(kind: Kind, op: &Op) -> bool {
    match kind {
        Kind::Any => true,
        // What no event tells is not for the poller; after 90 days it scans, and so is a directory scanned that was off.
        Kind::PollerAlone => match op {
            Op::Pass(time) => *time < 50 * DAY,
            Op::RefreshWhile(_, _, meanwhile) => meanwhile.iter().all(|op| fits(kind, op)),
            Op::Vanish(..) | Op::DirectoryState(..) | Op::Enable(_) | Op::Disable(_) => false,
            Op::RequestScan(_) | Op::Schedule | Op::Crash(Doing::Schedule, ..) => false,
            _ => true,
        },
        Kind::ReconcileAlone => !matches!(op, Op::Poll | Op::Crash(Doing::Poll, ..)),
    }
}

/// More users than vanish without a question.
fn large(random: &mut Random, ops: &mut Vec<Op>) {
    ops.extend([Op::CreateDirectory, Op::CreateUsers(0, 22 + random.below(20)), Op::CreateGroup(0)]);
    ops.extend((0..5).map(|number| Op::AddMember(0, number)));
    ops.extend([Op::DeliverAll, Op::Fold, Op::Fold]);
    ops.extend((0..10).map(|_| Op::Refresh(0)));
    for _ in 0..10 + random.below(20) {
        ops.push(match random.below(12) {
            0 => Op::Api(Fault::RecordsGone),
            1 => Op::Api(Fault::None),
            2 => Op::Vanish(0, 1 + random.below(30)),
            3 => Op::RequestScan(0),
            4 => Op::Pass(random.one_of(&[1000, 5000, 61_000, HOUR + 1])),
            5 => Op::ConfirmRemovals(0),
            6 => Op::UpdateUser(random.below(99)),
            7 => Op::Schedule,
            8 | 9 => Op::RefreshPatiently(0),
            _ => match any(random, true) {
                Op::ClockOff(_) => Op::Refresh(0),
                other => other,
            },
        });
    }
}

/// A change of a user or of its memberships.
fn change_of(random: &mut Random, user: usize, group: usize) -> Op {
    match random.below(8) {
        0 => Op::Deactivate(user, random.one_of(&[How::UpdatedInactive, How::DeletedKept, How::DeletedGone])),
        1 => Op::Suspend(user),
        2 => Op::Reactivate(user),
        3 => Op::DeleteUser(user),
        4 => Op::UpdateUser(user),
        5 => Op::RemoveMember(group, user),
        _ => Op::AddMember(group, user),
    }
}

/// What goes wrong only if several things come together, which by chance they do too seldom.
fn story(random: &mut Random) -> Vec<Op> {
    let (directory, user, group) = (random.below(9), random.below(99), random.below(99));
    let told = || [Op::DeliverAll, Op::Fold];
    match random.below(12) {
        // While something is asked for, it changes, and the change is told before the answer comes.
        0..=3 => {
            let (change, other) = (change_of(random, user, group), change_of(random, user, group));
            let meanwhile = vec![other, Op::DeliverAll, Op::Fold];
            let after = random.below(2);
            [change].into_iter().chain(told()).chain([Op::RefreshWhile(directory, after, meanwhile)]).collect()
        }
        // Somebody is told of, perhaps verified, and then a replica answers that lags behind that.
        4 | 5 => {
            let made = [Op::CreateGroup(directory), Op::CreateUser(directory), Op::AddMember(NEWEST, NEWEST)];
            let first = if random.below(2) == 0 { Op::RefreshPatiently(directory) } else { Op::Pass(1) };
            let group = random.one_of(&[NEWEST, group]);
            let change = change_of(random, NEWEST, group);
            let last = random.one_of(&[0, 0, 30_000]);
            let lags = [Op::Pass(1000), Op::Lag(20_000), change];
            let again = [Op::RefreshPatiently(directory), Op::Pass(last), Op::RequestScan(directory)];
            let again = again.into_iter().chain([Op::Refresh(directory), Op::Refresh(directory), Op::Lag(0)]);
            made.into_iter().chain(told()).chain([first]).chain(lags).chain(told()).chain(again).collect()
        }
        // A group's list is read while one of its members is inactive, and so not in it, long after the membership was told.
        6 | 7 => {
            let away = if random.below(2) == 0 { Op::Suspend(user) } else { Op::Deactivate(user, How::DeletedKept) };
            let refreshed = || [Op::DeliverAll, Op::Fold, Op::RefreshPatiently(directory)];
            let joined = [Op::AddMember(group, user)].into_iter().chain(refreshed());
            let settled = [Op::Pass(61_000), Op::RequestScan(directory), Op::RefreshPatiently(directory)];
            let others = (1..=3).map(|next| Op::AddMember(group, user + next));
            joined.chain(settled).chain([away]).chain(refreshed()).chain(others).chain(refreshed()).collect()
        }
        // What is asked for while the API is not itself.
        8..=10 => {
            let change = change_of(random, user, group);
            let fault = random.one_of(&[Fault::ProxyNotFound, Fault::ProxyNotFound, Fault::RecordsGone]);
            let asks = [Op::Api(fault), Op::RefreshPatiently(directory), Op::Api(Fault::None)];
            [change].into_iter().chain(told()).chain(asks).collect()
        }
        // A directory's deletion is told before what came earlier.
        _ if random.below(3) == 0 => {
            let changes = [Op::DirectoryState(directory, "unlinked"), Op::DeleteDirectory(directory)];
            changes.into_iter().chain([Op::Deliver(NEWEST), Op::Fold]).chain(told()).collect()
        }
        // One comes loose and is linked again, with nothing to tell of it.
        _ => vec![Op::DirectoryState(directory, "unlinked"), Op::DirectoryState(directory, "linked")],
    }
}

fn any(random: &mut Random, top: bool) -> Op {
    match random.below(110) {
        0 => Op::CreateDirectory,
        1 if random.below(3) == 0 => Op::DeleteDirectory(random.below(9)),
        1 if random.below(3) == 0 => Op::ReplaceDirectory(random.below(9)),
        1 | 2 => {
            let state = random.one_of(&["unlinked", "linked", "linked", "invalid_credentials", "deleting"]);
            Op::DirectoryState(random.below(9), state)
        }
        3..=6 => Op::CreateUser(random.below(9)),
        7..=10 => Op::UpdateUser(random.below(99)),
        11 => Op::RecycleAddress(random.below(99)),
        12..=16 => {
            let how = random.one_of(&[How::UpdatedInactive, How::DeletedKept, How::DeletedGone]);
            Op::Deactivate(random.below(99), how)
        }
        17 => Op::Suspend(random.below(99)),
        18..=20 => Op::Reactivate(random.below(99)),
        21 => Op::Rehire(random.below(99)),
        22 | 23 => Op::DeleteUser(random.below(99)),
        24 | 25 => Op::CreateGroup(random.below(9)),
        26 => Op::RenameGroup(random.below(99)),
        27 | 28 => Op::DeleteGroup(random.below(99)),
        29..=35 => Op::AddMember(random.below(99), random.below(99)),
        36..=40 => Op::RemoveMember(random.below(99), random.below(99)),
        41..=50 => Op::Deliver(random.below(99)),
        51 | 52 => Op::DeliverAll,
        53..=55 => Op::Redeliver(random.below(99)),
        56 => Op::Drop(random.below(99)),
        57..=63 => {
            let often = random.one_of(&[0, 0, 1, 1, 5, 5, 300, 300, 1000, 4000, 61_000, 600_000]);
            let rarely = random.one_of(&[7 * HOUR, 7 * HOUR, 40 * DAY, 95 * DAY]);
            Op::Pass(if random.below(20) == 0 { rarely } else { often })
        }
        64 => Op::ClockOff(random.one_of(&[0, 0, -5000, 5000, -120_000, 120_000, -600_000])),
        65..=73 => Op::Fold,
        74..=83 if top => Op::Refresh(random.below(9)),
        84..=88 if top => {
            let length = 1 + random.below(5);
            let meanwhile = (0..length).map(|_| any(random, false)).collect();
            Op::RefreshWhile(random.below(9), random.below(3), meanwhile)
        }
        89 | 90 if top => Op::Poll,
        91 | 92 => Op::RequestScan(random.below(9)),
        93 | 94 if top => {
            let doing = [Doing::Receive, Doing::Fold, Doing::Fold, Doing::Refresh, Doing::Refresh, Doing::Refresh];
            let rare = [Doing::Poll, Doing::Discover, Doing::Schedule];
            let doing = if random.below(3) == 0 { random.one_of(&rare) } else { random.one_of(&doing) };
            Op::Crash(doing, random.below(9), random.below(60))
        }
        95 | 96 => Op::Api(random.one_of(&[
            Fault::None,
            Fault::None,
            Fault::None,
            Fault::Outage,
            Fault::ServerError,
            Fault::RateLimited,
            Fault::WrongKey,
            Fault::OtherEnvironment,
            Fault::ProxyNotFound,
            Fault::RecordsGone,
        ])),
        97..=99 => Op::Lag(random.one_of(&[0, 0, 1000, 3000, 20_000])),
        100..=104 if top => Op::RefreshPatiently(random.below(9)),
        105 if top => Op::Discover,
        106 if top => Op::Schedule,
        107 if random.below(3) == 0 => Op::Disable(random.below(9)),
        107 => Op::Enable(random.below(9)),
        108 if random.below(2) == 0 => Op::Vanish(random.below(9), 1 + random.below(3)),
        108 => Op::ConfirmRemovals(random.below(9)),
        _ if random.below(3) == 0 => Op::RetryMarks(random.below(9)),
        _ => Op::Fold,
    }
}
