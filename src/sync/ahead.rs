//! The lists of a scan that are read at once, and what waits to be written of them. Pure.

use std::collections::VecDeque;

use super::reconcile::ScanPage;
use crate::db::Scan;

/// Pages of one step that are read and not yet written: it bounds the memory.
const MOST_WAITING: usize = 10;

/// One list, and what has been read of it.
struct List {
    /// Where its next request begins.
    next: Scan,
    begun: bool,
    asked: bool,
    over: bool,
    /// Where each was read, and the page.
    waiting: VecDeque<(Scan, ScanPage)>,
}

/// The lists of a step, in the order in which the scan goes through them. Pages are written in this order too, since the
/// checkpoint knows one place.
pub(super) struct Lists(Vec<List>);

/// Which requests may be sent.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// Requests under way together.
    pub(super) requests: usize,
    /// Whether lists may be begun.
    pub(super) begins: bool,
}

impl Lists {
    /// The lists that begin there.
    pub(super) fn new(lists: Vec<Scan>) -> Self {
        let list = |next| List { next, begun: false, asked: false, over: false, waiting: VecDeque::new() };
        Self(lists.into_iter().map(list).collect())
    }

    /// A list to be asked for its next page now, and where that begins; the list counts as asked.
    pub(super) fn ask(&mut self, room: Room) -> Option<(usize, Scan)> {
        let under_way = self.0.iter().filter(|list| list.asked).count();
        let waiting: usize = self.0.iter().map(|list| list.waiting.len()).sum();
        let first = self.0.iter().position(|list| !list.over)?;
        let may = |(index, list): (usize, &List)| {
            let fits = waiting + under_way < MOST_WAITING && under_way < room.requests && (list.begun || room.begins);
            // What the others wait for goes on, whatever waits.
            let goes_on = index == first && list.waiting.len() < MOST_WAITING;
            !list.over && !list.asked && (goes_on || fits)
        };
        let index = self.0.iter().enumerate().position(|(index, list)| may((index, list)))?;
        let list = &mut self.0[index];
        (list.begun, list.asked) = (true, true);
        Some((index, list.next.clone()))
    }

    /// Takes a page in that was asked for.
    pub(super) fn answered(&mut self, index: usize, page: ScanPage) {
        let list = &mut self.0[index];
        list.asked = false;
        let read = list.next.clone();
        match page.next.as_ref().filter(|next| next.cursor.is_some()) {
            Some(next) => list.next = next.clone(),
            None => list.over = true,
        }
        list.waiting.push_back((read, page));
    }

    /// At most so many pages that can be written now.
    pub(super) fn take(&mut self, most: usize) -> Vec<(Scan, ScanPage)> {
        let mut pages = Vec::new();
        for list in &mut self.0 {
            let count = list.waiting.len().min(most - pages.len());
            pages.extend(list.waiting.drain(..count));
            if !list.over || !list.waiting.is_empty() {
                break;
            }
        }
        pages
    }

    /// Whether lists have been begun that are of use only once those before them are over.
    pub(super) fn others_wait(&self) -> bool {
        let first = self.0.iter().position(|list| !list.over).unwrap_or(self.0.len());
        self.0.iter().skip(first + 1).any(|list| list.begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::db::ScanPhase;
    use crate::mirror::TruthContext;
    use crate::model::DirectoryGroupId;

    fn place(group: &str, cursor: Option<&str>) -> Scan {
        Scan {
            phase: ScanPhase::Members,
            group: Some(DirectoryGroupId::from_stored(group.to_owned())),
            cursor: cursor.map(str::to_owned),
            ..Scan::from_the_beginning(1)
        }
    }

    fn page(group: &str, after: Option<&str>) -> ScanPage {
        let (sent_at, now) = (Timestamp::MIN_UTC, Timestamp::MIN_UTC);
        let context = TruthContext { number: 1, sent_at, asked_at: sent_at, now, applied_under: 1 };
        ScanPage { users: Vec::new(), groups: Vec::new(), next: Some(place(group, after)), context }
    }

    fn asked(lists: &mut Lists, room: Room) -> Vec<usize> {
        std::iter::from_fn(|| lists.ask(room)).map(|(index, _)| index).collect()
    }

    #[test]
    fn several_lists_are_read_at_once_and_written_in_their_order() {
        let mut lists = Lists::new(["a", "b", "c"].map(|group| place(group, None)).to_vec());
        assert_eq!(asked(&mut lists, Room { requests: 2, begins: true }), [0, 1]);
        lists.answered(1, page("b", None));
        assert!(lists.take(10).is_empty(), "the first list is not read yet");
        assert!(lists.others_wait());
        lists.answered(0, page("a", Some("1")));
        assert_eq!(lists.take(10).len(), 1);
        assert_eq!(asked(&mut lists, Room { requests: 2, begins: false }), [0], "no list is begun");
        lists.answered(0, page("a", None));
        assert_eq!(lists.take(1).len(), 1);
        assert_eq!(lists.take(1).len(), 1);
        assert_eq!(asked(&mut lists, Room { requests: 0, begins: true }), [2], "the first goes on in any case");
        assert!(!lists.others_wait());
    }

    #[test]
    fn what_waits_to_be_written_is_bounded() {
        let mut lists = Lists::new(["a", "b"].map(|group| place(group, None)).to_vec());
        let room = Room { requests: 8, begins: true };
        assert_eq!(asked(&mut lists, room), [0, 1]);
        for count in 1..MOST_WAITING {
            lists.answered(1, page("b", Some("1")));
            let expected: &[usize] = if count + 1 < MOST_WAITING { &[1] } else { &[] };
            assert_eq!(asked(&mut lists, room), expected);
        }
        lists.answered(0, page("a", Some("1")));
        assert_eq!(asked(&mut lists, room), [0], "the first goes on in any case");
    }
}
