//! Soft targets (Hinton, Vinyals, Dean 2015): the teacher's class probabilities at a temperature.
//!
//! ```text
//! p = softmax(logits / T),   L = T^2 / n sum_ic p^t_ic ln(p^t_ic / p^s_ic),   dL/dlogits^s_ic = T / n (p^s_ic - p^t_ic)
//! ```
//! n items, c classes, logits `[n, c]` of both networks for the same classes. The factor T^2 keeps the gradient's size
//! over temperatures; Park et al. 2019 write it as the weight 16 at T = 4. The logarithms are taken with the row's
//! maximum subtracted, so logits of any size are safe. An empty batch has value 0.

use serde::{Deserialize, Serialize};

use super::cross_entropy::log_softmax;
use super::{Feature, Loss, LossInputs, LossParameter, LossValue};
use crate::error::{Code, Error, Result};
use crate::input;

/// Options of `soft-target-kl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SoftTargetKl {
    /// What logits are divided by, positive; 4 in the experiments of Park et al.
    #[serde(deserialize_with = "input::via::<input::Positive, _, _>")]
    pub temperature: f64,
}

impl Default for SoftTargetKl {
    fn default() -> Self {
        SoftTargetKl { temperature: 4.0 }
    }
}

impl Loss for SoftTargetKl {
    fn reads(&self) -> Feature {
        Feature::Logits
    }

    fn needs_teacher(&self) -> bool {
        true
    }

    fn sees_images_alone(&self) -> bool {
        true
    }

    fn parameters(&self, student: &[usize], teacher: Option<&[usize]>) -> Result<Vec<LossParameter>> {
        let length = |shape: &[usize]| shape.iter().skip(1).product();
        check(length(student), length(teacher.unwrap_or_default()))?;
        Ok(Vec::new())
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let (student, teacher) = (inputs.student, inputs.teacher()?);
        check(student.columns, teacher.columns)?;
        let (n, temperature) = (student.rows.max(1) as f64, self.temperature);
        let soften = |row: &[f64]| log_softmax(&row.iter().map(|v| v / temperature).collect::<Vec<_>>());
        let mut result = LossValue::new(0.0, Vec::with_capacity(student.data.len()));
        for i in 0..student.rows {
            let (log_s, log_t) = (soften(student.row(i)), soften(teacher.row(i)));
            let pairs = || log_s.iter().zip(&log_t);
            result.value += temperature * temperature / n * pairs().map(|(s, t)| t.exp() * (t - s)).sum::<f64>();
            result.gradient.extend(pairs().map(|(s, t)| temperature / n * (s.exp() - t.exp())));
        }
        Ok(result)
    }
}

/// There must be one logit for each of the teacher's.
fn check(student: usize, teacher: usize) -> Result<()> {
    if student == teacher {
        return Ok(());
    }
    Err(Error::new(Code::InvalidShape, "teacher and student know different numbers of classes")
        .with_subject("teacher")
        .with_values(format!("{student} logits, as the student has"), teacher.to_string())
        .with_advice("use a teacher with a classifier of the same classes"))
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::*;

    #[test]
    fn equals_its_definition_over_rows() {
        let (student, teacher, t) = (naive::draw("student"), naive::draw("teacher"), 2.5);
        let soft = |row: &[f64], c: usize| (row[c] / t).exp() / row.iter().map(|v| (v / t).exp()).sum::<f64>();
        let mut sum = 0.0;
        for i in 0..student.rows {
            for c in 0..student.columns {
                let (s, t) = (soft(student.row(i), c), soft(teacher.row(i), c));
                sum += t * (t / s).ln();
            }
        }
        naive::expect(&SoftTargetKl { temperature: t }, &student, Some(&teacher), t * t * sum / 11.0);
    }
}
