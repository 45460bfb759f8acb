//! Storage: the only code that knows Diesel.
//!
//! One code path serves both engines: `with_connection!` expands a Diesel expression once for each. Queries that
//! belong to one aggregate stand in one file.

mod batch;
pub mod brake;
mod connection;
mod explain;
mod gauges;
mod history;
pub mod inbox;
pub mod lease;
mod listen;
mod marks;
mod migrations;
mod pages;
mod pairs;
mod planning;
mod poller;
mod postgres_tls;
pub mod progress;
mod records;
mod recover;
mod retention;
pub mod scan;
pub mod schema;
mod spelled;
mod sqlite;
mod status;
pub mod types;
pub mod working_set;

pub use connection::{Db, DbConnection, Transaction};
pub use explain::{Found, Kind};
pub use history::{Direction, EventFilter, InboxEntry, Place};
pub use inbox::{NewInboxEvent, PendingEvent};
pub use lease::{Lease, Share};
pub use listen::InboxNews;
pub use marks::{MarkEntry, MarkFilter};
pub use migrations::{pending as pending_migrations, run as run_migrations};
pub use pages::PageCursors;
pub use planning::{Beliefs, GroupBelief, ListPlace, UserBelief};
pub use poller::{PollerState, Round};
pub use progress::Due;
pub use recover::Restored;
pub use retention::{Forgotten, MemoryKey};
pub use scan::{Scan, ScanPhase};
pub use status::{Backlog, DirectoryHealth, DirectorySize, MirrorCopy};

/// Why the database did not do what was asked. Messages name no row's content.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The database cannot be reached, or every connection is busy for too long.
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    /// The data itself is refused: trying again will not help.
    #[error("the database refuses the data: {0}")]
    Data(String),
    /// A row holds what only a newer version writes: that can read it, so nothing counts as failed.
    #[error("a newer version has written to the database: {0}")]
    NewerVersion(String),
    /// Another worker has a lease on this directory.
    #[error("another worker has directory {0}")]
    LeaseLost(String),
    /// This worker's token is not in the database.
    #[error(
        "the database does not know this worker, since it was restored from a backup or has not seen the worker for a \
         day: restart this process"
    )]
    Forgotten,
    /// Migrations could not be run.
    #[error("the migrations failed: {0}")]
    Migration(String),
    /// Another worker holds the SQLite file.
    #[error("{0}")]
    FileInUse(String),
    /// Anything else the driver reports.
    #[error("a query failed: {0}")]
    Query(diesel::result::Error),
}

impl From<diesel::result::Error> for DbError {
    fn from(error: diesel::result::Error) -> Self {
        use diesel::result::{DatabaseErrorKind as Kind, Error};
        match &error {
            Error::DatabaseError(Kind::ClosedConnection | Kind::UnableToSendCommand, _) => {
                Self::Unavailable("the connection was lost".to_owned())
            }
            Error::DatabaseError(
                Kind::UniqueViolation | Kind::ForeignKeyViolation | Kind::NotNullViolation | Kind::CheckViolation,
                details,
            ) => Self::Data(format!("constraint {}", details.constraint_name().unwrap_or("unnamed"))),
            Error::SerializationError(_) => Self::Data("a value cannot be written".to_owned()),
            Error::DeserializationError(_) => Self::Data("a stored value cannot be read".to_owned()),
            // PostgreSQL's classes 57P and 25P03, by which it ends a connection, reach us as an unknown kind with its message.
            Error::DatabaseError(Kind::Unknown, details) if ends_connection(details.message()) => {
                Self::Unavailable("the server ended the connection".to_owned())
            }
            // Class 22, data exceptions, as well.
            Error::DatabaseError(Kind::Unknown, details) if is_data_exception(details.message()) => {
                Self::Data("a value is out of the range of its column".to_owned())
            }
            _ => Self::Query(error),
        }
    }
}

fn ends_connection(message: &str) -> bool {
    ["terminating connection", "the database system is"].iter().any(|sign| message.starts_with(sign))
}

fn is_data_exception(message: &str) -> bool {
    [
        "invalid byte sequence",
        "out of range",
        "unsupported Unicode escape",
        "exceeds btree",
        "index row size",
        "string or blob too big",
    ]
    .iter()
    .any(|sign| message.contains(sign))
}

/// A connection for statements that do not wait for each other. PostgreSQL's can be shared, and what is asked at the same
/// time goes out together.
enum Reader<'a> {
    Postgres(&'a diesel_async::AsyncPgConnection),
    Sqlite(&'a mut sqlite::SqliteAsync),
}

/// As `with_connection!`, of a [`Reader`].
macro_rules! with_reader {
    ($reader:expr, $c:ident => $body:expr) => {
        match &mut $reader {
            $crate::db::Reader::Postgres(connection) => {
                let $c = &mut *connection;
                $body
            }
            $crate::db::Reader::Sqlite(connection) => {
                let $c = &mut **connection;
                $body
            }
        }
    };
}
use with_reader;

/// Expands one body for each engine: `with_connection!(connection, c => query.load(c).await)`.
macro_rules! with_connection {
    ($connection:expr, $c:ident => $body:expr) => {
        match $connection {
            $crate::db::DbConnection::Postgres(object) => {
                let $c = &mut **object;
                $body
            }
            $crate::db::DbConnection::Sqlite(object) => {
                let $c = &mut **object;
                $body
            }
        }
    };
}
pub(crate) use with_connection;
