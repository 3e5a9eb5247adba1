//! Sums over the rows of a row-major matrix, one for each column: biases, batch norm's statistics and gradients.
//!
//! Rows are cut into blocks of about [`BLOCK`] elements. Within a block, a few vectors of columns at a time are summed
//! in f64 registers; the blocks' sums are added in order. Shapes: r rows, c columns, q sums for each column.

// Operations on arrays of registers: plain index loops say it best.
#![allow(clippy::needless_range_loop)]

use crate::simd::doubles::{Doubles, WIDTH};
use crate::simd::{Kernel, Simd, dispatch};
use crate::{Isa, Team};

/// Elements of a block: 128 KiB of f32, so that a ReLU mask and a gradient fit beside it in the second-level cache.
const BLOCK: usize = 32 * 1024;
/// Vectors of columns summed together: their sums are enough to wait for none, and fit every register file.
const GROUP: usize = 2;
/// Most vectors of f64 that hold a vector of f32.
const PARTS: usize = 4;

/// The number of rows in a block of work over `c` columns; depends on nothing else.
pub(crate) fn block_rows(c: usize) -> usize {
    (BLOCK / c.max(1)).max(1)
}

/// What is summed down the columns of N matrices of one shape, with M factors for each column.
pub(crate) trait Pair<const N: usize, const M: usize>: Copy + Sync {
    /// Two numbers for each element: the first is summed, and the product of both. The product is exact in f64, so
    /// that every instruction set gives the same bits. Implementations are `#[inline(always)]`.
    ///
    /// # Safety
    /// The instruction set of `S` is available.
    unsafe fn pair<S: Simd>(self, values: [S::V; N], factors: [S::V; M]) -> [S::V; 2];
}

/// For every column of r x c matrices `[sum of first, sum of first * second]`; each of `factors` is `[c]`.
pub(crate) fn sums<P: Pair<N, M>, const N: usize, const M: usize>(
    team: &Team,
    r: usize,
    c: usize,
    matrices: [&[f32]; N],
    factors: [&[f32]; M],
    pair: P,
) -> Vec<[f64; 2]> {
    let step = block_rows(c);
    let mut partial = vec![[0.0; 2]; r.div_ceil(step) * c];
    team.for_each_chunk(&mut partial, c.max(1), |block, sums| {
        let range = block * step * c..r.min((block + 1) * step) * c;
        let matrices = matrices.map(|matrix| &matrix[range.clone()]);
        let factors = factors.map(|factors| &factors[..c]);
        block_sums(team.isa(), matrices, factors, pair, sums);
    });
    add_up(c, &partial)
}

/// As [`sums`] of whole rows in one thread; there are as many columns as `sums`.
pub(crate) fn block_sums<P: Pair<N, M>, const N: usize, const M: usize>(
    isa: Isa,
    matrices: [&[f32]; N],
    factors: [&[f32]; M],
    pair: P,
    sums: &mut [[f64; 2]],
) {
    dispatch(isa, BlockSums { pair, matrices, factors, sums });
}

/// The sums of c columns over all blocks, in their order.
pub(crate) fn add_up(c: usize, blocks: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let mut total = vec![[0.0; 2]; c];
    for block in blocks.chunks_exact(c.max(1)) {
        for (total, sum) in total.iter_mut().zip(block) {
            total[0] += sum[0];
            total[1] += sum[1];
        }
    }
    total
}

/// Which of the two sums of a [`Pair`].
#[derive(Clone, Copy)]
pub(crate) enum Which {
    /// Of the first number.
    First = 0,
    /// Of the product.
    Product = 1,
}

/// `out[n, c] = factor *` one of the sums for every column of each image, `rows` rows of c columns.
pub(crate) fn image_sums<P: Pair<N, 0>, const N: usize>(
    team: &Team,
    [rows, c]: [usize; 2],
    matrices: [&[f32]; N],
    pair: P,
    (which, factor): (Which, f64),
    out: &mut [f32],
) {
    let length = rows * c;
    team.for_each_chunk(out, c.max(1), |image, out| {
        let mut sums = vec![[0.0; 2]; c];
        let matrices = matrices.map(|matrix| &matrix[image * length..][..length]);
        dispatch(team.isa(), BlockSums { pair, matrices, factors: [], sums: &mut sums });
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = (sum[which as usize] * factor) as f32);
    });
}

/// Sums whole rows of as many columns as there are sums and factors.
struct BlockSums<'a, P, const N: usize, const M: usize> {
    pair: P,
    matrices: [&'a [f32]; N],
    factors: [&'a [f32]; M],
    sums: &'a mut [[f64; 2]],
}

impl<P: Pair<N, M>, const N: usize, const M: usize> Kernel for BlockSums<'_, P, N, M> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let c = self.sums.len();
        let rows = self.matrices[0].len() / c;
        assert!(self.matrices.iter().all(|matrix| matrix.len() >= rows * c), "columns: matrices of different sizes");
        assert!(self.factors.iter().all(|factors| factors.len() >= c), "columns: factors of other columns");
        let mut column = 0;
        // SAFETY: every group begins before the last column, and a whole one ends there at most. The instruction set is
        // there by the contract of `run`.
        unsafe {
            while column + GROUP * S::LANES <= c {
                self.group::<S, GROUP, true>(rows, column);
                column += GROUP * S::LANES;
            }
            while column < c {
                self.group::<S, 1, false>(rows, column);
                column += S::LANES;
            }
        }
    }
}

impl<P: Pair<N, M>, const N: usize, const M: usize> BlockSums<'_, P, N, M> {
    /// Sums G vectors of columns from `column` on; the last may hang over the end of the rows, unless they are `WHOLE`.
    ///
    /// # Safety
    /// The instruction set of `S` is available, all matrices have `rows` rows and all factors as many columns; `column`
    /// is one of them, and with `WHOLE` so are the G vectors behind it.
    #[inline(always)]
    unsafe fn group<S: Simd, const G: usize, const WHOLE: bool>(&mut self, rows: usize, column: usize) {
        let (c, lanes) = (self.sums.len(), <S::F64 as Doubles>::LANES);
        let (parts, count) = (S::LANES / lanes, c - column);
        let mut at = self.matrices.map(|matrix| matrix.as_ptr().wrapping_add(column));
        // SAFETY: G is 1 where a vector may hang over, so vector `vector` begins `count - vector * LANES` > 0 columns
        // before the end of its row, and `load_first` reads no further. Pointers go from row to row by wrapping
        // additions and are used for `rows` rows. The buffers of WIDTH doubles hold any vector.
        unsafe {
            let mut sums = [[[<S::F64 as Doubles>::splat(0.0); PARTS]; 2]; G];
            let mut factors = [[S::splat(0.0); M]; G];
            for (vector, factors) in factors.iter_mut().enumerate() {
                for (factor, from) in factors.iter_mut().zip(&self.factors) {
                    *factor = S::load_first(from.as_ptr().add(column + vector * S::LANES), count - vector * S::LANES);
                }
            }
            for _ in 0..rows {
                for vector in 0..G {
                    let skip = vector * S::LANES;
                    let values = at.map(|at| match WHOLE {
                        true => S::load(at.add(skip)),
                        false => S::load_first(at.add(skip), count - skip),
                    });
                    let [first, second] = self.pair.pair::<S>(values, factors[vector]);
                    for part in 0..parts {
                        let (a, b) = (S::widen(first, part), S::widen(second, part));
                        sums[vector][0][part] = S::F64::add(sums[vector][0][part], a);
                        sums[vector][1][part] = S::F64::add(sums[vector][1][part], S::F64::mul(a, b));
                    }
                }
                at = at.map(|at| at.wrapping_add(c));
            }
            for (vector, sums) in sums.iter().enumerate() {
                for part in 0..parts {
                    let mut buffer = [[0.0; WIDTH]; 2];
                    S::F64::store(buffer[0].as_mut_ptr(), sums[0][part]);
                    S::F64::store(buffer[1].as_mut_ptr(), sums[1][part]);
                    let to = self.sums[column..].iter_mut().skip(vector * S::LANES + part * lanes).take(lanes);
                    for (to, (&first, &second)) in to.zip(buffer[0].iter().zip(&buffer[1])) {
                        *to = [first, second];
                    }
                }
            }
        }
    }
}

/// The plain sum of each column.
#[derive(Clone, Copy)]
pub(crate) struct Values;

impl Pair<1, 0> for Values {
    #[inline(always)]
    unsafe fn pair<S: Simd>(self, [x]: [S::V; 1], _: [S::V; 0]) -> [S::V; 2] {
        [x, x]
    }
}

/// Writes the sum of each of the `out.len()` columns of `x` into `out`.
pub(crate) fn sum_into(team: &Team, x: &[f32], out: &mut [f32]) {
    let c = out.len();
    let sums = sums(team, x.len() / c.max(1), c, [x], [], Values);
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = sum[0] as f32;
    }
}
