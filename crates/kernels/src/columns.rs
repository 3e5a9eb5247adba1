//! Sums over the rows of a row-major matrix, one for each column: biases, batch norm's statistics and gradients.
//!
//! Rows are cut into blocks of about [`BLOCK`] elements. Within a block, 16 columns at a time are summed in f64
//! registers; the blocks' sums are added in order. Shapes: r rows, c columns, q sums for each column.

use std::marker::PhantomData;

use crate::Pool;
use crate::simd::{Kernel, Simd, dispatch};

/// Elements of a block: 128 KiB of f32, so that a ReLU mask and a gradient fit beside it in the second-level cache.
const BLOCK: usize = 32 * 1024;
/// Columns summed together: eight AVX2 registers hold two sums of each.
const WIDTH: usize = 16;

/// The number of rows in a block of work over `c` columns; depends on nothing else.
pub(crate) fn block_rows(c: usize) -> usize {
    (BLOCK / c.max(1)).max(1)
}

/// Two terms for each element of N matrices of one shape, which are summed down the columns.
pub(crate) trait Terms<const N: usize>: Copy + Sync {
    /// The terms of one element from its N values. Implementations are `#[inline(always)]`.
    fn terms(values: [f32; N]) -> [f64; 2];
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
    fn run<S: Simd>(self) {
        let c = self.sums.len();
        let whole = c / WIDTH * WIDTH;
        for column in (0..whole).step_by(WIDTH) {
            let (mut first, mut second) = ([0.0; WIDTH], [0.0; WIDTH]);
            for row in (0..self.matrices[0].len()).step_by(c) {
                // One bounds check for each matrix and group, none for each element: the lanes become vectors.
                let mut group = [&[0.0_f32; WIDTH]; N];
                for (group, matrix) in group.iter_mut().zip(&self.matrices) {
                    *group = matrix[row + column..].first_chunk().expect("a row has all its columns");
                }
                for lane in 0..WIDTH {
                    let mut values = [0.0; N];
                    for (value, group) in values.iter_mut().zip(&group) {
                        *value = group[lane];
                    }
                    let [a, b] = T::terms(values);
                    first[lane] += a;
                    second[lane] += b;
                }
            }
            for lane in 0..WIDTH {
                self.sums[column + lane] = [first[lane], second[lane]];
            }
        }
        for row in (0..self.matrices[0].len()).step_by(c) {
            for column in whole..c {
                let [a, b] = T::terms(self.matrices.map(|matrix| matrix[row + column]));
                self.sums[column][0] += a;
                self.sums[column][1] += b;
            }
        }
    }
}

/// The plain sum of each column.
#[derive(Clone, Copy)]
struct Values;

impl Terms<1> for Values {
    #[inline(always)]
    fn terms([x]: [f32; 1]) -> [f64; 2] {
        [f64::from(x), 0.0]
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
