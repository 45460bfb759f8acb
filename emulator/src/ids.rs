//! Ids as WorkOS makes them (a prefix and a ULID), but repeatable.

use ulid::Ulid;

/// The time inside the first id, 2026-01-15T12:00:00Z in Unix milliseconds. A fixed one, so that a seed decides every id.
const FIRST_ID_MS: u64 = 1_768_478_400_000;

/// Random bits of a ULID.
const ULID_RANDOM_BITS: u32 = 80;

const KEY_ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A seeded source of ids and keys. Each id is greater than every one before it, whatever its prefix.
#[derive(Debug)]
pub(crate) struct Ids {
    dice: Dice,
    made: u64,
}

impl Ids {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self { dice: Dice::seeded(seed), made: 0 }
    }

    /// The next id. Its time part counts ids and not milliseconds, which is what makes ids increase and repeat.
    pub(crate) fn next(&mut self, prefix: &str) -> String {
        let wide = (u128::from(self.dice.bits()) << 64) | u128::from(self.dice.bits());
        let random = wide & ((1 << ULID_RANDOM_BITS) - 1);
        let ulid = Ulid::from_parts(FIRST_ID_MS + self.made, random);
        self.made += 1;
        format!("{prefix}{ulid}")
    }

    /// `length` characters of letters and digits, such as identity providers use for their own ids.
    pub(crate) fn key(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from(KEY_ALPHABET[self.dice.below(KEY_ALPHABET.len())])).collect()
    }
}

/// Seeded chance.
#[derive(Debug)]
pub(crate) struct Dice {
    state: u64,
}

impl Dice {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound as u64) as usize
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014): small, and good enough for what need not be secret.
    fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
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
