//! Many rows in one `INSERT`, the same code for both engines.
//!
//! SQLite gets `VALUES (…), (…)`. PostgreSQL gets one array for each column, `SELECT * FROM unnest($1, $2, …)`: the text
//! does not depend on the number of rows, so it is parsed and planned once for each connection, not for each batch.

use std::io::Write;
use std::sync::OnceLock;

use diesel::backend::Backend;
use diesel::insertable::{CanInsertInSingleQuery, InsertValues};
use diesel::pg::{Pg, PgMetadataLookup, PgTypeMetadata};
use diesel::query_builder::bind_collector::RawBytesBindCollector;
use diesel::query_builder::{AstPass, QueryFragment, QueryId, UndecoratedInsertRecord, ValuesClause};
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{Array, BigInt, Binary, Bool, HasSqlType, Integer, Text};
use diesel::sqlite::Sqlite;
use diesel::{Insertable, QueryResult, Table};

use super::types::{Instant, Json, LocalId};

/// The most parameters that a statement of ours binds: SQLite takes 32,766, PostgreSQL twice as many.
const MAX_PARAMETERS: usize = 32_766;

/// Insertable structs for one multi-row insert; not empty, and at most [`MAX_PARAMETERS`] values.
///
/// `values(&Vec<_>)` does not compile for SQLite through diesel-async, which cannot run Diesel's row-by-row fallback.
pub struct Batch<V>(pub Vec<V>);

/// Rows of so many columns in as few batches as the parameters allow.
pub fn batches<V>(rows: impl IntoIterator<Item = V>, columns: usize) -> impl Iterator<Item = Batch<V>> {
    let mut rows = rows.into_iter();
    std::iter::from_fn(move || {
        let batch: Vec<V> = rows.by_ref().take(MAX_PARAMETERS / columns).collect();
        (!batch.is_empty()).then_some(Batch(batch))
    })
}

/// The rows of a [`Batch`] as SQL.
pub struct Rows<V> {
    rows: Vec<V>,
    /// The same, column by column: made when PostgreSQL asks for it.
    columns: OnceLock<Vec<Column>>,
}

impl<V> Default for Rows<V> {
    fn default() -> Self {
        Self { rows: Vec::new(), columns: OnceLock::new() }
    }
}

impl<T, V: Insertable<T>> Insertable<T> for Batch<V> {
    type Values = ValuesClause<Rows<V::Values>, T>;

    fn values(self) -> Self::Values {
        let mut clause = ValuesClause::<Rows<V::Values>, T>::default();
        clause.values.rows = self.0.into_iter().map(Insertable::values).collect();
        clause
    }
}

impl<V> QueryId for Rows<V> {
    type QueryId = ();
    // The text depends on the number of rows.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<T, V> UndecoratedInsertRecord<T> for Rows<V> {}

impl<DB: Backend, V> CanInsertInSingleQuery<DB> for Rows<V> {
    fn rows_to_insert(&self) -> Option<usize> {
        Some(self.rows.len())
    }
}

// Diesel's clause around us writes `(<column names>) VALUES (<rows>)`.

impl<V, T> InsertValues<Sqlite, T> for Rows<ValuesClause<V, T>>
where
    T: Table,
    V: InsertValues<Sqlite, T> + QueryFragment<Sqlite>,
{
    fn column_names(&self, out: AstPass<'_, '_, Sqlite>) -> QueryResult<()> {
        self.rows.first().map_or(Ok(()), |row| row.values.column_names(out))
    }
}

impl<V, T> QueryFragment<Sqlite> for Rows<ValuesClause<V, T>>
where
    V: QueryFragment<Sqlite>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.unsafe_to_cache_prepared();
        for (index, row) in self.rows.iter().enumerate() {
            // The clause opens the first row and closes the last.
            if index > 0 {
                out.push_sql("), (");
            }
            row.values.walk_ast(out.reborrow())?;
        }
        Ok(())
    }
}

impl<V, T> InsertValues<Pg, T> for Rows<ValuesClause<V, T>>
where
    T: Table,
    V: InsertValues<Pg, T> + QueryFragment<Pg>,
{
    fn column_names(&self, mut out: AstPass<'_, '_, Pg>) -> QueryResult<()> {
        self.rows.first().map_or(Ok(()), |row| row.values.column_names(out.reborrow()))?;
        // The clause cannot be kept from writing `) VALUES (`, and only Diesel's own clauses take `ON CONFLICT`: what it
        // writes here ends up in a comment.
        out.push_sql(") /*");
        Ok(())
    }
}

impl<V, T> QueryFragment<Pg> for Rows<ValuesClause<V, T>>
where
    V: QueryFragment<Pg>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let columns = match self.columns.get() {
            Some(columns) => columns,
            None => {
                let columns = columns_of(self.rows.iter().map(|row| &row.values))?;
                self.columns.get_or_init(|| columns)
            }
        };
        out.push_sql("*/ SELECT * FROM unnest(");
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                out.push_sql(", ");
            }
            column.bind(out.reborrow())?;
        }
        // The clause closes the parenthesis.
        out.push_sql(") WHERE (TRUE");
        Ok(())
    }
}

/// The values of one column as PostgreSQL's wire format has them.
#[derive(Debug)]
struct Column {
    of: PgTypeMetadata,
    values: Vec<Option<Vec<u8>>>,
}

/// Lets each row write its values, and sorts them by column.
fn columns_of<'a, V: QueryFragment<Pg> + 'a>(rows: impl Iterator<Item = &'a V>) -> QueryResult<Vec<Column>> {
    let mut columns: Vec<Column> = Vec::new();
    for row in rows {
        let mut written = RawBytesBindCollector::<Pg>::new();
        row.collect_binds(&mut written, &mut OnlyKnownTypes, &Pg)?;
        if columns.is_empty() {
            columns = written.metadata.into_iter().map(|of| Column { of, values: Vec::new() }).collect();
        }
        for (column, value) in columns.iter_mut().zip(written.binds) {
            column.values.push(value);
        }
    }
    Ok(columns)
}

impl Column {
    fn bind<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        match self.of.oid().map_err(|error| diesel::result::Error::SerializationError(Box::new(error)))? {
            16 => out.push_bind_param::<Array<Bool>, _>(self),
            17 => out.push_bind_param::<Array<Binary>, _>(self),
            20 => out.push_bind_param::<Array<BigInt>, _>(self),
            23 => out.push_bind_param::<Array<Integer>, _>(self),
            25 => out.push_bind_param::<Array<Text>, _>(self),
            1184 => out.push_bind_param::<Array<Instant>, _>(self),
            2950 => out.push_bind_param::<Array<LocalId>, _>(self),
            3802 => out.push_bind_param::<Array<Json>, _>(self),
            oid => Err(diesel::result::Error::SerializationError(
                format!("no batch has had a column of the type {oid} before").into(),
            )),
        }
    }
}

/// An array: its dimensions, whether there are nulls, the type, the length and the lower bound of the only dimension; then
/// each value after its length, or -1 for a null. Source: `array_recv` in PostgreSQL's `arrayfuncs.c`.
impl<ST> ToSql<Array<ST>, Pg> for Column
where
    Pg: HasSqlType<ST>,
    ST: 'static,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        let nulls = i32::from(self.values.iter().any(Option::is_none));
        let header = [1, nulls, self.of.oid()?.cast_signed(), i32::try_from(self.values.len())?, 1];
        for field in header {
            out.write_all(&field.to_be_bytes())?;
        }
        for value in &self.values {
            match value {
                Some(bytes) => {
                    out.write_all(&i32::try_from(bytes.len())?.to_be_bytes())?;
                    out.write_all(bytes)?;
                }
                None => out.write_all(&(-1_i32).to_be_bytes())?,
            }
        }
        Ok(IsNull::No)
    }
}

/// Our types have fixed numbers, so that none is ever looked up.
struct OnlyKnownTypes;

impl PgMetadataLookup for OnlyKnownTypes {
    fn lookup_type(&mut self, _name: &str, _schema: Option<&str>) -> PgTypeMetadata {
        PgTypeMetadata::new(0, 0)
    }
}

#[cfg(test)]
mod tests {
    use diesel::debug_query;
    use diesel::prelude::*;

    use super::*;
    use crate::db::schema::marks;

    #[derive(Insertable, Clone)]
    #[diesel(table_name = marks, treat_none_as_default_value = false)]
    struct Row {
        directory_id: &'static str,
        version: i64,
    }

    fn without_values(shown: &str) -> &str {
        shown.split(" -- binds").next().unwrap_or_default()
    }

    #[test]
    fn postgres_gets_an_array_for_each_column() {
        let expected = "INSERT INTO \"marks\" (\"directory_id\", \"version\") /*) VALUES (*/ SELECT * FROM unnest($1, $2) \
             WHERE (TRUE)";
        for count in [1, 300] {
            let row = Row { directory_id: "directory_1", version: 1 };
            let query = diesel::insert_into(marks::table).values(Batch(vec![row; count]));
            assert_eq!(without_values(&debug_query::<Pg, _>(&query).to_string()), expected);
        }
    }

    #[test]
    fn sqlite_gets_rows() {
        let row = Row { directory_id: "directory_1", version: 1 };
        let query = diesel::insert_into(marks::table).values(Batch(vec![row; 2]));
        let expected = "INSERT INTO `marks` (`directory_id`, `version`) VALUES (?, ?), (?, ?)";
        assert_eq!(without_values(&debug_query::<Sqlite, _>(&query).to_string()), expected);
    }
}
