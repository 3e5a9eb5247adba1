//! What `n-pairs` and `angular` share: the anchors and positives of the classes, products between them, and the softmax
//! over classes.

use rkd_kernels::Team;
use rkd_kernels::product::{Left, product};

use super::cross_entropy::log_softmax;
use super::{LossInputs, gram};
use crate::error::Result;
use crate::sampling::first_pairs;
use crate::tensor::Matrix;

/// One anchor and one positive of each of m classes, the pairs of [`first_pairs`].
pub(super) struct ClassPairs<'a> {
    z: &'a Matrix,
    team: &'a Team,
    pairs: Vec<[usize; 2]>,
    /// `[m, d]`.
    pub anchors: Vec<f64>,
    /// `[m, d]`.
    pub positives: Vec<f64>,
}

impl<'a> ClassPairs<'a> {
    pub(super) fn new(inputs: &LossInputs<'a>) -> Result<Self> {
        let (z, team, pairs) = (inputs.student, inputs.team, first_pairs(inputs.labels()?));
        let rows = |side: usize| pairs.iter().flat_map(|pair| z.row(pair[side])).copied().collect();
        Ok(ClassPairs { anchors: rows(0), positives: rows(1), z, team, pairs })
    }

    /// m.
    pub(super) fn count(&self) -> usize {
        self.pairs.len()
    }

    /// `[m, m]`: the inner product of every row of `left` `[m, d]` with every row of `right` `[m, d]`.
    pub(super) fn products(&self, left: &[f64], right: &[f64]) -> Vec<f64> {
        gram::products(self.team, left, right, self.z.columns)
    }

    /// `[m, d]`: row i is `sum_j weights_ij rows_j`, for weights `[m, m]`.
    pub(super) fn combine(&self, weights: &[f64], rows: &[f64]) -> Vec<f64> {
        gram::combine(self.team, weights, rows, self.z.columns)
    }

    /// `[m, d]`: row j is `sum_i weights_ij rows_i`.
    pub(super) fn combine_transposed(&self, weights: &[f64], rows: &[f64]) -> Vec<f64> {
        let m = self.count();
        product(self.team, [m, self.z.columns, m], Left::transposed(weights, m), rows)
    }

    /// The gradient `[n, d]` from those of anchors and positives, `[m, d]` each.
    pub(super) fn gradient(&self, anchors: &[f64], positives: &[f64]) -> Vec<f64> {
        let d = self.z.columns;
        let mut gradient = vec![0.0; self.z.data.len()];
        for (side, rows) in [anchors, positives].into_iter().enumerate() {
            for (pair, row) in self.pairs.iter().zip(rows.chunks_exact(d)) {
                gradient[pair[side] * d..][..d].copy_from_slice(row);
            }
        }
        gradient
    }
}

/// `-mean_i ln softmax_j(scores_ij)` at j = i, and its gradient over the scores `[m, m]`.
pub(super) fn cross_entropy_at_diagonal(scores: &[f64], m: usize) -> (f64, Vec<f64>) {
    let share = 1.0 / m.max(1) as f64;
    let (mut value, mut slopes) = (0.0, Vec::with_capacity(scores.len()));
    for (i, row) in scores.chunks_exact(m.max(1)).enumerate() {
        let log_p = log_softmax(row);
        value -= share * log_p[i];
        slopes.extend(log_p.iter().map(|log_p| share * log_p.exp()));
        slopes[i * m + i] -= share;
    }
    (value, slopes)
}
