//! Optimiser steps as PyTorch defines them.

use candle_core::Tensor;

use super::super::backend::{AdamStep, SgdStep};
use crate::error::Result;

/// Adam, with the weight decay in the gradient or (AdamW) taken off the parameter first.
pub(super) fn adam(
    step: &AdamStep,
    parameter: &mut Tensor,
    gradient: &Tensor,
    mean: &mut Tensor,
    square: &mut Tensor,
) -> Result<()> {
    let mut gradient = gradient.clone();
    if step.decoupled {
        *parameter = parameter.affine(1.0 - step.learning_rate * step.weight_decay, 0.0)?;
    } else if step.weight_decay != 0.0 {
        gradient = (gradient + parameter.affine(step.weight_decay, 0.0)?)?;
    }
    *mean = (mean.affine(step.beta1, 0.0)? + gradient.affine(1.0 - step.beta1, 0.0)?)?;
    *square = (square.affine(step.beta2, 0.0)? + gradient.sqr()?.affine(1.0 - step.beta2, 0.0)?)?;
    let correction = |beta: f64| 1.0 - beta.powf(step.step as f64);
    let divisor = square.sqrt()?.affine(1.0 / correction(step.beta2).sqrt(), step.epsilon)?;
    let rate = step.learning_rate / correction(step.beta1);
    *parameter = (&*parameter - (&*mean / divisor)?.affine(rate, 0.0)?)?;
    Ok(())
}

/// Stochastic gradient descent; the first velocity is the first gradient.
pub(super) fn sgd(
    step: &SgdStep,
    parameter: &mut Tensor,
    gradient: &Tensor,
    velocity: Option<&mut Tensor>,
) -> Result<()> {
    let mut change = (gradient + parameter.affine(step.weight_decay, 0.0)?)?;
    if let Some(velocity) = velocity {
        *velocity = (velocity.affine(step.momentum, 0.0)? + &change)?;
        change = match step.nesterov {
            true => (change + velocity.affine(step.momentum, 0.0)?)?,
            false => velocity.clone(),
        };
    }
    *parameter = (&*parameter - change.affine(step.learning_rate, 0.0)?)?;
    Ok(())
}
