//! Rate limits, by sliding windows.
//!
//! Source: WorkOS documentation, "Rate limits": 6,000 requests per 60 s per API key over all, and 4 requests per second
//! per directory for `/directory_users`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// At most `max` admissions in any stretch of `span`.
#[derive(Debug, Default)]
struct Window {
    admitted: VecDeque<Instant>,
}

impl Window {
    /// Admits, or says how long it takes until there is room. A refusal uses up nothing.
    fn admit(&mut self, max: u32, span: Duration, now: Instant) -> Result<(), Duration> {
        while let Some(&oldest) = self.admitted.front() {
            let age = now.saturating_duration_since(oldest);
            if age < span {
                if self.admitted.len() >= max as usize {
                    return Err(span - age);
                }
                break;
            }
            self.admitted.pop_front();
        }
        self.admitted.push_back(now);
        Ok(())
    }
}

/// The limits of an environment; a maximum of 0 is no limit.
#[derive(Debug)]
pub(crate) struct Limits {
    requests_per_minute: u32,
    directory_users_per_second: u32,
    windows: Mutex<Windows>,
}

#[derive(Debug, Default)]
struct Windows {
    by_key: HashMap<String, Window>,
    by_directory: HashMap<String, Window>,
}

impl Limits {
    pub(crate) fn new(requests_per_minute: u32, directory_users_per_second: u32) -> Self {
        Self { requests_per_minute, directory_users_per_second, windows: Mutex::default() }
    }

    /// Counts any request with `key`; an error is how long to wait.
    pub(crate) fn admit_request(&self, key: &str, now: Instant) -> Result<(), Duration> {
        if self.requests_per_minute == 0 {
            return Ok(());
        }
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.by_key.entry(key.to_owned()).or_default().admit(self.requests_per_minute, MINUTE, now)
    }

    /// Counts a request for the users of `directory_id`; an error is how long to wait.
    pub(crate) fn admit_users(&self, directory_id: &str, now: Instant) -> Result<(), Duration> {
        if self.directory_users_per_second == 0 {
            return Ok(());
        }
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.by_directory.entry(directory_id.to_owned()).or_default().admit(
            self.directory_users_per_second,
            SECOND,
            now,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_slides() {
        let limits = Limits::new(0, 4);
        let start = Instant::now();
        for step in 0..4 {
            let at = start + Duration::from_millis(step * 100);
            assert_eq!(limits.admit_users("a", at), Ok(()));
        }
        let full = start + Duration::from_millis(400);
        assert_eq!(limits.admit_users("a", full), Err(Duration::from_millis(600)));
        assert_eq!(limits.admit_users("b", full), Ok(()));
        assert_eq!(limits.admit_users("a", start + SECOND), Ok(()));
        assert!(limits.admit_users("a", start + SECOND).is_err());
        assert_eq!(limits.admit_request("key", start), Ok(()));
    }
}
