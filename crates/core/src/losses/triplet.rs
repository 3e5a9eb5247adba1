//! Triplet losses: an anchor a, a positive p of its class, a negative q of another.
//!
//! ```text
//! triplet-squared:    L = mean over triplets of [ |a - p|^2 - |a - q|^2 + m ]+            (Park et al. 2019, section 4.1)
//! triplet-euclidean:  L = mean over triplets of [ |a - p + e| - |a - q + e| + m ]+        (the authors' released code)
//! ```
//! Embeddings `[n, d]`, labels `[n]`, margin m, e = 1e-6 added to every coordinate (PyTorch's `triplet_margin_loss`; see
//! [`super::distance`]). The mean is over all chosen triplets, those of loss 0 included. Which triplets are chosen is [`Negatives`]' matter.
//!
//! Both reduce to weights over ordered pairs: every active triplet adds 1/T to the pair (a, p) and takes 1/T from (a, q).
//! A batch without a triplet (one class, or no class twice) has value 0 and no gradient.

use serde::{Deserialize, Serialize};

use super::distance::Distances;
use super::embedding::Embedding;
use super::{Loss, LossInputs, LossValue};
use crate::error::Result;
use crate::input;
use crate::sampling::{Negatives, Sampler};

/// Options of `triplet-squared`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TripletSquared {
    /// The margin m, positive; the paper's is 0.2, for embeddings of norm 1.
    #[serde(deserialize_with = "input::via::<input::Positive, _, _>")]
    pub margin: f64,
    /// Which negatives are taken.
    pub negatives: Negatives,
    /// With distance-weighted negatives: lets the weights underflow to uniform ones where a positive is near, as in the
    /// authors' released code. For comparisons with it; wide embeddings train better without.
    pub uniform_when_underflow: bool,
}

/// Options of `triplet-euclidean`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TripletEuclidean {
    /// The margin m, positive; the released code's is 0.2, for embeddings of norm 1.
    #[serde(deserialize_with = "input::via::<input::Positive, _, _>")]
    pub margin: f64,
    /// Which negatives are taken.
    pub negatives: Negatives,
    /// With distance-weighted negatives: lets the weights underflow to uniform ones where a positive is near, as in the
    /// authors' released code. For comparisons with it; wide embeddings train better without.
    pub uniform_when_underflow: bool,
}

impl Default for TripletSquared {
    fn default() -> Self {
        TripletSquared { margin: 0.2, negatives: Negatives::DistanceWeighted, uniform_when_underflow: false }
    }
}

impl Default for TripletEuclidean {
    fn default() -> Self {
        TripletEuclidean { margin: 0.2, negatives: Negatives::DistanceWeighted, uniform_when_underflow: false }
    }
}

impl TripletSquared {
    fn sampler(&self) -> Sampler {
        Sampler { negatives: self.negatives, uniform_when_underflow: self.uniform_when_underflow }
    }
}

impl TripletEuclidean {
    fn sampler(&self) -> Sampler {
        Sampler { negatives: self.negatives, uniform_when_underflow: self.uniform_when_underflow }
    }
}

/// The chosen triplets' losses given the distance of two rows: the value, and 1/T or -1/T for every pair that counts.
fn pairs(
    triplets: &[[usize; 3]],
    margin: f64,
    distance: impl Fn(usize, usize) -> f64,
    mut add: impl FnMut(usize, usize, f64),
) -> f64 {
    let share = 1.0 / triplets.len().max(1) as f64;
    let mut value = 0.0;
    for &[a, p, q] in triplets {
        let loss = distance(a, p) - distance(a, q) + margin;
        if loss > 0.0 {
            value += loss;
            add(a, p, share);
            add(a, q, -share);
        }
    }
    value * share
}

impl Loss for TripletSquared {
    fn needs_labels(&self) -> bool {
        true
    }

    fn needs_class_pairs(&self) -> bool {
        true
    }

    fn wants_unit_norm(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<()> {
        self.sampler().validate()
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let (z, labels) = (inputs.student, inputs.labels()?);
        let embedding = Embedding::new(inputs.team, z);
        let squared = |i: usize, j: usize| embedding.squared(i, j);
        let triplets = self.sampler().triplets(inputs.team, z, labels, squared, &mut inputs.random.clone());
        let (mut gradient, row) = (embedding.zeros(), rkd_kernels::relations::stride(z.rows));
        let value = pairs(&triplets, self.margin, squared, |i, j, weight| gradient[i * row + j] += weight);
        Ok(LossValue::new(value, embedding.pull_back(inputs.team, &gradient, 1.0)))
    }
}

impl Loss for TripletEuclidean {
    fn needs_labels(&self) -> bool {
        true
    }

    fn needs_class_pairs(&self) -> bool {
        true
    }

    fn wants_unit_norm(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<()> {
        self.sampler().validate()
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let (z, labels) = (inputs.student, inputs.labels()?);
        let distances = Distances::offset(inputs.team, z);
        let squared = |i: usize, j: usize| distances.squared(i, j);
        let triplets = self.sampler().triplets(inputs.team, z, labels, squared, &mut inputs.random.clone());
        let mut slopes = distances.zeros();
        let distance = |i: usize, j: usize| distances.at(i, j);
        let value = pairs(&triplets, self.margin, distance, |i, j, weight| slopes[distances.place(i, j)] += weight);
        Ok(LossValue::new(value, distances.pull_back(inputs.team, slopes)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::*;

    #[test]
    fn equal_their_definitions_over_triplets() {
        let z = naive::draw("triplet");
        let mean = |violation: &dyn Fn(usize, usize, usize) -> f64| {
            let triplets = naive::triplets();
            let sum: f64 = triplets.iter().map(|&[a, p, q]| violation(a, p, q).max(0.0)).sum();
            sum / triplets.len() as f64
        };
        let squared = |i: usize, j: usize| naive::distance(&z, i, j, 0.0).powi(2);
        let offset = |i: usize, j: usize| naive::distance(&z, i, j, 1e-6);
        let loss = TripletSquared { margin: 0.7, negatives: Negatives::All, ..TripletSquared::default() };
        naive::expect(&loss, &z, None, mean(&|a, p, q| squared(a, p) - squared(a, q) + 0.7));
        let loss = TripletEuclidean { margin: 0.7, negatives: Negatives::All, ..TripletEuclidean::default() };
        naive::expect(&loss, &z, None, mean(&|a, p, q| offset(a, p) - offset(a, q) + 0.7));
    }
}
