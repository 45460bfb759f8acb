//! `POST /api/webhooks/workos/directory-sync`: verified by type, stored, and only then answered.

mod body;
mod envelope;
pub mod event;
pub mod signature;

use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::{FromRequest, HttpRequest, HttpResponse, ResponseError, web};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

pub use self::body::BodyMemory;
use self::signature::{SignatureError, SignatureHeader};
use crate::clock::{Clock, Timestamp};
use crate::config::WebhookConfig;
use crate::db::NewInboxEvent;
use crate::db::types::StoredInstant;
use crate::inbox::{Inbox, InboxError};
use crate::metrics::Refusal;
use crate::model::EventStatus;

/// Where WorkOS posts.
pub const PATH: &str = "/api/webhooks/workos/directory-sync";

/// A request that is not accepted. Clients learn the kind, never the cause.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// Not from WorkOS, as far as we can tell.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The body is over the limit.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The body did not arrive in time.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// Other large bodies hold all the memory that they may: WorkOS tries again.
    #[error("too many large bodies are under way")]
    Busy,
    /// The body did not arrive whole.
    #[error("the body could not be read")]
    Unreadable,
    /// The event is not stored: WorkOS tries again.
    #[error(transparent)]
    Inbox(#[from] InboxError),
}

impl WebhookError {
    /// The cause, as metrics count it.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Signature(SignatureError::Missing) => Refusal::SignatureMissing,
            Self::Signature(SignatureError::Malformed) => Refusal::SignatureMalformed,
            Self::Signature(SignatureError::Mismatch) => Refusal::SignatureMismatch,
            Self::Signature(SignatureError::Stale) => Refusal::SignatureStale,
            Self::TooLarge(_) => Refusal::BodyTooLarge,
            Self::TooSlow => Refusal::BodyTooSlow,
            Self::Busy => Refusal::BodyMemory,
            Self::Unreadable => Refusal::BodyUnreadable,
            Self::Inbox(InboxError::Full) => Refusal::InboxFull,
            Self::Inbox(InboxError::CannotCommit) => Refusal::InboxCommit,
        }
    }
}

impl ResponseError for WebhookError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Signature(_) => StatusCode::UNAUTHORIZED,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Unreadable => StatusCode::BAD_REQUEST,
            Self::Busy | Self::Inbox(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let (code, message) = match self {
            Self::Signature(_) => ("invalid_signature", "the request's signature does not hold"),
            Self::TooLarge(_) => ("body_too_large", "the body is larger than this endpoint takes"),
            Self::TooSlow => ("body_too_slow", "the body did not arrive in time"),
            Self::Unreadable => ("body_unreadable", "the body did not arrive whole"),
            Self::Busy | Self::Inbox(_) => ("unavailable", "the event was not stored; send it again"),
        };
        tracing::warn!(cause = %self, "webhook refused");
        let mut response = HttpResponse::build(self.status_code());
        if matches!(self, Self::Busy | Self::Inbox(_)) {
            response.insert_header((RETRY_AFTER, "5"));
        }
        if matches!(self, Self::TooLarge(_) | Self::TooSlow | Self::Busy | Self::Unreadable) {
            // The rest of the body is not read.
            response.force_close();
        }
        response.json(json!({"error": {"code": code, "message": message}}))
    }
}

/// A body that WorkOS signed. Only verification makes one.
pub struct VerifiedEvent {
    body: Vec<u8>,
    received_at: Timestamp,
    /// Of the memory for large bodies; kept until the event is answered.
    _share: Option<OwnedSemaphorePermit>,
}

impl FromRequest for VerifiedEvent {
    type Error = WebhookError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, WebhookError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move { verify(&request, payload).await })
    }
}

async fn verify(request: &HttpRequest, payload: Payload) -> Result<VerifiedEvent, WebhookError> {
    // Every app has them (`http::configure`); without them nothing can be verified.
    let (Some(config), Some(clock), Some(memory)) = (
        request.app_data::<web::Data<WebhookConfig>>(),
        request.app_data::<web::Data<Clock>>(),
        request.app_data::<web::Data<BodyMemory>>(),
    ) else {
        return Err(InboxError::CannotCommit.into());
    };
    let mut headers = request.headers().get_all(signature::HEADER);
    let header = headers.next().ok_or(SignatureError::Missing)?;
    if headers.next().is_some() {
        return Err(SignatureError::Malformed.into());
    }
    let header = SignatureHeader::parse(header.to_str().map_err(|_| SignatureError::Malformed)?)?;
    let body = memory.read(request, payload).await?;
    let received_at = clock.now();
    header.verify(&body.bytes, &config.secrets, config.tolerance, received_at)?;
    Ok(VerifiedEvent { body: body.bytes, received_at, _share: body.share })
}

/// Stores the event and answers 200 once it is committed.
///
/// # Errors
/// [`WebhookError::Inbox`] if it is not stored.
pub async fn receive(event: VerifiedEvent, inbox: web::Data<Inbox>) -> Result<HttpResponse, WebhookError> {
    inbox.store(inbox_event(event.body, event.received_at, "webhook")).await?;
    Ok(HttpResponse::Ok().json(json!({"received": true})))
}

/// What is kept of a body that is surely WorkOS's: everything, whatever it says. `source` is `webhook` or `events_api`.
#[must_use]
pub fn inbox_event(body: Vec<u8>, received_at: Timestamp, source: &'static str) -> NewInboxEvent {
    let received_at = StoredInstant(received_at);
    let envelope = event::parse_envelope(&body);
    let (status, reason) = match &envelope {
        Err(error) => (EventStatus::Dead, Some(error.to_string())),
        Ok(envelope) => event::reason_to_ignore(&envelope.event_type)
            .map_or((EventStatus::Pending, None), |reason| (EventStatus::Ignored, Some(reason.to_owned()))),
    };
    let envelope = envelope.ok();
    let (event_id, event_type) = envelope.as_ref().map_or_else(
        || (event::id_from_hash(&body), String::new()),
        |envelope| (envelope.event_id.to_string(), envelope.event_type.clone()),
    );
    if status != EventStatus::Pending {
        tracing::info!(event_id, event_type, status = status.as_str(), reason, "event recorded");
    }
    NewInboxEvent {
        event_id,
        event_type,
        directory_id: envelope.as_ref().and_then(|envelope| envelope.directory_id.clone()),
        organization_id: envelope.as_ref().and_then(|envelope| envelope.organization_id.clone()),
        occurred_at: envelope.and_then(|envelope| envelope.occurred_at).map(StoredInstant),
        received_at,
        source,
        body,
        status: status.as_str(),
        reason,
        attempts: 0,
        processed_at: (status != EventStatus::Pending).then_some(received_at),
    }
}

#[cfg(test)]
mod tests;
