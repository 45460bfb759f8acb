//! In which order events are posted, and how often.

/// The indices of `count` events, each `copies` times: in their order with the copies side by side, or shuffled all
/// together. One seed always gives one order.
pub(super) fn order(count: usize, copies: usize, seed: Option<u64>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).flat_map(|index| std::iter::repeat_n(index, copies)).collect();
    if let Some(seed) = seed {
        let mut random = SplitMix64(seed);
        // Fisher and Yates's shuffle.
        for last in (1..order.len()).rev() {
            order.swap(last, random.below(last + 1));
        }
    }
    order
}

/// Steele, Lea and Flood's generator. Written out, because a library's may change with its version, and a seed that
/// somebody noted has to give the same order ever after.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to, but not including, `limit`.
    fn below(&mut self, limit: usize) -> usize {
        // The high half of the product is below `limit`, so it fits.
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_stand_side_by_side_unless_shuffled() {
        assert_eq!(order(3, 2, None), [0, 0, 1, 1, 2, 2]);
        assert_eq!(order(0, 3, Some(1)), [0; 0]);
    }

    #[test]
    fn a_shuffle_keeps_every_copy_and_moves_them() {
        let mut shuffled = order(50, 3, Some(7));
        assert_ne!(shuffled, order(50, 3, None));
        assert_ne!(shuffled, order(50, 3, Some(8)));
        shuffled.sort_unstable();
        assert_eq!(shuffled, order(50, 3, None));
    }

    #[test]
    fn a_seed_means_the_same_order_in_every_version() {
        let mut random = SplitMix64(1_234_567);
        // The generator's published known answers for this seed.
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
        assert_eq!(order(8, 1, Some(42)), [4, 3, 2, 0, 7, 6, 1, 5]);
    }
}
