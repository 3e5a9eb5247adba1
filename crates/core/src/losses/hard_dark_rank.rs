//! Hard DarkRank (Chen, Wang, Zhang 2018), a listwise distillation, in the form of Park et al.'s released code.
//!
//! ```text
//! s_ij = -alpha d_ij^beta;   pi_1 .. pi_m: the m items nearest to i for the teacher, nearest first
//! L = -1/n sum_i sum_k ( s_i,pi_k - ln sum_{l >= k} exp s_i,pi_l )           s of the student
//! ```
//! n queries i, m = `permute_length` or n - 1 if that is less; d the guarded distance of [`super::distance`], student
//! `[n, d_s]`, teacher `[n, d_t]`. It is the likelihood (Plackett-Luce) that the student's scores give to the teacher's
//! order of the first m. Ties of the teacher go to the smaller index. DarkRank's own "hard" form ranks the whole batch; the
//! released code ranks the nearest four, with alpha = beta = 3 (its command line says alpha = 2, the paper 3).
//!
//! ```text
//! dL/ds_i,pi_l = 1/n ( sum_{k <= l} exp(s_i,pi_l - ln sum_{l' >= k} exp s_i,pi_l') - 1 ),   ds/dd = -alpha beta d^(beta - 1)
//! ```
//! Degenerate batches: one or two rows have value 0, there is nothing to order; no gradient flows between coincident
//! rows. d^beta and its slope grow fast: embeddings of 1e20 are an `ERR_NON_FINITE`, so normalise what may grow.

use serde::{Deserialize, Serialize};

use super::cross_entropy::log_softmax;
use super::distance::Distances;
use super::{Loss, LossInputs, LossValue};
use crate::error::{Code, Error, Result};
use crate::input;

/// Options of `hard-dark-rank`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HardDarkRank {
    /// Factor of the scores, positive; the paper's is 3.
    #[serde(deserialize_with = "input::via::<input::Positive, _, _>")]
    pub alpha: f64,
    /// Power of the distance, positive; the paper's is 3.
    #[serde(deserialize_with = "input::via::<input::Positive, _, _>")]
    pub beta: f64,
    /// How many of the teacher's nearest items are ordered, at least 2; the released code's is 4.
    #[serde(deserialize_with = "input::via::<input::Whole<2>, _, _>")]
    pub permute_length: usize,
}

impl Default for HardDarkRank {
    fn default() -> Self {
        HardDarkRank { alpha: 3.0, beta: 3.0, permute_length: 4 }
    }
}

impl Loss for HardDarkRank {
    fn needs_teacher(&self) -> bool {
        true
    }

    fn wants_unit_norm(&self) -> bool {
        true
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let teacher = Distances::guarded(inputs.team, inputs.teacher()?);
        let student = Distances::guarded(inputs.team, inputs.student);
        let n = inputs.student.rows;
        let (mut value, mut slopes) = (0.0, student.zeros());
        for i in 0..n {
            let order = nearest(n, i, self.permute_length, |j| teacher.at(i, j));
            let scores: Vec<f64> = order.iter().map(|&j| -self.alpha * student.at(i, j).powf(self.beta)).collect();
            if let Some(score) = scores.iter().find(|score| !score.is_finite()) {
                return Err(overflow(*score));
            }
            let mut over_scores = vec![-1.0; order.len()];
            for k in 0..order.len() {
                let log_p = log_softmax(&scores[k..]);
                value -= log_p[0] / n as f64;
                over_scores[k..].iter_mut().zip(&log_p).for_each(|(slope, log_p)| *slope += log_p.exp());
            }
            for (&j, over_score) in order.iter().zip(over_scores) {
                let slope = -self.alpha * self.beta * student.at(i, j).powf(self.beta - 1.0);
                slopes[student.place(i, j)] = over_score * slope / n as f64;
            }
        }
        Ok(LossValue::new(value, student.pull_back(inputs.team, slopes)))
    }
}

/// The `count` items other than `i` of the smallest distance, in its order; of equals the smaller index first.
fn nearest(n: usize, i: usize, count: usize, distance: impl Fn(usize) -> f64) -> Vec<usize> {
    let mut others: Vec<(f64, usize)> = (0..n).filter(|&j| j != i).map(|j| (distance(j), j)).collect();
    let order = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    if count < others.len() {
        others.select_nth_unstable_by(count, order);
        others.truncate(count);
    }
    others.sort_unstable_by(order);
    others.into_iter().map(|(_, j)| j).collect()
}

fn overflow(score: f64) -> Error {
    Error::new(Code::NonFinite, "the student's distances are too large for this power of them")
        .with_subject("hard-dark-rank")
        .with_values("finite scores", score.to_string())
        .with_advice("normalise the embedding, or choose a smaller beta")
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::*;

    #[test]
    fn equals_its_definition_over_queries() {
        let (student, teacher) = (naive::draw("student"), naive::draw("teacher"));
        let loss = HardDarkRank { alpha: 2.0, beta: 1.5, permute_length: 3 };
        let mut sum = 0.0;
        for i in 0..student.rows {
            let mut order: Vec<usize> = (0..student.rows).filter(|&j| j != i).collect();
            let far = |j: &usize| naive::distance(&teacher, i, *j, 0.0);
            order.sort_by(|a, b| far(a).total_cmp(&far(b)));
            let likelihoods: Vec<f64> =
                order[..3].iter().map(|&j| (-2.0 * naive::distance(&student, i, j, 0.0).powf(1.5)).exp()).collect();
            for k in 0..3 {
                sum -= (likelihoods[k] / likelihoods[k..].iter().sum::<f64>()).ln();
            }
        }
        naive::expect(&loss, &student, Some(&teacher), sum / student.rows as f64);
    }

    #[test]
    fn a_small_batch_orders_what_there_is_and_ties_go_to_the_smaller_index() {
        assert_eq!(nearest(4, 1, 9, |j| [1.0, 0.0, 0.5, 1.0][j]), [2, 0, 3]);
        assert_eq!(nearest(4, 1, 2, |_| 1.0), [0, 2]);
        assert_eq!(nearest(1, 0, 4, |_| 1.0), [0; 0]);
    }
}
