//! Batch normalisation (Ioffe and Szegedy, 2015) fused with the activation and the residual sum.
//!
//! ```text
//! y = activation?(gamma (x - mean) rstd + beta + residual),   rstd = 1 / sqrt(variance + eps),
//! variance = mean of (x - mean)^2 (biased)
//!
//! With g = dy times the slope of the activation (dy without one), x^ = (x - mean) rstd and E the mean over the rows:
//! dbeta = sum g,   dgamma = sum g x^,   dresidual = g,
//! dx = gamma rstd (g - E[g] - x^ E[g x^])   in training,   dx = gamma rstd g   with constant statistics
//! ```
//!
//! Shapes: r = n h w rows of c channels. Sums are taken in f64 over fixed row blocks (see `columns`); products of two
//! f32 are exact there, so the mean of squares less the square of the mean loses nothing that matters.

// The operands of one formula; a struct would only move the names.
#![allow(clippy::too_many_arguments)]

use crate::activation::{Activation, Curve, Identity, Relu, Relu6, with_curve};
use crate::columns::{self, Pair};
use crate::simd::{Kernel, Simd, dispatch};
use crate::team::Parts;
use crate::{Isa, Team, check};

/// What the activation behind the normalisation lets pass of a gradient.
#[derive(Clone, Copy, Debug)]
pub enum Passed<'a> {
    /// Everything: there was none.
    All,
    /// What its output `[r, c]` says: of a ReLU.
    Output(Activation, &'a [f32]),
    /// What the input says, given the shift beta `[c]`: without residual. The output need then
    /// neither be kept nor read again.
    Shift(Activation, &'a [f32]),
}

/// Normalises by the batch's own statistics, and returns them in `mean`, `rstd` and `variance` (biased), each `[c]`.
/// `x`, `residual` and `y` are `[r, c]`, `gamma` and `beta` `[c]`.
pub fn batch_norm_train(
    team: &Team,
    c: usize,
    eps: f64,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    residual: Option<&[f32]>,
    activation: Option<Activation>,
    y: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
    variance: &mut [f32],
) {
    check::length("batch_norm_train", "beta", beta.len(), c);
    let scale = batch_norm_statistics(team, c, eps, x, gamma, mean, rstd, variance);
    apply(team, c, x, mean, &scale, beta, residual, activation, y);
}

/// Writes the statistics of the batch, `mean`, `rstd` and `variance` (biased), and returns `gamma rstd`, each `[c]`.
pub fn batch_norm_statistics(
    team: &Team,
    c: usize,
    eps: f64,
    x: &[f32],
    gamma: &[f32],
    mean: &mut [f32],
    rstd: &mut [f32],
    variance: &mut [f32],
) -> Vec<f32> {
    let lengths: [(&str, usize); 4] =
        [("gamma", gamma.len()), ("mean", mean.len()), ("rstd", rstd.len()), ("variance", variance.len())];
    lengths.iter().for_each(|&(name, length)| check::length("batch_norm_statistics", name, length, c));
    let mut scale = vec![0.0; c];
    for (i, [average, spread]) in batch_norm_moments(team, c, x).into_iter().enumerate() {
        let inverse = 1.0 / (spread + eps).sqrt();
        (mean[i], rstd[i], variance[i]) = (average as f32, inverse as f32, spread as f32);
        scale[i] = gamma[i] * rstd[i];
    }
    scale
}

/// Mean and biased variance of each channel.
pub fn batch_norm_moments(team: &Team, c: usize, x: &[f32]) -> Vec<[f64; 2]> {
    let rows = x.len() / c.max(1);
    let of_channel = |[sum, squares]: [f64; 2]| {
        let average = sum / rows as f64;
        // `max` would turn a NaN into 0 and hide it.
        let spread = squares / rows as f64 - average * average;
        [average, if spread < 0.0 { 0.0 } else { spread }]
    };
    columns::sums(team, rows, c, [x], [], Moments).into_iter().map(of_channel).collect()
}

/// Normalises by constant statistics: `y = activation?(x * scale + shift + residual)`, with `scale = gamma rstd` and
/// `shift = beta - mean scale`, each `[c]`.
pub fn batch_norm_eval(
    team: &Team,
    c: usize,
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    residual: Option<&[f32]>,
    activation: Option<Activation>,
    y: &mut [f32],
) {
    check::length("batch_norm_eval", "scale", scale.len(), c);
    check::length("batch_norm_eval", "shift", shift.len(), c);
    apply(team, c, x, &vec![0.0; c], scale, shift, residual, activation, y);
}

/// The gradient of [`batch_norm_train`]: overwrites `dx`, `dgamma`, `dbeta` and `dresidual`.
pub fn batch_norm_backward(
    team: &Team,
    c: usize,
    x: &[f32],
    activation: Passed<'_>,
    dy: &[f32],
    gamma: &[f32],
    mean: &[f32],
    rstd: &[f32],
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
    dresidual: Option<&mut [f32]>,
) {
    let saved = Saved { c, x, activation, dy, gamma, mean, rstd };
    let sums = saved.parameter_gradients(team, dgamma, dbeta);
    let factors = saved.input_factors(&sums, x.len() / c.max(1));
    saved.input_gradient(team, &factors, dx, dresidual);
}

/// The gradient of batch normalisation by constant statistics `mean` and `rstd`: overwrites `dx`, `dgamma`, `dbeta` and
/// `dresidual`.
pub fn batch_norm_eval_backward(
    team: &Team,
    c: usize,
    x: &[f32],
    activation: Passed<'_>,
    dy: &[f32],
    gamma: &[f32],
    mean: &[f32],
    rstd: &[f32],
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
    dresidual: Option<&mut [f32]>,
) {
    let saved = Saved { c, x, activation, dy, gamma, mean, rstd };
    saved.parameter_gradients(team, dgamma, dbeta);
    saved.input_gradient(team, &[vec![0.0; c], vec![0.0; c]], dx, dresidual);
}

/// What the backward passes read.
pub(crate) struct Saved<'a> {
    pub c: usize,
    pub x: &'a [f32],
    pub activation: Passed<'a>,
    pub dy: &'a [f32],
    pub gamma: &'a [f32],
    pub mean: &'a [f32],
    pub rstd: &'a [f32],
}

impl Saved<'_> {
    /// Writes `dgamma` and `dbeta`, and returns for each channel `[sum g, sum g x^]`.
    pub(super) fn parameter_gradients(&self, team: &Team, dgamma: &mut [f32], dbeta: &mut [f32]) -> Vec<[f64; 2]> {
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
        let mut sums = match self.activation {
            Passed::All => columns::sums(team, rows, c, [self.x, self.dy], [], Gradients),
            Passed::Output(activation, y) => {
                check::length("batch_norm_backward", "y", y.len(), self.x.len());
                let matrices = [self.x, self.dy, y];
                match of_relu(activation) {
                    false => columns::sums(team, rows, c, matrices, [], MaskedGradients(Relu)),
                    true => columns::sums(team, rows, c, matrices, [], MaskedGradients(Relu6)),
                }
            }
            Passed::Shift(activation, beta) => {
                check::length("batch_norm_backward", "beta", beta.len(), c);
                let (matrices, scale) = ([self.x, self.dy], self.scale());
                let factors = [self.mean, &scale, beta];
                with_curve!(Some(activation), curve => {
                    columns::sums(team, rows, c, matrices, factors, GatedGradients(curve))
                })
            }
        };
        self.finish_parameters(&mut sums, dgamma, dbeta);
        sums
    }

    /// Of the sums of g and g x those of g and g x^, which are written to `dbeta` and `dgamma`.
    pub(crate) fn finish_parameters(&self, sums: &mut [[f64; 2]], dgamma: &mut [f32], dbeta: &mut [f32]) {
        for (i, [sum, product]) in sums.iter_mut().enumerate() {
            *product = (*product - f64::from(self.mean[i]) * *sum) * f64::from(self.rstd[i]);
            (dgamma[i], dbeta[i]) = (*product as f32, *sum as f32);
        }
    }

    /// The channels' `[slope, offset]` in `dx = scale g + slope (x - mean) + offset`, where the statistics are those of
    /// `rows` rows; `sums` come from [`Saved::parameter_gradients`].
    pub(crate) fn input_factors(&self, sums: &[[f64; 2]], rows: usize) -> [Vec<f32>; 2] {
        let factor = |i: usize, which: usize| {
            let (rstd, [sum, product]) = (f64::from(self.rstd[i]), sums[i]);
            let scale = f64::from(self.gamma[i]) * rstd;
            (-scale * [rstd * product, sum][which] / rows as f64) as f32
        };
        [0, 1].map(|which| (0..self.c).map(|i| factor(i, which)).collect())
    }

    /// gamma rstd, rounded as the forward pass rounded it.
    pub(crate) fn scale(&self) -> Vec<f32> {
        self.gamma.iter().zip(self.rstd).map(|(gamma, rstd)| gamma * rstd).collect()
    }

    /// `dx = scale g + slope (x - mean) + offset` with the channels' `[slope, offset]`; `dresidual = g`.
    fn input_gradient(
        &self,
        team: &Team,
        [slope, offset]: &[Vec<f32>; 2],
        dx: &mut [f32],
        dresidual: Option<&mut [f32]>,
    ) {
        let c = self.c;
        check::length("batch_norm_backward", "dx", dx.len(), self.x.len());
        whole_rows("batch_norm_backward", self.x, c);
        if let Some(dresidual) = &dresidual {
            check::length("batch_norm_backward", "dresidual", dresidual.len(), self.x.len());
        }
        let scale = self.scale();
        let dresidual = dresidual.map(Parts::new);
        let step = columns::block_rows(c) * c;
        team.for_each_chunk(dx, step.max(1), |block, dx| {
            let (start, length) = (block * step, dx.len());
            let range = start..start + length;
            let activation = match self.activation {
                Passed::Output(kind, y) => Passed::Output(kind, &y[range.clone()]),
                activation => activation,
            };
            // SAFETY: the block has `dx`, and these are the same places of a slice of the same length: like the chunks
            // of `dx`, no two blocks' overlap, and each block runs once.
            let dresidual = dresidual.as_ref().map_or(&mut [][..], |parts| unsafe { parts.slice(start, length) });
            let (x, dy, mean) = (&self.x[range.clone()], &self.dy[range], self.mean);
            let (scale, slope, offset) = (&scale[..], &slope[..], &offset[..]);
            dispatch(team.isa(), InputGradient { c, x, activation, dy, scale, slope, offset, mean, dx, dresidual });
        });
    }
}

/// `y = activation?((x - mean) scale + shift)` for whole rows in one thread.
pub(crate) fn apply_block(
    isa: Isa,
    c: usize,
    x: &[f32],
    [mean, scale, shift]: [&[f32]; 3],
    activation: Option<Activation>,
    y: &mut [f32],
) {
    with_curve!(activation, curve => dispatch(isa, Apply { c, x, mean, scale, shift, residual: &[], curve, y }));
}

/// For every column the sums of g and g x over whole rows, where g is `dy` times the slope of the activation of
/// `(x - mean) scale + shift`.
pub(crate) fn block_sums(
    isa: Isa,
    activation: Option<Activation>,
    matrices: [&[f32]; 2],
    factors: [&[f32]; 3],
    sums: &mut [[f64; 2]],
) {
    with_curve!(activation, curve => columns::block_sums(isa, matrices, factors, GatedGradients(curve), sums));
}

/// `dx = scale g + slope (x - mean) + offset` for whole rows, g as of [`block_sums`] with its factors.
pub(crate) fn block_input_gradient(
    isa: Isa,
    activation: Option<Activation>,
    [x, dy]: [&[f32]; 2],
    [mean, scale, shift]: [&[f32]; 3],
    [slope, offset]: [&[f32]; 2],
    dx: &mut [f32],
) {
    let (c, activation) = (scale.len(), activation.map_or(Passed::All, |activation| Passed::Shift(activation, shift)));
    dispatch(isa, InputGradient { c, x, activation, dy, scale, slope, offset, mean, dx, dresidual: &mut [] });
}

/// Sums of x and x^2.
#[derive(Clone, Copy)]
struct Moments;

impl Pair<1, 0> for Moments {
    #[inline(always)]
    unsafe fn pair<S: Simd>(self, [x]: [S::V; 1], _: [S::V; 0]) -> [S::V; 2] {
        [x, x]
    }
}

/// Sums of dy and dy x.
#[derive(Clone, Copy)]
struct Gradients;

impl Pair<2, 0> for Gradients {
    #[inline(always)]
    unsafe fn pair<S: Simd>(self, [x, dy]: [S::V; 2], _: [S::V; 0]) -> [S::V; 2] {
        [dy, x]
    }
}

/// Sums of g and g x, where g is dy that the ReLU with output y let pass.
#[derive(Clone, Copy)]
struct MaskedGradients<C>(C);

impl<C: Curve> Pair<3, 0> for MaskedGradients<C> {
    #[inline(always)]
    unsafe fn pair<S: Simd>(self, [x, dy, y]: [S::V; 3], _: [S::V; 0]) -> [S::V; 2] {
        // SAFETY: the instruction set is there by `pair`'s contract, all that these operations need.
        [unsafe { self.0.gradient::<S>(y, dy) }, x]
    }
}

/// Sums of g and g x, where g is dy times the slope of the activation at (x - mean) scale + beta.
#[derive(Clone, Copy)]
struct GatedGradients<C>(C);

impl<C: Curve> Pair<2, 3> for GatedGradients<C> {
    #[inline(always)]
    unsafe fn pair<S: Simd>(self, [x, dy]: [S::V; 2], [mean, scale, beta]: [S::V; 3]) -> [S::V; 2] {
        // SAFETY: the instruction set is there by `pair`'s contract, all that these operations need.
        [unsafe { self.0.gradient::<S>(S::mul_add(S::sub(x, mean), scale, beta), dy) }, x]
    }
}

/// Whether the ReLU whose output says what passes is [`Activation::Relu6`].
///
/// # Panics
/// For an activation that is no ReLU: its output does not say it.
fn of_relu(activation: Activation) -> bool {
    assert!(activation.is_relu(), "batch_norm_backward: the output of {activation:?} does not say what passes");
    activation == Activation::Relu6
}

/// `y = activation?((x - mean) scale + shift + residual)`.
fn apply(
    team: &Team,
    c: usize,
    x: &[f32],
    mean: &[f32],
    scale: &[f32],
    shift: &[f32],
    residual: Option<&[f32]>,
    activation: Option<Activation>,
    y: &mut [f32],
) {
    check::length("batch_norm", "y", y.len(), x.len());
    whole_rows("batch_norm", x, c);
    if let Some(residual) = residual {
        check::length("batch_norm", "residual", residual.len(), x.len());
    }
    let step = columns::block_rows(c) * c;
    team.for_each_chunk(y, step, |block, y| {
        let range = block * step..block * step + y.len();
        let residual = residual.map_or(&[][..], |residual| &residual[range.clone()]);
        let x = &x[range];
        with_curve!(activation, curve => {
            dispatch(team.isa(), Apply { c, x, mean, scale, shift, residual, curve, y })
        });
    });
}

/// Panics unless `x` is whole rows of `c` channels.
#[track_caller]
fn whole_rows(operation: &str, x: &[f32], c: usize) {
    assert!(c > 0 && x.len().is_multiple_of(c), "{operation}: `x` must be rows of {c} channels and has {}", x.len());
}

struct Apply<'a, C> {
    c: usize,
    x: &'a [f32],
    mean: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    /// Empty for none.
    residual: &'a [f32],
    curve: C,
    y: &'a mut [f32],
}

impl<C: Curve> Kernel for Apply<'_, C> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (c, length) = (self.c, self.y.len());
        assert!(self.x.len() == length && length.is_multiple_of(c), "batch_norm: blocks differ");
        let factors = [self.mean, self.scale, self.shift].map(|factors| factors[..c].as_ptr());
        // SAFETY: the slices are whole rows of c values, by the assertions, and the loops begin at rows; the factors
        // have c. The instruction set is there by the contract of `run`.
        unsafe {
            if self.residual.is_empty() {
                for row in (0..length).step_by(c) {
                    let (x, y) = (self.x.as_ptr().add(row), self.y.as_mut_ptr().add(row));
                    apply_row::<S, C, false>(c, [x, x], factors, self.curve, y);
                }
                return;
            }
            assert!(self.residual.len() == length, "batch_norm: blocks differ");
            for row in (0..length).step_by(c) {
                let (x, y) = (self.x.as_ptr().add(row), self.y.as_mut_ptr().add(row));
                apply_row::<S, C, true>(c, [x, self.residual.as_ptr().add(row)], factors, self.curve, y);
            }
        }
    }
}

/// One row of c values: x and, if there is one, the residual.
///
/// # Safety
/// The instruction set of `S` is available, and all pointers are valid for c floats.
#[inline(always)]
unsafe fn apply_row<S: Simd, C: Curve, const RESIDUAL: bool>(
    c: usize,
    [x, residual]: [*const f32; 2],
    [mean, scale, shift]: [*const f32; 3],
    curve: C,
    y: *mut f32,
) {
    for at in (0..c).step_by(S::LANES) {
        // SAFETY: `at` < c, and from there on all pointers are valid for `count` floats, which no first `count` exceed.
        unsafe {
            let count = c - at;
            let centred = S::sub(S::load_first(x.add(at), count), S::load_first(mean.add(at), count));
            let (scale, shift) = (S::load_first(scale.add(at), count), S::load_first(shift.add(at), count));
            let mut value = S::mul_add(centred, scale, shift);
            if RESIDUAL {
                value = S::add(value, S::load_first(residual.add(at), count));
            }
            S::store_first(y.add(at), curve.value::<S>(value), count);
        }
    }
}

struct InputGradient<'a> {
    c: usize,
    x: &'a [f32],
    activation: Passed<'a>,
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
    unsafe fn run<S: Simd>(self) {
        let (x, mean) = (self.x, self.mean);
        // SAFETY: the instruction set is there by the contract of `run`, and `rows` asks for no more.
        unsafe {
            match (self.activation, self.dresidual.is_empty()) {
                (Passed::All, true) => self.rows::<S, _, ALL, false>(Identity, x, mean),
                (Passed::All, false) => self.rows::<S, _, ALL, true>(Identity, x, mean),
                (Passed::Output(activation, y), false) => match of_relu(activation) {
                    false => self.rows::<S, _, OUTPUT, true>(Relu, y, mean),
                    true => self.rows::<S, _, OUTPUT, true>(Relu6, y, mean),
                },
                (Passed::Output(activation, y), true) => match of_relu(activation) {
                    false => self.rows::<S, _, OUTPUT, false>(Relu, y, mean),
                    true => self.rows::<S, _, OUTPUT, false>(Relu6, y, mean),
                },
                (Passed::Shift(activation, beta), false) => {
                    with_curve!(Some(activation), curve => self.rows::<S, _, SHIFT, true>(curve, x, beta))
                }
                (Passed::Shift(activation, beta), true) => {
                    with_curve!(Some(activation), curve => self.rows::<S, _, SHIFT, false>(curve, x, beta))
                }
            }
        }
    }
}

/// The kinds of [`Passed`] as constants.
const ALL: u8 = 0;
const OUTPUT: u8 = 1;
const SHIFT: u8 = 2;

impl InputGradient<'_> {
    /// `y` is read with `OUTPUT` and `beta` with `SHIFT`; any slices of their lengths do otherwise.
    ///
    /// # Safety
    /// The instruction set of `S` is available.
    #[inline(always)]
    unsafe fn rows<S: Simd, C: Curve, const PASSED: u8, const RESIDUAL: bool>(self, curve: C, y: &[f32], beta: &[f32]) {
        let (c, length) = (self.c, self.dx.len());
        assert!(self.x.len() == length && self.dy.len() == length && y.len() == length, "batch_norm: blocks differ");
        assert!(!RESIDUAL || self.dresidual.len() == length, "batch_norm: blocks differ");
        assert!(length.is_multiple_of(c), "batch_norm: a block must be whole rows");
        let factors = [self.scale, self.slope, self.offset, self.mean, beta].map(|factors| factors[..c].as_ptr());
        let (dx, dresidual) = (self.dx.as_mut_ptr(), self.dresidual.as_mut_ptr());
        for row in (0..length).step_by(c) {
            // SAFETY: all slices are whole rows of c values, by the assertions, and `row` begins one; the factors have
            // c. Without `RESIDUAL` the last pointer is not used, and its addition wraps.
            unsafe {
                let from = [self.x.as_ptr(), y.as_ptr(), self.dy.as_ptr()].map(|from| from.add(row));
                let to = [dx.add(row), dresidual.wrapping_add(row)];
                gradient_row::<S, C, PASSED, RESIDUAL>(c, curve, from, factors, to);
            }
        }
    }
}

/// One row of c values: from x, y (with `OUTPUT`) and dy to dx and (with a residual) dresidual.
///
/// # Safety
/// The instruction set of `S` is available, and all pointers but a `y` without `OUTPUT`, a `beta` without `SHIFT` and a
/// `dresidual` without `RESIDUAL` are valid for c floats.
#[inline(always)]
unsafe fn gradient_row<S: Simd, C: Curve, const PASSED: u8, const RESIDUAL: bool>(
    c: usize,
    curve: C,
    [x, y, dy]: [*const f32; 3],
    [scale, slope, offset, mean, beta]: [*const f32; 5],
    [dx, dresidual]: [*mut f32; 2],
) {
    for at in (0..c).step_by(S::LANES) {
        // SAFETY: `at` < c, and from there on the pointers are valid for `count` floats, which no first `count` exceed.
        unsafe {
            let count = c - at;
            let centred = S::sub(S::load_first(x.add(at), count), S::load_first(mean.add(at), count));
            let scale = S::load_first(scale.add(at), count);
            let mut g = S::load_first(dy.add(at), count);
            if PASSED == OUTPUT {
                g = curve.gradient::<S>(S::load_first(y.add(at), count), g);
            }
            if PASSED == SHIFT {
                g = curve.gradient::<S>(S::mul_add(centred, scale, S::load_first(beta.add(at), count)), g);
            }
            if RESIDUAL {
                S::store_first(dresidual.add(at), g, count);
            }
            let (slope, offset) = (S::load_first(slope.add(at), count), S::load_first(offset.add(at), count));
            // Not fused: with one row the terms must cancel.
            let value = S::add(S::mul(scale, g), S::mul_add(slope, centred, offset));
            S::store_first(dx.add(at), value, count);
        }
    }
}
