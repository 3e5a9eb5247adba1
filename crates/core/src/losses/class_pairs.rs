//! What `n-pairs` and `angular` share: the anchor and positive of each class, products between them, and the softmax
//! over classes.

use super::LossInputs;
use super::cross_entropy::log_softmax;
use super::inputs::Matrix;
use crate::error::Result;
use crate::sampling::first_pairs;

/// One anchor and one positive of each of m classes.
pub(super) struct ClassPairs<'a> {
    z: &'a Matrix,
    pairs: Vec<[usize; 2]>,
}

impl<'a> ClassPairs<'a> {
    /// Those that [`first_pairs`] selects.
    pub(super) fn new(inputs: &LossInputs<'a>) -> Result<Self> {
        Ok(ClassPairs { z: inputs.student, pairs: first_pairs(inputs.labels()?) })
    }

    /// m.
    pub(super) fn count(&self) -> usize {
        self.pairs.len()
    }

    /// The anchor's row of each class.
    pub(super) fn anchors(&self) -> Vec<&'a [f64]> {
        self.pairs.iter().map(|&[anchor, _]| self.z.row(anchor)).collect()
    }

    /// The positive's row of each class.
    pub(super) fn positives(&self) -> Vec<&'a [f64]> {
        self.pairs.iter().map(|&[_, positive]| self.z.row(positive)).collect()
    }

    /// The gradient `[n, d]` from those of anchors and positives, `[m, d]` each.
    pub(super) fn gradient(&self, anchors: &[Vec<f64>], positives: &[Vec<f64>]) -> Vec<f64> {
        let d = self.z.columns;
        let mut gradient = vec![0.0; self.z.data.len()];
        for ((&[a, p], over_anchor), over_positive) in self.pairs.iter().zip(anchors).zip(positives) {
            gradient[a * d..][..d].copy_from_slice(over_anchor);
            gradient[p * d..][..d].copy_from_slice(over_positive);
        }
        gradient
    }
}

/// `-mean_i ln softmax_j(scores_ij)` at j = i, and its gradient over the scores. `scores` has m rows of m numbers.
pub(super) fn cross_entropy_at_diagonal(scores: &[Vec<f64>]) -> (f64, Vec<Vec<f64>>) {
    let share = 1.0 / scores.len().max(1) as f64;
    let mut value = 0.0;
    let row = |(i, scores): (usize, &Vec<f64>)| {
        let log_p = log_softmax(scores);
        value -= share * log_p[i];
        let target = |j| f64::from(u8::from(j == i));
        log_p.iter().enumerate().map(|(j, log_p)| share * (log_p.exp() - target(j))).collect()
    };
    let slopes = scores.iter().enumerate().map(row).collect();
    (value, slopes)
}

/// The inner product, summed in four lanes.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 4];
    for (a, b) in a.chunks(4).zip(b.chunks(4)) {
        lanes.iter_mut().zip(a.iter().zip(b)).for_each(|(lane, (a, b))| *lane += a * b);
    }
    (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
}

/// `sum += factor * row`.
pub(super) fn add_scaled(sum: &mut [f64], factor: f64, row: &[f64]) {
    sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += factor * v);
}
