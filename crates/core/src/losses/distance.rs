//! The two distances that losses of pairs are written in, and the way from a gradient over them back to the rows.
//!
//! ```text
//! guarded:  d_ij = max(|z_i - z_j|, 1e-6)                                 the authors' guard against sqrt'(0)
//! offset:   d_ij = |z_i - z_j + e|,  e = 1e-6 in every coordinate         PyTorch's pairwise_distance
//!                = sqrt(D_ij + 2 e (s_i - s_j) + d e^2)                   D_ij = |z_i - z_j|^2,  s_i = sum_k z_ik
//! ```
//! Embedding z `[n, d]`, i != j; a row has distance 0 from itself. Offset distances are not symmetric. Where a guarded
//! distance is at its guard, and where an offset distance is 0, no gradient flows. With u_ij = dL/dd_ij / d_ij:
//!
//! ```text
//! guarded:  dL/dz_i = sum_j (u_ij + u_ji) (z_i - z_j)
//! offset:   dL/dz_i = sum_j (u_ij + u_ji) (z_i - z_j) + e sum_j (u_ij - u_ji)
//! ```

use rkd_kernels::{Team, relations};

use super::embedding::Embedding;
use crate::tensor::Matrix;

/// Smallest guarded distance of different rows.
const SMALLEST: f64 = 1e-6;
/// Added to every coordinate of an offset difference.
const OFFSET: f64 = 1e-6;

/// All pairwise distances of one kind between the rows of an embedding.
pub(super) struct Distances<'a> {
    matrix: &'a Matrix,
    embedding: Embedding<'a>,
    offset: bool,
    /// n x n of [`relations::stride`].
    values: Vec<f64>,
}

impl<'a> Distances<'a> {
    /// `max(|z_i - z_j|, 1e-6)`.
    pub(super) fn guarded(team: &Team, matrix: &'a Matrix) -> Self {
        Self::new(team, matrix, false, |squared, _, _| squared.sqrt().max(SMALLEST))
    }

    /// `|z_i - z_j + 1e-6|`.
    pub(super) fn offset(team: &Team, matrix: &'a Matrix) -> Self {
        let sums: Vec<f64> = (0..matrix.rows).map(|i| matrix.row(i).iter().sum()).collect();
        let all = matrix.columns as f64 * OFFSET * OFFSET;
        Self::new(team, matrix, true, |squared, i, j| {
            (squared + 2.0 * OFFSET * (sums[i] - sums[j]) + all).max(0.0).sqrt()
        })
    }

    fn new(team: &Team, matrix: &'a Matrix, offset: bool, distance: impl Fn(f64, usize, usize) -> f64) -> Self {
        let embedding = Embedding::new(team, matrix);
        let mut values = embedding.zeros();
        for (i, row) in values.chunks_exact_mut(relations::stride(matrix.rows).max(1)).enumerate() {
            for (j, value) in row[..matrix.rows].iter_mut().enumerate().filter(|(j, _)| *j != i) {
                *value = distance(embedding.squared(i, j), i, j);
            }
        }
        Distances { matrix, embedding, offset, values }
    }

    /// The distance of rows `i` and `j`.
    pub(super) fn at(&self, i: usize, j: usize) -> f64 {
        self.values[self.place(i, j)]
    }

    /// The plain squared distance of rows `i` and `j`, without guard or offset.
    pub(super) fn squared(&self, i: usize, j: usize) -> f64 {
        self.embedding.squared(i, j)
    }

    /// Where (i, j) stands in a gradient over the distances.
    pub(super) fn place(&self, i: usize, j: usize) -> usize {
        i * relations::stride(self.matrix.rows) + j
    }

    /// An empty gradient over the distances.
    pub(super) fn zeros(&self) -> Vec<f64> {
        self.embedding.zeros()
    }

    /// The gradient over the rows `[n, d]` from one over the distances of ordered pairs.
    pub(super) fn pull_back(&self, team: &Team, mut slopes: Vec<f64>) -> Vec<f64> {
        let guard = if self.offset { 0.0 } else { SMALLEST };
        for (slope, &d) in slopes.iter_mut().zip(&self.values) {
            // Over the squared distance, where `Embedding::pull_back` starts: dd/dD = 1 / (2 d).
            *slope = if d > guard { *slope / (2.0 * d) } else { 0.0 };
        }
        let mut gradient = self.embedding.pull_back(team, &slopes, 1.0);
        if self.offset {
            let n = self.matrix.rows;
            for (i, row) in gradient.chunks_exact_mut(self.matrix.columns).enumerate() {
                let along: f64 = (0..n).map(|j| slopes[self.place(i, j)] - slopes[self.place(j, i)]).sum();
                row.iter_mut().for_each(|g| *g += 2.0 * OFFSET * along);
            }
        }
        gradient
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn offset_distances_are_those_of_their_definition() {
        let (n, d, mut random) = (9, 5, Random::keyed(1, 0, 0, "offset"));
        // Rows a few offsets apart, where the offset is what counts.
        let data: Vec<f64> = (0..n * d).map(|_| 3e-6 * random.normal()).collect();
        let z = Matrix::new("z", &data, n, d).unwrap();
        let distances = Distances::offset(&Team::new(1), &z);
        for (i, j) in (0..n * n).map(|place| (place / n, place % n)).filter(|(i, j)| i != j) {
            let squared: f64 = z.row(i).iter().zip(z.row(j)).map(|(a, b)| (a - b + OFFSET).powi(2)).sum();
            assert!((distances.at(i, j) - squared.sqrt()).abs() < 1e-15, "{i} {j}");
        }
    }

    #[test]
    fn nothing_flows_between_coincident_rows() {
        let z = Matrix::new("z", &[1.0, 2.0, 1.0, 2.0], 2, 2).unwrap();
        let team = Team::new(1);
        let guarded = Distances::guarded(&team, &z);
        assert_eq!((guarded.at(0, 1), guarded.at(0, 0)), (SMALLEST, 0.0));
        assert_eq!(guarded.pull_back(&team, vec![1.0; guarded.zeros().len()]), [0.0; 4]);
    }
}
