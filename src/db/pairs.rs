//! Rows about memberships, each by its group and its user.
//!
//! A join on the pairs: `IN` on groups and on users looks up each group with each user, and SQLite uses no index for `IN` on
//! pairs.

use diesel::sql_query;
use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;

use super::records::{EdgeMemoryRow, MarkRow};
use super::{DbConnection, DbError, with_connection};
use crate::mirror::EdgeKey;
use crate::model::DirectoryId;

const PAIRS_PER_QUERY: usize = 500;

/// What is remembered of these memberships.
pub async fn edge_memories(connection: &mut DbConnection, keys: &[&EdgeKey]) -> Result<Vec<EdgeMemoryRow>, DbError> {
    let mut rows = Vec::new();
    for chunk in keys.chunks(PAIRS_PER_QUERY) {
        let query = format!("SELECT found.* FROM {}", joined("edge_memory", chunk.len()));
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

/// The marks of these memberships.
pub async fn edge_marks(
    connection: &mut DbConnection,
    directory: &DirectoryId,
    keys: &[&EdgeKey],
) -> Result<Vec<MarkRow>, DbError> {
    let mut rows = Vec::new();
    for chunk in keys.chunks(PAIRS_PER_QUERY) {
        let of_directory = format!("WHERE found.kind = 'edge' AND found.directory_id = ${}", 2 * chunk.len() + 1);
        let query = format!("SELECT found.* FROM {} {of_directory}", joined("marks", chunk.len()));
        rows.extend(with_connection!(connection, c => {
            let mut query = sql_query(&query).into_boxed();
            for (group, user) in chunk {
                query = query.bind::<Text, _>(group.as_str()).bind::<Text, _>(user.as_str());
            }
            query.bind::<Text, _>(directory.as_str()).load::<MarkRow>(c).await
        })?);
    }
    Ok(rows)
}

fn joined(table: &str, pairs: usize) -> String {
    let pairs: Vec<String> = (0..pairs).map(|pair| format!("(${}, ${})", 2 * pair + 1, 2 * pair + 2)).collect();
    format!(
        "(VALUES {}) AS wanted JOIN {table} AS found \
         ON found.directory_group_id = wanted.column1 AND found.directory_user_id = wanted.column2",
        pairs.join(", ")
    )
}
