//! What the API refuses, and how it says so.
//!
//! Source of the bodies: the responses of WorkOS's OpenAPI document; WorkOS documentation, "API reference: errors" and
//! "rate limits".

use std::time::Duration;

use serde_json::json;

use crate::request::ApiResponse;

#[derive(Debug)]
pub(crate) enum ApiError {
    Unauthorized,
    NotFound {
        entity: &'static str,
        id: String,
    },
    UnknownDirectory {
        id: String,
    },
    Unprocessable(&'static str),
    /// A parameter of `GET /events`: its name, and what is wrong with it.
    InvalidField {
        field: &'static str,
        code: &'static str,
    },
    /// A body that is not JSON.
    BadRequest(String),
    /// A body with values that cannot be.
    BadParameters(String),
    UnknownEventType(String),
    InvalidUrl,
    DuplicateEndpoint,
    Limited(Duration),
}

impl ApiError {
    pub(crate) fn respond(self) -> ApiResponse {
        match self {
            Self::Unauthorized => ApiResponse::json(401, &json!({"message": "Unauthorized"})),
            Self::NotFound { entity, id } => ApiResponse::json(
                404,
                &json!({
                    "message": format!("{entity} not found: '{id}'."),
                    "code": "entity_not_found",
                    "entity_id": id,
                }),
            ),
            Self::UnknownDirectory { id } => {
                ApiResponse::json(404, &json!({"message": format!("Directory not found: '{id}'.")}))
            }
            Self::Unprocessable(message) => ApiResponse::json(422, &json!({"message": message})),
            Self::InvalidField { field, code } => ApiResponse::json(
                422,
                &json!({"message": "Validation failed.", "errors": [{"code": code, "field": field}]}),
            ),
            Self::BadRequest(message) => ApiResponse::json(400, &json!({"message": message})),
            Self::BadParameters(message) => bad_parameters("invalid", &message),
            Self::UnknownEventType(name) => bad_parameters("unknown_event_type", &format!("No such event: '{name}'.")),
            Self::InvalidUrl => {
                ApiResponse::json(422, &json!({"code": "invalid_url", "message": "endpoint_url is no HTTP URL."}))
            }
            Self::DuplicateEndpoint => ApiResponse::json(
                409,
                &json!({"code": "duplicate_endpoint", "message": "There is an endpoint with this URL."}),
            ),
            Self::Limited(wait) => limited(wait),
        }
    }
}

fn bad_parameters(code: &str, message: &str) -> ApiResponse {
    ApiResponse::json(
        422,
        &json!({
            "code": "invalid_request_parameters",
            "message": "Validation failed.",
            "errors": [{"code": code, "message": message}],
        }),
    )
}

fn limited(wait: Duration) -> ApiResponse {
    let seconds = wait.as_millis().div_ceil(1000).max(1);
    let mut response =
        ApiResponse::json(429, &json!({"message": "Rate limit exceeded.", "code": "rate_limit_exceeded"}));
    response.headers.push(("retry-after", seconds.to_string()));
    response
}
