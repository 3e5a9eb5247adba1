//! Batch normalisation, ReLU and max pool in one: the map between them, the largest of many networks, is never written.
//!
//! ```text
//! y[q] = the largest relu(gamma (x[p] - mean) rstd + beta) over the pixels p of window q
//! ```
//! Kept for the way back are, for every window, the pixel that won and its x (`winners`): with g[q] = dy[q] where y[q]
//! > 0,
//!
//! ```text
//! dbeta = sum over q of g[q],   dgamma = sum over q of g[q] (winners[q] - mean) rstd
//! ```
//! are sums over windows, a quarter of the map or less, and the gradient of a pixel is that of `batch` with
//! g[p] = the sum of g[q] over the windows that p won. Statistics are those of the batch.
//!
//! Shapes: x [n, h, w, c], y, winners and indices [n, oh, ow, c]; see [`Pool2d`].

// The operands of one formula; a struct would only move the names.
#![allow(clippy::too_many_arguments)]

use super::batch::{Passed, Saved, batch_norm_statistics};
use crate::activation::Activation;
use crate::pooling::Pool2d;
use crate::simd::{Kernel, Simd, dispatch};
use crate::team::Parts;
use crate::{Team, check};

/// Normalises by the batch's own statistics and pools. Overwrites `y`, `winners`, `indices` (pixels of their image, the
/// first of equal maxima) and the statistics `mean`, `rstd`, `variance` (biased), each `[c]`. A NaN stays visible.
pub fn batch_norm_max_pool(
    team: &Team,
    shape: &Pool2d,
    eps: f64,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    y: &mut [f32],
    winners: &mut [f32],
    indices: &mut [u32],
    mean: &mut [f32],
    rstd: &mut [f32],
    variance: &mut [f32],
) {
    let (c, [oh, ow]) = (shape.c, shape.output());
    check::length("batch_norm_max_pool", "x", x.len(), shape.n * shape.h * shape.w * c);
    check::length("batch_norm_max_pool", "y", y.len(), shape.n * oh * ow * c);
    check::length("batch_norm_max_pool", "winners", winners.len(), y.len());
    check::length("batch_norm_max_pool", "indices", indices.len(), y.len());
    check::length("batch_norm_max_pool", "beta", beta.len(), c);
    let scale = batch_norm_statistics(team, c, eps, x, gamma, mean, rstd, variance);
    let (row, image) = (ow * c, shape.h * shape.w * c);
    let (winners, indices, mean) = (Parts::new(winners), Parts::new(indices), &*mean);
    team.for_each_chunk(y, row.max(1), |block, y| {
        // SAFETY: block `block` is output row `block`, which runs once and has these `row` elements of both, and no
        // other.
        let (winners, indices) = unsafe { (winners.slice(block * row, row), indices.slice(block * row, row)) };
        let x = &x[block / oh * image..][..image];
        let factors = [mean, &scale, beta];
        dispatch(team.isa(), OutputRow { shape, row: block % oh, x, factors, y, winners, indices });
    });
}

/// The gradient of [`batch_norm_max_pool`]: overwrites `dx`, `dgamma` and `dbeta`.
pub fn batch_norm_max_pool_backward(
    team: &Team,
    shape: &Pool2d,
    x: &[f32],
    winners: &[f32],
    indices: &[u32],
    dy: &[f32],
    gamma: &[f32],
    beta: &[f32],
    mean: &[f32],
    rstd: &[f32],
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    let (c, [oh, ow]) = (shape.c, shape.output());
    check::length("batch_norm_max_pool_backward", "x", x.len(), shape.n * shape.h * shape.w * c);
    check::length("batch_norm_max_pool_backward", "dx", dx.len(), x.len());
    check::length("batch_norm_max_pool_backward", "dy", dy.len(), shape.n * oh * ow * c);
    check::length("batch_norm_max_pool_backward", "indices", indices.len(), dy.len());
    let saved = Saved { c, x: winners, activation: Passed::Shift(Activation::Relu, beta), dy, gamma, mean, rstd };
    let sums = saved.parameter_gradients(team, dgamma, dbeta);
    let ([slope, offset], scale) = (saved.input_factors(&sums, x.len() / c.max(1)), saved.scale());
    let (row, windows) = (shape.w * c, oh * ow * c);
    team.for_each_chunk(dx, row.max(1), |block, dx| {
        let range = block / shape.h * windows..(block / shape.h + 1) * windows;
        let (dy, indices, x) = (&dy[range.clone()], &indices[range], &x[block * row..][..row]);
        let factors = [mean, &scale, beta, &slope, &offset];
        dispatch(team.isa(), InputRow { shape, row: block % shape.h, x, dy, indices, factors, dx });
    });
}

/// One row of windows of one image.
struct OutputRow<'a> {
    shape: &'a Pool2d,
    row: usize,
    /// The image.
    x: &'a [f32],
    /// mean, scale, shift.
    factors: [&'a [f32]; 3],
    y: &'a mut [f32],
    winners: &'a mut [f32],
    indices: &'a mut [u32],
}

impl Kernel for OutputRow<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (c, w) = (self.shape.c, self.shape.w);
        let rows = self.shape.window(0, self.row);
        assert!(self.winners.len() == self.y.len() && self.indices.len() == self.y.len(), "windows differ");
        let [mean, scale, shift] = self.factors.map(|factors| factors[..c].as_ptr());
        let (y, winners, indices) = (self.y.as_mut_ptr(), self.winners.as_mut_ptr(), self.indices.as_mut_ptr());
        for window in 0..self.y.len() / c {
            let columns = self.shape.window(1, window);
            assert!(rows.start < rows.end && columns.start < columns.end, "a window has a pixel at least");
            let x = self.x[..((rows.end - 1) * w + columns.end) * c].as_ptr();
            for at in (0..c).step_by(S::LANES) {
                let count = c - at;
                // SAFETY: the last pixel of the window is the last of `x` as sliced, the first is before it; the window
                // is one of `y`, `winners` and `indices`, of equal length; factors have c. From channel `at` on each
                // has `count` channels, and no more are read or written. A `u32` may be read and written as a float's
                // bits. The instruction set is there by the contract of `run`.
                unsafe {
                    let [mean, scale, shift] = [mean, scale, shift].map(|from| S::load_first(from.add(at), count));
                    let first = rows.start * w + columns.start;
                    let mut winner = S::load_first(x.add(first * c + at), count);
                    let mut largest = rectified::<S>(winner, [mean, scale, shift]);
                    let mut index = S::splat(f32::from_bits(first as u32));
                    for row in rows.start..rows.end {
                        for pixel in row * w + columns.start..row * w + columns.end {
                            if pixel == first {
                                continue;
                            }
                            let challenger = S::load_first(x.add(pixel * c + at), count);
                            let value = rectified::<S>(challenger, [mean, scale, shift]);
                            let number = S::splat(f32::from_bits(pixel as u32));
                            index = S::where_greater(value, largest, number, index);
                            winner = S::where_greater(value, largest, challenger, winner);
                            largest = S::where_greater(value, largest, value, largest);
                        }
                    }
                    let to = window * c + at;
                    S::store_first(y.add(to), largest, count);
                    S::store_first(winners.add(to), winner, count);
                    S::store_first(indices.add(to).cast(), index, count);
                }
            }
        }
    }
}

/// `max((x - mean) scale + shift, 0)`; a NaN stays.
///
/// # Safety
/// The instruction set of `S` is available.
#[inline(always)]
unsafe fn rectified<S: Simd>(x: S::V, [mean, scale, shift]: [S::V; 3]) -> S::V {
    // SAFETY: the operations need the instruction set only, which the caller has.
    unsafe { S::max(S::splat(0.0), S::mul_add(S::sub(x, mean), scale, shift)) }
}

/// One row of pixels of one image: each asks the windows over it whether it won.
struct InputRow<'a> {
    shape: &'a Pool2d,
    row: usize,
    /// The row of pixels.
    x: &'a [f32],
    /// The windows of the image.
    dy: &'a [f32],
    indices: &'a [u32],
    /// mean, scale, shift, slope, offset.
    factors: [&'a [f32]; 5],
    dx: &'a mut [f32],
}

impl Kernel for InputRow<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (c, [oh, ow]) = (self.shape.c, self.shape.output());
        let rows = self.shape.windows_over(0, self.row, oh);
        assert!(self.x.len() == self.dx.len() && self.dy.len() == self.indices.len(), "blocks differ");
        let windows = self.dy.len() / c;
        let factors = self.factors.map(|factors| factors[..c].as_ptr());
        let (x, dx) = (self.x.as_ptr(), self.dx.as_mut_ptr());
        let (dy, indices) = (self.dy.as_ptr(), self.indices.as_ptr());
        for column in 0..self.x.len() / c {
            let columns = self.shape.windows_over(1, column, ow);
            assert!(rows.is_empty() || columns.is_empty() || (rows.end - 1) * ow + columns.end <= windows);
            let number = (self.row * self.shape.w + column) as u32;
            for at in (0..c).step_by(S::LANES) {
                let count = c - at;
                // SAFETY: pixel `column` is one of `x` and `dx`, of equal length; the windows over it are among those
                // of `dy` and `indices`, by the assertions; factors have c. From channel `at` on each has `count`
                // channels, and no more are read or written. The instruction set is there by the contract of `run`.
                unsafe {
                    let [mean, scale, shift, slope, offset] = factors.map(|from| S::load_first(from.add(at), count));
                    let mut won = S::splat(0.0);
                    for row in rows.start..rows.end {
                        for window in row * ow + columns.start..row * ow + columns.end {
                            let from = window * c + at;
                            let index = S::load_first(indices.add(from).cast(), count);
                            let gradient = S::load_first(dy.add(from), count);
                            let number = S::splat(f32::from_bits(number));
                            won = S::add(won, S::where_same(index, number, gradient));
                        }
                    }
                    let centred = S::sub(S::load_first(x.add(column * c + at), count), mean);
                    let g = S::where_positive(S::mul_add(centred, scale, shift), won);
                    // Not fused: with one row the terms must cancel.
                    let value = S::add(S::mul(scale, g), S::mul_add(slope, centred, offset));
                    S::store_first(dx.add(column * c + at), value, count);
                }
            }
        }
    }
}
