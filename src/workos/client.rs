//! Requests to the WorkOS API and what their answers mean.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::gate::{Gate, Permit};
use super::limits::{Limits, Priority, Request};
use crate::clock::{Clock, Timestamp};
use crate::config::ApiConfig;
use crate::db::Share;
use crate::metrics::{ApiPath, ApiStatus, Metrics, PauseScope};
use crate::model::{
    DirectoryGroupId, DirectoryId, DirectoryRecord, DirectoryUserId, GroupRecord, Paging, RecordError, UserRecord,
    read_json,
};
use crate::telemetry;

const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Clocks that differ by less agree.
const CLOCKS_DIFFER_SECONDS: i64 = 2;
/// The most records a page holds.
pub(super) const PAGE_SIZE: &str = "100";
/// How many records a page holds where more of them are too large.
const SMALL_PAGE_SIZE: &str = "10";
/// The largest answer that is read. Records of several MB occur.
const MOST_BYTES: usize = 64 << 20;
/// A pause that the API asks for is not shorter, nor longer.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// A 503 is an outage, and what tells when it ends may be a proxy that guesses.
const LONGEST_UNAVAILABLE: Duration = Duration::from_secs(30);

/// Why there is no answer. None of these says anything about a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// No connection, a timeout, a broken answer.
    #[error("the API cannot be reached: {0}")]
    Unreachable(String),
    /// 401 or 403.
    #[error("the API refuses the key with status {0}: check WORKOS_API_KEY and its environment")]
    Refused(u16),
    /// 429.
    #[error("the API's rate limit is met")]
    RateLimited,
    /// Any other status that is no answer, such as a proxy's 404.
    #[error("the API answers with status {0}")]
    Status(u16),
    /// It was not sent: the directory is no longer in this process's share, or that had lapsed.
    #[error("another worker has taken over, and nothing was asked")]
    Withheld,
    /// More than we read.
    #[error("the API's answer is larger than 64 MiB")]
    TooLarge,
    /// A record that cannot be read: trying again gives the same.
    #[error("the API's answer cannot be read: {0}")]
    Undecodable(String),
    /// The Events API does not know the cursor that it gave, or no longer.
    #[error("the Events API does not know its own cursor any more; the events are read anew by their time")]
    UnknownCursor,
}

/// A page of records.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<R> {
    /// The records, in the order of their creation.
    pub records: Vec<R>,
    /// How many more records there were that cannot be read: such a page proves nobody's absence.
    pub unreadable: usize,
    /// The ids of those, where an id can be read.
    pub unreadable_ids: Vec<String>,
    /// The cursor of the next page; `None` on the last.
    pub after: Option<String>,
    /// When the request was sent.
    pub asked: Asked,
}

/// When a request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// By our clock.
    pub at: Timestamp,
    /// How far the server's clock was ahead of it, as far as was known.
    ahead: Option<TimeDelta>,
}

impl<R> Page<R> {
    /// Takes note of this page of a list.
    ///
    /// # Errors
    /// [`ApiError::Undecodable`] if the list has started over or does not end.
    pub fn note_in<'a>(&'a self, paging: &mut Paging, id: impl Fn(&'a R) -> &'a str) -> Result<(), ApiError> {
        if paging.notes(self.records.iter().map(id), self.after.as_deref()) {
            Ok(())
        } else {
            Err(ApiError::Undecodable("a list starts over, or never ends".to_owned()))
        }
    }
}

#[derive(Deserialize)]
struct List {
    data: Vec<Box<RawValue>>,
    #[serde(default)]
    list_metadata: Value,
}

/// Which list.
#[derive(Debug, Clone, Copy)]
pub enum ListFilter<'a> {
    /// Everything in a directory.
    Directory(&'a DirectoryId),
    /// A group's members.
    Group(&'a DirectoryGroupId),
    /// A user's groups.
    User(&'a DirectoryUserId),
}

/// How the API has answered lately.
#[derive(Debug, Clone, Default)]
pub struct ApiHealth {
    /// When a request last succeeded.
    pub last_success: Option<Timestamp>,
    /// What went wrong since.
    pub error: Option<ApiError>,
}

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// With 429 and 503: how long to send nothing; zero if it does not say.
    pub retry_after: Duration,
    /// The header `Date`.
    pub date: Option<Timestamp>,
    /// The body.
    pub body: Vec<u8>,
}

/// A way to the API other than HTTP: simulations answer requests in the same process.
pub trait Transport: Send + Sync {
    /// Answers a `GET`; an error says why there is no answer.
    fn exchange(&self, url: reqwest::Url) -> Pin<Box<dyn Future<Output = Result<Reply, String>> + Send + '_>>;
}

/// How requests reach the API.
enum Way {
    Http(reqwest::Client),
    Other(Box<dyn Transport>),
}

/// A client for one API key.
pub struct WorkosClient {
    way: Way,
    base_url: String,
    authorization: String,
    gate: Arc<Gate>,
    health: Mutex<ApiHealth>,
    /// How far the server's clock is ahead of ours; `None` until an answer has told.
    ahead: Mutex<Option<TimeDelta>>,
    pub(super) clock: Clock,
    metrics: Metrics,
}

impl WorkosClient {
    /// A client, or `None` if there is no key.
    ///
    /// # Errors
    /// [`ApiError::Unreachable`] if TLS cannot be set up on this machine.
    pub fn new(config: &ApiConfig, clock: Clock) -> Result<Option<Self>, ApiError> {
        if config.key.is_none() {
            return Ok(None);
        }
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("directory-mirror/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ApiError::Unreachable(error.to_string()))?;
        Ok(Self::on(Way::Http(http), config, clock))
    }

    /// As [`WorkosClient::new`], with another way to the API.
    #[must_use]
    pub fn with_transport(config: &ApiConfig, clock: Clock, transport: impl Transport + 'static) -> Option<Self> {
        Self::on(Way::Other(Box::new(transport)), config, clock)
    }

    fn on(way: Way, config: &ApiConfig, clock: Clock) -> Option<Self> {
        let key = config.key.as_ref()?;
        Some(Self {
            way,
            base_url: config.base_url.clone(),
            authorization: format!("Bearer {}", key.expose()),
            gate: Gate::new(Limits::new(
                config.requests_per_minute,
                config.directory_users_per_second,
                tokio::time::Instant::now(),
            )),
            health: Mutex::default(),
            ahead: Mutex::default(),
            clock,
            metrics: Metrics::default(),
        })
    }

    /// The same client, which counts its requests there.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// How the API has answered lately.
    pub fn health(&self) -> ApiHealth {
        self.health.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Takes note of the moment: to be called before a request is sent.
    pub fn asking(&self) -> Asked {
        Asked { at: self.clock.now(), ahead: self.ahead() }
    }

    /// When a request was sent by the server's clock, as the `Date` of answers tells: hints are ordered by that clock, so an
    /// answer has to be as well.
    pub fn in_server_time(&self, asked: Asked) -> Timestamp {
        let ahead = self.ahead().unwrap_or_default();
        // If our clock was set while the request was under way, one of the two is wrong. The earlier instant lets less be
        // taken for newer than a hint.
        asked.at + asked.ahead.map_or(ahead, |before| before.min(ahead))
    }

    fn ahead(&self) -> Option<TimeDelta> {
        *self.ahead.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn compare_clocks(&self, date: Timestamp) {
        let ahead = date - self.clock.now();
        // `Date` has whole seconds, and the answer was under way.
        let differ = ahead.abs() >= TimeDelta::seconds(CLOCKS_DIFFER_SECONDS);
        *self.ahead.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some(if differ { ahead } else { TimeDelta::zero() });
    }

    /// How long one more request keeps a directory's `/directory_users`, and any other path, busy by our limits.
    pub fn spacing(&self) -> (Duration, Duration) {
        self.gate.spacing()
    }

    /// How many requests to `/directory_users` the directory's own limit lets go now, if that are `least` or the whole limit.
    ///
    /// # Errors
    /// When to ask again: there are fewer.
    pub fn users_room(&self, directory: &DirectoryId, least: u32) -> Result<u32, tokio::time::Instant> {
        self.gate.users_room(directory.as_str(), least)
    }

    /// Says which share of the directories and of the key's budget this process has, and until when that is known: after
    /// that nothing is sent, until this is called again. Whoever comes anew sends nothing for `settling`, in which the
    /// others learn of it.
    pub fn share_among(&self, share: Share, settling: Duration, known_until: Option<tokio::time::Instant>) {
        self.gate.share_among(share, settling, known_until);
    }

    /// The API, asked on behalf of a directory: its requests take turns with those of others.
    #[must_use]
    pub fn on_behalf_of<'a>(&'a self, directory: &'a DirectoryId, priority: Priority) -> Caller<'a> {
        Caller { client: self, directory, priority }
    }

    /// `GET /directories`: a page of all directories that the key sees.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn directories(&self, after: Option<&str>) -> Result<Page<DirectoryRecord>, ApiError> {
        let query = page_query(None, after);
        let request = Request { directory: None, on_users_path: false, priority: Priority::Small };
        self.list("directories", &query, request, DirectoryRecord::from_json).await
    }

    async fn list<R>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        request: Request,
        from_json: impl Fn(&Value) -> Result<R, RecordError>,
    ) -> Result<Page<R>, ApiError> {
        let asked = self.asking();
        let mut answer: Result<Option<(Box<RawValue>, _)>, _> = self.get_as(&[path], query, request.clone()).await;
        if matches!(answer, Err(ApiError::TooLarge)) {
            let smaller = |&(name, value)| (name, if name == "limit" { SMALL_PAGE_SIZE } else { value });
            answer = self.get_as(&[path], &query.iter().map(smaller).collect::<Vec<_>>(), request).await;
        }
        let answer = answer.map_err(too_large_to_read)?;
        // A list that is not there is no empty list: a proxy or another environment may say so.
        let (list, _) = answer.ok_or(ApiError::Status(404))?;
        let list: Result<List, _> = read_json(list.get().as_bytes());
        let List { data, list_metadata } = list.map_err(|_| ApiError::Undecodable("a list has no data".to_owned()))?;
        let after = list_metadata.get("after");
        let (mut records, mut unreadable_ids) = (Vec::with_capacity(data.len()), Vec::new());
        for record in &data {
            match decode(record, &from_json) {
                Ok(record) => records.push(record),
                Err(_) => unreadable_ids.extend(id_of_unreadable(record)),
            }
        }
        let unreadable = data.len() - records.len();
        if unreadable > 0 {
            tracing::error!(path, unreadable, "records of a list cannot be read; the others are taken");
        }
        Ok(Page {
            records,
            unreadable,
            unreadable_ids,
            after: after.and_then(Value::as_str).filter(|cursor| !cursor.is_empty()).map(str::to_owned),
            asked,
        })
    }

    /// A record by its id; `None` for the API's own 404. An answer that is about another record is none.
    async fn record<R>(
        &self,
        path: [&str; 2],
        request: Request,
        from_json: impl Fn(&Value) -> Result<R, RecordError>,
        id: impl Fn(&R) -> &str,
    ) -> Result<Option<R>, ApiError> {
        let answer: Result<Option<(Box<RawValue>, _)>, _> = self.get_as(&path, &[], request).await;
        let answer = answer.map_err(too_large_to_read)?;
        let Some((record, _)) = answer else { return Ok(None) };
        let record = decode(&record, from_json)?;
        if id(&record) != path[1] {
            return Err(ApiError::Undecodable("it is about another record".to_owned()));
        }
        Ok(Some(record))
    }

    /// One request, when the limits allow it: the answer with its `Date`, or `None` for a 404 that is a JSON answer of
    /// the API.
    pub(super) async fn get_as<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        request: Request,
    ) -> Result<Option<(T, Option<Timestamp>)>, ApiError> {
        let asked = Instant::now();
        let permit = self.gate.admit(request).await.ok_or(ApiError::Withheld)?;
        let sent = Instant::now();
        let result = self.send(path, query, &permit).await;
        drop(permit);
        self.metrics.api_request(ApiPath::of(path), status_of(&result), sent - asked, sent.elapsed());
        let mut health = self.health.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &result {
            Ok(_) => *health = ApiHealth { last_success: Some(self.clock.now()), error: None },
            Err(error) => health.error = Some(error.clone()),
        }
        result
    }

    async fn send<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        permit: &Permit,
    ) -> Result<Option<(T, Option<Timestamp>)>, ApiError> {
        let url = self.url(path, query)?;
        let reply = match &self.way {
            Way::Http(http) => self.exchange(http, url).await?,
            Way::Other(transport) => transport.exchange(url).await.map_err(ApiError::Unreachable)?,
        };
        if let Some(date) = reply.date {
            self.compare_clocks(date);
        }
        match reply.status {
            429 => {
                self.pause(permit, reply.retry_after);
                Err(ApiError::RateLimited)
            }
            503 if !reply.retry_after.is_zero() => {
                permit.unavailable(reply.retry_after.min(LONGEST_UNAVAILABLE));
                Err(ApiError::Status(503))
            }
            200 => {
                let value = read_json(&reply.body);
                let date = reply.date;
                value.map(|value| Some((value, date))).map_err(|_| ApiError::Unreachable("a broken answer".to_owned()))
            }
            404 if is_answer_of_the_api(&reply.body) => Ok(None),
            status @ (401 | 403) => Err(ApiError::Refused(status)),
            status => Err(ApiError::Status(status)),
        }
    }

    fn pause(&self, permit: &Permit, length: Duration) {
        let whole_key = permit.refused(length);
        self.metrics.paused(if whole_key { PauseScope::Key } else { PauseScope::Directory });
        tracing::warn!(seconds = length.as_secs(), whole_key, "the API asks for a pause; requests wait");
    }

    async fn exchange(&self, http: &reqwest::Client, url: reqwest::Url) -> Result<Reply, ApiError> {
        let request = http.get(url).header("authorization", &self.authorization);
        let response = request.send().await.map_err(|error| ApiError::Unreachable(cause(&error)))?;
        let status = response.status().as_u16();
        let date = date_of(&response);
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|text| pause_of(text, date.unwrap_or_else(|| self.clock.now())));
        let shortest = if status == 429 { SHORTEST_PAUSE } else { Duration::ZERO };
        let retry_after = retry_after.unwrap_or_default().max(shortest);
        let body = body_of(response).await?;
        Ok(Reply { status, retry_after, date, body })
    }

    /// A GET request with our key.
    pub(super) fn request(&self, path: &[&str]) -> Result<reqwest::RequestBuilder, ApiError> {
        let Way::Http(http) = &self.way else { return Err(ApiError::Unreachable("there is no HTTP here".to_owned())) };
        Ok(http.get(self.url(path, &[])?).header("authorization", &self.authorization))
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Result<reqwest::Url, ApiError> {
        let mut url = reqwest::Url::parse(&self.base_url).map_err(|error| ApiError::Unreachable(error.to_string()))?;
        // Ids are opaque: pushed as segments they cannot leave their place in the path.
        url.path_segments_mut()
            .map_err(|()| ApiError::Unreachable("the base URL takes no path".to_owned()))?
            .pop_if_empty()
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }
}

/// Asks on behalf of one directory; see [`WorkosClient::on_behalf_of`].
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    client: &'a WorkosClient,
    directory: &'a DirectoryId,
    priority: Priority,
}

impl<'a> Caller<'a> {
    /// On whose behalf.
    #[must_use]
    pub fn directory(&self) -> &'a DirectoryId {
        self.directory
    }

    /// The directory's own record: `GET /directories/{id}`; `None` for the API's own 404.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn record(&self) -> Result<Option<DirectoryRecord>, ApiError> {
        let path = ["directories", self.directory.as_str()];
        self.client.record(path, self.request(false), DirectoryRecord::from_json, |record| record.id.as_str()).await
    }

    /// `GET /directory_users/{id}`; `None` for the API's own 404.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn user(&self, id: &DirectoryUserId) -> Result<Option<UserRecord>, ApiError> {
        let path = ["directory_users", id.as_str()];
        self.client.record(path, self.request(true), UserRecord::from_json, |user| user.id.as_str()).await
    }

    /// `GET /directory_groups/{id}`; `None` for the API's own 404.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn group(&self, id: &DirectoryGroupId) -> Result<Option<GroupRecord>, ApiError> {
        let path = ["directory_groups", id.as_str()];
        self.client.record(path, self.request(false), GroupRecord::from_json, |group| group.id.as_str()).await
    }

    /// `GET /directory_users`: a page, oldest first.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn users(&self, filter: ListFilter<'_>, after: Option<&str>) -> Result<Page<UserRecord>, ApiError> {
        let query = page_query(Some(filter), after);
        self.client.list("directory_users", &query, self.request(true), UserRecord::from_json).await
    }

    /// `GET /directory_groups`: a page, oldest first.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn groups(&self, filter: ListFilter<'_>, after: Option<&str>) -> Result<Page<GroupRecord>, ApiError> {
        let query = page_query(Some(filter), after);
        self.client.list("directory_groups", &query, self.request(false), GroupRecord::from_json).await
    }

    fn request(&self, on_users_path: bool) -> Request {
        Request { directory: Some(self.directory.to_string()), on_users_path, priority: self.priority }
    }
}

/// How long a `Retry-After` asks to wait: seconds, or an instant by the server's clock.
fn pause_of(retry_after: &str, now: Timestamp) -> Option<Duration> {
    let seconds = match retry_after.trim().parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let until = DateTime::parse_from_rfc2822(retry_after.trim()).ok()?;
            u64::try_from((until.to_utc() - now).num_seconds()).unwrap_or_default()
        }
    };
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}

/// The whole body, if it is not larger than any answer should be.
pub(super) async fn body_of(mut response: reqwest::Response) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| ApiError::Unreachable(cause(&error)))? {
        if body.len() + chunk.len() > MOST_BYTES {
            return Err(ApiError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// When the server says that it answered.
pub(super) fn date_of(response: &reqwest::Response) -> Option<Timestamp> {
    let date = response.headers().get("date")?.to_str().ok()?;
    DateTime::parse_from_rfc2822(date).ok().map(|date| date.to_utc())
}

/// Whether an error is told by the API itself, and not by a proxy before it.
fn is_answer_of_the_api(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body)
        .is_ok_and(|value| value.get("message").is_some() || value.get("code").is_some())
}

/// The innermost cause, which says most; never the URL.
pub(super) fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() { "it does not answer in time".to_owned() } else { telemetry::root_cause(error) }
}

/// What came of a request, as metrics count it.
fn status_of<T>(result: &Result<Option<T>, ApiError>) -> ApiStatus {
    match result {
        Ok(Some(_)) => ApiStatus::Ok,
        Ok(None) => ApiStatus::NotFound,
        Err(ApiError::Refused(401)) => ApiStatus::Unauthorized,
        Err(ApiError::Refused(_)) => ApiStatus::Forbidden,
        Err(ApiError::RateLimited) => ApiStatus::RateLimited,
        Err(ApiError::Status(status)) => ApiStatus::of_failure(*status),
        Err(
            ApiError::Unreachable(_)
            | ApiError::TooLarge
            | ApiError::Undecodable(_)
            | ApiError::UnknownCursor
            | ApiError::Withheld,
        ) => ApiStatus::Unreachable,
    }
}

/// What is too large is so the next time, too.
fn too_large_to_read(error: ApiError) -> ApiError {
    if error == ApiError::TooLarge { ApiError::Undecodable(error.to_string()) } else { error }
}

/// Reads a record by itself, so that what no number or stack of ours holds spoils that record and not its page.
fn decode<R>(record: &RawValue, from_json: impl Fn(&Value) -> Result<R, RecordError>) -> Result<R, ApiError> {
    let undecodable = |error: &dyn std::error::Error| ApiError::Undecodable(error.to_string());
    let value: Value = read_json(record.get().as_bytes()).map_err(|error| undecodable(&error))?;
    from_json(&value).map_err(|error| undecodable(&error))
}

/// The id of a record that cannot be read as a whole.
fn id_of_unreadable(record: &RawValue) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct OnlyId {
        id: String,
    }
    serde_json::from_str::<OnlyId>(record.get()).ok().map(|record| record.id)
}

fn page_query<'a>(filter: Option<ListFilter<'a>>, after: Option<&'a str>) -> Vec<(&'static str, &'a str)> {
    let mut query = vec![("limit", PAGE_SIZE), ("order", "asc")];
    query.extend(filter.map(|filter| match filter {
        ListFilter::Directory(id) => ("directory", id.as_str()),
        ListFilter::Group(id) => ("group", id.as_str()),
        ListFilter::User(id) => ("user", id.as_str()),
    }));
    query.extend(after.map(|after| ("after", after)));
    query
}

#[cfg(test)]
#[path = "client/tests.rs"]
mod tests;
