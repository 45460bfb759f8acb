//! Rows about memberships by group and user, and marks by their whole key.
//!
//! A join on the keys: `IN` on groups and on users looks up each group with each user, and SQLite uses no index for `IN` on
//! pairs. PostgreSQL compares each mark with each id of an array where `marks` has no statistics, as a table that fills
//! and empties has none. PostgreSQL gets an array for each part of the key, so that the text is always the same; SQLite
//! gets `VALUES`, with as many rows as the next power of two, so that there are few texts.

use diesel_async::RunQueryDsl;

use super::records::{EdgeMemoryRow, MarkRow};
use super::spelled::{Question, Value};
use super::{DbError, Reader, with_reader};
use crate::mirror::EdgeKey;

const KEYS_PER_QUERY: usize = 512;

/// What is remembered of these memberships.
pub(super) async fn edge_memories(mut reader: Reader<'_>, keys: &[&EdgeKey]) -> Result<Vec<EdgeMemoryRow>, DbError> {
    let mut rows = Vec::new();
    for chunk in keys.chunks(KEYS_PER_QUERY) {
        let keys: Vec<[&str; 2]> = chunk.iter().map(|(group, user)| [group.as_str(), user.as_str()]).collect();
        let (wanted, values) = wanted(&reader, &keys);
        let text = format!(
            "SELECT found.* FROM {wanted} JOIN edge_memory AS found \
             ON found.directory_group_id = wanted.column1 AND found.directory_user_id = wanted.column2"
        );
        let question = Question { text: &text, values };
        rows.extend(with_reader!(reader, c => question.load::<EdgeMemoryRow>(c).await)?);
    }
    Ok(rows)
}

/// The marks with these keys: directory, kind, group and user. A row may come more than once.
pub(super) async fn marks(mut reader: Reader<'_>, keys: &[[&str; 4]]) -> Result<Vec<MarkRow>, DbError> {
    let mut rows = Vec::new();
    for chunk in keys.chunks(KEYS_PER_QUERY) {
        let (wanted, values) = wanted(&reader, chunk);
        let text = format!(
            "SELECT found.* FROM {wanted} JOIN marks AS found ON found.directory_id = wanted.column1 \
             AND found.kind = wanted.column2 AND found.directory_group_id = wanted.column3 \
             AND found.directory_user_id = wanted.column4"
        );
        let question = Question { text: &text, values };
        rows.extend(with_reader!(reader, c => question.load::<MarkRow>(c).await)?);
    }
    Ok(rows)
}

/// These keys as a table `wanted` with `column1` and so on, and its values. SQLite gets the last key more than once.
fn wanted<'a, const N: usize>(reader: &Reader<'_>, keys: &[[&'a str; N]]) -> (String, Vec<Value<'a>>) {
    match reader {
        Reader::Postgres(_) => {
            let arrays = (1..=N).map(|column| format!("${column}::text[]")).collect::<Vec<_>>().join(", ");
            let columns = (1..=N).map(|column| format!("column{column}")).collect::<Vec<_>>().join(", ");
            let values = (0..N).map(|column| Value::Texts(keys.iter().map(|key| key[column]).collect())).collect();
            (format!("unnest({arrays}) AS wanted ({columns})"), values)
        }
        Reader::Sqlite(_) => {
            let count = keys.len().next_power_of_two();
            let all = keys.iter().chain(keys.last().into_iter().cycle().take(count - keys.len()));
            let values = all.flatten().map(|text| Value::Text(text)).collect();
            (format!("(VALUES {}) AS wanted", placeholders(count, N)), values)
        }
    }
}

/// `($1, $2), ($3, $4)` for two rows of two columns.
fn placeholders(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let numbers = (1..=columns).map(|column| format!("${}", row * columns + column)).collect::<Vec<_>>();
        format!("({})", numbers.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}
