//! The records as the API answers them.
//!
//! Source of every field: WorkOS's OpenAPI document (npm `@workos/openapi-spec`), schemas `Directory`, `DirectoryUser`,
//! `DirectoryUserWithGroups`, `DirectoryGroup` and `SlimRole`.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use serde_json::Value;

/// A directory: one customer's connection to its identity provider.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Directory {
    /// Always `directory`.
    pub object: &'static str,
    /// `directory_…`.
    pub id: String,
    /// The organization that it belongs to, `org_…`.
    pub organization_id: String,
    /// A short key of WorkOS's own.
    pub external_key: String,
    /// The provider, such as `okta scim v2.0`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `linked`, `unlinked`, `validating`, `invalid_credentials` or `deleting`.
    pub state: String,
    /// What people call it.
    pub name: String,
    /// The customer's domain, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// How much is in it.
    pub metadata: DirectoryMetadata,
    /// When it was made; whole milliseconds.
    #[serde(serialize_with = "iso_millis")]
    pub created_at: DateTime<Utc>,
    /// When it last changed; whole milliseconds.
    #[serde(serialize_with = "iso_millis")]
    pub updated_at: DateTime<Utc>,
}

/// The counts of a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DirectoryMetadata {
    /// Users by state.
    pub users: UserCounts,
    /// Number of groups.
    pub groups: u64,
}

/// Numbers of users by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UserCounts {
    /// Users whose state is `active`.
    pub active: u64,
    /// Every other user.
    pub inactive: u64,
}

/// A directory user, without the `groups` that the API adds to it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct User {
    /// Always `directory_user`.
    pub object: &'static str,
    /// `directory_user_…`.
    pub id: String,
    /// The directory that it is in.
    pub directory_id: String,
    /// The organization of its directory.
    pub organization_id: String,
    /// The identity provider's own id.
    pub idp_id: String,
    /// The primary address.
    pub email: Option<String>,
    /// Given name.
    pub first_name: Option<String>,
    /// Family name.
    pub last_name: Option<String>,
    /// Both names.
    pub name: Option<String>,
    /// All addresses (deprecated by WorkOS, still sent).
    pub emails: Vec<Email>,
    /// Login name (deprecated by WorkOS, still sent).
    pub username: Option<String>,
    /// Job title (deprecated by WorkOS, still sent).
    pub job_title: Option<String>,
    /// `active`, `inactive` or `suspended`.
    pub state: String,
    /// Attributes after WorkOS's mapping.
    pub custom_attributes: CustomAttributes,
    /// What the provider sent, an object.
    pub raw_attributes: Value,
    /// The primary role, if any is assigned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Every role; left out of the JSON when there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Role>,
    /// When it was made; whole milliseconds.
    #[serde(serialize_with = "iso_millis")]
    pub created_at: DateTime<Utc>,
    /// When the record last changed; memberships do not count. Whole milliseconds.
    #[serde(serialize_with = "iso_millis")]
    pub updated_at: DateTime<Utc>,
}

impl User {
    /// Whether the state is `active`.
    pub fn is_active(&self) -> bool {
        self.state == "active"
    }
}

/// One address of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Email {
    /// Whether it is the main one.
    pub primary: bool,
    /// Such as `work`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The address.
    pub value: Option<String>,
}

/// The attributes that this environment maps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CustomAttributes {
    /// Department.
    pub department: Option<String>,
    /// Job title.
    pub job_title: Option<String>,
}

/// A role, by its slug.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Role {
    /// Such as `admin`.
    pub slug: String,
}

/// A directory group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// Always `directory_group`.
    pub object: &'static str,
    /// `directory_group_…`.
    pub id: String,
    /// The identity provider's own id.
    pub idp_id: String,
    /// The directory that it is in.
    pub directory_id: String,
    /// The organization of its directory.
    pub organization_id: String,
    /// Display name.
    pub name: String,
    /// What the provider sent, an object.
    pub raw_attributes: Value,
    /// When it was made; whole milliseconds.
    #[serde(serialize_with = "iso_millis")]
    pub created_at: DateTime<Utc>,
    /// When the record last changed; memberships do not count. Whole milliseconds.
    #[serde(serialize_with = "iso_millis")]
    pub updated_at: DateTime<Utc>,
}

/// Everything that the API could answer at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Truth {
    /// Directories by id.
    pub directories: BTreeMap<String, Directory>,
    /// Users by id, inactive ones included.
    pub users: BTreeMap<String, User>,
    /// Groups by id.
    pub groups: BTreeMap<String, Group>,
    /// Memberships as (group id, user id), those of inactive users included.
    pub members: BTreeSet<(String, String)>,
}

/// A user as the API answers it.
#[derive(Serialize)]
pub(crate) struct UserWithGroups<'a> {
    #[serde(flatten)]
    pub(crate) user: User,
    pub(crate) groups: Vec<&'a Group>,
}

/// A list answer.
#[derive(Serialize)]
pub(crate) struct List<'a, T> {
    pub(crate) object: &'static str,
    pub(crate) data: Vec<T>,
    pub(crate) list_metadata: ListMetadata<'a>,
}

/// The cursors of a list answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ListMetadata<'a> {
    pub(crate) before: Option<&'a str>,
    pub(crate) after: Option<&'a str>,
}

/// Writes a time as WorkOS does, `2026-01-15T12:00:00.000Z`.
pub(crate) fn iso_millis<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
}
