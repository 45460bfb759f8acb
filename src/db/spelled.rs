//! SQL that is spelled out, and still prepared once for each connection.
//!
//! Diesel's own `sql` and `sql_query` are prepared anew each time, as their text may be different each time: a round trip,
//! and the work to parse and to plan. What comes here has few texts; what differs belongs into the values.

use std::marker::PhantomData;

use diesel::QueryResult;
use diesel::backend::Backend;
use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, SingleValue, SqlType, Text, Untyped};
use diesel::sqlite::Sqlite;

use super::types::{Instant, StoredInstant};

/// A part of a query.
#[derive(Debug, Clone, Copy)]
pub struct Spelled<'a, ST> {
    text: &'a str,
    of: PhantomData<ST>,
}

/// This text as a part of a query, with a value of the type `ST`.
pub fn spelled<ST>(text: &str) -> Spelled<'_, ST> {
    Spelled { text, of: PhantomData }
}

impl<ST: SqlType + SingleValue> Expression for Spelled<'_, ST> {
    type SqlType = ST;
}
impl<QS, ST: SqlType + SingleValue> AppearsOnTable<QS> for Spelled<'_, ST> {}
impl<QS, ST: SqlType + SingleValue> SelectableExpression<QS> for Spelled<'_, ST> {}
impl<GB, ST> ValidGrouping<GB> for Spelled<'_, ST> {
    type IsAggregate = is_aggregate::Never;
}

impl<ST> QueryId for Spelled<'_, ST> {
    type QueryId = ();
    // The statement is found by its text.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<DB: Backend, ST> QueryFragment<DB> for Spelled<'_, ST> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql(self.text);
        Ok(())
    }
}

/// A value for a [`Question`].
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// Text.
    Text(&'a str),
    /// An array of texts: for PostgreSQL alone.
    Texts(Vec<&'a str>),
    /// A number.
    Number(i64),
    /// An instant.
    Instant(StoredInstant),
}

/// A whole query: text with `$1`, `$2` … in the order in which their values stand, read by the names of its columns.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The text.
    pub text: &'a str,
    /// Its values.
    pub values: Vec<Value<'a>>,
}

impl Query for Question<'_> {
    type SqlType = Untyped;
}

impl QueryId for Question<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl QueryFragment<Pg> for Question<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(self.text);
        for value in &self.values {
            match value {
                Value::Text(text) => out.push_bind_param_value_only::<Text, _>(text)?,
                Value::Texts(texts) => out.push_bind_param_value_only::<Array<Text>, _>(texts)?,
                Value::Number(number) => out.push_bind_param_value_only::<BigInt, _>(number)?,
                Value::Instant(at) => out.push_bind_param_value_only::<Instant, _>(at)?,
            }
        }
        Ok(())
    }
}

impl QueryFragment<Sqlite> for Question<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql(self.text);
        for value in &self.values {
            match value {
                Value::Text(text) => out.push_bind_param_value_only::<Text, _>(text)?,
                Value::Number(number) => out.push_bind_param_value_only::<BigInt, _>(number)?,
                Value::Instant(at) => out.push_bind_param_value_only::<Instant, _>(at)?,
                Value::Texts(_) => {
                    return Err(diesel::result::Error::QueryBuilderError("SQLite has no arrays".into()));
                }
            }
        }
        Ok(())
    }
}
