//! One step of Adam, AdamW and SGD over one parameter tensor, exactly as PyTorch defines them.
//!
//! Constants are formed in f64 and rounded once; the element-wise arithmetic is f32, in PyTorch's order.

use crate::elementwise::BLOCK;
use crate::simd::{Kernel, Simd, dispatch};
use crate::team::Parts;
use crate::{Team, check};

/// The options of one Adam step (Kingma and Ba, 2015; decoupled weight decay: Loshchilov and Hutter, 2019).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// The learning rate, >= 0.
    pub learning_rate: f64,
    /// The decay of the mean of gradients, in [0, 1). PyTorch's default: 0.9.
    pub beta1: f64,
    /// The decay of the mean of squared gradients, in [0, 1). PyTorch's default: 0.999.
    pub beta2: f64,
    /// Added to the root of the mean of squares. PyTorch's default: 1e-8.
    pub epsilon: f64,
    /// The factor of weight decay, >= 0.
    pub weight_decay: f64,
    /// Whether weight decay shrinks the parameter itself (AdamW) rather than joining the gradient (Adam).
    pub decoupled: bool,
    /// The number of this step, from 1.
    pub step: u64,
}

/// The options of one step of stochastic gradient descent (PyTorch's `SGD`, dampening 0).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    /// The learning rate, >= 0.
    pub learning_rate: f64,
    /// The decay of the velocity; 0 leaves the velocity untouched.
    pub momentum: f64,
    /// Whether to look ahead along the velocity (Nesterov).
    pub nesterov: bool,
    /// The factor of weight decay, >= 0, which joins the gradient.
    pub weight_decay: f64,
}

/// Updates `parameter`, and Adam's running `mean` and `square` (zero before the first step). All have one length.
pub fn adam(
    team: &Team,
    step: &AdamStep,
    parameter: &mut [f32],
    gradient: &[f32],
    mean: &mut [f32],
    square: &mut [f32],
) {
    let length = parameter.len();
    check::length("adam", "gradient", gradient.len(), length);
    check::length("adam", "mean", mean.len(), length);
    check::length("adam", "square", square.len(), length);
    let (mean, square) = (Parts::new(mean), Parts::new(square));
    let factors = AdamFactors::new(step);
    team.for_each_chunk(parameter, BLOCK, |block, parameter| {
        let (start, length) = (block * BLOCK, parameter.len());
        let gradient = &gradient[start..start + length];
        // SAFETY: these are the places of the block's chunk of `parameter`, in slices of its length: no two blocks'
        // chunks overlap, and each block runs once.
        let (mean, square) = unsafe { (mean.slice(start, length), square.slice(start, length)) };
        dispatch(team.isa(), Adam { factors, parameter, gradient, mean, square });
    });
}

/// The constants of an Adam step in f32.
#[derive(Clone, Copy)]
struct AdamFactors {
    shrink: f32,
    decay: f32,
    mean_share: f32,
    square_decay: f32,
    square_share: f32,
    step_size: f32,
    root: f32,
    epsilon: f32,
}

impl AdamFactors {
    fn new(step: &AdamStep) -> Self {
        let correction = |beta: f64| 1.0 - beta.powf(step.step as f64);
        let (shrink, decay) = match step.decoupled {
            true => (1.0 - step.learning_rate * step.weight_decay, 0.0),
            false => (1.0, step.weight_decay),
        };
        AdamFactors {
            shrink: shrink as f32,
            decay: decay as f32,
            mean_share: (1.0 - step.beta1) as f32,
            square_decay: step.beta2 as f32,
            square_share: (1.0 - step.beta2) as f32,
            step_size: (step.learning_rate / correction(step.beta1)) as f32,
            root: correction(step.beta2).sqrt() as f32,
            epsilon: step.epsilon as f32,
        }
    }
}

struct Adam<'a> {
    factors: AdamFactors,
    parameter: &'a mut [f32],
    gradient: &'a [f32],
    mean: &'a mut [f32],
    square: &'a mut [f32],
}

impl Kernel for Adam<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let length = self.parameter.len();
        let (p, g) = (&mut self.parameter[..length], &self.gradient[..length]);
        let (m, v) = (&mut self.mean[..length], &mut self.square[..length]);
        let f = self.factors;
        for i in 0..length {
            let gradient = g[i] + f.decay * p[i];
            m[i] += (gradient - m[i]) * f.mean_share;
            v[i] = v[i] * f.square_decay + f.square_share * gradient * gradient;
            let root = v[i].sqrt() / f.root + f.epsilon;
            p[i] = p[i] * f.shrink - f.step_size * (m[i] / root);
        }
    }
}

/// Updates `parameter` and `velocity` (zero before the first step, which gives PyTorch's first step: its velocity is the
/// gradient). `velocity` may be empty when the momentum is 0.
pub fn sgd(team: &Team, step: &SgdStep, parameter: &mut [f32], gradient: &[f32], velocity: &mut [f32]) {
    let length = parameter.len();
    check::length("sgd", "gradient", gradient.len(), length);
    let momentum = step.momentum != 0.0;
    if momentum {
        check::length("sgd", "velocity", velocity.len(), length);
    }
    let velocity = Parts::new(velocity);
    team.for_each_chunk(parameter, BLOCK, |block, parameter| {
        let (start, length) = (block * BLOCK, parameter.len());
        let gradient = &gradient[start..start + length];
        // SAFETY: with momentum, these are the places of the block's chunk of `parameter` in a slice of its length: no
        // two blocks' chunks overlap, and each block runs once. Without, the part is empty.
        let velocity = unsafe { velocity.slice(if momentum { start } else { 0 }, if momentum { length } else { 0 }) };
        dispatch(team.isa(), Sgd { step: *step, parameter, gradient, velocity });
    });
}

struct Sgd<'a> {
    step: SgdStep,
    parameter: &'a mut [f32],
    gradient: &'a [f32],
    velocity: &'a mut [f32],
}

impl Kernel for Sgd<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let length = self.parameter.len();
        let (p, g) = (&mut self.parameter[..length], &self.gradient[..length]);
        let (rate, decay) = (self.step.learning_rate as f32, self.step.weight_decay as f32);
        if self.step.momentum == 0.0 {
            for i in 0..length {
                p[i] -= rate * (g[i] + decay * p[i]);
            }
            return;
        }
        let v = &mut self.velocity[..length];
        let momentum = self.step.momentum as f32;
        let ahead = self.step.nesterov;
        for i in 0..length {
            let gradient = g[i] + decay * p[i];
            v[i] = momentum * v[i] + gradient;
            p[i] -= rate * if ahead { gradient + momentum * v[i] } else { v[i] };
        }
    }
}
