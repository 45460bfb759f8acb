//! Several workers: each says that it is alive, learns its share, and hears of events that other processes received.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::Engine;
use super::turns::Backoff;
use crate::db::{DbError, InboxNews, Share};

/// How often in the length of a lease a worker says that it is alive.
const SIGNS_OF_LIFE: u32 = 4;
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

impl Engine {
    /// Says once that this worker is alive, and takes its share of the directories and of the API's budget.
    ///
    /// # Errors
    /// [`DbError`]; without a success the share lapses after the length of a lease.
    pub async fn alive_step(&self) -> Result<Share, DbError> {
        let (before, asked_at) = (self.lease.share(), Instant::now());
        let share = self.db.seen_alive(&self.lease).await?;
        if before != Some(share) {
            tracing::info!(token = self.lease.token(), rank = share.rank, of = share.of, "this worker's share");
        }
        if let Some(client) = &self.client {
            // The others give up a part of the budget when they next say that they are alive, or lapse.
            let length = self.db.lease_length();
            client.share_among(share, length, self.db.is_postgres().then(|| asked_at + length));
        }
        Ok(share)
    }

    fn sign_of_life_interval(&self) -> Duration {
        self.db.lease_length() / SIGNS_OF_LIFE
    }
}

/// On PostgreSQL: says again and again that this worker is alive.
pub(super) async fn alive_loop(engine: Arc<Engine>, mut stop: watch::Receiver<bool>) {
    while engine.db.is_postgres() && !*stop.borrow() {
        tokio::select! {
            () = tokio::time::sleep(engine.sign_of_life_interval()) => {}
            _ = stop.changed() => break,
        }
        // One that hangs must not outlast the lease without being noticed.
        let said = tokio::time::timeout(engine.sign_of_life_interval(), engine.alive_step()).await;
        match said {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "this worker cannot say that it is alive; others may take over"),
            Err(_) => {
                tracing::warn!("the database is slow: this worker cannot say that it is alive; others may take over");
            }
        }
    }
}

/// On PostgreSQL: wakes fold when any process stored events. Fold also looks by itself, so nothing depends on it.
pub(super) async fn news_loop(engine: Arc<Engine>, committed: Arc<Notify>, mut stop: watch::Receiver<bool>) {
    let mut backoff = Backoff::new();
    while engine.db.is_postgres() && !*stop.borrow() {
        let heard = tokio::select! {
            heard = listen(&engine, &committed, &mut backoff) => heard,
            _ = stop.changed() => break,
        };
        if let Err(error) = heard {
            tracing::warn!(%error, "news of the inbox cannot be heard; it is looked at from time to time");
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next(LONGEST_BACKOFF)) => {}
            _ = stop.changed() => {}
        }
    }
}

async fn listen(engine: &Engine, committed: &Notify, backoff: &mut Backoff) -> Result<(), DbError> {
    let news: Option<InboxNews> = engine.db.listen().await?;
    let Some(mut news) = news else { return Ok(()) };
    // What was stored while nobody listened.
    committed.notify_one();
    backoff.reset();
    loop {
        news.next().await?;
        committed.notify_one();
    }
}
