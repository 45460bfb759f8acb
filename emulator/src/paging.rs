//! Cursors and pages over a set of ids, by ranges: the cost of a page does not depend on the size of the set.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use crate::records::ListMetadata;

const DEFAULT_LIMIT: usize = 10;
const MAX_LIMIT: usize = 100;

/// How a list is ordered. Source: the parameter `order` in WorkOS's OpenAPI document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Oldest first.
    Asc,
    /// Newest first.
    Desc,
    /// Newest first, and the cursors change places: `before` leads to older records, `after` to newer ones.
    Normal,
}

/// The paging parameters of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageQuery {
    limit: usize,
    order: Order,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
}

impl PageQuery {
    /// Reads the parameters; an error is the message of a 422.
    pub(crate) fn parse<'a>(parameter: impl Fn(&str) -> Option<&'a str>) -> Result<Self, &'static str> {
        let limit = match parameter("limit") {
            None => DEFAULT_LIMIT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=MAX_LIMIT).contains(limit))
                .ok_or("limit must be an integer between 1 and 100.")?,
        };
        let order = match parameter("order") {
            None | Some("desc") => Order::Desc,
            Some("asc") => Order::Asc,
            Some("normal") => Order::Normal,
            Some(_) => return Err("order must be one of: normal, desc, asc."),
        };
        Ok(Self {
            limit,
            order,
            before: parameter("before").map(str::to_owned),
            after: parameter("after").map(str::to_owned),
        })
    }
}

/// One page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page<'a> {
    pub(crate) ids: Vec<&'a str>,
    pub(crate) metadata: ListMetadata<'a>,
}

/// Ids in rising order.
pub(crate) trait Ordered {
    /// Those strictly between the bounds.
    fn between(&self, lower: Option<&str>, upper: Option<&str>) -> impl DoubleEndedIterator<Item = &str>;
}

impl Ordered for BTreeSet<Arc<str>> {
    fn between(&self, lower: Option<&str>, upper: Option<&str>) -> impl DoubleEndedIterator<Item = &str> {
        // `BTreeSet::range` panics on bounds that enclose nothing.
        let enclosing = lower.zip(upper).is_none_or(|(lower, upper)| lower < upper);
        let bound = |id: Option<_>| id.map_or(Bound::Unbounded, Bound::Excluded);
        let range = enclosing.then(|| self.range::<str, _>((bound(lower), bound(upper))));
        range.into_iter().flatten().map(|id| &**id)
    }
}

/// The page of `set` that `query` asks for, of the ids that `keep` accepts.
///
/// A cursor is a place in the order and not a record: it works even when its record is gone.
pub(crate) fn page<'a>(set: &'a impl Ordered, query: &PageQuery, keep: impl Fn(&str) -> bool) -> Page<'a> {
    let (before, after) = match query.order {
        Order::Normal => (query.after.as_deref(), query.before.as_deref()),
        Order::Asc | Order::Desc => (query.before.as_deref(), query.after.as_deref()),
    };
    let ascending = query.order == Order::Asc;
    let (lower, upper) = if ascending { (after, before) } else { (before, after) };
    // With `before` alone the page is the one that ends at the cursor, so it is gathered from there.
    let backwards = before.is_some() && after.is_none();
    let mut ids = gather(set, (lower, upper), ascending != backwards, query.limit, &keep);
    if backwards {
        ids.reverse();
    }
    let (Some(&first), Some(&last)) = (ids.first(), ids.last()) else {
        return Page::default();
    };
    let (smallest, greatest) = if ascending { (first, last) } else { (last, first) };
    let smaller = !gather(set, (None, Some(smallest)), false, 1, &keep).is_empty();
    let greater = !gather(set, (Some(greatest), None), true, 1, &keep).is_empty();
    let (earlier, later) = if ascending { (smaller, greater) } else { (greater, smaller) };
    let (towards_start, towards_end) = (earlier.then_some(first), later.then_some(last));
    let (before, after) = match query.order {
        Order::Normal => (towards_end, towards_start),
        Order::Asc | Order::Desc => (towards_start, towards_end),
    };
    Page { ids, metadata: ListMetadata { before, after } }
}

/// Up to `limit` ids strictly between the bounds, from the lower end if `upwards`.
fn gather<'a>(
    set: &'a impl Ordered,
    (lower, upper): (Option<&str>, Option<&str>),
    upwards: bool,
    limit: usize,
    keep: impl Fn(&str) -> bool,
) -> Vec<&'a str> {
    let range = set.between(lower, upper);
    if upwards {
        range.filter(|id| keep(id)).take(limit).collect()
    } else {
        range.rev().filter(|id| keep(id)).take(limit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: usize) -> BTreeSet<Arc<str>> {
        (0..count).map(|n| Arc::from(format!("id_{n:03}"))).collect()
    }

    fn query(order: &str, limit: &str, before: Option<&str>, after: Option<&str>) -> PageQuery {
        PageQuery::parse(|name| match name {
            "order" => Some(order),
            "limit" => Some(limit),
            "before" => before,
            "after" => after,
            _ => None,
        })
        .expect("the parameters are valid")
    }

    /// Follows one cursor from `start` until it ends; pages are kept apart.
    fn walk<'a>(set: &'a BTreeSet<Arc<str>>, order: &str, by_after: bool, start: Option<&'a str>) -> Vec<Vec<&'a str>> {
        let mut pages = Vec::new();
        let mut cursor = start;
        loop {
            let request = if by_after { query(order, "7", None, cursor) } else { query(order, "7", cursor, None) };
            let answer = page(set, &request, |_| true);
            cursor = if by_after { answer.metadata.after } else { answer.metadata.before };
            pages.push(answer.ids);
            if cursor.is_none() {
                return pages;
            }
        }
    }

    #[test]
    fn each_order_visits_everything_once() {
        for count in [0, 1, 6, 7, 8, 14, 50] {
            let set = ids(count);
            let oldest_first: Vec<&str> = set.iter().map(|id| &**id).collect();
            let newest_first: Vec<&str> = oldest_first.iter().rev().copied().collect();
            assert_eq!(walk(&set, "asc", true, None).concat(), oldest_first);
            assert_eq!(walk(&set, "desc", true, None).concat(), newest_first);
            assert_eq!(walk(&set, "normal", false, None).concat(), newest_first);
        }
    }

    #[test]
    fn the_other_cursor_leads_back() {
        let set = ids(50);
        for (order, forward) in [("asc", true), ("desc", true), ("normal", false)] {
            let pages = walk(&set, order, forward, None);
            let start = pages.last().and_then(|page| page.first()).copied();
            let mut back = walk(&set, order, !forward, start);
            back.reverse();
            assert_eq!(back.concat(), pages[..pages.len() - 1].concat(), "{order}");
        }
    }

    #[test]
    fn left_out_ids_make_no_cursor() {
        let set = ids(10);
        let answer = page(&set, &query("asc", "5", None, None), |id| id < "id_005");
        assert_eq!(answer.ids.len(), 5);
        assert_eq!(answer.metadata, ListMetadata::default());
    }

    #[test]
    fn bad_parameters_are_refused() {
        for (name, value) in [("limit", "0"), ("limit", "101"), ("limit", "x"), ("order", "up")] {
            assert!(PageQuery::parse(|asked| (asked == name).then_some(value)).is_err());
        }
    }
}
