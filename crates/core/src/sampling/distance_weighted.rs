//! Distance-weighted negatives (Wu, Manmatha, Smola, Krähenbühl 2017, section 4).
//!
//! On the unit sphere of D dimensions distances concentrate around sqrt 2; drawing with the inverse of their density
//! makes near and middling negatives as frequent as the many far ones:
//!
//! ```text
//! d_ij = max(|z_i - z_j|, cutoff),   ln w_ij = (2 - D) ln d_ij - (D - 3) / 2 ln(1 - d_ij^2 / 4)
//! ```
//! with z divided by its norm; w is divided by the row's largest weight before it leaves the logarithm. Here that is the
//! largest of the negatives that can be drawn. Park et al.'s released code takes the maximum over the whole row, positives,
//! far items and the item itself (its distance set to 1) included, in float32: at D = 512 one positive nearer than
//! about 0.9 underflows all weights to 0, and such a row is drawn uniformly. Their teachers were probably trained so;
//! [`DistanceWeighting::uniform_when_underflow`] does the same.

use rkd_kernels::{Team, relations};

use crate::tensor::Matrix;

/// Constants of the weighting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DistanceWeighting {
    /// Distances below this count as this, 0.5 by itself: very near negatives are mostly noise (the paper's lambda).
    pub cutoff: f64,
    /// Negatives farther than this are not drawn, 1.4 by itself, the authors' value, just under sqrt 2.
    pub nonzero: f64,
    /// The released code's behaviour: the maximum of the whole row, float32 weights, and uniform negatives where all
    /// underflow.
    pub uniform_when_underflow: bool,
}

impl Default for DistanceWeighting {
    fn default() -> Self {
        DistanceWeighting { cutoff: 0.5, nonzero: 1.4, uniform_when_underflow: false }
    }
}

/// The probability `[n, n]` of item j as the negative of anchor i: 0 for i's own class, every row that has a negative
/// sums to 1. A row without a negative nearer than `nonzero` is uniform over its negatives.
pub fn distance_weights(team: &Team, z: &Matrix, labels: &[u32], weighting: DistanceWeighting) -> Vec<f64> {
    let (n, dimension) = (z.rows, z.columns as f64);
    let squared = relations::squared_distances(team, &unit_rows(z), n, z.columns);
    let mut weights = vec![0.0; n * n];
    for (i, row) in weights.chunks_exact_mut(n.max(1)).enumerate() {
        let distance = |j: usize| if j == i { 1.0 } else { squared[i * relations::stride(n) + j].max(1e-12).sqrt() };
        let log_weight = |j: usize| log_weight(distance(j).max(weighting.cutoff), dimension);
        let negatives: Vec<usize> = (0..n).filter(|&j| labels[j] != labels[i]).collect();
        let near = negatives.iter().copied().filter(|&j| distance(j).max(weighting.cutoff) < weighting.nonzero);
        let near: Vec<(usize, f64)> = near.map(|j| (j, log_weight(j))).collect();
        let largest = |logs: &mut dyn Iterator<Item = f64>| logs.fold(f64::NEG_INFINITY, f64::max);
        if weighting.uniform_when_underflow {
            let largest = largest(&mut (0..n).map(log_weight));
            near.iter().for_each(|&(j, log)| row[j] = f64::from((log - largest).exp() as f32));
        } else {
            let largest = largest(&mut near.iter().map(|(_, log)| *log));
            near.iter().for_each(|&(j, log)| row[j] = (log - largest).exp());
        }
        let sum: f64 = row.iter().sum();
        if sum > 0.0 {
            row.iter_mut().for_each(|weight| *weight /= sum);
        } else {
            negatives.iter().for_each(|&j| row[j] = 1.0 / negatives.len() as f64);
        }
    }
    weights
}

fn log_weight(d: f64, dimension: f64) -> f64 {
    (2.0 - dimension) * d.ln() - (dimension - 3.0) / 2.0 * (1.0 - d * d / 4.0).max(1e-8).ln()
}

/// The rows divided by their norm, in rows of [`relations::stride`]; a row of zeros stays.
fn unit_rows(z: &Matrix) -> Vec<f64> {
    let mut rows = relations::widen(&z.data, z.rows, z.columns);
    for row in rows.chunks_exact_mut(relations::stride(z.columns)) {
        let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
        row.iter_mut().for_each(|v| *v /= norm);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unit vectors of 512 dimensions: two of class 0 at `positive` from each other, one each of classes 1 and 2 at
    /// 1.2 and 1.3 from the first.
    fn batch(positive: f64) -> (Matrix, [u32; 4]) {
        let mut data = vec![0.0; 4 * 512];
        data[0] = 1.0;
        for (row, distance) in [(1, positive), (2, 1.2), (3, 1.3)] {
            let cosine: f64 = 1.0 - distance * distance / 2.0;
            data[row * 512] = cosine;
            data[row * 512 + row] = (1.0 - cosine * cosine).sqrt();
        }
        (Matrix::new("z", &data, 4, 512).unwrap(), [0, 0, 1, 2])
    }

    fn first_row(positive: f64, uniform_when_underflow: bool) -> Vec<f64> {
        let (z, labels) = batch(positive);
        let weighting = DistanceWeighting { uniform_when_underflow, ..DistanceWeighting::default() };
        distance_weights(&Team::new(1), &z, &labels, weighting)[..4].to_vec()
    }

    #[test]
    fn a_close_positive_makes_the_released_codes_weights_uniform() {
        assert_eq!(first_row(0.7, true), [0.0, 0.0, 0.5, 0.5]);
        let masked = first_row(0.7, false);
        assert!(masked[2] > 0.999 && masked[3] > 0.0, "{masked:?}");
    }

    #[test]
    fn without_underflow_both_forms_agree() {
        let (released, masked) = (first_row(1.1, true), first_row(1.1, false));
        for (released, masked) in released.iter().zip(&masked) {
            assert!((released - masked).abs() < 1e-6, "{released} {masked}");
        }
    }
}
