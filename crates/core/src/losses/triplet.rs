//! Triplet losses: an anchor a, a positive p of its class, a negative q of another.
//!
//! ```text
//! triplet-squared:    L = mean over triplets of [ |a - p|^2 - |a - q|^2 + m ]+            (Park et al. 2019, section 4.1)
//! triplet-euclidean:  L = mean over triplets of [ |a - p + e| - |a - q + e| + m ]+        (the authors' released code)
//! ```
//! Embeddings `[n, d]`, labels `[n]`, margin m, e = 1e-6 added to every coordinate (PyTorch's `triplet_margin_loss`). The
//! mean is over all chosen triplets, those of loss 0 included. Which triplets are chosen is [`Negatives`]' matter.
//!
//! Both reduce to weights over ordered pairs: every active triplet adds 1/T to the pair (a, p) and takes 1/T from (a, q).
//! A batch without a triplet (one class, or no class twice) has value 0 and no gradient.

use serde::{Deserialize, Serialize};

use super::embedding::Embedding;
use super::inputs::Matrix;
use super::{Loss, LossInputs, LossValue};
use crate::error::{Code, Error, Result};
use crate::sampling::{Negatives, choose_triplets};

/// Added to every coordinate of a difference by PyTorch's `pairwise_distance`.
const OFFSET: f64 = 1e-6;

/// Options of `triplet-squared`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TripletSquared {
    /// The margin m, positive; the paper's is 0.2, for embeddings of norm 1.
    pub margin: f64,
    /// Which negatives are taken.
    pub negatives: Negatives,
}

/// Options of `triplet-euclidean`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TripletEuclidean {
    /// The margin m, positive; the released code's is 0.2, for embeddings of norm 1.
    pub margin: f64,
    /// Which negatives are taken.
    pub negatives: Negatives,
}

impl Default for TripletSquared {
    fn default() -> Self {
        TripletSquared { margin: 0.2, negatives: Negatives::All }
    }
}

impl Default for TripletEuclidean {
    fn default() -> Self {
        TripletEuclidean { margin: 0.2, negatives: Negatives::All }
    }
}

/// The margin must be a positive number.
pub(super) fn check_margin(loss: &str, margin: f64) -> Result<()> {
    if margin.is_finite() && margin > 0.0 {
        return Ok(());
    }
    Err(Error::new(Code::InvalidOption, "the margin is out of range")
        .with_subject(format!("{loss}.margin"))
        .with_values("a number greater than 0", margin.to_string())
        .with_advice("leave it out for the paper's 0.2"))
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

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let z = inputs.student;
        let labels = inputs.labels()?;
        let embedding = Embedding::new(inputs.pool, z);
        let squared = |i: usize, j: usize| embedding.squared(i, j);
        let triplets = choose_triplets(self.negatives, z, labels, squared, &mut inputs.random.clone());
        let (mut gradient, row) = (embedding.zeros(), rkd_kernels::relations::stride(z.rows));
        let value = pairs(&triplets, self.margin, squared, |i, j, weight| gradient[i * row + j] += weight);
        Ok(LossValue::new(value, embedding.pull_back(inputs.pool, &gradient, 1.0)))
    }
}

impl Loss for TripletEuclidean {
    fn needs_labels(&self) -> bool {
        true
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let z = inputs.student;
        let (n, labels) = (z.rows, inputs.labels()?);
        let embedding = Embedding::new(inputs.pool, z);
        let squared = |i: usize, j: usize| embedding.squared(i, j);
        let triplets = choose_triplets(self.negatives, z, labels, squared, &mut inputs.random.clone());
        let mut weights = vec![0.0; n * n];
        let distance = |i: usize, j: usize| offset_distance(z, i, j);
        let value = pairs(&triplets, self.margin, distance, |i, j, weight| weights[i * n + j] += weight);
        Ok(LossValue::new(value, offset_pull_back(z, &weights)))
    }
}

/// `|z_i - z_j + e|`.
fn offset_distance(z: &Matrix, i: usize, j: usize) -> f64 {
    z.row(i).iter().zip(z.row(j)).map(|(a, b)| (a - b + OFFSET).powi(2)).sum::<f64>().sqrt()
}

/// The gradient over the rows from one over the ordered pairs' offset distances.
fn offset_pull_back(z: &Matrix, weights: &[f64]) -> Vec<f64> {
    let (n, d) = (z.rows, z.columns);
    let mut gradient = vec![0.0; n * d];
    for (place, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
        let (i, j) = (place / n, place % n);
        let distance = offset_distance(z, i, j);
        if distance > 0.0 {
            for k in 0..d {
                let step = weight * (z.row(i)[k] - z.row(j)[k] + OFFSET) / distance;
                gradient[i * d + k] += step;
                gradient[j * d + k] -= step;
            }
        }
    }
    gradient
}
