//! Compares the mirror with an emulator's truth: the demo's last word, and what the tests demand.
//!
//! Field by field and by hand, so that a mistake in reading records shows here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use workos_emulator::{Group, Truth, User};

use crate::db::MirrorCopy;
use crate::model::{GroupRow, UserRow, UserState};

/// Every difference, as a sentence naming ids and fields but no personal data; empty if the two are equal.
#[must_use]
pub fn differences(mirror: &MirrorCopy, truth: &Truth) -> Vec<String> {
    let mut found = Vec::new();
    compare_directories(mirror, truth, &mut found);
    let users: BTreeMap<&str, &UserRow> = mirror.users.iter().map(|row| (row.record.id.as_str(), row)).collect();
    for (id, user) in &truth.users {
        match users.get(id.as_str()) {
            None => found.push(format!("user {id} is missing")),
            Some(row) => compare_user(row, user, &mut found),
        }
    }
    for (id, row) in users.iter().filter(|(id, _)| !truth.users.contains_key(**id)) {
        if row.state == UserState::Active || row.deleted_at.is_none() {
            found.push(format!("user {id} is gone, yet the mirror shows it as {}", row.state.as_str()));
        }
    }
    let groups: BTreeMap<&str, &GroupRow> = mirror.groups.iter().map(|row| (row.record.id.as_str(), row)).collect();
    for (id, group) in &truth.groups {
        match groups.get(id.as_str()) {
            None => found.push(format!("group {id} is missing")),
            Some(row) => compare_group(row, group, &mut found),
        }
    }
    for (id, row) in groups.iter().filter(|(id, _)| !truth.groups.contains_key(**id)) {
        if row.deleted_at.is_none() {
            found.push(format!("group {id} is gone, yet the mirror shows it"));
        }
    }
    let members: BTreeSet<(String, String)> = mirror.members.iter().cloned().collect();
    found.extend(truth.members.difference(&members).map(|(group, user)| format!("{user} is missing from {group}")));
    found.extend(members.difference(&truth.members).map(|(group, user)| format!("{user} is no longer in {group}")));
    found
}

fn compare_directories(mirror: &MirrorCopy, truth: &Truth, found: &mut Vec<String>) {
    let rows: BTreeMap<&str, _> = mirror.directories.iter().map(|row| (row.record.id.as_str(), row)).collect();
    for (id, directory) in &truth.directories {
        let Some(row) = rows.get(id.as_str()) else {
            found.push(format!("directory {id} is missing"));
            continue;
        };
        if row.deleted_at.is_some() {
            found.push(format!("directory {id} is there, yet the mirror shows it as deleted"));
        }
        if row.record.state != directory.state || row.record.name.as_deref() != Some(&directory.name) {
            found.push(format!("directory {id} differs"));
        }
    }
    for (id, _) in rows.iter().filter(|(id, row)| row.deleted_at.is_none() && !truth.directories.contains_key(**id)) {
        found.push(format!("directory {id} is gone, yet the mirror shows it"));
    }
}

fn compare_user(row: &UserRow, user: &User, found: &mut Vec<String>) {
    let record = &row.record;
    let state = if user.state == "active" { "active" } else { "inactive" };
    let role = user.role.as_ref().map(|role| role.slug.clone());
    let attributes = serde_json::to_value(&user.custom_attributes).unwrap_or(Value::Null);
    let pairs = [
        ("directory_id", json!(record.directory_id.as_str()), json!(user.directory_id)),
        ("organization_id", json!(record.organization_id), json!(user.organization_id)),
        ("idp_id", json!(record.idp_id), json!(user.idp_id)),
        ("email", json!(record.email), json!(user.email)),
        ("first_name", json!(record.first_name), json!(user.first_name)),
        ("last_name", json!(record.last_name), json!(user.last_name)),
        ("username", json!(record.username), json!(user.username)),
        ("job_title", json!(record.job_title), json!(user.job_title)),
        ("state", json!(row.state.as_str()), json!(state)),
        ("source_state", json!(record.state), json!(user.state)),
        ("role", json!(record.role), json!(role)),
        ("custom_attributes", record.custom_attributes.to_json(), attributes),
        ("raw_attributes", record.raw_attributes.to_json(), user.raw_attributes.clone()),
        ("source_updated_at", json!(record.updated_at), json!(user.updated_at)),
        ("deleted_at", json!(row.deleted_at), Value::Null),
        ("deactivated_at", json!(row.deactivated_at.is_some()), json!(state == "inactive")),
    ];
    compare_fields("user", &user.id, &pairs, found);
}

fn compare_group(row: &GroupRow, group: &Group, found: &mut Vec<String>) {
    let record = &row.record;
    let pairs = [
        ("directory_id", json!(record.directory_id.as_str()), json!(group.directory_id)),
        ("idp_id", json!(record.idp_id), json!(group.idp_id)),
        ("name", json!(record.name), json!(group.name)),
        ("raw_attributes", record.raw_attributes.to_json(), group.raw_attributes.clone()),
        ("source_updated_at", json!(record.updated_at), json!(group.updated_at)),
        ("deleted_at", json!(row.deleted_at), Value::Null),
    ];
    compare_fields("group", &group.id, &pairs, found);
}

fn compare_fields(kind: &str, id: &str, pairs: &[(&str, Value, Value)], found: &mut Vec<String>) {
    let differ = pairs.iter().filter(|(_, ours, theirs)| ours != theirs);
    found.extend(differ.map(|(field, ..)| format!("{kind} {id} differs in {field}")));
}
