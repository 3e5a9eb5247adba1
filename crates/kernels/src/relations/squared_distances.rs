//! The squared Euclidean distances of all pairs of rows.

use super::stride;
use crate::simd::doubles::{Doubles, WIDTH, add_lanes};
use crate::simd::{Kernel, Simd, dispatch};
use crate::team::Parts;
use crate::{Team, check};

/// Rows of one unit of work.
const ROWS: usize = 16;
/// Rows by rows whose sums stay in registers.
const TILE: usize = 4;

/// The squared Euclidean distances of n rows (widened, of d coordinates): an n x n matrix of [`stride`]`(n)`.
pub fn squared_distances(team: &Team, rows: &[f64], n: usize, d: usize) -> Vec<f64> {
    check::length("squared_distances", "rows", rows.len(), n * stride(d));
    let mut matrix = vec![0.0; n * stride(n)];
    let out = Parts::new(&mut matrix);
    let blocks = n.div_ceil(ROWS);
    // The last blocks have the most pairs, so they come first.
    team.for_each(blocks, |block| {
        // SAFETY: each block runs once, so each run of rows has one kernel.
        dispatch(team.isa(), unsafe { RowBlock::new(rows, n, d, (blocks - 1 - block) * ROWS, &out) })
    });
    matrix
}

/// The pairs of the rows from `first` on, [`ROWS`] or fewer, with all rows up to themselves.
struct RowBlock<'a> {
    rows: &'a [f64],
    n: usize,
    d: usize,
    first: usize,
    out: &'a Parts<'a, f64>,
}

impl<'a> RowBlock<'a> {
    /// # Safety
    /// Until the kernel has run, no other has the rows from `first` on, and nobody but kernels of other rows uses
    /// `out`.
    unsafe fn new(rows: &'a [f64], n: usize, d: usize, first: usize, out: &'a Parts<'a, f64>) -> Self {
        RowBlock { rows, n, d, first, out }
    }
}

impl Kernel for RowBlock<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let last = self.n.min(self.first + ROWS);
        for j in (0..last).step_by(TILE) {
            for i in (self.first..last).step_by(TILE) {
                if j > i {
                    continue;
                }
                // SAFETY: the instruction set is there by the contract of `run`; that of the doubles is the same. All
                // rows from i on are this kernel's.
                unsafe {
                    if i + TILE <= last && j + TILE <= last {
                        self.tile::<S::F64, TILE>(i, j);
                    } else {
                        for i in i..last.min(i + TILE) {
                            for j in j..last.min(j + TILE) {
                                self.tile::<S::F64, 1>(i, j);
                            }
                        }
                    }
                }
            }
        }
    }
}

impl RowBlock<'_> {
    /// T rows from i on by T rows from j on. A pair's sum has the same order in every tile.
    ///
    /// # Safety
    /// The instruction set of `F` is available, and the rows from i on are this kernel's.
    #[inline(always)]
    unsafe fn tile<F: Doubles, const T: usize>(&self, i: usize, j: usize) {
        let width = stride(self.d);
        let (rows_i, rows_j) = (&self.rows[i * width..][..T * width], &self.rows[j * width..][..T * width]);
        let mut lanes = [[[0.0; WIDTH]; T]; T];
        for lane in (0..WIDTH).step_by(F::LANES) {
            // SAFETY: the caller has the instruction set; all places lie in the T rows sliced above, as `lane` plus a
            // multiple of WIDTH is at most width - LANES. `lanes[lane..]` has LANES left.
            unsafe {
                let mut sums = [[F::splat(0.0); T]; T];
                for k in (lane..width).step_by(WIDTH) {
                    let b: [F::V; T] = std::array::from_fn(|q| F::load(rows_j.as_ptr().add(q * width + k)));
                    for (p, sums) in sums.iter_mut().enumerate() {
                        let a = F::load(rows_i.as_ptr().add(p * width + k));
                        for (sum, &b) in sums.iter_mut().zip(&b) {
                            let difference = F::sub(a, b);
                            *sum = F::mul_add(difference, difference, *sum);
                        }
                    }
                }
                for (lanes, sums) in lanes.iter_mut().flatten().zip(sums.iter().flatten()) {
                    F::store(lanes[lane..].as_mut_ptr(), *sums);
                }
            }
        }
        for (p, lanes) in lanes.iter().enumerate() {
            for (q, lanes) in lanes.iter().enumerate() {
                let value = add_lanes(lanes);
                // SAFETY: `pointer` checks that both places lie inside. They are those of the pair (i + p, j + q),
                // which only the kernel of the later row writes: this one, as no row of j's tile is behind all of i's.
                unsafe {
                    *self.out.pointer((i + p) * stride(self.n) + j + q) = value;
                    *self.out.pointer((j + q) * stride(self.n) + i + p) = value;
                }
            }
        }
    }
}
