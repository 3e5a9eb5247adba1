//! The forward pass and the input gradient: one convolution of stride 1, by one of two plans.
//!
//! *By tiles*: U is formed once; a unit of work takes a block of tiles from pixels through all 36 products to pixels,
//! so that its V and M stay in the second-level cache. *By outputs*, for few tiles and many channels, where U would be
//! larger than any cache: V is formed once for all tiles; a unit takes one panel of output channels, forms its part of
//! U a stretch of input channels at a time, multiplies, and transforms back: U is never stored.
//!
//! Both sum an element's terms in the same stretches, so they give the same bits.

use super::super::Finish;
use super::transform::{FromPixels, FromWeights, Planes, ToPixels};
use super::{Conv2d, PLACES, Tiling};
use crate::matrix::{Block, Operand, panel_width, panels_length};
use crate::simd::dispatch;
use crate::team::Parts;
use crate::{Isa, Team, scratch};

/// Input channels summed at a stretch; 36 x 128 x 16 floats of U are 288 KiB.
const STRETCH: usize = 128;
/// One cache line between planes, so that the 36 do not fall into the same sets.
const SPARE: usize = 16;
/// Bytes of V and M of a block of tiles.
const BLOCK_BYTES: usize = 256 * 1024;
/// Most tiles and fewest weights for the plan by outputs.
const FEW_TILES: usize = 128;
const MANY_WEIGHTS: usize = 256 * 256;

pub(in crate::convolution) fn forward(
    team: &Team,
    shape: &Conv2d,
    x: &[f32],
    weight: &[f32],
    finish: Finish<'_>,
    y: &mut [f32],
) {
    let problem = Problem { tiling: Tiling::new(shape), c: shape.c_in, o: shape.c_out, weight, x, finish };
    problem.run(team, y);
}

/// The convolution of dy with the weights turned around and their channels exchanged.
pub(in crate::convolution) fn backward_input(team: &Team, shape: &Conv2d, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    let (c, o) = (shape.c_out, shape.c_in);
    scratch::with(9 * c * o, |turned| {
        turn(team, weight, [o, c], turned);
        let problem =
            Problem { tiling: Tiling::new(shape).reversed(), c, o, weight: turned, x: dy, finish: Finish::default() };
        problem.run(team, dx);
    });
}

/// Floats of the outer and the inner buffer of [`forward`], or of [`backward_input`].
pub(in crate::convolution) fn working_memory(isa: Isa, shape: &Conv2d, backward: bool) -> [usize; 2] {
    let tiling = Tiling::new(shape);
    let transformed = |tiling: Tiling, c: usize, o: usize| match by_outputs(&tiling, c, o) {
        true => PLACES * (tiling.tiles() * c + SPARE),
        false => PLACES * (panels_length(isa, c, o) + SPARE),
    };
    let (c, o) = (shape.c_in, shape.c_out);
    if backward { [9 * c * o, transformed(tiling.reversed(), o, c)] } else { [transformed(tiling, c, o), 0] }
}

/// Whether the plan by outputs is taken.
fn by_outputs(tiling: &Tiling, c: usize, o: usize) -> bool {
    tiling.tiles() <= FEW_TILES && c * o >= MANY_WEIGHTS
}

/// `turned[8 - position]` = the transpose of `weight[position]`, a c x o matrix.
fn turn(team: &Team, weight: &[f32], [c, o]: [usize; 2], turned: &mut [f32]) {
    /// Rows and columns of a square that is transposed at once.
    const SQUARE: usize = 16;
    let bands = o / SQUARE;
    team.for_each_chunk(turned, SQUARE * c, |band, out| {
        let (position, first) = (8 - band / bands, band % bands * SQUARE);
        let from = &weight[position * c * o..(position + 1) * c * o];
        for start in (0..c).step_by(SQUARE) {
            for row in 0..SQUARE {
                for column in start..start + SQUARE {
                    out[row * c + column] = from[column * o + first + row];
                }
            }
        }
    });
}

/// A convolution from `c` to `o` channels with `weight` `[9, c, o]`.
struct Problem<'a> {
    tiling: Tiling,
    c: usize,
    o: usize,
    weight: &'a [f32],
    x: &'a [f32],
    finish: Finish<'a>,
}

impl Problem<'_> {
    fn run(&self, team: &Team, y: &mut [f32]) {
        let y = Parts::new(y);
        if by_outputs(&self.tiling, self.c, self.o) {
            self.by_outputs(team, &y);
        } else {
            self.by_tiles(team, &y);
        }
    }

    fn by_tiles(&self, team: &Team, y: &Parts<'_, f32>) {
        let (isa, width) = (team.isa(), panel_width(team.isa()));
        let (c, o, tiles) = (self.c, self.o, self.tiling.tiles());
        let plane = panels_length(isa, c, o) + SPARE;
        let block = (BLOCK_BYTES / (4 * PLACES * (c + o))).max(1).next_multiple_of(if width == 32 { 14 } else { 6 });
        scratch::with(PLACES * plane, |u| {
            let planes = Planes::new(u, plane, c, width);
            team.for_each(o.div_ceil(width), |panel| {
                let outputs = [panel * width, (panel + 1) * width];
                let out = planes.skip(panel * c * width);
                // SAFETY: each panel runs once, and its part of every plane is its own.
                dispatch(isa, unsafe { FromWeights::new(self.weight, [c, o], [0, c], outputs, out) });
            });
            let u = &*u;
            team.for_each(tiles.div_ceil(block), |unit| {
                let range = [unit * block, tiles.min((unit + 1) * block)];
                // SAFETY: each unit runs once, and has its own tiles.
                unsafe { self.tile_block(team, u, plane, range, y) };
            });
        });
    }

    /// One block of tiles, from pixels to pixels.
    ///
    /// # Safety
    /// Nobody else uses these tiles' pixels of `y` until it returns.
    unsafe fn tile_block(&self, team: &Team, u: &[f32], u_plane: usize, tiles: [usize; 2], y: &Parts<'_, f32>) {
        let (isa, c, o, rows) = (team.isa(), self.c, self.o, tiles[1] - tiles[0]);
        let (v_plane, m_plane) = (rows * c + SPARE, rows * o + SPARE);
        scratch::with(PLACES * (v_plane + m_plane), |buffer| {
            let (v, m) = buffer.split_at_mut(PLACES * v_plane);
            let out = Planes::new(v, v_plane, rows, c);
            // SAFETY: the buffer is this call's own.
            unsafe { self.transform_input(team, tiles, 0, out) };
            for place in 0..PLACES {
                let (u, m) = (&u[place * u_plane..(place + 1) * u_plane], &mut m[place * m_plane..][..m_plane]);
                let left = Operand::row_major(&v[place * v_plane..(place + 1) * v_plane], c);
                for start in (0..c).step_by(STRETCH) {
                    let depth = [start, c.min(start + STRETCH)];
                    let block = Block { left: left.skip(0, start), runs: None, rows, depth, columns: [0, o] };
                    // SAFETY: `m`, a slice of this call's own buffer, holds rows x o elements and SPARE.
                    unsafe { block.multiply(isa, u, c, None, m.as_mut_ptr(), o) };
                }
            }
            let from = Planes::new(m, m_plane, rows, o);
            // SAFETY: the buffer is this call's own, and so are the tiles' pixels by its contract.
            unsafe { self.transform_output(team, tiles, [0, o], from, y) };
        });
    }

    fn by_outputs(&self, team: &Team, y: &Parts<'_, f32>) {
        let (width, tiles) = (panel_width(team.isa()), self.tiling.tiles());
        let v_plane = tiles * self.c + SPARE;
        scratch::with(PLACES * v_plane, |v| {
            let out = Planes::new(v, v_plane, tiles, self.c);
            // SAFETY: each tile runs once, and writes the row of its number.
            team.for_each(tiles, |tile| unsafe { self.transform_input(team, [tile, tile + 1], tile, out) });
            let v = &*v;
            // SAFETY: each panel runs once, and has its own output channels.
            team.for_each(self.o.div_ceil(width), |panel| unsafe { self.output_panel(team, v, v_plane, panel, y) });
        });
    }

    /// One panel of output channels of all tiles.
    ///
    /// # Safety
    /// Nobody else uses these channels of `y` until it returns.
    unsafe fn output_panel(&self, team: &Team, v: &[f32], v_plane: usize, panel: usize, y: &Parts<'_, f32>) {
        let (isa, width, rows) = (team.isa(), panel_width(team.isa()), self.tiling.tiles());
        let (u_plane, m_plane) = (STRETCH * width + SPARE, rows * width + SPARE);
        let outputs = [panel * width, (panel + 1) * width];
        scratch::with(PLACES * (u_plane + m_plane), |buffer| {
            let (u, m) = buffer.split_at_mut(PLACES * u_plane);
            for start in (0..self.c).step_by(STRETCH) {
                let inputs = [start, self.c.min(start + STRETCH)];
                let out = Planes::new(u, u_plane, STRETCH, width);
                // SAFETY: the buffer is this call's own.
                dispatch(isa, unsafe { FromWeights::new(self.weight, [self.c, self.o], inputs, outputs, out) });
                for place in 0..PLACES {
                    let left = Operand::row_major(&v[place * v_plane..(place + 1) * v_plane], self.c).skip(0, start);
                    let (u, m) = (&u[place * u_plane..(place + 1) * u_plane], &mut m[place * m_plane..][..m_plane]);
                    let depth = [0, inputs[1] - inputs[0]];
                    let block = Block { left, runs: None, rows, depth, columns: [0, width] };
                    // SAFETY: `m`, a slice of this call's own buffer, holds rows x width elements and SPARE; `add`
                    // comes after the first stretch overwrote them.
                    unsafe {
                        match start {
                            0 => block.multiply(isa, u, depth[1], None, m.as_mut_ptr(), width),
                            _ => block.add(isa, u, depth[1], m.as_mut_ptr(), width),
                        }
                    }
                }
            }
            let from = Planes::new(m, m_plane, rows, width);
            // SAFETY: the buffer is this call's own, and so are the channels by its contract.
            unsafe { self.transform_output(team, [0, rows], [outputs[0], outputs[1].min(self.o)], from, y) };
        });
    }

    /// # Safety
    /// As [`FromPixels::new`], until it returns.
    unsafe fn transform_input(&self, team: &Team, tiles: [usize; 2], row: usize, out: Planes<'_>) {
        // SAFETY: the rows of `out` are the caller's alone, and the kernel has run when this returns.
        dispatch(team.isa(), unsafe { FromPixels::new(&self.tiling, tiles, row, self.x, self.c, false, out) });
    }

    /// # Safety
    /// As [`ToPixels::new`], until it returns.
    unsafe fn transform_output(
        &self,
        team: &Team,
        tiles: [usize; 2],
        channels: [usize; 2],
        from: Planes<'_>,
        y: &Parts<'_, f32>,
    ) {
        // SAFETY: nobody writes `from` or uses the pixels but the caller, and the kernel has run when this returns.
        let kernel = unsafe { ToPixels::new(&self.tiling, tiles, channels, from, self.finish, *y, self.o) };
        dispatch(team.isa(), kernel);
    }
}
