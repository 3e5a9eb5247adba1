//! Batch, layer and L2 normalisation.
//!
//! With m values per channel, z = (x - mean) * rstd, y = activation?(weight * z + bias + residual), and g = dy times
//! the slope of the activation:
//!   d bias = sum g,   d weight = sum g z,   d residual = g
//!   statistics of the batch:  dx = weight * rstd * (g - (d bias + z * d weight) / m)
//!   fixed statistics:         dx = weight * rstd * g
//! A layer normalisation has mean and rstd of every row, and no activation: with g = dy * weight and means along the row,
//!   d bias = sum dy,   d weight = sum dy z,   dx = rstd * (g - mean of g - z * mean of (g z))

use candle_core::Tensor;

use super::super::backend::{BatchNorm, LayerNormalized, NormGradients, Normalized, Passed, SavedNorm, Statistics};
use super::{activate, activate_backward, column_sums, rows};
use crate::error::Result;

/// The smallest divisor of the L2 normalisation: PyTorch's `normalize`.
const SMALLEST_NORM: f64 = 1e-12;

/// See [`BatchNorm`].
pub(super) fn batch_norm(operation: &BatchNorm<'_, Tensor>) -> Result<Normalized<Tensor>> {
    let x = rows(operation.x)?;
    let m = x.dims()[0] as f64;
    let (mean, variance) = match operation.statistics {
        Statistics::Fixed { mean, variance } => (mean.clone(), variance.clone()),
        Statistics::Batch => {
            let mean = (column_sums(&x)? / m)?;
            let variance = (column_sums(&x.broadcast_sub(&mean)?.sqr()?)? / m)?;
            (mean, variance)
        }
    };
    let rstd = (&variance + operation.epsilon)?.sqrt()?.recip()?;
    let scale = (&rstd * operation.weight)?;
    let mut y = x.broadcast_sub(&mean)?.broadcast_mul(&scale)?.broadcast_add(operation.bias)?;
    if let Some(residual) = operation.residual {
        y = (y + rows(residual)?)?;
    }
    if let Some(kind) = operation.activation {
        y = activate(kind, &y)?;
    }
    Ok(Normalized { y: y.reshape(operation.x.shape())?, mean, rstd, variance })
}

/// The gradients in this file's head.
pub(super) fn batch_norm_backward(saved: &SavedNorm<'_, Tensor>, dy: &Tensor) -> Result<NormGradients<Tensor>> {
    let x = rows(saved.x)?;
    let passed = match saved.activation {
        Passed::All => dy.clone(),
        Passed::Output(kind, y) => activate_backward(kind, y, dy)?,
        Passed::Shift(kind, bias) => {
            let scale = (saved.rstd * saved.weight)?;
            let y = x.broadcast_sub(saved.mean)?.broadcast_mul(&scale)?.broadcast_add(bias)?;
            activate_backward(kind, &y.reshape(saved.x.shape())?, dy)?
        }
    };
    let g = rows(&passed)?;
    let z = x.broadcast_sub(saved.mean)?.broadcast_mul(saved.rstd)?;
    let (dbias, dweight) = (column_sums(&g)?, column_sums(&(&g * &z)?)?);
    let mut dx = g;
    if saved.batch {
        let through = z.broadcast_mul(&dweight)?.broadcast_add(&dbias)?;
        dx = (dx - (through / x.dims()[0] as f64)?)?;
    }
    let dx = dx.broadcast_mul(&(saved.weight * saved.rstd)?)?.reshape(saved.x.shape())?;
    Ok(NormGradients { dx, dweight, dbias, dresidual: saved.residual.then_some(passed) })
}

/// Rows divided by `max(norm, 1e-12)`, and the norms.
pub(super) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<LayerNormalized<Tensor>> {
    let all = rows(x)?;
    let mean = all.mean(1)?;
    let centred = all.broadcast_sub(&mean.unsqueeze(1)?)?;
    let rstd = (centred.sqr()?.mean(1)? + epsilon)?.sqrt()?.recip()?;
    let z = centred.broadcast_mul(&rstd.unsqueeze(1)?)?;
    let y = z.broadcast_mul(weight)?.broadcast_add(bias)?.reshape(x.shape())?;
    Ok(LayerNormalized { y, mean, rstd })
}

pub(super) fn layer_norm_backward(
    x: &Tensor,
    weight: &Tensor,
    [mean, rstd]: [&Tensor; 2],
    dy: &Tensor,
) -> Result<NormGradients<Tensor>> {
    let (rstd, dy) = (rstd.unsqueeze(1)?, rows(dy)?);
    let z = rows(x)?.broadcast_sub(&mean.unsqueeze(1)?)?.broadcast_mul(&rstd)?;
    let g = dy.broadcast_mul(weight)?;
    let along = z.broadcast_mul(&(&g * &z)?.mean_keepdim(1)?)?;
    let dx = (g.broadcast_sub(&g.mean_keepdim(1)?)? - along)?.broadcast_mul(&rstd)?;
    let dweight = column_sums(&(&dy * z)?)?;
    Ok(NormGradients { dx: dx.reshape(x.shape())?, dweight, dbias: column_sums(&dy)?, dresidual: None })
}

pub(super) fn l2_normalize(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let norm = x.sqr()?.sum(1)?.sqrt()?;
    let divisor = norm.maximum(SMALLEST_NORM)?.unsqueeze(1)?;
    Ok((x.broadcast_div(&divisor)?, norm))
}

/// `dx = (dy - y (y . dy)) / norm`; below the smallest norm the divisor is a constant, and `dx = dy / 1e-12`.
pub(super) fn l2_normalize_backward(y: &Tensor, norm: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let along = (y * dy)?.sum(1)?;
    let along = norm.gt(SMALLEST_NORM)?.where_cond(&along, &along.zeros_like()?)?.unsqueeze(1)?;
    let across = (dy - y.broadcast_mul(&along)?)?;
    Ok(across.broadcast_div(&norm.maximum(SMALLEST_NORM)?.unsqueeze(1)?)?)
}
