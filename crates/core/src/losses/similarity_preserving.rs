//! Similarity-preserving knowledge distillation (Tung, Mori, ICCV 2019, eq. 1 to 4): items that are alike to the
//! teacher are alike to the student.
//!
//! ```text
//! G = X X^T,   A_i = G_i / |G_i|,   L = 1/n^2 |A^t - A^s|_F^2
//! dL/dG_i = (E_i - A_i <A_i, E_i>) / |G_i|,   E = 2 (A^s - A^t) / n^2,   dL/dX = (dL/dG + (dL/dG)^T) X
//! ```
//! n items, student X `[n, d_s]`, teacher `[n, d_t]`; d_s and d_t may differ. G_i is row i of G; each is divided by its
//! norm, so A is not symmetric, and the loss does not see the scale of either side. A map `[n, h, w, c]` is one long
//! row. The paper compares the last convolution's maps beside cross entropy: name a tap for that. Here the embedding is
//! read where the plan says nothing, as by the other relations: a run with this loss alone then trains every layer.
//!
//! Degenerate batches: an item whose feature is 0 (in norm below about 1e-6) is like no other, A_i = 0; the rows of the
//! others still move it. Nothing moves a student that is 0 altogether. One item is like itself, value 0.

use serde::{Deserialize, Serialize};

use super::unit_rows::UnitRows;
use super::{Loss, LossInputs, LossValue, Matrix, gram};
use crate::error::Result;

/// Options of `similarity-preserving`: none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(deny_unknown_fields)]
pub struct SimilarityPreserving {}

impl Loss for SimilarityPreserving {
    fn needs_teacher(&self) -> bool {
        true
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let (team, student, teacher) = (inputs.team, inputs.student, inputs.teacher()?);
        let n = student.rows;
        let similarities = |x: &Matrix| UnitRows::new(gram::products(team, &x.data, &x.data, x.columns), n);
        let (s, t) = (similarities(student), similarities(teacher));
        let mut slopes: Vec<f64> = s.data.iter().zip(&t.data).map(|(s, t)| s - t).collect();
        let share = 1.0 / (n * n).max(1) as f64;
        let value = share * slopes.iter().map(|d| d * d).sum::<f64>();
        slopes.iter_mut().for_each(|d| *d *= 2.0 * share);
        s.pull_back(&mut slopes);
        let both: Vec<f64> = (0..n * n).map(|at| slopes[at] + slopes[at % n * n + at / n]).collect();
        Ok(LossValue::new(value, gram::combine(team, &both, &student.data, student.columns)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::*;

    #[test]
    fn equals_its_definition_over_pairs() {
        let (student, teacher) = (naive::draw("student"), naive::draw("teacher"));
        let n = student.rows;
        let similarity = |x: &Matrix, i: usize, j: usize| {
            let norm = (0..n).map(|k| naive::product(x.row(i), x.row(k)).powi(2)).sum::<f64>().sqrt();
            naive::product(x.row(i), x.row(j)) / norm
        };
        let mut sum = 0.0;
        for (i, j) in (0..n * n).map(|pair| (pair / n, pair % n)) {
            sum += (similarity(&student, i, j) - similarity(&teacher, i, j)).powi(2);
        }
        naive::expect(&SimilarityPreserving {}, &student, Some(&teacher), sum / (n * n) as f64);
    }

    #[test]
    fn an_item_of_zeros_is_moved_by_the_others_alone() {
        let (mut student, teacher) = (naive::draw("student"), naive::draw("teacher"));
        student.data[10..15].fill(0.0);
        let found = naive::evaluate(&SimilarityPreserving {}, &student, Some(&teacher));
        assert!(found.is_finite() && found.gradient.iter().all(|g| *g != 0.0 && g.abs() < 1.0), "{found:?}");
    }
}
