//! The planner, by table and by property.

mod case;
mod reference;
mod table;

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::choice::Effort;
use super::cover::lightest_cover;
use super::*;
use case::{Statement, any_case};

const ALL: fn(Urgency) -> bool = |_| true;
/// No plan of a small directory was ever seen to need more than this share of the fewest requests.
const FACTOR: f64 = 1.5;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_target_is_covered_once_by_a_move_that_decides_it(case in any_case(3)) {
        let names = case.names();
        let plan = plan(case.work(case.statements(&names)));
        let mut open: BTreeSet<Target<'_>> = case.targets(&names).into_iter().map(|(target, _)| target).collect();
        for planned in &plan.moves {
            prop_assert!(!planned.covers.is_empty(), "{planned:?} is there for nothing");
            for target in &planned.covers {
                prop_assert!(case.decides(&names, &planned.step, target), "{planned:?} does not decide {target:?}");
                prop_assert!(open.remove(target), "{target:?} is covered twice or is not dirty");
            }
        }
        prop_assert!(open.is_empty(), "{open:?} is not covered");
    }

    #[test]
    fn lists_are_counted_by_their_pages_and_requests_by_their_path(case in any_case(3)) {
        let names = case.names();
        let plan = plan(case.work(case.statements(&names)));
        let (mut users, mut groups) = (0, 0);
        for planned in &plan.moves {
            match planned.step {
                Move::GetUser(_) | Move::UserPage { .. } => users += 1,
                Move::GetGroup(_) | Move::GroupPage { .. } => groups += 1,
                Move::GroupsOfUser { user, pages } => {
                    let user = names.users.iter().position(|name| name == user).unwrap();
                    prop_assert_eq!(pages, case.pages(case.groups_of(user)));
                    groups += u64::from(pages);
                }
                Move::MembersOfGroup { group, pages } => {
                    let group = names.groups.iter().position(|name| name == group).unwrap();
                    prop_assert_eq!(pages, case.pages(case.members_of(group)));
                    users += u64::from(pages);
                }
            }
        }
        prop_assert_eq!(plan.requests, Requests { users, groups });
    }

    #[test]
    fn a_plan_never_costs_more_than_the_naive_one(case in any_case(3), steps in prop_oneof![Just(u64::MAX), 0..200u64]) {
        let names = case.names();
        let effort = Effort { cover: steps, improve: steps };
        let plan = with_effort(case.work(case.statements(&names)), effort);
        let naive = reference::naive(&case, ALL);
        prop_assert!(plan.requests.total() <= naive, "{} instead of {naive}", plan.requests.total());
    }

    #[test]
    fn a_plan_is_near_the_best_one(case in any_case(0)) {
        let names = case.names();
        let plan = plan(case.work(case.statements(&names)));
        let fewest: u64 = reference::fewest(&case).iter().sum();
        let needs = plan.requests.total();
        prop_assert!(needs >= fewest, "{needs}, though {fewest} is the fewest possible");
        prop_assert!(needs as f64 <= fewest as f64 * FACTOR, "{needs} instead of {fewest}");
    }

    #[test]
    fn edges_or_records_alone_are_planned_best(mut case in any_case(0), edges in any::<bool>()) {
        if edges {
            case.users.iter_mut().chain(&mut case.groups).for_each(|entity| entity.record = None);
        } else {
            case.users.iter_mut().chain(&mut case.groups).for_each(|entity| entity.list = None);
            case.dirty.iter_mut().flatten().for_each(|urgency| *urgency = None);
            case.members.iter_mut().flatten().for_each(|member| *member = false);
        }
        let names = case.names();
        let plan = plan(case.work(case.statements(&names)));
        let [users, groups] = reference::fewest(&case);
        prop_assert_eq!(plan.requests.total(), users + groups);
        prop_assert_eq!(plan.requests.users, users, "of equally many requests, those that take the least time");
    }

    #[test]
    fn a_cover_that_is_cut_short_weighs_at_most_twice_the_lightest(
        edges in prop::collection::btree_set((0..8u32, 8..16u32), 1..30),
        weights in prop::collection::vec(1..6u64, 16),
        steps in 0..60u64,
    ) {
        let edges: Vec<(u32, u32)> = edges.into_iter().collect();
        let weigh = |lists: &[u32]| lists.iter().map(|list| weights[*list as usize]).sum::<u64>();
        let covers = |lists: &[u32]| edges.iter().all(|(user, group)| lists.contains(user) || lists.contains(group));
        let (cut, lightest) = (lightest_cover(&edges, &weights, steps), lightest_cover(&edges, &weights, u64::MAX));
        prop_assert!(covers(&cut) && covers(&lightest));
        prop_assert!(weigh(&cut) <= 2 * weigh(&lightest));
        // Of every choice of users, the groups follow.
        let choices = (0..1u32 << 8).map(|bits| {
            let users = (0..8).filter(|user| bits & (1 << user) != 0);
            let is_left = |edge: &&(u32, u32)| bits & (1 << edge.0) == 0;
            let groups: BTreeSet<u32> = edges.iter().filter(is_left).map(|edge| edge.1).collect();
            weigh(&users.chain(groups).collect::<Vec<_>>())
        });
        prop_assert_eq!(Some(weigh(&lightest)), choices.min());
    }

    #[test]
    fn a_page_is_expected_to_cover_at_least_two(case in any_case(3)) {
        let names = case.names();
        for planned in plan(case.work(case.statements(&names))).moves {
            if matches!(planned.step, Move::UserPage { .. } | Move::GroupPage { .. }) {
                prop_assert!(planned.covers.len() >= 2, "{planned:?}");
            }
        }
    }

    #[test]
    fn neither_order_nor_repetition_of_the_input_matters(
        (case, order) in any_case(3).prop_flat_map(|case| {
            let statements = case.statements(&case.names()).len();
            (Just(case), Just((0..2 * statements).collect::<Vec<_>>()).prop_shuffle())
        }),
    ) {
        let names = case.names();
        let statements = case.statements(&names);
        let mut twice = statements.clone();
        // Of two words on urgency the graver counts.
        twice.extend(statements.iter().cloned().map(|statement| match statement {
            Statement::Add(target, _) => Statement::Add(target, Urgency::Ordinary),
            other => other,
        }));
        let shuffled = plan(case.work(order.into_iter().map(|number| twice[number].clone())));
        prop_assert_eq!(shuffled, plan(case.work(statements)));
    }

    #[test]
    fn revocations_come_first_and_wait_for_no_more_than_their_naive_plan(case in any_case(3)) {
        let names = case.names();
        let revoked = |target: &Target<'_>| case.targets(&names).contains(&(*target, Urgency::Revocation));
        let moves = plan(case.work(case.statements(&names))).moves;
        let first = moves.iter().take_while(|planned| planned.covers.iter().any(revoked)).count();
        for planned in &moves[first..] {
            prop_assert!(!planned.covers.iter().any(revoked), "{planned:?} comes late");
        }
        let requests: u64 = moves[..first].iter().map(|planned| u64::from(planned.step.requests())).sum();
        let naive = reference::naive(&case, |urgency| urgency == Urgency::Revocation);
        prop_assert!(requests <= naive, "{requests} requests for revocations that need {naive}");
    }
}

#[test]
fn a_cover_is_cut_short_when_its_steps_run_out() {
    assert_eq!(lightest_cover(&[(0, 1)], &[1, 1], 0), [0, 1], "both lists are full");
    assert_eq!(lightest_cover(&[(0, 1)], &[1, 1], u64::MAX).len(), 1);
}

#[test]
fn nearly_every_plan_is_the_best_one() {
    let mut runner = TestRunner::deterministic();
    let cases = 1_500;
    let best = (0..cases).filter(|_| {
        let case = any_case(0).new_tree(&mut runner).unwrap().current();
        let names = case.names();
        plan(case.work(case.statements(&names))).requests.total() == reference::fewest(&case).iter().sum::<u64>()
    });
    let best = best.count();
    assert!(best * 1_000 >= cases * 999, "{best} of {cases}");
}
