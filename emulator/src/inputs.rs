//! What a change is described with.

use serde::Deserialize;
use serde_json::Value;

/// A directory to make. In JSON only `name` is needed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NewDirectory {
    /// What people call it.
    pub name: String,
    /// The provider, as WorkOS writes it: `okta scim v2.0`, `azure scim v2.0`, `gsuite directory`, …
    #[serde(default = "default_kind", rename = "type")]
    pub kind: String,
    /// The organization; `None` makes a new one.
    #[serde(default)]
    pub organization_id: Option<String>,
    /// The customer's domain; empty is none.
    #[serde(default)]
    pub domain: String,
}

impl NewDirectory {
    /// An Okta directory of a new organization, with the domain `<name>.example`.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: default_kind(),
            organization_id: None,
            domain: format!("{}.example", slug(name)),
        }
    }
}

/// A user to make. An empty string is a `null` in the record.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct NewUser {
    /// Given name.
    #[serde(default)]
    pub first_name: String,
    /// Family name.
    #[serde(default)]
    pub last_name: String,
    /// The primary address, and the login name.
    #[serde(default)]
    pub email: String,
    /// The identity provider's id; `None` makes one.
    #[serde(default)]
    pub idp_id: Option<String>,
    /// Job title.
    #[serde(default)]
    pub job_title: String,
    /// Department.
    #[serde(default)]
    pub department: String,
    /// Slug of the role, if any.
    #[serde(default)]
    pub role: Option<String>,
    /// Sent as they are and never changed; `None` derives a small SCIM-like object from the other fields.
    #[serde(default)]
    pub raw_attributes: Option<Value>,
}

impl NewUser {
    /// A software engineer with the address `<first>.<last>@<domain>` and no role.
    pub fn named(first_name: &str, last_name: &str, domain: &str) -> Self {
        Self {
            first_name: first_name.to_owned(),
            last_name: last_name.to_owned(),
            email: format!("{}.{}@{domain}", slug(first_name), slug(last_name)),
            idp_id: None,
            job_title: "Software Engineer".to_owned(),
            department: "Engineering".to_owned(),
            role: None,
            raw_attributes: None,
        }
    }
}

/// What to change of a user. `None` leaves a field alone, an empty string takes its value away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct UserChange {
    /// Given name.
    pub first_name: Option<String>,
    /// Family name.
    pub last_name: Option<String>,
    /// The primary address, and the login name.
    pub email: Option<String>,
    /// Job title.
    pub job_title: Option<String>,
    /// Department.
    pub department: Option<String>,
    /// Slug of the role.
    pub role: Option<String>,
}

/// How an environment tells of a user who was deactivated.
///
/// Source: WorkOS documentation, "Handle inactive users": environments made since October 2023 send a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deactivation {
    /// Older environments: `dsync.user.updated` with the state inactive; the record and its memberships stay.
    UpdatedInactive,
    /// `dsync.user.deleted`, and the API goes on answering the user, as inactive, with its memberships.
    DeletedKept,
    /// `dsync.user.deleted`, and the API answers 404; memberships vanish without events of their own.
    DeletedGone,
}

/// A change named something that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// No directory has this id.
    #[error("Directory not found: '{0}'.")]
    UnknownDirectory(String),
    /// No user has this id, or not in the directory of the group in question.
    #[error("Directory User not found: '{0}'.")]
    UnknownUser(String),
    /// No group has this id.
    #[error("Directory Group not found: '{0}'.")]
    UnknownGroup(String),
    /// No token has this id.
    #[error("Directory Token not found: '{0}'.")]
    UnknownToken(String),
    /// No webhook endpoint has this id.
    #[error("Webhook Endpoint not found: '{0}'.")]
    UnknownEndpoint(String),
    /// A user who is active cannot be rehired.
    #[error("Directory User is still active: '{0}'.")]
    StillActive(String),
    /// What a bulk change asked for cannot be done.
    #[error("{0}")]
    Bulk(String),
}

fn default_kind() -> String {
    "okta scim v2.0".to_owned()
}

fn slug(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
