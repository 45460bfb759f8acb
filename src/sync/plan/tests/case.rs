//! Small directories with something dirty in them, and what a move can decide there, by the API's rules.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::super::*;

/// A user or a group.
#[derive(Debug, Clone)]
pub struct Entity {
    pub rank: Option<u32>,
    /// Members or groups beside those in [`Case::members`].
    pub others: u32,
    pub active: bool,
    pub record: Option<Urgency>,
    pub list: Option<Urgency>,
}

/// A directory, by numbers.
#[derive(Debug, Clone)]
pub struct Case {
    pub page_size: u32,
    pub costs: PathCosts,
    pub users: Vec<Entity>,
    pub groups: Vec<Entity>,
    /// By group and user: whether the one is believed to be in the other.
    pub members: Vec<Vec<bool>>,
    /// By group and user.
    pub dirty: Vec<Vec<Option<Urgency>>>,
}

/// The ids of a case.
pub struct Names {
    pub users: Vec<DirectoryUserId>,
    pub groups: Vec<DirectoryGroupId>,
    /// By rank, who is listed right before.
    pub user_cursors: Vec<DirectoryUserId>,
    pub group_cursors: Vec<DirectoryGroupId>,
}

/// Something that the planner is told.
#[derive(Debug, Clone)]
pub enum Statement<'a> {
    Add(Target<'a>, Urgency),
    User(&'a DirectoryUserId, UserFacts<'a>),
    Group(&'a DirectoryGroupId, GroupFacts<'a>),
    Member(&'a DirectoryGroupId, &'a DirectoryUserId),
}

impl Case {
    pub fn names(&self) -> Names {
        let ranks =
            self.users.iter().chain(&self.groups).filter_map(|entity| entity.rank).max().map_or(1, |max| max + 1);
        let user = |text: String| DirectoryUserId::new(text).unwrap();
        let group = |text: String| DirectoryGroupId::new(text).unwrap();
        Names {
            users: (0..self.users.len()).map(|number| user(format!("user_{number}"))).collect(),
            groups: (0..self.groups.len()).map(|number| group(format!("group_{number}"))).collect(),
            user_cursors: (0..ranks).map(|rank| user(format!("before_{rank}"))).collect(),
            group_cursors: (0..ranks).map(|rank| group(format!("before_{rank}"))).collect(),
        }
    }

    pub fn members_of(&self, group: usize) -> u32 {
        self.groups[group].others + self.members[group].iter().filter(|member| **member).count() as u32
    }

    pub fn groups_of(&self, user: usize) -> u32 {
        self.users[user].others + self.members.iter().filter(|members| members[user]).count() as u32
    }

    pub fn targets<'a>(&self, names: &'a Names) -> Vec<(Target<'a>, Urgency)> {
        let mut targets = Vec::new();
        for (user, id) in self.users.iter().zip(&names.users) {
            targets.extend(user.record.map(|urgency| (Target::User(id), urgency)));
            targets.extend(user.list.map(|urgency| (Target::UserGroups(id), urgency)));
        }
        for ((group, id), dirty) in self.groups.iter().zip(&names.groups).zip(&self.dirty) {
            targets.extend(group.record.map(|urgency| (Target::Group(id), urgency)));
            targets.extend(group.list.map(|urgency| (Target::GroupMembers(id), urgency)));
            let edges = dirty.iter().zip(&names.users);
            targets
                .extend(edges.filter_map(|(urgency, user)| urgency.map(|urgency| (Target::Edge(id, user), urgency))));
        }
        targets
    }

    pub fn statements<'a>(&self, names: &'a Names) -> Vec<Statement<'a>> {
        let targets = self.targets(names).into_iter();
        let mut statements: Vec<_> = targets.map(|(target, urgency)| Statement::Add(target, urgency)).collect();
        for (number, user) in self.users.iter().enumerate() {
            let place = user.rank.map(|rank| place(rank, &names.user_cursors));
            let facts = UserFacts { place, groups: self.groups_of(number), active: user.active };
            statements.push(Statement::User(&names.users[number], facts));
        }
        for (number, group) in self.groups.iter().enumerate() {
            let place = group.rank.map(|rank| place(rank, &names.group_cursors));
            let facts = GroupFacts { place, members: self.members_of(number) };
            statements.push(Statement::Group(&names.groups[number], facts));
            let members = names.users.iter().zip(&self.members[number]).filter(|(_, member)| **member);
            statements.extend(members.map(|(user, _)| Statement::Member(&names.groups[number], user)));
        }
        statements
    }

    pub fn work<'a>(&self, statements: impl IntoIterator<Item = Statement<'a>>) -> Work<'a> {
        let mut work = Work::new(NonZeroU32::new(self.page_size).unwrap(), self.costs);
        for statement in statements {
            match statement {
                Statement::Add(target, urgency) => work.add(target, urgency),
                Statement::User(user, facts) => work.know_user(user, facts),
                Statement::Group(group, facts) => work.know_group(group, facts),
                Statement::Member(group, user) => work.know_member(group, user),
            }
        }
        work
    }

    /// Whether the move decides the target, if all that is believed is true.
    pub fn decides(&self, names: &Names, step: &Move<'_>, target: &Target<'_>) -> bool {
        let user = |id: &DirectoryUserId| names.users.iter().position(|name| name == id).unwrap();
        let group = |id: &DirectoryGroupId| names.groups.iter().position(|name| name == id).unwrap();
        let shown = |after: Option<u32>, entity: &Entity| {
            let first = after.unwrap_or(0);
            entity.rank.is_some_and(|rank| (first..first + self.page_size).contains(&rank))
        };
        let is_active = |id: &DirectoryUserId| self.users[user(id)].active;
        match (*step, *target) {
            (Move::GetUser(one), Target::User(other)) => one == other,
            (Move::GetGroup(one), Target::Group(other)) => one == other,
            (Move::UserPage { after }, Target::User(id)) => {
                let after = after.map(|id| names.user_cursors.iter().position(|name| name == id).unwrap() as u32);
                shown(after, &self.users[user(id)])
            }
            (Move::GroupPage { after }, Target::Group(id)) => {
                let after = after.map(|id| names.group_cursors.iter().position(|name| name == id).unwrap() as u32);
                shown(after, &self.groups[group(id)])
            }
            (Move::GroupsOfUser { user: owner, .. }, Target::Group(id)) => self.members[group(id)][user(owner)],
            (Move::GroupsOfUser { user: owner, .. }, Target::Edge(_, id) | Target::UserGroups(id)) => owner == id,
            (Move::MembersOfGroup { group: owner, .. }, Target::User(id)) => {
                self.members[group(owner)][user(id)] && is_active(id)
            }
            (Move::MembersOfGroup { group: owner, .. }, Target::Edge(id, user)) => owner == id && is_active(user),
            (Move::MembersOfGroup { group: owner, .. }, Target::GroupMembers(id)) => owner == id,
            _ => false,
        }
    }

    /// How many requests a list takes.
    pub fn pages(&self, records: u32) -> u32 {
        records.div_ceil(self.page_size).max(1)
    }
}

fn place<Id>(rank: u32, cursors: &[Id]) -> Place<'_, Id> {
    match NonZeroU32::new(rank) {
        None => Place::First,
        Some(rank) => Place::After { rank, cursor: &cursors[rank.get() as usize] },
    }
}

/// How a directory looks.
#[derive(Debug, Clone, Copy)]
struct Shape {
    users: usize,
    groups: usize,
    /// The length of the directory's lists.
    listed: usize,
    /// Up to how many unnamed members a group has.
    others: u32,
    /// Of ten records, so many are dirty.
    dirty_records: u8,
    /// Of ten edges.
    dirty_edges: u8,
    /// Of ten targets.
    revocations: u8,
}

fn entities(count: usize, shape: Shape) -> impl Strategy<Value = Vec<Entity>> {
    let ranks = Just((0..shape.listed as u32).collect::<Vec<_>>()).prop_shuffle();
    let record = urgency(shape.dirty_records, shape.revocations);
    let each = (0..10u8, 0..=shape.others, 0..10u8, record, urgency(1, shape.revocations));
    (ranks, prop::collection::vec(each, count)).prop_map(|(ranks, each)| {
        let entities = each.into_iter().zip(ranks).map(|((place, others, active, record, list), rank)| Entity {
            rank: (place < 8).then_some(rank),
            others,
            active: active < 9,
            record,
            list,
        });
        entities.collect()
    })
}

/// Dirty in `dirty` of ten cases, of which `revocations` of ten are revocations.
fn urgency(dirty: u8, revocations: u8) -> impl Strategy<Value = Option<Urgency>> {
    (0..10u8, 0..10u8).prop_map(move |(one, other)| {
        let urgency = if other < revocations { Urgency::Revocation } else { Urgency::Ordinary };
        (one < dirty).then_some(urgency)
    })
}

/// Directories of up to 5 users and 4 groups, with pages of up to 4 records; of ten targets, some are revocations.
pub fn any_case(revocations: u8) -> impl Strategy<Value = Case> {
    let shape = (1..=5usize, 1..=4usize, 6..40usize, 0..6u32, 0..=10u8, 0..=8u8).prop_map(
        move |(users, groups, listed, others, dirty_records, dirty_edges)| Shape {
            users,
            groups,
            listed,
            others,
            dirty_records,
            dirty_edges,
            revocations,
        },
    );
    shape.prop_flat_map(|shape| {
        (
            (1..=4u32, any::<bool>()),
            entities(shape.users, shape),
            entities(shape.groups, shape),
            matrix(any::<bool>(), shape),
            matrix(urgency(shape.dirty_edges, shape.revocations), shape),
        )
            .prop_map(|((page_size, users_are_slow), users, groups, members, dirty)| {
                let usual = PathCosts::default();
                let other = PathCosts { users: usual.groups, groups: usual.users };
                let costs = if users_are_slow { usual } else { other };
                Case { page_size, costs, users, groups, members, dirty }
            })
    })
}

/// One for each group and user.
fn matrix<S: Strategy>(each: S, shape: Shape) -> impl Strategy<Value = Vec<Vec<S::Value>>> {
    prop::collection::vec(prop::collection::vec(each, shape.users), shape.groups)
}
