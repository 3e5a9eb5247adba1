//! Relations between the rows of an embedding: squared distances, the angle loss over all triples, and the way from a
//! gradient over distances back to the rows.
//!
//! Everything is a function of the n x n matrix D of squared distances. With r_ab = D_ab^(-1/2) (0 where D_ab is 0),
//! the cosine of the angle at vertex a between b and c is, by the law of cosines,
//!
//! ```text
//! cos_abc = (D_ab + D_ac - D_bc) / 2 * r_ab * r_ac
//! ```
//! and the loss is the sum over all a, b, c of huber(student cos - teacher cos). Nothing larger than n x n exists: the
//! sum streams over vertices a for a block of rows b and a stretch of columns c. With g = huber' the gradient is
//!
//! ```text
//! edge {b, c}:  dL/dD_bc  = - sum_a g_abc r_ab r_ac
//! leg  (a, b):  dL/dD_ab  =   r_ab sum_c g_abc r_ac - r_ab^2 sum_c g_abc cos_abc
//! ```
//! All of it is float64: the law of cosines cancels for near neighbours, and in float32 the loss would be wrong by
//! percents where a student's classes are tight. D comes from differences of coordinates, never from a Gram matrix.
//!
//! Matrices are square with rows of [`stride`] numbers, zero beyond n; a zero leg has no cosine and no gradient.

use crate::pool::Parts;
use crate::simd::{Kernel, Simd, dispatch};
use crate::{Isa, Pool, check};

/// Numbers that the loops take at once: one AVX2 vector of float64.
const LANES: usize = 4;
/// Rows b of one unit of work.
const ROWS: usize = 32;
/// Columns c of one stretch: with [`ROWS`] rows of three matrices 48 KiB, well inside a second-level cache.
const COLUMNS: usize = 64;
/// Rows of one unit of work of the simpler sweeps.
const SWEEP: usize = 8;

/// The length of a row of a square matrix of `n`, or of an embedding of `n` coordinates.
pub fn stride(n: usize) -> usize {
    n.next_multiple_of(LANES)
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

/// The squared Euclidean distances of n rows (widened, of d coordinates): an n x n matrix of [`stride`]`(n)`.
pub fn squared_distances(pool: &Pool, rows: &[f64], n: usize, d: usize) -> Vec<f64> {
    check::length("squared_distances", "rows", rows.len(), n * stride(d));
    let mut matrix = vec![0.0; n * stride(n)];
    let out = Parts::new(&mut matrix);
    pool.for_each(n.div_ceil(SWEEP), |block| {
        let range = block * SWEEP..n.min((block + 1) * SWEEP);
        // SAFETY: the pair i > j is handled by i's block only, and its two places by nobody else.
        let put = |i: usize, j: usize, value: f64| unsafe {
            *out.pointer(i * stride(n) + j) = value;
            *out.pointer(j * stride(n) + i) = value;
        };
        for i in range {
            dispatch(pool.isa(), DistanceRow { rows, width: stride(d), i, put });
        }
    });
    matrix
}

/// The squared distances of row i to all rows before it.
struct DistanceRow<'a, P> {
    rows: &'a [f64],
    width: usize,
    i: usize,
    put: P,
}

impl<P: Fn(usize, usize, f64)> Kernel for DistanceRow<'_, P> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let width = self.width;
        let a = &self.rows[self.i * width..][..width];
        for j in 0..self.i {
            let b = &self.rows[j * width..][..width];
            let mut sums = [[0.0; LANES]; 2];
            for (k, (a, b)) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)).enumerate() {
                let sum = &mut sums[k % 2];
                for lane in 0..LANES {
                    let difference = a[lane] - b[lane];
                    sum[lane] += difference * difference;
                }
            }
            let mut total = [0.0; LANES];
            for lane in 0..LANES {
                total[lane] = sums[0][lane] + sums[1][lane];
            }
            (self.put)(self.i, j, add_lanes(total));
        }
    }
}

/// The sum of the lanes, pairwise.
#[inline(always)]
fn add_lanes(v: [f64; LANES]) -> f64 {
    (v[0] + v[2]) + (v[1] + v[3])
}

/// Brings a gradient over squared distances back to the rows: `out_i = 2 sum_j (m_ij + m_ji) (row_i - row_j)`.
///
/// `gradient` is n x n of [`stride`]`(n)`; m_ij and m_ji are added, so either or both may carry the pair's share.
/// Returns `[n, stride(d)]`.
pub fn pull_back(pool: &Pool, rows: &[f64], gradient: &[f64], n: usize, d: usize) -> Vec<f64> {
    check::length("pull_back", "rows", rows.len(), n * stride(d));
    check::length("pull_back", "gradient", gradient.len(), n * stride(n));
    let width = stride(d);
    let mut out = vec![0.0; n * width];
    if width > 0 {
        pool.for_each_chunk(&mut out, SWEEP * width, |block, out| {
            for (offset, out) in out.chunks_exact_mut(width).enumerate() {
                dispatch(pool.isa(), PullRow { rows, gradient, n, i: block * SWEEP + offset, out });
            }
        });
    }
    out
}

/// One row of [`pull_back`].
struct PullRow<'a> {
    rows: &'a [f64],
    gradient: &'a [f64],
    n: usize,
    i: usize,
    out: &'a mut [f64],
}

impl Kernel for PullRow<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let (width, n_stride, i) = (self.out.len(), stride(self.n), self.i);
        let a = &self.rows[i * width..][..width];
        for j in 0..self.n {
            let weight = 2.0 * (self.gradient[i * n_stride + j] + self.gradient[j * n_stride + i]);
            if weight == 0.0 || i == j {
                continue;
            }
            let b = &self.rows[j * width..][..width];
            for ((out, a), b) in self.out.chunks_exact_mut(LANES).zip(a.chunks_exact(LANES)).zip(b.chunks_exact(LANES))
            {
                for lane in 0..LANES {
                    out[lane] += weight * (a[lane] - b[lane]);
                }
            }
        }
    }
}

/// The sum over all ordered triples of huber(student cos - teacher cos), and its gradient over the student's squared
/// distances, in the form [`pull_back`] takes. Neither is divided by anything.
///
/// `student` and `teacher` are n x n of [`stride`]`(n)`; `delta` is the Huber threshold, positive. Exact; O(n^2) memory,
/// O(n^3) time; the same bits on any number of threads.
pub fn angle_huber(pool: &Pool, student: &[f64], teacher: &[f64], n: usize, delta: f64) -> (f64, Vec<f64>) {
    check::length("angle_huber", "student", student.len(), n * stride(n));
    check::length("angle_huber", "teacher", teacher.len(), n * stride(n));
    let mut gradient = vec![0.0; n * stride(n)];
    let mut values = vec![0.0; n.div_ceil(ROWS)];
    let sums = Parts::new(&mut values);
    if n > 0 {
        pool.for_each_chunk(&mut gradient, ROWS * stride(n), |block, out| {
            let value = angle_rows(pool.isa(), student, teacher, n, block * ROWS, delta, out);
            // SAFETY: one block writes one place.
            unsafe { *sums.pointer(block) = value };
        });
    }
    (values.iter().sum(), gradient)
}

/// The part of [`angle_huber`] whose first leg ends in the rows from `first` on; `out` are those rows of the gradient.
fn angle_rows(isa: Isa, student: &[f64], teacher: &[f64], n: usize, first: usize, delta: f64, out: &mut [f64]) -> f64 {
    let rows = out.len() / stride(n);
    let legs = Legs::new(student, teacher, n, first, rows);
    let mut value = 0.0;
    for start in (0..stride(n)).step_by(COLUMNS) {
        let columns = start..stride(n).min(start + COLUMNS);
        value += dispatch(isa, AngleTile { student, teacher, n, first, columns, delta, legs: &legs, out });
    }
    value
}

/// The reciprocal lengths r_ab of a block of rows b, for both networks: `[n][ROWS]`.
struct Legs {
    student: Vec<[f64; ROWS]>,
    teacher: Vec<[f64; ROWS]>,
}

impl Legs {
    fn new(student: &[f64], teacher: &[f64], n: usize, first: usize, rows: usize) -> Legs {
        let of = |matrix: &[f64]| {
            let leg = |a: usize| {
                let mut legs = [0.0; ROWS];
                let squared = &matrix[a * stride(n) + first..][..rows];
                legs.iter_mut().zip(squared).for_each(|(leg, &squared)| *leg = reciprocal_root(squared));
                legs
            };
            (0..n).map(leg).collect()
        };
        Legs { student: of(student), teacher: of(teacher) }
    }
}

/// `x^(-1/2)`, and 0 for 0.
#[inline(always)]
fn reciprocal_root(x: f64) -> f64 {
    let root = 1.0 / x.sqrt();
    if x > 0.0 { root } else { 0.0 }
}

/// A block of rows b by a stretch of columns c, all vertices a.
struct AngleTile<'a, 'b> {
    student: &'a [f64],
    teacher: &'a [f64],
    n: usize,
    first: usize,
    columns: std::ops::Range<usize>,
    delta: f64,
    legs: &'a Legs,
    out: &'b mut [f64],
}

impl Kernel for AngleTile<'_, '_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self) -> f64 {
        let (row, columns) = (stride(self.n), self.columns.clone());
        let rows = self.out.len() / row;
        let mut half_legs = [[0.0; COLUMNS]; 2];
        let (mut value, mut scratch) = ([0.0; COLUMNS], [[0.0; COLUMNS]; 4]);
        for a in 0..self.n {
            let student_a = &self.student[a * row..][columns.clone()];
            let teacher_a = &self.teacher[a * row..][columns.clone()];
            for (half, squared) in half_legs.iter_mut().zip([student_a, teacher_a]) {
                for (half, &squared) in half.iter_mut().zip(squared) {
                    *half = 0.5 * reciprocal_root(squared);
                }
            }
            for b in 0..rows {
                let (leg_s, leg_t) = (self.legs.student[a][b], self.legs.teacher[a][b]);
                let at = (self.first + b) * row;
                let pair = Pair {
                    legs: [leg_s, leg_t],
                    squared: [self.student[at + a], self.teacher[at + a]],
                    vertex: [student_a, teacher_a],
                    row: [&self.student[at..][columns.clone()], &self.teacher[at..][columns.clone()]],
                    half_legs: &half_legs,
                    delta: self.delta,
                };
                let out = &mut self.out[b * row..][..row];
                let (sum_legs, sum_cosines) = pair.run(&mut scratch, &mut out[columns.clone()], &mut value);
                // The leg (a, b): both orders of b and c.
                out[a] += 2.0 * leg_s * sum_legs - leg_s * leg_s * sum_cosines;
            }
        }
        sum(&value)
    }
}

/// One vertex a, one row b, a stretch of columns c; pairs are student, teacher.
struct Pair<'a> {
    legs: [f64; 2],
    squared: [f64; 2],
    vertex: [&'a [f64]; 2],
    row: [&'a [f64]; 2],
    half_legs: &'a [[f64; COLUMNS]; 2],
    delta: f64,
}

impl Pair<'_> {
    /// Adds the edges' gradient to `edges` and the losses to `value`; returns sum g r_ac / 2 and sum g cos_abc.
    ///
    /// The first loop has no sum across columns and writes to the caller's local `scratch` only, which cannot overlap its
    /// inputs: so the compiler turns it into vector instructions.
    #[inline(always)]
    fn run(&self, scratch: &mut [[f64; COLUMNS]; 4], edges: &mut [f64], value: &mut [f64; COLUMNS]) -> (f64, f64) {
        let columns = edges.len().min(COLUMNS);
        let [vertex_s, vertex_t] = self.vertex.map(|row| &row[..columns]);
        let [row_s, row_t] = self.row.map(|row| &row[..columns]);
        let (half_s, half_t) = (&self.half_legs[0][..columns], &self.half_legs[1][..columns]);
        let ([leg_s, leg_t], [squared_s, squared_t], delta) = (self.legs, self.squared, self.delta);
        let [losses, steps, legs, cosines] = scratch;
        for c in 0..columns {
            let product = leg_s * half_s[c];
            let cos_s = (squared_s + vertex_s[c] - row_s[c]) * product;
            let cos_t = (squared_t + vertex_t[c] - row_t[c]) * (leg_t * half_t[c]);
            let difference = cos_s - cos_t;
            let above = if difference > delta { delta } else { difference };
            let g = if above < -delta { -delta } else { above };
            // huber(x) = g (x - g / 2) with g = huber'(x), on both branches.
            losses[c] = g * (difference - 0.5 * g);
            steps[c] = g * product;
            legs[c] = g * half_s[c];
            cosines[c] = g * cos_s;
        }
        edges.iter_mut().zip(&*steps).for_each(|(edge, step)| *edge -= step);
        value.iter_mut().zip(&losses[..columns]).for_each(|(value, loss)| *value += loss);
        (sum(&legs[..columns]), sum(&cosines[..columns]))
    }
}

/// The sum of a row of whole vectors, lane by lane.
#[inline(always)]
fn sum(row: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    for chunk in row.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            sums[lane] += chunk[lane];
        }
    }
    add_lanes(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(n: usize, d: usize, seed: u64) -> Vec<f64> {
        let mut state = seed;
        (0..n * d)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 40) as f64 / (1u64 << 23) as f64 - 1.0
            })
            .collect()
    }

    /// The definition: unit vectors from the vertex, all triples.
    fn naive_angle(student: &[f64], teacher: &[f64], n: usize, ds: usize, dt: usize, delta: f64) -> f64 {
        let cosine = |z: &[f64], d: usize, a: usize, b: usize, c: usize| {
            let leg = |i: usize| (0..d).map(|k| z[i * d + k] - z[a * d + k]).collect::<Vec<f64>>();
            let (u, v) = (leg(b), leg(c));
            let dot = |u: &[f64], v: &[f64]| u.iter().zip(v).map(|(u, v)| u * v).sum::<f64>();
            let lengths = dot(&u, &u).sqrt() * dot(&v, &v).sqrt();
            if lengths > 0.0 { dot(&u, &v) / lengths } else { 0.0 }
        };
        let mut total = 0.0;
        for a in 0..n {
            for b in 0..n {
                for c in 0..n {
                    let x = cosine(student, ds, a, b, c) - cosine(teacher, dt, a, b, c);
                    total += if x.abs() <= delta { 0.5 * x * x } else { delta * (x.abs() - 0.5 * delta) };
                }
            }
        }
        total
    }

    fn angle(
        pool: &Pool,
        student: &[f64],
        teacher: &[f64],
        n: usize,
        ds: usize,
        dt: usize,
        delta: f64,
    ) -> (f64, Vec<f64>) {
        let (s, t) = (widen(student, n, ds), widen(teacher, n, dt));
        let (squared_s, squared_t) = (squared_distances(pool, &s, n, ds), squared_distances(pool, &t, n, dt));
        let (value, gradient) = angle_huber(pool, &squared_s, &squared_t, n, delta);
        (value, pull_back(pool, &s, &gradient, n, ds))
    }

    #[test]
    fn equals_the_definition_and_its_numeric_gradient() {
        for (n, ds, dt, delta) in [(2, 3, 3, 1.0), (5, 2, 4, 1.0), (9, 5, 3, 0.1), (41, 3, 9, 1.0), (70, 2, 2, 0.5)] {
            let (student, teacher) = (rows(n, ds, 1), rows(n, dt, 2));
            let (value, gradient) = angle(&Pool::new(2), &student, &teacher, n, ds, dt, delta);
            let naive = naive_angle(&student, &teacher, n, ds, dt, delta);
            assert!((value - naive).abs() <= 1e-10 * naive.abs().max(1e-3), "n={n}: {value} {naive}");
            let largest = gradient.iter().fold(0.0f64, |m, g| m.max(g.abs()));
            for place in [0, (n * ds) / 2, n * ds - 1] {
                let at = |step: f64| {
                    let mut moved = student.clone();
                    moved[place] += step;
                    naive_angle(&moved, &teacher, n, ds, dt, delta)
                };
                let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
                let analytic = gradient[place / ds * stride(ds) + place % ds];
                assert!((numeric - analytic).abs() <= 1e-6 * largest.max(1e-6), "n={n}: {numeric} {analytic}");
            }
        }
    }

    #[test]
    fn threads_and_vector_instructions_do_not_change_a_bit() {
        let (n, ds, dt) = (75, 11, 19);
        let (student, teacher) = (rows(n, ds, 3), rows(n, dt, 4));
        let expected = angle(&Pool::new(1), &student, &teacher, n, ds, dt, 1.0);
        for threads in [2, 3] {
            assert!(angle(&Pool::new(threads), &student, &teacher, n, ds, dt, 1.0) == expected, "{threads} threads");
        }
        for isa in Isa::supported() {
            assert!(angle(&Pool::with_isa(2, isa), &student, &teacher, n, ds, dt, 1.0) == expected, "{isa:?}");
        }
    }

    #[test]
    fn distances_are_those_of_differences() {
        let (n, d) = (19, 21);
        let z: Vec<f32> = rows(n, d, 5).iter().map(|&v| v as f32 + 300.0).collect();
        let matrix = squared_distances(&Pool::new(2), &widen(&z, n, d), n, d);
        for i in 0..n {
            for j in 0..n {
                let expected: f64 =
                    (0..d).map(|k| f64::from(z[i * d + k]) - f64::from(z[j * d + k])).map(|x| x * x).sum();
                assert!((matrix[i * stride(n) + j] - expected).abs() <= 1e-12 * expected);
            }
        }
    }

    #[test]
    fn coincident_rows_have_no_gradient_between_them_and_nothing_is_nan() {
        let (n, d) = (6, 3);
        let mut student = rows(n, d, 6);
        student.copy_within(0..d, 2 * d);
        let (value, gradient) = angle(&Pool::new(1), &student, &rows(n, d, 7), n, d, d, 1.0);
        assert!(value.is_finite() && gradient.iter().all(|g| g.is_finite()));
        let (value, gradient) = angle(&Pool::new(1), &vec![0.5; n * d], &rows(n, d, 7), n, d, d, 1.0);
        assert!(value > 0.0 && gradient.iter().all(|&g| g == 0.0));
    }
}
