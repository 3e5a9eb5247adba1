//! The teacher's feature through a learned linear map: conventional, individual distillation.
//!
//! ```text
//! L = 1/n sum_i |P s_i - t_i|^2
//! ```
//! n items, student s `[n, a]`, teacher t `[n, b]`, map P `[b, a]` without bias, learned with the network. This is what
//! relational distillation is compared with (Park et al. 2019, eq. 1, with the squared distance and a linear
//! transformation). A map is read as one long row. P starts evenly in `-1/sqrt(a)` to `1/sqrt(a)`, as PyTorch starts a
//! linear layer. An empty batch has value 0.

use serde::{Deserialize, Serialize};

use super::projection::{self, Projection};
use super::{Loss, LossInputs, LossParameter, LossValue};
use crate::error::Result;

/// Options of `linear-hint`: none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(deny_unknown_fields)]
pub struct LinearHint {}

impl Loss for LinearHint {
    fn needs_teacher(&self) -> bool {
        true
    }

    fn sees_images_alone(&self) -> bool {
        true
    }

    fn parameters(&self, student: &[usize], teacher: Option<&[usize]>) -> Result<Vec<LossParameter>> {
        let length = |shape: &[usize]| shape.iter().skip(1).product::<usize>();
        let (a, b) = (length(student), length(teacher.unwrap_or_default()));
        Ok(vec![projection::parameter(b, a, 1.0 / (a as f64).sqrt())])
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let (student, teacher) = (inputs.student, inputs.teacher()?);
        let projection = Projection::new(inputs, teacher.columns, student.columns)?;
        let n = student.rows.max(1) as f64;
        let mut difference = projection.apply(&student.data);
        difference.iter_mut().zip(&teacher.data).for_each(|(y, t)| *y -= t);
        let value = difference.iter().map(|d| d * d).sum::<f64>() / n;
        difference.iter_mut().for_each(|d| *d *= 2.0 / n);
        let [gradient, map] = projection.pull_back(&student.data, &difference);
        Ok(LossValue { value, gradient, parameters: vec![map] })
    }
}

#[cfg(test)]
mod tests {
    use rkd_kernels::Team;

    use super::super::naive;
    use super::*;
    use crate::random::Random;

    #[test]
    fn equals_its_definition_over_rows() {
        let (student, mut teacher, mut projection) = (naive::draw("student"), naive::draw("t"), naive::draw("p"));
        (teacher.columns, teacher.data) = (3, teacher.data[..11 * 3].to_vec());
        (projection.rows, projection.data) = (3, projection.data[..3 * 5].to_vec());
        let mut sum = 0.0;
        for i in 0..student.rows {
            for k in 0..3 {
                sum += (naive::product(projection.row(k), student.row(i)) - teacher.row(i)[k]).powi(2);
            }
        }
        let (team, parameters) = (Team::new(1), [projection]);
        let inputs = LossInputs::new(&student, &team, Random::keyed(0, 0, 0, "naive")).with_teacher(&teacher);
        let found = LinearHint {}.evaluate(&inputs.with_parameters(&parameters)).unwrap().value;
        assert!((found - sum / 11.0).abs() <= 1e-12 * sum, "{found} {}", sum / 11.0);
    }
}
