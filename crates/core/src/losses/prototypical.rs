//! The prototypical loss of few-shot learning (Snell, Swersky, Zemel 2017, eq. 2).
//!
//! The batch is an episode of `way` classes: first `support_count` support rows of each class, class by class, then as
//! many queries of each class, class by class. A prototype is the mean of a class's support rows, and
//!
//! ```text
//! L = -mean over queries of ln softmax_k(-|query - prototype_k|^2) at the query's class
//! ```
//! With p the softmax and y the class: dL/dquery = -2/Q sum_k (p_k - y_k) (query - prototype_k), and the opposite share
//! to the prototype, spread evenly over its support rows. Q queries, embeddings `[way * support_count + Q, d]`.

use serde::{Deserialize, Serialize};

use super::cross_entropy::log_softmax;
use super::inputs::Matrix;
use super::{Loss, LossInputs, LossValue};
use crate::error::{Code, Error, Result};

/// Options of `prototypical`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Prototypical {
    /// Support rows of each class ("shots"), at least 1.
    pub support_count: usize,
    /// Classes of an episode, at least 2.
    pub way: usize,
}

impl Prototypical {
    pub(super) fn validate(&self) -> Result<()> {
        let wrong = |option: &str, least: usize, value: usize| {
            Err(Error::new(Code::InvalidOption, "the episode is too small")
                .with_subject(format!("prototypical.{option}"))
                .with_values(format!("at least {least}"), value.to_string()))
        };
        match (self.support_count, self.way) {
            (0, _) => wrong("supportCount", 1, 0),
            (_, way @ 0..=1) => wrong("way", 2, way),
            _ => Ok(()),
        }
    }

    /// Queries of each class.
    fn queries(&self, rows: usize) -> Result<usize> {
        let support = self.way * self.support_count;
        let queries = rows.saturating_sub(support) / self.way;
        if queries > 0 && support + queries * self.way == rows {
            return Ok(queries);
        }
        Err(Error::new(Code::InvalidShape, "the rows are not an episode")
            .with_subject("student")
            .with_values(
                format!("{support} support rows and a multiple of {} queries", self.way),
                format!("{rows} rows"),
            )
            .with_advice("give the support rows class by class, then the same number of queries of each class"))
    }

    /// The mean support row of each class.
    fn prototypes(&self, z: &Matrix) -> Vec<Vec<f64>> {
        let mean = |class: usize| {
            let rows = (0..self.support_count).map(|shot| z.row(class * self.support_count + shot));
            let mut sum = vec![0.0; z.columns];
            rows.for_each(|row| sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += v));
            sum.iter().map(|sum| sum / self.support_count as f64).collect()
        };
        (0..self.way).map(mean).collect()
    }
}

impl Loss for Prototypical {
    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let z = inputs.student;
        let (d, per_class) = (z.columns, self.queries(z.rows)?);
        let prototypes = self.prototypes(z);
        let count = (self.way * per_class) as f64;
        let (mut value, mut gradient) = (0.0, vec![0.0; z.data.len()]);
        for query in 0..self.way * per_class {
            let row = self.way * self.support_count + query;
            let logits: Vec<f64> = prototypes
                .iter()
                .map(|prototype| -z.row(row).iter().zip(prototype).map(|(q, p)| (q - p) * (q - p)).sum::<f64>())
                .collect();
            let log_p = log_softmax(&logits);
            value -= log_p[query / per_class] / count;
            for (class, prototype) in prototypes.iter().enumerate() {
                let target = f64::from(u8::from(class == query / per_class));
                let slope = -2.0 * (log_p[class].exp() - target) / count;
                for k in 0..d {
                    let step = slope * (z.row(row)[k] - prototype[k]);
                    gradient[row * d + k] += step;
                    for shot in 0..self.support_count {
                        gradient[(class * self.support_count + shot) * d + k] -= step / self.support_count as f64;
                    }
                }
            }
        }
        Ok(LossValue::new(value, gradient))
    }
}
