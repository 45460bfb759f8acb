//! What the mirror believes about the records that are to be fetched: the planner decides by it.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel_async::RunQueryDsl;

use super::records::EdgeMemoryRow;
use super::schema::{edge_memory, groups, users};
use super::spelled::{Question, Value};
use super::types::StoredInstant;
use super::{Db, DbConnection, DbError, with_connection};
use crate::clock::Timestamp;
use crate::mirror::EdgeKey;
use crate::model::{DirectoryGroupId, DirectoryId, DirectoryUserId, Mark, MarkTarget, UserState};

const IDS_PER_QUERY: usize = 1000;

/// Where a record stands in its directory's list, which WorkOS orders as its ids are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPlace<Id> {
    /// How many come before it.
    pub rank: u32,
    /// The one right before it.
    pub previous: Option<Id>,
}

/// What is believed of a user.
#[derive(Debug, Clone, Default)]
pub struct UserBelief {
    /// Its place among the directory's users.
    pub place: Option<ListPlace<DirectoryUserId>>,
    /// Whether it is active.
    pub active: bool,
    /// In how many groups it is.
    pub groups: u32,
}

/// What is believed of a group.
#[derive(Debug, Clone, Default)]
pub struct GroupBelief {
    /// Its place among the directory's groups.
    pub place: Option<ListPlace<DirectoryGroupId>>,
    /// How many members it has.
    pub members: u32,
}

/// What is believed of everything that some marks concern. Who has no row is not among it.
#[derive(Debug, Default)]
pub struct Beliefs {
    /// Users.
    pub users: BTreeMap<DirectoryUserId, UserBelief>,
    /// Groups.
    pub groups: BTreeMap<DirectoryGroupId, GroupBelief>,
    /// The memberships of those users.
    pub members: Vec<EdgeKey>,
}

impl Beliefs {
    /// A page or a list did not show this record where it was believed to be: none is expected to show it.
    pub fn lose_place(&mut self, target: &MarkTarget) {
        match target {
            MarkTarget::User(id) => {
                self.users.entry(id.clone()).and_modify(|user| user.place = None);
                self.members.retain(|(_, user)| user != id);
            }
            MarkTarget::Group(id) => {
                self.groups.entry(id.clone()).and_modify(|group| group.place = None);
                self.members.retain(|(group, _)| group != id);
            }
            _ => {}
        }
    }
}

#[derive(QueryableByName)]
struct PlaceRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = BigInt)]
    place: i64,
    #[diesel(sql_type = Nullable<Text>)]
    previous: Option<String>,
}

impl Db {
    /// What is believed of everything that these marks of a directory concern.
    ///
    /// # Errors
    /// [`DbError`] if the database cannot be asked.
    pub async fn beliefs(&self, directory: &DirectoryId, marks: &[Mark], now: Timestamp) -> Result<Beliefs, DbError> {
        let (mut users, mut groups) = (BTreeSet::new(), BTreeSet::new());
        for mark in marks {
            match &mark.target {
                MarkTarget::User(user) | MarkTarget::UserGroups(user) => drop(users.insert(user.as_str())),
                MarkTarget::Group(group) | MarkTarget::GroupMembers(group) => drop(groups.insert(group.as_str())),
                MarkTarget::Edge(group, user) => {
                    users.insert(user.as_str());
                    groups.insert(group.as_str());
                }
                MarkTarget::Directory => {}
            }
        }
        let (users, groups): (Vec<&str>, Vec<&str>) = (users.into_iter().collect(), groups.into_iter().collect());
        let mut beliefs = Beliefs::default();
        let connection = &mut self.read().await?;
        believe_users(connection, &mut beliefs, &users).await?;
        believe_edges(connection, &mut beliefs, &users).await?;
        let of_members: Vec<String> = beliefs.members.iter().map(|(group, _)| group.to_string()).collect();
        let groups: BTreeSet<&str> = groups.into_iter().chain(of_members.iter().map(String::as_str)).collect();
        believe_groups(connection, &mut beliefs, &groups.into_iter().collect::<Vec<_>>()).await?;
        let marked_users: Vec<&str> = marks.iter().filter_map(|mark| marked_user(&mark.target)).collect();
        // One record costs one request, wherever it stands in the list.
        if marked_users.len() > 1 {
            for row in places(connection, "users", "user", directory, (marked_users, now)).await? {
                let id = DirectoryUserId::from_stored(row.id.clone());
                beliefs.users.entry(id).or_default().place = Some(row.into_place(DirectoryUserId::from_stored));
            }
        }
        let marked_groups: Vec<&str> = marks.iter().filter_map(|mark| marked_group(&mark.target)).collect();
        if marked_groups.len() > 1 {
            for row in places(connection, "groups", "group", directory, (marked_groups, now)).await? {
                let id = DirectoryGroupId::from_stored(row.id.clone());
                beliefs.groups.entry(id).or_default().place = Some(row.into_place(DirectoryGroupId::from_stored));
            }
        }
        Ok(beliefs)
    }
}

fn marked_user(target: &MarkTarget) -> Option<&str> {
    if let MarkTarget::User(id) = target { Some(id.as_str()) } else { None }
}

fn marked_group(target: &MarkTarget) -> Option<&str> {
    if let MarkTarget::Group(id) = target { Some(id.as_str()) } else { None }
}

impl PlaceRow {
    fn into_place<Id>(self, id: impl Fn(String) -> Id) -> ListPlace<Id> {
        ListPlace { rank: u32::try_from(self.place).unwrap_or(u32::MAX), previous: self.previous.map(id) }
    }
}

/// The places of the records that are marked, among all that are believed to be listed.
async fn places(
    connection: &mut DbConnection,
    table: &str,
    kind: &str,
    directory: &DirectoryId,
    (marked, now): (Vec<&str>, Timestamp),
) -> Result<Vec<PlaceRow>, DbError> {
    let listed = |collate: &str| {
        format!(
            "SELECT id, place, previous FROM (
                SELECT directory_{kind}_id AS id, row_number() OVER w - 1 AS place, lag(directory_{kind}_id) OVER w AS previous
                FROM {table} WHERE directory_id = $1 AND deleted_at IS NULL AND directory_{kind}_id IS NOT NULL
                WINDOW w AS (ORDER BY directory_{kind}_id{collate})
             ) AS listed"
        )
    };
    let of_directory = Value::Text(directory.as_str());
    let (text, values) = match connection {
        // Its order depends on the database's locale without the collation. An array, since a table that fills and empties
        // as `marks` does has no statistics that would keep it from joining row by row.
        DbConnection::Postgres(_) => {
            (format!("{} WHERE id = ANY ($2)", listed(" COLLATE \"C\"")), vec![of_directory, Value::Texts(marked)])
        }
        DbConnection::Sqlite(_) => {
            let due = format!("SELECT directory_{kind}_id FROM marks WHERE directory_id = $1 AND kind = '{kind}'");
            let text = format!("{} WHERE id IN ({due} AND due_at <= $2)", listed(""));
            (text, vec![of_directory, Value::Instant(StoredInstant(now))])
        }
    };
    let question = Question { text: &text, values };
    Ok(with_connection!(connection, c => question.load(c).await)?)
}

async fn believe_users(connection: &mut DbConnection, beliefs: &mut Beliefs, ids: &[&str]) -> Result<(), DbError> {
    for chunk in ids.chunks(IDS_PER_QUERY) {
        let rows: Vec<(Option<String>, String)> = with_connection!(connection, c => {
            users::table
                .filter(users::directory_user_id.eq_any(chunk).and(users::deleted_at.is_null()))
                .select((users::directory_user_id, users::state))
                .load(c)
                .await
        })?;
        for (id, state) in rows.into_iter().filter_map(|(id, state)| Some((id?, state))) {
            let belief = beliefs.users.entry(DirectoryUserId::from_stored(id)).or_default();
            belief.active = state == UserState::Active.as_str();
        }
    }
    Ok(())
}

async fn believe_edges(connection: &mut DbConnection, beliefs: &mut Beliefs, users: &[&str]) -> Result<(), DbError> {
    for chunk in users.chunks(IDS_PER_QUERY) {
        let rows: Vec<EdgeMemoryRow> = with_connection!(connection, c => {
            edge_memory::table
                .filter(edge_memory::directory_user_id.eq_any(chunk))
                .select(EdgeMemoryRow::as_select())
                .load(c)
                .await
        })?;
        for ((group, user), memory) in rows.into_iter().map(EdgeMemoryRow::into_model) {
            if memory.present {
                beliefs.users.entry(user.clone()).or_default().groups += 1;
                beliefs.members.push((group, user));
            }
        }
    }
    Ok(())
}

async fn believe_groups(connection: &mut DbConnection, beliefs: &mut Beliefs, ids: &[&str]) -> Result<(), DbError> {
    for chunk in ids.chunks(IDS_PER_QUERY) {
        let rows: Vec<Option<String>> = with_connection!(connection, c => {
            groups::table
                .filter(groups::directory_group_id.eq_any(chunk).and(groups::deleted_at.is_null()))
                .select(groups::directory_group_id)
                .load(c)
                .await
        })?;
        for id in rows.into_iter().flatten() {
            beliefs.groups.entry(DirectoryGroupId::from_stored(id)).or_default();
        }
        let counts: Vec<(String, i64)> = with_connection!(connection, c => {
            edge_memory::table
                .filter(edge_memory::directory_group_id.eq_any(chunk).and(edge_memory::present.eq(true)))
                .group_by(edge_memory::directory_group_id)
                .select((edge_memory::directory_group_id, diesel::dsl::count_star()))
                .load(c)
                .await
        })?;
        for (id, count) in counts {
            let belief = beliefs.groups.entry(DirectoryGroupId::from_stored(id)).or_default();
            belief.members = u32::try_from(count).unwrap_or(u32::MAX);
        }
    }
    Ok(())
}
