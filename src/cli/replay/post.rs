//! Signs and posts one event, and reads what the server says to it.

use std::time::Duration;

use chrono::DateTime;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use serde_json::Value;

use super::target::Target;
use crate::clock::{Clock, Timestamp};
use crate::telemetry;
use crate::webhook::signature;

const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often an event is posted again after 429 or 503.
const MAX_WAITS: usize = 3;
/// The longest that one such answer makes us wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// If such an answer does not say how long to wait.
const DEFAULT_WAIT: Duration = Duration::from_secs(1);

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The server has it now.
    Accepted,
    /// The server does not take it: its status, and its reason if it gives one.
    Refused(StatusCode, Option<String>),
    /// The connection broke, or nothing came in time.
    Silence(String),
}

/// Why nothing can be posted.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    /// There is no connection to be had.
    #[error(
        "no server can be reached at {url} ({cause})\n\
         start it with `directory-mirror serve`, or name another with --url"
    )]
    NotThere {
        /// Where it should be.
        url: String,
        /// The operating system's words.
        cause: String,
    },
    /// TLS cannot be set up on this machine.
    #[error("no HTTP client can be made: {0}")]
    Client(#[source] reqwest::Error),
}

/// Posts events to one target.
pub(super) struct Poster {
    http: reqwest::Client,
    target: Target,
    clock: Clock,
}

impl Poster {
    /// A poster; nothing is sent yet.
    ///
    /// # Errors
    /// [`PostError::Client`].
    pub(super) fn new(target: Target, clock: Clock) -> Result<Self, PostError> {
        // Somebody may have installed it before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("directory-mirror/", env!("CARGO_PKG_VERSION")));
        if target.is_local() {
            builder = builder.no_proxy();
        }
        Ok(Self { http: builder.build().map_err(PostError::Client)?, target, clock })
    }

    /// Posts a body, and again as often and as late as a busy server asks for, up to a limit.
    ///
    /// # Errors
    /// [`PostError::NotThere`].
    pub(super) async fn post(&self, body: &[u8]) -> Result<Answer, PostError> {
        let mut waits = 0;
        loop {
            // Each time with a new signature: the one before may have grown old.
            let signature = signature::sign(&self.target.secret, self.clock.now(), body);
            let request = self
                .http
                .post(self.target.url.clone())
                .header(CONTENT_TYPE, "application/json")
                .header(signature::HEADER, signature)
                .body(body.to_vec());
            let response = match request.send().await {
                Ok(response) => response,
                Err(error) if error.is_connect() => return Err(self.not_there(&error)),
                Err(error) => return Ok(Answer::Silence(root_cause(&error))),
            };
            let status = response.status();
            let is_busy = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
            if is_busy && waits < MAX_WAITS {
                waits += 1;
                let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                tokio::time::sleep(wait(header, self.clock.now())).await;
                continue;
            }
            if status.is_success() {
                return Ok(Answer::Accepted);
            }
            let body = response.bytes().await.unwrap_or_default();
            return Ok(Answer::Refused(status, message(&body)));
        }
    }

    fn not_there(&self, error: &reqwest::Error) -> PostError {
        PostError::NotThere { url: self.target.shown(), cause: root_cause(error) }
    }
}

/// How long to wait by `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3).
fn wait(header: Option<&str>, now: Timestamp) -> Duration {
    let seconds = |text: &str| text.trim().parse().ok().map(Duration::from_secs);
    let until = |text: &str| DateTime::parse_from_rfc2822(text.trim()).ok().map(|at| at.to_utc() - now);
    let date = |text: &str| until(text).map(|left| left.to_std().unwrap_or_default());
    header.and_then(|text| seconds(text).or_else(|| date(text))).unwrap_or(DEFAULT_WAIT).min(LONGEST_WAIT)
}

/// The reason that a JSON answer gives. Any other answer, such as a proxy's page, is left unread.
fn message(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let text = answer.pointer("/error/message").or(answer.get("message"))?;
    text.as_str().map(str::to_owned)
}

/// The deepest cause; those above it only say that a request failed, and repeat the URL.
fn root_cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "nothing came in time".to_owned();
    }
    telemetry::root_cause(error)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::Secret;

    /// Answers each request with the next of `answers`; afterwards it gives back the signatures that it got.
    async fn post_to(answers: &'static [&'static str]) -> (Answer, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let server = tokio::spawn(async move {
            let mut signatures = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"body") {
                    assert!(stream.read_buf(&mut request).await.unwrap() > 0);
                }
                let request = String::from_utf8(request).unwrap().to_lowercase();
                let line = request.lines().find(|line| line.starts_with("workos-signature: ")).unwrap();
                signatures.push(line.to_owned());
                let head = format!("HTTP/1.1 {answer}\r\nconnection: close\r\n\r\n");
                let whole = if answer.is_empty() { answer } else { &head.replace("|", "\r\nretry-after: ")[..] };
                stream.write_all(whole.as_bytes()).await.unwrap();
            }
            signatures
        });
        let ticks = Arc::new(std::sync::atomic::AtomicI64::new(0));
        let clock = Clock::from_fn(move || {
            let tick = ticks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            DateTime::from_timestamp_millis(tick).unwrap()
        });
        let target = Target { url, secret: Secret::new("s"), tolerance: Duration::ZERO };
        let answer = Poster::new(target, clock).unwrap().post(b"body").await.unwrap();
        (answer, server.await.unwrap())
    }

    #[tokio::test]
    async fn a_busy_server_is_asked_again_each_time_with_a_new_signature() {
        let (answer, mut signatures) = post_to(&["503 x|0", "429 x|0", "503 x|0", "200 OK"]).await;
        assert_eq!(answer, Answer::Accepted);
        signatures.dedup();
        assert_eq!(signatures.len(), 4);
    }

    #[tokio::test]
    async fn a_server_that_stays_busy_refuses_in_the_end() {
        let (answer, _) = post_to(&["503 x|0", "503 x|0", "503 x|0", "503 x|0"]).await;
        assert_eq!(answer, Answer::Refused(StatusCode::SERVICE_UNAVAILABLE, None));
    }

    #[tokio::test]
    async fn redirections_and_broken_connections_are_not_acceptance() {
        assert_eq!(post_to(&["302 x"]).await.0, Answer::Refused(StatusCode::FOUND, None));
        assert!(matches!(post_to(&[""]).await.0, Answer::Silence(_)));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_has_a_limit() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (header, seconds) in [
            (None, 1),
            (Some("soon"), 1),
            (Some("0"), 0),
            (Some(" 5 "), 5),
            (Some("3600"), 60),
            (Some("Thu, 01 Jan 2026 00:00:07 GMT"), 7),
            (Some("Wed, 31 Dec 2025 00:00:07 GMT"), 0),
        ] {
            assert_eq!(wait(header, now), Duration::from_secs(seconds), "{header:?}");
        }
    }

    #[test]
    fn only_a_reason_in_json_is_repeated() {
        assert_eq!(message(br#"{"error":{"code":"x","message":"no"}}"#).as_deref(), Some("no"));
        assert_eq!(message(br#"{"message":"no"}"#).as_deref(), Some("no"));
        assert_eq!(message(b"<html>ada@acme.example</html>"), None);
        assert_eq!(message(br#"{"message":{"a":1}}"#), None);
    }
}
