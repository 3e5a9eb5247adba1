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
//!
//! Degenerate batches: rows that are no episode are an `ERR_INVALID_SHAPE`. Where prototypes coincide the value is that of
//! chance between them, and nothing flows apart from them.

use serde::{Deserialize, Serialize};

use super::cross_entropy::log_softmax;
use super::{Loss, LossInputs, LossValue};
use crate::error::{Code, Error, Result};
use crate::input;
use crate::tensor::Matrix;

/// Options of `prototypical`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Prototypical {
    /// Support rows of each class ("shots"), at least 1.
    #[serde(deserialize_with = "input::via::<input::Whole<1>, _, _>")]
    pub support_count: usize,
    /// Classes of an episode, at least 2.
    #[serde(deserialize_with = "input::via::<input::Whole<2>, _, _>")]
    pub way: usize,
}

impl Prototypical {
    /// Queries of each class.
    fn queries(&self, rows: usize) -> Result<usize> {
        let support = self.way.saturating_mul(self.support_count);
        let queries = rows.saturating_sub(support) / self.way;
        // With a query left, the support rows are fewer than all rows, and no sum here overflows.
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

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::*;

    #[test]
    fn equals_its_definition_over_queries() {
        // Two ways, two shots; three queries of each.
        let (mut z, loss) = (naive::draw("prototypical"), Prototypical { support_count: 2, way: 2 });
        (z.rows, z.data) = (10, z.data[..10 * 5].to_vec());
        let prototypes = [[0, 1], [2, 3]].map(|[a, b]| {
            let mean: Vec<f64> = z.row(a).iter().zip(z.row(b)).map(|(a, b)| (a + b) / 2.0).collect();
            mean
        });
        let mut sum = 0.0;
        for (query, class) in [(4, 0), (5, 0), (6, 0), (7, 1), (8, 1), (9, 1)] {
            let likelihoods = prototypes.each_ref().map(|prototype| {
                let squared: f64 = z.row(query).iter().zip(prototype).map(|(q, p)| (q - p).powi(2)).sum();
                (-squared).exp()
            });
            sum -= (likelihoods[class] / (likelihoods[0] + likelihoods[1])).ln();
        }
        naive::expect(&loss, &z, None, sum / 6.0);
    }

    #[test]
    fn episodes_larger_than_any_batch_are_refused() {
        let (z, largest) = (naive::draw("prototypical"), usize::MAX);
        for (support_count, way) in [(largest, largest), (1, largest), (largest, 2), (largest / 2 + 1, 2)] {
            assert!(Prototypical { support_count, way }.queries(z.rows).is_err());
        }
    }
}
