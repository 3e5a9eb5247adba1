//! Batch normalisation (Ioffe and Szegedy, 2015) fused with ReLU and the residual sum.
//!
//! ```text
//! y = relu?(gamma (x - mean) rstd + beta + residual),   rstd = 1 / sqrt(variance + eps),
//! variance = mean of (x - mean)^2 (biased)
//!
//! With g = dy where y > 0 (all of dy without ReLU), x^ = (x - mean) rstd and E the mean over the rows:
//! dbeta = sum g,   dgamma = sum g x^,   dresidual = g,
//! dx = gamma rstd (g - E[g] - x^ E[g x^])   in training,   dx = gamma rstd g   with constant statistics
//! ```
//!
//! Shapes: r = n h w rows of c channels. Sums are taken in f64 over fixed row blocks (see `columns`); products of two
//! f32 are exact there, so the mean of squares less the square of the mean loses nothing that matters.

// The operands of one formula; a struct would only move the names.
#![allow(clippy::too_many_arguments)]

use crate::columns::{self, Terms};
use crate::pool::Parts;
use crate::simd::doubles::Doubles;
use crate::simd::{Kernel, Simd, dispatch};
use crate::{Pool, check};

/// Normalises by the batch's own statistics, and returns them in `mean`, `rstd` and `variance` (biased), each `[c]`.
/// `x`, `residual` and `y` are `[r, c]`, `gamma` and `beta` `[c]`.
pub fn batch_norm_train(
    pool: &Pool,
    c: usize,
    eps: f64,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    residual: Option<&[f32]>,
    relu: bool,
    y: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
    variance: &mut [f32],
) {
    let statistics: [(&str, usize); 5] = [
        ("gamma", gamma.len()),
        ("beta", beta.len()),
        ("mean", mean.len()),
        ("rstd", rstd.len()),
        ("variance", variance.len()),
    ];
    statistics.iter().for_each(|&(name, length)| check::length("batch_norm_train", name, length, c));
    let rows = x.len() / c.max(1);
    let mut scale = vec![0.0; c];
    for (i, [sum, squares]) in columns::sums(pool, rows, c, [x], Moments).into_iter().enumerate() {
        let average = sum / rows as f64;
        // `max` would turn a NaN into 0 and hide it.
        let spread = squares / rows as f64 - average * average;
        let spread = if spread < 0.0 { 0.0 } else { spread };
        let inverse = 1.0 / (spread + eps).sqrt();
        (mean[i], rstd[i], variance[i]) = (average as f32, inverse as f32, spread as f32);
        scale[i] = (f64::from(gamma[i]) * inverse) as f32;
    }
    apply(pool, c, x, mean, &scale, beta, residual, relu, y);
}

/// Normalises by constant statistics: `y = relu?(x * scale + shift + residual)`, with `scale = gamma rstd` and
/// `shift = beta - mean scale`, each `[c]`.
pub fn batch_norm_eval(
    pool: &Pool,
    c: usize,
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    residual: Option<&[f32]>,
    relu: bool,
    y: &mut [f32],
) {
    check::length("batch_norm_eval", "scale", scale.len(), c);
    check::length("batch_norm_eval", "shift", shift.len(), c);
    apply(pool, c, x, &vec![0.0; c], scale, shift, residual, relu, y);
}

/// The gradient of [`batch_norm_train`]: overwrites `dx`, `dgamma`, `dbeta` and `dresidual`. `y` is read only with `relu`.
pub fn batch_norm_backward(
    pool: &Pool,
    c: usize,
    x: &[f32],
    y: &[f32],
    dy: &[f32],
    gamma: &[f32],
    mean: &[f32],
    rstd: &[f32],
    relu: bool,
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
    dresidual: Option<&mut [f32]>,
) {
    let saved = Saved { c, x, y, dy, gamma, mean, rstd, relu };
    let sums = saved.parameter_gradients(pool, dgamma, dbeta);
    let rows = (x.len() / c.max(1)) as f64;
    // dx = scale g + slope (x - mean) + offset
    let mut factors = vec![[0.0; 4]; c];
    for (i, [sum, product]) in sums.into_iter().enumerate() {
        let (rstd, scale) = (f64::from(rstd[i]), f64::from(gamma[i]) * f64::from(rstd[i]));
        let slope = -scale * rstd * product / rows;
        factors[i] = [scale as f32, slope as f32, (-scale * sum / rows) as f32, mean[i]];
    }
    saved.input_gradient(pool, &factors, dx, dresidual);
}

/// The gradient of batch normalisation by constant statistics `mean` and `rstd`: overwrites `dx`, `dgamma`, `dbeta` and
/// `dresidual`. `y` is read only with `relu`.
pub fn batch_norm_eval_backward(
    pool: &Pool,
    c: usize,
    x: &[f32],
    y: &[f32],
    dy: &[f32],
    gamma: &[f32],
    mean: &[f32],
    rstd: &[f32],
    relu: bool,
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
    dresidual: Option<&mut [f32]>,
) {
    let saved = Saved { c, x, y, dy, gamma, mean, rstd, relu };
    saved.parameter_gradients(pool, dgamma, dbeta);
    let factors: Vec<[f32; 4]> = (0..c).map(|i| [gamma[i] * rstd[i], 0.0, 0.0, mean[i]]).collect();
    saved.input_gradient(pool, &factors, dx, dresidual);
}

/// What the backward passes read.
struct Saved<'a> {
    c: usize,
    x: &'a [f32],
    y: &'a [f32],
    dy: &'a [f32],
    gamma: &'a [f32],
    mean: &'a [f32],
    rstd: &'a [f32],
    relu: bool,
}

impl Saved<'_> {
    /// Writes `dgamma` and `dbeta`, and returns for each channel `[sum g, sum g x^]`.
    fn parameter_gradients(&self, pool: &Pool, dgamma: &mut [f32], dbeta: &mut [f32]) -> Vec<[f64; 2]> {
        let c = self.c;
        let parameters: [(&str, usize); 5] = [
            ("gamma", self.gamma.len()),
            ("mean", self.mean.len()),
            ("rstd", self.rstd.len()),
            ("dgamma", dgamma.len()),
            ("dbeta", dbeta.len()),
        ];
        parameters.iter().for_each(|&(name, length)| check::length("batch_norm_backward", name, length, c));
        check::length("batch_norm_backward", "dy", self.dy.len(), self.x.len());
        let rows = self.x.len() / c.max(1);
        let mut sums = if self.relu {
            check::length("batch_norm_backward", "y", self.y.len(), self.x.len());
            columns::sums(pool, rows, c, [self.x, self.dy, self.y], MaskedGradients)
        } else {
            columns::sums(pool, rows, c, [self.x, self.dy], Gradients)
        };
        for (i, [sum, product]) in sums.iter_mut().enumerate() {
            *product = (*product - f64::from(self.mean[i]) * *sum) * f64::from(self.rstd[i]);
            (dgamma[i], dbeta[i]) = (*product as f32, *sum as f32);
        }
        sums
    }

    /// `dx = scale g + slope (x - mean) + offset` with the channels' `[scale, slope, offset, mean]`; `dresidual = g`.
    fn input_gradient(&self, pool: &Pool, factors: &[[f32; 4]], dx: &mut [f32], dresidual: Option<&mut [f32]>) {
        let c = self.c;
        check::length("batch_norm_backward", "dx", dx.len(), self.x.len());
        if let Some(dresidual) = &dresidual {
            check::length("batch_norm_backward", "dresidual", dresidual.len(), self.x.len());
        }
        let column = |which: usize| factors.iter().map(|f| f[which]).collect::<Vec<f32>>();
        let [scale, slope, offset, mean] = [column(0), column(1), column(2), column(3)];
        let dresidual = dresidual.map(Parts::new);
        let step = columns::block_rows(c) * c;
        pool.for_each_chunk(dx, step.max(1), |block, dx| {
            let (start, length) = (block * step, dx.len());
            let range = start..start + length;
            let y = if self.relu { &self.y[range.clone()] } else { &[][..] };
            // SAFETY: blocks do not overlap, and each runs once.
            let dresidual = dresidual.as_ref().map_or(&mut [][..], |parts| unsafe { parts.slice(start, length) });
            let (x, dy) = (&self.x[range.clone()], &self.dy[range]);
            let (scale, slope, offset, mean) = (&scale[..], &slope[..], &offset[..], &mean[..]);
            dispatch(pool.isa(), InputGradient { c, x, y, dy, scale, slope, offset, mean, dx, dresidual });
        });
    }
}

/// Sums of x and x^2.
#[derive(Clone, Copy)]
struct Moments;

impl Terms<1> for Moments {
    #[inline(always)]
    unsafe fn terms<D: Doubles>([x]: [D::V; 1]) -> [D::V; 2] {
        // SAFETY: the caller's promise.
        [x, unsafe { D::mul(x, x) }]
    }
}

/// Sums of dy and dy x.
#[derive(Clone, Copy)]
struct Gradients;

impl Terms<2> for Gradients {
    #[inline(always)]
    unsafe fn terms<D: Doubles>([x, dy]: [D::V; 2]) -> [D::V; 2] {
        // SAFETY: the caller's promise.
        [dy, unsafe { D::mul(dy, x) }]
    }
}

/// Sums of g and g x, where g is dy masked by y > 0.
#[derive(Clone, Copy)]
struct MaskedGradients;

impl Terms<3> for MaskedGradients {
    #[inline(always)]
    unsafe fn terms<D: Doubles>([x, dy, y]: [D::V; 3]) -> [D::V; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let g = D::where_positive(y, dy);
            [g, D::mul(g, x)]
        }
    }
}

/// `y = relu?((x - mean) scale + shift + residual)`.
fn apply(
    pool: &Pool,
    c: usize,
    x: &[f32],
    mean: &[f32],
    scale: &[f32],
    shift: &[f32],
    residual: Option<&[f32]>,
    relu: bool,
    y: &mut [f32],
) {
    check::length("batch_norm", "y", y.len(), x.len());
    assert!(c > 0 && x.len().is_multiple_of(c), "batch_norm: `x` must be rows of {c} channels and has {}", x.len());
    if let Some(residual) = residual {
        check::length("batch_norm", "residual", residual.len(), x.len());
    }
    let step = columns::block_rows(c) * c;
    pool.for_each_chunk(y, step, |block, y| {
        let range = block * step..block * step + y.len();
        let residual = residual.map_or(&[][..], |residual| &residual[range.clone()]);
        dispatch(pool.isa(), Apply { c, x: &x[range], mean, scale, shift, residual, relu, y });
    });
}

struct Apply<'a> {
    c: usize,
    x: &'a [f32],
    mean: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    /// Empty for none.
    residual: &'a [f32],
    relu: bool,
    y: &'a mut [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let (c, length) = (self.c, self.y.len());
        assert!(self.x.len() == length, "batch_norm: blocks differ");
        let factors = [self.mean, self.scale, self.shift].map(|factors| factors[..c].as_ptr());
        // -inf keeps everything, a NaN included.
        let floor = if self.relu { 0.0 } else { f32::NEG_INFINITY };
        // SAFETY: whole rows of c values lie within the slices, whose lengths were checked.
        unsafe {
            if self.residual.is_empty() {
                for row in (0..length).step_by(c) {
                    let (x, y) = (self.x.as_ptr().add(row), self.y.as_mut_ptr().add(row));
                    apply_row::<S, false>(c, [x, x], factors, floor, y);
                }
                return;
            }
            assert!(self.residual.len() == length, "batch_norm: blocks differ");
            for row in (0..length).step_by(c) {
                let (x, y) = (self.x.as_ptr().add(row), self.y.as_mut_ptr().add(row));
                apply_row::<S, true>(c, [x, self.residual.as_ptr().add(row)], factors, floor, y);
            }
        }
    }
}

/// One row of c values: x and, if there is one, the residual.
///
/// # Safety
/// The instruction set of `S` is available, and all pointers are valid for c floats.
#[inline(always)]
unsafe fn apply_row<S: Simd, const RESIDUAL: bool>(
    c: usize,
    [x, residual]: [*const f32; 2],
    [mean, scale, shift]: [*const f32; 3],
    floor: f32,
    y: *mut f32,
) {
    for at in (0..c).step_by(S::LANES) {
        // SAFETY: the caller's promise.
        unsafe {
            let count = c - at;
            let centred = S::sub(S::load_first(x.add(at), count), S::load_first(mean.add(at), count));
            let (scale, shift) = (S::load_first(scale.add(at), count), S::load_first(shift.add(at), count));
            let mut value = S::mul_add(centred, scale, shift);
            if RESIDUAL {
                value = S::add(value, S::load_first(residual.add(at), count));
            }
            S::store_first(y.add(at), S::max(S::splat(floor), value), count);
        }
    }
}

struct InputGradient<'a> {
    c: usize,
    x: &'a [f32],
    /// Empty without ReLU.
    y: &'a [f32],
    dy: &'a [f32],
    scale: &'a [f32],
    slope: &'a [f32],
    offset: &'a [f32],
    mean: &'a [f32],
    dx: &'a mut [f32],
    /// Empty for none.
    dresidual: &'a mut [f32],
}

impl Kernel for InputGradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        match (self.y.is_empty(), self.dresidual.is_empty()) {
            (true, true) => self.rows::<S, false, false>(),
            (true, false) => self.rows::<S, false, true>(),
            (false, true) => self.rows::<S, true, false>(),
            (false, false) => self.rows::<S, true, true>(),
        }
    }
}

impl InputGradient<'_> {
    #[inline(always)]
    fn rows<S: Simd, const RELU: bool, const RESIDUAL: bool>(self) {
        let (c, length) = (self.c, self.dx.len());
        let y = if RELU { self.y } else { self.x };
        assert!(self.x.len() == length && self.dy.len() == length && y.len() == length, "batch_norm: blocks differ");
        assert!(!RESIDUAL || self.dresidual.len() == length, "batch_norm: blocks differ");
        let factors = [self.scale, self.slope, self.offset, self.mean].map(|factors| factors[..c].as_ptr());
        let (dx, dresidual) = (self.dx.as_mut_ptr(), self.dresidual.as_mut_ptr());
        for row in (0..length).step_by(c) {
            // SAFETY: whole rows of c values lie within the slices, whose lengths were checked; an empty residual is
            // not written.
            unsafe {
                let from = [self.x.as_ptr(), y.as_ptr(), self.dy.as_ptr()].map(|from| from.add(row));
                let to = [dx.add(row), dresidual.wrapping_add(row)];
                gradient_row::<S, RELU, RESIDUAL>(c, from, factors, to);
            }
        }
    }
}

/// One row of c values: from x, y (with ReLU) and dy to dx and (with a residual) dresidual.
///
/// # Safety
/// The instruction set of `S` is available, and all pointers that are used are valid for c floats.
#[inline(always)]
unsafe fn gradient_row<S: Simd, const RELU: bool, const RESIDUAL: bool>(
    c: usize,
    [x, y, dy]: [*const f32; 3],
    [scale, slope, offset, mean]: [*const f32; 4],
    [dx, dresidual]: [*mut f32; 2],
) {
    for at in (0..c).step_by(S::LANES) {
        // SAFETY: the caller's promise.
        unsafe {
            let count = c - at;
            let mut g = S::load_first(dy.add(at), count);
            if RELU {
                g = S::where_positive(S::load_first(y.add(at), count), g);
            }
            if RESIDUAL {
                S::store_first(dresidual.add(at), g, count);
            }
            let centred = S::sub(S::load_first(x.add(at), count), S::load_first(mean.add(at), count));
            let (slope, offset) = (S::load_first(slope.add(at), count), S::load_first(offset.add(at), count));
            // Not fused: with one row the terms must cancel.
            let own = S::mul(S::load_first(scale.add(at), count), g);
            S::store_first(dx.add(at), S::add(own, S::mul_add(slope, centred, offset)), count);
        }
    }
}
