//! The way from a gradient over squared distances to the rows.
//!
//! With `w_ij = m_ij + m_ji` of the gradient m, `out_i = 2 sum_j w_ij (row_i - row_j)`. The differences are formed,
//! although `(sum_j w_ij) row_i - sum_j w_ij row_j` would be a plain matrix product of half the work: near duplicates
//! have huge weights and tiny differences, which that product loses.

use super::stride;
use crate::simd::doubles::{Doubles, WIDTH};
use crate::simd::{Kernel, Simd, dispatch};
use crate::{Team, check, scratch};

/// Rows of one unit of work: the entries m_ji of its columns fill cache lines.
const ROWS: usize = 8;
/// Rows, and runs of [`WIDTH`] coordinates, whose sums stay in registers.
const TILE_ROWS: usize = 4;
const TILE_RUNS: usize = 2;

/// Brings a gradient over squared distances back to the rows (module head).
///
/// `rows` are widened, of d coordinates; `gradient` is n x n of [`stride`]`(n)`. Returns `[n, stride(d)]`.
pub fn pull_back(team: &Team, rows: &[f64], gradient: &[f64], n: usize, d: usize) -> Vec<f64> {
    check::length("pull_back", "rows", rows.len(), n * stride(d));
    check::length("pull_back", "gradient", gradient.len(), n * stride(n));
    let width = stride(d);
    let mut out = vec![0.0; n * width];
    if width > 0 {
        team.for_each_chunk(&mut out, ROWS * width, |block, out| {
            scratch::with_doubles(n * ROWS, |weights| {
                let weights = weights.as_chunks_mut::<ROWS>().0;
                let first = block * ROWS;
                add_transposed(gradient, n, first, weights);
                dispatch(team.isa(), RowBlock { rows, weights, width, first, out });
            });
        });
    }
    out
}

/// `weights[j][p] = 2 (m_ij + m_ji)` for i = first + p; 0 beyond n.
fn add_transposed(gradient: &[f64], n: usize, first: usize, weights: &mut [[f64; ROWS]]) {
    for (j, weights) in weights.iter_mut().enumerate() {
        // Rows of the matrix are zero beyond n and as long as a multiple of ROWS.
        let column = &gradient[j * stride(n) + first..][..ROWS];
        for (p, (weight, column)) in weights.iter_mut().zip(column).enumerate() {
            let i = first + p;
            *weight = if i < n { 2.0 * (column + gradient[i * stride(n) + j]) } else { 0.0 };
        }
    }
}

/// [`ROWS`] rows of the result, or fewer at the end.
struct RowBlock<'a> {
    rows: &'a [f64],
    weights: &'a [[f64; ROWS]],
    width: usize,
    first: usize,
    out: &'a mut [f64],
}

impl Kernel for RowBlock<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let (rows, width) = (self.out.len() / self.width, self.width);
        for p in (0..rows).step_by(TILE_ROWS) {
            let mut k = 0;
            while k < width {
                let whole_rows = p + TILE_ROWS <= rows;
                // SAFETY: the instruction set is there by the contract of `run`; that of the doubles is the same.
                unsafe {
                    if whole_rows && k + TILE_RUNS * WIDTH <= width {
                        self.tile::<S::F64, TILE_ROWS, TILE_RUNS>(p, k);
                        k += TILE_RUNS * WIDTH;
                        continue;
                    }
                    if whole_rows {
                        self.tile::<S::F64, TILE_ROWS, 1>(p, k);
                    } else {
                        (p..rows).for_each(|p| self.tile::<S::F64, 1, 1>(p, k));
                    }
                }
                k += WIDTH;
            }
        }
    }
}

impl RowBlock<'_> {
    /// P rows from p on, K runs of coordinates from k on.
    ///
    /// # Safety
    /// The instruction set of `F` is available.
    #[inline(always)]
    unsafe fn tile<F: Doubles, const P: usize, const K: usize>(&mut self, p: usize, k: usize) {
        let width = self.width;
        assert!(self.rows.len() == self.weights.len() * width && k + K * WIDTH <= width && p + P <= ROWS);
        let own = &self.rows[(self.first + p) * width..][..P * width];
        let out = &mut self.out[p * width..][..P * width];
        for lane in (0..WIDTH).step_by(F::LANES) {
            let k = k + lane;
            // SAFETY: the caller has the instruction set. Rows are `width` long, and `k` (with `lane`, a multiple of
            // LANES below WIDTH) plus a multiple of WIDTH below K * WIDTH leaves room for LANES, by the assertion;
            // `rows` has as many rows as there are weights, `own` and `out` have P, as sliced; place p + q < ROWS is in
            // every weights.
            unsafe {
                let a: [[F::V; K]; P] = std::array::from_fn(|q| {
                    std::array::from_fn(|run| F::load(own.as_ptr().add(q * width + k + run * WIDTH)))
                });
                let mut sums = [[F::splat(0.0); K]; P];
                for (j, weights) in self.weights.iter().enumerate() {
                    let from = self.rows.as_ptr().add(j * width + k);
                    let b: [F::V; K] = std::array::from_fn(|run| F::load(from.add(run * WIDTH)));
                    for q in 0..P {
                        let weight = F::splat(*weights.get_unchecked(p + q));
                        for run in 0..K {
                            sums[q][run] = F::mul_add(weight, F::sub(a[q][run], b[run]), sums[q][run]);
                        }
                    }
                }
                for (q, sums) in sums.iter().enumerate() {
                    for (run, &sum) in sums.iter().enumerate() {
                        F::store(out.as_mut_ptr().add(q * width + k + run * WIDTH), sum);
                    }
                }
            }
        }
    }
}
