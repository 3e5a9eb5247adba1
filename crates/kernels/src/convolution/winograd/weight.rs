//! The gradient of the weights: `dU[xi] = V[xi]^T Z[xi]`, summed over all tiles, then `dw = G^T dU G`.
//!
//! Tiles go in *rounds* whose V and Z stay in the last-level cache: all threads transform the round's tiles, then all
//! take units of the product. A unit is a place xi when there are several rounds (dU lies in memory between them), or a
//! square of channels with all its 36 places when one round holds all tiles: then the unit transforms its part of dU
//! back at once, and dU is never stored.

use super::transform::{FromPixels, Planes, ToWeights};
use super::{Conv2d, PLACES, Tiling};
use crate::matrix::{Block, DEPTH, Operand, panel_width, panels_length};
use crate::simd::dispatch;
use crate::team::Parts;
use crate::{Isa, Team, scratch};

/// Bytes of V and Z of a round.
const ROUND_BYTES: usize = 8 << 20;
/// One cache line between planes, so that the 36 do not fall into the same sets.
const SPARE: usize = 16;
/// Tiles in a unit of the transforms.
const TRANSFORM_TILES: usize = 8;
/// Input channels of a unit that owns all 36 places: 36 x 64 x 16 floats are 144 KiB.
const SQUARE_INPUTS: usize = 64;

pub(in crate::convolution) fn backward_weight(team: &Team, shape: &Conv2d, x: &[f32], dy: &[f32], dweight: &mut [f32]) {
    let tiling = Tiling::new(shape);
    let (c, o, tiles) = (shape.c_in, shape.c_out, tiling.tiles());
    let (rounds, rows) = rounds(tiles, c + o);
    let (v_plane, z_plane) = (rows * c + SPARE, panels_length(team.isa(), rows, o) + SPARE);
    scratch::with(PLACES * (v_plane + z_plane), |buffer| {
        let (v, z) = buffer.split_at_mut(PLACES * v_plane);
        let mut round = Round { tiling, c, o, x, dy, v, v_plane, z, z_plane, rows };
        if rounds == 1 {
            round.transform(team, [0, tiles]);
            round.multiply_squares(team, dweight);
            return;
        }
        let du_plane = c * o + SPARE;
        scratch::with(PLACES * du_plane, |du| {
            for start in (0..tiles).step_by(rows) {
                round.rows = rows.min(tiles - start);
                round.transform(team, [start, start + round.rows]);
                round.multiply_places(team, start == 0, du, du_plane);
            }
            let from = Planes::new(du, du_plane, c, o);
            let out = Parts::new(dweight);
            team.for_each(c, |input| {
                let (inputs, outputs) = ([input, input + 1], [0, o]);
                let from = from.skip(input * o);
                // SAFETY: nobody writes dU any more; each input channel runs once, and has its own part of the weights.
                dispatch(team.isa(), unsafe { ToWeights::new(inputs, outputs, from, out, [c, o]) });
            });
        });
    });
}

/// The number of rounds, and the tiles of one; `channels` of input and output together.
fn rounds(tiles: usize, channels: usize) -> (usize, usize) {
    let fitting = (ROUND_BYTES / (4 * PLACES * channels)).max(DEPTH);
    let rounds = tiles.div_ceil(fitting).max(1);
    (rounds, tiles.div_ceil(rounds))
}

/// Floats of the outer and the inner buffer of [`backward_weight`].
pub(in crate::convolution) fn weight_working_memory(isa: Isa, shape: &Conv2d) -> [usize; 2] {
    let (c, o) = (shape.c_in, shape.c_out);
    let (rounds, rows) = rounds(Tiling::new(shape).tiles(), c + o);
    let outer = PLACES * (rows * c + panels_length(isa, rows, o) + 2 * SPARE);
    [outer, if rounds > 1 { PLACES * (c * o + SPARE) } else { 0 }]
}

/// The tiles that are in the transform domain together.
struct Round<'a> {
    tiling: Tiling,
    c: usize,
    o: usize,
    x: &'a [f32],
    dy: &'a [f32],
    /// `[36][tile][c]`
    v: &'a mut [f32],
    v_plane: usize,
    /// Panels `[36][o / W][tile][W]`
    z: &'a mut [f32],
    z_plane: usize,
    /// Tiles of this round.
    rows: usize,
}

impl Round<'_> {
    fn transform(&mut self, team: &Team, tiles: [usize; 2]) {
        let (isa, width) = (team.isa(), panel_width(team.isa()));
        if !self.o.is_multiple_of(width) {
            // The last panel is only partly written below.
            self.z.fill(0.0);
        }
        let v = Planes::new(self.v, self.v_plane, self.rows, self.c);
        let z = Planes::new(self.z, self.z_plane, self.rows, width);
        let tiling = &self.tiling;
        team.for_each(self.rows.div_ceil(TRANSFORM_TILES), |unit| {
            let row = unit * TRANSFORM_TILES;
            let range = [tiles[0] + row, tiles[1].min(tiles[0] + row + TRANSFORM_TILES)];
            // SAFETY: each unit runs once, and its tiles have rows of V of their own.
            dispatch(isa, unsafe { FromPixels::new(tiling, range, row, self.x, self.c, false, v) });
            // SAFETY: each unit runs once, and its tiles have rows of Z of their own.
            dispatch(isa, unsafe { FromPixels::new(tiling, range, row, self.dy, self.o, true, z) });
        });
    }

    /// Adds `V[place]^T Z[place]`, channels `inputs` x `outputs`, to `du`, or overwrites it when `fresh`.
    fn multiply(
        &self,
        team: &Team,
        place: usize,
        inputs: [usize; 2],
        outputs: [usize; 2],
        fresh: bool,
        du: &mut [f32],
    ) {
        let (isa, columns) = (team.isa(), outputs[1] - outputs[0]);
        assert!(du.len() >= (inputs[1] - inputs[0]) * columns, "du is too short");
        let v = &self.v[place * self.v_plane..(place + 1) * self.v_plane];
        let z = &self.z[place * self.z_plane + outputs[0] * self.rows..(place + 1) * self.z_plane];
        let left = Operand::transposed(v, self.c).skip(inputs[0], 0);
        let (rows, depth) = (inputs[1] - inputs[0], [0, self.rows]);
        let block = Block { left, runs: None, rows, depth, columns: [0, columns] };
        // SAFETY: `du`, borrowed for this call alone, holds inputs x columns elements by the assertion, all initialised.
        unsafe {
            match fresh {
                true => block.multiply(isa, z, self.rows, None, du.as_mut_ptr(), columns),
                false => block.add(isa, z, self.rows, du.as_mut_ptr(), columns),
            }
        }
    }

    fn multiply_places(&self, team: &Team, fresh: bool, du: &mut [f32], du_plane: usize) {
        team.for_each_chunk(du, du_plane, |place, du| {
            self.multiply(team, place, [0, self.c], [0, self.o], fresh, du);
        });
    }

    fn multiply_squares(&self, team: &Team, dweight: &mut [f32]) {
        let width = panel_width(team.isa());
        let (across, down) = (self.o.div_ceil(width), self.c.div_ceil(SQUARE_INPUTS));
        let out = Parts::new(dweight);
        team.for_each(across * down, |unit| {
            let (first, panel) = (unit / across * SQUARE_INPUTS, unit % across * width);
            let inputs = [first, self.c.min(first + SQUARE_INPUTS)];
            let outputs = [panel, self.o.min(panel + width)];
            let (rows, columns) = (inputs[1] - inputs[0], outputs[1] - outputs[0]);
            let plane = rows * columns + SPARE;
            scratch::with(PLACES * plane, |du| {
                for (place, du) in du.chunks_exact_mut(plane).enumerate() {
                    self.multiply(team, place, inputs, outputs, true, du);
                }
                let from = Planes::new(du, plane, rows, columns);
                // SAFETY: the buffer is this call's own; each unit runs once, and has its own square of channels.
                dispatch(team.isa(), unsafe { ToWeights::new(inputs, outputs, from, out, [self.c, self.o]) });
            });
        });
    }
}
