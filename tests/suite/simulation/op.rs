//! What can happen in a history.

use workos_emulator::Deactivation;

/// Chooses the newest of what there is.
pub const NEWEST: usize = usize::MAX;

/// One thing that happens. Numbers choose among what there is at that moment, so that any part of a history is one too.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    CreateDirectory,
    DeleteDirectory(usize),
    /// Deleted, and another one made for the same organization and the same people.
    ReplaceDirectory(usize),
    DirectoryState(usize, &'static str),
    CreateUser(usize),
    /// So many users at once.
    CreateUsers(usize, usize),
    /// So many users who were there before any event, with their memberships.
    OldUsers(usize, usize),
    UpdateUser(usize),
    /// Two people, one after the other, with the same address.
    RecycleAddress(usize),
    Deactivate(usize, How),
    Suspend(usize),
    Reactivate(usize),
    Rehire(usize),
    DeleteUser(usize),
    /// So many users of a directory are deleted, and no event says so.
    Vanish(usize, usize),
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
    /// Of all webhooks to come, this seed loses half.
    LoseHalf(u64),
    /// Milliseconds pass.
    Pass(i64),
    /// Our clock is set this many milliseconds off.
    ClockOff(i64),
    Fold,
    Refresh(usize),
    /// A step of refresh. After so many of its requests were answered, and before the answer comes, this happens.
    RefreshWhile(usize, usize, Vec<Op>),
    /// Steps of refresh until nothing is due: at once, after a second, and after four more.
    RefreshPatiently(usize),
    Poll,
    Discover,
    /// Reconciles that are due are asked for.
    Schedule,
    RequestScan(usize),
    Enable(usize),
    Disable(usize),
    ConfirmRemovals(usize),
    /// `directory-mirror marks retry`.
    RetryMarks(usize),
    /// The process dies in the middle, after this many of the steps between which others have their turn, and starts again.
    Crash(Doing, usize, usize),
    Api(Fault),
    /// Answers show the state of so many milliseconds ago.
    Lag(i64),
    /// Lists have pages of this size.
    Pages(usize),
    /// Lists of a group's members leave out who is inactive from now on.
    OmitInactive,
    /// The Events API is not polled from now on.
    PollerOff,
    /// Nothing is reconciled from now on.
    ReconcileOff,
}

/// What the process was doing when it died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    Receive,
    Fold,
    Refresh,
    Poll,
    Discover,
    Schedule,
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
    /// Directories are there, and what is in them is not.
    RecordsGone,
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

impl Op {
    /// Whether it happens at WorkOS alone.
    pub fn is_change(&self) -> bool {
        matches!(
            self,
            Self::CreateDirectory
                | Self::DeleteDirectory(_)
                | Self::ReplaceDirectory(_)
                | Self::DirectoryState(..)
                | Self::CreateUser(_)
                | Self::CreateUsers(..)
                | Self::OldUsers(..)
                | Self::UpdateUser(_)
                | Self::RecycleAddress(_)
                | Self::Deactivate(..)
                | Self::Suspend(_)
                | Self::Reactivate(_)
                | Self::Rehire(_)
                | Self::DeleteUser(_)
                | Self::Vanish(..)
                | Self::CreateGroup(_)
                | Self::RenameGroup(_)
                | Self::DeleteGroup(_)
                | Self::AddMember(..)
                | Self::RemoveMember(..)
        )
    }
}

/// Which of so many a number chooses.
pub fn place(number: usize, count: usize) -> usize {
    if number == NEWEST { count.saturating_sub(1) } else { number % count.max(1) }
}
