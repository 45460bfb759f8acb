//! From working sets into the database.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel::upsert::excluded;
use diesel_async::RunQueryDsl;

use super::IDS_PER_QUERY;
use crate::clock::Timestamp;
use crate::db::batch::{Batch, batches};
use crate::db::records::{
    DirectoryRecordRow, EdgeMemoryRow, GroupRecordRow, MarkRow, MemberRow, MemoryRow, UserRecordRow, mark_kind,
};
use crate::db::schema::{directories, edge_memory, entity_memory, group_members, groups, marks, users};
use crate::db::types::{StoredInstant, StoredUuid};
use crate::db::{DbConnection, DbError, with_connection};
use crate::mirror::{Edge, EdgeKey, WorkingSet};
use crate::model::{DirectoryId, GroupRow, Mark, MarkTarget, UserRow};

/// Writes back what changed.
pub async fn save(connection: &mut DbConnection, set: &WorkingSet, now: Timestamp) -> Result<(), DbError> {
    save_together(connection, std::slice::from_ref(set), now).await
}

/// As [`save`], for the sets of several directories by the same statements.
pub async fn save_together(connection: &mut DbConnection, sets: &[WorkingSet], now: Timestamp) -> Result<(), DbError> {
    save_directories(connection, sets, now).await?;
    save_users(connection, sets, now).await?;
    save_groups(connection, sets, now).await?;
    save_memories(connection, sets).await?;
    save_edges(connection, sets, now).await?;
    for set in sets {
        drop_edges(connection, set, now).await?;
    }
    save_marks(connection, sets).await?;
    for set in sets.iter().filter(|set| set.everything_goes) {
        take_everything_away(connection, &set.directory_id, now).await?;
    }
    Ok(())
}

async fn save_directories(connection: &mut DbConnection, sets: &[WorkingSet], now: Timestamp) -> Result<(), DbError> {
    let changed = sets.iter().filter(|set| set.directory.row_changed).filter_map(|set| set.directory.row.as_ref());
    let rows: Vec<_> = changed.map(|row| DirectoryRecordRow::from_model(row, now)).collect();
    if rows.is_empty() {
        return Ok(());
    }
    with_connection!(connection, c => {
        diesel::insert_into(directories::table)
            .values(Batch(rows))
            .on_conflict(directories::directory_id)
            .do_update()
            // Not `enabled`, which is the operator's.
            .set((
                directories::organization_id.eq(excluded(directories::organization_id)),
                directories::name.eq(excluded(directories::name)),
                directories::kind.eq(excluded(directories::kind)),
                directories::state.eq(excluded(directories::state)),
                directories::domains.eq(excluded(directories::domains)),
                directories::external_key.eq(excluded(directories::external_key)),
                directories::sync_status.eq(excluded(directories::sync_status)),
                directories::last_event_at.eq(excluded(directories::last_event_at)),
                directories::last_synced_at.eq(excluded(directories::last_synced_at)),
                directories::deleted_at.eq(excluded(directories::deleted_at)),
                directories::source_created_at.eq(excluded(directories::source_created_at)),
                directories::source_updated_at.eq(excluded(directories::source_updated_at)),
                directories::updated_at.eq(excluded(directories::updated_at)),
            ))
            .execute(c)
            .await
    })?;
    Ok(())
}

async fn save_users(connection: &mut DbConnection, sets: &[WorkingSet], now: Timestamp) -> Result<(), DbError> {
    let mut changed: Vec<&UserRow> = sets
        .iter()
        .flat_map(|set| set.users.values())
        .filter(|entity| entity.row_changed && !entity.foreign)
        .filter_map(|entity| entity.row.as_ref())
        .collect();
    // In the order of their keys, here and below: two transactions that write the same rows then never wait for each other.
    changed.sort_by(|a, b| a.record.id.cmp(&b.record.id));
    let rows: Vec<_> = changed.into_iter().map(|row| UserRecordRow::from_model(row, now)).collect();
    for batch in batches(rows, 32) {
        with_connection!(connection, c => {
            diesel::insert_into(users::table)
                .values(batch)
                .on_conflict(users::directory_user_id)
                .do_update()
                .set((
                    users::organization_id.eq(excluded(users::organization_id)),
                    users::idp_id.eq(excluded(users::idp_id)),
                    users::email.eq(excluded(users::email)),
                    users::first_name.eq(excluded(users::first_name)),
                    users::last_name.eq(excluded(users::last_name)),
                    users::display_name.eq(excluded(users::display_name)),
                    users::username.eq(excluded(users::username)),
                    users::job_title.eq(excluded(users::job_title)),
                    users::state.eq(excluded(users::state)),
                    users::source_state.eq(excluded(users::source_state)),
                    users::role.eq(excluded(users::role)),
                    users::custom_attributes.eq(excluded(users::custom_attributes)),
                    users::raw_attributes.eq(excluded(users::raw_attributes)),
                    users::verified_at.eq(excluded(users::verified_at)),
                    users::deactivated_at.eq(excluded(users::deactivated_at)),
                    users::deleted_at.eq(excluded(users::deleted_at)),
                    users::deletion_reason.eq(excluded(users::deletion_reason)),
                    users::source_created_at.eq(excluded(users::source_created_at)),
                    users::source_updated_at.eq(excluded(users::source_updated_at)),
                    users::updated_at.eq(excluded(users::updated_at)),
                ))
                .execute(c)
                .await
        })?;
    }
    Ok(())
}

async fn save_groups(connection: &mut DbConnection, sets: &[WorkingSet], now: Timestamp) -> Result<(), DbError> {
    let mut changed: Vec<&GroupRow> = sets
        .iter()
        .flat_map(|set| set.groups.values())
        .filter(|entity| entity.row_changed && !entity.foreign)
        .filter_map(|entity| entity.row.as_ref())
        .collect();
    changed.sort_by(|a, b| a.record.id.cmp(&b.record.id));
    let rows: Vec<_> = changed.into_iter().map(|row| GroupRecordRow::from_model(row, now)).collect();
    for batch in batches(rows, 16) {
        with_connection!(connection, c => {
            diesel::insert_into(groups::table)
                .values(batch)
                .on_conflict(groups::directory_group_id)
                .do_update()
                .set((
                    groups::organization_id.eq(excluded(groups::organization_id)),
                    groups::idp_id.eq(excluded(groups::idp_id)),
                    groups::name.eq(excluded(groups::name)),
                    groups::raw_attributes.eq(excluded(groups::raw_attributes)),
                    groups::verified_at.eq(excluded(groups::verified_at)),
                    groups::deleted_at.eq(excluded(groups::deleted_at)),
                    groups::source_created_at.eq(excluded(groups::source_created_at)),
                    groups::source_updated_at.eq(excluded(groups::source_updated_at)),
                    groups::updated_at.eq(excluded(groups::updated_at)),
                ))
                .execute(c)
                .await
        })?;
    }
    Ok(())
}

async fn save_memories(connection: &mut DbConnection, sets: &[WorkingSet]) -> Result<(), DbError> {
    let mut rows = Vec::new();
    for set in sets {
        let directory = set.directory_id.as_str();
        let users = set.disowned_users.iter().map(|id| ("user", id.as_str()));
        for (kind, id) in users.chain(set.disowned_groups.iter().map(|id| ("group", id.as_str()))) {
            with_connection!(connection, c => {
                diesel::delete(entity_memory::table.find((kind, id)))
                    .filter(entity_memory::directory_id.eq(directory))
                    .execute(c)
                    .await
            })?;
        }
        if set.directory.memory_changed {
            rows.push(MemoryRow::from_model("directory", directory, directory, &set.directory.memory));
        }
        let users = set.users.iter().filter(|(_, entity)| entity.memory_changed && !entity.foreign);
        rows.extend(users.map(|(id, entity)| MemoryRow::from_model("user", id.as_str(), directory, &entity.memory)));
        let groups = set.groups.iter().filter(|(_, entity)| entity.memory_changed && !entity.foreign);
        rows.extend(groups.map(|(id, entity)| MemoryRow::from_model("group", id.as_str(), directory, &entity.memory)));
    }
    rows.sort_by(|a, b| a.key().cmp(&b.key()));
    for batch in batches(rows, 16) {
        with_connection!(connection, c => {
            diesel::insert_into(entity_memory::table)
                .values(batch)
                .on_conflict((entity_memory::kind, entity_memory::entity_id))
                .do_update()
                .set((
                    entity_memory::directory_id.eq(excluded(entity_memory::directory_id)),
                    entity_memory::hint_at.eq(excluded(entity_memory::hint_at)),
                    entity_memory::hint_removes.eq(excluded(entity_memory::hint_removes)),
                    entity_memory::hint_event_id.eq(excluded(entity_memory::hint_event_id)),
                    entity_memory::snapshot_at.eq(excluded(entity_memory::snapshot_at)),
                    entity_memory::snapshot_event_id.eq(excluded(entity_memory::snapshot_event_id)),
                    entity_memory::truth_number.eq(excluded(entity_memory::truth_number)),
                    entity_memory::truth_at.eq(excluded(entity_memory::truth_at)),
                ))
                .execute(c)
                .await
        })?;
    }
    Ok(())
}

async fn save_edges(connection: &mut DbConnection, sets: &[WorkingSet], now: Timestamp) -> Result<(), DbError> {
    let mut changed: Vec<_> = sets
        .iter()
        .flat_map(|set| set.edges.iter().map(move |(key, edge)| (set, key, edge)))
        .filter(|(.., edge)| edge.changed)
        .collect();
    changed.sort_by_key(|(_, key, _)| *key);
    let memory = |(set, key, edge): &(&WorkingSet, &EdgeKey, &Edge)| {
        EdgeMemoryRow::from_model(key, set.directory_id.as_str(), &edge.memory, now)
    };
    let memories: Vec<EdgeMemoryRow> = changed.iter().map(memory).collect();
    for batch in batches(memories, 16) {
        with_connection!(connection, c => {
            diesel::insert_into(edge_memory::table)
                .values(batch)
                .on_conflict((edge_memory::directory_group_id, edge_memory::directory_user_id))
                .do_update()
                .set((
                    edge_memory::directory_id.eq(excluded(edge_memory::directory_id)),
                    edge_memory::present.eq(excluded(edge_memory::present)),
                    edge_memory::hint_at.eq(excluded(edge_memory::hint_at)),
                    edge_memory::hint_removes.eq(excluded(edge_memory::hint_removes)),
                    edge_memory::hint_event_id.eq(excluded(edge_memory::hint_event_id)),
                    edge_memory::truth_number.eq(excluded(edge_memory::truth_number)),
                    edge_memory::truth_at.eq(excluded(edge_memory::truth_at)),
                    edge_memory::updated_at.eq(excluded(edge_memory::updated_at)),
                ))
                .execute(c)
                .await
        })?;
    }
    let ends = |set: &WorkingSet, key: &EdgeKey| {
        let group = set.groups.get(&key.0)?.row.as_ref()?.id;
        let user = set.users.get(&key.1)?.row.as_ref()?.id;
        Some((StoredUuid(group), StoredUuid(user)))
    };
    let new: Vec<MemberRow> = changed
        .iter()
        // Those that were present as well: an application may have deleted a row of its own that stood in their place.
        .filter(|(.., edge)| edge.memory.present)
        .filter_map(|(set, key, _)| ends(set, key))
        .map(|(group, user)| MemberRow::from_directory(group, user, now))
        .collect();
    for batch in batches(new, 8) {
        with_connection!(connection, c => {
            diesel::insert_into(group_members::table)
                .values(batch)
                .on_conflict((group_members::group_id, group_members::user_id))
                .do_nothing()
                .execute(c)
                .await
        })?;
    }
    let lost = changed.iter().filter(|(.., edge)| edge.was_present && !edge.memory.present);
    for (group, user) in lost.filter_map(|(set, key, _)| ends(set, key)) {
        with_connection!(connection, c => {
            diesel::delete(group_members::table.find((group, user)))
                .filter(group_members::provenance.eq("directory"))
                .execute(c)
                .await
        })?;
    }
    Ok(())
}

/// Deletes every edge of a tombstoned user or group; what people gave by hand stays.
async fn drop_edges(connection: &mut DbConnection, set: &WorkingSet, now: Timestamp) -> Result<(), DbError> {
    for id in &set.users_without_edges {
        with_connection!(connection, c => {
            diesel::delete(group_members::table.filter(group_members::provenance.eq("directory")).filter(
                group_members::user_id.eq_any(users::table.filter(users::directory_user_id.eq(id.as_str())).select(users::id)),
            ))
            .execute(c)
            .await
        })?;
        with_connection!(connection, c => {
            diesel::update(edge_memory::table.filter(edge_memory::directory_user_id.eq(id.as_str())))
                .set((edge_memory::present.eq(false), edge_memory::updated_at.eq(StoredInstant(now))))
                .execute(c)
                .await
        })?;
    }
    for id in &set.groups_without_edges {
        with_connection!(connection, c => {
            diesel::delete(group_members::table.filter(group_members::provenance.eq("directory")).filter(
                group_members::group_id
                    .eq_any(groups::table.filter(groups::directory_group_id.eq(id.as_str())).select(groups::id)),
            ))
            .execute(c)
            .await
        })?;
        with_connection!(connection, c => {
            diesel::update(edge_memory::table.filter(edge_memory::directory_group_id.eq(id.as_str())))
                .set((edge_memory::present.eq(false), edge_memory::updated_at.eq(StoredInstant(now))))
                .execute(c)
                .await
        })?;
    }
    Ok(())
}

async fn save_marks(connection: &mut DbConnection, sets: &[WorkingSet]) -> Result<(), DbError> {
    let mut rows: Vec<MarkRow> = Vec::new();
    for set in sets {
        let directory = set.directory_id.as_str();
        delete_marks(connection, directory, &set.marks_cleared).await?;
        let marks = set.marks_set.iter().filter_map(|target| set.marks.get(target));
        rows.extend(marks.map(|mark| MarkRow::from_model(directory, mark, set.is_revoked_by_hint(&mark.target))));
    }
    for batch in batches(rows, 11) {
        with_connection!(connection, c => {
            diesel::insert_into(marks::table)
                .values(batch)
                .on_conflict((
                    marks::directory_id,
                    marks::kind,
                    marks::directory_group_id,
                    marks::directory_user_id,
                ))
                .do_update()
                .set((
                    marks::version.eq(excluded(marks::version)),
                    marks::due_at.eq(excluded(marks::due_at)),
                    marks::contradictions.eq(excluded(marks::contradictions)),
                    marks::failures.eq(excluded(marks::failures)),
                    marks::urgent.eq(excluded(marks::urgent)),
                    // Not `set_at`: the set may not have loaded a mark that stands.
                    marks::hinted_at.eq(excluded(marks::hinted_at)),
                ))
                .execute(c)
                .await
        })?;
    }
    Ok(())
}

/// Deletes marks: those of one kind, and of one group where it has one, in a statement.
async fn delete_marks(
    connection: &mut DbConnection,
    directory: &str,
    cleared: &BTreeMap<MarkTarget, Mark>,
) -> Result<(), DbError> {
    let mut of_kind: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for target in cleared.keys() {
        match mark_kind(target) {
            (kind, group, "") => of_kind.entry((kind, "")).or_default().push(group),
            (kind, group, user) => of_kind.entry((kind, group)).or_default().push(user),
        }
    }
    for ((kind, group), ids) in of_kind {
        let of_groups = matches!(kind, "directory" | "group" | "group_members");
        for chunk in ids.chunks(IDS_PER_QUERY) {
            let of_directory = marks::directory_id.eq(directory).and(marks::kind.eq(kind));
            with_connection!(connection, c => {
                if of_groups {
                    diesel::delete(marks::table.filter(of_directory))
                        .filter(marks::directory_group_id.eq_any(chunk).and(marks::directory_user_id.eq("")))
                        .execute(c)
                        .await
                } else {
                    diesel::delete(marks::table.filter(of_directory))
                        .filter(marks::directory_group_id.eq(group).and(marks::directory_user_id.eq_any(chunk)))
                        .execute(c)
                        .await
                }
            })?;
        }
    }
    Ok(())
}

/// The directory's own deletion: one statement a table, in the same transaction.
async fn take_everything_away(
    connection: &mut DbConnection,
    directory: &DirectoryId,
    now: Timestamp,
) -> Result<(), DbError> {
    let now = StoredInstant(now);
    let id = directory.as_str();
    if let DbConnection::Postgres(object) = connection {
        // A million memberships may take longer than any other statement of ours.
        let c = &mut **object;
        diesel::sql_query("SET LOCAL statement_timeout = 0").execute(c).await?;
    }
    with_connection!(connection, c => {
        diesel::delete(group_members::table.filter(group_members::provenance.eq("directory")).filter(
            group_members::user_id.eq_any(users::table.filter(users::directory_id.eq(id)).select(users::id)),
        ))
        .execute(c)
        .await
    })?;
    with_connection!(connection, c => {
        diesel::update(edge_memory::table.filter(edge_memory::directory_id.eq(id).and(edge_memory::present.eq(true))))
            .set((edge_memory::present.eq(false), edge_memory::updated_at.eq(now)))
            .execute(c)
            .await
    })?;
    let of_directory = users::directory_id.eq(id).and(users::provenance.eq("directory"));
    with_connection!(connection, c => {
        diesel::update(users::table.filter(of_directory).filter(users::deactivated_at.is_null()))
            .set(users::deactivated_at.eq(now))
            .execute(c)
            .await
    })?;
    with_connection!(connection, c => {
        diesel::update(users::table.filter(of_directory).filter(users::deleted_at.is_null()))
            .set((
                users::state.eq("inactive"),
                users::deleted_at.eq(now),
                users::deletion_reason.eq("directory_sync"),
                users::updated_at.eq(now),
            ))
            .execute(c)
            .await
    })?;
    with_connection!(connection, c => {
        diesel::update(groups::table.filter(groups::directory_id.eq(id).and(groups::provenance.eq("directory"))))
            .filter(groups::deleted_at.is_null())
            .set((groups::deleted_at.eq(now), groups::updated_at.eq(now)))
            .execute(c)
            .await
    })?;
    with_connection!(connection, c => {
        diesel::delete(marks::table.filter(marks::directory_id.eq(id)).filter(marks::kind.ne("directory")))
            .execute(c)
            .await
    })?;
    Ok(())
}
