//! Distance-weighted negatives (Wu, Manmatha, Smola, Krähenbühl 2017, section 4).
//!
//! On the unit sphere of D dimensions distances concentrate around sqrt 2; drawing with the inverse of their density
//! makes near and middling negatives as frequent as the many far ones:
//!
//! ```text
//! d_ij = max(|z_i - z_j|, cutoff),   ln w_ij = (2 - D) ln d_ij - (D - 3) / 2 ln(1 - d_ij^2 / 4)
//! ```
//! with z divided by its norm. The authors' released code subtracts the row's maximum before it masks positives and far
//! items; at D = 512 one close positive then underflows every weight, and the draw is uniform. Here the mask comes first.

use crate::losses::Matrix;

/// Distances below this count as this: very near negatives are mostly noise (the paper's lambda).
pub const CUTOFF: f64 = 0.5;
/// Negatives farther than this are not drawn (the authors' value, just under sqrt 2).
pub const NONZERO: f64 = 1.4;

/// The probability `[n, n]` of item j as the negative of anchor i: 0 for i's own class, every row that has a negative
/// sums to 1. A row without a negative nearer than `nonzero` is uniform over its negatives.
pub fn distance_weights(z: &Matrix, labels: &[u32], cutoff: f64, nonzero: f64) -> Vec<f64> {
    let (n, unit) = (z.rows, normalize(z));
    let mut weights = vec![0.0; n * n];
    for (i, row) in weights.chunks_exact_mut(n.max(1)).enumerate() {
        let negatives: Vec<(usize, f64)> = (0..n)
            .filter(|&j| labels[j] != labels[i])
            .map(|j| (j, distance(&unit, z.columns, i, j).max(cutoff)))
            .collect();
        let near: Vec<(usize, f64)> = negatives.iter().copied().filter(|&(_, d)| d < nonzero).collect();
        let chosen = if near.is_empty() {
            negatives.iter().map(|&(j, _)| (j, 0.0)).collect::<Vec<_>>()
        } else {
            near.iter().map(|&(j, d)| (j, log_weight(d, z.columns as f64))).collect()
        };
        let largest = chosen.iter().map(|(_, log)| *log).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = chosen.iter().map(|(_, log)| (log - largest).exp()).sum();
        chosen.iter().for_each(|&(j, log)| row[j] = (log - largest).exp() / sum);
    }
    weights
}

fn log_weight(d: f64, dimension: f64) -> f64 {
    (2.0 - dimension) * d.ln() - (dimension - 3.0) / 2.0 * (1.0 - d * d / 4.0).max(1e-8).ln()
}

/// The rows divided by their norm; a row of zeros stays.
fn normalize(z: &Matrix) -> Vec<f64> {
    let unit = |row: &[f64]| {
        let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
        row.iter().map(|v| v / norm).collect::<Vec<_>>()
    };
    (0..z.rows).flat_map(|i| unit(z.row(i))).collect()
}

fn distance(unit: &[f64], d: usize, i: usize, j: usize) -> f64 {
    unit[i * d..][..d].iter().zip(&unit[j * d..][..d]).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().max(1e-12).sqrt()
}
