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
//! Of more than 1,024 items the sum has eight shares of neighbouring vertices, added as a binary tree; ranks take
//! shares of it. So the bits are the same on any number of ranks.
//!
//! Degenerate batches: where two items coincide the cosine is 0 and nothing flows; batches of one or two have value 0; a
//! collapsed student has a finite value and no gradient.

use rkd_kernels::relations::{self, AngleSum};
use serde::{Deserialize, Serialize};

use super::embedding::Embedding;
use super::relational::{Reduction, huber};
use super::{Loss, LossInputs, LossValue, OnDevice, RelationLoss};
use crate::error::Result;
use crate::input;
use crate::ranks::{Tree, added, share};

/// So many items, which take a tenth of a second of a core, are summed as one.
const WHOLE: usize = 1024;

/// The shares of vertices of more items; a power of two.
const SHARES: usize = 8;

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

    fn on_device(&self) -> Option<OnDevice> {
        Some(OnDevice::Relation(RelationLoss::Angle(self.clone())))
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let (student, teacher) = (inputs.student, inputs.teacher()?);
        let n = student.rows;
        let student = Embedding::new(inputs.team, student);
        let teacher = Embedding::new(inputs.team, teacher);
        let angles = self.angles(inputs, [student.squared, teacher.squared], n)?;
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

impl RkdAngle {
    /// Lists of n x n numbers that the sum over `n` items has beside its own: branches of the tree, and what goes between
    /// ranks.
    pub fn branches(n: usize) -> u64 {
        if n <= WHOLE { 0 } else { u64::from(SHARES.ilog2()) + 2 }
    }

    /// The sum over all triples of `n` items, whose squared distances these are.
    fn angles(&self, inputs: &LossInputs<'_>, [student, teacher]: [&[f64]; 2], n: usize) -> Result<AngleSum> {
        if n <= WHOLE {
            return Ok(relations::angle_huber(inputs.team, student, teacher, n, self.delta));
        }
        let (ranks, panels) = (&inputs.ranks, relations::angle_panels(n));
        // Ranks that are no power of two, or more than there are shares, leave some without one.
        let working = SHARES.min(1 << ranks.size().ilog2());
        let own = if ranks.rank() < working { share(SHARES, ranks.rank(), working) } else { 0..0 };
        let mut tree = Tree::default();
        for own in own {
            let panels = share(panels, own, SHARES);
            let AngleSum { value, mut gradient, one_sided } =
                relations::angle_huber_at(inputs.team, student, teacher, n, self.delta, panels);
            gradient.extend([value, one_sided as f64]);
            tree.push(gradient, added)?;
        }
        let length = n * relations::stride(n);
        let mut gradient = ranks.sum_of_first(working, length + 2, tree.sum(added)?.unwrap_or_default())?;
        let [value, one_sided] = [gradient[length], gradient[length + 1]];
        gradient.truncate(length);
        Ok(AngleSum { value, gradient, one_sided: one_sided as usize })
    }
}
