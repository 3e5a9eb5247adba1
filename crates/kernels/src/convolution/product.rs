//! Gathered pixels times packed weights: the forward pass and the gradient of the input.

use super::gather::{Gather, Segment};
use super::{Conv2d, Finish, strips};
use crate::matrix::{Block, Cut, DEPTH, Operand, pack, panels_length};
use crate::team::Parts;
use crate::{Isa, Team, scratch};

/// Where the rows of a product go: the pixels `grid * step + offset` of an NHWC tensor.
struct Target<'a> {
    data: Parts<'a, f32>,
    /// Rows, columns and channels of an image.
    size: [usize; 3],
    /// The first channel of the group.
    first: usize,
    step: [usize; 2],
    offset: [usize; 2],
}

/// Floats of the weights as [`prepare`] brings them.
pub(super) fn prepared_length(isa: Isa, shape: &Conv2d) -> usize {
    shape.groups * panels_length(isa, shape.positions() * shape.group_inputs(), shape.group_outputs())
}

/// Packs the weights of each group into panels.
pub(super) fn prepare(team: &Team, shape: &Conv2d, weight: &[f32], prepared: &mut [f32]) {
    let (k, outputs) = (shape.positions() * shape.group_inputs(), shape.group_outputs());
    for (group, panels) in prepared.chunks_exact_mut(panels_length(team.isa(), k, outputs)).enumerate() {
        pack(team, k, outputs, &[(0, k, Operand::row_major(weight, shape.c_out).skip(0, group * outputs))], panels);
    }
}

/// With weights from [`prepare`].
pub(super) fn forward(team: &Team, shape: &Conv2d, x: &[f32], prepared: &[f32], finish: Finish<'_>, y: &mut [f32]) {
    if strips::applies(shape) {
        return strips::forward(team, shape, x, prepared, finish, y);
    }
    let [oh, ow] = shape.output();
    let outputs = shape.group_outputs();
    let length = prepared.len() / shape.groups;
    for group in 0..shape.groups {
        let (gather, first) = (Gather::input(shape, x, group), group * outputs);
        let size = [oh, ow, shape.c_out];
        let target = Target { data: Parts::new(y), size, first, step: [1, 1], offset: [0, 0] };
        let panels = &prepared[group * length..(group + 1) * length];
        multiply(team, &gather, outputs, panels, finish.of_channels(first, outputs), &target);
    }
}

pub(super) fn backward_input(team: &Team, shape: &Conv2d, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    if (0..2).any(|axis| shape.kernel[axis] < shape.stride[axis] || shape.dilation[axis] > 1) {
        // Some pixels may lie under no kernel position.
        team.for_each_chunk(dx, crate::elementwise::BLOCK, |_, dx| dx.fill(0.0));
    }
    for group in 0..shape.groups {
        for row in 0..shape.stride[0].min(shape.h) {
            for column in 0..shape.stride[1].min(shape.w) {
                backward_phase(team, shape, group, [row, column], dy, weight, dx);
            }
        }
    }
}

/// The input gradient at the pixels `phase + stride * (i, j)`: a convolution of stride 1 over dy. Input pixel
/// `phase + stride i` lies under kernel position p of output pixel `i + (phase + padding - p dilation) / stride` where
/// that divides.
fn backward_phase(
    team: &Team,
    shape: &Conv2d,
    group: usize,
    phase: [usize; 2],
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
) {
    let [oh, ow] = shape.output();
    let (inputs, outputs) = (shape.group_inputs(), shape.group_outputs());
    let (mut segments, mut weights) = (Vec::new(), Vec::new());
    for position in 0..shape.positions() {
        let steps = [position / shape.kernel[1], position % shape.kernel[1]];
        let reach = [0, 1].map(|a| (phase[a] + shape.padding[a]) as isize - (steps[a] * shape.dilation[a]) as isize);
        if (0..2).all(|a| reach[a] % shape.stride[a] as isize == 0) {
            let (offset, at) = ([0, 1].map(|a| reach[a] / shape.stride[a] as isize), segments.len() * outputs);
            segments.push(Segment { offset, columns: 1, at });
            // Term (output channel), column (input channel): the transpose of the stored weights.
            let weight = Operand::transposed(weight, shape.c_out).skip(group * outputs, position * inputs);
            weights.push((at, at + outputs, weight));
        }
    }
    if segments.is_empty() {
        return;
    }
    let grid = [0, 1].map(|axis| ([shape.h, shape.w][axis] - phase[axis]).div_ceil(shape.stride[axis]));
    let (size, first) = ([oh, ow, shape.c_out], group * outputs);
    let gather = Gather { source: dy, size, first, channels: outputs, n: shape.n, grid, step: [1, 1], segments };
    let (size, first) = ([shape.h, shape.w, shape.c_in], group * inputs);
    let target = Target { data: Parts::new(dx), size, first, step: shape.stride, offset: phase };
    scratch::with(panels_length(team.isa(), gather.columns(), inputs), |panels| {
        pack(team, gather.columns(), inputs, &weights, panels);
        multiply(team, &gather, inputs, panels, Finish::default(), &target);
    });
}

/// The product of the gathered matrix with a matrix of `n` columns in panels.
fn multiply(team: &Team, gather: &Gather<'_>, n: usize, panels: &[f32], finish: Finish<'_>, target: &Target<'_>) {
    let (k, cut) = (gather.columns(), Cut::new(team.isa(), gather.rows(), n));
    team.for_each(cut.units(), |unit| {
        let (rows, columns) = cut.unit(unit);
        let unit = Unit { team, gather, panels, k, finish, rows, columns };
        // SAFETY: each unit runs once, and no two have both their rows and their columns in common.
        unsafe { target.receive(gather.grid, &unit) };
    });
}

/// One unit of work: some rows and columns of the product.
struct Unit<'a> {
    team: &'a Team,
    gather: &'a Gather<'a>,
    panels: &'a [f32],
    k: usize,
    finish: Finish<'a>,
    rows: [usize; 2],
    columns: [usize; 2],
}

impl Unit<'_> {
    /// Writes element (i, j) of the unit's rows and columns to `out[i * out_row + j]`, element `at` of the target for
    /// (0, 0).
    ///
    /// # Safety
    /// `out` is valid for all these elements, and nobody else uses them until it returns.
    unsafe fn multiply(&self, out: *mut f32, at: usize, out_row: usize) {
        let rows = self.rows[1] - self.rows[0];
        let multiply = |left: Operand<'_>, depth: [usize; 2]| {
            let block = Block { left, runs: None, rows, depth, columns: self.columns };
            // SAFETY: the block's elements are the unit's, which `out` is valid for and which are the caller's alone; terms
            // that do not begin at 0 follow some that wrote them.
            unsafe { block.multiply(self.team.isa(), self.panels, self.k, self.finish.bias, out, out_row) };
        };
        if self.gather.is_source() {
            multiply(Operand::row_major(self.gather.source, self.k).skip(self.rows[0], 0), [0, self.k]);
        } else {
            for start in (0..self.k).step_by(DEPTH) {
                let depth = [start, self.k.min(start + DEPTH)];
                let width = depth[1] - depth[0];
                scratch::with(rows * width, |gathered| {
                    self.gather.fill(self.rows, depth, gathered);
                    multiply(Operand::row_major(gathered, width), depth);
                });
            }
        }
        // SAFETY: these are the rows and columns of the unit again, and the products have returned.
        unsafe { self.finish.apply(self.team.isa(), out, at, out_row, rows, self.columns) };
    }
}

impl Target<'_> {
    /// Has `unit` produce rows x columns of the product, and brings them to their pixels: in place where rows of the
    /// product are consecutive pixels, else by way of a buffer.
    ///
    /// # Safety
    /// Nobody else uses the pixels of these rows, of these columns' channels, until it returns.
    unsafe fn receive(&self, grid: [usize; 2], unit: &Unit<'_>) {
        let (rows, columns) = (unit.rows, unit.columns);
        let [h, w, pitch] = self.size;
        if self.step == [1, 1] {
            let (last, end) = (rows[1] - 1, self.first + columns[1]);
            // The end of the last row lies inside the tensor.
            let _ = self.data.pointer(last * pitch + end);
            let at = rows[0] * pitch + self.first;
            // SAFETY: row i of the product is pixel i, so all elements lie between the two places just checked; they
            // are the caller's alone.
            unsafe { unit.multiply(self.data.pointer(at), at, pitch) };
            return;
        }
        let width = columns[1] - columns[0];
        scratch::with((rows[1] - rows[0]) * width, |buffer| {
            // SAFETY: the unit counts all columns, and the buffer, this call's own, holds those from the first on: rows
            // of `width`, from `columns[0]` before its start.
            unsafe { unit.multiply(buffer.as_mut_ptr().wrapping_sub(columns[0]), 0, width) };
            for (row, from) in (rows[0]..rows[1]).zip(buffer.chunks_exact(width)) {
                let (n, pixel) = (row / (grid[0] * grid[1]), row % (grid[0] * grid[1]));
                let row = pixel / grid[1] * self.step[0] + self.offset[0];
                let column = pixel % grid[1] * self.step[1] + self.offset[1];
                let start = ((n * h + row) * w + column) * pitch + self.first + columns[0];
                // SAFETY: `slice` checks its bounds; these are the pixel and channels of the unit's row, the caller's
                // alone.
                unsafe { self.data.slice(start, width).copy_from_slice(from) };
            }
        });
    }
}
