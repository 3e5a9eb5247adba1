//! Sums over the rows of a row-major matrix, one for each column: biases, batch norm's statistics and gradients.
//!
//! Rows are cut into blocks of about [`BLOCK`] elements. Within a block, a few vectors of columns at a time are summed in
//! f64 registers; the blocks' sums are added in order. Shapes: r rows, c columns, q sums for each column.

use std::marker::PhantomData;

use crate::Pool;
use crate::simd::doubles::{Doubles, WIDTH};
use crate::simd::{Kernel, Simd, dispatch};

/// Elements of a block: 128 KiB of f32, so that a ReLU mask and a gradient fit beside it in the second-level cache.
const BLOCK: usize = 32 * 1024;
/// Vectors of columns summed together: their eight sums are enough to wait for none, and fit every register file.
const GROUP: usize = 4;

/// The number of rows in a block of work over `c` columns; depends on nothing else.
pub(crate) fn block_rows(c: usize) -> usize {
    (BLOCK / c.max(1)).max(1)
}

/// Two terms for each element of N matrices of one shape, which are summed down the columns.
pub(crate) trait Terms<const N: usize>: Copy + Sync {
    /// The terms of some elements from their N values. Implementations are `#[inline(always)]`, and multiply and add
    /// apart: a product of two floats is exact in f64, so that every instruction set gives the same bits.
    ///
    /// # Safety
    /// The instruction set of `D` is available.
    unsafe fn terms<D: Doubles>(values: [D::V; N]) -> [D::V; 2];
}

/// Sums the two terms of every column of r x c matrices: `[sum of first, sum of second]` for each column.
pub(crate) fn sums<const N: usize, T: Terms<N>>(
    pool: &Pool,
    r: usize,
    c: usize,
    matrices: [&[f32]; N],
    _terms: T,
) -> Vec<[f64; 2]> {
    let step = block_rows(c);
    let mut partial = vec![[0.0; 2]; r.div_ceil(step) * c];
    pool.for_each_chunk(&mut partial, c.max(1), |block, sums| {
        let range = block * step * c..r.min((block + 1) * step) * c;
        let matrices = matrices.map(|matrix| &matrix[range.clone()]);
        dispatch(pool.isa(), BlockSums { terms: PhantomData::<T>, matrices, sums });
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

/// Sums whole rows of as many columns as there are sums.
struct BlockSums<'a, T, const N: usize> {
    terms: PhantomData<T>,
    matrices: [&'a [f32]; N],
    sums: &'a mut [[f64; 2]],
}

impl<T: Terms<N>, const N: usize> Kernel for BlockSums<'_, T, N> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self) {
        let (c, lanes) = (self.sums.len(), <S::F64 as Doubles>::LANES);
        let rows = self.matrices[0].len() / c;
        assert!(self.matrices.iter().all(|matrix| matrix.len() >= rows * c), "columns: matrices of different sizes");
        let mut column = 0;
        // SAFETY: the groups lie within the rows, whose length was checked.
        unsafe {
            while column + GROUP * lanes <= c {
                self.group::<S::F64, GROUP>(rows, column);
                column += GROUP * lanes;
            }
            while column + lanes <= c {
                self.group::<S::F64, 1>(rows, column);
                column += lanes;
            }
            if column < c {
                self.rest::<S::F64>(rows, column);
            }
        }
    }
}

impl<T: Terms<N>, const N: usize> BlockSums<'_, T, N> {
    /// Sums G vectors of columns from `column` on.
    ///
    /// # Safety
    /// They lie within the rows, and all matrices have `rows` rows.
    #[inline(always)]
    unsafe fn group<D: Doubles, const G: usize>(&mut self, rows: usize, column: usize) {
        let c = self.sums.len();
        let mut at = self.matrices.map(|matrix| matrix.as_ptr().wrapping_add(column));
        // SAFETY: the caller's promise.
        unsafe {
            let (mut first, mut second) = ([D::splat(0.0); G], [D::splat(0.0); G]);
            for _ in 0..rows {
                for vector in 0..G {
                    let values = at.map(|at| D::load_floats(at.add(vector * D::LANES)));
                    let [a, b] = T::terms::<D>(values);
                    first[vector] = D::add(first[vector], a);
                    second[vector] = D::add(second[vector], b);
                }
                at = at.map(|at| at.wrapping_add(c));
            }
            for vector in 0..G {
                self.keep::<D>(column + vector * D::LANES, D::LANES, [first[vector], second[vector]]);
            }
        }
    }

    /// Sums the last columns, fewer than a vector.
    ///
    /// # Safety
    /// All matrices have `rows` rows.
    #[inline(always)]
    unsafe fn rest<D: Doubles>(&mut self, rows: usize, column: usize) {
        let c = self.sums.len();
        // SAFETY: the buffers hold the widest vector.
        unsafe {
            let mut sums = [D::splat(0.0); 2];
            for row in 0..rows {
                let values = self.matrices.map(|matrix| {
                    let mut buffer = [0.0_f32; WIDTH];
                    buffer[..c - column].copy_from_slice(&matrix[row * c + column..(row + 1) * c]);
                    D::load_floats(buffer.as_ptr())
                });
                let [a, b] = T::terms::<D>(values);
                sums = [D::add(sums[0], a), D::add(sums[1], b)];
            }
            self.keep::<D>(column, c - column, sums);
        }
    }

    /// Writes the first `count` lanes of the sums.
    ///
    /// # Safety
    /// The instruction set of `D` is available.
    #[inline(always)]
    unsafe fn keep<D: Doubles>(&mut self, column: usize, count: usize, sums: [D::V; 2]) {
        let mut lanes = [[0.0; WIDTH]; 2];
        // SAFETY: the buffers hold the widest vector.
        unsafe {
            D::store(lanes[0].as_mut_ptr(), sums[0]);
            D::store(lanes[1].as_mut_ptr(), sums[1]);
        }
        for (sum, (&first, &second)) in self.sums[column..][..count].iter_mut().zip(lanes[0].iter().zip(&lanes[1])) {
            *sum = [first, second];
        }
    }
}

/// The plain sum of each column.
#[derive(Clone, Copy)]
struct Values;

impl Terms<1> for Values {
    #[inline(always)]
    unsafe fn terms<D: Doubles>([x]: [D::V; 1]) -> [D::V; 2] {
        // SAFETY: the caller's promise.
        [x, unsafe { D::splat(0.0) }]
    }
}

/// Writes the sum of each of the `out.len()` columns of `x` into `out`.
pub(crate) fn sum_into(pool: &Pool, x: &[f32], out: &mut [f32]) {
    let c = out.len();
    let sums = sums(pool, x.len() / c.max(1), c, [x], Values);
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = sum[0] as f32;
    }
}
