//! Angular loss in N-pair batches (Wang, Zhou, Wen, Liu, Lin 2017, eq. 8).
//!
//! ```text
//! f_ij = 4 t^2 <a_i + p_i, p_j> - 2 (1 + t^2) <a_i, p_i>,   t = tan(degrees)
//! L = 1/m sum_i ln( 1 + sum_{j != i} exp f_ij )
//! ```
//! m classes with an anchor a_i and a positive p_i each, chosen by [`first_pairs`](crate::sampling::first_pairs) from
//! embeddings `[n, d]` and labels `[n]`. It bounds the angle at the negative of every triangle. The negatives are the other
//! classes' positives; the paper's sum over the batch can be read to have their anchors too. The paper adds this
//! loss to `n-pairs`: make two terms of it.
//!
//! This is the cross entropy at j = i of the scores s_ij = 4 t^2 <a_i + p_i, p_j> and s_ii = 2 (1 + t^2) <a_i, p_i>.
//! With g_ij its gradient and x_i = 4 t^2 sum_{j != i} g_ij p_j:
//!
//! ```text
//! dL/da_i = x_i + 2 (1 + t^2) g_ii p_i
//! dL/dp_i = x_i + 2 (1 + t^2) g_ii a_i + 4 t^2 sum_{j != i} g_ji (a_j + p_j)
//! ```
//! Degenerate batches: with one pair, or none, the value is 0. Rows that are in no pair get no gradient.

use serde::{Deserialize, Serialize};

use super::class_pairs::{ClassPairs, cross_entropy_at_diagonal};
use super::{Loss, LossInputs, LossValue};
use crate::error::Result;
use crate::input;

/// Options of `angular`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Angular {
    /// The bound on the angle at the negative in degrees, between 0 and 90; 45 by itself, the paper tries 36 to 55.
    #[serde(deserialize_with = "input::via::<input::Acute, _, _>")]
    pub degrees: f64,
}

impl Default for Angular {
    fn default() -> Self {
        Angular { degrees: 45.0 }
    }
}

impl Loss for Angular {
    fn needs_labels(&self) -> bool {
        true
    }

    fn needs_class_pairs(&self) -> bool {
        true
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let squared_tangent = self.degrees.to_radians().tan().powi(2);
        let (off, on) = (4.0 * squared_tangent, 2.0 * (1.0 + squared_tangent));
        let pairs = ClassPairs::new(inputs)?;
        let (m, d) = (pairs.count(), inputs.student.columns);
        let (anchors, positives) = (&pairs.anchors, &pairs.positives);
        let sums: Vec<f64> = anchors.iter().zip(positives).map(|(a, p)| a + p).collect();
        let mut scores = pairs.products(&sums, positives);
        scores.iter_mut().for_each(|score| *score *= off);
        for i in 0..m {
            let (a, p) = (&anchors[i * d..][..d], &positives[i * d..][..d]);
            scores[i * m + i] = on * a.iter().zip(p).map(|(a, p)| a * p).sum::<f64>();
        }
        let (value, mut slopes) = cross_entropy_at_diagonal(&scores, m);
        let own: Vec<f64> = (0..m).map(|i| on * std::mem::take(&mut slopes[i * m + i])).collect();
        slopes.iter_mut().for_each(|slope| *slope *= off);
        let mut over_anchors = pairs.combine(&slopes, positives);
        let mut over_positives = pairs.combine_transposed(&slopes, &sums);
        for place in 0..m * d {
            over_positives[place] += over_anchors[place] + own[place / d] * anchors[place];
            over_anchors[place] += own[place / d] * positives[place];
        }
        Ok(LossValue::new(value, pairs.gradient(&over_anchors, &over_positives)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::*;

    #[test]
    fn equals_its_definition_over_the_first_two_rows_of_each_class() {
        let (z, loss) = (naive::draw("angular"), Angular { degrees: 40.0 });
        let t2 = 40f64.to_radians().tan().powi(2);
        let pairs = [(0, 3), (1, 4), (2, 8)];
        let product = |i: usize, j: usize| naive::product(z.row(i), z.row(j));
        let mut sum = 0.0;
        for (a, p) in pairs {
            let others = pairs.iter().filter(|&&(other, _)| other != a);
            let exponents = others
                .map(|&(_, q)| (4.0 * t2 * (product(a, q) + product(p, q)) - 2.0 * (1.0 + t2) * product(a, p)).exp());
            sum += (1.0 + exponents.sum::<f64>()).ln();
        }
        naive::expect(&loss, &z, None, sum / 3.0);
    }
}
