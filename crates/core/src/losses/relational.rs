//! What the relational losses share: the Huber function and the two ways to average.

use serde::{Deserialize, Serialize};

/// What the sum over pairs or triples is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// n^2 or n^3: all entries, the degenerate ones (which are 0) included, as the authors' code does. Published weights
    /// assume it.
    #[default]
    Reference,
    /// n (n - 1) or n (n - 1) (n - 2): the distinct tuples only.
    Distinct,
}

impl Reduction {
    /// The divisor for tuples of `size` (2 or 3) out of `n`; at least 1, so that a batch without tuples has the value 0.
    pub fn divisor(self, n: usize, size: usize) -> f64 {
        let factors = (0..size).map(|i| match self {
            Reduction::Reference => n,
            Reduction::Distinct => n.saturating_sub(i),
        });
        factors.map(|factor| factor as f64).product::<f64>().max(1.0)
    }
}

/// Huber's function of threshold `delta`, and its derivative: `x^2 / 2` up to `delta`, then `delta (|x| - delta / 2)`.
pub fn huber(x: f64, delta: f64) -> (f64, f64) {
    let slope = x.clamp(-delta, delta);
    (slope * (x - 0.5 * slope), slope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huber_is_a_parabola_with_straight_arms() {
        assert_eq!(huber(0.5, 1.0), (0.125, 0.5));
        assert_eq!(huber(-3.0, 1.0), (2.5, -1.0));
        assert_eq!(huber(3.0, 0.5), (0.5 * (3.0 - 0.25), 0.5));
        assert_eq!(huber(1.0, 1.0), (0.5, 1.0));
    }

    #[test]
    fn divisors_count_tuples() {
        assert_eq!(Reduction::Reference.divisor(5, 2), 25.0);
        assert_eq!(Reduction::Reference.divisor(5, 3), 125.0);
        assert_eq!(Reduction::Distinct.divisor(5, 2), 20.0);
        assert_eq!(Reduction::Distinct.divisor(5, 3), 60.0);
        assert_eq!(Reduction::Distinct.divisor(2, 3), 1.0);
    }
}
