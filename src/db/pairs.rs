//! Rows about memberships by group and user, and marks by their whole key.
//!
//! A join on the keys: `IN` on groups and on users looks up each group with each user, and SQLite uses no index for `IN` on
//! pairs. PostgreSQL compares each mark with each id of an array where `marks` has no statistics, as a table that fills
//! and empties has none.

use diesel::sql_query;
use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;

use super::records::{EdgeMemoryRow, MarkRow};
use super::{DbConnection, DbError, with_connection};
use crate::mirror::EdgeKey;
use crate::model::DirectoryId;

const KEYS_PER_QUERY: usize = 500;

/// What is remembered of these memberships.
pub async fn edge_memories(connection: &mut DbConnection, keys: &[&EdgeKey]) -> Result<Vec<EdgeMemoryRow>, DbError> {
    let mut rows = Vec::new();
    for chunk in keys.chunks(KEYS_PER_QUERY) {
        let query = format!(
            "SELECT found.* FROM (VALUES {}) AS wanted JOIN edge_memory AS found \
             ON found.directory_group_id = wanted.column1 AND found.directory_user_id = wanted.column2",
            placeholders(chunk.len(), 2)
        );
        rows.extend(with_connection!(connection, c => {
            let mut query = sql_query(&query).into_boxed();
            for (group, user) in chunk {
                query = query.bind::<Text, _>(group.as_str()).bind::<Text, _>(user.as_str());
            }
            query.load::<EdgeMemoryRow>(c).await
        })?);
    }
    Ok(rows)
}

/// The marks with these keys in a directory: kind, group and user.
pub async fn marks(
    connection: &mut DbConnection,
    directory: &DirectoryId,
    keys: &[(&str, &str, &str)],
) -> Result<Vec<MarkRow>, DbError> {
    let mut rows = Vec::new();
    for chunk in keys.chunks(KEYS_PER_QUERY) {
        let query = format!(
            "SELECT found.* FROM (VALUES {}) AS wanted JOIN marks AS found ON found.directory_id = ${} \
             AND found.kind = wanted.column1 AND found.directory_group_id = wanted.column2 \
             AND found.directory_user_id = wanted.column3",
            placeholders(chunk.len(), 3),
            3 * chunk.len() + 1
        );
        rows.extend(with_connection!(connection, c => {
            let mut query = sql_query(&query).into_boxed();
            for (kind, group, user) in chunk {
                query = query.bind::<Text, _>(*kind).bind::<Text, _>(*group).bind::<Text, _>(*user);
            }
            query.bind::<Text, _>(directory.as_str()).load::<MarkRow>(c).await
        })?);
    }
    Ok(rows)
}

/// `($1, $2), ($3, $4)` for two rows of two columns.
fn placeholders(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let numbers = (1..=columns).map(|column| format!("${}", row * columns + column)).collect::<Vec<_>>();
        format!("({})", numbers.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}
