//! Plain regression of the teacher's feature, where both have one shape: [`linear-hint`](super::LinearHint) with the
//! identity as its map.
//!
//! ```text
//! L = 1/n sum_i |s_i - t_i|^2,   dL/ds_i = 2/n (s_i - t_i)
//! ```
//! n items, student s and teacher t `[n, d]`, or maps of one size. An empty batch has value 0.

use serde::{Deserialize, Serialize};

use super::{Loss, LossInputs, LossValue, Matrix};
use crate::error::{Code, Error, Result};

/// Options of `feature-regression`: none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureRegression {}

impl Loss for FeatureRegression {
    fn needs_teacher(&self) -> bool {
        true
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let (student, teacher) = (inputs.student, inputs.teacher()?);
        if (student.columns, student.map) != (teacher.columns, teacher.map) {
            return Err(Error::new(Code::InvalidShape, "teacher and student have features of different shapes")
                .with_subject("teacher")
                .with_values(format!("{}, as the student has", shape(student)), shape(teacher))
                .with_advice("use linear-hint or hint, which learn a map from one to the other"));
        }
        let n = student.rows.max(1) as f64;
        let pairs = || student.data.iter().zip(&teacher.data).map(|(s, t)| s - t);
        let value = pairs().map(|d| d * d).sum::<f64>() / n;
        Ok(LossValue::new(value, pairs().map(|d| d * (2.0 / n)).collect()))
    }
}

fn shape(feature: &Matrix) -> String {
    match feature.map {
        Some([h, w, c]) => format!("maps of {c} channels, {h} x {w}"),
        None => format!("{} numbers", feature.columns),
    }
}
