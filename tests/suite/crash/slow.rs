//! Clients that keep the real process waiting or flood it, without any other fault.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::clients::{Slowness, post};
use super::{LARGE_BODIES_MIB, Play};
use crate::support::{Engine, SECRET, on_both_engines, run};

on_both_engines!(large_bodies_take_bounded_memory_and_keep_no_event_out);

/// What a slow client hears, if anything, before its connection is ended.
fn last_word(slowness: Slowness) -> &'static str {
    match slowness {
        Slowness::HalfBody | Slowness::Trickle | Slowness::Chunked => "HTTP/1.1 408",
        Slowness::Unread | Slowness::HalfSecondHead => "HTTP/1.1 200",
        Slowness::Silent | Slowness::HalfHead => "",
    }
}

#[test]
fn slow_clients_are_let_go_and_keep_nobody_out() {
    run(async {
        let mut play = Play::set(Engine::Sqlite, 1).await;
        play.started().await;
        let began = Instant::now();
        for slowness in Slowness::ALL.repeat(40) {
            let address = play.address.clone();
            play.slow_clients.spawn(async move {
                let answer = slowness.keep_waiting(&address).await;
                assert!(answer.starts_with(last_word(slowness)), "{slowness:?}: {answer}");
            });
        }
        let client = reqwest::Client::new();
        for number in 0..100 {
            let body = format!(r#"{{"id":"event_{number}","event":"user.created"}}"#).into_bytes();
            let asked = Instant::now();
            let answer = post(&client, &play.address, body, SECRET).await;
            assert_eq!(answer, Some((200, false)));
            assert!(asked.elapsed() < Duration::from_secs(5), "others wait for slow clients");
        }
        while let Some(ended) = play.slow_clients.join_next().await {
            ended.unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(45), "slow clients were kept for {:?}", began.elapsed());
    });
}

async fn large_bodies_take_bounded_memory_and_keep_no_event_out(engine: Engine) {
    let mut play = Play::set(engine, 1).await;
    play.started().await;
    println!("{engine:?}: {} MiB idle", play.process.peak_memory());
    let users = large_users(32);
    for (whose, secret) in [("not WorkOS's", "not the secret"), ("WorkOS's", SECRET)] {
        play.process.forget_peak_memory();
        let (client, small) = (reqwest::Client::new(), reqwest::Client::new());
        let large = users.iter().map(|user| post(&client, &play.address, user.clone(), secret));
        let ordinary = async {
            let mut answers = Vec::new();
            for number in 0..50 {
                let body = format!(r#"{{"id":"event_small_{number}","event":"user.created"}}"#).into_bytes();
                answers.push(post(&small, &play.address, body, SECRET).await);
            }
            answers
        };
        let (large, ordinary) = tokio::join!(join_all(large), ordinary);
        assert!(ordinary.iter().all(|answer| *answer == Some((200, false))), "{ordinary:?}");
        let count = |wanted| large.iter().filter(|answer| **answer == wanted).count();
        let read = count(Some((if secret == SECRET { 200 } else { 401 }, false)));
        let (put_off, broken_off) = (count(Some((503, true))), count(None));
        assert_eq!(read + put_off + broken_off, large.len(), "{large:?}");
        assert!(read > 0 && put_off > 0, "{read} read, {put_off} put off");
        let peak = play.process.peak_memory();
        println!("{engine:?}, {whose}: {peak} MiB at most; {read} read, {put_off} put off, {broken_off} broken off");
        assert!(peak < LARGE_BODIES_MIB, "{peak} MiB");
    }
}

/// Events about users with attributes of nearly 8 MiB.
fn large_users(count: usize) -> Vec<Vec<u8>> {
    let attributes: Vec<String> = (0..8000).map(|key| format!(r#""attribute_{key}":"{}""#, "x".repeat(1000))).collect();
    let attributes = attributes.join(",");
    let user = |number| {
        format!(
            r#"{{"object":"event","id":"event_large_{number}","event":"dsync.user.created",
            "created_at":"2026-01-15T12:00:00.000Z","data":{{"object":"directory_user",
            "id":"directory_user_{number}","directory_id":"directory_flood","idp_id":"1","state":"active",
            "custom_attributes":{{}},"raw_attributes":{{{attributes}}},
            "created_at":"2026-01-15T12:00:00.000Z","updated_at":"2026-01-15T12:00:00.000Z"}}}}"#
        )
        .into_bytes()
    };
    (0..count).map(user).collect()
}
