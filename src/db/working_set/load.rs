//! From the database into working sets.

use std::collections::HashMap;
use std::iter;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::IDS_PER_QUERY;
use crate::db::records::{DirectoryRecordRow, EdgeMemoryRow, GroupRecordRow, MarkRow, MemoryRow, UserRecordRow};
use crate::db::schema::{directories, edge_memory, entity_memory, groups, users};
use crate::db::{DbConnection, DbError, Reader, pairs, with_connection, with_reader};
use crate::mirror::{EdgeKey, Entity, Touched, WorkingSet};
use crate::model::{DirectoryGroupId, DirectoryId, DirectoryRow, DirectoryUserId};

/// Loads everything about `touched`, within a transaction that holds the directory's lock.
pub async fn load(
    connection: &mut DbConnection,
    directory_id: &DirectoryId,
    touched: &Touched,
) -> Result<WorkingSet, DbError> {
    let mut sets = load_together(connection, &[(directory_id, touched)]).await?;
    Ok(sets.pop().expect("there is a set for each directory"))
}

/// As [`load`], for several directories by the same statements: a set for each, in their order. No user and no group is
/// touched in more than one of them.
pub async fn load_together(
    connection: &mut DbConnection,
    of: &[(&DirectoryId, &Touched)],
) -> Result<Vec<WorkingSet>, DbError> {
    let ids: Vec<&str> = of.iter().map(|(id, _)| id.as_str()).collect();
    let users: Vec<&str> = of.iter().flat_map(|(_, touched)| &touched.users).map(DirectoryUserId::as_str).collect();
    let groups: Vec<&str> = of.iter().flat_map(|(_, touched)| &touched.groups).map(DirectoryGroupId::as_str).collect();
    let edges: Vec<&EdgeKey> = of.iter().flat_map(|(_, touched)| &touched.edges).collect();
    let marks: Vec<[&str; 4]> = of.iter().flat_map(|(id, touched)| keys_of_marks(id, touched)).collect();
    let (of_directories, of_users, of_groups, edges, marks) = match connection {
        // All are on their way before the first is answered.
        DbConnection::Postgres(object) => {
            let reader = || Reader::Postgres(object);
            tokio::try_join!(
                directory_rows(reader(), &ids),
                user_rows(reader(), &users),
                group_rows(reader(), &groups),
                pairs::edge_memories(reader(), &edges),
                pairs::marks(reader(), &marks),
            )?
        }
        DbConnection::Sqlite(object) => (
            directory_rows(Reader::Sqlite(object), &ids).await?,
            user_rows(Reader::Sqlite(object), &users).await?,
            group_rows(Reader::Sqlite(object), &groups).await?,
            pairs::edge_memories(Reader::Sqlite(object), &edges).await?,
            pairs::marks(Reader::Sqlite(object), &marks).await?,
        ),
    };
    let mut sets = Sets::new(of);
    sets.take_directories(of_directories)?;
    sets.take_users(of_users)?;
    sets.take_groups(of_groups)?;
    sets.take_edges(edges);
    sets.take_marks(marks);
    Ok(sets.sets)
}

/// The sets that are being loaded, and whose is what.
struct Sets<'a> {
    sets: Vec<WorkingSet>,
    of_directory: HashMap<&'a str, usize>,
    of_user: HashMap<&'a str, usize>,
    of_group: HashMap<&'a str, usize>,
}

impl<'a> Sets<'a> {
    fn new(of: &[(&'a DirectoryId, &'a Touched)]) -> Self {
        let (mut of_directory, mut of_user, mut of_group) = (HashMap::new(), HashMap::new(), HashMap::new());
        for (index, (id, touched)) in of.iter().enumerate() {
            of_directory.insert(id.as_str(), index);
            of_user.extend(touched.users.iter().map(|user| (user.as_str(), index)));
            of_group.extend(touched.groups.iter().map(|group| (group.as_str(), index)));
        }
        let sets = of.iter().map(|(id, _)| WorkingSet::empty((*id).clone())).collect();
        Self { sets, of_directory, of_user, of_group }
    }

    fn set(&mut self, index: Option<usize>) -> Option<&mut WorkingSet> {
        self.sets.get_mut(index?)
    }

    fn take_directories(
        &mut self,
        (rows, remembered): (Vec<DirectoryRecordRow>, Vec<MemoryRow>),
    ) -> Result<(), DbError> {
        for row in rows {
            let row = row.into_model()?;
            let index = self.of_directory.get(row.record.id.as_str()).copied();
            if let Some(set) = self.set(index) {
                set.directory.row = Some(row);
            }
        }
        for memory in remembered {
            let index = self.of_directory.get(memory.entity_id.as_str()).copied();
            if let Some(set) = self.set(index) {
                set.directory.memory = memory.into_model();
            }
        }
        Ok(())
    }

    fn take_users(&mut self, (rows, remembered): (Vec<UserRecordRow>, Vec<MemoryRow>)) -> Result<(), DbError> {
        for row in rows {
            let row = row.into_model()?;
            let index = self.of_user.get(row.record.id.as_str()).copied();
            let Some(set) = self.set(index) else { continue };
            let foreign = row.record.directory_id != set.directory_id;
            let entity = set.user(&row.record.id);
            entity.foreign = foreign;
            entity.row = Some(row);
        }
        for memory in remembered {
            let index = self.of_user.get(memory.entity_id.as_str()).copied();
            let Some(set) = self.set(index) else { continue };
            let foreign = memory.directory_id != set.directory_id.as_str();
            let entity = set.user(&DirectoryUserId::from_stored(memory.entity_id.clone()));
            entity.foreign = if entity.row.is_some() { entity.foreign } else { foreign };
            entity.memory = memory.into_model();
        }
        Ok(())
    }

    fn take_groups(&mut self, (rows, remembered): (Vec<GroupRecordRow>, Vec<MemoryRow>)) -> Result<(), DbError> {
        for row in rows {
            let row = row.into_model()?;
            let index = self.of_group.get(row.record.id.as_str()).copied();
            let Some(set) = self.set(index) else { continue };
            let foreign = row.record.directory_id != set.directory_id;
            let entity = set.group(&row.record.id);
            entity.foreign = foreign;
            entity.row = Some(row);
        }
        for memory in remembered {
            let index = self.of_group.get(memory.entity_id.as_str()).copied();
            let Some(set) = self.set(index) else { continue };
            let foreign = memory.directory_id != set.directory_id.as_str();
            let entity = set.group(&DirectoryGroupId::from_stored(memory.entity_id.clone()));
            entity.foreign = if entity.row.is_some() { entity.foreign } else { foreign };
            entity.memory = memory.into_model();
        }
        Ok(())
    }

    fn take_edges(&mut self, rows: Vec<EdgeMemoryRow>) {
        for row in rows {
            let of_directory = self.of_directory.get(row.directory_id.as_str()).copied();
            let (key, memory) = row.into_model();
            // What another directory remembers, whose events named it wrongly, says nothing here.
            let index = self.of_group.get(key.0.as_str()).copied().filter(|index| of_directory == Some(*index));
            if let Some(set) = self.set(index) {
                let edge = set.edge(&key);
                edge.was_present = memory.present;
                edge.memory = memory;
            }
        }
    }

    fn take_marks(&mut self, rows: Vec<MarkRow>) {
        for row in rows {
            let index = self.of_directory.get(row.directory_id.as_str()).copied();
            if let Some(set) = self.set(index)
                && let Some(mark) = row.into_model()
            {
                set.marks.insert(mark.target.clone(), mark);
            }
        }
    }
}

/// What is known of the directory itself, and no more.
pub async fn load_only_directory(
    connection: &mut DbConnection,
    directory_id: &DirectoryId,
) -> Result<Entity<DirectoryRow>, DbError> {
    match connection {
        DbConnection::Postgres(object) => directory(Reader::Postgres(object), directory_id.as_str()).await,
        DbConnection::Sqlite(object) => directory(Reader::Sqlite(object), directory_id.as_str()).await,
    }
}

async fn directory(reader: Reader<'_>, id: &str) -> Result<Entity<DirectoryRow>, DbError> {
    let (rows, remembered) = directory_rows(reader, &[id]).await?;
    let row = rows.into_iter().next().map(DirectoryRecordRow::into_model).transpose()?;
    let memory = remembered.into_iter().next().map(MemoryRow::into_model).unwrap_or_default();
    Ok(Entity { row, memory, ..Entity::default() })
}

async fn directory_rows(
    mut reader: Reader<'_>,
    ids: &[&str],
) -> Result<(Vec<DirectoryRecordRow>, Vec<MemoryRow>), DbError> {
    let rows = match ids {
        // SQLite prepares it once, and `IN` each time.
        [id] => with_reader!(reader, c => {
            directories::table.find(*id).select(DirectoryRecordRow::as_select()).load(c).await
        })?,
        ids => with_reader!(reader, c => {
            directories::table
                .filter(directories::directory_id.eq_any(ids))
                .select(DirectoryRecordRow::as_select())
                .load(c)
                .await
        })?,
    };
    Ok((rows, memories(&mut reader, "directory", ids).await?))
}

async fn memories(reader: &mut Reader<'_>, kind: &'static str, ids: &[&str]) -> Result<Vec<MemoryRow>, DbError> {
    Ok(with_reader!(*reader, c => {
        entity_memory::table
            .filter(entity_memory::kind.eq(kind).and(entity_memory::entity_id.eq_any(ids)))
            .select(MemoryRow::as_select())
            .load(c)
            .await
    })?)
}

async fn user_rows(mut reader: Reader<'_>, ids: &[&str]) -> Result<(Vec<UserRecordRow>, Vec<MemoryRow>), DbError> {
    let (mut rows, mut remembered) = (Vec::new(), Vec::new());
    for chunk in ids.chunks(IDS_PER_QUERY) {
        rows.extend(with_reader!(reader, c => {
            users::table
                .filter(users::directory_user_id.eq_any(chunk))
                .select(UserRecordRow::as_select())
                .load::<UserRecordRow>(c)
                .await
        })?);
        remembered.extend(memories(&mut reader, "user", chunk).await?);
    }
    Ok((rows, remembered))
}

async fn group_rows(mut reader: Reader<'_>, ids: &[&str]) -> Result<(Vec<GroupRecordRow>, Vec<MemoryRow>), DbError> {
    let (mut rows, mut remembered) = (Vec::new(), Vec::new());
    for chunk in ids.chunks(IDS_PER_QUERY) {
        rows.extend(with_reader!(reader, c => {
            groups::table
                .filter(groups::directory_group_id.eq_any(chunk))
                .select(GroupRecordRow::as_select())
                .load::<GroupRecordRow>(c)
                .await
        })?);
        remembered.extend(memories(&mut reader, "group", chunk).await?);
    }
    Ok((rows, remembered))
}

/// Directory, kind, group and user of each mark that there may be.
fn keys_of_marks<'a>(directory: &'a DirectoryId, touched: &'a Touched) -> impl Iterator<Item = [&'a str; 4]> {
    let directory = directory.as_str();
    let users = touched.users.iter().map(DirectoryUserId::as_str);
    let groups = touched.groups.iter().map(DirectoryGroupId::as_str);
    iter::once([directory, "directory", "", ""])
        .chain(users.flat_map(move |user| [[directory, "user", "", user], [directory, "user_groups", "", user]]))
        .chain(groups.flat_map(move |group| [[directory, "group", group, ""], [directory, "group_members", group, ""]]))
        .chain(touched.edges.iter().map(move |(group, user)| [directory, "edge", group.as_str(), user.as_str()]))
}

/// The edges of these users and groups that hints announced and the mirror does not show.
pub async fn announced_edges(
    connection: &mut DbConnection,
    directory: &DirectoryId,
    touched: &Touched,
) -> Result<Vec<EdgeKey>, DbError> {
    let users: Vec<&str> = touched.users.iter().map(DirectoryUserId::as_str).collect();
    let groups: Vec<&str> = touched.groups.iter().map(DirectoryGroupId::as_str).collect();
    let announced = edge_memory::directory_id
        .eq(directory.as_str())
        .and(edge_memory::present.eq(false))
        .and(edge_memory::hint_removes.eq(false))
        .and(edge_memory::truth_number.eq(0));
    let mut rows: Vec<EdgeMemoryRow> = Vec::new();
    for chunk in users.chunks(IDS_PER_QUERY) {
        rows.extend(with_connection!(connection, c => {
            edge_memory::table
                .filter(announced)
                .filter(edge_memory::directory_user_id.eq_any(chunk))
                .select(EdgeMemoryRow::as_select())
                .load::<EdgeMemoryRow>(c)
                .await
        })?);
    }
    for chunk in groups.chunks(IDS_PER_QUERY) {
        rows.extend(with_connection!(connection, c => {
            edge_memory::table
                .filter(announced)
                .filter(edge_memory::directory_group_id.eq_any(chunk))
                .select(EdgeMemoryRow::as_select())
                .load::<EdgeMemoryRow>(c)
                .await
        })?);
    }
    let announced = rows.into_iter().map(EdgeMemoryRow::into_model).filter(|(_, memory)| memory.is_announced());
    Ok(announced.map(|(key, _)| key).collect())
}
