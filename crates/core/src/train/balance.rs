//! Weights by `"auto"`: terms balanced by the norms of their gradients.
//!
//! In the first [`STEPS`] steps every term is pulled back to the parameters on its own. With N_k the sum of the norms of
//! term k's unweighted gradient so far and r the first term whose weight is a number,
//!
//! ```text
//! w_k = w_r N_r / N_k
//! ```
//! so that the weighted gradients are equally large. After the last of these steps the weights stay. The authors of RKD
//! advise the same by hand: balance the gradients of the task and of the relations.

use serde::{Deserialize, Serialize};

/// Steps that are measured.
pub const STEPS: u64 = 20;

/// The norms measured so far. It travels in the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Balance {
    steps: u64,
    norms: Vec<f64>,
}

impl Balance {
    /// Whether the next step is measured.
    pub fn is_measuring(&self) -> bool {
        self.steps < STEPS
    }

    /// Adds the norms of one step, one for each term.
    pub fn add(&mut self, norms: &[f64]) {
        self.norms.resize(norms.len(), 0.0);
        self.norms.iter_mut().zip(norms).for_each(|(sum, norm)| *sum += norm);
        self.steps += 1;
    }

    /// N of term `reference` over N of `term`; 1 where there is no gradient to compare.
    pub fn ratio(&self, reference: usize, term: usize) -> f64 {
        match (self.norms.get(reference), self.norms.get(term)) {
            (Some(&reference), Some(&term)) if term > 0.0 => reference / term,
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weighted_gradients_become_equally_large() {
        let mut balance = Balance::default();
        assert_eq!(balance.ratio(0, 1), 1.0);
        balance.add(&[2.0, 0.25, 0.0]);
        balance.add(&[4.0, 0.75, 0.0]);
        assert_eq!(balance.ratio(0, 1), 6.0);
        assert_eq!(balance.ratio(0, 2), 1.0);
        assert!(balance.is_measuring());
        (2..STEPS).for_each(|_| balance.add(&[1.0, 1.0, 0.0]));
        assert!(!balance.is_measuring());
    }
}
