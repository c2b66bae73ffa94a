//! Numbers from a seed: the same ones for ever, on every machine.

/// `SplitMix64` (Steele, Lea and Flood, 2014). Each seed begins a stream of its own, so that seeds
/// may follow each other.
pub(super) struct Random {
    state: u64,
}

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `least` to `most`, both included.
    pub(super) fn between(&mut self, least: u64, most: u64) -> u64 {
        // The bias of the remainder is below 2^-50 for the ranges used here.
        least + self.next() % (most - least + 1)
    }

    /// True once in so many times.
    pub(super) fn one_in(&mut self, times: u64) -> bool {
        self.between(1, times) == 1
    }

    /// One of these.
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let last = from.len() as u64 - 1;
        let index = usize::try_from(self.between(0, last)).unwrap_or(0);
        from[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_that_of_the_published_algorithm() {
        let mut random = Random::new(1_234_567);
        let first = [random.next(), random.next()];
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        );
    }

    #[test]
    fn ranges_include_both_ends() {
        let mut random = Random::new(1);
        let drawn: Vec<u64> = (0..200).map(|_| random.between(3, 5)).collect();
        assert!((3..=5).all(|value| drawn.contains(&value)));
        assert!(drawn.iter().all(|value| (3..=5).contains(value)));
        assert!((0..200).any(|_| random.pick(&[1, 2]) == 2));
        assert!((0..200).any(|_| random.one_in(9)));
    }
}
