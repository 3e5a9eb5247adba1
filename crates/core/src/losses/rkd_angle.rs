//! Angle-wise relational knowledge distillation (Park et al., CVPR 2019, eq. 6 to 8).
//!
//! ```text
//! cos_abc = <u_ab, u_ac>,  u_ab = (z_b - z_a) / |z_b - z_a|
//! L = 1/N sum_abc huber(cos^s_abc - cos^t_abc)
//! ```
//! n items, student z `[n, d_s]`, teacher `[n, d_t]`; d_s and d_t may differ. N = n^3, or n (n - 1) (n - 2) with
//! `reduction: "distinct"`. The paper names the vertex in the middle of the triple; here it stands first. Exact, in
//! O(n^2) memory and O(n^2 d + n^3) time: see [`rkd_kernels::relations`].
//!
//! Degenerate batches: where two items coincide the cosine is 0 and nothing flows; batches of one or two have value 0; a
//! collapsed student has a finite value and no gradient.

use rkd_kernels::relations;
use serde::{Deserialize, Serialize};

use super::embedding::Embedding;
use super::relational::{Reduction, huber};
use super::{Loss, LossInputs, LossValue};
use crate::error::Result;
use crate::input;

/// Options of `rkd-angle`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RkdAngle {
    /// Huber threshold, positive; the paper's is 1.
    #[serde(deserialize_with = "input::via::<input::Positive, _, _>")]
    pub delta: f64,
    /// What the sum is divided by.
    pub reduction: Reduction,
}

impl Default for RkdAngle {
    fn default() -> Self {
        RkdAngle { delta: 1.0, reduction: Reduction::Reference }
    }
}

impl Loss for RkdAngle {
    fn needs_teacher(&self) -> bool {
        true
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let (student, teacher) = (inputs.student, inputs.teacher()?);
        let n = student.rows;
        let student = Embedding::new(inputs.team, student);
        let teacher = Embedding::new(inputs.team, teacher);
        let angles = relations::angle_huber(inputs.team, student.squared, teacher.squared, n, self.delta);
        let same_leg = match self.reduction {
            // All entries, b = c too.
            Reduction::Reference => angles.one_sided as f64 * huber(1.0, self.delta).0,
            Reduction::Distinct => 0.0,
        };
        let divisor = self.reduction.divisor(n, 3);
        let gradient = student.pull_back(inputs.team, &angles.gradient, divisor);
        Ok(LossValue::new((angles.value + same_leg) / divisor, gradient))
    }
}
