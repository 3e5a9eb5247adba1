//! Layer normalisation (Ba, Kiros, Hinton 2016): every row by its own mean and variance, then a scale and a shift of each
//! column.
//!
//! ```text
//! h = (x - mean) r,   r = 1 / sqrt(variance + epsilon),   y = h w + b
//! g = dy w,   dx = r (g - mean of g - h mean of (g h)),   dw = sum of dy h,   db = sum of dy over the rows
//! ```
//! Shapes: rows of c; x, y, dy, dx [rows, c], w, b [c], mean, r [rows]. Sums are taken in f64.

use crate::columns::block_rows;
use crate::rows::Sum;
use crate::simd::doubles::Doubles;
use crate::simd::{Kernel, Simd, dispatch};
use crate::team::Parts;
use crate::{Team, check};

/// Normalises every row of `x`; `mean` and `rstd` (one a row) receive what the gradient needs. Overwrites all three.
#[allow(clippy::too_many_arguments)] // The formula's letters.
pub fn layer_norm(
    team: &Team,
    c: usize,
    epsilon: f64,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    y: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
) {
    check::length("layer_norm", "y", y.len(), x.len());
    check::length("layer_norm", "weight", weight.len(), c);
    check::length("layer_norm", "bias", bias.len(), c);
    check::length("layer_norm", "mean", mean.len() * c, x.len());
    check::length("layer_norm", "rstd", rstd.len(), mean.len());
    let (rows, mean, rstd) = (block_rows(c), Parts::new(mean), Parts::new(rstd));
    team.for_each_chunk(y, rows * c.max(1), |block, y| {
        let (first, count) = (block * rows, y.len() / c);
        // SAFETY: each block has rows of its own, and runs once.
        let (mean, rstd) = unsafe { (mean.slice(first, count), rstd.slice(first, count)) };
        let x = &x[first * c..][..y.len()];
        dispatch(team.isa(), Forward { c, epsilon, x, weight, bias, y, mean, rstd });
    });
}

/// The gradients of [`layer_norm`] from its input and what it noted, that of the input plus `added` where there is any: what
/// comes around the layer. Overwrites `dx`, `dweight` and `dbias`.
#[allow(clippy::too_many_arguments)] // The formula's letters.
pub fn layer_norm_backward(
    team: &Team,
    x: &[f32],
    weight: &[f32],
    mean: &[f32],
    rstd: &[f32],
    dy: &[f32],
    added: Option<&[f32]>,
    dx: &mut [f32],
    dweight: &mut [f32],
    dbias: &mut [f32],
) {
    let c = weight.len();
    check::length("layer_norm_backward", "dy", dy.len(), x.len());
    check::length("layer_norm_backward", "dx", dx.len(), x.len());
    if let Some(added) = added {
        check::length("layer_norm_backward", "added", added.len(), x.len());
    }
    check::length("layer_norm_backward", "mean", mean.len() * c, x.len());
    check::length("layer_norm_backward", "rstd", rstd.len(), mean.len());
    check::length("layer_norm_backward", "dweight", dweight.len(), c);
    check::length("layer_norm_backward", "dbias", dbias.len(), c);
    let (rows, padded) = (block_rows(c), c.next_multiple_of(LARGEST));
    let mut sums = vec![0.0; mean.len().div_ceil(rows) * 2 * padded];
    let parts = Parts::new(dx);
    team.for_each_chunk(&mut sums, (2 * padded).max(1), |block, sums| {
        let first = block * rows;
        let count = rows.min(mean.len() - first);
        // SAFETY: each block has rows of its own, and runs once.
        let dx = unsafe { parts.slice(first * c, count * c) };
        let [x, dy] = [x, dy].map(|values| &values[first * c..][..count * c]);
        let added = added.map(|values| &values[first * c..][..count * c]);
        let [mean, rstd] = [mean, rstd].map(|values| &values[first..][..count]);
        let (dweight, dbias) = sums.split_at_mut(padded);
        dispatch(team.isa(), Backward { c, x, weight, mean, rstd, dy, added, dx, dweight, dbias });
    });
    for (offset, out) in [(0, dweight), (padded, dbias)] {
        for (column, out) in out.iter_mut().enumerate() {
            *out = sums.chunks_exact(2 * padded).map(|block| block[offset + column]).sum::<f64>() as f32;
        }
    }
}

/// Floats of the widest vector.
const LARGEST: usize = 16;

struct Forward<'a> {
    c: usize,
    epsilon: f64,
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    y: &'a mut [f32],
    mean: &'a mut [f32],
    rstd: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let c = self.c;
        assert!(self.weight.len() == c && self.bias.len() == c, "layer_norm: columns differ");
        let (x, y) = (self.x.chunks_exact(c), self.y.chunks_exact_mut(c));
        for ((x, y), (mean, rstd)) in x.zip(y).zip(self.mean.iter_mut().zip(self.rstd)) {
            // SAFETY: all rows are c long and `at` is below c; no first `c - at` floats exceed them. The instruction set
            // is there by the contract of `run`.
            unsafe {
                let (mut sum, mut squares) = (Sum::<S>::new(), Sum::<S>::new());
                for at in (0..c).step_by(S::LANES) {
                    let x = S::load_first(x.as_ptr().add(at), c - at);
                    sum.add(x);
                    squares.add_product(x, x);
                }
                let centre = sum.total() / c as f64;
                let variance = squares.total() / c as f64 - centre * centre;
                // Rounding may take it below 0; a NaN stays.
                let variance = if variance < 0.0 { 0.0 } else { variance };
                (*mean, *rstd) = (centre as f32, (1.0 / (variance + self.epsilon).sqrt()) as f32);
                for at in (0..c).step_by(S::LANES) {
                    let [x, weight, bias] =
                        [x, self.weight, self.bias].map(|from| S::load_first(from.as_ptr().add(at), c - at));
                    let h = S::mul(S::sub(x, S::splat(*mean)), S::splat(*rstd));
                    S::store_first(y.as_mut_ptr().add(at), S::mul_add(h, weight, bias), c - at);
                }
            }
        }
    }
}

struct Backward<'a> {
    c: usize,
    x: &'a [f32],
    weight: &'a [f32],
    mean: &'a [f32],
    rstd: &'a [f32],
    dy: &'a [f32],
    added: Option<&'a [f32]>,
    dx: &'a mut [f32],
    /// Sums over the block's rows, zeros at first, as long as whole vectors.
    dweight: &'a mut [f64],
    dbias: &'a mut [f64],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let c = self.c;
        let long = self.dweight.len().min(self.dbias.len()) >= c.next_multiple_of(S::LANES);
        assert!(self.weight.len() == c && long, "layer_norm_backward: columns differ");
        let (dweight, dbias) = (self.dweight.as_mut_ptr(), self.dbias.as_mut_ptr());
        let rows = self.x.chunks_exact(c).zip(self.dy.chunks_exact(c)).zip(self.dx.chunks_exact_mut(c));
        for (row, (((x, dy), dx), (&mean, &rstd))) in rows.zip(self.mean.iter().zip(self.rstd)).enumerate() {
            let added = self.added.map(|added| &added[row * c..][..c]);
            // SAFETY: as in `Forward`; the sums are as long as whole vectors.
            unsafe {
                let statistics = [S::splat(mean), S::splat(rstd)];
                let rows = [x.as_ptr(), dy.as_ptr(), self.weight.as_ptr()];
                let (mut sum, mut product) = (Sum::<S>::new(), Sum::<S>::new());
                for at in (0..c).step_by(S::LANES) {
                    // Beyond the columns g is 0, and so are the products.
                    let [g, h] = gradient::<S>(rows.map(|from| S::load_first(from.add(at), c - at)), statistics);
                    sum.add(g);
                    product.add_product(g, h);
                }
                let [sum, product] = [sum, product].map(|sum| S::splat((sum.total() / c as f64) as f32));
                for at in (0..c).step_by(S::LANES) {
                    let values = rows.map(|from| S::load_first(from.add(at), c - at));
                    let [g, h] = gradient::<S>(values, statistics);
                    accumulate::<S>(dweight.add(at), S::mul(values[1], h));
                    accumulate::<S>(dbias.add(at), values[1]);
                    let rest = S::sub(S::sub(g, sum), S::mul(h, product));
                    let gradient = match added {
                        Some(added) => S::mul_add(rest, statistics[1], S::load_first(added.as_ptr().add(at), c - at)),
                        None => S::mul(rest, statistics[1]),
                    };
                    S::store_first(dx.as_mut_ptr().add(at), gradient, c - at);
                }
            }
        }
    }
}

/// Adds a vector to as many doubles.
///
/// # Safety
/// The instruction set of `S` is available, and `to` valid for `S::LANES` doubles.
#[inline(always)]
unsafe fn accumulate<S: Simd>(to: *mut f64, v: S::V) {
    let lanes = <S::F64 as Doubles>::LANES;
    for part in 0..S::LANES / lanes {
        // SAFETY: the parts of a vector are `S::LANES` doubles together.
        unsafe {
            let to = to.add(part * lanes);
            S::F64::store(to, S::F64::add(S::F64::load(to), S::widen(v, part)));
        }
    }
}

/// `[g, h]` of x, dy and w in a row of this mean and 1 / deviation.
///
/// # Safety
/// The instruction set of `S` is available.
#[inline(always)]
unsafe fn gradient<S: Simd>([x, dy, weight]: [S::V; 3], [mean, rstd]: [S::V; 2]) -> [S::V; 2] {
    // SAFETY: the instruction set is all that these operations need.
    unsafe { [S::mul(dy, weight), S::mul(S::sub(x, mean), rstd)] }
}
