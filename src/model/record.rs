//! Records as WorkOS sends them, in webhooks and from the API, reduced to what the mirror keeps.

use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::Value;

use super::{Attributes, DirectoryGroupId, DirectoryId, DirectoryUserId, IdError, TooDeep, directory_state};
use crate::clock::Timestamp;

/// Why a JSON value is not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A field that every such record has is missing or of another type.
    #[error("the {record} has no {field}")]
    Missing {
        /// Which kind of record.
        record: &'static str,
        /// The field's name.
        field: &'static str,
    },
    /// An id cannot be stored.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Attributes cannot be stored.
    #[error(transparent)]
    Attributes(#[from] TooDeep),
}

/// A directory, from a webhook or the API.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectoryRecord {
    /// WorkOS's id.
    pub id: DirectoryId,
    /// The customer it belongs to; some directories have none.
    pub organization_id: Option<String>,
    /// The name in WorkOS's dashboard.
    pub name: Option<String>,
    /// The provider, such as `okta scim v2.0`.
    pub kind: Option<String>,
    /// In the API's vocabulary (see [`directory_state`]).
    pub state: String,
    /// `None` where the sender left domains out: that says nothing about them.
    pub domains: Option<Vec<String>>,
    /// WorkOS's external key; `None` where the sender left it out.
    pub external_key: Option<String>,
    /// WorkOS's `created_at`.
    pub created_at: Option<Timestamp>,
    /// WorkOS's `updated_at`; `None` while nothing is known but the id.
    pub updated_at: Option<Timestamp>,
}

/// A directory user, from a webhook or the API.
#[derive(Debug, Clone, PartialEq)]
pub struct UserRecord {
    /// WorkOS's id.
    pub id: DirectoryUserId,
    /// The directory the user belongs to.
    pub directory_id: DirectoryId,
    /// The customer, where told.
    pub organization_id: Option<String>,
    /// The identity provider's id; the same person keeps it when rehired.
    pub idp_id: Option<String>,
    /// The address: `email`, or else the primary one of the deprecated `emails`.
    pub email: Option<String>,
    /// Given name.
    pub first_name: Option<String>,
    /// Family name.
    pub last_name: Option<String>,
    /// `name`, or else given and family name joined.
    pub display_name: Option<String>,
    /// Deprecated by WorkOS; kept while it is sent.
    pub username: Option<String>,
    /// Deprecated by WorkOS in favour of `custom_attributes.job_title`, which is read where this is absent.
    pub job_title: Option<String>,
    /// WorkOS's own word for the state.
    pub state: String,
    /// The slug of `role`, or of the first of `roles` where there is only that.
    pub role: Option<String>,
    /// Attributes mapped in WorkOS's dashboard.
    pub custom_attributes: Attributes,
    /// The provider's own attributes; empty where WorkOS sends none.
    pub raw_attributes: Attributes,
    /// WorkOS's `created_at`.
    pub created_at: Option<Timestamp>,
    /// WorkOS's `updated_at`; it does not move when memberships change.
    pub updated_at: Timestamp,
}

/// A directory group, from a webhook or the API.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupRecord {
    /// WorkOS's id.
    pub id: DirectoryGroupId,
    /// The directory the group belongs to.
    pub directory_id: DirectoryId,
    /// The customer, where told.
    pub organization_id: Option<String>,
    /// The identity provider's id; with some providers the display name.
    pub idp_id: Option<String>,
    /// Display name.
    pub name: String,
    /// The provider's own attributes.
    pub raw_attributes: Attributes,
    /// WorkOS's `created_at`.
    pub created_at: Option<Timestamp>,
    /// WorkOS's `updated_at`.
    pub updated_at: Timestamp,
}

impl DirectoryRecord {
    /// Reads a directory; accepts `domain` (API) and `domains` (webhooks).
    ///
    /// # Errors
    /// [`RecordError`] if the id or `state` is missing.
    pub fn from_json(value: &Value) -> Result<Self, RecordError> {
        let missing = |field| RecordError::Missing { record: "directory", field };
        let domains = match (value.get("domains"), text(value, "domain")) {
            (Some(Value::Array(list)), _) => {
                Some(list.iter().filter_map(|d| text(d, "domain").or_else(|| d.as_str().map(into_stored))).collect())
            }
            (_, Some(domain)) => Some(vec![domain]),
            _ => None,
        };
        Ok(Self {
            id: DirectoryId::new(text(value, "id").ok_or_else(|| missing("id"))?)?,
            organization_id: text(value, "organization_id"),
            name: text(value, "name"),
            kind: text(value, "type"),
            state: directory_state(&text(value, "state").ok_or_else(|| missing("state"))?).to_owned(),
            domains,
            external_key: text(value, "external_key"),
            created_at: instant(value, "created_at"),
            updated_at: instant(value, "updated_at"),
        })
    }
}

impl UserRecord {
    /// Reads a directory user.
    ///
    /// # Errors
    /// [`RecordError`] if an id, `state` or `updated_at` is missing, or the attributes cannot be stored.
    pub fn from_json(value: &Value) -> Result<Self, RecordError> {
        let missing = |field| RecordError::Missing { record: "directory user", field };
        let first_name = text(value, "first_name");
        let last_name = text(value, "last_name");
        let joined = [first_name.as_deref(), last_name.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let custom = value.get("custom_attributes");
        Ok(Self {
            id: DirectoryUserId::new(text(value, "id").ok_or_else(|| missing("id"))?)?,
            directory_id: DirectoryId::new(text(value, "directory_id").ok_or_else(|| missing("directory_id"))?)?,
            organization_id: text(value, "organization_id"),
            idp_id: text(value, "idp_id"),
            email: text(value, "email").or_else(|| primary_email(value)),
            display_name: text(value, "name").or(Some(joined).filter(|name| !name.is_empty())),
            first_name,
            last_name,
            username: text(value, "username"),
            job_title: text(value, "job_title").or_else(|| custom.and_then(|custom| text(custom, "job_title"))),
            state: text(value, "state").ok_or_else(|| missing("state"))?,
            role: role_slug(value),
            custom_attributes: Attributes::of(custom)?,
            raw_attributes: Attributes::of(value.get("raw_attributes"))?,
            created_at: instant(value, "created_at"),
            updated_at: instant(value, "updated_at").ok_or_else(|| missing("updated_at"))?,
        })
    }
}

/// The role, or where only a list of roles is told, the first of them.
fn role_slug(user: &Value) -> Option<String> {
    let first = || user.get("roles").and_then(Value::as_array).and_then(|roles| roles.first());
    user.get("role").filter(|role| role.is_object()).or_else(first).and_then(|role| text(role, "slug"))
}

impl GroupRecord {
    /// Reads a directory group.
    ///
    /// # Errors
    /// [`RecordError`] if an id, `name` or `updated_at` is missing, or the attributes cannot be stored.
    pub fn from_json(value: &Value) -> Result<Self, RecordError> {
        let missing = |field| RecordError::Missing { record: "directory group", field };
        Ok(Self {
            id: DirectoryGroupId::new(text(value, "id").ok_or_else(|| missing("id"))?)?,
            directory_id: DirectoryId::new(text(value, "directory_id").ok_or_else(|| missing("directory_id"))?)?,
            organization_id: text(value, "organization_id"),
            idp_id: text(value, "idp_id"),
            name: text(value, "name").ok_or_else(|| missing("name"))?,
            raw_attributes: Attributes::of(value.get("raw_attributes"))?,
            created_at: instant(value, "created_at"),
            updated_at: instant(value, "updated_at").ok_or_else(|| missing("updated_at"))?,
        })
    }
}

/// Reads WorkOS's timestamps, cut to microseconds: ISO 8601 with a zone, and the form of a documented sample,
/// `2023-04-28 20:05:31.093`, which has none and is UTC.
#[must_use]
pub fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let instant = DateTime::parse_from_rfc3339(text).map(|at| at.with_timezone(&Utc)).ok().or_else(|| {
        ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"]
            .iter()
            .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
            .map(|at| at.and_utc())
    })?;
    // As the engines keep it: no leap second, which is the first of the next minute there, and a year of four digits.
    let instant = DateTime::from_timestamp_micros(instant.timestamp_micros())?;
    (0..=9999).contains(&chrono::Datelike::year(&instant)).then_some(instant)
}

/// Replaces U+0000, which PostgreSQL stores neither in text nor in jsonb, by U+FFFD.
#[must_use]
pub fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{FFFD}") } else { text }
}

fn into_stored(text: &str) -> String {
    without_nul(text.to_owned())
}

fn text(value: &Value, field: &str) -> Option<String> {
    value.get(field).and_then(Value::as_str).map(into_stored)
}

fn instant(value: &Value, field: &str) -> Option<Timestamp> {
    value.get(field).and_then(Value::as_str).and_then(parse_timestamp)
}

fn primary_email(value: &Value) -> Option<String> {
    let emails = value.get("emails")?.as_array()?;
    let primary = emails.iter().find(|email| email.get("primary") == Some(&Value::Bool(true)));
    primary.and_then(|email| text(email, "value"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms_of_timestamps_are_read() {
        let expected = "2023-04-28T20:05:31.093Z".parse::<Timestamp>().ok();
        for text in ["2023-04-28T20:05:31.093Z", "2023-04-28 20:05:31.093", "2023-04-28T22:05:31.093+02:00"] {
            assert_eq!(parse_timestamp(text), expected, "{text}");
        }
        for text in ["", "yesterday", "+262142-01-01T00:00:00Z", "2023-13-01 00:00:00"] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn a_leap_second_reads_as_it_is_stored() {
        let at = parse_timestamp("2016-12-31T23:59:60.5Z").unwrap();
        assert_eq!(Some(at), DateTime::from_timestamp_micros(at.timestamp_micros()));
        assert_eq!(at, "2017-01-01T00:00:00.5Z".parse::<Timestamp>().unwrap());
        assert_eq!(parse_timestamp("9999-12-31T23:59:60Z"), None, "a year of five digits");
    }

    #[test]
    fn a_user_with_little_is_read_and_nul_is_replaced() {
        let user = UserRecord::from_json(&json!({
            "id": "directory_user_1", "directory_id": "directory_1", "state": "on_leave", "email": null,
            "emails": [{"primary": true, "type": "work", "value": "a@b.example"}],
            "first_name": "A\u{0}da", "last_name": null, "raw_attributes": {"k\u{0}": ["v\u{0}"]},
            "updated_at": "2026-01-15T12:00:00.000Z",
        }))
        .unwrap();
        assert_eq!(user.first_name.as_deref(), Some("A\u{FFFD}da"));
        assert_eq!(user.display_name.as_deref(), Some("A\u{FFFD}da"));
        assert_eq!(user.email.as_deref(), Some("a@b.example"));
        assert_eq!(user.raw_attributes.to_json(), json!({"k\u{FFFD}": ["v\u{FFFD}"]}));
        assert_eq!(user.custom_attributes, Attributes::default());
    }

    #[test]
    fn a_record_without_its_essentials_is_refused() {
        let error = UserRecord::from_json(&json!({"id": "u", "directory_id": "d"})).unwrap_err();
        assert_eq!(error.to_string(), "the directory user has no state");
        let long = "x".repeat(600);
        let error = GroupRecord::from_json(&json!({"id": long, "directory_id": "d"})).unwrap_err();
        assert!(matches!(error, RecordError::Id(IdError::TooLong(600))));
    }
}
