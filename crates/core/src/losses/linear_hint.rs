//! The teacher's feature through a learned linear map: conventional, individual distillation.
//!
//! ```text
//! L = 1/n sum_i |P s_i - t_i|^2
//! ```
//! or with `relative`, as a share of the spread of the teacher's rows about their mean m,
//!
//! ```text
//! L = sum_i |P s_i - t_i|^2 / sum_i |t_i - m|^2
//! ```
//! which is what the map leaves unexplained, whatever the teacher's scale: a term that is weighed like those of relations.
//! Where all rows are the same, it is the first form.
//!
//! n items, student s `[n, a]`, teacher t `[n, b]`, map P `[b, a]` without bias, learned with the network. This is what
//! relational distillation is compared with (Park et al. 2019, eq. 1, with the squared distance and a linear
//! transformation). A map is read as one long row. P starts evenly in `-1/sqrt(a)` to `1/sqrt(a)`, as PyTorch starts a
//! linear layer. An empty batch has value 0.

use serde::{Deserialize, Serialize};

use super::projection::{self, Projection};
use super::{Loss, LossInputs, LossParameter, LossValue, Matrix};
use crate::error::Result;

/// Rows whose spread is a smaller share of their squares than this are the same: float32 has 24 bits.
const SAME: f64 = 1e-12;

/// Options of `linear-hint`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LinearHint {
    /// Whether the value is a share of the spread of the teacher's rows about their mean in the batch, and so does not depend
    /// on the teacher's scale.
    pub relative: bool,
}

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
        let scale = if self.relative { spread(teacher).unwrap_or(n).recip() } else { n.recip() };
        let value = difference.iter().map(|d| d * d).sum::<f64>() * scale;
        difference.iter_mut().for_each(|d| *d *= 2.0 * scale);
        let [gradient, map] = projection.pull_back(&student.data, &difference);
        Ok(LossValue { value, gradient, parameters: vec![map] })
    }
}

/// The sum of squared distances of all rows from their mean; `None` where they are the same but for rounding.
fn spread(rows: &Matrix) -> Option<f64> {
    let n = rows.rows.max(1) as f64;
    let mut mean = vec![0.0; rows.columns];
    for i in 0..rows.rows {
        mean.iter_mut().zip(rows.row(i)).for_each(|(mean, value)| *mean += value / n);
    }
    let values = || (0..rows.rows).flat_map(|i| rows.row(i).iter().zip(&mean));
    let spread: f64 = values().map(|(value, mean)| (value - mean).powi(2)).sum();
    let largest: f64 = values().map(|(value, _)| value * value).sum();
    (spread > SAME * largest).then_some(spread)
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
        let value = |relative, teacher: &Matrix| {
            let inputs = LossInputs::new(&student, &team, Random::keyed(0, 0, 0, "naive")).with_teacher(teacher);
            LinearHint { relative }.evaluate(&inputs.with_parameters(&parameters)).unwrap().value
        };
        let found = value(false, &teacher);
        assert!((found - sum / 11.0).abs() <= 1e-12 * sum, "{found} {}", sum / 11.0);

        // Over all pairs, squared distances add up to n times those from the mean.
        let pairs = (0..11).flat_map(|i| (0..i).map(move |j| (i, j)));
        let spread: f64 = pairs.map(|(i, j)| naive::distance(&teacher, i, j, 0.0).powi(2)).sum::<f64>() / 11.0;
        let found = value(true, &teacher);
        assert!((found - sum / spread).abs() <= 1e-12 * found, "{found} {}", sum / spread);
        let same = Matrix::new("teacher", &teacher.row(0).repeat(11), 11, 3).unwrap();
        assert_eq!(value(true, &same), value(false, &same));
    }
}
