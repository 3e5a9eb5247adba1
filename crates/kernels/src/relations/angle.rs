//! The sum of the angle loss over all triples, and its gradient over squared distances.
//!
//! With l_ab = D_ab^(1/2) and r_ab = 1 / l_ab (0 where D_ab is 0), the cosine of the angle at vertex a between b and c
//! is, by the law of cosines,
//!
//! ```text
//! 2 cos_abc = r_ab ((D_ab - D_bc) r_ac + l_ac)
//! ```
//! and the loss is the sum over all a and b != c of huber(student cos - teacher cos). With g = huber' the gradient is
//!
//! ```text
//! edge {b, c}:  dL/dD_bc  = - sum_a g_abc r_ab r_ac
//! leg  (a, b):  dL/dD_ab  =   r_ab sum_c g_abc r_ac - r_ab^2 sum_c g_abc cos_abc
//! ```
//! The cosine is the same with b and c exchanged, so only pairs b < c are visited, and each gives to three places: the
//! edge {b, c} and the legs (a, b) and (a, c).
//!
//! # Order of work
//! Vector lanes are vertices a, so that b < c is a matter of loops and not of masks. 128 vertices are taken at a time;
//! for them a *panel* holds r and l of both networks for every row b, and the two sums of its leg. Rows come in blocks
//! of 16: a pair of blocks against 8 vertices is 256 pairs on 28 KiB, in the first-level cache. A pair costs 16 vector
//! operations, so n items cost n^3 / 2 * 16 / 8 / 2 = n^3 / 2 cycles where two vectors of 8 start every cycle.
//!
//! Two pairs of blocks that share a block add to the same legs, so they may not run at once. Round k takes the pairs
//! whose numbers add up to k modulo their count: every block is in one pair of each round, and all pairs come once. The
//! order of additions is then that of the rounds, on any number of threads.

use std::ops::Range;

use super::stride;
use crate::simd::doubles::{Doubles, WIDTH, add_lanes};
use crate::simd::{Kernel, Simd, dispatch};
use crate::team::Parts;
use crate::{Team, check, scratch};

/// Rows of a block.
const ROWS: usize = 16;
/// Vertices of a panel.
const VERTICES: usize = 128;
/// What a panel has for each row and vector of vertices: r and l of the student, of the teacher, and the two sums
/// sum_c 2 g r_ac and sum_c 4 g cos_abc.
const FIELDS: usize = 6;
/// Doubles of a row and a vector of vertices.
const ENTRY: usize = FIELDS * WIDTH;
/// The places of the fields in an entry.
const R_STUDENT: usize = 0;
const L_STUDENT: usize = WIDTH;
const R_TEACHER: usize = 2 * WIDTH;
const L_TEACHER: usize = 3 * WIDTH;
const LEGS: usize = 4 * WIDTH;
const COSINES: usize = 5 * WIDTH;

/// What [`angle_huber`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct AngleSum {
    /// The sum over all ordered triples (a, b, c) with b != c.
    pub value: f64,
    /// Its gradient over the student's squared distances, in the form [`super::pull_back`] takes.
    pub gradient: Vec<f64>,
    /// The ordered pairs (a, b) that coincide for one network and not for the other. The definition sums b = c too:
    /// there the cosines are 1, but 0 at a leg without length, so each of these pairs adds huber(1), without gradient.
    pub one_sided: usize,
}

/// The sum over all ordered triples of huber(student cos - teacher cos), and its gradient. Neither is divided by
/// anything.
///
/// `student` and `teacher` are n x n squared distances of [`stride`]`(n)`; `delta` is the Huber threshold, positive.
/// Exact; O(n^2) memory, O(n^3) time.
pub fn angle_huber(team: &Team, student: &[f64], teacher: &[f64], n: usize, delta: f64) -> AngleSum {
    angle_huber_at(team, student, teacher, n, delta, 0..angle_panels(n))
}

/// The panels of vertices that the sum over `n` items has, see the module's head.
pub fn angle_panels(n: usize) -> usize {
    n.div_ceil(VERTICES)
}

/// [`angle_huber`] over the triples whose vertex is in one of these `panels` of [`angle_panels`]`(n)`: sums and gradients of
/// disjoint panels add up to the whole.
pub fn angle_huber_at(
    team: &Team,
    student: &[f64],
    teacher: &[f64],
    n: usize,
    delta: f64,
    panels: Range<usize>,
) -> AngleSum {
    check::length("angle_huber", "student", student.len(), n * stride(n));
    check::length("angle_huber", "teacher", teacher.len(), n * stride(n));
    assert!(panels.end <= angle_panels(n), "angle_huber: panels {panels:?} of {}", angle_panels(n));
    let mut gradient = vec![0.0; n * stride(n)];
    let blocks = n.div_ceil(ROWS);
    let groups = blocks.div_ceil(group(n));
    let (mut values, mut one_sided) = (vec![0.0; groups * groups], vec![0; blocks]);
    scratch::with_doubles(blocks * ROWS * VERTICES.min(stride(n)) * FIELDS, |panel| {
        let (panel, gradient) = (Parts::new(panel), Parts::new(&mut gradient));
        let (values, one_sided) = (Parts::new(&mut values), Parts::new(&mut one_sided));
        for start in panels.map(|panel| panel * VERTICES) {
            let vectors = VERTICES.min(stride(n) - start) / WIDTH;
            let sweep = Sweep { student, teacher, n, delta, start, vectors, panel: &panel, gradient: &gradient };
            team.for_each(blocks, |block| {
                // SAFETY: each block runs once, before any pair of groups: its entries are this call's alone.
                let count = dispatch(team.isa(), unsafe { Fill::new(sweep, block) });
                // SAFETY: `one_sided` has a place for each block, and only this call writes it.
                unsafe { *one_sided.pointer(block) += count };
            });
            for round in 0..groups {
                let partner = |first: usize| (round + groups - first) % groups;
                let pairs: Vec<usize> = (0..groups).filter(|&first| first <= partner(first)).collect();
                team.for_each(pairs.len(), |index| {
                    let (first, second) = (pairs[index], partner(pairs[index]));
                    // SAFETY: the pairs of a round have no group in common, since first + second = round modulo groups
                    // gives each group one partner; and no pair comes in two rounds, so none has another's edges.
                    let value = dispatch(team.isa(), unsafe { Groups::new(sweep, first, second) });
                    // SAFETY: `values` has a place for each pair of groups, and only this call writes it.
                    unsafe { *values.pointer(first * groups + second) += value };
                });
            }
            team.for_each(blocks, |block| {
                // SAFETY: each block runs once, after all pairs: its entries and rows of the gradient are this call's
                // alone.
                dispatch(team.isa(), unsafe { Legs::new(sweep, block) })
            });
        }
    });
    AngleSum { value: values.iter().sum(), gradient, one_sided: one_sided.iter().sum() }
}

/// Blocks of a group, the unit of work: more where there are many, for fewer rounds and less memory traffic.
fn group(n: usize) -> usize {
    match n {
        0..=256 => 1,
        257..=1024 => 2,
        _ => 4,
    }
}

/// All there is to know for one panel.
#[derive(Clone, Copy)]
struct Sweep<'a> {
    student: &'a [f64],
    teacher: &'a [f64],
    n: usize,
    delta: f64,
    /// The first vertex, and how many vectors of them there are.
    start: usize,
    vectors: usize,
    /// `[block][vector][row][field][lane]`.
    panel: &'a Parts<'a, f64>,
    gradient: &'a Parts<'a, f64>,
}

impl Sweep<'_> {
    /// The rows of a block.
    #[inline(always)]
    fn rows(&self, block: usize) -> usize {
        ROWS.min(self.n - block * ROWS)
    }

    /// The panel's place of the first row of `block` and of vector `vector`: ROWS entries from there on lie in the
    /// panel.
    #[inline(always)]
    fn entry(&self, block: usize, vector: usize) -> *mut f64 {
        let entries = (block * self.vectors + vector) * ROWS;
        debug_assert!(self.start + vector * WIDTH < stride(self.n));
        self.panel.pointer((entries + ROWS) * ENTRY).wrapping_sub(ROWS * ENTRY)
    }
}

/// Writes r and l of a block of rows and clears its sums; counts the legs that one network only has.
struct Fill<'a> {
    sweep: Sweep<'a>,
    block: usize,
}

impl<'a> Fill<'a> {
    /// # Safety
    /// Nobody else uses the entries of `block` until the kernel has run.
    unsafe fn new(sweep: Sweep<'a>, block: usize) -> Self {
        Fill { sweep, block }
    }
}

impl Kernel for Fill<'_> {
    type Output = usize;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> usize {
        let Sweep { n, start, vectors, .. } = self.sweep;
        let mut one_sided = 0;
        for vector in 0..vectors {
            for row in 0..self.sweep.rows(self.block) {
                // SAFETY: `entry` gives ROWS entries inside the panel, of which this is one; they are doubles from the
                // start, and this kernel's alone by `Fill::new`.
                let entry = unsafe {
                    std::slice::from_raw_parts_mut(self.sweep.entry(self.block, vector).add(row * ENTRY), ENTRY)
                };
                let at = (self.block * ROWS + row) * stride(n) + start + vector * WIDTH;
                let (student, teacher) = (&self.sweep.student[at..][..WIDTH], &self.sweep.teacher[at..][..WIDTH]);
                entry.fill(0.0);
                for (squared, field) in [(student, R_STUDENT), (teacher, R_TEACHER)] {
                    let (r, l) = entry[field..][..2 * WIDTH].split_at_mut(WIDTH);
                    for lane in 0..WIDTH {
                        let root = squared[lane].sqrt();
                        let reciprocal = 1.0 / root;
                        l[lane] = root;
                        r[lane] = if squared[lane] > 0.0 { reciprocal } else { 0.0 };
                    }
                }
                for lane in 0..WIDTH {
                    one_sided += usize::from((student[lane] > 0.0) != (teacher[lane] > 0.0));
                }
            }
        }
        one_sided
    }
}

/// All pairs of rows of two groups; returns their losses.
struct Groups<'a> {
    sweep: Sweep<'a>,
    first: usize,
    second: usize,
}

impl<'a> Groups<'a> {
    /// # Safety
    /// Until the kernel has run, nobody else uses the entries of the two groups or the gradient of their edges. The
    /// entries have been filled.
    unsafe fn new(sweep: Sweep<'a>, first: usize, second: usize) -> Self {
        Groups { sweep, first, second }
    }
}

impl Kernel for Groups<'_> {
    type Output = f64;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f64 {
        let (n, size) = (self.sweep.n, group(self.sweep.n));
        let blocks = |group: usize| group * size..n.div_ceil(ROWS).min((group + 1) * size);
        let mut losses = Losses { products: [0.0; WIDTH], squares: [0.0; WIDTH] };
        for first in blocks(self.first) {
            for second in blocks(self.second) {
                if first <= second {
                    // SAFETY: the instruction set is there by the contract of `run`; the blocks are those of the two
                    // groups, and `Groups::new` gave this kernel their entries and edges.
                    unsafe { self.sweep.blocks::<S::F64>(first, second, &mut losses) };
                }
            }
        }
        losses.sum()
    }
}

/// Sums of (2 g) (2 x) and (2 g)^2 over pairs, x the difference of cosines and g its huber'.
struct Losses {
    products: [f64; WIDTH],
    squares: [f64; WIDTH],
}

impl Losses {
    /// The sum of huber(x) = g (x - g / 2), on both branches, over both orders of every pair.
    fn sum(&self) -> f64 {
        0.5 * add_lanes(&self.products) - 0.25 * add_lanes(&self.squares)
    }
}

/// sum_a 2 g r_ab r_ac for the pairs of rows of two blocks, a vector each; no vector lies across two cache lines.
#[repr(align(64))]
struct Edges([f64; ROWS * ROWS * WIDTH]);

impl Sweep<'_> {
    /// The pairs b < c of two blocks of rows, all vertices of the panel.
    ///
    /// # Safety
    /// The instruction set of `F` is available, and nobody else uses the entries of the two blocks or the gradient of
    /// their edges.
    #[inline(always)]
    unsafe fn blocks<F: Doubles>(&self, first: usize, second: usize, losses: &mut Losses) {
        let (rows_b, rows_c, row) = (self.rows(first), self.rows(second), stride(self.n));
        // The block's corner of the matrices; the last column of the last row lies inside.
        let corner = first * ROWS * row + second * ROWS;
        let (student, teacher) = (&self.student[corner..], &self.teacher[corner..]);
        assert!((rows_b - 1) * row + rows_c <= student.len() && student.len() == teacher.len());
        let mut edges = Edges([0.0; ROWS * ROWS * WIDTH]);
        for vector in 0..self.vectors {
            let (entries_b, entries_c) = (self.entry(first, vector), self.entry(second, vector));
            let vertices = self.start + vector * WIDTH;
            for lane in (0..WIDTH).step_by(F::LANES) {
                // SAFETY: the caller has the instruction set, and the entries, ROWS * ENTRY doubles each, to itself.
                // When both blocks are one, row b's sums are held in registers while the rows behind it change. Places
                // of the matrices are in bounds by the assertion, those of row b at the vertices too, as these end
                // before `row`; `edges` has a vector for every pair of two rows, and the sums of the losses have LANES
                // left from `lane` on.
                unsafe {
                    let (low, high) = (F::splat(-2.0 * self.delta), F::splat(2.0 * self.delta));
                    let mut products = F::load(losses.products[lane..].as_ptr());
                    let mut squares = F::load(losses.squares[lane..].as_ptr());
                    for b in 0..rows_b {
                        let entry_b = entries_b.add(b * ENTRY + lane);
                        let (r_s, r_t) = (F::load(entry_b.add(R_STUDENT)), F::load(entry_b.add(R_TEACHER)));
                        let leg = (first * ROWS + b) * row + vertices + lane;
                        let (leg_s, leg_t) =
                            (F::load(self.student.as_ptr().add(leg)), F::load(self.teacher.as_ptr().add(leg)));
                        let (mut legs, mut cosines) = (F::load(entry_b.add(LEGS)), F::load(entry_b.add(COSINES)));
                        for c in if first == second { b + 1 } else { 0 }..rows_c {
                            let entry_c = entries_c.add(c * ENTRY + lane);
                            let edge_s = F::splat(*student.as_ptr().add(b * row + c));
                            let edge_t = F::splat(*teacher.as_ptr().add(b * row + c));
                            let r_c = F::load(entry_c.add(R_STUDENT));
                            // Cosines, slopes and losses are doubled ones throughout.
                            let cos_s = F::mul_add(F::sub(leg_s, edge_s), r_c, F::load(entry_c.add(L_STUDENT)));
                            let cos_s = F::mul(r_s, cos_s);
                            let cos_t = F::mul_add(
                                F::sub(leg_t, edge_t),
                                F::load(entry_c.add(R_TEACHER)),
                                F::load(entry_c.add(L_TEACHER)),
                            );
                            let x = F::neg_mul_add(r_t, cos_t, cos_s);
                            let g = F::clamp(x, low, high);
                            products = F::mul_add(g, x, products);
                            squares = F::mul_add(g, g, squares);
                            let weight = F::mul(g, r_c);
                            let edge = edges.0.as_mut_ptr().add((b * ROWS + c) * WIDTH + lane);
                            F::store(edge, F::mul_add(weight, r_s, F::load(edge)));
                            legs = F::add(legs, weight);
                            cosines = F::mul_add(g, cos_s, cosines);
                            let (legs_c, cosines_c) = (entry_c.add(LEGS), entry_c.add(COSINES));
                            F::store(legs_c, F::mul_add(g, r_s, F::load(legs_c)));
                            F::store(cosines_c, F::mul_add(g, cos_s, F::load(cosines_c)));
                        }
                        F::store(entry_b.add(LEGS), legs);
                        F::store(entry_b.add(COSINES), cosines);
                    }
                    F::store(losses.products[lane..].as_mut_ptr(), products);
                    F::store(losses.squares[lane..].as_mut_ptr(), squares);
                }
            }
        }
        for b in 0..rows_b {
            for c in if first == second { b + 1 } else { 0 }..rows_c {
                let edge = &edges.0.as_chunks::<WIDTH>().0[b * ROWS + c];
                // SAFETY: `pointer` checks that the place lies inside; the gradient of the edge {b, c} is the caller's
                // alone.
                unsafe { *self.gradient.pointer(corner + b * row + c) -= 0.5 * add_lanes(edge) };
            }
        }
    }
}

/// Adds the legs of a block of rows to the gradient.
struct Legs<'a> {
    sweep: Sweep<'a>,
    block: usize,
}

impl<'a> Legs<'a> {
    /// # Safety
    /// Nobody else uses the entries of `block` or its rows of the gradient until the kernel has run.
    unsafe fn new(sweep: Sweep<'a>, block: usize) -> Self {
        Legs { sweep, block }
    }
}

impl Kernel for Legs<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Sweep { n, start, vectors, .. } = self.sweep;
        for row in 0..self.sweep.rows(self.block) {
            for vector in 0..vectors {
                let at = (self.block * ROWS + row) * stride(n) + start + vector * WIDTH;
                // SAFETY: `entry` gives ROWS entries inside the panel, of which this is one, and `slice` checks its
                // bounds; both are this kernel's alone by `Legs::new`.
                let (entry, out) = unsafe {
                    let entry = self.sweep.entry(self.block, vector).add(row * ENTRY);
                    (std::slice::from_raw_parts(entry, ENTRY), self.sweep.gradient.slice(at, WIDTH))
                };
                for lane in 0..WIDTH {
                    let r = entry[R_STUDENT + lane];
                    out[lane] += r * (0.5 * entry[LEGS + lane] - 0.25 * r * entry[COSINES + lane]);
                }
            }
        }
    }
}
