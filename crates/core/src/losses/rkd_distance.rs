//! Distance-wise relational knowledge distillation (Park et al., CVPR 2019, eq. 3 to 5).
//!
//! ```text
//! d_ij = max(|z_i - z_j|, 1e-6) for i != j, d_ii = 0;   mu = sum d_ij / (n (n - 1))
//! L = 1/N sum_ij huber(d^s_ij / mu_s - d^t_ij / mu_t)
//! ```
//! n items, student z `[n, d_s]`, teacher `[n, d_t]`; d_s and d_t may differ. N = n^2, or n (n - 1) with
//! `reduction: "distinct"`. As in the authors' code the student's mean is differentiated, which makes the loss invariant
//! to the student's scale; the paper writes a sum and does not speak of the mean's gradient. With q = huber',
//! b_ij = d^s_ij / mu_s and P = n (n - 1):
//!
//! ```text
//! dL/dd^s_ij = (q_ij - sum_kl q_kl b_kl / P) / (N mu_s)
//! ```
//! Degenerate batches: coincident rows have distance 1e-6 and no gradient between them; a batch of one has value 0; a
//! collapsed student has a finite value and no gradient.

use rkd_kernels::relations;
use serde::{Deserialize, Serialize};

use super::embedding::Embedding;
use super::relational::{Reduction, check_delta, huber};
use super::{Loss, LossInputs, LossValue};
use crate::error::Result;

/// Smallest distance of different items, the authors' guard.
const SMALLEST: f64 = 1e-6;

/// Options of `rkd-distance`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RkdDistance {
    /// Huber threshold, positive; the paper's is 1.
    pub delta: f64,
    /// What the sum is divided by.
    pub reduction: Reduction,
}

impl Default for RkdDistance {
    fn default() -> Self {
        RkdDistance { delta: 1.0, reduction: Reduction::Reference }
    }
}

impl RkdDistance {
    pub(super) fn validate(&self) -> Result<()> {
        check_delta("rkd-distance", self.delta)
    }
}

impl Loss for RkdDistance {
    fn needs_teacher(&self) -> bool {
        true
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let (student, teacher) = (inputs.student, inputs.teacher()?);
        let n = student.rows;
        if n < 2 {
            return Ok(LossValue::new(0.0, vec![0.0; student.data.len()]));
        }
        let student = Embedding::new(inputs.pool, student);
        let (d_s, mu_s) = distances(&student.squared, n);
        let (d_t, mu_t) = distances(&Embedding::new(inputs.pool, teacher).squared, n);
        let divisor = self.reduction.divisor(n, 2);
        let (mut value, mut through_mean) = (0.0, 0.0);
        let mut slopes = vec![0.0; d_s.len()];
        for ((slope, s), t) in slopes.iter_mut().zip(&d_s).zip(&d_t) {
            let (loss, q) = huber(s / mu_s - t / mu_t, self.delta);
            value += loss;
            through_mean += q * s / mu_s;
            *slope = q;
        }
        through_mean /= (n * (n - 1)) as f64;
        for ((slope, &d), place) in slopes.iter_mut().zip(&d_s).zip(0..) {
            let diagonal = place / relations::stride(n) == place % relations::stride(n);
            let fixed = diagonal || place % relations::stride(n) >= n || d <= SMALLEST;
            // Over the squared distance: dd/dD = 1 / (2 d).
            *slope = if fixed { 0.0 } else { (*slope - through_mean) / (divisor * mu_s) / (2.0 * d) };
        }
        Ok(LossValue::new(value / divisor, student.pull_back(inputs.pool, &slopes)))
    }
}

/// The distances, 0 on the diagonal and beyond n, and their mean over the pairs of different items.
fn distances(squared: &[f64], n: usize) -> (Vec<f64>, f64) {
    let mut distances = vec![0.0; squared.len()];
    let mut sum = 0.0;
    for i in 0..n {
        for j in (0..n).filter(|&j| j != i) {
            let place = i * relations::stride(n) + j;
            distances[place] = squared[place].sqrt().max(SMALLEST);
            sum += distances[place];
        }
    }
    (distances, sum / (n * (n - 1)) as f64)
}
