//! Finds what an operator asks about.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::schema::{directories, edge_memory, entity_memory, groups, users};
use super::types::StoredUuid;
use super::{Db, DbConnection, DbError, with_connection, working_set};
use crate::mirror::{Touched, WorkingSet};
use crate::model::{DirectoryGroupId, DirectoryId, DirectoryUserId};

/// What something is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A directory user.
    User(DirectoryUserId),
    /// A directory group.
    Group(DirectoryGroupId),
}

/// Something that the mirror has, or remembers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The directory it belongs to.
    pub directory_id: DirectoryId,
    /// What it is.
    pub kind: Kind,
}

impl Db {
    /// Everything that goes by this name: a WorkOS id, our own id, or a user's address.
    ///
    /// # Errors
    /// [`DbError`] if the database cannot be asked.
    pub async fn find(&self, name: &str) -> Result<Vec<Found>, DbError> {
        let mut connection = self.read().await?;
        let local = Uuid::try_parse(name).map(StoredUuid).ok();
        let mut found = find_users(&mut connection, name, local).await?;
        found.extend(find_groups(&mut connection, name, local).await?);
        let directories: Vec<String> = with_connection!(&mut connection, c => {
            directories::table.find(name).select(directories::directory_id).load(c).await
        })?;
        let is_directory = |id| Found { directory_id: DirectoryId::from_stored(id), kind: Kind::Directory };
        found.extend(directories.into_iter().map(is_directory));
        let remembered: Vec<(String, String, String)> = with_connection!(&mut connection, c => {
            entity_memory::table
                .filter(entity_memory::entity_id.eq(name))
                .select((entity_memory::directory_id, entity_memory::kind, entity_memory::entity_id))
                .load(c)
                .await
        })?;
        found.extend(remembered.into_iter().filter_map(|(directory, kind, id)| {
            let kind = match kind.as_str() {
                "user" => Kind::User(DirectoryUserId::from_stored(id)),
                "group" => Kind::Group(DirectoryGroupId::from_stored(id)),
                "directory" => Kind::Directory,
                _ => return None,
            };
            Some(Found { directory_id: DirectoryId::from_stored(directory), kind })
        }));
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Everything the engine knows about what was found, as it stands.
    ///
    /// # Errors
    /// [`DbError`] if the database cannot be asked.
    pub async fn explain(&self, found: &Found) -> Result<WorkingSet, DbError> {
        let mut touched = Touched::default();
        match &found.kind {
            Kind::User(id) => drop(touched.users.insert(id.clone())),
            Kind::Group(id) => drop(touched.groups.insert(id.clone())),
            Kind::Directory => {}
        }
        let mut connection = self.read().await?;
        working_set::load(&mut connection, &found.directory_id, &touched).await
    }
}

impl Db {
    /// How many memberships of a user or group the mirror shows, and how many it remembers as absent.
    ///
    /// # Errors
    /// [`DbError`] if the database cannot be asked.
    pub async fn count_edges(&self, kind: &Kind) -> Result<(i64, i64), DbError> {
        let mut connection = self.read().await?;
        let mut counts = [0; 2];
        for (count, present) in counts.iter_mut().zip([true, false]) {
            *count = with_connection!(&mut connection, c => {
                let mut query = edge_memory::table.filter(edge_memory::present.eq(present)).count().into_boxed();
                query = match kind {
                    Kind::User(id) => query.filter(edge_memory::directory_user_id.eq(id.as_str())),
                    Kind::Group(id) => query.filter(edge_memory::directory_group_id.eq(id.as_str())),
                    Kind::Directory => query,
                };
                query.get_result(c).await
            })?;
        }
        Ok((counts[0], counts[1]))
    }
}

#[diesel::declare_sql_function]
extern "SQL" {
    fn lower(
        text: diesel::sql_types::Nullable<diesel::sql_types::Text>,
    ) -> diesel::sql_types::Nullable<diesel::sql_types::Text>;
}

async fn find_users(
    connection: &mut DbConnection,
    name: &str,
    local: Option<StoredUuid>,
) -> Result<Vec<Found>, DbError> {
    let rows: Vec<(Option<String>, Option<String>)> = with_connection!(connection, c => {
        let mut query = users::table.select((users::directory_id, users::directory_user_id)).into_boxed();
        // SQLite's `lower` knows ASCII alone.
        let by_address = users::email.eq(name).or(lower(users::email).eq(name.to_lowercase()));
        query = query.filter(users::directory_user_id.eq(name).or(by_address));
        if let Some(local) = local {
            query = query.or_filter(users::id.eq(local));
        }
        query.load(c).await
    })?;
    let found = |(directory, id): (Option<String>, Option<String>)| {
        let kind = Kind::User(DirectoryUserId::from_stored(id?));
        Some(Found { directory_id: DirectoryId::from_stored(directory?), kind })
    };
    Ok(rows.into_iter().filter_map(found).collect())
}

async fn find_groups(
    connection: &mut DbConnection,
    name: &str,
    local: Option<StoredUuid>,
) -> Result<Vec<Found>, DbError> {
    let rows: Vec<(Option<String>, Option<String>)> = with_connection!(connection, c => {
        let mut query = groups::table.select((groups::directory_id, groups::directory_group_id)).into_boxed();
        query = query.filter(groups::directory_group_id.eq(name));
        if let Some(local) = local {
            query = query.or_filter(groups::id.eq(local));
        }
        query.load(c).await
    })?;
    let found = |(directory, id): (Option<String>, Option<String>)| {
        let kind = Kind::Group(DirectoryGroupId::from_stored(id?));
        Some(Found { directory_id: DirectoryId::from_stored(directory?), kind })
    };
    Ok(rows.into_iter().filter_map(found).collect())
}
