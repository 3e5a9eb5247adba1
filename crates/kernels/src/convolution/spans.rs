//! A row of a depthwise convolution whose kernel has 3 or 5 neighbouring columns, 1 or 2 pixels apart: the usual ones.
//!
//! Neighbouring pixels of the result read almost the same pixels of the source. A *span* of up to seven is summed in
//! registers together: of each row of the kernel its weights are loaded once, and each pixel of the source once for all
//! that read it. Pixels of the source beyond its edge are left out. Every sum takes its positions in their order, as in
//! `depthwise`.

// Operations on arrays of registers: plain index loops say it best.
#![allow(clippy::needless_range_loop)]

use crate::activation::InRegister;
use crate::simd::{Simd, unrolled};

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

/// A [`Row`] by a kernel of K neighbouring columns and STEP.
struct Spans<'a, const K: usize, const STEP: usize>(Row<'a>);

impl Row<'_> {
    /// Whether there is a form for a kernel of so many neighbouring columns and this step.
    pub(super) fn takes(columns: usize, step: usize) -> bool {
        matches!((columns, step), (3 | 5, 1 | 2))
    }

    /// Computes the row for a kernel of `columns` and `step`, which [`Row::takes`].
    ///
    /// # Safety
    /// The instruction set of `S` is available. The rows of `lines` are valid for `source` pixels of `c` channels and their
    /// weights for `columns`, `to` is for `result` pixels, with no other user, a bias has `c` channels, and these are a vector
    /// or more.
    #[inline(always)]
    pub(super) unsafe fn compute<S: Simd>(self, columns: usize, step: usize) {
        // SAFETY: by this function's own contract.
        unsafe {
            match (columns, step) {
                (3, 1) => Spans::<3, 1>(self).compute::<S>(),
                (3, 2) => Spans::<3, 2>(self).compute::<S>(),
                (5, 1) => Spans::<5, 1>(self).compute::<S>(),
                (5, 2) => Spans::<5, 2>(self).compute::<S>(),
                _ => unreachable!("a form of its own for each kernel"),
            }
        }
    }
}

impl<const K: usize, const STEP: usize> Spans<'_, K, STEP> {
    /// Computes all pixels of the row.
    ///
    /// # Safety
    /// As [`Row::compute`].
    #[inline(always)]
    unsafe fn compute<S: Simd>(self) {
        let mut first = 0;
        while first < self.0.result {
            // SAFETY: by this function's own contract; the pixels are of the row.
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

    /// Computes the T pixels from `first` on, and gives T.
    ///
    /// # Safety
    /// As [`Row::compute`], and they are pixels of the row.
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
                unrolled!(u in (T - 1) * STEP + K => {
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
            unrolled!(t in T => {
                let value = match curve {
                    Some(curve) => curve.value::<S>(sums[t]),
                    None => sums[t],
                };
                S::store(to.add((first + t) * c + channel), value);
            });
        }
    }
}
