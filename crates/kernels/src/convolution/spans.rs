//! A row of a depthwise convolution whose kernel has 3 or 5 neighbouring columns, 1 or 2 pixels apart: the usual ones.
//!
//! Neighbouring pixels of the result read almost the same pixels of the source. A *span* of up to seven is summed in
//! registers together: of each row of the kernel its weights are loaded once, and each pixel of the source once for all
//! that read it. Pixels of the source beyond its edge are left out. Every sum takes its positions in their order, as in
//! `depthwise`.

// Operations on arrays of registers: plain index loops say it best.
#![allow(clippy::needless_range_loop)]

use crate::Isa;
use crate::activation::InRegister;
use crate::simd::{Kernel, Simd, dispatch};

/// Writes `body` out for every step u < N: sums that a loop counter indexes would lie in memory, not in registers.
macro_rules! each_step {
    ($u:ident in $count:expr => $body:expr) => {
        each_step!(@ $u, $count, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
    };
    (@ $u:ident, $count:expr, $body:expr, $($step:literal)*) => {
        $(if $step < $count {
            let $u: usize = $step;
            $body
        })*
    };
}

/// A row of the source and the row of the kernel that lies on it, both from their first elements.
pub(super) type Line = [*const f32; 2];

/// One row of the result.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub c: usize,
    /// Pixels of a row of the source, and of the result.
    pub source: usize,
    pub result: usize,
    /// What the row reads.
    pub lines: &'a [Line],
    /// Columns of zeros before the source.
    pub padding: usize,
    pub bias: Option<&'a [f32]>,
    pub curve: Option<InRegister>,
    /// The first pixel of the result.
    pub to: *mut f32,
}

/// The kernel of a [`Row`] of K neighbouring columns and STEP.
struct Spans<'a, const K: usize, const STEP: usize>(Row<'a>);

impl<'a> Row<'a> {
    /// Whether there is a form for a kernel of so many neighbouring columns and this step.
    pub(super) fn takes(columns: usize, step: usize) -> bool {
        matches!((columns, step), (3 | 5, 1 | 2))
    }

    /// Computes the row for a kernel of `columns` and `step`, which [`Row::takes`].
    ///
    /// # Safety
    /// The rows of `lines` are valid for `source` pixels of `c` channels and their weights for `columns`, `to` is for
    /// `result` pixels, with no other user, a bias has `c` channels, and these are a vector of `isa` or more.
    pub(super) unsafe fn compute(self, isa: Isa, columns: usize, step: usize) {
        match (columns, step) {
            (3, 1) => dispatch(isa, Spans::<3, 1>(self)),
            (3, 2) => dispatch(isa, Spans::<3, 2>(self)),
            (5, 1) => dispatch(isa, Spans::<5, 1>(self)),
            (5, 2) => dispatch(isa, Spans::<5, 2>(self)),
            _ => unreachable!("a form of its own for each kernel"),
        }
    }
}

impl<const K: usize, const STEP: usize> Kernel for Spans<'_, K, STEP> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let mut first = 0;
        while first < self.0.result {
            // SAFETY: by the contract of `Row::compute`, which alone makes this; the pixels are of the row. The instruction
            // set is there by the contract of `run`.
            unsafe {
                // 7 sums, 5 weights and a pixel fit into 16 registers, and maps of ImageNet's sizes are multiples of 7.
                first += match self.0.result - first {
                    7.. => self.span::<S, 7>(first),
                    4.. => self.span::<S, 4>(first),
                    2.. => self.span::<S, 2>(first),
                    _ => self.span::<S, 1>(first),
                };
            }
        }
    }
}

impl<const K: usize, const STEP: usize> Spans<'_, K, STEP> {
    /// Computes the T pixels from `first` on, and gives T.
    ///
    /// # Safety
    /// As [`Row::compute`], they are pixels of the row, and the instruction set of `S` is available.
    #[inline(always)]
    unsafe fn span<S: Simd, const T: usize>(&self, first: usize) -> usize {
        let c = self.0.c;
        for channel in (0..c).step_by(S::LANES) {
            // The last vector ends with the last channel: what it shares with the one before is computed twice.
            // SAFETY: a whole vector of channels follows.
            unsafe { self.vector::<S, T>(first, channel.min(c - S::LANES)) };
        }
        T
    }

    /// The vector of channels from `channel` on.
    ///
    /// # Safety
    /// As [`Spans::span`], and they are all channels.
    #[inline(always)]
    unsafe fn vector<S: Simd, const T: usize>(&self, first: usize, channel: usize) {
        let Row { c, source, lines, padding, bias, curve, to, .. } = self.0;
        // SAFETY: the instruction set is there by the contract. From `channel` on every pixel and position has a vector;
        // only columns below `source` are read, and positions below K; the pixels of the result are below `result`.
        unsafe {
            let start = match bias {
                Some(bias) => S::load(bias.as_ptr().add(channel)),
                None => S::splat(0.0),
            };
            let mut sums = [start; T];
            for &[row, weights] in lines {
                let mut factors = [S::splat(0.0); K];
                for q in 0..K {
                    factors[q] = S::load(weights.add(q * c + channel));
                }
                each_step!(u in (T - 1) * STEP + K => {
                    // Wraps around before the first column.
                    let column = (first * STEP + u).wrapping_sub(padding);
                    if column < source {
                        let value = S::load(row.add(column * c + channel));
                        for q in 0..K {
                            if u >= q && (u - q).is_multiple_of(STEP) && (u - q) / STEP < T {
                                let t = (u - q) / STEP;
                                sums[t] = S::mul_add(value, factors[q], sums[t]);
                            }
                        }
                    }
                });
            }
            each_step!(t in T => {
                let value = match curve {
                    Some(curve) => curve.value::<S>(sums[t]),
                    None => sums[t],
                };
                S::store(to.add((first + t) * c + channel), value);
            });
        }
    }
}
