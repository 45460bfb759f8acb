//! Repeatable chance: numbers that a seed decides.

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and good enough for ids and chaos, which need not be secret.
#[derive(Clone, Debug)]
pub(crate) struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The source that belongs to one position of a sequence. What one position draws does not move the others.
    pub(crate) fn at(seed: u64, position: u64) -> Self {
        let start = Self::seeded(seed).bits();
        Self::seeded(start ^ Self::seeded(position).bits())
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// At least 0 and less than 1.
    pub(crate) fn unit(&mut self) -> f64 {
        const BITS: u32 = 53;
        (self.bits() >> (u64::BITS - BITS)) as f64 / (1_u64 << BITS) as f64
    }

    /// True in this share of all draws.
    pub(crate) fn hits(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound as u64) as usize
    }

    /// From 0 to `max`, both included.
    pub(crate) fn up_to(&mut self, max: u64) -> u64 {
        match max.checked_add(1) {
            Some(count) => self.bits() % count,
            None => self.bits(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_repeatable_and_unlike_each_other() {
        let draws = |seed| (0..1000).map(|position| SplitMix64::at(seed, position).unit()).collect::<Vec<_>>();
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        let hits = draws(1).iter().filter(|draw| **draw < 0.25).count();
        assert!((200..300).contains(&hits), "{hits}");
    }
}
