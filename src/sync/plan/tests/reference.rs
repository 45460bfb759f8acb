//! What a plan is measured against: the naive plan, and the best one, found by trying everything.

use super::super::Urgency;
use super::case::{Case, Entity};

/// The requests of the plan that reads for each edge the shorter of its lists and gets each record, for the targets
/// that `concern` us.
pub fn naive(case: &Case, concerns: impl Fn(Urgency) -> bool) -> u64 {
    let concerns = |urgency: Option<Urgency>| urgency.is_some_and(&concerns);
    let records = case.users.iter().chain(&case.groups).filter(|entity| concerns(entity.record)).count();
    let mut users: Vec<bool> = case.users.iter().map(|user| concerns(user.list)).collect();
    let mut groups: Vec<bool> = case.groups.iter().map(|group| concerns(group.list)).collect();
    for (group, dirty) in case.dirty.iter().enumerate() {
        for user in (0..dirty.len()).filter(|user| concerns(dirty[*user])) {
            let pages = [case.pages(case.groups_of(user)), case.pages(case.members_of(group))];
            let by_user = pages[0] < pages[1] || (pages[0] == pages[1] && case.costs.groups <= case.costs.users);
            *(if by_user || !case.users[user].active { &mut users[user] } else { &mut groups[group] }) = true;
        }
    }
    records as u64 + list_requests(case, &users, &groups).iter().sum::<u64>()
}

/// The fewest requests that cover all targets, by path: of equally many, those that cost the least time.
pub fn fewest(case: &Case) -> [u64; 2] {
    let (users, groups) = (case.users.len(), case.groups.len());
    let choices = (0..1u32 << (users + groups)).map(|bits| {
        let read = |list: usize| bits & (1 << list) != 0;
        ((0..users).map(read).collect::<Vec<_>>(), (0..groups).map(|group| read(users + group)).collect::<Vec<_>>())
    });
    let plans = choices.filter(|(users, groups)| decides_all(case, users, groups)).map(|(users, groups)| {
        let of_lists = list_requests(case, &users, &groups);
        let user_is_shown = |user: usize| {
            case.users[user].active && (0..groups.len()).any(|group| groups[group] && case.members[group][user])
        };
        let group_is_shown = |group: usize| (0..users.len()).any(|user| users[user] && case.members[group][user]);
        [
            of_lists[0] + record_requests(case, &case.users, user_is_shown),
            of_lists[1] + record_requests(case, &case.groups, group_is_shown),
        ]
    });
    let time = |[users, groups]: &[u64; 2]| users * u64::from(case.costs.users) + groups * u64::from(case.costs.groups);
    plans.min_by_key(|requests| (requests.iter().sum::<u64>(), time(requests))).unwrap()
}

fn decides_all(case: &Case, users: &[bool], groups: &[bool]) -> bool {
    let lists =
        |entities: &[Entity], read: &[bool]| entities.iter().zip(read).all(|(one, read)| *read || one.list.is_none());
    let mut edges = case.dirty.iter().enumerate().flat_map(|(group, dirty)| {
        (0..dirty.len()).filter(|user| dirty[*user].is_some()).map(move |user| (group, user))
    });
    lists(&case.users, users)
        && lists(&case.groups, groups)
        && edges.all(|(group, user)| users[user] || (groups[group] && case.users[user].active))
}

/// The requests of these lists, by path.
fn list_requests(case: &Case, users: &[bool], groups: &[bool]) -> [u64; 2] {
    let of_users = (0..users.len()).filter(|user| users[*user]).map(|user| case.pages(case.groups_of(user)));
    let of_groups = (0..groups.len()).filter(|group| groups[*group]).map(|group| case.pages(case.members_of(group)));
    [of_groups.map(u64::from).sum(), of_users.map(u64::from).sum()]
}

/// The fewest gets and pages for the dirty records that are not shown, by trying every page for every one of them.
fn record_requests(case: &Case, entities: &[Entity], is_shown: impl Fn(usize) -> bool) -> u64 {
    let wanted: Vec<Option<u32>> = entities
        .iter()
        .enumerate()
        .filter(|(number, entity)| entity.record.is_some() && !is_shown(*number))
        .map(|(_, entity)| entity.rank)
        .collect();
    fewest_for(&wanted, case.page_size)
}

fn fewest_for(wanted: &[Option<u32>], page_size: u32) -> u64 {
    match wanted.split_first() {
        None => 0,
        Some((None, others)) => 1 + fewest_for(others, page_size),
        Some((Some(rank), others)) => {
            let pages = rank.saturating_sub(page_size - 1)..=*rank;
            let rest = pages.map(|first| {
                let is_left =
                    |other: &&Option<u32>| other.is_none_or(|rank| !(first..first + page_size).contains(&rank));
                fewest_for(&others.iter().filter(is_left).copied().collect::<Vec<_>>(), page_size)
            });
            1 + rest.min().unwrap()
        }
    }
}
