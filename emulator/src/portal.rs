//! `POST /portal/generate_link`. Source: WorkOS's OpenAPI document, schema `GenerateLinkDto`.

use serde::Deserialize;
use serde_json::json;

use crate::api_error::ApiError;
use crate::request::ApiResponse;
use crate::routes::Call;
use crate::world::World;

const INTENTS: [&str; 7] =
    ["sso", "dsync", "audit_logs", "log_streams", "domain_verification", "certificate_renewal", "bring_your_own_key"];

const MAX_CONTACTS: usize = 20;

#[derive(Deserialize)]
struct LinkRequest {
    organization: String,
    intent: Option<String>,
    #[serde(default)]
    it_contact_emails: Vec<String>,
}

impl World {
    /// The link leads nowhere: the emulator has no Admin Portal.
    pub(crate) fn generate_link(&mut self, call: &Call<'_>) -> Result<ApiResponse, ApiError> {
        let request: LinkRequest = call.json()?;
        if request.intent.is_some_and(|intent| !INTENTS.contains(&intent.as_str())) {
            return Err(ApiError::Unprocessable("intent is none that the Admin Portal has."));
        }
        if request.it_contact_emails.len() > MAX_CONTACTS {
            return Err(ApiError::Unprocessable("it_contact_emails must be 20 at most."));
        }
        if !self.organizations.contains_key(request.organization.as_str()) {
            return Err(ApiError::NotFound { entity: "Organization", id: request.organization });
        }
        let token = self.out.ids.key(24);
        Ok(ApiResponse::json(201, &json!({"link": format!("https://setup.workos.example?token={token}")})))
    }
}
