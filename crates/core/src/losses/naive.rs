//! What the naive oracles share: the definitions of papers, loop by loop, as the tests of each loss write them out.

use rkd_kernels::Team;

use super::{Loss, LossInputs, LossValue, Matrix};
use crate::random::Random;

/// A batch of 11 rows of 5 numbers, with classes of four, four, two and one row.
pub(super) const LABELS: [u32; 11] = [0, 1, 2, 0, 1, 3, 0, 1, 2, 0, 1];

pub(super) fn draw(purpose: &str) -> Matrix {
    let mut random = Random::keyed(5, 0, 0, purpose);
    let data: Vec<f64> = (0..11 * 5).map(|_| 0.5 * random.normal()).collect();
    Matrix::new(purpose, &data, 11, 5).unwrap()
}

/// Evaluates `loss` on the batch of [`draw`].
pub(super) fn evaluate(loss: &dyn Loss, student: &Matrix, teacher: Option<&Matrix>) -> LossValue {
    let team = Team::new(1);
    let mut inputs = LossInputs::new(student, &team, Random::keyed(0, 0, 0, "naive")).with_labels(&LABELS);
    if let Some(teacher) = teacher {
        inputs = inputs.with_teacher(teacher);
    }
    loss.evaluate(&inputs).unwrap()
}

/// Asserts that `loss` has the value of its definition.
pub(super) fn expect(loss: &dyn Loss, student: &Matrix, teacher: Option<&Matrix>, definition: f64) {
    let found = evaluate(loss, student, teacher).value;
    assert!(definition > 0.0 && (found - definition).abs() <= 1e-12 * definition, "{found} {definition}");
}

/// `|z_i - z_j + offset|`.
pub(super) fn distance(z: &Matrix, i: usize, j: usize, offset: f64) -> f64 {
    z.row(i).iter().zip(z.row(j)).map(|(a, b)| (a - b + offset).powi(2)).sum::<f64>().sqrt()
}

/// `<a, b>`.
pub(super) fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Every triplet (anchor, positive, negative) of [`LABELS`].
pub(super) fn triplets() -> Vec<[usize; 3]> {
    let mut triplets = Vec::new();
    for (a, anchor) in LABELS.iter().enumerate() {
        for (p, positive) in LABELS.iter().enumerate() {
            for (q, negative) in LABELS.iter().enumerate() {
                if a != p && anchor == positive && anchor != negative {
                    triplets.push([a, p, q]);
                }
            }
        }
    }
    triplets
}
