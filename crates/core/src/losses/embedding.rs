//! An embedding prepared for pairwise work: its rows and their squared distances.

use std::borrow::Cow;

use rkd_kernels::{Team, relations};

use crate::tensor::Matrix;

/// The rows of an embedding with the matrix of their squared distances.
pub(super) struct Embedding<'a> {
    matrix: &'a Matrix,
    /// n x n of [`relations::stride`].
    pub squared: &'a [f64],
}

/// The rows as the kernels take them: a copy only where d is no multiple of the vectors' width.
fn wide(matrix: &Matrix) -> Cow<'_, [f64]> {
    if relations::stride(matrix.columns) == matrix.columns {
        return Cow::Borrowed(&matrix.data);
    }
    Cow::Owned(relations::widen(&matrix.data, matrix.rows, matrix.columns))
}

impl<'a> Embedding<'a> {
    pub(super) fn new(team: &Team, matrix: &'a Matrix) -> Self {
        let compute = || relations::squared_distances(team, &wide(matrix), matrix.rows, matrix.columns);
        Embedding { matrix, squared: matrix.squared_distances(compute) }
    }

    /// The squared distance of rows `i` and `j`.
    pub(super) fn squared(&self, i: usize, j: usize) -> f64 {
        self.squared[i * relations::stride(self.matrix.rows) + j]
    }

    /// An empty gradient over the squared distances.
    pub(super) fn zeros(&self) -> Vec<f64> {
        vec![0.0; self.squared.len()]
    }

    /// The gradient over the rows `[n, d]`, from one over the squared distances where (i, j) and (j, i) add up, divided by
    /// `divisor`.
    pub(super) fn pull_back(&self, team: &Team, gradient: &[f64], divisor: f64) -> Vec<f64> {
        let (n, d) = (self.matrix.rows, self.matrix.columns);
        let mut rows = relations::pull_back(team, &wide(self.matrix), gradient, n, d);
        rows.iter_mut().for_each(|g| *g /= divisor);
        if relations::stride(d) == d {
            return rows;
        }
        rows.chunks_exact(relations::stride(d)).flat_map(|row| &row[..d]).copied().collect()
    }
}
