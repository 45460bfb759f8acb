//! Environments described by a file: organizations, their directories, and who is in them.

use std::collections::HashMap;

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use crate::bulk::{Amount, BulkSpec};
use crate::entries::{ACTIVE, INACTIVE};
use crate::inputs::{NewDirectory, NewUser, WorldError};
use crate::world::World;

/// The types that a directory can have. Source: schema `Directory` of WorkOS's OpenAPI document.
const DIRECTORY_TYPES: [&str; 21] = [
    "azure scim v2.0",
    "bamboohr",
    "breathe hr",
    "cezanne hr",
    "cyberark scim v2.0",
    "fourth hr",
    "generic scim v2.0",
    "gsuite directory",
    "hibob",
    "jump cloud scim v2.0",
    "okta scim v2.0",
    "onelogin scim v2.0",
    "people hr",
    "personio",
    "pingfederate scim v2.0",
    "rippling scim v2.0",
    "s3",
    "sailpoint scim v2.0",
    "sftp",
    "sftp workday",
    "workday",
];

const DIRECTORY_STATES: [&str; 5] = ["linked", "unlinked", "validating", "invalid_credentials", "deleting"];
const USER_STATES: [&str; 3] = [ACTIVE, INACTIVE, "suspended"];

/// An environment to make, read from YAML (or from JSON, which is YAML too).
///
/// ```
/// use workos_emulator::{Options, SeedFile, World};
///
/// let seed = SeedFile::parse(
///     "
/// organizations:
///   - name: Acme
///     directories:
///       - name: Acme Okta
///         type: okta scim v2.0
///         users:
///           - {first_name: Ada, last_name: Lovelace, email: ada@acme.example}
///         groups:
///           - {name: Engineering, members: [ada@acme.example]}
///         bulk: {users: 100, groups: 5, memberships: 300}
/// ",
/// )?;
/// let mut world = World::new(&Options::default());
/// world.plant(seed)?;
/// assert_eq!((world.truth().users.len(), world.truth().members.len()), (101, 301));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedFile {
    organizations: Vec<SeedOrganization>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedOrganization {
    name: String,
    id: Option<String>,
    #[serde(default)]
    directories: Vec<SeedDirectory>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedDirectory {
    name: String,
    #[serde(rename = "type")]
    kind: Option<Spanned<String>>,
    #[serde(default)]
    domain: String,
    state: Option<Spanned<String>>,
    #[serde(default)]
    users: Vec<Spanned<SeedUser>>,
    #[serde(default)]
    groups: Vec<SeedGroup>,
    bulk: Option<Spanned<SeedBulk>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SeedUser {
    first_name: String,
    last_name: String,
    email: String,
    idp_id: Option<String>,
    job_title: String,
    department: String,
    role: Option<String>,
    state: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedGroup {
    name: String,
    #[serde(default)]
    members: Vec<Spanned<String>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SeedBulk {
    users: usize,
    groups: usize,
    memberships: usize,
    silent: bool,
}

/// What is wrong with a seed file, and on which line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// It is not YAML, lacks something, or has a field that there is not.
    #[error("{0}")]
    Shape(String),
    /// A name that is none of those that there are.
    #[error("line {line}: '{name}' is no {what}; there are: {known}")]
    UnknownName {
        /// Of the file, counted from 1.
        line: u64,
        /// As it is written.
        name: String,
        /// What it should be the name of.
        what: &'static str,
        /// The right ones.
        known: String,
    },
    /// A group has a member who is nobody's email or `idp_id` in its directory.
    #[error("line {line}: '{name}' is neither the email nor the idp_id of a user of the directory '{directory}'")]
    UnknownMember {
        /// Of the file, counted from 1.
        line: u64,
        /// As it is written.
        name: String,
        /// The name of the directory.
        directory: String,
    },
    /// Two users of a directory have one email or `idp_id`, so that members could be either.
    #[error("line {line}: '{name}' is on line {first} already")]
    Duplicate {
        /// Of the file, counted from 1.
        line: u64,
        /// As it is written.
        name: String,
        /// The line of the other user.
        first: u64,
    },
    /// A user without anything to tell it by.
    #[error("line {line}: a user needs an email or an idp_id")]
    Nameless {
        /// Of the file, counted from 1.
        line: u64,
    },
    /// More memberships than pairs of users and groups.
    #[error("line {line}: {message}")]
    Bulk {
        /// Of the file, counted from 1.
        line: u64,
        /// Why it cannot be done.
        message: String,
    },
}

impl SeedFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// See [`SeedError`]; each names its line.
    pub fn parse(text: &str) -> Result<Self, SeedError> {
        // The file is the developer's own, however large.
        let options = serde_saphyr::options! { budget: None };
        let file: Self = serde_saphyr::from_str_with_options(text, options).map_err(|error| shape_error(&error))?;
        file.organizations.iter().flat_map(|organization| &organization.directories).try_for_each(check)?;
        Ok(file)
    }
}

impl World {
    /// Makes what a file describes, and returns the ids of the directories. Emits what such changes emit.
    ///
    /// # Errors
    /// None, as the file was checked; a broken check would show here.
    pub fn plant(&mut self, seed: SeedFile) -> Result<Vec<String>, WorldError> {
        let mut planted = Vec::new();
        for organization in seed.organizations {
            let organization_id = match organization.id {
                Some(id) => {
                    self.add_organization(&id, &organization.name);
                    id
                }
                None => self.create_organization(&organization.name),
            };
            for directory in organization.directories {
                planted.push(self.plant_directory(&organization_id, directory)?);
            }
        }
        Ok(planted)
    }

    fn plant_directory(&mut self, organization_id: &str, seed: SeedDirectory) -> Result<String, WorldError> {
        let named = NewDirectory::named(&seed.name);
        let directory = self.create_directory(NewDirectory {
            kind: seed.kind.map_or(named.kind, |kind| kind.value),
            organization_id: Some(organization_id.to_owned()),
            domain: seed.domain,
            name: seed.name,
        });
        let mut ids = HashMap::new();
        for user in seed.users {
            let SeedUser { state, .. } = &user.value;
            let state = state.clone().unwrap_or_else(|| ACTIVE.to_owned());
            let names = names(&user.value).map(str::to_owned).collect::<Vec<_>>();
            let id = self.create_user_in_state(&directory, user.value.into(), &state)?;
            ids.extend(names.into_iter().map(|name| (name, id.clone())));
        }
        for group in seed.groups {
            let id = self.create_group(&directory, &group.name)?;
            for member in &group.members {
                let user = ids.get(&member.value).ok_or_else(|| WorldError::UnknownUser(member.value.clone()))?;
                self.add_member(&id, user)?;
            }
        }
        if let Some(bulk) = seed.bulk {
            self.bulk_create(&directory, bulk.value.into())?;
        }
        if let Some(state) = seed.state {
            self.set_directory_state(&directory, &state.value)?;
        }
        Ok(directory)
    }
}

impl From<SeedUser> for NewUser {
    fn from(user: SeedUser) -> Self {
        Self {
            first_name: user.first_name,
            last_name: user.last_name,
            email: user.email,
            idp_id: user.idp_id,
            job_title: user.job_title,
            department: user.department,
            role: user.role,
            raw_attributes: None,
        }
    }
}

impl From<SeedBulk> for BulkSpec {
    fn from(bulk: SeedBulk) -> Self {
        Self {
            users: Amount::Number(bulk.users),
            groups: Amount::Number(bulk.groups),
            memberships: Amount::Number(bulk.memberships),
            silent: bulk.silent,
        }
    }
}

fn check(directory: &SeedDirectory) -> Result<(), SeedError> {
    if let Some(kind) = &directory.kind {
        known(&kind.value, kind.referenced, "type of directory", &DIRECTORY_TYPES)?;
    }
    if let Some(state) = &directory.state {
        known(&state.value, state.referenced, "state of a directory", &DIRECTORY_STATES)?;
    }
    let mut lines: HashMap<&str, u64> = HashMap::new();
    for user in &directory.users {
        let line = user.referenced.line();
        if let Some(state) = &user.value.state {
            known(state, user.referenced, "state of a user", &USER_STATES)?;
        }
        let mut own = names(&user.value).peekable();
        own.peek().ok_or(SeedError::Nameless { line })?;
        for name in own {
            if let Some(first) = lines.insert(name, line) {
                return Err(SeedError::Duplicate { line, name: name.to_owned(), first });
            }
        }
    }
    for member in directory.groups.iter().flat_map(|group| &group.members) {
        if !lines.contains_key(member.value.as_str()) {
            return Err(SeedError::UnknownMember {
                line: member.referenced.line(),
                name: member.value.clone(),
                directory: directory.name.clone(),
            });
        }
    }
    match &directory.bulk {
        Some(bulk) => BulkSpec::from(bulk.value)
            .check()
            .map_err(|error| SeedError::Bulk { line: bulk.referenced.line(), message: error.to_string() }),
        None => Ok(()),
    }
}

/// What members of groups call a user.
fn names(user: &SeedUser) -> impl Iterator<Item = &str> {
    let idp_id = user.idp_id.as_deref().filter(|id| *id != user.email);
    [Some(user.email.as_str()), idp_id].into_iter().flatten().filter(|name| !name.is_empty())
}

fn known(name: &str, location: Location, what: &'static str, all: &[&str]) -> Result<(), SeedError> {
    if all.contains(&name) {
        return Ok(());
    }
    Err(SeedError::UnknownName { line: location.line(), name: name.to_owned(), what, known: all.join(", ") })
}

/// In one line, with the place.
fn shape_error(error: &serde_saphyr::Error) -> SeedError {
    SeedError::Shape(error.without_snippet().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "organizations:\n  - name: Acme\n    directories:\n      - name: Okta\n";

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (rest, line, word) in [
            ("        kind: okta\n", 5, "kind"),
            ("        type: okta\n", 5, "'okta'"),
            ("        state: active\n", 5, "'active'"),
            ("        users:\n          - {email: a@x, state: gone}\n", 6, "'gone'"),
            ("        users:\n          - {email: a@x, title: T}\n", 6, "title"),
            ("        users:\n          - {first_name: A}\n", 6, "email or an idp_id"),
            ("        users:\n          - email: a@x\n          - email: a@x\n", 7, "line 6"),
            ("        groups:\n          - name: Team\n            members:\n              - b@x\n", 8, "'b@x'"),
            ("        bulk: {users: 2, groups: 2, memberships: 5}\n", 5, "5 memberships"),
            ("        users: [\n", 5, ""),
        ] {
            let error = SeedFile::parse(&format!("{HEAD}{rest}")).expect_err(rest).to_string();
            assert!(error.contains(&format!("line {line}")) && error.contains(word), "{rest}: {error}");
        }
    }

    #[test]
    fn what_a_file_leaves_out_has_defaults() {
        let seed = SeedFile::parse(HEAD).expect("the file is right");
        let mut world = World::new(&crate::Options::default());
        let ids = world.plant(seed).expect("the file is checked");
        let truth = world.truth();
        let directory = &truth.directories[&ids[0]];
        assert_eq!((directory.kind.as_str(), directory.state.as_str()), ("okta scim v2.0", "linked"));
        assert_eq!((directory.domain.as_deref(), truth.users.len()), (None, 0));
    }
}
