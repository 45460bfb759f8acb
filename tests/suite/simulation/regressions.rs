//! Histories that failed once, each in its shortest form.

use super::campaign::{on_stage, play as play_one};
use super::op::How::*;
use super::op::Op::*;
use super::op::{Doing, Op};
use crate::support::Engine;

fn histories() -> Vec<(&'static str, Vec<Op>)> {
    vec![
        (
            "a rehire, and a crash while a deletion is fetched",
            vec![
                CreateDirectory,
                CreateUser(0),
                DeliverAll,
                Fold,
                Refresh(0),
                Refresh(0),
                CreateUser(0),
                Deactivate(49, DeletedGone),
                Refresh(3),
                Deactivate(6, DeletedKept),
                Rehire(97),
                Crash(Doing::Refresh, 6, 11),
                Refresh(3),
                Fold,
                RefreshWhile(3, 0, vec![AddMember(79, 15), DeleteUser(63)]),
            ],
        ),
        (
            "a directory's deletion is received while our clock is slow, and seems older than its making",
            vec![CreateDirectory, DeliverAll, Fold, ClockOff(-600_000), DeleteDirectory(6), DeliverAll],
        ),
        (
            "a directory is replaced while our clock is slow",
            vec![CreateDirectory, DeliverAll, Fold, ReplaceDirectory(4), ClockOff(-600_000), Poll],
        ),
        (
            "a directory is deleted while it is disabled",
            vec![CreateDirectory, Deliver(72), Fold, Disable(4), ReplaceDirectory(6), DeliverAll, Fold],
        ),
        (
            "a directory is deleted while its truth is fetched, and then disabled",
            vec![
                CreateDirectory,
                DeliverAll,
                Fold,
                RefreshWhile(6, 0, vec![DeleteDirectory(4)]),
                Deliver(24),
                Disable(7),
                Fold,
            ],
        ),
        (
            "a directory's deletion, received while our clock is slow, seems older than its truth",
            vec![CreateDirectory, DeliverAll, Fold, Refresh(0), ClockOff(-600_000), DeleteDirectory(6), DeliverAll],
        ),
        (
            "a group is fetched, then its making is told, and then a replica lags that does not know it",
            vec![
                CreateDirectory,
                CreateUser(0),
                Pass(600_000),
                CreateGroup(5),
                Crash(Doing::Receive, 0, 41),
                Deactivate(22, DeletedGone),
                Pass(5),
                Crash(Doing::Fold, 6, 32),
                RefreshWhile(2, 0, vec![RemoveMember(57, 43), Fold, Redeliver(82), Fold]),
                Poll,
                RefreshWhile(8, 2, vec![Drop(12)]),
                Refresh(6),
                Fold,
                Enable(8),
                Lag(3000),
                RefreshPatiently(8),
            ],
        ),
        (
            "a lagging 404 about somebody who was made and deleted, but kept, a moment ago",
            vec![
                ReconcileOff,
                CreateDirectory,
                CreateUser(0),
                DeliverAll,
                Fold,
                Refresh(0),
                Refresh(0),
                Deactivate(43, DeletedKept),
                Poll,
                Lag(1000),
                Fold,
                Refresh(6),
            ],
        ),
        (
            "a membership is told of somebody who was deleted, but kept, while a replica does not know the person yet",
            vec![
                CreateDirectory,
                CreateUser(0),
                DeliverAll,
                Fold,
                Refresh(0),
                Refresh(0),
                Refresh(0),
                Deactivate(66, DeletedKept),
                CreateGroup(5),
                Lag(20000),
                AddMember(73, 6),
                DeliverAll,
                Refresh(2),
                Fold,
                Refresh(4),
            ],
        ),
        (
            "somebody who was deactivated, came back and left, and a replica that shows the one after the other",
            vec![
                CreateDirectory,
                CreateUser(0),
                Deactivate(68, DeletedKept),
                Pass(61000),
                Reactivate(81),
                RefreshPatiently(7),
                RefreshPatiently(7),
                Deactivate(14, DeletedGone),
                Poll,
                Lag(20000),
                RefreshPatiently(1),
                Fold,
                RefreshPatiently(0),
            ],
        ),
        (
            "an event from before a directory's deletion that was announced while the directory was disabled",
            vec![
                CreateDirectory,
                CreateUser(0),
                Deliver(44),
                Drop(59),
                Pass(25200000),
                Fold,
                RefreshPatiently(6),
                DeleteDirectory(8),
                Disable(6),
                DeliverAll,
                Fold,
            ],
        ),
        (
            "a user and a group are deleted together, and each one's list is to show the other",
            vec![
                PollerOff,
                LoseHalf(360),
                CreateDirectory,
                CreateUser(0),
                CreateGroup(0),
                AddMember(0, 0),
                UpdateUser(64),
                Deliver(35),
                DeleteUser(93),
                Fold,
                DeleteGroup(96),
                Drop(50),
            ],
        ),
        (
            "a directory is deleted, and told of 95 days later while our clock is slow",
            vec![
                CreateDirectory,
                CreateUser(0),
                Lag(1000),
                Pass(8_208_000_000),
                Poll,
                ClockOff(-600_000),
                DeleteDirectory(6),
                Deliver(2),
                Fold,
                Refresh(7),
            ],
        ),
        (
            "a directory's making and its deletion are told of 95 days later",
            vec![CreateDirectory, DeleteDirectory(5), Pass(8_208_000_000)],
        ),
        (
            "a membership ends and begins again within one millisecond, and the end is verified in between",
            vec![
                CreateDirectory,
                CreateUser(0),
                CreateGroup(0),
                AddMember(0, 0),
                DeliverAll,
                Fold,
                Refresh(0),
                Refresh(0),
                Refresh(0),
                RemoveMember(6, 72),
                Deliver(81),
                Fold,
                Refresh(0),
                AddMember(61, 51),
            ],
        ),
        (
            "a lagging group is accepted, and the same replica answers once more before the second look",
            vec![
                CreateDirectory,
                CreateUser(0),
                CreateGroup(0),
                AddMember(0, 0),
                Pass(61_000),
                RemoveMember(80, 18),
                RenameGroup(8),
                DeliverAll,
                Lag(20_000),
                Fold,
                RefreshPatiently(2),
            ],
        ),
        (
            "somebody is deleted while our clock is slow, and a replica lags",
            vec![
                CreateDirectory,
                CreateUser(0),
                ClockOff(-600_000),
                Lag(3000),
                Deliver(55),
                Pass(4000),
                DeleteUser(45),
                Deliver(83),
                Fold,
                Crash(Doing::Refresh, 0, 50),
                Refresh(5),
            ],
        ),
    ]
}

pub fn play(engine: Engine) {
    on_stage(engine, async |stage| {
        for (name, ops) in histories() {
            assert_eq!(play_one(stage, &ops).await, Ok(()), "{name}");
        }
    });
}
