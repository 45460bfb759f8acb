//! Webhook endpoints. Source: WorkOS's OpenAPI document, schemas `WebhookEndpointJson`, `CreateWebhookEndpointDto` and
//! `UpdateWebhookEndpointDto`.

use std::collections::{BTreeSet, HashMap};

use actix_web::http::Uri;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::answers::{list, ok};
use crate::api_error::ApiError;
use crate::entries::Id;
use crate::inputs::WorldError;
use crate::paging::page;
use crate::records::iso_millis;
use crate::request::ApiResponse;
use crate::routes::Call;
use crate::world::World;

/// Every event that the emulator emits.
pub const DSYNC_EVENTS: [&str; 13] = [
    "dsync.activated",
    "dsync.deactivated",
    "dsync.deleted",
    "dsync.group.created",
    "dsync.group.deleted",
    "dsync.group.updated",
    "dsync.group.user_added",
    "dsync.group.user_removed",
    "dsync.token.created",
    "dsync.token.revoked",
    "dsync.user.created",
    "dsync.user.deleted",
    "dsync.user.updated",
];

/// What the API's webhook endpoints cannot subscribe to.
const NOT_SUBSCRIBABLE: [&str; 3] = ["dsync.deactivated", "dsync.token.created", "dsync.token.revoked"];

/// Whether webhooks are sent to an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointStatus {
    /// They are.
    #[default]
    Enabled,
    /// What happens meanwhile is never sent.
    Disabled,
}

/// A webhook endpoint as the API answers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WebhookEndpoint {
    /// Always `webhook_endpoint`.
    pub object: &'static str,
    /// `we_…`.
    pub id: String,
    /// Where webhooks go.
    pub endpoint_url: String,
    /// What they are signed with.
    pub secret: String,
    /// Whether they are sent.
    pub status: EndpointStatus,
    /// The types that are sent.
    pub events: Vec<String>,
    /// When it was made; whole milliseconds.
    #[serde(serialize_with = "iso_millis")]
    pub created_at: DateTime<Utc>,
    /// When it last changed; whole milliseconds.
    #[serde(serialize_with = "iso_millis")]
    pub updated_at: DateTime<Utc>,
}

/// What to change of a webhook endpoint, or what to make one of. `None` leaves a value alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EndpointChange {
    /// Where webhooks go.
    pub endpoint_url: Option<String>,
    /// The types to send.
    pub events: Option<Vec<String>>,
    /// Whether to send.
    pub status: Option<EndpointStatus>,
    /// What to sign with. WorkOS's API has no such field: only the control route and the library heed it.
    pub secret: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct WebhookEndpoints {
    ids: BTreeSet<Id>,
    by_id: HashMap<Id, WebhookEndpoint>,
    /// Counts the changes.
    pub(crate) version: u64,
}

impl WebhookEndpoints {
    pub(crate) fn all(&self) -> impl Iterator<Item = &WebhookEndpoint> {
        self.ids.iter().filter_map(|id| self.by_id.get(id))
    }

    fn taken(&self, url: &str, but: &str) -> bool {
        self.all().any(|endpoint| endpoint.endpoint_url == url && endpoint.id != but)
    }
}

impl World {
    /// Every webhook endpoint, oldest first.
    pub fn webhook_endpoints(&self) -> Vec<WebhookEndpoint> {
        self.endpoints.all().cloned().collect()
    }

    /// Registers an endpoint and returns its id. Without events in `new` it gets all that the emulator emits, without a
    /// secret the one of [`Options::webhook_secret`](crate::Options::webhook_secret) or one of its own.
    pub fn add_webhook_endpoint(&mut self, url: &str, new: EndpointChange) -> String {
        let now = self.now();
        let id = self.out.ids.next("we_");
        let pinned = new.secret.or_else(|| self.settings.webhook_secret.clone());
        let endpoint = WebhookEndpoint {
            object: "webhook_endpoint",
            id: id.clone(),
            endpoint_url: url.to_owned(),
            secret: pinned.unwrap_or_else(|| format!("whsec_{}", self.out.ids.key(25))),
            status: new.status.unwrap_or_default(),
            events: new.events.unwrap_or_else(|| DSYNC_EVENTS.map(str::to_owned).to_vec()),
            created_at: now,
            updated_at: now,
        };
        let shared = Id::from(id.as_str());
        self.endpoints.ids.insert(shared.clone());
        self.endpoints.by_id.insert(shared, endpoint);
        self.endpoints.version += 1;
        id
    }

    /// Changes an endpoint; what is on its way already goes to the new URL.
    ///
    /// # Errors
    /// The endpoint does not exist.
    pub fn change_webhook_endpoint(&mut self, id: &str, change: EndpointChange) -> Result<(), WorldError> {
        let now = self.now();
        let endpoint = self.endpoints.by_id.get_mut(id).ok_or_else(|| WorldError::UnknownEndpoint(id.to_owned()))?;
        endpoint.endpoint_url = change.endpoint_url.unwrap_or_else(|| std::mem::take(&mut endpoint.endpoint_url));
        endpoint.events = change.events.unwrap_or_else(|| std::mem::take(&mut endpoint.events));
        endpoint.secret = change.secret.unwrap_or_else(|| std::mem::take(&mut endpoint.secret));
        endpoint.status = change.status.unwrap_or(endpoint.status);
        endpoint.updated_at = now;
        self.endpoints.version += 1;
        Ok(())
    }

    /// Removes an endpoint.
    ///
    /// # Errors
    /// The endpoint does not exist.
    pub fn remove_webhook_endpoint(&mut self, id: &str) -> Result<(), WorldError> {
        self.endpoints.by_id.remove(id).ok_or_else(|| WorldError::UnknownEndpoint(id.to_owned()))?;
        self.endpoints.ids.remove(id);
        self.endpoints.version += 1;
        Ok(())
    }

    pub(crate) fn list_endpoints(&self, call: &Call<'_>) -> Result<ApiResponse, ApiError> {
        let query = call.page_query()?;
        list(&page(&self.endpoints.ids, &query, |_| true), |id| self.endpoints.by_id.get(id))
    }

    pub(crate) fn create_endpoint(&mut self, call: &Call<'_>) -> Result<ApiResponse, ApiError> {
        let new = self.endpoint_change(call)?;
        let Some(url) = new.endpoint_url.clone() else {
            return Err(ApiError::BadParameters("endpoint_url is required.".to_owned()));
        };
        if new.events.is_none() {
            return Err(ApiError::BadParameters("events is required.".to_owned()));
        }
        let id = self.add_webhook_endpoint(&url, EndpointChange { status: None, ..new });
        Ok(ApiResponse::json(201, &self.endpoints.by_id.get(id.as_str())))
    }

    pub(crate) fn update_endpoint(&mut self, call: &Call<'_>) -> Result<ApiResponse, ApiError> {
        if !self.endpoints.by_id.contains_key(call.id) {
            return Err(unknown_endpoint(call));
        }
        let change = self.endpoint_change(call)?;
        self.change_webhook_endpoint(call.id, change).map_err(|_| unknown_endpoint(call))?;
        ok(&self.endpoints.by_id.get(call.id))
    }

    pub(crate) fn delete_endpoint(&mut self, call: &Call<'_>) -> Result<ApiResponse, ApiError> {
        self.remove_webhook_endpoint(call.id).map_err(|_| unknown_endpoint(call))?;
        Ok(ApiResponse::empty(204))
    }

    /// The body of a request, if it may be done.
    fn endpoint_change(&self, call: &Call<'_>) -> Result<EndpointChange, ApiError> {
        let change = EndpointChange { secret: None, ..call.json()? };
        let mut events = change.events.iter().flatten();
        if let Some(unknown) = events.find(|name| !is_event_type(name)) {
            return Err(ApiError::UnknownEventType(unknown.clone()));
        }
        match &change.endpoint_url {
            Some(url) if !is_http_url(url) => Err(ApiError::InvalidUrl),
            Some(url) if self.endpoints.taken(url, call.id) => Err(ApiError::DuplicateEndpoint),
            _ => Ok(change),
        }
    }
}

fn unknown_endpoint(call: &Call<'_>) -> ApiError {
    ApiError::NotFound { entity: "Webhook Endpoint", id: call.id.to_owned() }
}

/// Whether webhooks can be sent there. Plain HTTP is allowed too: the receiver is somebody's laptop.
#[must_use]
pub fn is_http_url(url: &str) -> bool {
    let parsed = url.parse::<Uri>();
    parsed.is_ok_and(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some())
}

/// Those of the enum in `CreateWebhookEndpointDto` of WorkOS's OpenAPI document; names of other products' events are
/// taken by their look.
fn is_event_type(name: &str) -> bool {
    if name.starts_with("dsync.") {
        return DSYNC_EVENTS.contains(&name) && !NOT_SUBSCRIBABLE.contains(&name);
    }
    let word = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    name.contains('.') && name.split('.').all(word)
}
