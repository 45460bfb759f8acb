//! News of the inbox from other processes: PostgreSQL's NOTIFY, which a trigger on the inbox sends.

use diesel_async::pooled_connection::deadpool::Object;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use futures_util::StreamExt;

use super::connection::Pools;
use super::{Db, DbError};

/// Tells of commits to the inbox, by whichever process.
pub struct InboxNews(AsyncPgConnection);

impl Db {
    /// Listens on a connection of its own; `None` on SQLite. A pooler that shares connections between clients passes no
    /// notifications on: then nothing is heard, and whoever listens has to look by itself from time to time.
    ///
    /// # Errors
    /// [`DbError`] if the connection cannot be made.
    pub async fn listen(&self) -> Result<Option<InboxNews>, DbError> {
        let Pools::Postgres(pools) = &self.pools else { return Ok(None) };
        let mut connection = Object::take(super::connection::take(&pools.work).await?);
        connection.batch_execute("LISTEN directory_mirror_inbox").await?;
        Ok(Some(InboxNews(connection)))
    }
}

impl InboxNews {
    /// Waits for the next commit.
    ///
    /// # Errors
    /// [`DbError`] once the connection is lost.
    pub async fn next(&mut self) -> Result<(), DbError> {
        let mut news = std::pin::pin!(self.0.notifications_stream());
        match news.next().await {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(error.into()),
            None => Err(DbError::Unavailable("the connection was lost".to_owned())),
        }
    }
}
