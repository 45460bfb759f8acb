//! Where the pages of a whole list begin.

use diesel::QueryableByName;
use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;

use super::planning::{Beliefs, ListPlace};
use super::spelled::{Question, Value};
use super::{Db, DbConnection, DbError, with_connection};
use crate::model::{DirectoryId, DirectoryUserId};

/// The cursors of a list that is read from its beginning to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageCursors<Id> {
    page_size: u32,
    /// The last record of each page, in the list's order.
    ends: Vec<Id>,
}

#[derive(QueryableByName)]
struct EndRow {
    #[diesel(sql_type = Text)]
    id: String,
}

impl<Id> PageCursors<Id> {
    /// The cursors of a list whose pages hold `page_size` records and end with these, in the list's order.
    #[must_use]
    pub fn new(page_size: u32, ends: Vec<Id>) -> Self {
        Self { page_size, ends }
    }
}

impl Db {
    /// The cursors of the directory's users, as far as the mirror knows them.
    ///
    /// # Errors
    /// [`DbError`] if the database cannot be asked.
    pub async fn user_page_cursors(
        &self,
        directory: &DirectoryId,
        page_size: u32,
    ) -> Result<PageCursors<DirectoryUserId>, DbError> {
        let mut connection = self.read().await?;
        // PostgreSQL's order depends on the database's locale otherwise.
        let collate = match connection {
            DbConnection::Postgres(_) => " COLLATE \"C\"",
            DbConnection::Sqlite(_) => "",
        };
        let query = format!(
            "SELECT id FROM (
                SELECT directory_user_id AS id, row_number() OVER (ORDER BY directory_user_id{collate}) AS place
                FROM users WHERE directory_id = $1 AND deleted_at IS NULL AND directory_user_id IS NOT NULL
             ) AS listed
             WHERE place % $2 = 0 ORDER BY place"
        );
        let values = vec![Value::Text(directory.as_str()), Value::Number(i64::from(page_size))];
        let question = Question { text: &query, values };
        let rows: Vec<EndRow> = with_connection!(&mut connection, c => question.load(c).await)?;
        let ends = rows.into_iter().map(|row| DirectoryUserId::from_stored(row.id)).collect();
        Ok(PageCursors::new(page_size, ends))
    }
}

impl Beliefs {
    /// Says of each user in the list that the page begins with it which shows it when the list is read from its beginning: so
    /// that all pages together are no more than the list has.
    pub fn read_users_by(&mut self, cursors: &PageCursors<DirectoryUserId>) {
        for (id, belief) in self.users.iter_mut().filter(|(_, belief)| belief.place.is_some()) {
            let before = cursors.ends.partition_point(|end| end < id);
            let previous = before.checked_sub(1).map(|last| cursors.ends[last].clone());
            let rank = u32::try_from(before).unwrap_or(u32::MAX).saturating_mul(cursors.page_size);
            belief.place = Some(ListPlace { rank, previous });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::UserBelief;

    fn id(number: u32) -> DirectoryUserId {
        DirectoryUserId::from_stored(format!("user_{number:03}"))
    }

    #[test]
    fn who_is_on_one_page_begins_it_together() {
        let cursors = PageCursors::new(10, vec![id(9), id(19), id(29)]);
        let mut beliefs = Beliefs::default();
        for number in [0, 9, 10, 15, 29, 30] {
            let place = Some(ListPlace { rank: number, previous: None });
            beliefs.users.insert(id(number), UserBelief { place, ..UserBelief::default() });
        }
        beliefs.users.insert(id(12), UserBelief::default());
        beliefs.read_users_by(&cursors);
        let place = |number: u32| beliefs.users[&id(number)].place.clone();
        for (number, rank, previous) in
            [(0, 0, None), (9, 0, None), (10, 10, Some(9)), (15, 10, Some(9)), (29, 20, Some(19)), (30, 30, Some(29))]
        {
            assert_eq!(place(number), Some(ListPlace { rank, previous: previous.map(id) }), "{number}");
        }
        assert_eq!(place(12), None, "who is not listed stays so");
    }
}
