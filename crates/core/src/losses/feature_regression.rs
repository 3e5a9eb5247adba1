//! Plain regression of the teacher's feature, where both have one shape: [`linear-hint`](super::LinearHint) with the
//! identity as its map.
//!
//! ```text
//! L = 1/n sum_i |s_i - t_i|^2,   dL/ds_i = 2/n (s_i - t_i)
//! ```
//! n items, student s and teacher t `[n, d]`, or maps of one size. An empty batch has value 0.

use serde::{Deserialize, Serialize};

use super::{Loss, LossInputs, LossParameter, LossValue};
use crate::error::{Code, Error, Result};

/// Options of `feature-regression`: none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(deny_unknown_fields)]
pub struct FeatureRegression {}

impl Loss for FeatureRegression {
    fn needs_teacher(&self) -> bool {
        true
    }

    fn sees_images_alone(&self) -> bool {
        true
    }

    fn parameters(&self, student: &[usize], teacher: Option<&[usize]>) -> Result<Vec<LossParameter>> {
        check(student, teacher.unwrap_or_default())?;
        Ok(Vec::new())
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let (student, teacher) = (inputs.student, inputs.teacher()?);
        check(&student.shape(), &teacher.shape())?;
        let n = student.rows.max(1) as f64;
        let pairs = || student.data.iter().zip(&teacher.data).map(|(s, t)| s - t);
        let value = pairs().map(|d| d * d).sum::<f64>() / n;
        Ok(LossValue::new(value, pairs().map(|d| d * (2.0 / n)).collect()))
    }
}

/// All axes but the first must agree.
fn check(student: &[usize], teacher: &[usize]) -> Result<()> {
    if student.iter().skip(1).eq(teacher.iter().skip(1)) {
        return Ok(());
    }
    let words = |shape: &[usize]| match *shape {
        [_, h, w, c] => format!("maps of {c} channels, {h} x {w}"),
        _ => format!("{} numbers", shape.last().copied().unwrap_or(0)),
    };
    Err(Error::new(Code::InvalidShape, "teacher and student have features of different shapes")
        .with_subject("teacher")
        .with_values(format!("{}, as the student has", words(student)), words(teacher))
        .with_advice("use linear-hint or hint, which learn a map from one to the other"))
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::*;

    #[test]
    fn equals_its_definition_over_rows() {
        let (student, teacher) = (naive::draw("student"), naive::draw("teacher"));
        let squared = |i: usize| (0..5).map(|k| (student.row(i)[k] - teacher.row(i)[k]).powi(2)).sum::<f64>();
        let sum: f64 = (0..student.rows).map(squared).sum();
        naive::expect(&FeatureRegression {}, &student, Some(&teacher), sum / 11.0);
    }
}
