//! What the API says of an account's set-up. For examinations by hand: each request is one look, without a second try.

use serde_json::Value;

use super::{ApiError, WorkosClient};
use crate::clock::Timestamp;
use crate::model::Paging;

/// A list that goes on for longer than any account's is not read to its end.
const MAX_PAGES: usize = 1000;
/// Names under which gateways tell how many requests are left; WorkOS documents none.
const REMAINING: [&str; 2] = ["x-ratelimit-remaining", "ratelimit-remaining"];

/// An answer, whatever it says.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// The HTTP status.
    pub status: u16,
    /// The `Date` header.
    pub date: Option<Timestamp>,
    /// When the request was sent and when it was answered.
    pub between: (Timestamp, Timestamp),
    /// How many requests are left, if a header tells.
    pub remaining: Option<String>,
    /// The body, if it is JSON.
    pub body: Option<Value>,
}

/// A list, read to its end as far as it could be.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// The last answer: the one that failed, if one did.
    pub last: Look,
    /// What was listed.
    pub records: Vec<Value>,
}

impl Listing {
    /// Whether every page was read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.last.status == 200 && self.last.body.as_ref().is_some_and(|body| body.get("data").is_some())
    }
}

impl WorkosClient {
    /// `GET /directories`: all that the key sees.
    ///
    /// # Errors
    /// [`ApiError::Unreachable`] if nothing answers.
    pub async fn look_at_directories(&self) -> Result<Listing, ApiError> {
        self.look_at_list("directories").await
    }

    /// `GET /webhook_endpoints`: all of the environment
    /// (the operation `WebhookEndpointsController_list` of WorkOS's OpenAPI document).
    ///
    /// # Errors
    /// [`ApiError::Unreachable`] if nothing answers.
    pub async fn look_at_webhook_endpoints(&self) -> Result<Listing, ApiError> {
        self.look_at_list("webhook_endpoints").await
    }

    async fn look_at_list(&self, path: &str) -> Result<Listing, ApiError> {
        let mut records = Vec::new();
        let (mut after, mut paging) = (None::<String>, Paging::default());
        for page in 1.. {
            let mut query = vec![("limit", "100")];
            query.extend(after.as_deref().map(|after| ("after", after)));
            let last = self.look(path, &query).await?;
            let body = last.body.as_ref().filter(|_| last.status == 200);
            records.extend(body.and_then(|body| body.get("data")?.as_array()).into_iter().flatten().cloned());
            let next = body.and_then(|body| body.get("list_metadata")?.get("after")?.as_str()).map(str::to_owned);
            if next.is_none() || !paging.notes([], next.as_deref()) || page == MAX_PAGES {
                return Ok(Listing { last, records });
            }
            after = next;
        }
        unreachable!("the last page ends the loop")
    }

    async fn look(&self, path: &str, query: &[(&str, &str)]) -> Result<Look, ApiError> {
        let unreachable = |error: reqwest::Error| ApiError::Unreachable(super::client::cause(&error));
        let sent = self.clock.now();
        let response = self.request(&[path])?.query(query).send().await.map_err(unreachable)?;
        let answered = self.clock.now();
        let header = |name: &str| response.headers().get(name)?.to_str().ok().map(str::to_owned);
        let date = super::client::date_of(&response);
        let remaining = REMAINING.into_iter().find_map(header);
        Ok(Look {
            status: response.status().as_u16(),
            date,
            between: (sent, answered),
            remaining,
            body: serde_json::from_slice(&super::client::body_of(response).await?).ok(),
        })
    }
}
