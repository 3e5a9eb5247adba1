//! Sums over the rows of a row-major matrix, one for each column: biases, batch norm's statistics and gradients.
//!
//! Rows are cut into blocks of about [`BLOCK`] elements. Within a block, a few vectors of columns at a time are summed
//! in f64 registers; the blocks' sums are added in order. Shapes: r rows, c columns, q sums for each column.

// Operations on arrays of registers: plain index loops say it best.
#![allow(clippy::needless_range_loop)]

use std::marker::PhantomData;

use crate::Team;
use crate::simd::doubles::{Doubles, WIDTH};
use crate::simd::{Kernel, Simd, dispatch};

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
    unsafe fn pair<S: Simd>(values: [S::V; N], factors: [S::V; M]) -> [S::V; 2];
}

/// For every column of r x c matrices `[sum of first, sum of first * second]`; each of `factors` is `[c]`.
pub(crate) fn sums<P: Pair<N, M>, const N: usize, const M: usize>(
    team: &Team,
    r: usize,
    c: usize,
    matrices: [&[f32]; N],
    factors: [&[f32]; M],
    _pair: P,
) -> Vec<[f64; 2]> {
    let step = block_rows(c);
    let mut partial = vec![[0.0; 2]; r.div_ceil(step) * c];
    team.for_each_chunk(&mut partial, c.max(1), |block, sums| {
        let range = block * step * c..r.min((block + 1) * step) * c;
        let matrices = matrices.map(|matrix| &matrix[range.clone()]);
        let factors = factors.map(|factors| &factors[..c]);
        dispatch(team.isa(), BlockSums { pair: PhantomData::<P>, matrices, factors, sums });
    });
    let mut total = vec![[0.0; 2]; c];
    for block in partial.chunks_exact(c.max(1)) {
        for (total, sum) in total.iter_mut().zip(block) {
            total[0] += sum[0];
            total[1] += sum[1];
        }
    }
    total
}

/// Sums whole rows of as many columns as there are sums and factors.
struct BlockSums<'a, P, const N: usize, const M: usize> {
    pair: PhantomData<P>,
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
                    let [first, second] = P::pair::<S>(values, factors[vector]);
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
struct Values;

impl Pair<1, 0> for Values {
    #[inline(always)]
    unsafe fn pair<S: Simd>([x]: [S::V; 1], _: [S::V; 0]) -> [S::V; 2] {
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
