//! The linear layer: `y = x weight^T + bias`.
//!
//! Shapes: n rows, i inputs, o outputs; x [n, i], weight [o, i], y [n, o].

use crate::finish::Finish;
use crate::matrix::{Operand, gemm, multiply_panels, pack, panels_length};
use crate::{Isa, Team, check, columns, scratch};

/// The sizes of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Rows of the input.
    pub n: usize,
    /// Inputs of a row.
    pub inputs: usize,
    /// Outputs of a row.
    pub outputs: usize,
}

/// Floats of working memory of the pass that takes most: [`forward`] and, if `backward`, those of the gradients.
pub fn working_memory(isa: Isa, &Linear { n, inputs, outputs }: &Linear, backward: bool) -> usize {
    let there = panels_length(isa, inputs, outputs);
    let back = panels_length(isa, outputs, inputs).max(panels_length(isa, n, inputs));
    if backward { there.max(back) } else { there }
}

/// `y = activation?(x weight^T + bias + residual)`.
pub fn forward(team: &Team, shape: &Linear, x: &[f32], weight: &[f32], finish: Finish<'_>, y: &mut [f32]) {
    scratch::with(prepared_length(team.isa(), shape), |prepared| {
        prepare(team, shape, weight, prepared);
        forward_prepared(team, shape, x, prepared, finish, y);
    });
}

/// Floats of the weights in the form that [`forward_prepared`] reads.
pub fn prepared_length(isa: Isa, shape: &Linear) -> usize {
    panels_length(isa, shape.inputs, shape.outputs)
}

/// Brings the weights into the form that [`forward_prepared`] reads: once, for many passes. Overwrites `prepared`.
pub fn prepare(team: &Team, shape: &Linear, weight: &[f32], prepared: &mut [f32]) {
    let Linear { inputs, outputs, .. } = *shape;
    check::length("linear", "weight", weight.len(), outputs * inputs);
    check::length("linear", "prepared", prepared.len(), prepared_length(team.isa(), shape));
    pack(team, inputs, outputs, &[(0, inputs, Operand::transposed(weight, inputs))], prepared);
}

/// As [`forward`] with weights from [`prepare`].
pub fn forward_prepared(team: &Team, shape: &Linear, x: &[f32], prepared: &[f32], finish: Finish<'_>, y: &mut [f32]) {
    let Linear { n, inputs, outputs } = *shape;
    check::length("linear", "x", x.len(), n * inputs);
    check::length("linear", "y", y.len(), n * outputs);
    check::length("linear", "prepared", prepared.len(), prepared_length(team.isa(), shape));
    finish.check("linear", outputs, n * outputs);
    multiply_panels(team, [n, outputs, inputs], Operand::row_major(x, inputs), prepared, finish, y);
}

/// `dx = dy weight`. Overwrites `dx`.
pub fn backward_input(team: &Team, shape: &Linear, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    let Linear { n, inputs, outputs } = *shape;
    check::length("linear backward_input", "dy", dy.len(), n * outputs);
    check::length("linear backward_input", "weight", weight.len(), outputs * inputs);
    let (a, b) = (Operand::row_major(dy, outputs), Operand::row_major(weight, inputs));
    gemm(team, [n, inputs, outputs], a, b, None, dx);
}

/// `dweight = dy^T x`, `dbias = sum of dy over the rows`. Overwrites both.
pub fn backward_weight(
    team: &Team,
    shape: &Linear,
    x: &[f32],
    dy: &[f32],
    dweight: &mut [f32],
    dbias: Option<&mut [f32]>,
) {
    let Linear { n, inputs, outputs } = *shape;
    check::length("linear backward_weight", "x", x.len(), n * inputs);
    check::length("linear backward_weight", "dy", dy.len(), n * outputs);
    let (a, b) = (Operand::transposed(dy, outputs), Operand::row_major(x, inputs));
    gemm(team, [outputs, inputs, n], a, b, None, dweight);
    if let Some(dbias) = dbias {
        check::length("linear backward_weight", "dbias", dbias.len(), outputs);
        columns::sum_into(team, dy, dbias);
    }
}
