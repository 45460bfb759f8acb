//! Ids as WorkOS makes them (a prefix and a ULID), but repeatable.

use ulid::Ulid;

use crate::random::SplitMix64;

/// The time inside the first id, 2026-01-15T12:00:00Z in Unix milliseconds. A fixed one, so that a seed decides every id.
const FIRST_ID_MS: u64 = 1_768_478_400_000;

/// Random bits of a ULID.
const ULID_RANDOM_BITS: u32 = 80;

const KEY_ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A seeded source of ids and keys. Each id is greater than every one before it, whatever its prefix.
#[derive(Debug)]
pub(crate) struct Ids {
    random: SplitMix64,
    made: u64,
}

impl Ids {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self { random: SplitMix64::seeded(seed), made: 0 }
    }

    /// The next id. Its time part counts ids and not milliseconds, which is what makes ids increase and repeat.
    pub(crate) fn next(&mut self, prefix: &str) -> String {
        let wide = (u128::from(self.random.bits()) << 64) | u128::from(self.random.bits());
        let random = wide & ((1 << ULID_RANDOM_BITS) - 1);
        let ulid = Ulid::from_parts(FIRST_ID_MS + self.made, random);
        self.made += 1;
        format!("{prefix}{ulid}")
    }

    /// `length` characters of letters and digits, such as identity providers use for their own ids.
    pub(crate) fn key(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from(KEY_ALPHABET[self.random.below(KEY_ALPHABET.len())])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_increase_and_repeat_with_their_seed() {
        let run = |seed| {
            let mut ids = Ids::seeded(seed);
            (0..1000).map(|_| ids.next("event_")).collect::<Vec<_>>()
        };
        let first = run(7);
        assert!(first.is_sorted_by(|a, b| a < b));
        assert_eq!(first, run(7));
        assert_ne!(first, run(8));
        assert_eq!(first[0].len(), "event_".len() + 26);
    }
}
