//! What the losses of inner products share: the product of every row with every row.

use rkd_kernels::Team;
use rkd_kernels::product::{Left, product};

/// `[m, m]`: the inner product of every row of `left` `[m, d]` with every row of `right` `[m, d]`.
pub(super) fn products(team: &Team, left: &[f64], right: &[f64], d: usize) -> Vec<f64> {
    let m = right.len() / d;
    let transposed: Vec<f64> = (0..m * d).map(|place| right[place % m * d + place / m]).collect();
    product(team, [m, m, d], Left::row_major(left, d), &transposed)
}

/// `[m, d]`: row i is `sum_j weights_ij rows_j`, for weights `[m, m]` and rows `[m, d]`.
pub(super) fn combine(team: &Team, weights: &[f64], rows: &[f64], d: usize) -> Vec<f64> {
    let m = rows.len() / d;
    product(team, [m, d, m], Left::row_major(weights, m), rows)
}
