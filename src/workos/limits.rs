//! Our own side of WorkOS's rate limits: requests wait here, so that the limits are never met, and go in a fair order.
//!
//! Documented: 6,000 requests per 60 s and API key; for `/directory_users` 4 per second and directory. Both are counted
//! over sliding windows by the server, at instants that we do not see: a request is counted between its sending and its
//! answer. So a place in a directory's window is taken when a request is sent, and becomes free one second after its answer.
//!
//! Pure: it is told the time.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::db::Share;

const KEY_WINDOW: Duration = Duration::from_secs(60);
const USERS_WINDOW: Duration = Duration::from_secs(1);
/// What of the key's limit may be sent at once after a quiet time, as a part of it; the rest is spread evenly.
const BURST_PART: u32 = 20;
/// What of the burst is kept for requests that are no bulk, as a part of it.
const RESERVED_PART: f64 = 0.5;
/// One request in so many goes to whoever has waited longest, so that nobody waits for ever.
const OLDEST_FIRST_EVERY: u64 = 4;
/// So long another process's last requests for a directory may count after it gave the directory away: some were under
/// way, and each counts for [`USERS_WINDOW`].
const HANDOVER: Duration = Duration::from_secs(2);
/// A second 429 within this time, for another directory, means that the whole key is over its limit.
const REFUSALS_TOGETHER: Duration = Duration::from_secs(60);

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Verifies that access was taken away.
    Revocation,
    /// One of a few requests that bring a directory up to date.
    Small,
    /// One of many: a scan, or the plan for a burst.
    Bulk,
}

/// A request that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The directory on whose behalf it is made, if any.
    pub directory: Option<String>,
    /// Whether it goes to `/directory_users`, which has a limit for each directory.
    pub on_users_path: bool,
    /// Who goes first.
    pub priority: Priority,
}

/// Names a request among those that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What can be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This request goes.
    Send(Ticket),
    /// Nothing before this instant, unless another request comes.
    Wait(Instant),
    /// Nothing until a request is answered, or another comes.
    Nothing,
}

/// The key's budget: a token bucket.
#[derive(Debug)]
struct Bucket {
    /// Tokens a second.
    rate: f64,
    capacity: f64,
    tokens: f64,
    /// Up to when it is filled; in the future while it gets nothing.
    filled_at: Instant,
}

impl Bucket {
    /// No stretch of `window` sees more than `count`: the burst and what is filled up meanwhile. Empty at first, since a
    /// process that ended a moment ago may have used the burst.
    fn new(count: u32, share: u32, window: Duration, now: Instant) -> Self {
        let count = f64::from(count) / f64::from(share.max(1));
        let capacity = (count / f64::from(BURST_PART)).max(1.0);
        // A hundredth is left for what the network does to the spacing.
        let rate = ((count - capacity) / window.as_secs_f64() * 0.99).max(count / window.as_secs_f64() / 2.0);
        Self { rate, capacity, tokens: 0.0, filled_at: now }
    }

    fn fill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.filled_at);
        self.tokens = (self.tokens + since.as_secs_f64() * self.rate).min(self.capacity);
        self.filled_at = self.filled_at.max(now);
    }

    /// What has to be there for a request to go.
    fn needed(&self, priority: Priority) -> f64 {
        match priority {
            Priority::Bulk => 1.0 + ((self.capacity - 1.0) * RESERVED_PART).floor(),
            Priority::Revocation | Priority::Small => 1.0,
        }
    }

    /// When a request of this priority may go; the bucket must be filled up to `now`.
    fn ready_at(&self, priority: Priority, now: Instant) -> Instant {
        let missing = self.needed(priority) - self.tokens;
        // Rounding must not make a caller wait for an instant at which a hair is missing.
        if missing <= 1e-9 {
            now
        } else {
            now.max(self.filled_at) + Duration::from_secs_f64(missing / self.rate) + Duration::from_micros(1)
        }
    }
}

/// A directory's window: how many are under way, and until when those that were answered count.
#[derive(Debug, Default)]
struct Window {
    under_way: u32,
    counted_until: VecDeque<Instant>,
}

impl Window {
    /// When there is room; `None` if that depends on an answer.
    fn ready_at(&mut self, limit: u32, now: Instant) -> Option<Instant> {
        if self.used(now) < limit { Some(now) } else { self.counted_until.front().copied() }
    }

    /// How many places are taken.
    fn used(&mut self, now: Instant) -> u32 {
        while self.counted_until.front().is_some_and(|until| *until <= now) {
            self.counted_until.pop_front();
        }
        self.under_way.saturating_add(u32::try_from(self.counted_until.len()).unwrap_or(u32::MAX))
    }

    fn is_unused(&self) -> bool {
        self.under_way == 0 && self.counted_until.is_empty()
    }
}

/// What is known of the requests on behalf of one directory.
#[derive(Debug, Default)]
struct Account {
    window: Window,
    /// Whether its window tells all: the directory was ours ever since another's requests counted.
    known: bool,
    /// Until when another's requests may count.
    held_until: Option<Instant>,
    paused_until: Option<Instant>,
    /// The count of all requests at its last one.
    served: u64,
}

/// All limits together, and the requests that wait for them.
#[derive(Debug)]
pub struct Limits {
    requests_per_minute: u32,
    users_per_second: u32,
    /// This process's share of the directories, and of the key's budget.
    share: Share,
    /// Whether the share was ever given.
    was_given: bool,
    /// Until when that holds; afterwards nothing is sent.
    share_until: Option<Instant>,
    /// The shares of before, if there were any, and until when others may have asked about what was not in them.
    earlier: Vec<(Option<Share>, Instant)>,
    key: Option<Bucket>,
    key_paused_until: Option<Instant>,
    accounts: HashMap<String, Account>,
    waiting: Vec<(Ticket, Request)>,
    tickets: u64,
    sent: u64,
    last_refusal: Option<(Option<String>, Instant)>,
}

impl Limits {
    /// See [`crate::config::ApiConfig`]; 0 = no limit. The whole budget, until [`Limits::share_among`] says otherwise.
    #[must_use]
    pub fn new(requests_per_minute: u32, users_per_second: u32, now: Instant) -> Self {
        Self {
            requests_per_minute,
            users_per_second,
            share: Share::WHOLE,
            was_given: false,
            share_until: None,
            // A process of before may have ended a moment ago.
            earlier: vec![(None, now + HANDOVER)],
            key: key_bucket(requests_per_minute, Share::WHOLE, now),
            key_paused_until: None,
            accounts: HashMap::new(),
            waiting: Vec::new(),
            tickets: 0,
            sent: 0,
            last_refusal: None,
        }
    }

    /// Says what this process's share is from now on, and until when that is known; afterwards nothing is sent, until this
    /// is called again. What waits on behalf of a directory that is not in it is withdrawn, and everything that waited
    /// while the share had lapsed: others have taken over what it was for.
    ///
    /// Whoever comes anew, or back after its share had lapsed, gets nothing of the key's budget for `settling`, within
    /// which the others learn of it; up to then they use its part. Who was there before only gives some away.
    pub fn share_among(&mut self, share: Share, settling: Duration, known_until: Option<Instant>, now: Instant) {
        let lapsed = self.has_lapsed(now);
        let before = (self.was_given && !lapsed).then_some(self.share);
        (self.share, self.share_until, self.was_given) = (share, known_until, true);
        self.waiting.retain(|(_, request)| !lapsed && is_in(share, request));
        if before == Some(share) {
            return;
        }
        let kept = |directory: &str| before.is_some_and(|before| before.has_id(directory)) && share.has_id(directory);
        self.accounts.iter_mut().for_each(|(directory, account)| account.known &= kept(directory));
        let others_learn = now + if share.of > 1 { settling } else { Duration::ZERO };
        self.earlier.retain(|(_, until)| *until > now);
        self.earlier.push((before, others_learn + HANDOVER));
        let mut key = key_bucket(self.requests_per_minute, share, now);
        if let (Some(key), Some(old)) = (&mut key, &mut self.key) {
            old.fill(now);
            if before.is_some() {
                key.tokens = old.tokens.min(key.capacity);
                key.filled_at = old.filled_at.min(others_learn);
            } else {
                key.filled_at = others_learn;
            }
        }
        self.key = key;
    }

    /// Whether the request may be made by this process: its directory is in the share.
    #[must_use]
    pub fn is_ours(&self, request: &Request) -> bool {
        is_in(self.share, request)
    }

    fn has_lapsed(&self, now: Instant) -> bool {
        self.share_until.is_some_and(|until| until < now)
    }

    /// Whether the request still waits.
    #[must_use]
    pub fn waits(&self, ticket: Ticket) -> bool {
        self.waiting.iter().any(|(waiting, _)| *waiting == ticket)
    }

    /// Adds a request to those that wait.
    pub fn enqueue(&mut self, request: Request) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.waiting.push((ticket, request));
        ticket
    }

    /// Takes a request back that nobody wants to send any more. Answers whether it still waited.
    pub fn withdraw(&mut self, ticket: Ticket) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|(waiting, _)| *waiting != ticket);
        self.waiting.len() < before
    }

    /// Chooses the request that goes next. Whoever sends it says when it is over, by [`Limits::answered`].
    pub fn next(&mut self, now: Instant) -> Next {
        if self.has_lapsed(now) {
            return Next::Nothing;
        }
        if let Some(key) = &mut self.key {
            key.fill(now);
        }
        let mut earliest: Option<Instant> = None;
        let mut ready: Vec<usize> = Vec::new();
        let waiting = std::mem::take(&mut self.waiting);
        for (index, (_, request)) in waiting.iter().enumerate() {
            match self.ready_at(request, now) {
                Some(at) if at <= now => ready.push(index),
                Some(at) => earliest = Some(earliest.map_or(at, |earliest| earliest.min(at))),
                None => {}
            }
        }
        self.waiting = waiting;
        let oldest_first = self.sent % OLDEST_FIRST_EVERY == OLDEST_FIRST_EVERY - 1;
        let chosen = ready.into_iter().min_by_key(|index| {
            let (ticket, request) = &self.waiting[*index];
            let served = request.directory.as_ref().and_then(|id| self.accounts.get(id)).map_or(0, |one| one.served);
            if oldest_first { (None, 0, *ticket) } else { (Some(request.priority), served, *ticket) }
        });
        match chosen {
            Some(index) => {
                let (ticket, request) = self.waiting.remove(index);
                self.note_sent(&request);
                Next::Send(ticket)
            }
            None => earliest.map_or(Next::Nothing, Next::Wait),
        }
    }

    fn ready_at(&mut self, request: &Request, now: Instant) -> Option<Instant> {
        let key = self.key.as_ref().map_or(now, |key| key.ready_at(request.priority, now));
        let mut at = key.max(self.key_paused_until.unwrap_or(now));
        if let Some(directory) = &request.directory {
            let limit = self.users_per_second;
            let account = self.account(directory, now);
            at = at.max(account.paused_until.unwrap_or(now));
            if request.on_users_path && limit > 0 {
                at = at.max(account.held_until.unwrap_or(now)).max(account.window.ready_at(limit, now)?);
            }
        }
        Some(at)
    }

    /// The directory's account. If another process may have used the directory's limit until now, it is held for a while.
    fn account(&mut self, directory: &str, now: Instant) -> &mut Account {
        if !self.accounts.contains_key(directory) {
            self.accounts.insert(directory.to_owned(), Account::default());
        }
        let account = self.accounts.get_mut(directory).expect("it was put there if it was missing");
        if !account.known {
            account.known = true;
            let of_another = |(before, until): &(Option<Share>, Instant)| {
                *until > now && before.is_none_or(|before| !before.has_id(directory))
            };
            account.held_until = self.earlier.iter().any(of_another).then_some(now + HANDOVER);
        }
        account
    }

    fn note_sent(&mut self, request: &Request) {
        self.sent += 1;
        if let Some(key) = &mut self.key {
            key.tokens -= 1.0;
        }
        if let Some(directory) = &request.directory {
            let account = self.accounts.entry(directory.clone()).or_default();
            account.served = self.sent;
            account.window.under_way += u32::from(request.on_users_path);
        }
    }

    /// Takes note that a request which was sent is over: answered, failed or given up.
    pub fn answered(&mut self, request: &Request, now: Instant) {
        let Some(directory) = &request.directory else { return };
        let Some(account) = self.accounts.get_mut(directory) else { return };
        if request.on_users_path {
            account.window.under_way = account.window.under_way.saturating_sub(1);
            if self.users_per_second > 0 {
                account.window.counted_until.push_back(now + USERS_WINDOW);
            }
        }
        if self.accounts.len() > 1024 {
            self.accounts.retain(|_, one| {
                one.window.counted_until.retain(|until| *until > now);
                !one.window.is_unused() || one.paused_until.is_some_and(|until| until > now)
            });
        }
    }

    /// Obeys a 429: nothing more is sent on behalf of that directory until then. A request of no directory, or a second
    /// 429 elsewhere within a minute, means the whole key. Answers whether it is the key.
    pub fn refused(&mut self, request: &Request, until: Instant, now: Instant) -> bool {
        let elsewhere = self.last_refusal.as_ref().is_some_and(|(directory, at)| {
            *directory != request.directory && now.saturating_duration_since(*at) < REFUSALS_TOGETHER
        });
        self.last_refusal = Some((request.directory.clone(), now));
        let whole_key = elsewhere || request.directory.is_none();
        let paused = match &request.directory {
            Some(directory) if !whole_key => &mut self.accounts.entry(directory.clone()).or_default().paused_until,
            _ => &mut self.key_paused_until,
        };
        *paused = (*paused).max(Some(until));
        whole_key
    }

    /// Obeys a 503 that says when to come back: one directory may be in trouble, and never the whole key.
    pub fn unavailable(&mut self, request: &Request, until: Instant) {
        if let Some(directory) = &request.directory {
            let paused = &mut self.accounts.entry(directory.clone()).or_default().paused_until;
            *paused = (*paused).max(Some(until));
        }
    }

    /// How many requests to `/directory_users` a directory's own limit lets go now, if that are `least` or the whole limit.
    ///
    /// # Errors
    /// When to ask again: there are fewer.
    pub fn users_room(&mut self, directory: &str, least: u32, now: Instant) -> Result<u32, Instant> {
        let limit = self.users_per_second;
        if limit == 0 {
            return Ok(u32::MAX);
        }
        let account = self.account(directory, now);
        if let Some(until) = account.paused_until.max(account.held_until).filter(|until| *until > now) {
            return Err(until);
        }
        let used = account.window.used(now);
        let room = limit.saturating_sub(used);
        let missing = least.min(limit).saturating_sub(room) as usize;
        if missing == 0 {
            return Ok(room);
        }
        // How long what is under way counts will be known with its answer.
        let free_at = account.window.counted_until.get(missing - 1).copied();
        Err(free_at.unwrap_or(now + USERS_WINDOW / limit))
    }

    /// How long one more request keeps a directory's `/directory_users`, and any other path, busy.
    #[must_use]
    pub fn spacing(&self) -> (Duration, Duration) {
        let of_key = KEY_WINDOW.checked_div(self.requests_per_minute).unwrap_or_default();
        let of_users = USERS_WINDOW.checked_div(self.users_per_second).unwrap_or_default();
        (of_users.max(of_key), of_key)
    }
}

fn is_in(share: Share, request: &Request) -> bool {
    request.directory.as_ref().is_none_or(|directory| share.has_id(directory))
}

fn key_bucket(requests_per_minute: u32, share: Share, now: Instant) -> Option<Bucket> {
    (requests_per_minute > 0).then(|| Bucket::new(requests_per_minute, share.of, KEY_WINDOW, now))
}

#[cfg(test)]
#[path = "limits/tests.rs"]
mod tests;
