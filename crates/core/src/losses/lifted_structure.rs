//! Lifted structured feature embedding (Oh Song, Xiang, Jegelka, Savarese 2016, eq. 4), the smooth form.
//!
//! ```text
//! J_ij = ln( sum_k exp(m - d_ik) + sum_k exp(m - d_jk) ) + d_ij      k over the items of other classes
//! L = 1/(2P) sum over positive pairs i < j of [ J_ij ]+^2
//! ```
//! P unordered positive pairs, d the guarded distance of [`super::distance`], margin m, embeddings `[n, d]`, labels `[n]`.
//! The paper's eq. 3 has maxima in place of the sums; eq. 4 is what the authors train with. With l_i = ln sum_k exp(m -
//! d_ik) the first term is ln(exp l_i + exp l_j), so the whole is O(n^2) beside the distances:
//!
//! ```text
//! c_i = sum_j [ J_ij ]+ / P exp(l_i - ln(exp l_i + exp l_j)),   dL/dd_ik = -c_i exp(m - d_ik - l_i),   dL/dd_ij = [ J_ij ]+ / P
//! ```
//! Degenerate batches: without a positive pair, or without a negative, the value is 0; between coincident rows nothing
//! flows.

use serde::{Deserialize, Serialize};

use super::distance::Distances;
use super::{Loss, LossInputs, LossValue};
use crate::error::Result;
use crate::input;

/// Options of `lifted-structure`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LiftedStructure {
    /// The margin m, positive; the paper's is 1, for embeddings without normalisation.
    #[serde(deserialize_with = "input::via::<input::Positive, _, _>")]
    pub margin: f64,
}

impl Default for LiftedStructure {
    fn default() -> Self {
        LiftedStructure { margin: 1.0 }
    }
}

impl Loss for LiftedStructure {
    fn needs_labels(&self) -> bool {
        true
    }

    fn needs_class_pairs(&self) -> bool {
        true
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let (z, labels) = (inputs.student, inputs.labels()?);
        let n = z.rows;
        let distances = Distances::guarded(inputs.team, z);
        let pushes = |i: usize| {
            let negatives = (0..n).filter(move |&k| labels[k] != labels[i]);
            negatives.map(|k| (k, self.margin - distances.at(i, k))).collect::<Vec<_>>()
        };
        let log_sums: Vec<f64> = (0..n).map(|i| log_sum_exp(pushes(i).iter().map(|(_, push)| *push))).collect();
        let positives =
            || (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j))).filter(|&(i, j)| labels[i] == labels[j]);
        let share = 1.0 / positives().count().max(1) as f64;
        let (mut value, mut shares, mut slopes) = (0.0, vec![0.0; n], distances.zeros());
        for (i, j) in positives() {
            let both = log_sum_exp([log_sums[i], log_sums[j]].into_iter());
            let lifted = both + distances.at(i, j);
            if lifted > 0.0 {
                value += 0.5 * share * lifted * lifted;
                slopes[distances.place(i, j)] = share * lifted;
                for end in [i, j] {
                    shares[end] += share * lifted * (log_sums[end] - both).exp();
                }
            }
        }
        for (i, share) in shares.into_iter().enumerate().filter(|(_, share)| *share > 0.0) {
            for (k, push) in pushes(i) {
                slopes[distances.place(i, k)] -= share * (push - log_sums[i]).exp();
            }
        }
        Ok(LossValue::new(value, distances.pull_back(inputs.team, slopes)))
    }
}

/// `ln sum exp`, safe for numbers of any size; minus infinity for none.
fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY { largest } else { largest + values.map(|v| (v - largest).exp()).sum::<f64>().ln() }
}

#[cfg(test)]
mod tests {
    use super::super::naive::{self, LABELS};
    use super::*;

    #[test]
    fn equals_its_definition_over_pairs() {
        let (z, loss) = (naive::draw("lifted"), LiftedStructure::default());
        let (mut sum, mut count) = (0.0, 0);
        for (i, label) in LABELS.iter().enumerate() {
            for j in (i + 1..z.rows).filter(|&j| *label == LABELS[j]) {
                let mut pushes = 0.0;
                for end in [i, j] {
                    for k in (0..z.rows).filter(|&k| LABELS[k] != LABELS[end]) {
                        pushes += (loss.margin - naive::distance(&z, end, k, 0.0)).exp();
                    }
                }
                sum += (pushes.ln() + naive::distance(&z, i, j, 0.0)).max(0.0).powi(2);
                count += 1;
            }
        }
        naive::expect(&loss, &z, None, sum / (2 * count) as f64);
    }
}
