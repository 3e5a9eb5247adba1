//! The gradient of the weights: gathered pixels, transposed, times the output's gradient.
//!
//! The sum runs over all pixels of all images, in blocks of [`DEPTH`]. Work is cut by columns (kernel positions and
//! input channels) and by output channels first. Where that gives too few units, or the sum is long, the pixels are cut
//! too, into fixed *chunks* whose sums are added in pairs at the end: rounding stays small however many pixels there
//! are. Shapes: r pixels, k = kh kw c_in / groups, o = c_out / groups.

use super::Conv2d;
use super::gather::Gather;
use crate::matrix::{BLOCK_ROWS, Block, DEPTH, Operand, fill_panel, panel_width, panels_length};
use crate::team::Parts;
use crate::{Team, scratch};

/// Units of work wanted at least, so that a few threads end at about the same time.
const UNITS: usize = 16;
/// Output channels of a unit, at least: fewer would gather the same pixels too often. A multiple of every panel width.
const LEAST_OUTPUTS: usize = 128;
/// Most blocks of pixels summed one after the other: 64 * 256 pixels.
const CHUNK_BLOCKS: usize = 64;

pub(super) fn backward(team: &Team, shape: &Conv2d, x: &[f32], dy: &[f32], dweight: &mut [f32]) {
    let o = shape.group_outputs();
    for group in 0..shape.groups {
        let gather = Gather::input(shape, x, group);
        let gradient = Operand::row_major(dy, shape.c_out).skip(0, group * o);
        let (k, first) = (gather.columns(), group * o);
        let cut = Cut::new(gather.rows(), k, o);
        let sum = |unit: usize, out: &Parts<'_, f32>, first: usize, pitch: usize| {
            let [chunk, block, outputs] = cut.unit(unit);
            let unit = Unit { gather: &gather, gradient, pixels: cut.pixels(chunk), columns: cut.columns(block, k), o };
            // SAFETY: each unit runs once, and no two have a chunk, a block of columns and a group of outputs in
            // common; the first element is the chunk's, or the group's.
            unsafe { unit.sum(team, cut.outputs(outputs, o), out, chunk * k * o + first, pitch) };
        };
        if cut.chunks == 1 {
            let out = Parts::new(dweight);
            team.for_each(cut.units(), |unit| sum(unit, &out, first, shape.c_out));
            continue;
        }
        scratch::with(cut.chunks * k * o, |partial| {
            let out = Parts::new(partial);
            team.for_each(cut.units(), |unit| sum(unit, &out, 0, o));
            add_chunks(team, partial, cut.chunks);
            for (row, sum) in partial[..k * o].chunks_exact(o).enumerate() {
                dweight[row * shape.c_out + first..][..o].copy_from_slice(sum);
            }
        });
    }
}

/// Floats of the chunks' sums.
pub(super) fn working_memory(shape: &Conv2d) -> usize {
    let ([oh, ow], k, o) = (shape.output(), shape.positions() * shape.group_inputs(), shape.group_outputs());
    match Cut::new(shape.n * oh * ow, k, o).chunks {
        1 => 0,
        chunks => chunks * k * o,
    }
}

/// How the work is cut: chunks of pixels, blocks of columns, groups of output channels.
struct Cut {
    rows: usize,
    /// Pixels of a chunk, and how many chunks there are; likewise below.
    chunk: usize,
    chunks: usize,
    block: usize,
    blocks: usize,
    group: usize,
    groups: usize,
}

impl Cut {
    fn new(rows: usize, k: usize, o: usize) -> Cut {
        let block = k.div_ceil(k.div_ceil(BLOCK_ROWS));
        let blocks = k.div_ceil(block);
        let wanted = UNITS.div_ceil(blocks).min(o.div_ceil(LEAST_OUTPUTS));
        let group = o.div_ceil(wanted).next_multiple_of(LEAST_OUTPUTS);
        let groups = o.div_ceil(group);
        let pixel_blocks = rows.div_ceil(DEPTH).max(1);
        let wanted = UNITS.div_ceil(blocks * groups).max(pixel_blocks.div_ceil(CHUNK_BLOCKS)).min(pixel_blocks);
        let chunk = pixel_blocks.div_ceil(wanted) * DEPTH;
        Cut { rows, chunk, chunks: rows.div_ceil(chunk).max(1), block, blocks, group, groups }
    }

    fn units(&self) -> usize {
        self.chunks * self.blocks * self.groups
    }

    /// The chunk, the block of columns and the group of outputs of a unit.
    fn unit(&self, unit: usize) -> [usize; 3] {
        [unit / (self.blocks * self.groups), unit / self.groups % self.blocks, unit % self.groups]
    }

    /// The pixels `[first, end]` of a chunk.
    fn pixels(&self, chunk: usize) -> [usize; 2] {
        [chunk * self.chunk, self.rows.min((chunk + 1) * self.chunk)]
    }

    fn columns(&self, block: usize, k: usize) -> [usize; 2] {
        [block * self.block, k.min((block + 1) * self.block)]
    }

    fn outputs(&self, group: usize, o: usize) -> [usize; 2] {
        [group * self.group, o.min((group + 1) * self.group)]
    }
}

/// What one unit sums: `out[column, o]` = the sum over pixels of gathered\[pixel, column\] * gradient\[pixel, o\].
struct Unit<'a> {
    gather: &'a Gather<'a>,
    gradient: Operand<'a>,
    pixels: [usize; 2],
    columns: [usize; 2],
    /// All output channels.
    o: usize,
}

impl Unit<'_> {
    /// Overwrites the unit's elements, (column, o) at `first + column * pitch + o` of `out`.
    ///
    /// # Safety
    /// Nobody else uses these elements until it returns.
    unsafe fn sum(&self, team: &Team, outputs: [usize; 2], out: &Parts<'_, f32>, first: usize, pitch: usize) {
        let (isa, width, rows) = (team.isa(), panel_width(team.isa()), self.columns[1] - self.columns[0]);
        let count = outputs[1] - outputs[0];
        assert!(outputs[1] <= self.o && rows > 0, "a unit lies outside the weights");
        // The end of the last row lies inside the slice.
        let _ = out.pointer(first + (self.columns[1] - 1) * pitch + outputs[1]);
        let out = out.pointer(first + self.columns[0] * pitch + outputs[0]);
        scratch::with(panels_length(isa, DEPTH, count) + DEPTH * rows, |buffer| {
            let (panels, gathered) = buffer.split_at_mut(panels_length(isa, DEPTH, count));
            for start in (self.pixels[0]..self.pixels[1].max(self.pixels[0] + 1)).step_by(DEPTH) {
                let end = self.pixels[1].min(start + DEPTH);
                let depth = end - start;
                let panels = &mut panels[..panels_length(isa, depth, count)];
                for (panel, out) in panels.chunks_mut((depth * width).max(1)).enumerate() {
                    let column = outputs[0] + panel * width;
                    fill_panel(out, width, self.gradient.skip(start, column), width.min(outputs[1] - column));
                }
                let left = match self.gather.source_rows() {
                    Some(source) => source.skip(start, self.columns[0]).transpose(),
                    None => {
                        self.gather.fill([start, end], self.columns, gathered);
                        Operand::transposed(gathered, rows)
                    }
                };
                let block = Block { left, runs: None, rows, depth: [0, depth], columns: [0, count] };
                // SAFETY: the block is the unit's columns x outputs, whose first and last element were checked above
                // and which are the caller's alone; `add` comes after the first stretch overwrote them.
                unsafe {
                    match start == self.pixels[0] {
                        true => block.multiply(isa, panels, depth, None, out, pitch),
                        false => block.add(isa, panels, depth, out, pitch),
                    }
                }
            }
        });
    }
}

/// Adds the chunks' sums in pairs; the first chunk ends as the sum of all.
fn add_chunks(team: &Team, partial: &mut [f32], chunks: usize) {
    let size = partial.len() / chunks;
    let mut count = chunks;
    while count > 1 {
        let half = count.div_ceil(2);
        let (kept, added) = partial.split_at_mut(half * size);
        let length = (count - half) * size;
        crate::elementwise::add_in_place(team, &added[..length], &mut kept[..length]);
        count = half;
    }
}
