//! Our own side of WorkOS's rate limits: requests are spaced so that the limits are not met.
//!
//! Documented: 6,000 requests per 60 s and API key; for `/directory_users` 4 per second and directory.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Spaces requests evenly, after a first burst of one second's worth (the generic cell rate algorithm). Pure: it is told the time.
#[derive(Debug, Clone)]
pub struct Pace {
    interval: Duration,
    burst: Duration,
    next: Option<Instant>,
}

impl Pace {
    /// `count` requests in each `period`; 0 = no limit.
    #[must_use]
    pub fn new(count: u32, period: Duration) -> Self {
        let interval = period.checked_div(count).unwrap_or_default();
        let burst = if count == 0 { Duration::ZERO } else { Duration::from_secs(1).saturating_sub(interval) };
        Self { interval, burst, next: None }
    }

    /// Takes the next place; answers when the request may be sent.
    pub fn take(&mut self, now: Instant) -> Instant {
        let earliest = self.next.unwrap_or(now).max(now);
        self.next = Some(earliest + self.interval);
        earliest.checked_sub(self.burst).map_or(now, |at| at.max(now))
    }

    /// Sends nothing before `until`.
    pub fn pause(&mut self, until: Instant) {
        let until = until + self.burst;
        self.next = Some(self.next.map_or(until, |next| next.max(until)));
    }
}

/// All limits together.
#[derive(Debug)]
pub struct Limits {
    key: Pace,
    directory_users: HashMap<String, Pace>,
    directory_users_per_second: u32,
}

impl Limits {
    /// See [`crate::config::ApiConfig`].
    #[must_use]
    pub fn new(requests_per_minute: u32, directory_users_per_second: u32) -> Self {
        Self {
            key: Pace::new(requests_per_minute, Duration::from_secs(60)),
            directory_users: HashMap::new(),
            directory_users_per_second,
        }
    }

    /// Takes a place for a request; `users_of` names the directory if it goes to `/directory_users`.
    pub fn take(&mut self, users_of: Option<&str>, now: Instant) -> Instant {
        let key = self.key.take(now);
        users_of.map_or(key, |directory| self.pace_of(directory).take(now).max(key))
    }

    /// Obeys a 429: pauses the directory's requests, or those of the whole key.
    pub fn pause(&mut self, users_of: Option<&str>, until: Instant) {
        match users_of {
            Some(directory) => self.pace_of(directory).pause(until),
            None => self.key.pause(until),
        }
    }

    /// How long one more request keeps a directory's `/directory_users`, and any other path, busy.
    #[must_use]
    pub fn spacing(&self) -> (Duration, Duration) {
        let users = Pace::new(self.directory_users_per_second, Duration::from_secs(1));
        (users.interval.max(self.key.interval), self.key.interval)
    }

    fn pace_of(&mut self, directory: &str) -> &mut Pace {
        let count = self.directory_users_per_second;
        self.directory_users.entry(directory.to_owned()).or_insert_with(|| Pace::new(count, Duration::from_secs(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_never_sees_more_than_twice_the_rate_and_no_limit_waits_for_nothing() {
        let start = Instant::now();
        let mut pace = Pace::new(4, Duration::from_secs(1));
        let sent: Vec<u128> = (0..12).map(|_| pace.take(start).duration_since(start).as_millis()).collect();
        assert_eq!(sent, [0, 0, 0, 0, 250, 500, 750, 1000, 1250, 1500, 1750, 2000]);
        let mut free = Pace::new(0, Duration::from_secs(1));
        assert!((0..100).all(|_| free.take(start) == start));
    }

    #[test]
    fn a_pause_is_kept() {
        let start = Instant::now();
        let mut pace = Pace::new(4, Duration::from_secs(1));
        pace.pause(start + Duration::from_secs(3));
        assert_eq!(pace.take(start), start + Duration::from_secs(3));
    }
}
