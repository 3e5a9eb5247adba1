//! Counter-based random numbers: every random choice is a pure function of its key.
//!
//! A key is (seed, epoch, item, purpose). Nothing carries generator state from one choice to the next, so neither the
//! order of execution nor a restart can change a run. The mixing function is SplitMix64 (Steele, Lea, Flood 2014), the
//! name hash 64-bit FNV-1a: the same two that the golden files use.

/// 64-bit FNV-1a of the UTF-8 bytes of `text`.
pub fn fnv1a64(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3))
}

const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// One output of SplitMix64 at state `x`.
pub fn splitmix64(x: u64) -> u64 {
    let x = x.wrapping_add(GOLDEN_GAMMA);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A stream of random numbers that belongs to one key.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The stream of the key (`seed`, `epoch`, `item`, `purpose`), for example `(1, 0, 17, "augment")`.
    pub fn keyed(seed: u64, epoch: u64, item: u64, purpose: &str) -> Self {
        let mut state = splitmix64(seed ^ fnv1a64(purpose));
        state = splitmix64(state ^ epoch);
        state = splitmix64(state ^ item);
        Random { state }
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let value = splitmix64(self.state);
        self.state = self.state.wrapping_add(GOLDEN_GAMMA);
        value
    }

    /// A number in `[0, 1)` with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number in `[low, high)`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// An integer in `[0, count)` without bias (rejection); `count` must be positive.
    pub fn below(&mut self, count: usize) -> usize {
        assert!(count > 0, "below(0) has no value");
        let count = count as u64;
        let limit = u64::MAX - u64::MAX % count;
        loop {
            let bits = self.bits();
            if bits < limit {
                return (bits % count) as usize;
            }
        }
    }

    /// A standard normal number (Box-Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Shuffles `items` in place (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_golden_check_values() {
        assert_eq!(fnv1a64("images/0"), 14815495650443958260);
        let seed = 20261123u64;
        let first: Vec<f64> = (0..4u64)
            .map(|i| {
                let bits =
                    splitmix64(fnv1a64("images/0").wrapping_add(seed).wrapping_add(i.wrapping_mul(GOLDEN_GAMMA)));
                2.0 * ((bits >> 40) as f64 / (1u64 << 24) as f64) - 1.0
            })
            .collect();
        assert_eq!(first, [-0.2170557975769043, 0.29401588439941406, 0.17108845710754395, 0.22133302688598633]);
    }

    #[test]
    fn a_key_names_its_stream() {
        let draw = |epoch, item, purpose| Random::keyed(7, epoch, item, purpose).bits();
        let values = [draw(0, 0, "augment"), draw(1, 0, "augment"), draw(0, 1, "augment"), draw(0, 0, "split")];
        assert_eq!(values[0], draw(0, 0, "augment"));
        for (i, a) in values.iter().enumerate() {
            assert!(values[i + 1..].iter().all(|b| a != b), "{values:?}");
        }
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut random = Random::keyed(1, 2, 3, "test");
        let n = 100_000;
        let (mut uniform, mut normal, mut square) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            uniform += random.uniform();
            let z = random.normal();
            normal += z;
            square += z * z;
        }
        let n = f64::from(n);
        assert!((uniform / n - 0.5).abs() < 0.005);
        assert!((normal / n).abs() < 0.015);
        assert!((square / n - 1.0).abs() < 0.02);
    }

    #[test]
    fn shuffle_keeps_every_item() {
        let mut items: Vec<usize> = (0..100).collect();
        Random::keyed(1, 0, 0, "shuffle").shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
