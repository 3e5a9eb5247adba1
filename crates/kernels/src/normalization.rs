//! Batch normalisation (Ioffe and Szegedy, 2015) fused with ReLU and the residual sum, and L2 normalisation of rows.
//!
//!   y = relu?(gamma (x - mean) rstd + beta + residual),   rstd = 1 / sqrt(variance + eps),
//!   variance = mean of (x - mean)^2 (biased)
//!
//! With g = dy where y > 0 (all of dy without ReLU), x^ = (x - mean) rstd and E the mean over the rows:
//!   dbeta = sum g,   dgamma = sum g x^,   dresidual = g,
//!   dx = gamma rstd (g - E[g] - x^ E[g x^])   in training;   dx = gamma rstd g   with constant statistics.
//!
//! Shapes: r = n h w rows of c channels. Sums are taken in f64 over fixed row blocks (see `columns`); products of two
//! f32 are exact there, so E[x^2] - E[x]^2 loses nothing that matters.

// The operands of one formula; a struct would only move the names.
#![allow(clippy::too_many_arguments)]

use crate::columns::{self, Terms};
use crate::pool::Parts;
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
    fn terms([x]: [f32; 1]) -> [f64; 2] {
        let x = f64::from(x);
        [x, x * x]
    }
}

/// Sums of dy and dy x.
#[derive(Clone, Copy)]
struct Gradients;

impl Terms<2> for Gradients {
    #[inline(always)]
    fn terms([x, dy]: [f32; 2]) -> [f64; 2] {
        let g = f64::from(dy);
        [g, g * f64::from(x)]
    }
}

/// Sums of g and g x, where g is dy masked by y > 0.
#[derive(Clone, Copy)]
struct MaskedGradients;

impl Terms<3> for MaskedGradients {
    #[inline(always)]
    fn terms([x, dy, y]: [f32; 3]) -> [f64; 2] {
        let g = f64::from(if y > 0.0 { dy } else { 0.0 });
        [g, g * f64::from(x)]
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
        let c = self.c;
        let (mean, scale, shift) = (&self.mean[..c], &self.scale[..c], &self.shift[..c]);
        // -inf keeps everything, a NaN included.
        let floor = if self.relu { 0.0 } else { f32::NEG_INFINITY };
        for (row, (x, y)) in self.x.chunks_exact(c).zip(self.y.chunks_exact_mut(c)).enumerate() {
            if self.residual.is_empty() {
                for i in 0..c {
                    let value = (x[i] - mean[i]) * scale[i] + shift[i];
                    y[i] = if value < floor { floor } else { value };
                }
            } else {
                let residual = &self.residual[row * c..row * c + c];
                for i in 0..c {
                    let value = (x[i] - mean[i]) * scale[i] + shift[i] + residual[i];
                    y[i] = if value < floor { floor } else { value };
                }
            }
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
        let c = self.c;
        let factors = [&self.scale[..c], &self.slope[..c], &self.offset[..c], &self.mean[..c]];
        for row in (0..self.x.len()).step_by(c) {
            let (x, dy, dx) = (&self.x[row..row + c], &self.dy[row..row + c], &mut self.dx[row..row + c]);
            let g = if self.y.is_empty() {
                dy
            } else {
                // The masked gradient waits in dx.
                mask_row(dx, &self.y[row..row + c], dy);
                &[]
            };
            if !self.dresidual.is_empty() {
                self.dresidual[row..row + c].copy_from_slice(if g.is_empty() { dx } else { g });
            }
            match g.is_empty() {
                true => finish_row(dx, x, factors),
                false => gradient_row(dx, x, g, factors),
            }
        }
    }
}

// The loops are functions of slices, so that the compiler knows the output apart from the inputs and vectorises them.

#[inline(always)]
fn mask_row(out: &mut [f32], y: &[f32], dy: &[f32]) {
    for ((out, &y), &dy) in out.iter_mut().zip(y).zip(dy) {
        *out = if y > 0.0 { dy } else { 0.0 };
    }
}

#[inline(always)]
fn finish_row(dx: &mut [f32], x: &[f32], [scale, slope, offset, mean]: [&[f32]; 4]) {
    for i in 0..dx.len() {
        dx[i] = scale[i] * dx[i] + (slope[i] * (x[i] - mean[i]) + offset[i]);
    }
}

#[inline(always)]
fn gradient_row(dx: &mut [f32], x: &[f32], g: &[f32], [scale, slope, offset, mean]: [&[f32]; 4]) {
    for i in 0..dx.len() {
        dx[i] = scale[i] * g[i] + (slope[i] * (x[i] - mean[i]) + offset[i]);
    }
}

/// The smallest norm [`l2_normalize`] divides by, as in PyTorch's `F.normalize`.
const SMALLEST_NORM: f32 = 1e-12;

/// `y = x / max(|x|, 1e-12)` for each row of length `d`; `norm` (one a row) receives |x|, summed in f64.
pub fn l2_normalize(pool: &Pool, d: usize, x: &[f32], y: &mut [f32], norm: &mut [f32]) {
    check::length("l2_normalize", "y", y.len(), x.len());
    check::length("l2_normalize", "norm", norm.len() * d, x.len());
    let norm = Parts::new(norm);
    pool.for_each_chunk(y, d.max(1), |row, y| {
        let x = &x[row * d..row * d + d];
        let length = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt() as f32;
        // SAFETY: one element for each row.
        unsafe { norm.slice(row, 1)[0] = length };
        let divisor = if length < SMALLEST_NORM { SMALLEST_NORM } else { length };
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x / divisor;
        }
    });
}

/// The gradient of [`l2_normalize`] from its output `y` and `norm`: `dx = (dy - y (y . dy)) / norm`; below the clamp the
/// divisor is a constant, and `dx = dy / 1e-12`. Overwrites `dx`.
pub fn l2_normalize_backward(pool: &Pool, d: usize, y: &[f32], norm: &[f32], dy: &[f32], dx: &mut [f32]) {
    check::length("l2_normalize_backward", "dy", dy.len(), y.len());
    check::length("l2_normalize_backward", "dx", dx.len(), y.len());
    check::length("l2_normalize_backward", "norm", norm.len() * d, y.len());
    pool.for_each_chunk(dx, d.max(1), |row, dx| {
        let (y, dy) = (&y[row * d..row * d + d], &dy[row * d..row * d + d]);
        let clamped = norm[row] < SMALLEST_NORM;
        let divisor = if clamped { SMALLEST_NORM } else { norm[row] };
        let along: f64 = y.iter().zip(dy).map(|(&y, &dy)| f64::from(y) * f64::from(dy)).sum();
        let along = if clamped { 0.0 } else { along as f32 };
        for (dx, (&y, &dy)) in dx.iter_mut().zip(y.iter().zip(dy)) {
            *dx = (dy - y * along) / divisor;
        }
    });
}
