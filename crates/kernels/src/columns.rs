//! Sums over the rows of a row-major matrix, one for each column: biases, batch norm's statistics and gradients.
//!
//! Rows are cut into blocks of about [`BLOCK`] elements. Within a block, 16 columns at a time are summed in f64
//! registers; the blocks' sums are added in order. Shapes: r rows, c columns, q sums for each column.

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

/// Two terms that are summed down the columns; the second may be left 0.
pub(crate) trait Terms: Copy + Sync {
    /// The terms of the element at `index` of the whole matrix.
    fn terms(&self, index: usize) -> [f64; 2];
}

/// Sums the two terms of every column of an r x c matrix: `[sum of first, sum of second]` for each column.
pub(crate) fn sums<T: Terms>(pool: &Pool, r: usize, c: usize, terms: T) -> Vec<[f64; 2]> {
    let step = block_rows(c);
    let mut partial = vec![[0.0; 2]; r.div_ceil(step) * c];
    pool.for_each_chunk(&mut partial, c.max(1), |block, sums| {
        let rows = [block * step, r.min((block + 1) * step)];
        dispatch(pool.isa(), BlockSums { terms, rows, c, sums });
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

struct BlockSums<'a, T> {
    terms: T,
    rows: [usize; 2],
    c: usize,
    sums: &'a mut [[f64; 2]],
}

impl<T: Terms> Kernel for BlockSums<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let whole = self.c / WIDTH * WIDTH;
        for column in (0..whole).step_by(WIDTH) {
            let (mut first, mut second) = ([0.0; WIDTH], [0.0; WIDTH]);
            for row in self.rows[0]..self.rows[1] {
                for lane in 0..WIDTH {
                    let [a, b] = self.terms.terms(row * self.c + column + lane);
                    first[lane] += a;
                    second[lane] += b;
                }
            }
            for lane in 0..WIDTH {
                self.sums[column + lane] = [first[lane], second[lane]];
            }
        }
        for row in self.rows[0]..self.rows[1] {
            for column in whole..self.c {
                let [a, b] = self.terms.terms(row * self.c + column);
                self.sums[column][0] += a;
                self.sums[column][1] += b;
            }
        }
    }
}

/// The plain sum of each column.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a>(pub &'a [f32]);

impl Terms for Values<'_> {
    #[inline(always)]
    fn terms(&self, index: usize) -> [f64; 2] {
        [f64::from(self.0[index]), 0.0]
    }
}

/// Writes the sum of each of the `out.len()` columns of `x` into `out`.
pub(crate) fn sum_into(pool: &Pool, x: &[f32], out: &mut [f32]) {
    let c = out.len();
    let sums = sums(pool, x.len() / c.max(1), c, Values(x));
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = sum[0] as f32;
    }
}
