//! The planner: turns a directory's marks into the fewest API requests. Pure: it is given what is known and sends nothing.
//!
//! # What can be asked
//! A single get answers one record. A page of a directory's users or groups answers as many as it holds (100 at
//! WorkOS), in the list's order, from any record on. The list of a user's groups decides all the user's edges and shows
//! the groups' records; the list of a group's members decides the edges of all its active users and shows their
//! records. A list has to be read to its end, so it costs as many requests as it has pages.
//!
//! # How a plan is made
//! 1. **Lists that nothing can replace** are read: those that are dirty as a whole, and the groups of inactive users
//!    with a dirty edge, since an inactive user's absence from a group's members decides nothing.
//! 2. **Edges.** Each remaining one is decided by its user's list or by its group's: which lists to read is the problem
//!    of the lightest vertex cover, and since every edge runs between a user and a group it is solved exactly
//!    ([`cover`]).
//! 3. **Records** are fetched by pages from left to right along the list; that is the fewest possible ([`pages`]). A page
//!    is taken where it is expected to show at least two records that nothing else shows, else a get costs as little
//!    and decides more: that a record is missing from a page proves nothing.
//! 4. **Both together.** The lists show records, too, so the best for edges alone and for records alone need not be the
//!    best for both; that question contains the set cover problem, so no method answers it both fast and always exactly.
//!    The planner starts from two choices, the lightest cover and the lightest cover where each list is credited with
//!    what its records would cost, and improves each: it reads one list more, or one less, with what follows from
//!    that, for as long as something is saved ([`choice`]). The better one counts.
//!
//! # Why it never costs more than the naive plan
//! The naive plan asks for each edge by the cheaper of its two lists and gets each record singly. The lightest cover
//! weighs no more than the naive lists, and pages are no more than gets; improving only saves. Where the work is cut
//! short for the size of the input, the naive lists are one more choice to start from.
//!
//! # Requests first, then time
//! Of two plans the one with fewer requests is better, and of equal ones the one that keeps the paths busy for less time
//! ([`PathCosts`]). Not by a mix of both: requests are what the API's limits count, for all directories of a key
//! together; the time that one directory could win by sending more of them on the other path would be taken from others.
//!
//! # Revocations
//! For revoked edges the lists are chosen as if nothing else were dirty, so that nothing else lengthens their
//! way; what those lists decide besides is not asked again. The moves that cover revocations come first; among
//! them, and among the others, those that cover most for each of their requests.
//!
//! # What a plan rests on
//! Places, sizes and members are the mirror's beliefs. A wrong one costs requests and never truth: what a move was
//! expected to cover and did not show stays marked and is asked for singly. Since a page begins after a record and
//! not at a number, records that have come or gone elsewhere in the list do not move it.

mod choice;
mod cover;
mod moves;
mod pages;
mod problem;
#[cfg(test)]
mod tests;
mod work;

pub use work::{GroupFacts, PathCosts, Place, Target, Urgency, UserFacts, Work};

use crate::model::{DirectoryGroupId, DirectoryUserId};

/// One thing to ask of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Move<'a> {
    /// `GET /directory_users/{id}`.
    GetUser(&'a DirectoryUserId),
    /// `GET /directory_groups/{id}`.
    GetGroup(&'a DirectoryGroupId),
    /// One page of `GET /directory_users?directory=`.
    UserPage {
        /// The cursor; `None` for the list's first page.
        after: Option<&'a DirectoryUserId>,
    },
    /// One page of `GET /directory_groups?directory=`.
    GroupPage {
        /// The cursor; `None` for the list's first page.
        after: Option<&'a DirectoryGroupId>,
    },
    /// `GET /directory_groups?user=`, to its last page.
    GroupsOfUser {
        /// Whose groups.
        user: &'a DirectoryUserId,
        /// How many pages are expected.
        pages: u32,
    },
    /// `GET /directory_users?group=`, to its last page.
    MembersOfGroup {
        /// Whose members.
        group: &'a DirectoryGroupId,
        /// How many pages are expected.
        pages: u32,
    },
}

impl Move<'_> {
    /// How many requests it is expected to take; at least one.
    #[must_use]
    pub fn requests(&self) -> u32 {
        match self {
            Self::GroupsOfUser { pages, .. } | Self::MembersOfGroup { pages, .. } => *pages,
            Self::GetUser(_) | Self::GetGroup(_) | Self::UserPage { .. } | Self::GroupPage { .. } => 1,
        }
    }

    /// Whether its requests go to `/directory_users`, which has a limit for each directory.
    #[must_use]
    pub fn is_on_users_path(&self) -> bool {
        matches!(self, Self::GetUser(_) | Self::UserPage { .. } | Self::MembersOfGroup { .. })
    }
}

/// A move, and what it is there for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedMove<'a> {
    /// What to ask.
    pub step: Move<'a>,
    /// The targets that it is expected to cover and that no move before it covers; at least one, for a page two.
    pub covers: Vec<Target<'a>>,
}

/// How many requests are expected on each path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// To `/directory_users`.
    pub users: u64,
    /// To `/directory_groups`.
    pub groups: u64,
}

impl Requests {
    /// On both paths.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.users + self.groups
    }

    fn add(&mut self, step: &Move<'_>) {
        *(if step.is_on_users_path() { &mut self.users } else { &mut self.groups }) += u64::from(step.requests());
    }
}

/// What to ask, in this order; together the moves cover every target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan<'a> {
    /// The moves.
    pub moves: Vec<PlannedMove<'a>>,
    /// What they are expected to take.
    pub requests: Requests,
}

/// Plans the requests that fetch all targets. The same work gives the same plan, in whatever order it was told.
#[must_use]
pub fn plan<'a>(work: Work<'a>) -> Plan<'a> {
    with_effort(work, choice::Effort::USUAL)
}

fn with_effort<'a>(work: Work<'a>, effort: choice::Effort) -> Plan<'a> {
    let problem = problem::Problem::new(work);
    moves::plan(&problem, &choice::choose(&problem, effort))
}
