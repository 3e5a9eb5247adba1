//! An embedding prepared for pairwise work: widened rows and their squared distances.

use rkd_kernels::{Pool, relations};

use super::inputs::Matrix;

/// The rows of an embedding with the matrix of their squared distances.
pub(super) struct Embedding<'a> {
    matrix: &'a Matrix,
    rows: Vec<f64>,
    /// n x n of [`relations::stride`].
    pub squared: Vec<f64>,
}

impl<'a> Embedding<'a> {
    pub(super) fn new(pool: &Pool, matrix: &'a Matrix) -> Self {
        let rows = relations::widen(&matrix.data, matrix.rows, matrix.columns);
        let squared = relations::squared_distances(pool, &rows, matrix.rows, matrix.columns);
        Embedding { matrix, rows, squared }
    }

    /// The squared distance of rows `i` and `j`.
    pub(super) fn squared(&self, i: usize, j: usize) -> f64 {
        self.squared[i * relations::stride(self.matrix.rows) + j]
    }

    /// An empty gradient over the squared distances.
    pub(super) fn zeros(&self) -> Vec<f64> {
        vec![0.0; self.squared.len()]
    }

    /// The gradient over the rows `[n, d]`, from one over the squared distances where (i, j) and (j, i) add up.
    pub(super) fn pull_back(&self, pool: &Pool, gradient: &[f64]) -> Vec<f64> {
        let (n, d) = (self.matrix.rows, self.matrix.columns);
        let wide = relations::pull_back(pool, &self.rows, gradient, n, d);
        wide.chunks_exact(relations::stride(d)).flat_map(|row| &row[..d]).copied().collect()
    }
}
