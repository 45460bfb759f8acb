//! `kill -9` of the real process while events arrive. `CRASH_ROUNDS` and `CRASH_EVENTS` make it longer.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use workos_emulator::{Deactivation, DeliveryOutcome, NewDirectory, NewUser, UserChange};

use crate::outage::number;
use crate::support::{Engine, PATIENCE, SECRET, Scene, on_both_engines, wait_until};

on_both_engines!(nothing_acknowledged_is_lost);

struct Process(Child);

impl Process {
    fn start(scene: &Scene, address: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_directory-mirror"));
        command.arg("serve").env_clear().current_dir(std::env::temp_dir()).stderr(Stdio::null()).stdin(Stdio::null());
        command.envs(scene.variables.iter().map(|(name, value)| (*name, value.as_str())));
        Self(command.env("BIND_ADDR", address).env("RUST_LOG", "off").spawn().unwrap())
    }

    fn kill(mut self) {
        // SIGKILL: the process can do nothing about it.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

async fn nothing_acknowledged_is_lost(engine: Engine) {
    let mut scene = Scene::set(engine).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    scene.emulator.register_endpoint(&format!("http://{free}/api/webhooks/workos/directory-sync"), SECRET);
    let (rounds, events) = (number("CRASH_ROUNDS", 3), number("CRASH_EVENTS", 600));
    let directory = scene.emulator.create_directory(NewDirectory::named("Acme"));
    let groups: Vec<String> =
        (0..5).map(|group| scene.emulator.create_group(&directory, &format!("Team {group}")).unwrap()).collect();
    let mut users: Vec<String> = Vec::new();
    let (mut emitted, mut changes) = (0, 0);
    for round in 0..rounds {
        let process = Process::start(&scene, &free);
        let acknowledged_before = acknowledged(&scene).len();
        while emitted < events * (round + 1) / rounds {
            emitted += usize::from(change(&scene, &directory, &groups, &mut users, changes));
            changes += 1;
        }
        // Dies in the middle of it: as soon as some more events are acknowledged, and not when all are.
        let some = wait_until(PATIENCE, async || acknowledged(&scene).len() > acknowledged_before + 20).await;
        assert!(some, "the process acknowledges nothing in round {round}");
        process.kill();
    }
    let kept = acknowledged(&scene);
    scene.start_service().await;
    let stored: BTreeSet<String> =
        scene.service().db().event_outcomes().await.unwrap().into_iter().map(|(id, ..)| id).collect();
    let lost: Vec<&String> = kept.difference(&stored).collect();
    assert!(lost.is_empty(), "{} acknowledged events are lost: {lost:?}", lost.len());
    // What was not acknowledged is still being retried, to the old address: a process takes it, and then we look.
    scene.service.take().unwrap().stop().await;
    let process = Process::start(&scene, &free);
    assert!(scene.emulator.wait_for_deliveries(Duration::from_secs(300)).await, "events are not delivered");
    process.kill();
    scene.start_service().await;
    scene.settle().await;
    println!(
        "{engine:?}: {rounds} kills, {} events acknowledged, none lost, the mirror is equal",
        acknowledged(&scene).len()
    );
    scene.stop().await;
}

fn acknowledged(scene: &Scene) -> BTreeSet<String> {
    let deliveries = scene.emulator.deliveries().into_iter();
    deliveries
        .filter(|delivery| delivery.outcome == DeliveryOutcome::Acknowledged)
        .map(|delivery| delivery.event_id)
        .collect()
}

/// The same history in each run: mostly hires and memberships, now and then a leaver. Answers whether an event came of it.
fn change(scene: &Scene, directory: &str, groups: &[String], users: &mut Vec<String>, number: usize) -> bool {
    let emulator = &scene.emulator;
    let pick = |salt: usize, length: usize| (number * 7919 + salt * 104_729) % length;
    if users.len() < 20 || number.is_multiple_of(5) {
        users.push(emulator.create_user(directory, NewUser::named("Ada", &number.to_string(), "a.example")).unwrap());
        return true;
    }
    let user = users[pick(1, users.len())].clone();
    let group = &groups[pick(2, groups.len())];
    match number % 5 {
        1 | 2 => emulator.add_member(group, &user).unwrap(),
        3 if number % 25 == 3 => {
            emulator.deactivate_user(&user, Deactivation::DeletedGone).unwrap();
            users.retain(|known| *known != user);
            true
        }
        3 => emulator.remove_member(group, &user).unwrap(),
        _ => {
            let change = UserChange { job_title: Some(format!("Title {number}")), ..UserChange::default() };
            emulator.update_user(&user, change).unwrap();
            true
        }
    }
}
