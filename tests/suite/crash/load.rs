//! A company that never stops changing.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinHandle;
use workos_emulator::{Deactivation, DeliveryOutcome, Emulator, NewDirectory, NewUser, UserChange};

use crate::simulation::Random;

/// Events that wait for their delivery before the company holds its breath.
const MOST_PENDING: usize = 300;
const DIRECTORIES: usize = 3;

/// The load, until it is stopped.
pub struct Load(JoinHandle<()>);

impl Load {
    /// Begins: about 60 changes a second, always the same for a seed.
    pub fn start(emulator: &Emulator, seed: u64) -> Self {
        let mut company = Company::found(emulator.clone(), seed);
        Self(tokio::spawn(async move {
            // The pace of the load, not a wait for something to happen.
            let mut pace = tokio::time::interval(Duration::from_millis(15));
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut holds = false;
            for number in 0_usize.. {
                pace.tick().await;
                if number.is_multiple_of(32) {
                    holds = pending(&company.emulator) > MOST_PENDING;
                }
                if !holds {
                    company.change(number);
                }
            }
        }))
    }

    pub fn stop(&self) {
        self.0.abort();
    }
}

fn pending(emulator: &Emulator) -> usize {
    emulator.deliveries().iter().filter(|delivery| delivery.outcome == DeliveryOutcome::Pending).count()
}

/// The ids of all events that were answered with 200.
pub fn acknowledged(emulator: &Emulator) -> BTreeSet<String> {
    let deliveries = emulator.deliveries().into_iter();
    deliveries
        .filter(|delivery| delivery.outcome == DeliveryOutcome::Acknowledged)
        .map(|delivery| delivery.event_id)
        .collect()
}

struct Company {
    emulator: Emulator,
    random: Random,
    directories: Vec<Directory>,
}

struct Directory {
    id: String,
    groups: Vec<String>,
    users: Vec<String>,
    away: Vec<String>,
}

impl Company {
    fn found(emulator: Emulator, seed: u64) -> Self {
        let directory = |number| {
            let id = emulator.create_directory(NewDirectory::named(&format!("Company {number}")));
            let groups = (0..4).map(|group| emulator.create_group(&id, &format!("Team {group}")).unwrap()).collect();
            Directory { id, groups, users: Vec::new(), away: Vec::new() }
        };
        let directories = (0..DIRECTORIES).map(directory).collect();
        Self { emulator, random: Random(seed), directories }
    }

    fn change(&mut self, number: usize) {
        let random = &mut self.random;
        let directory = &mut self.directories[random.below(DIRECTORIES)];
        let emulator = &self.emulator;
        if directory.users.len() < 10 {
            let new = NewUser::named("Ada", &number.to_string(), "a.example");
            return directory.users.push(emulator.create_user(&directory.id, new).unwrap());
        }
        let at = random.below(directory.users.len());
        let user = directory.users[at].clone();
        let group = &directory.groups[random.below(directory.groups.len())];
        match random.below(20) {
            0..=7 => {
                let job_title = Some(format!("Title {number}"));
                emulator.update_user(&user, UserChange { job_title, ..UserChange::default() }).unwrap();
            }
            8..=11 => drop(emulator.add_member(group, &user).unwrap()),
            12..=14 => drop(emulator.remove_member(group, &user).unwrap()),
            15 if directory.users.len() < 200 => {
                let new = NewUser::named("Bob", &number.to_string(), "a.example");
                directory.users.push(emulator.create_user(&directory.id, new).unwrap());
            }
            15 => {
                emulator.deactivate_user(&user, Deactivation::DeletedGone).unwrap();
                directory.users.swap_remove(at);
            }
            16 => {
                emulator.deactivate_user(&user, Deactivation::UpdatedInactive).unwrap();
                directory.away.push(directory.users.swap_remove(at));
            }
            17 => {
                if let Some(back) = directory.away.pop() {
                    emulator.reactivate_user(&back).unwrap();
                    directory.users.push(back);
                }
            }
            18 => emulator.rename_group(group, &format!("Team {number}")).unwrap(),
            _ => {
                // An event that was delivered long ago comes once more.
                let events = emulator.events();
                let again = &events[random.below(events.len())].id;
                assert!(emulator.redeliver(again));
            }
        }
    }
}
