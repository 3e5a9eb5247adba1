//! Cross entropy of logits with integer labels, as PyTorch's `cross_entropy`.
//!
//! ```text
//! L = -1/n sum_i sum_c y_ic ln p_ic,   p_i = softmax(logits_i),   y_ic = (1 - e) [c = label_i] + e / C
//! dL/dlogits_ic = (p_ic - y_ic) / n
//! ```
//! n items, C classes, logits `[n, C]`, e the label smoothing (Szegedy et al. 2016). The logarithm of the softmax is taken
//! with the row's maximum subtracted, so logits of any size are safe. An empty batch has value 0.

use serde::{Deserialize, Serialize};

use super::{Feature, Loss, LossInputs, LossValue};
use crate::error::{Code, Error, Result};
use crate::input;

/// Options of `cross-entropy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct CrossEntropy {
    /// Share of the target spread over all classes, in `[0, 1)`.
    #[serde(deserialize_with = "input::via::<input::Share, _, _>")]
    pub label_smoothing: f64,
}

impl Default for CrossEntropy {
    fn default() -> Self {
        CrossEntropy { label_smoothing: 0.0 }
    }
}

impl Loss for CrossEntropy {
    fn reads(&self) -> Feature {
        Feature::Logits
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn sees_images_alone(&self) -> bool {
        true
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let logits = inputs.student;
        let labels = inputs.labels()?;
        let (n, classes) = (logits.rows.max(1) as f64, logits.columns);
        let spread = self.label_smoothing / classes as f64;
        let mut result = LossValue::new(0.0, Vec::with_capacity(logits.data.len()));
        for (i, &label) in labels.iter().enumerate() {
            let label = label as usize;
            if label >= classes {
                return Err(Error::new(Code::InvalidShape, format!("the label of row {i} has no logit"))
                    .with_subject("labels")
                    .with_values(format!("a class below {classes}"), label.to_string())
                    .with_advice("give the classifier as many classes as there are labels"));
            }
            let log_p = log_softmax(logits.row(i));
            result.value -= (1.0 - self.label_smoothing) * log_p[label] / n + spread * log_p.iter().sum::<f64>() / n;
            result.gradient.extend(log_p.iter().enumerate().map(|(c, log_p)| {
                let target = if c == label { 1.0 - self.label_smoothing } else { 0.0 } + spread;
                (log_p.exp() - target) / n
            }));
        }
        Ok(result)
    }
}

/// `ln softmax(row)`, safe for entries of any finite size.
pub(super) fn log_softmax(row: &[f64]) -> Vec<f64> {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = row.iter().map(|v| (v - largest).exp()).sum::<f64>().ln();
    row.iter().map(|v| v - largest - log_sum).collect()
}

#[cfg(test)]
mod tests {
    use super::super::naive::{self, LABELS};
    use super::*;

    #[test]
    fn equals_its_definition_over_rows() {
        let (z, smoothing) = (naive::draw("logits"), 0.3);
        let mut sum = 0.0;
        for (i, label) in LABELS.iter().enumerate() {
            let all: f64 = z.row(i).iter().map(|logit| logit.exp()).sum();
            for (c, logit) in z.row(i).iter().enumerate() {
                let target = if c == *label as usize { 1.0 - smoothing } else { 0.0 } + smoothing / 5.0;
                sum -= target * (logit.exp() / all).ln();
            }
        }
        naive::expect(&CrossEntropy { label_smoothing: smoothing }, &z, None, sum / 11.0);
    }
}
