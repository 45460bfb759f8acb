//! How an emulator is set up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::api_chaos::ApiChaos;
use crate::webhook_chaos::WebhookChaos;

/// How an emulator is set up; the default behaves like WorkOS's production, on a free port of 127.0.0.1.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the API listens; port 0 takes a free one.
    pub bind: SocketAddr,
    /// The bearer key that the API accepts.
    pub api_key: String,
    /// Requests that a key may make in any 60 s; 0 is no limit.
    pub requests_per_minute: u32,
    /// Requests to `/directory_users*` that may be made in any second for one directory; 0 is no limit.
    pub directory_users_per_second: u32,
    /// Decides every id. Two runs with one seed and the same changes have the same ids, events' ids included: a
    /// consumer that keeps its database between runs needs a new seed for each.
    pub seed: u64,
    /// Whether a single user is answered with its `groups`; environments made since May 2026 answer an empty array.
    pub embed_groups: bool,
    /// Multiplies both limits, and divides the cooldown of `POST /directories/{id}/sync`; 0 switches all of them off.
    pub limits_scale: f64,
    /// What `GET /events` does about a cursor that it does not know.
    pub unknown_cursor: UnknownCursor,
    /// Whether deletions go as in older environments: the deletion of a directory announces every membership, user and
    /// group before the directory itself, where production sends `dsync.deleted` and nothing else; and the control route
    /// deactivates people by `dsync.user.updated`, unless it is told how.
    pub older_deletions: bool,
    /// The secret that webhook endpoints get when they are made over the API; `None` makes one for each.
    pub webhook_secret: Option<String>,
    /// Whether `/directory_users?group=` leaves out inactive users.
    pub omit_inactive_from_group_members: bool,
    /// How webhooks are sent.
    pub delivery: DeliveryOptions,
    /// What befalls webhooks from the start on.
    pub webhook_chaos: WebhookChaos,
    /// What befalls requests to the API from the start on.
    pub api_chaos: ApiChaos,
    /// Decides what chaos strikes.
    pub chaos_seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            api_key: "sk_test_emulator".to_owned(),
            requests_per_minute: 6000,
            directory_users_per_second: 4,
            limits_scale: 1.0,
            unknown_cursor: UnknownCursor::default(),
            older_deletions: false,
            webhook_secret: None,
            seed: 0,
            embed_groups: false,
            omit_inactive_from_group_members: false,
            delivery: DeliveryOptions::default(),
            webhook_chaos: WebhookChaos::default(),
            api_chaos: ApiChaos::default(),
            chaos_seed: 0,
        }
    }
}

/// What `GET /events` does about an `after` or `before` that it does not know (any more).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownCursor {
    /// It answers the first page, as if there were no cursor; a consumer has to notice by itself.
    #[default]
    Restart,
    /// It answers 422.
    Refuse,
}

/// How webhooks are sent.
///
/// The default has production's number of attempts and timeout. Production spreads its six retries over three days; here
/// they wait 0.5, 1, 2, 4, 8 and 16 s, which a person at a laptop can sit through.
#[derive(Clone, Debug)]
pub struct DeliveryOptions {
    /// Requests under way at once; at least 1.
    pub concurrency: usize,
    /// How long an answer may take.
    pub timeout: Duration,
    /// The wait before the second attempt; it doubles with each further one.
    pub first_retry: Duration,
    /// The longest wait between attempts.
    pub max_retry: Duration,
    /// Attempts in all, the first one included.
    pub max_attempts: u32,
    /// Whether an endpoint that has never answered is waited for, whatever the number of attempts: it is asked once a
    /// second, and gets everything once it answers.
    pub wait_for_first_answer: bool,
}

impl Default for DeliveryOptions {
    fn default() -> Self {
        Self {
            concurrency: 32,
            timeout: Duration::from_secs(5),
            first_retry: Duration::from_millis(500),
            max_retry: Duration::from_secs(30),
            max_attempts: 7,
            wait_for_first_answer: false,
        }
    }
}

impl DeliveryOptions {
    /// The wait after attempt number `attempts`, counted from 1.
    pub(crate) fn backoff(&self, attempts: u32) -> Duration {
        let factor = 2_u32.saturating_pow(attempts.saturating_sub(1));
        self.first_retry.saturating_mul(factor).min(self.max_retry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_cap() {
        let options = DeliveryOptions::default();
        let waits: Vec<u64> = (1..=8).map(|attempts| options.backoff(attempts).as_millis() as u64).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        assert_eq!(options.backoff(u32::MAX), options.max_retry);
    }
}
