//! Multi-class N-pair loss (Sohn 2016, eq. 6 and section 3.2.1).
//!
//! ```text
//! L = -1/m sum_i ln softmax_j(<a_i, p_j>) at j = i  +  l2/m sum_i ( |a_i|^2 + |p_i|^2 )
//! ```
//! m classes with an anchor a_i and a positive p_i each, chosen by [`first_pairs`](crate::sampling::first_pairs) from
//! embeddings `[n, d]` and labels `[n]`; the positives of the other classes are the negatives. Inner products want
//! embeddings without normalisation, which the l2 term keeps small. With g the softmax minus the target, over m:
//!
//! ```text
//! dL/da_i = sum_j g_ij p_j + 2 l2/m a_i,   dL/dp_j = sum_i g_ij a_i + 2 l2/m p_j
//! ```
//! Degenerate batches: with one pair the softmax is 1 and only the l2 term is left; without a pair the value is 0. Rows
//! that are in no pair get no gradient: batches of two rows a class waste none.

use serde::{Deserialize, Serialize};

use super::class_pairs::{ClassPairs, cross_entropy_at_diagonal};
use super::{Loss, LossInputs, LossValue};
use crate::error::Result;
use crate::input;

/// Options of `n-pairs`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NPairs {
    /// Weight of the squared norms, at least 0; by itself 0.
    #[serde(deserialize_with = "input::via::<input::NotNegative, _, _>")]
    pub l2: f64,
}

impl Loss for NPairs {
    fn needs_labels(&self) -> bool {
        true
    }

    fn needs_class_pairs(&self) -> bool {
        true
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let pairs = ClassPairs::new(inputs)?;
        let (anchors, positives) = (&pairs.anchors, &pairs.positives);
        let (mut value, slopes) = cross_entropy_at_diagonal(&pairs.products(anchors, positives), pairs.count());
        let l2 = self.l2 / pairs.count().max(1) as f64;
        value += l2 * anchors.iter().chain(positives).map(|v| v * v).sum::<f64>();
        let mut over_anchors = pairs.combine(&slopes, positives);
        let mut over_positives = pairs.combine_transposed(&slopes, anchors);
        for (over, rows) in [(&mut over_anchors, anchors), (&mut over_positives, positives)] {
            over.iter_mut().zip(rows).for_each(|(g, v)| *g += 2.0 * l2 * v);
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
        let (z, loss) = (naive::draw("n-pairs"), NPairs { l2: 0.1 });
        let pairs = [(0, 3), (1, 4), (2, 8)];
        let mut sum = 0.0;
        for (a, p) in pairs {
            let exponents: f64 = pairs.iter().map(|&(_, q)| naive::product(z.row(a), z.row(q)).exp()).sum();
            sum -= (naive::product(z.row(a), z.row(p)).exp() / exponents).ln();
            sum += loss.l2 * (naive::product(z.row(a), z.row(a)) + naive::product(z.row(p), z.row(p)));
        }
        naive::expect(&loss, &z, None, sum / 3.0);
    }
}
