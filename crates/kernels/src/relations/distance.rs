//! The sum of the distance loss over all pairs, and its gradient over squared distances.
//!
//! ```text
//! d_ij = max(sqrt(D_ij), 1e-6) for i != j;   mu = mean of the d_ij;   b_ij = d_ij / mu
//! sum over i != j of huber(x_ij),  x_ij = student b_ij - teacher b_ij
//! ```
//! The student's mean moves with every distance. With q = huber' and P = n (n - 1) pairs:
//!
//! ```text
//! d(sum)/dd_ij = (q_ij - sum_kl q_kl b_kl / P) / mu,     dd/dD = 1 / (2 d),  0 where the guard of 1e-6 holds
//! ```
//! Three sweeps over the pairs i < j: means, slopes, gradient.

use super::stride;
use crate::simd::doubles::{WIDTH, add_lanes};
use crate::simd::{Kernel, Simd, dispatch};
use crate::{Team, check};

/// Smallest distance of different items, the authors' guard.
pub const SMALLEST: f64 = 1e-6;

/// Rows of one unit of work.
const ROWS: usize = 8;

/// What [`distance_huber`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct DistanceSum {
    /// The sum over the ordered pairs of different items.
    pub value: f64,
    /// Its gradient over the student's squared distances, in the form [`super::pull_back`] takes.
    pub gradient: Vec<f64>,
}

/// The sum over all ordered pairs of huber(student's relative distance - teacher's), and its gradient. Neither is
/// divided by anything.
///
/// `student` and `teacher` are n x n squared distances of [`stride`]`(n)`; `delta` is the Huber threshold, positive.
pub fn distance_huber(team: &Team, student: &[f64], teacher: &[f64], n: usize, delta: f64) -> DistanceSum {
    check::length("distance_huber", "student", student.len(), n * stride(n));
    check::length("distance_huber", "teacher", teacher.len(), n * stride(n));
    let mut gradient = vec![0.0; n * stride(n)];
    if n < 2 {
        return DistanceSum { value: 0.0, gradient };
    }
    let pairs = (n * (n - 1) / 2) as f64;
    let matrices = [student, teacher];
    let sums = sum_rows(team, &mut gradient, n, |first, _| dispatch(team.isa(), Lengths { matrices, n, first }));
    let scales = sums.map(|sum| pairs / sum);
    let [value, through_mean] = sum_rows(team, &mut gradient, n, |first, out| {
        dispatch(team.isa(), Slopes { matrices, n, first, scales, delta, out })
    });
    let shift = through_mean / pairs;
    sum_rows(team, &mut gradient, n, |first, out| {
        dispatch(team.isa(), Gradient { student, n, first, scale: scales[0], shift, out });
        [0.0; 2]
    });
    DistanceSum { value: 2.0 * value, gradient }
}

/// Runs `body(first row, rows of matrix)` on blocks of rows and adds up what it returns, in order.
fn sum_rows(
    team: &Team,
    matrix: &mut [f64],
    n: usize,
    body: impl Fn(usize, &mut [f64]) -> [f64; 2] + Sync,
) -> [f64; 2] {
    let mut sums = vec![[0.0; 2]; n.div_ceil(ROWS)];
    let out = crate::team::Parts::new(&mut sums);
    team.for_each_chunk(matrix, ROWS * stride(n), |block, rows| {
        let sum = body(block * ROWS, rows);
        // SAFETY: `sums` has a place for each block of rows, and each block runs once and writes its own.
        unsafe { *out.pointer(block) = sum };
    });
    sums.iter().fold([0.0; 2], |total, sum| [total[0] + sum[0], total[1] + sum[1]])
}

/// The columns of row i that lie behind the diagonal, from a whole vector on: the pairs (i, j > i), and before them at
/// most [`WIDTH`] - 1 others.
#[inline(always)]
fn behind(i: usize, n: usize) -> std::ops::Range<usize> {
    i * stride(n) + (i + 1) / WIDTH * WIDTH..(i + 1) * stride(n)
}

/// 1 for the columns of the pairs (i, j) with i < j < n among the [`WIDTH`] from `start` on, else 0.
#[inline(always)]
fn mask(start: usize, i: usize, n: usize) -> [f64; WIDTH] {
    let mut mask = [0.0; WIDTH];
    for (lane, mask) in mask.iter_mut().enumerate() {
        let j = start + lane;
        *mask = if j > i && j < n { 1.0 } else { 0.0 };
    }
    mask
}

/// The guarded distance.
#[inline(always)]
fn length(squared: f64) -> f64 {
    let root = squared.sqrt();
    if root > SMALLEST { root } else { SMALLEST }
}

/// The sums of student's and teacher's distances over the pairs i < j of a block of rows.
struct Lengths<'a> {
    matrices: [&'a [f64]; 2],
    n: usize,
    first: usize,
}

impl Kernel for Lengths<'_> {
    type Output = [f64; 2];
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> [f64; 2] {
        let mut sums = [[0.0; WIDTH]; 2];
        for i in self.first..self.n.min(self.first + ROWS) {
            let range = behind(i, self.n);
            for (sums, matrix) in sums.iter_mut().zip(self.matrices) {
                let mut start = range.start - i * stride(self.n);
                for squared in matrix[range.clone()].as_chunks::<WIDTH>().0 {
                    let mask = mask(start, i, self.n);
                    for lane in 0..WIDTH {
                        sums[lane] += mask[lane] * length(squared[lane]);
                    }
                    start += WIDTH;
                }
            }
        }
        [add_lanes(&sums[0]), add_lanes(&sums[1])]
    }
}

/// Writes the slopes q_ij of a block of rows, and sums losses and q_ij b_ij over its pairs i < j.
struct Slopes<'a, 'b> {
    matrices: [&'a [f64]; 2],
    n: usize,
    first: usize,
    /// 1 / mu of both.
    scales: [f64; 2],
    delta: f64,
    out: &'b mut [f64],
}

impl Kernel for Slopes<'_, '_> {
    type Output = [f64; 2];
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> [f64; 2] {
        let ([scale_s, scale_t], delta) = (self.scales, self.delta);
        let (mut values, mut products) = ([0.0; WIDTH], [0.0; WIDTH]);
        for i in self.first..self.n.min(self.first + ROWS) {
            let range = behind(i, self.n);
            let mut start = range.start - i * stride(self.n);
            let offset = self.first * stride(self.n);
            let out = self.out[range.start - offset..range.end - offset].as_chunks_mut::<WIDTH>().0;
            let [student, teacher] = self.matrices.map(|matrix| matrix[range.clone()].as_chunks::<WIDTH>().0);
            for ((out, student), teacher) in out.iter_mut().zip(student).zip(teacher) {
                let mask = mask(start, i, self.n);
                for lane in 0..WIDTH {
                    let relative = scale_s * length(student[lane]);
                    let x = relative - scale_t * length(teacher[lane]);
                    let above = if delta < x { delta } else { x };
                    let q = mask[lane] * if -delta > above { -delta } else { above };
                    values[lane] += q * (x - 0.5 * q);
                    products[lane] += q * relative;
                    out[lane] = q;
                }
                start += WIDTH;
            }
        }
        [add_lanes(&values), add_lanes(&products)]
    }
}

/// Turns the slopes of a block of rows into the gradient.
struct Gradient<'a, 'b> {
    student: &'a [f64],
    n: usize,
    first: usize,
    /// 1 / mu of the student.
    scale: f64,
    shift: f64,
    out: &'b mut [f64],
}

impl Kernel for Gradient<'_, '_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for i in self.first..self.n.min(self.first + ROWS) {
            let range = behind(i, self.n);
            let mut start = range.start - i * stride(self.n);
            let offset = self.first * stride(self.n);
            let out = self.out[range.start - offset..range.end - offset].as_chunks_mut::<WIDTH>().0;
            for (out, student) in out.iter_mut().zip(self.student[range].as_chunks::<WIDTH>().0) {
                let mask = mask(start, i, self.n);
                for lane in 0..WIDTH {
                    // Two orders of the pair, dd/dD = 1 / (2 d).
                    let root = length(student[lane]);
                    let slope = (out[lane] - self.shift) * self.scale / root;
                    out[lane] = if root > SMALLEST { mask[lane] * slope } else { 0.0 };
                }
                start += WIDTH;
            }
        }
    }
}
