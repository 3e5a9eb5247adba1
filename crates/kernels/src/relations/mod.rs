//! Relations between the rows of an embedding, and their losses: everything over the n x n matrix D of squared
//! distances.
//!
//! [`squared_distances`] makes D of the rows; [`distance_huber`] and [`angle_huber`] give the sums of the two
//! relational losses with their gradients over D; [`pull_back`] brings such a gradient to the rows. All of it is
//! float64: the law of cosines and differences of near neighbours cancel, and in float32 the losses would be wrong by
//! percents where a student's classes are tight. D comes from differences of coordinates, never from a Gram matrix.
//!
//! Matrices are square with rows of [`stride`] numbers, zero beyond n. A gradient over D is a matrix too; the entries
//! (i, j) and (j, i) add up, so either or both may carry a pair's share.
//!
//! Results are the same bits on any number of threads and with any instruction set: see `simd::doubles`.

mod angle;
mod distance;
mod estimate;
mod pull_back;
mod squared_distances;

pub use angle::{AngleSum, angle_huber, angle_huber_at, angle_panels};
pub use distance::{DistanceSum, SMALLEST, distance_huber};
pub use estimate::estimate_seconds;
pub use pull_back::pull_back;
pub use squared_distances::squared_distances;

use crate::check;
use crate::simd::doubles::WIDTH;

/// The length of a row of a square matrix of `n`, or of an embedding of `n` coordinates.
pub fn stride(n: usize) -> usize {
    n.next_multiple_of(WIDTH)
}

/// Copies `[n, d]` rows into rows of [`stride`]`(d)` float64 numbers, zero beyond d.
pub fn widen<T: Copy + Into<f64>>(rows: &[T], n: usize, d: usize) -> Vec<f64> {
    check::length("relations::widen", "rows", rows.len(), n * d);
    let mut wide = vec![0.0; n * stride(d)];
    if d > 0 {
        for (row, wide) in rows.chunks_exact(d).zip(wide.chunks_exact_mut(stride(d))) {
            wide.iter_mut().zip(row).for_each(|(wide, &value)| *wide = value.into());
        }
    }
    wide
}

#[cfg(test)]
mod tests;
