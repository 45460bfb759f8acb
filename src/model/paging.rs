//! Lists that are read page by page, and how to notice one that would never end.

/// Pages of one list, at a hundred records each: more than any directory has.
pub const MOST_PAGES: i64 = 100_000;

/// Notices that the pages of a list go round in a circle, or that there are too many. It remembers one page at a time, the
/// last whose number is a power of two: once that lies on the circle and is followed by as many pages as the circle has,
/// it is met again. So it takes no room however long the list is, and can be stored between two pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paging {
    remembered: Option<String>,
    pages: i64,
}

impl Paging {
    /// Goes on where another left off.
    #[must_use]
    pub fn resumed(remembered: Option<String>, pages: i64) -> Self {
        Self { remembered, pages }
    }

    /// What tells the remembered page: its first record, or the cursor that it gave if it was empty.
    #[must_use]
    pub fn remembered(&self) -> Option<&str> {
        self.remembered.as_deref()
    }

    /// How many pages were read.
    #[must_use]
    pub fn pages(&self) -> i64 {
        self.pages
    }

    /// Takes note of a page, by the ids of its records, and of the cursor of the next one. `false` if the list has started
    /// over or does not end.
    #[must_use]
    pub fn notes<'a>(&mut self, ids: impl IntoIterator<Item = &'a str>, next: Option<&str>) -> bool {
        let next = next.map(|cursor| format!("after {cursor}"));
        let (mut first, mut again) = (None, self.remembered.is_some() && self.remembered == next);
        for id in ids {
            again |= self.remembered.as_deref() == Some(id);
            first.get_or_insert(id);
        }
        if again || self.pages >= MOST_PAGES {
            return false;
        }
        self.pages += 1;
        if self.pages.unsigned_abs().is_power_of_two() {
            self.remembered = first.map(str::to_owned).or(next);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many pages are read of a list that begins with `before` pages and goes round in `circle` others.
    fn read(before: usize, circle: usize, empty: bool, at_most: usize) -> usize {
        let mut paging = Paging::default();
        let place = |page: usize| if page < before { page } else { before + (page - before) % circle };
        for page in 0..at_most {
            let ids = [format!("user_{}a", place(page)), format!("user_{}b", place(page))];
            let ids = ids.iter().map(String::as_str).filter(|_| !empty);
            if !paging.notes(ids, Some(&format!("cursor_{}", place(page + 1)))) {
                return page;
            }
        }
        at_most
    }

    #[test]
    fn a_circle_is_noticed_wherever_it_begins() {
        for empty in [false, true] {
            for before in 0..20 {
                for circle in 1..20 {
                    let pages = read(before, circle, empty, 1000);
                    assert!(pages >= circle && pages <= 3 * (before + circle) + 1, "{before} {circle}: {pages}");
                }
            }
            assert_eq!(read(1000, 1, empty, 1000), 1000, "a list without a circle is read");
        }
    }

    #[test]
    fn no_list_is_endless() {
        let mut paging = Paging::resumed(Some("a".to_owned()), MOST_PAGES - 1);
        assert!(paging.notes(["b"], Some("b")));
        assert!(!paging.notes(["c"], Some("c")));
    }

    #[test]
    fn the_first_page_again_is_noticed_whatever_the_cursors() {
        let mut paging = Paging::default();
        assert!(paging.notes(["a", "b"], Some("1")));
        assert!(!paging.notes(["a", "b"], Some("2")));
    }
}
