//! The matrix product C = A B in float64, for the losses that learn a linear map and those of inner products.
//!
//! Shapes: A `[m, k]` read by two strides (so that a transposed matrix needs no copy), B `[k, n]` row-major, C
//! `[m, n]`. The k terms of an element are summed in order, so the bits depend neither on threads nor on the
//! instruction set.

use crate::simd::{Kernel, Simd, dispatch};
use crate::{Team, check};

/// Rows of C of one unit of work.
const ROWS: usize = 64;
/// Rows of a tile of sums.
const TILE: usize = 4;
/// Columns of a tile.
const WIDTH: usize = 16;
/// Terms of one stretch: a panel of B that stays in the first-level cache while all rows pass.
const DEPTH: usize = 256;

/// The left operand: element (i, j) lies at `i * row + j * step`.
#[derive(Clone, Copy, Debug)]
pub struct Left<'a> {
    data: &'a [f64],
    row: usize,
    step: usize,
}

impl<'a> Left<'a> {
    /// A row-major matrix of `columns` columns.
    pub fn row_major(data: &'a [f64], columns: usize) -> Self {
        Left { data, row: columns, step: 1 }
    }

    /// The transpose of a row-major matrix of `columns` columns.
    pub fn transposed(data: &'a [f64], columns: usize) -> Self {
        Left { data, row: 1, step: columns }
    }
}

/// C = A B for the shape `[m, n, k]`.
pub fn product(team: &Team, [m, n, k]: [usize; 3], a: Left<'_>, b: &[f64]) -> Vec<f64> {
    check::length("product", "a", a.data.len(), m * k);
    check::length("product", "b", b.len(), k * n);
    let mut c = vec![0.0; m * n];
    if n > 0 {
        team.for_each_chunk(&mut c, ROWS * n, |block, c| {
            dispatch(team.isa(), Rows { a, b, first: block * ROWS, n, k, c });
        });
    }
    c
}

/// Some rows of C.
struct Rows<'a> {
    a: Left<'a>,
    b: &'a [f64],
    first: usize,
    n: usize,
    k: usize,
    c: &'a mut [f64],
}

impl Kernel for Rows<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let (rows, whole) = (self.c.len() / self.n, self.c.len() / self.n / TILE * TILE);
        let mut panel = [[0.0; WIDTH]; DEPTH];
        for start in (0..self.k).step_by(DEPTH) {
            let depth = DEPTH.min(self.k - start);
            for column in (0..self.n).step_by(WIDTH) {
                let width = WIDTH.min(self.n - column);
                for (step, panel) in panel[..depth].iter_mut().enumerate() {
                    panel[..width].copy_from_slice(&self.b[(start + step) * self.n + column..][..width]);
                }
                for row in (0..whole).step_by(TILE) {
                    self.tile::<TILE>(row, start, column, &panel[..depth]);
                }
                for row in whole..rows {
                    self.tile::<1>(row, start, column, &panel[..depth]);
                }
            }
        }
    }
}

impl Rows<'_> {
    /// Adds a stretch of terms to `R` x [`WIDTH`] elements, in registers. What lies beyond the last column is not
    /// stored.
    #[inline(always)]
    fn tile<const R: usize>(&mut self, row: usize, start: usize, column: usize, panel: &[[f64; WIDTH]]) {
        let width = WIDTH.min(self.n - column);
        let mut sums = [[0.0; WIDTH]; R];
        for (r, sums) in sums.iter_mut().enumerate() {
            sums[..width].copy_from_slice(&self.c[(row + r) * self.n + column..][..width]);
        }
        let first = (self.first + row) * self.a.row + start * self.a.step;
        for (step, b) in panel.iter().enumerate() {
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = self.a.data[first + r * self.a.row + step * self.a.step];
                for lane in 0..WIDTH {
                    sums[lane] += a * b[lane];
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            self.c[(row + r) * self.n + column..][..width].copy_from_slice(&sums[..width]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_sum_over_k_of_either_orientation() {
        let value = |i: usize| ((i * 37 % 101) as f64 - 50.0) / 7.0;
        for [m, n, k] in [[1, 1, 1], [5, 23, 3], [70, 17, 9], [13, 9, 600], [3, 4, 0], [0, 3, 2], [2, 0, 5]] {
            let a: Vec<f64> = (0..m * k).map(value).collect();
            let b: Vec<f64> = (0..k * n).map(|i| value(i + 11)).collect();
            let transposed: Vec<f64> = (0..k * m).map(|i| a[i % m * k + i / m]).collect();
            let mut expected = Vec::new();
            for i in 0..m {
                for j in 0..n {
                    expected.push((0..k).fold(0.0, |sum, s| sum + a[i * k + s] * b[s * n + j]));
                }
            }
            for threads in [1, 3] {
                let team = Team::new(threads);
                assert_eq!(product(&team, [m, n, k], Left::row_major(&a, k), &b), expected, "{m} {n} {k}");
                assert_eq!(product(&team, [m, n, k], Left::transposed(&transposed, m), &b), expected, "{m} {n} {k}");
            }
        }
    }
}
