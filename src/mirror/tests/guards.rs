//! What guards truth, by property: over random sequences of hints and answers.

use std::collections::BTreeMap;

use super::steps::*;
use super::*;
use crate::model::Mark;

proptest! {
    #[test]
    fn an_overtaken_answer_writes_nothing(steps in any_steps()) {
        play(&steps, |_, step, before, after, applied| {
            let (Step::Truth { said, .. }, Some((context, verdict))) = (step, applied) else { return };
            let mark = before.marks.get(&target_of(said));
            if number_of_last_truth(before, said) >= context.number || mark.is_some_and(|mark| mark.version > context.number) {
                assert_eq!(verdict, Verdict::Superseded);
            }
            if verdict != Verdict::Accepted {
                assert_eq!(written(before), written(after), "{verdict:?}");
            }
        });
    }

    #[test]
    fn an_answer_touches_no_mark_that_is_newer_than_its_request(steps in any_steps()) {
        play(&steps, |_, _, before, after, applied| {
            let Some((context, _)) = applied else { return };
            let newer = |set: &WorkingSet| -> BTreeMap<MarkTarget, Mark> {
                set.marks.clone().into_iter().filter(|(_, mark)| mark.version > context.number).collect()
            };
            assert_eq!(newer(before), newer(after));
        });
    }

    /// Lists are answered outside these sequences, and an id of another directory is cleared without being looked at.
    #[test]
    fn a_mark_goes_only_with_a_request_that_was_sent_after_it(version in 1..50i64, number in 1..50i64) {
        let mut set = empty();
        let targets = [MarkTarget::UserGroups(user_id(1)), MarkTarget::User(user_id(1))];
        targets.iter().for_each(|target| set.mark(target.clone(), version, at(0)));
        set.clear_mark(&targets[0], number);
        set.user(&user_id(1)).foreign = true;
        user_truth(&mut set, &user_id(1), Answer::Gone, &truth(number, 1));
        for target in targets {
            prop_assert_eq!(set.marks.contains_key(&target), version > number);
            prop_assert_eq!(set.marks_cleared.contains_key(&target), version <= number);
        }
    }

    #[test]
    fn a_removal_creates_and_revives_nothing(steps in any_steps()) {
        play(&steps, |_, step, before, after, _| {
            let Step::Hint(hint) = step else { return };
            if !hint.change.removes() {
                return;
            }
            for id in everybody() {
                assert!(user_row(before, &id).is_some() || user_row(after, &id).is_none());
                assert!(is_active(before, &id) || !is_active(after, &id));
            }
            for id in all_groups() {
                assert!(is_live(before, &id) || !is_live(after, &id));
            }
            for key in all_edges() {
                assert!(is_present(before, &key) || !is_present(after, &key));
            }
            assert!(before.directory.row.is_some() || after.directory.row.is_none());
        });
    }

    /// Who is away comes back only by a hint that is newer than all others and than the last truth, or by an answer.
    #[test]
    fn a_stale_hint_revives_nobody(steps in any_steps()) {
        play(&steps, |_, step, before, after, _| {
            let Step::Hint(hint) = step else { return };
            for id in everybody().filter(|id| !is_active(before, id) && is_active(after, id)) {
                let memory = before.users.get(&id).map(|entity| entity.memory.clone()).unwrap_or_default();
                assert!(!memory.truth_is_newer_than(hint.key.at), "older than the truth");
                let was_removed = memory.hint.as_ref().is_some_and(|newest| newest.removes);
                if was_removed {
                    assert!(memory.hint.as_ref() < Some(&hint.key), "older than the removal");
                    assert_eq!(newest_hint_of_user(after, &id).as_ref(), Some(&hint.key), "revived by news of another");
                }
            }
            for key in all_edges().filter(|key| !is_present(before, key) && is_present(after, key)) {
                let memory = before.edges.get(&key).map(|edge| edge.memory.clone()).unwrap_or_default();
                assert!(memory.truth_at.is_none_or(|truth| truth <= hint.key.at), "older than the truth");
                assert!(memory.hint.as_ref() < Some(&hint.key), "older than the newest hint");
            }
            for id in all_groups().filter(|id| !is_live(before, id) && is_live(after, id)) {
                let memory = before.groups.get(&id).map(|entity| entity.memory.clone()).unwrap_or_default();
                assert!(!memory.truth_is_newer_than(hint.key.at), "older than the truth");
                if memory.hint.as_ref().is_some_and(|newest| newest.removes) {
                    assert!(memory.hint.as_ref() < Some(&hint.key), "older than the removal");
                    assert_eq!(after.groups[&id].memory.hint.as_ref(), Some(&hint.key), "revived by news of another");
                }
            }
            assert!(!is_deleted(before) || is_deleted(after), "no hint brings a deleted directory back");
        });
    }

    #[test]
    fn a_hint_from_before_the_truth_changes_no_row(steps in any_steps()) {
        play(&steps, |_, step, before, after, _| {
            let Step::Hint(hint) = step else { return };
            if is_deleted(after) {
                return;
            }
            for id in everybody() {
                if before.users.get(&id).is_some_and(|entity| entity.memory.truth_is_newer_than(hint.key.at)) {
                    assert_eq!(user_row(before, &id), user_row(after, &id));
                }
            }
            for id in all_groups() {
                if before.groups.get(&id).is_some_and(|entity| entity.memory.truth_is_newer_than(hint.key.at)) {
                    assert_eq!(group_row(before, &id), group_row(after, &id));
                }
            }
        });
    }

    #[test]
    fn whom_the_newest_hint_took_away_only_an_accepted_answer_lets_in(steps in any_steps()) {
        let mut let_in: BTreeMap<DirectoryUserId, HintKey> = BTreeMap::new();
        play(&steps, |_, step, _, after, applied| {
            if let (Step::Truth { said: Said::User(number, Some(_)), .. }, Some((_, Verdict::Accepted))) = (step, applied)
                && let Some(hint) = newest_hint_of_user(after, &user_id(*number))
            {
                let_in.insert(user_id(*number), hint);
            }
            for id in everybody().filter(|id| is_active(after, id)) {
                if let Some(hint) = newest_hint_of_user(after, &id).filter(|hint| hint.removes) {
                    let memory = &after.users[&id].memory;
                    let known = let_in.get(&id) == Some(&hint) || memory.truth_is_newer_than(hint.at);
                    assert!(known, "{id} is active, though {hint:?} is the newest word");
                }
            }
        });
    }

    #[test]
    fn an_accepted_answer_is_shown_and_resets_the_stamps(steps in any_steps()) {
        play(&steps, |_, step, _, after, applied| {
            let (Step::Truth { said, .. }, Some((context, Verdict::Accepted))) = (step, applied) else { return };
            match said {
                Said::User(number, record) => {
                    let entity = &after.users[&user_id(*number)];
                    let row = entity.row.clone();
                    assert_eq!(row.as_ref().is_some_and(|row| row.deleted_at.is_none()), record.is_some());
                    assert_eq!((entity.memory.truth_number, entity.memory.truth_at), (context.number, Some(context.sent_at)));
                    if let Some((record, row)) = record.as_ref().zip(row) {
                        assert_eq!(row.state, UserState::from_source(&record.state));
                        assert!(row.verified_at.is_some() && row.record == *record);
                        let stamp = entity.memory.snapshot.clone().unwrap();
                        assert_eq!((stamp.updated_at, stamp.event_id), (record.updated_at, None));
                    }
                }
                Said::Group(number, record) => {
                    assert_eq!(is_live(after, &group_id(*number)), record.is_some());
                    if let Some(record) = record {
                        let entity = &after.groups[&group_id(*number)];
                        assert_eq!(&entity.row.as_ref().unwrap().record, record);
                        assert_eq!(entity.memory.snapshot.as_ref().unwrap().event_id, None);
                    }
                }
                Said::Edge(group, user, listed) => {
                    let key = (group_id(*group), user_id(*user));
                    assert_eq!(is_present(after, &key), *listed && after.has_both_ends(&key));
                }
                Said::Directory(_) => {}
            }
        });
    }

    /// A snapshot that the API has not confirmed, and a membership that nobody but a hint told of, are always marked.
    #[test]
    fn what_is_shown_unconfirmed_is_marked(steps in any_steps()) {
        play(&steps, |_, _, _, after, _| {
            let lives = !is_deleted(after);
            for id in everybody() {
                let unconfirmed = user_row(after, &id).is_some_and(|row| row.verified_at.is_none());
                assert!(!unconfirmed || !lives || after.marks.contains_key(&MarkTarget::User(id.clone())), "{id}");
            }
            for id in all_groups() {
                let unconfirmed = group_row(after, &id).is_some_and(|row| row.verified_at.is_none());
                assert!(!unconfirmed || !lives || after.marks.contains_key(&MarkTarget::Group(id.clone())), "{id}");
            }
            for key in all_edges().filter(|key| is_present(after, key)) {
                let told = after.edges[&key].memory.truth_number > 0;
                let marked = after.marks.contains_key(&MarkTarget::Edge(key.0.clone(), key.1.clone()));
                assert!(told || marked, "{key:?}");
            }
        });
    }

    /// Answers may come back in any order: that of the last request stands, unless it is of an older time than another.
    #[test]
    fn of_several_answers_that_of_the_last_request_stands(
        (answers, order) in prop::collection::vec(any_said(), 1..12).prop_flat_map(|answers| {
            let order = (0..answers.len()).collect::<Vec<_>>();
            let answers = answers.into_iter().zip(0..).map(|(said, updated)| of_time(said, updated)).collect::<Vec<_>>();
            (Just(answers), Just(order).prop_shuffle())
        }),
    ) {
        let mut set = empty();
        let mut last: BTreeMap<MarkTarget, (i64, Said)> = BTreeMap::new();
        for place in order {
            let said = &answers[place];
            let (number, sent_at) = (number_of(place), time_of(place));
            let context = TruthContext { number, sent_at, asked_at: at(100), now: at(100), applied_under: number };
            apply(&mut set, said, &context);
            let entry = last.entry(target_of(said)).or_insert((0, said.clone()));
            if entry.0 < number_of(place) {
                *entry = (number_of(place), said.clone());
            }
        }
        let directory_went = answers.iter().any(|said| matches!(said, Said::Directory(false)));
        for (_, said) in last.values() {
            match said {
                Said::User(number, record) => {
                    let row = user_row(&set, &user_id(*number)).filter(|row| row.deleted_at.is_none());
                    prop_assert!(directory_went || row.map(|row| row.record) == *record);
                }
                Said::Group(number, record) => {
                    let row = group_row(&set, &group_id(*number)).filter(|row| row.deleted_at.is_none());
                    prop_assert!(directory_went || row.map(|row| row.record) == *record);
                }
                Said::Edge(..) | Said::Directory(_) => {}
            }
        }
    }
}
