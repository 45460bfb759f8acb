//! The brake: when so many records vanish at once, without any event that said so, that a mistake is likelier than the
//! truth, removals stop until somebody confirms them (rule 4). Pure.

use chrono::TimeDelta;

use crate::clock::Timestamp;

/// Unannounced removals are counted together for this long.
const WINDOW_MINUTES: i64 = 60;
/// So many are always believed.
const ALWAYS_BELIEVED: i64 = 20;
/// And so many, as a part of all records that there were.
const BELIEVED_PART: i64 = 10;
/// Minutes. What the brake holds is looked at again after this long: perhaps it was found again meanwhile.
pub const HELD_MINUTES: i64 = 60;
/// Minutes. A mark that is put off for longer than this is held by the brake, unless its answer cannot be read: whatever
/// else is put off, an answer that was contradicted for one, waits for a minute at the most.
pub const HELD_FROM_MINUTES: i64 = 2;

/// What is remembered of a directory's unannounced removals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Brake {
    /// How many were made since [`Brake::since`].
    pub removals: i64,
    /// When the first of them was.
    pub since: Option<Timestamp>,
    /// When the brake stopped removals; `None` while they go on.
    pub braked_at: Option<Timestamp>,
    /// Until then every removal is believed, since somebody confirmed them.
    pub confirmed_until: Option<Timestamp>,
}

impl Brake {
    /// Stops removals if [`Brake::allows`] would not allow so many, and remembers none of them. Answers whether it did.
    pub fn stops_at_once(&mut self, removals: i64, live: i64, now: Timestamp) -> bool {
        let mut tried = *self;
        if tried.allows(removals, live, now) {
            return false;
        }
        self.braked_at = self.braked_at.or(Some(now));
        true
    }

    /// Whether `removals` more may be made in a directory that shows `live` users and groups now. Remembers either the
    /// removals or that they were stopped.
    pub fn allows(&mut self, removals: i64, live: i64, now: Timestamp) -> bool {
        if self.confirmed_until.is_some_and(|until| now < until) {
            return true;
        }
        if self.braked_at.is_some() {
            return false;
        }
        let counts = self.since.is_some_and(|since| now - since < TimeDelta::minutes(WINDOW_MINUTES));
        let before = if counts { self.removals } else { 0 };
        let allowed = before + removals <= ALWAYS_BELIEVED.max((live + before) / BELIEVED_PART);
        if allowed {
            self.removals = before + removals;
            self.since = if counts { self.since } else { Some(now) };
        } else {
            self.braked_at = Some(now);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + TimeDelta::minutes(minutes)
    }

    #[test]
    fn twenty_or_a_tenth_may_go_within_an_hour() {
        for (live, first, second, allowed) in [
            (10, 20, 0, true),
            (10, 20, 1, false),
            (1000, 100, 0, true),
            (1000, 101, 0, false),
            (900, 60, 30, true),
            (900, 60, 31, false),
        ] {
            let mut brake = Brake::default();
            let one = brake.allows(first, live, at(0));
            let both = one && brake.allows(second, live - first, at(59));
            assert_eq!(one && both, allowed, "{first} and {second} of {live}");
        }
    }

    #[test]
    fn the_count_starts_anew_after_an_hour() {
        let mut brake = Brake::default();
        assert!(brake.allows(20, 30, at(0)));
        assert!(brake.allows(20, 30, at(60)));
        assert!(!brake.allows(1, 30, at(61)));
        assert_eq!(brake.braked_at, Some(at(61)));
    }

    #[test]
    fn it_stays_until_it_is_confirmed() {
        let mut brake = Brake::default();
        assert!(!brake.allows(30, 30, at(0)));
        assert!(!brake.allows(1, 30, at(600)), "time alone releases nothing");
        brake.confirmed_until = Some(at(700));
        assert!(brake.allows(30, 30, at(601)));
    }
}
