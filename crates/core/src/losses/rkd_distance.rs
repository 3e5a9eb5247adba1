//! Distance-wise relational knowledge distillation (Park et al., CVPR 2019, eq. 3 to 5).
//!
//! ```text
//! d_ij = max(|z_i - z_j|, 1e-6) for i != j, d_ii = 0;   mu = sum d_ij / (n (n - 1))
//! L = 1/N sum_ij huber(d^s_ij / mu_s - d^t_ij / mu_t)
//! ```
//! n items, student z `[n, d_s]`, teacher `[n, d_t]`; d_s and d_t may differ. N = n^2, or n (n - 1) with
//! `reduction: "distinct"`. As in the authors' code the student's mean is differentiated, which makes the loss invariant
//! to the student's scale; the paper writes a sum and does not speak of the mean's gradient. The sums and their
//! gradient are [`rkd_kernels::relations::distance_huber`].
//!
//! Degenerate batches: coincident rows have distance 1e-6 and no gradient between them; a batch of one has value 0; a
//! collapsed student has a finite value and no gradient.

use rkd_kernels::relations;
use serde::{Deserialize, Serialize};

use super::embedding::Embedding;
use super::relational::Reduction;
use super::{Loss, LossInputs, LossValue, OnDevice, RelationLoss};
use crate::error::Result;
use crate::input;

/// Options of `rkd-distance`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RkdDistance {
    /// Huber threshold, positive; the paper's is 1.
    #[serde(deserialize_with = "input::via::<input::Positive, _, _>")]
    pub delta: f64,
    /// What the sum is divided by.
    pub reduction: Reduction,
}

impl Default for RkdDistance {
    fn default() -> Self {
        RkdDistance { delta: 1.0, reduction: Reduction::Reference }
    }
}

impl Loss for RkdDistance {
    fn needs_teacher(&self) -> bool {
        true
    }

    fn on_device(&self) -> Option<OnDevice> {
        Some(OnDevice::Relation(RelationLoss::Distance(self.clone())))
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let (student, teacher) = (inputs.student, inputs.teacher()?);
        let n = student.rows;
        let student = Embedding::new(inputs.team, student);
        let teacher = Embedding::new(inputs.team, teacher);
        let distances = relations::distance_huber(inputs.team, student.squared, teacher.squared, n, self.delta);
        let divisor = self.reduction.divisor(n, 2);
        let gradient = student.pull_back(inputs.team, &distances.gradient, divisor);
        Ok(LossValue::new(distances.value / divisor, gradient))
    }
}
