//! What can happen in a history.

use workos_emulator::Deactivation;

/// One thing that happens. Numbers choose among what there is at that moment, so that any part of a history is one too.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    CreateDirectory,
    DeleteDirectory(usize),
    DirectoryState(usize, &'static str),
    CreateUser(usize),
    UpdateUser(usize),
    /// Two people, one after the other, with the same address.
    RecycleAddress(usize),
    Deactivate(usize, How),
    Suspend(usize),
    Reactivate(usize),
    Rehire(usize),
    DeleteUser(usize),
    CreateGroup(usize),
    RenameGroup(usize),
    DeleteGroup(usize),
    AddMember(usize, usize),
    RemoveMember(usize, usize),
    /// A waiting webhook arrives, the oldest being 0.
    Deliver(usize),
    DeliverAll,
    /// One that arrived already arrives again.
    Redeliver(usize),
    /// A waiting webhook is lost for good.
    Drop(usize),
    /// Milliseconds pass.
    Pass(i64),
    /// Our clock is set this many milliseconds off.
    ClockOff(i64),
    Fold,
    Refresh(usize),
    /// A step of refresh; after its first request was answered, and before the answer comes, this happens.
    RefreshWhile(usize, Vec<Op>),
    Poll,
    RequestScan(usize),
    /// The process dies while it refreshes or folds, after this many times of being woken, and starts again.
    Crash(usize, usize),
    Api(Fault),
    /// Answers show the state of so many milliseconds ago.
    Lag(i64),
}

/// How the API misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    Outage,
    ServerError,
    RateLimited,
    WrongKey,
    /// The key of another environment: nothing is known, lists are empty.
    OtherEnvironment,
    /// A proxy answers 404 with a page of HTML.
    ProxyNotFound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    UpdatedInactive,
    DeletedKept,
    DeletedGone,
}

impl From<How> for Deactivation {
    fn from(how: How) -> Self {
        match how {
            How::UpdatedInactive => Self::UpdatedInactive,
            How::DeletedKept => Self::DeletedKept,
            How::DeletedGone => Self::DeletedGone,
        }
    }
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
pub fn history(seed: u64) -> Vec<Op> {
    let mut random = Random(seed);
    let length = 20 + random.below(80);
    let mut ops = vec![Op::CreateDirectory, Op::CreateUser(0), Op::CreateGroup(0), Op::AddMember(0, 0)];
    if random.below(2) == 0 {
        ops.extend([Op::DeliverAll, Op::Fold, Op::Refresh(0), Op::Refresh(0), Op::Refresh(0), Op::Refresh(0)]);
    }
    while ops.len() < length {
        let op = any(&mut random, true);
        ops.push(op);
    }
    ops
}

fn any(random: &mut Random, top: bool) -> Op {
    match random.below(100) {
        0 => Op::CreateDirectory,
        1 if random.below(4) == 0 => Op::DeleteDirectory(random.below(9)),
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
        57..=63 => Op::Pass(random.one_of(&[0, 1, 5, 300, 1000, 4000, 61_000, 600_000])),
        64 => Op::ClockOff(random.one_of(&[0, 0, -5000, 5000, -120_000, 120_000])),
        65..=73 => Op::Fold,
        74..=83 if !top => Op::Fold,
        74..=83 => Op::Refresh(random.below(9)),
        84..=88 if top => {
            let length = 1 + random.below(5);
            Op::RefreshWhile(random.below(9), (0..length).map(|_| any(random, false)).collect())
        }
        89 | 90 if top => Op::Poll,
        91 | 92 => Op::RequestScan(random.below(9)),
        93 | 94 if top => Op::Crash(random.below(9), random.below(40)),
        95 | 96 => Op::Api(random.one_of(&[
            Fault::None,
            Fault::None,
            Fault::Outage,
            Fault::ServerError,
            Fault::RateLimited,
            Fault::WrongKey,
            Fault::OtherEnvironment,
            Fault::ProxyNotFound,
        ])),
        97..=99 => Op::Lag(random.one_of(&[0, 0, 1000, 3000, 20_000])),
        _ => Op::Fold,
    }
}
