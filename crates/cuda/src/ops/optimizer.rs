use rkd_kernels::optimizer::{AdamStep, SgdStep};

use super::elementwise::fill;
use super::maps::{SQUARES, square_blocks};
use super::{check, check_given, flat, int, launch};
use crate::device::{Argument, Device, Result};

/// A step of Adam or AdamW on a parameter and its state.
pub fn adam_in_place<D: Device>(
    device: &D,
    step: &AdamStep,
    parameter: &D::Buffer,
    gradient: &D::Buffer,
    [mean, square]: [&D::Buffer; 2],
) -> Result<()> {
    let n = D::len(parameter);
    check::<D>("adam", &[("gradient", gradient, n), ("mean", mean, n), ("square", square, n)]);
    let correction = |beta: f64| 1.0 - beta.powf(step.step as f64);
    let (shrink, decay) = match step.decoupled {
        true => (1.0 - step.learning_rate * step.weight_decay, 0.0),
        false => (1.0, step.weight_decay),
    };
    let rate = step.learning_rate / correction(step.beta1);
    let root2 = correction(step.beta2).sqrt();
    let constants =
        [shrink, decay, step.beta1, 1.0 - step.beta1, step.beta2, 1.0 - step.beta2, rate, root2, step.epsilon];
    let [shrink, decay, beta1, rest1, beta2, rest2, rate, root2, epsilon] = constants.map(|value| value as f32);
    launch!(
        device,
        adam,
        flat(n),
        [parameter, gradient, mean, square, shrink, decay, beta1, rest1, beta2, rest2, rate, root2, epsilon, n]
    )
}

/// A step of stochastic gradient descent on a parameter and, with a momentum, its velocity.
pub fn sgd_in_place<D: Device>(
    device: &D,
    step: &SgdStep,
    parameter: &D::Buffer,
    gradient: &D::Buffer,
    velocity: Option<&D::Buffer>,
) -> Result<()> {
    let n = D::len(parameter);
    check::<D>("sgd", &[("gradient", gradient, n)]);
    check_given::<D>("sgd", "velocity", velocity, n);
    let [rate, momentum, decay] = [step.learning_rate, step.momentum, step.weight_decay].map(|value| value as f32);
    let nesterov = i32::from(step.nesterov);
    launch!(device, sgd, flat(n), [parameter, gradient, velocity, rate, momentum, decay, nesterov, n])
}

/// The norm of each buffer, `[k]`.
pub fn norms<D: Device>(device: &D, buffers: &[&D::Buffer]) -> Result<D::Buffer> {
    let (k, norms) = (buffers.len(), device.take(buffers.len())?);
    // Small buffers have fewer blocks.
    let partial = fill(device, 0.0, k * SQUARES)?;
    for (place, &buffer) in buffers.iter().enumerate() {
        let n = D::len(buffer);
        let none = None::<&D::Buffer>;
        let to = Argument::At(&partial, place * SQUARES);
        launch!(device, block_squares, square_blocks(n), [buffer, none, none, 0.0f32, to, n])?;
    }
    launch!(device, finish_squares, flat(k), [&partial, &norms, 1.0f32, 1, int(k), int(SQUARES)])?;
    Ok(norms)
}

/// Multiplies buffers by `min(1, largest / (norm + 1e-6))`, where `norm` is that of all `norms` together.
pub fn clip_in_place<D: Device>(device: &D, buffers: &[&D::Buffer], norms: &D::Buffer, largest: f64) -> Result<()> {
    let factor = device.take(1)?;
    launch!(device, clip_factor, flat(1), [norms, &factor, largest as f32, int(D::len(norms))])?;
    for &buffer in buffers {
        let n = D::len(buffer);
        launch!(device, scale_by, flat(n), [buffer, &factor, n])?;
    }
    Ok(())
}
