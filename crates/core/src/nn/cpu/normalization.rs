//! Batch normalisation and L2 normalisation by kernels.

use std::sync::Arc;

use rkd_kernels::normalization as kernel;
use rkd_kernels::pooling::Pool2d;

use super::super::backend::{BatchNorm, NormGradients, Normalized, Passed, PooledNorm, SavedNorm, Statistics, Won};
use super::buffer::Buffer;
use super::{Cpu, CpuTensor};
use crate::error::{Code, Error, Result};

/// See [`BatchNorm`].
pub(super) fn batch_norm(cpu: &Cpu, operation: &BatchNorm<'_, CpuTensor>) -> Normalized<CpuTensor> {
    match operation.statistics {
        Statistics::Batch => with_batch_statistics(cpu, operation),
        Statistics::Fixed { mean, variance } => with_fixed_statistics(cpu, operation, mean, variance),
    }
}

fn with_batch_statistics(cpu: &Cpu, operation: &BatchNorm<'_, CpuTensor>) -> Normalized<CpuTensor> {
    let BatchNorm { x, weight, bias, residual, relu, epsilon, .. } = *operation;
    let c = x.channels();
    let (team, residual) = (cpu.team(), residual.map(CpuTensor::values));
    let mut statistics = [(); 3].map(|()| cpu.make(&[c], |_| ()));
    let y = cpu.like(x, |y| {
        let [mean, rstd, variance] = statistics.each_mut().map(|tensor| tensor.values_mut(&cpu.floats));
        let (x, weight, bias) = (x.values(), weight.values(), bias.values());
        kernel::batch_norm_train(team, c, epsilon, x, weight, bias, residual, relu, y, mean, rstd, variance);
    });
    let [mean, rstd, variance] = statistics;
    Normalized { y, mean, rstd, variance }
}

fn with_fixed_statistics(
    cpu: &Cpu,
    operation: &BatchNorm<'_, CpuTensor>,
    mean: &CpuTensor,
    variance: &CpuTensor,
) -> Normalized<CpuTensor> {
    let BatchNorm { x, weight, bias, residual, relu, epsilon, .. } = *operation;
    let c = x.channels();
    let rstd: Vec<f64> = variance.values().iter().map(|&v| 1.0 / (f64::from(v) + epsilon).sqrt()).collect();
    let scale: Vec<f64> = weight.values().iter().zip(&rstd).map(|(&w, r)| f64::from(w) * r).collect();
    let offset = bias.values().iter().zip(mean.values()).zip(&scale);
    let shift: Vec<f32> = offset.map(|((&b, &m), s)| (f64::from(b) - f64::from(m) * s) as f32).collect();
    let scale: Vec<f32> = scale.into_iter().map(|s| s as f32).collect();
    let residual = residual.map(CpuTensor::values);
    let y = cpu.like(x, |y| kernel::batch_norm_eval(cpu.team(), c, x.values(), &scale, &shift, residual, relu, y));
    let rstd = cpu.make(&[c], |values| values.iter_mut().zip(&rstd).for_each(|(value, r)| *value = *r as f32));
    Normalized { y, mean: mean.clone(), rstd, variance: variance.clone() }
}

/// The gradients of [`batch_norm`].
pub(super) fn batch_norm_backward(
    cpu: &Cpu,
    saved: &SavedNorm<'_, CpuTensor>,
    dy: &CpuTensor,
) -> NormGradients<CpuTensor> {
    let c = saved.x.channels();
    let backward = if saved.batch { kernel::batch_norm_backward } else { kernel::batch_norm_eval_backward };
    let relu = match saved.relu {
        Passed::All => kernel::Passed::All,
        Passed::Output(relu, y) => kernel::Passed::Output(relu, y.values()),
        Passed::Shift(relu, bias) => kernel::Passed::Shift(relu, bias.values()),
    };
    // Without a ReLU the residual's gradient is `dy` itself.
    let mut masked = (saved.residual && !matches!(relu, kernel::Passed::All)).then(|| cpu.like(dy, |_| ()));
    let mut parameters = [(); 2].map(|()| cpu.make(&[c], |_| ()));
    let dx = cpu.like(saved.x, |dx| {
        let [dweight, dbias] = parameters.each_mut().map(|tensor| tensor.values_mut(&cpu.floats));
        let dresidual = masked.as_mut().map(|tensor| tensor.values_mut(&cpu.floats));
        let (x, dy) = (saved.x.values(), dy.values());
        let (weight, mean, rstd) = (saved.weight.values(), saved.mean.values(), saved.rstd.values());
        backward(cpu.team(), c, x, relu, dy, weight, mean, rstd, dx, dweight, dbias, dresidual);
    });
    let [dweight, dbias] = parameters;
    let dresidual = masked.or_else(|| saved.residual.then(|| dy.clone()));
    NormGradients { dx, dweight, dbias, dresidual }
}

/// See [`Backend::batch_norm_max_pool`](super::Backend::batch_norm_max_pool).
pub(super) fn batch_norm_max_pool(
    cpu: &Cpu,
    &BatchNorm { x, weight, bias, epsilon, .. }: &BatchNorm<'_, CpuTensor>,
    shape: &Pool2d,
) -> PooledNorm<CpuTensor, Arc<Buffer<u32>>> {
    let (c, [oh, ow]) = (shape.c, shape.output());
    let pooled = [shape.n, oh, ow, c];
    let mut statistics = [(); 3].map(|()| cpu.make(&[c], |_| ()));
    let mut inputs = cpu.make(&pooled, |_| ());
    let mut indices = cpu.positions.take(pooled.iter().product());
    let y = cpu.make(&pooled, |y| {
        let [mean, rstd, variance] = statistics.each_mut().map(|tensor| tensor.values_mut(&cpu.floats));
        let (inputs, indices) = (inputs.values_mut(&cpu.floats), indices.values_mut());
        let (x, weight, bias) = (x.values(), weight.values(), bias.values());
        kernel::batch_norm_max_pool(
            cpu.team(),
            shape,
            epsilon,
            x,
            weight,
            bias,
            y,
            inputs,
            indices,
            mean,
            rstd,
            variance,
        );
    });
    let [mean, rstd, variance] = statistics;
    let won = Won { inputs: Some(inputs), indices: Arc::new(indices) };
    PooledNorm { normalized: Normalized { y, mean, rstd, variance }, won }
}

/// The gradients of [`batch_norm_max_pool`].
pub(super) fn batch_norm_max_pool_backward(
    cpu: &Cpu,
    saved: &SavedNorm<'_, CpuTensor>,
    shape: &Pool2d,
    won: &Won<CpuTensor, Arc<Buffer<u32>>>,
    dy: &CpuTensor,
) -> Result<NormGradients<CpuTensor>> {
    let (Passed::Shift(_, bias), Some(inputs)) = (&saved.relu, &won.inputs) else {
        return Err(Error::new(Code::Internal, "a normalisation that pools has a ReLU and keeps the inputs that won"));
    };
    let mut parameters = [(); 2].map(|()| cpu.make(&[shape.c], |_| ()));
    let dx = cpu.like(saved.x, |dx| {
        let [dweight, dbias] = parameters.each_mut().map(|tensor| tensor.values_mut(&cpu.floats));
        let (x, inputs, indices, dy) = (saved.x.values(), inputs.values(), won.indices.values(), dy.values());
        let (weight, bias) = (saved.weight.values(), bias.values());
        let (mean, rstd) = (saved.mean.values(), saved.rstd.values());
        kernel::batch_norm_max_pool_backward(
            cpu.team(),
            shape,
            x,
            inputs,
            indices,
            dy,
            weight,
            bias,
            mean,
            rstd,
            dx,
            dweight,
            dbias,
        );
    });
    let [dweight, dbias] = parameters;
    Ok(NormGradients { dx, dweight, dbias, dresidual: None })
}

/// Rows divided by their norm, and the norms.
pub(super) fn l2_normalize(cpu: &Cpu, x: &CpuTensor) -> (CpuTensor, CpuTensor) {
    let mut norm = cpu.make(&x.shape[..1], |_| ());
    let y = cpu.like(x, |y| {
        kernel::l2_normalize(cpu.team(), x.channels(), x.values(), y, norm.values_mut(&cpu.floats));
    });
    (y, norm)
}

/// The gradient of [`l2_normalize`].
pub(super) fn l2_normalize_backward(cpu: &Cpu, y: &CpuTensor, norm: &CpuTensor, dy: &CpuTensor) -> CpuTensor {
    cpu.like(y, |dx| {
        kernel::l2_normalize_backward(cpu.team(), y.channels(), y.values(), norm.values(), dy.values(), dx);
    })
}
