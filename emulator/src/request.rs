//! Requests and answers of the API, without a socket.

use serde::Serialize;
use serde_json::{Value, json};

/// A request to the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiRequest {
    /// In upper case, such as `GET`.
    pub method: String,
    /// Such as `/directory_users?directory=directory_…&limit=100`; percent-encoded where URLs need it.
    pub path_and_query: String,
    /// The key after `Authorization: Bearer`.
    pub bearer: Option<String>,
    /// JSON, or empty.
    pub body: Vec<u8>,
}

impl ApiRequest {
    /// A `GET` with a key.
    pub fn get(path_and_query: &str, bearer: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            path_and_query: path_and_query.to_owned(),
            bearer: Some(bearer.to_owned()),
            body: Vec::new(),
        }
    }

    /// A request with a key and a JSON body.
    pub fn with_json(method: &str, path_and_query: &str, bearer: &str, body: &Value) -> Self {
        Self { method: method.to_owned(), body: to_json(body), ..Self::get(path_and_query, bearer) }
    }
}

/// An answer of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiResponse {
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(&'static str, String)>,
    /// JSON, or empty.
    pub body: Vec<u8>,
}

impl ApiResponse {
    pub(crate) fn json(status: u16, body: &impl Serialize) -> Self {
        let headers = vec![("content-type", "application/json; charset=utf-8".to_owned())];
        Self { status, headers, body: to_json(body) }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn not_found() -> Self {
        Self::json(404, &json!({"message": "Not Found"}))
    }
}

fn to_json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("records have string keys only")
}
