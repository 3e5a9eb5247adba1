//! Multi-head self-attention (Vaswani et al. 2017), without its linear layers.
//!
//! ```text
//! S = Q K^T / sqrt(d),   P = softmax of every row of S,   y = P V
//! dV = P^T dy,   dP = dy V^T,   dS = P (dP - sum of P dP along the row) / sqrt(d),   dQ = dS K,   dK = dS^T Q
//! ```
//! of every image and head on its own. P is as long as tokens squared, so it is never stored: a few of its rows are there at
//! a time, in the second-level cache, and the way back makes them again.
//!
//! Shapes: n images of t tokens, a heads of d channels; x [n, t, 3, a, d] has Q, K and V of a token side by side, as timm's
//! `qkv` gives them; y [n, t, a, d].

use crate::activation::exp;
use crate::matrix::{Block, Operand, fill_panel, panel_width, panels_length};
use crate::rows::Sum;
use crate::simd::{Kernel, Simd, dispatch};
use crate::team::Parts;
use crate::{Isa, Team, check, scratch};

/// Rows of P that are there at a time, at most: two blocks of them and of 200 tokens' keys and values fit a second-level
/// cache.
const ROWS: usize = 128;
/// Rows of P begin at multiples of this: whole vectors on every instruction set.
const ALIGNED: usize = 16;

/// The sizes of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Images.
    pub n: usize,
    /// Tokens of an image.
    pub tokens: usize,
    /// Heads.
    pub heads: usize,
    /// Channels of a head.
    pub channels: usize,
}

/// Q, K or V.
#[derive(Clone, Copy)]
enum Of {
    Query = 0,
    Key = 1,
    Value = 2,
}

impl Attention {
    /// Floats of a token in x.
    fn row(&self) -> usize {
        3 * self.heads * self.channels
    }

    /// Where the first token's Q, K or V of a head of an image begins in x.
    fn place(&self, [image, head]: [usize; 2], of: Of) -> usize {
        image * self.tokens * self.row() + (of as usize * self.heads + head) * self.channels
    }

    /// Where the first token of a head of an image begins in y.
    fn output(&self, [image, head]: [usize; 2]) -> usize {
        (image * self.tokens * self.heads + head) * self.channels
    }

    /// Q, K or V of a head of an image, [t, d].
    fn operand<'a>(&self, x: &'a [f32], unit: [usize; 2], of: Of) -> Operand<'a> {
        Operand { data: &x[self.place(unit, of)..], row: self.row(), column: 1 }
    }

    /// A head of an image in y or dy, [t, d].
    fn output_operand<'a>(&self, y: &'a [f32], unit: [usize; 2]) -> Operand<'a> {
        Operand { data: &y[self.output(unit)..], row: self.heads * self.channels, column: 1 }
    }

    /// Floats from one row of P to the next.
    fn stride(&self) -> usize {
        self.tokens.next_multiple_of(ALIGNED)
    }

    /// Rows of a block, and the number of blocks.
    fn blocks(&self) -> [usize; 2] {
        let count = self.tokens.div_ceil(ROWS).max(1);
        let rows = self.tokens.div_ceil(count).max(1);
        [rows, self.tokens.div_ceil(rows)]
    }

    fn factor(&self) -> f32 {
        1.0 / (self.channels as f32).sqrt()
    }

    #[track_caller]
    fn check(&self, x: &[f32], y: &[f32]) {
        let outputs = self.n * self.tokens * self.heads * self.channels;
        check::length("attention", "x", x.len(), 3 * outputs);
        check::length("attention", "y", y.len(), outputs);
    }
}

/// `y = P V`. Overwrites `y`.
pub fn forward(team: &Team, shape: &Attention, x: &[f32], y: &mut [f32]) {
    shape.check(x, y);
    let (isa, out) = (team.isa(), Parts::new(y));
    let Attention { tokens, channels, heads, .. } = *shape;
    let ([rows, blocks], stride) = (shape.blocks(), shape.stride());
    let lengths = [panels_length(isa, channels, tokens), panels_length(isa, tokens, channels), rows * stride];
    team.for_each(shape.n * heads * blocks, |unit| {
        let (first, unit) = (unit % blocks * rows, [unit / blocks / heads, unit / blocks % heads]);
        let count = rows.min(tokens - first);
        scratch::with(lengths.iter().sum(), |buffer| {
            let [keys, values, scores] = cut(buffer, lengths);
            fill(isa, keys, shape.operand(x, unit, Of::Key).transpose(), [channels, tokens]);
            fill(isa, values, shape.operand(x, unit, Of::Value), [tokens, channels]);
            let queries = shape.operand(x, unit, Of::Query).skip(first, 0);
            // SAFETY: the scores have `rows` rows of `stride` floats, which nobody else has.
            unsafe { product(isa, queries, keys, [count, tokens, channels], false, scores.as_mut_ptr(), stride) };
            let scores = &mut scores[..count * stride];
            dispatch(isa, Softmax { tokens, stride, factor: shape.factor(), scores });
            let (probabilities, row) = (Operand { data: scores, row: stride, column: 1 }, heads * channels);
            let to = out.pointer(shape.output(unit) + first * row);
            // SAFETY: these rows of this head of this image lie inside y, and no other unit has them.
            unsafe { product(isa, probabilities, values, [count, channels, tokens], false, to, row) };
        });
    });
}

/// The gradient of [`forward`] with respect to `x`. Overwrites `dx`.
pub fn backward(team: &Team, shape: &Attention, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    shape.check(x, dy);
    check::length("attention backward", "dx", dx.len(), x.len());
    let (isa, out) = (team.isa(), Parts::new(dx));
    let Attention { tokens, channels, heads, .. } = *shape;
    let ([rows, blocks], stride, row, factor) = (shape.blocks(), shape.stride(), shape.row(), shape.factor());
    let (across, along) = (panels_length(isa, channels, tokens), panels_length(isa, tokens, channels));
    let short = panels_length(isa, rows, channels);
    let lengths = [across, across, along, short, short, rows * stride, rows * stride];
    team.for_each(shape.n * heads, |unit| {
        let unit = [unit / heads, unit % heads];
        let [query, key, value, dy] = [
            shape.operand(x, unit, Of::Query),
            shape.operand(x, unit, Of::Key),
            shape.operand(x, unit, Of::Value),
            shape.output_operand(dy, unit),
        ];
        let to = [Of::Query, Of::Key, Of::Value].map(|of| out.pointer(shape.place(unit, of)));
        scratch::with(lengths.iter().sum(), |buffer| {
            let [keys_across, values_across, keys, queries, upstream, probabilities, scores] = cut(buffer, lengths);
            fill(isa, keys_across, key.transpose(), [channels, tokens]);
            fill(isa, values_across, value.transpose(), [channels, tokens]);
            fill(isa, keys, key, [tokens, channels]);
            for block in 0..blocks {
                let first = block * rows;
                let count = rows.min(tokens - first);
                let (query, dy) = (query.skip(first, 0), dy.skip(first, 0));
                fill(isa, queries, query, [count, channels]);
                fill(isa, upstream, dy, [count, channels]);
                // SAFETY: both have `rows` rows of `stride` floats, which nobody else has.
                unsafe {
                    let size = [count, tokens, channels];
                    product(isa, query, keys_across, size, false, probabilities.as_mut_ptr(), stride);
                    product(isa, dy, values_across, size, false, scores.as_mut_ptr(), stride);
                }
                let (probabilities, scores) = (&mut probabilities[..count * stride], &mut scores[..count * stride]);
                dispatch(isa, Softmax { tokens, stride, factor, scores: probabilities });
                dispatch(isa, SoftmaxBackward { tokens, stride, factor, probabilities, scores });
                let [probabilities, scores] =
                    [&*probabilities, scores].map(|data| Operand { data, row: stride, column: 1 });
                // SAFETY: the Q of these rows, and K and V of this head of this image, lie inside dx, and no other unit has
                // them; what is added to was written by the first block.
                unsafe {
                    let dquery = to[Of::Query as usize].wrapping_add(first * row);
                    product(isa, scores, keys, [count, channels, tokens], false, dquery, row);
                    let (size, add) = ([tokens, channels, count], block > 0);
                    product(isa, scores.transpose(), queries, size, add, to[Of::Key as usize], row);
                    product(isa, probabilities.transpose(), upstream, size, add, to[Of::Value as usize], row);
                }
            }
        });
    });
}

/// Pieces of a buffer, of these lengths.
fn cut<const N: usize>(mut buffer: &mut [f32], lengths: [usize; N]) -> [&mut [f32]; N] {
    lengths.map(|length| {
        let (piece, rest) = std::mem::take(&mut buffer).split_at_mut(length);
        buffer = rest;
        piece
    })
}

/// Packs a k x n matrix into panels.
fn fill(isa: Isa, panels: &mut [f32], b: Operand<'_>, [k, n]: [usize; 2]) {
    let width = panel_width(isa);
    for (panel, out) in panels.chunks_exact_mut((k * width).max(1)).take(n.div_ceil(width)).enumerate() {
        fill_panel(out, width, b.skip(0, panel * width), width.min(n - panel * width));
    }
}

/// `out = a b`, or `out += a b`, of the size `[m, n, k]`, where b was packed by [`fill`].
///
/// # Safety
/// `out` is valid for m rows of n floats, `row` from one to the next, initialised if `add`, and nobody else uses them until
/// this returns.
unsafe fn product(isa: Isa, a: Operand<'_>, b: &[f32], [m, n, k]: [usize; 3], add: bool, out: *mut f32, row: usize) {
    let block = Block { left: a, runs: None, rows: m, depth: [0, k], columns: [0, n] };
    // SAFETY: the caller's promise.
    unsafe {
        match add {
            true => block.add(isa, b, k, out, row),
            false => block.multiply(isa, b, k, None, out, row),
        }
    }
}

/// Every row of `scores` becomes `exp(factor s)` over the sum of these; what lies behind the tokens is overwritten.
struct Softmax<'a> {
    tokens: usize,
    stride: usize,
    factor: f32,
    scores: &'a mut [f32],
}

impl Kernel for Softmax<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for row in self.scores.chunks_exact_mut(self.stride) {
            // So that whole vectors may be read: e to this power is nothing beside the largest, which is 1.
            row[self.tokens..].fill(f32::NEG_INFINITY);
            let to = row.as_mut_ptr();
            // SAFETY: a row is of whole vectors, as `ALIGNED` is a multiple of any; the buffer of ALIGNED floats holds one.
            // The instruction set is there by the contract of `run`.
            unsafe {
                let mut largest = S::splat(f32::NEG_INFINITY);
                for at in (0..self.stride).step_by(S::LANES) {
                    largest = S::max(largest, S::load(to.add(at)));
                }
                let mut lanes = [f32::NEG_INFINITY; ALIGNED];
                S::store(lanes.as_mut_ptr(), largest);
                let largest = S::splat(lanes.into_iter().fold(f32::NEG_INFINITY, f32::max));
                let mut sum = Sum::<S>::new();
                for at in (0..self.stride).step_by(S::LANES) {
                    let power = S::mul(S::sub(S::load(to.add(at)), largest), S::splat(self.factor));
                    let value = exp::<S>(power);
                    S::store(to.add(at), value);
                    sum.add(value);
                }
                let share = S::splat((1.0 / sum.total()) as f32);
                for at in (0..self.stride).step_by(S::LANES) {
                    S::store(to.add(at), S::mul(S::load(to.add(at)), share));
                }
            }
        }
    }
}

/// Every row of `scores`, which has dP, becomes `factor P (dP - sum of P dP)`.
struct SoftmaxBackward<'a> {
    tokens: usize,
    stride: usize,
    factor: f32,
    probabilities: &'a [f32],
    scores: &'a mut [f32],
}

impl Kernel for SoftmaxBackward<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let rows = self.probabilities.chunks_exact(self.stride).zip(self.scores.chunks_exact_mut(self.stride));
        for (from, row) in rows {
            row[self.tokens..].fill(0.0);
            let (from, to) = (from.as_ptr(), row.as_mut_ptr());
            // SAFETY: as in `Softmax`; both rows are of one length.
            unsafe {
                let mut sum = Sum::<S>::new();
                for at in (0..self.stride).step_by(S::LANES) {
                    sum.add_product(S::load(from.add(at)), S::load(to.add(at)));
                }
                let along = S::splat(sum.total() as f32);
                for at in (0..self.stride).step_by(S::LANES) {
                    let share = S::mul(S::load(from.add(at)), S::splat(self.factor));
                    S::store(to.add(at), S::mul(share, S::sub(S::load(to.add(at)), along)));
                }
            }
        }
    }
}
