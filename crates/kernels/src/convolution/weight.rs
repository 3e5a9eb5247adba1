//! The gradient of the weights: gathered pixels, transposed, times the output's gradient.
//!
//! The sum runs over all pixels of all images. They are cut into fixed *chunks*, each summed on its own in blocks of
//! [`DEPTH`] pixels; the chunks' sums are then added in pairs, which keeps rounding small however many pixels there are.
//! Shapes: r pixels, k = kh kw c_in / groups, o = c_out / groups.

use super::Conv2d;
use super::gather::Gather;
use crate::matrix::{BLOCK_ROWS, Block, DEPTH, Operand, fill_panel, panel_width, panels_length};
use crate::pool::Parts;
use crate::{Pool, scratch};

/// Units of work wanted at least (see [`crate::matrix`]).
const UNITS: usize = 16;
/// Most blocks of pixels summed one after the other: 64 * 256 pixels.
const CHUNK_BLOCKS: usize = 64;

pub(super) fn backward(pool: &Pool, shape: &Conv2d, x: &[f32], dy: &[f32], dweight: &mut [f32]) {
    let outputs = shape.group_outputs();
    for group in 0..shape.groups {
        let gather = Gather::input(shape, x, group);
        let gradient = Operand::row_major(dy, shape.c_out).skip(0, group * outputs);
        let k = gather.columns();
        let cut = Cut::new(gather.rows(), k);
        scratch::with(cut.chunks * k * outputs, |partial| {
            let parts = Parts::new(partial);
            pool.for_each(cut.chunks * cut.blocks, |unit| {
                let (chunk, block) = (unit / cut.blocks, unit % cut.blocks);
                let columns = [block * cut.columns, k.min((block + 1) * cut.columns)];
                let start = (chunk * k + columns[0]) * outputs;
                // SAFETY: units have different chunks or columns, so different parts.
                let out = unsafe { parts.slice(start, (columns[1] - columns[0]) * outputs) };
                sum_chunk(pool, &gather, gradient, cut.pixels(chunk), columns, outputs, out);
            });
            add_chunks(pool, partial, cut.chunks, outputs, |row| row * shape.c_out + group * outputs, dweight);
        });
    }
}

/// How the work is cut: chunks of pixels, blocks of columns.
struct Cut {
    rows: usize,
    chunk: usize,
    chunks: usize,
    columns: usize,
    blocks: usize,
}

impl Cut {
    fn new(rows: usize, k: usize) -> Cut {
        let blocks = k.div_ceil(BLOCK_ROWS);
        let columns = k.div_ceil(blocks);
        let pixel_blocks = rows.div_ceil(DEPTH).max(1);
        let chunks = UNITS.div_ceil(blocks).max(pixel_blocks.div_ceil(CHUNK_BLOCKS)).min(pixel_blocks);
        let chunk = pixel_blocks.div_ceil(chunks) * DEPTH;
        Cut { rows, chunk, chunks: rows.div_ceil(chunk).max(1), columns, blocks }
    }

    /// The pixels `[first, end]` of a chunk.
    fn pixels(&self, chunk: usize) -> [usize; 2] {
        [chunk * self.chunk, self.rows.min((chunk + 1) * self.chunk)]
    }
}

/// `out[column, o]` = the sum over the chunk's pixels of gathered\[pixel, column\] * gradient\[pixel, o\].
fn sum_chunk(
    pool: &Pool,
    gather: &Gather<'_>,
    gradient: Operand<'_>,
    pixels: [usize; 2],
    columns: [usize; 2],
    outputs: usize,
    out: &mut [f32],
) {
    let (isa, width, rows) = (pool.isa(), panel_width(pool.isa()), columns[1] - columns[0]);
    out.fill(0.0);
    scratch::with(panels_length(isa, DEPTH, outputs), |panels| {
        scratch::with(DEPTH * rows, |gathered| {
            for start in (pixels[0]..pixels[1]).step_by(DEPTH) {
                let end = pixels[1].min(start + DEPTH);
                let depth = end - start;
                for (panel, out) in panels[..panels_length(isa, depth, outputs)].chunks_mut(depth * width).enumerate() {
                    let column = panel * width;
                    fill_panel(out, width, gradient.skip(start, column), width.min(outputs - column));
                }
                gather.fill([start, end], columns, gathered);
                let left = Operand::transposed(gathered, rows);
                let block = Block { left, rows, depth: [0, depth], columns: [0, outputs] };
                // SAFETY: `out` is a slice of rows x outputs elements.
                unsafe { block.add(isa, panels, depth, out.as_mut_ptr(), outputs) };
            }
        });
    });
}

/// Adds the chunks' sums in pairs and writes row `row` of the result to `out` from `place(row)` on.
fn add_chunks(
    pool: &Pool,
    partial: &mut [f32],
    chunks: usize,
    outputs: usize,
    place: impl Fn(usize) -> usize + Sync,
    out: &mut [f32],
) {
    let size = partial.len() / chunks;
    let mut count = chunks;
    while count > 1 {
        let half = count.div_ceil(2);
        let (kept, added) = partial.split_at_mut(half * size);
        crate::elementwise::add_in_place(pool, &added[..(count - half) * size], &mut kept[..(count - half) * size]);
        count = half;
    }
    let out = Parts::new(out);
    for (row, sum) in partial[..size].chunks_exact(outputs).enumerate() {
        // SAFETY: one thread, one row after the other.
        unsafe { out.slice(place(row), outputs).copy_from_slice(sum) };
    }
}
