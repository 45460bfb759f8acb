//! Many rows in one `INSERT`, the same code for both engines.

use diesel::backend::Backend;
use diesel::insertable::{CanInsertInSingleQuery, InsertValues};
use diesel::query_builder::{AstPass, QueryFragment, QueryId, UndecoratedInsertRecord, ValuesClause};
use diesel::{Insertable, QueryResult, Table};

/// The most parameters that a statement of ours binds: SQLite takes 32,766, PostgreSQL twice as many.
pub const MAX_PARAMETERS: usize = 32_766;

/// Insertable structs for one multi-row insert; not empty, and at most [`MAX_PARAMETERS`] values.
///
/// `values(&Vec<_>)` does not compile for SQLite through diesel-async, which cannot run Diesel's row-by-row fallback;
/// both engines take `VALUES (…), (…)`, and this writes it.
pub struct Batch<V>(pub Vec<V>);

/// The rows of a [`Batch`] as SQL.
pub struct Rows<V>(Vec<V>);

impl<V> Default for Rows<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, V: Insertable<T>> Insertable<T> for Batch<V> {
    type Values = ValuesClause<Rows<V::Values>, T>;

    fn values(self) -> Self::Values {
        let mut clause = ValuesClause::<Rows<V::Values>, T>::default();
        clause.values = Rows(self.0.into_iter().map(Insertable::values).collect());
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
        Some(self.0.len())
    }
}

impl<DB, V, T> InsertValues<DB, T> for Rows<ValuesClause<V, T>>
where
    DB: Backend,
    T: Table,
    V: InsertValues<DB, T> + QueryFragment<DB>,
{
    fn column_names(&self, out: AstPass<'_, '_, DB>) -> QueryResult<()> {
        self.0.first().map_or(Ok(()), |row| row.values.column_names(out))
    }
}

impl<DB, V, T> QueryFragment<DB> for Rows<ValuesClause<V, T>>
where
    DB: Backend,
    V: QueryFragment<DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.unsafe_to_cache_prepared();
        for (index, row) in self.0.iter().enumerate() {
            // The clause around us opens the first row and closes the last.
            if index > 0 {
                out.push_sql("), (");
            }
            row.values.walk_ast(out.reborrow())?;
        }
        Ok(())
    }
}
