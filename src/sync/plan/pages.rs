//! The records of one list, and the fewest requests that fetch them: pages, and single gets where a page shows but one.

use super::work::{Entry, Place};

/// The dirty records of one list. A record's number is its position here: first those that have a place, in the list's
/// order, then those that have none.
#[derive(Debug)]
pub(super) struct Track {
    /// The entries whose records these are.
    pub(super) entries: Vec<u32>,
    /// The ranks of those that have a place, ascending.
    ranks: Vec<u32>,
    page_size: u32,
    /// What a request weighs.
    pub(super) weight: u64,
}

impl Track {
    /// Collects the dirty records of `entries`, which stand in the order of their ids.
    pub(super) fn new<Id>(entries: &[Entry<'_, Id>], page_size: u32, weight: u64) -> Self {
        let dirty = (0u32..).zip(entries).filter(|(_, entry)| entry.record.is_some());
        let mut keyed: Vec<_> = dirty.map(|(number, entry)| (entry.place.as_ref().map(Place::rank), number)).collect();
        keyed.sort_unstable_by_key(|&(rank, number)| (rank.is_none(), rank, number));
        let ranks = keyed.iter().map_while(|&(rank, _)| rank).collect();
        Self { entries: keyed.into_iter().map(|(_, number)| number).collect(), ranks, page_size, weight }
    }

    /// How many records there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The records that a page beginning with `record` shows: it, and some that follow it here.
    fn page_from(&self, record: usize) -> std::ops::Range<usize> {
        let Some(rank) = self.ranks.get(record) else { return record..record + 1 };
        let end = rank.saturating_add(self.page_size);
        record..record + 1 + self.ranks[record + 1..].partition_point(|&rank| rank < end)
    }

    /// The fewest requests for the records that are `wanted`, as the ranges of records that each shows. Every range
    /// begins with a wanted record; one that holds no other is a single get.
    ///
    /// The first wanted record needs a request of its own or a page, and of all pages that show it the one that begins
    /// with it reaches furthest; so taking that page and going on behind it is never worse than any other choice.
    pub(super) fn requests(&self, wanted: impl Fn(usize) -> bool) -> impl Iterator<Item = std::ops::Range<usize>> {
        let mut next = 0;
        std::iter::from_fn(move || {
            while next < self.len() && !wanted(next) {
                next += 1;
            }
            (next < self.len()).then(|| {
                let page = self.page_from(next);
                next = page.end;
                page
            })
        })
    }
}
