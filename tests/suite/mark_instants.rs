//! A mark remembers when it was first set, and when the hint was received that set it.

use chrono::TimeDelta;
use directory_mirror::clock::Timestamp;
use directory_mirror::db::working_set;
use directory_mirror::mirror::{Touched, WorkingSet};
use directory_mirror::model::{DirectoryId, DirectoryUserId, MarkTarget};

use crate::support::{Engine, Scene, on_both_engines};

on_both_engines!(a_mark_keeps_when_it_was_first_set);

async fn a_mark_keeps_when_it_was_first_set(engine: Engine) {
    let mut scene = Scene::set(engine).await;
    scene.variables.retain(|(name, _)| *name != "WORKOS_API_KEY");
    scene.start_service().await;
    let db = scene.service().db();
    let directory = DirectoryId::from_stored("directory_1".to_owned());
    let target = MarkTarget::User(DirectoryUserId::from_stored("directory_user_1".to_owned()));
    let touched =
        Touched { users: [DirectoryUserId::from_stored("directory_user_1".to_owned())].into(), ..Touched::default() };
    let at = |seconds| Timestamp::UNIX_EPOCH + TimeDelta::seconds(seconds);
    let write = async |loads: bool, now: i64, change: &dyn Fn(&mut WorkingSet)| {
        let mut transaction = db.begin_in_background().await.unwrap();
        let connection = transaction.connection();
        let mut set = if loads {
            working_set::load(connection, &directory, &touched).await.unwrap()
        } else {
            WorkingSet::empty(directory.clone())
        };
        change(&mut set);
        working_set::save(connection, &set, at(now)).await.unwrap();
        transaction.commit().await.unwrap();
        let marks = db.due_marks(&directory, at(1000), 10).await.unwrap();
        assert!(!loads || marks == set.marks.into_values().collect::<Vec<_>>(), "{marks:?}");
        (marks[0].version, marks[0].set_at, marks[0].hinted_at)
    };
    let hinted = |received: i64, version: i64, now: i64| {
        let target = &target;
        move |set: &mut WorkingSet| {
            set.hinted_at = Some(at(received));
            set.mark(target.clone(), version, at(now));
        }
    };
    assert_eq!(write(true, 10, &hinted(9, 1, 10)).await, (1, at(10), Some(at(9))));
    assert_eq!(write(true, 20, &hinted(19, 2, 20)).await, (2, at(10), Some(at(9))), "set again, and never clear");
    let answered = |set: &mut WorkingSet| {
        set.clear_mark(&target, 2);
        assert_eq!(set.marks_cleared[&target].hinted_at, Some(at(9)));
        set.mark(target.clone(), 3, at(30));
    };
    assert_eq!(write(true, 30, &answered).await, (3, at(30), None), "cleared, and set by no hint");
    let scanned = |set: &mut WorkingSet| set.mark(target.clone(), 4, at(40));
    assert_eq!(write(false, 40, &scanned).await, (4, at(30), None), "set by who did not load it");
    assert_eq!(write(true, 50, &hinted(49, 5, 50)).await, (5, at(30), Some(at(49))));
    let late = |set: &mut WorkingSet| {
        set.clear_mark(&target, 4);
        assert!(set.marks_cleared.is_empty());
    };
    assert_eq!(
        write(true, 60, &late).await,
        (5, at(30), Some(at(49))),
        "an answer from before the mark clears nothing"
    );
    scene.stop().await;
}
