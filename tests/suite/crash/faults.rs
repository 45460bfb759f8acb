//! What strikes: each fault begins, lasts, and is over; then the service has to come back by itself.

use std::time::Duration;

use futures_util::future::join_all;
use workos_emulator::DeliveryOutcome;

use super::clients::{self, Slowness};
use super::server::StopMode;
use super::{LARGE_BODIES_MIB, Play};
use crate::simulation::Random;
use crate::support::{Engine, PATIENCE, wait_until};

/// The faults, each with its own measure.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// `kill -9`, and a new process at once.
    Kill,
    /// `kill -9`, and once more while the next process starts.
    KillTwice(Duration),
    /// SIGSTOP, and SIGCONT after a while. Senders give up meanwhile and send again.
    Pause(Duration),
    /// PostgreSQL is stopped, and started again after a while.
    StopDatabase(StopMode, Duration),
    /// Nothing can be written any more.
    FullDisk,
    /// Clients hang up in the middle of a request, or before its answer.
    HangUps,
    /// Clients hold connections open, with half a request or less.
    SlowClients,
    /// Many large bodies at once.
    LargeBodies,
}

impl Fault {
    /// Every fault that the engine and this machine know, in a random order.
    pub fn deck(random: &mut Random, engine: Engine, small_disk: bool) -> Vec<Self> {
        let mut millis = |least, most: usize| Duration::from_millis((least + random.below(most - least)) as u64);
        let mut deck = vec![
            Self::Kill,
            Self::KillTwice(millis(1, 150)),
            Self::Pause(millis(100, 2500)),
            Self::HangUps,
            Self::SlowClients,
            Self::LargeBodies,
        ];
        if engine == Engine::Postgres {
            deck.push(Self::StopDatabase(StopMode::Fast, millis(1, 1500)));
            deck.push(Self::StopDatabase(StopMode::Immediate, millis(1, 1500)));
        }
        if engine == Engine::Sqlite || small_disk {
            deck.push(Self::FullDisk);
        }
        for at in (1..deck.len()).rev() {
            deck.swap(at, random.below(at + 1));
        }
        deck
    }

    /// Strikes, and is over when this returns.
    pub async fn strike(self, play: &mut Play) {
        match self {
            Self::Kill => play.restart(),
            Self::KillTwice(after) => {
                play.restart();
                tokio::time::sleep(after).await;
                play.restart();
            }
            Self::Pause(span) => {
                play.process.signal("STOP");
                tokio::time::sleep(span).await;
                play.process.signal("CONT");
            }
            Self::StopDatabase(mode, span) => {
                let server = play.server.as_ref().unwrap();
                server.stop(mode).await;
                tokio::time::sleep(span).await;
                server.start().await;
            }
            Self::FullDisk => full_disk(play).await,
            Self::HangUps => {
                let events = play.emulator.events();
                let clients = (0..60).map(|_| (play.random.below(events.len().min(200)), play.random.below(1001)));
                let clients: Vec<_> = clients.collect();
                let hang_up = |(back, share): (usize, usize)| {
                    let body = &events[events.len() - 1 - back].body;
                    clients::hang_up(&play.address, body, share)
                };
                join_all(clients.into_iter().map(hang_up)).await;
            }
            Self::SlowClients => {
                for slowness in Slowness::ALL.repeat(15) {
                    let address = play.address.clone();
                    play.slow_clients.spawn(async move { drop(slowness.keep_waiting(&address).await) });
                }
            }
            Self::LargeBodies => large_bodies(play).await,
        }
    }
}

/// Fills the disk until senders are refused, and makes room again.
async fn full_disk(play: &Play) {
    let refused = || {
        let pending = |outcome| outcome == DeliveryOutcome::Pending;
        let deliveries = play.emulator.deliveries().into_iter();
        let refused = deliveries.filter(|one| pending(one.outcome) && one.last_status == Some(503));
        refused.map(|one| one.event_id).collect::<Vec<_>>()
    };
    let before = refused();
    let id = play.process.id();
    tokio::task::block_in_place(|| play.disk.fill(id));
    let full = wait_until(PATIENCE, async || refused().iter().any(|id| !before.contains(id))).await;
    tokio::task::block_in_place(|| play.disk.free(id));
    assert!(full, "the service goes on though its disk is full");
    if let Some(server) = &play.server {
        server.start_if_down().await;
    }
}

/// Most are not from WorkOS, and are read all the same before that shows.
async fn large_bodies(play: &Play) {
    play.process.forget_peak_memory();
    let client = reqwest::Client::new();
    let posts = (0..24).map(|number| {
        let (client, address) = (client.clone(), play.address.clone());
        async move {
            let (size, secret) = if number % 8 == 0 { (1, crate::support::SECRET) } else { (8, "not the secret") };
            let mut body = format!(r#"{{"id":"event_large_{}","event":"user.created"}}"#, uuid_like(number));
            body.push_str(&" ".repeat((size << 20) - body.len()));
            clients::post(&client, &address, body.into_bytes(), secret).await
        }
    });
    for (status, says_when) in join_all(posts).await.into_iter().flatten() {
        assert!(matches!(status, 200 | 401 | 503), "{status}");
        assert!(status != 503 || says_when);
    }
    let peak = play.process.peak_memory();
    assert!(peak < LARGE_BODIES_MIB, "{peak} MiB under a flood of large bodies");
}

fn uuid_like(number: usize) -> String {
    format!("{}_{number}", chrono::Utc::now().timestamp_micros())
}
