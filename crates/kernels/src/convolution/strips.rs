//! The forward pass of a first layer: a kernel of several columns over few input channels.
//!
//! To gather its pixels costs more than to multiply them. Here a unit of work copies the input rows that it reads, with the
//! zeros around them, once: a strip. The terms of an output pixel are then one run of kw c neighbours in the strip for each
//! row of the kernel, and those of the next pixel lie s c further, so that the register tile reads them in place. Terms are
//! summed in the order of `product`, so the bits are the same.
//!
//! Shapes: as in [`super`], with one group.

use super::{Conv2d, Finish};
use crate::matrix::{Block, DEPTH, Operand};
use crate::team::Parts;
use crate::{Team, scratch};

/// Most terms of a run.
const LONGEST: usize = 32;
/// Output pixels of a unit of work, about: their strip of three channels stays in the first-level cache.
const PIXELS: usize = 512;

/// Whether the forward pass goes this way.
pub(super) fn applies(shape: &Conv2d) -> bool {
    let run = shape.kernel[1] * shape.c_in;
    shape.groups == 1
        && shape.kernel[1] > 1
        && shape.dilation[1] == 1
        && run <= LONGEST
        && shape.kernel[0] * run <= DEPTH
}

/// With weights from `product::prepare`.
pub(super) fn forward(team: &Team, shape: &Conv2d, x: &[f32], panels: &[f32], finish: Finish<'_>, y: &mut [f32]) {
    let (isa, [oh, ow], y) = (team.isa(), shape.output(), Parts::new(y));
    let Conv2d { n, c_in: c, c_out: o, kernel, stride, dilation, .. } = *shape;
    let (run, pitch) = (kernel[1] * c, ((ow - 1) * stride[1] + kernel[1]) * c);
    let k = kernel[0] * run;
    let height = (PIXELS / ow).clamp(1, oh);
    let units = oh.div_ceil(height);
    team.for_each(n * units, |unit| {
        let (image, first) = (unit / units, unit % units * height);
        let rows = height.min(oh - first);
        let lines = (rows - 1) * stride[0] + (kernel[0] - 1) * dilation[0] + 1;
        scratch::with(lines * pitch, |strip| {
            for (line, out) in strip.chunks_exact_mut(pitch).enumerate() {
                copy(shape, x, image, (first * stride[0] + line).checked_sub(shape.padding[0]), out);
            }
            for row in 0..rows {
                let left = Operand { row: stride[1] * c, ..Operand::row_major(&strip[row * stride[0] * pitch..], 1) };
                let runs = Some([run, dilation[0] * pitch]);
                let block = Block { left, runs, rows: ow, depth: [0, k], columns: [0, o] };
                let at = (image * oh + first + row) * ow * o;
                // The row's end lies inside the tensor.
                let _ = y.pointer(at + ow * o);
                let out = y.pointer(at);
                // SAFETY: the row's pixels lie between the two places just checked, and no other unit has this row;
                // `apply` comes after the product has returned.
                unsafe {
                    block.multiply(isa, panels, k, finish.bias, out, o);
                    finish.apply(isa, out, at, o, ow, [0, o]);
                }
            }
        });
    });
}

/// Copies row `line` of an image to `out`, behind the columns of zeros on its left; zeros where there is no such row, and
/// beyond its end.
fn copy(shape: &Conv2d, x: &[f32], image: usize, line: Option<usize>, out: &mut [f32]) {
    let (left, length) = ((shape.padding[1] * shape.c_in).min(out.len()), shape.w * shape.c_in);
    match line.filter(|&line| line < shape.h) {
        Some(line) => {
            let (zeros, rest) = out.split_at_mut(left);
            let (copied, beyond) = rest.split_at_mut(length.min(rest.len()));
            zeros.fill(0.0);
            copied.copy_from_slice(&x[(image * shape.h + line) * length..][..copied.len()]);
            beyond.fill(0.0);
        }
        None => out.fill(0.0),
    }
}
