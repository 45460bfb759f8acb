//! How records are kept: small, with shared strings, and without what follows from the rest.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::records::{CustomAttributes, Directory, Email, Group, Role, User};

/// Ids and words that many records have are shared: a membership costs two pointers on either side.
pub(crate) type Id = Arc<str>;

pub(crate) const ACTIVE: &str = "active";
pub(crate) const INACTIVE: &str = "inactive";

/// Where a record belongs.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) directory_id: Id,
    pub(crate) organization_id: Id,
}

#[derive(Clone, Debug)]
pub(crate) struct DirectoryEntry {
    pub(crate) record: Directory,
    pub(crate) home: Arc<Home>,
    /// The id of its domain, whether it has one or not.
    pub(crate) domain_id: String,
    pub(crate) users: BTreeSet<Id>,
    pub(crate) groups: BTreeSet<Id>,
    /// When a sync was last asked for.
    pub(crate) sync_requested_at: Option<DateTime<Utc>>,
    /// How many people and groups were invented here so far: the next are others.
    pub(crate) invented_users: usize,
    pub(crate) invented_groups: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct GroupEntry {
    pub(crate) record: Group,
    pub(crate) home: Arc<Home>,
    pub(crate) members: BTreeSet<Id>,
}

/// A user; [`UserEntry::record`] is what the API answers.
#[derive(Clone, Debug)]
pub(crate) struct UserEntry {
    pub(crate) id: Id,
    pub(crate) home: Arc<Home>,
    pub(crate) idp_id: Box<str>,
    pub(crate) email: Option<Box<str>>,
    pub(crate) first_name: Option<Id>,
    pub(crate) last_name: Option<Id>,
    pub(crate) job_title: Option<Id>,
    pub(crate) department: Option<Id>,
    pub(crate) role: Option<Id>,
    pub(crate) state: Id,
    /// The raw attributes, if they were given; others are derived.
    pub(crate) raw: Option<Box<Value>>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    /// A deletion was announced, though the record is kept.
    pub(crate) deleted: bool,
    pub(crate) groups: BTreeSet<Id>,
}

impl UserEntry {
    pub(crate) fn is_active(&self) -> bool {
        &*self.state == ACTIVE
    }

    /// The whole record.
    pub(crate) fn record(&self) -> User {
        let role = self.role.as_deref().map(|slug| Role { slug: slug.to_owned() });
        let email = self.email.as_deref().map(str::to_owned);
        let emails = email.iter().map(|_| Email { primary: true, kind: "work".to_owned(), value: email.clone() });
        let job_title = self.job_title.as_deref().map(str::to_owned);
        User {
            object: "directory_user",
            id: self.id.to_string(),
            directory_id: self.home.directory_id.to_string(),
            organization_id: self.home.organization_id.to_string(),
            idp_id: self.idp_id.to_string(),
            first_name: self.first_name.as_deref().map(str::to_owned),
            last_name: self.last_name.as_deref().map(str::to_owned),
            name: self.name(),
            emails: emails.collect(),
            username: email.clone(),
            email,
            state: self.state.to_string(),
            custom_attributes: CustomAttributes {
                department: self.department.as_deref().map(str::to_owned),
                job_title: job_title.clone(),
            },
            job_title,
            raw_attributes: self.raw.as_deref().cloned().unwrap_or_else(|| self.derived_raw()),
            roles: role.iter().cloned().collect(),
            role,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }

    fn name(&self) -> Option<String> {
        let names = [self.first_name.as_deref(), self.last_name.as_deref()];
        let names: Vec<&str> = names.into_iter().flatten().collect();
        (!names.is_empty()).then(|| names.join(" "))
    }

    fn derived_raw(&self) -> Value {
        json!({
            "id": &*self.idp_id,
            "userName": self.email.as_deref(),
            "name": {"givenName": self.first_name.as_deref(), "familyName": self.last_name.as_deref()},
            "title": self.job_title.as_deref(),
            "active": self.is_active(),
        })
    }
}

/// Words that recur, each kept once.
#[derive(Debug, Default)]
pub(crate) struct Words(HashSet<Id>);

impl Words {
    pub(crate) fn share(&mut self, text: &str) -> Id {
        match self.0.get(text) {
            Some(word) => word.clone(),
            None => {
                let word = Id::from(text);
                self.0.insert(word.clone());
                word
            }
        }
    }

    /// An empty text is none.
    pub(crate) fn share_filled(&mut self, text: &str) -> Option<Id> {
        (!text.is_empty()).then(|| self.share(text))
    }
}
