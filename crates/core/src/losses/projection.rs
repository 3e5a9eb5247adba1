//! The linear map of the hint losses: y = P x for every row x, without bias.
//!
//! ```text
//! Y = X P^T,   dL/dX = dL/dY P,   dL/dP = dL/dY^T X
//! ```
//! X `[m, a]` (m items, or all their pixels), P `[b, a]`, Y `[m, b]`.

use rkd_kernels::Team;
use rkd_kernels::product::{Left, product};

use super::{LossInputs, LossParameter, Matrix};
use crate::error::{Code, Error, Result};
use crate::tensor::Init;

/// P on the threads of one evaluation.
pub(super) struct Projection<'a> {
    matrix: &'a Matrix,
    team: &'a Team,
}

/// P as a parameter of its loss, drawn evenly from `-bound` to `bound`.
pub(super) fn parameter(b: usize, a: usize, bound: f64) -> LossParameter {
    LossParameter { name: "projection", rows: b, columns: a, init: Init::Uniform { bound } }
}

impl<'a> Projection<'a> {
    /// The map `matrix`.
    pub fn of(matrix: &'a Matrix, team: &'a Team) -> Self {
        Projection { matrix, team }
    }

    /// P as it was given, which must be `[b, a]`.
    pub fn new(inputs: &LossInputs<'a>, b: usize, a: usize) -> Result<Self> {
        let matrix = inputs.parameter(0)?;
        if (matrix.rows, matrix.columns) == (b, a) {
            return Ok(Projection::of(matrix, inputs.team));
        }
        Err(Error::new(Code::InvalidShape, "the projection does not fit the features")
            .with_subject("projection")
            .with_values(
                format!("[{b}, {a}]: the teacher's length, the student's"),
                format!("[{}, {}]", matrix.rows, matrix.columns),
            )
            .with_advice("its rows are the teacher's channels, its columns the student's"))
    }

    /// Y.
    pub fn apply(&self, x: &[f64]) -> Vec<f64> {
        let (b, a) = (self.matrix.rows, self.matrix.columns);
        let transposed: Vec<f64> = (0..a * b).map(|place| self.matrix.data[place % b * a + place / b]).collect();
        product(self.team, [x.len() / a, b, a], Left::row_major(x, a), &transposed)
    }

    /// dL/dX and dL/dP.
    pub fn pull_back(&self, x: &[f64], dy: &[f64]) -> [Vec<f64>; 2] {
        let (b, a) = (self.matrix.rows, self.matrix.columns);
        let m = x.len() / a;
        let dx = product(self.team, [m, a, b], Left::row_major(dy, b), &self.matrix.data);
        [dx, product(self.team, [b, a, m], Left::transposed(dy, b), x)]
    }
}
