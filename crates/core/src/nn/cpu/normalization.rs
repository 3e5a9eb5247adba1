//! Batch, layer and L2 normalisation by kernels.

use std::sync::Arc;

use rkd_kernels::convolution::Conv2d;
use rkd_kernels::convolution::normalized::{self, Normalized as Normal};
use rkd_kernels::normalization as kernel;
use rkd_kernels::pooling::Pool2d;

use super::super::backend::{
    BatchNorm, LayerNormalized, NormGradients, Normalized, Passed, PooledNorm, SavedNorm, Statistics, Won,
};
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
    let BatchNorm { x, weight, bias, residual, activation, epsilon, .. } = *operation;
    let c = x.channels();
    let (team, residual) = (cpu.team(), residual.map(CpuTensor::values));
    let mut statistics = [(); 3].map(|()| cpu.make(&[c], |_| ()));
    let y = cpu.like(x, |y| {
        let [mean, rstd, variance] = statistics.each_mut().map(|tensor| tensor.values_mut(&cpu.floats));
        let (x, weight, bias) = (x.values(), weight.values(), bias.values());
        kernel::batch_norm_train(team, c, epsilon, x, weight, bias, residual, activation, y, mean, rstd, variance);
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
    let BatchNorm { x, weight, bias, residual, activation, epsilon, .. } = *operation;
    let c = x.channels();
    let rstd: Vec<f64> = variance.values().iter().map(|&v| 1.0 / (f64::from(v) + epsilon).sqrt()).collect();
    let scale: Vec<f64> = weight.values().iter().zip(&rstd).map(|(&w, r)| f64::from(w) * r).collect();
    let offset = bias.values().iter().zip(mean.values()).zip(&scale);
    let shift: Vec<f32> = offset.map(|((&b, &m), s)| (f64::from(b) - f64::from(m) * s) as f32).collect();
    let scale: Vec<f32> = scale.into_iter().map(|s| s as f32).collect();
    let residual = residual.map(CpuTensor::values);
    let y =
        cpu.like(x, |y| kernel::batch_norm_eval(cpu.team(), c, x.values(), &scale, &shift, residual, activation, y));
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
    let activation = match saved.activation {
        Passed::All => kernel::Passed::All,
        Passed::Output(activation, y) => kernel::Passed::Output(activation, y.values()),
        Passed::Shift(activation, bias) => kernel::Passed::Shift(activation, bias.values()),
    };
    // Without a ReLU the residual's gradient is `dy` itself.
    let mut masked = (saved.residual && !matches!(activation, kernel::Passed::All)).then(|| cpu.like(dy, |_| ()));
    let mut parameters = [(); 2].map(|()| cpu.make(&[c], |_| ()));
    let dx = cpu.like(saved.x, |dx| {
        let [dweight, dbias] = parameters.each_mut().map(|tensor| tensor.values_mut(&cpu.floats));
        let dresidual = masked.as_mut().map(|tensor| tensor.values_mut(&cpu.floats));
        let (x, dy) = (saved.x.values(), dy.values());
        let (weight, mean, rstd) = (saved.weight.values(), saved.mean.values(), saved.rstd.values());
        backward(cpu.team(), c, x, activation, dy, weight, mean, rstd, dx, dweight, dbias, dresidual);
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
    let (Passed::Shift(_, bias), Some(inputs)) = (&saved.activation, &won.inputs) else {
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

/// See [`Backend::batch_norm_depthwise`](super::Backend::batch_norm_depthwise).
pub(super) fn batch_norm_depthwise(
    cpu: &Cpu,
    operation: &BatchNorm<'_, CpuTensor>,
    shape: &Conv2d,
    weight: &CpuTensor,
) -> Normalized<CpuTensor> {
    let BatchNorm { x, weight: gamma, bias: beta, activation, epsilon, .. } = *operation;
    let (team, c, [oh, ow]) = (cpu.team(), shape.c_in, shape.output());
    let [mut mean, mut rstd, mut variance] = [(); 3].map(|()| cpu.make(&[c], |_| ()));
    let given = match operation.statistics {
        Statistics::Batch => None,
        Statistics::Fixed { mean, variance } => Some([mean, variance]),
    };
    let y = cpu.make(&[shape.n, oh, ow, c], |y| {
        let (mean, rstd) = (mean.values_mut(&cpu.floats), rstd.values_mut(&cpu.floats));
        let (x, gamma) = (x.values(), gamma.values());
        let scale: Vec<f32> = match given {
            None => {
                let variance = variance.values_mut(&cpu.floats);
                kernel::batch_norm_statistics(team, c, epsilon, x, gamma, mean, rstd, variance)
            }
            Some([given, variance]) => {
                mean.copy_from_slice(given.values());
                let inverse = |v: &f32| (1.0 / (f64::from(*v) + epsilon).sqrt()) as f32;
                rstd.iter_mut().zip(variance.values()).for_each(|(rstd, v)| *rstd = inverse(v));
                gamma.iter().zip(&*rstd).map(|(gamma, rstd)| gamma * rstd).collect()
            }
        };
        let normal = Normal { mean, scale: &scale, shift: beta.values(), activation };
        normalized::forward(team, shape, normal, x, weight.values(), y);
    });
    let variance = given.map_or(variance, |[_, variance]| variance.clone());
    Normalized { y, mean, rstd, variance }
}

/// The gradients of [`batch_norm_depthwise`].
pub(super) fn batch_norm_depthwise_backward(
    cpu: &Cpu,
    operation: &BatchNorm<'_, CpuTensor>,
    rstd: &CpuTensor,
    batch: bool,
    shape: &Conv2d,
    weight: &CpuTensor,
    dy: &CpuTensor,
) -> Result<(NormGradients<CpuTensor>, CpuTensor)> {
    let &BatchNorm { x, weight: gamma, bias: beta, activation, .. } = operation;
    let Statistics::Fixed { mean, .. } = operation.statistics else {
        return Err(Error::new(Code::Internal, "the way back has the statistics of the way there"));
    };
    let [mut dgamma, mut dbeta] = [(); 2].map(|()| cpu.make(&[shape.c_in], |_| ()));
    let mut dweight = cpu.like(weight, |_| ());
    let dx = cpu.like(x, |dx| {
        let factors = [gamma, beta, mean, rstd].map(CpuTensor::values);
        let [dweight, dgamma, dbeta] =
            [&mut dweight, &mut dgamma, &mut dbeta].map(|tensor| tensor.values_mut(&cpu.floats));
        let (team, x, dy, weight) = (cpu.team(), x.values(), dy.values(), weight.values());
        normalized::backward(team, shape, batch, activation, x, dy, weight, factors, dx, dweight, dgamma, dbeta);
    });
    Ok((NormGradients { dx, dweight: dgamma, dbias: dbeta, dresidual: None }, dweight))
}

/// Layer normalisation.
pub(super) fn layer_norm(
    cpu: &Cpu,
    x: &CpuTensor,
    weight: &CpuTensor,
    bias: &CpuTensor,
    epsilon: f64,
) -> LayerNormalized<CpuTensor> {
    let mut statistics = [(); 2].map(|()| cpu.make(&[x.rows()], |_| ()));
    let y = cpu.like(x, |y| {
        let [mean, rstd] = statistics.each_mut().map(|tensor| tensor.values_mut(&cpu.floats));
        let (x, weight, bias) = (x.values(), weight.values(), bias.values());
        kernel::layer_norm(cpu.team(), weight.len(), epsilon, x, weight, bias, y, mean, rstd);
    });
    let [mean, rstd] = statistics;
    LayerNormalized { y, mean, rstd }
}

/// The gradients of [`layer_norm`].
pub(super) fn layer_norm_backward(
    cpu: &Cpu,
    x: &CpuTensor,
    weight: &CpuTensor,
    [mean, rstd]: [&CpuTensor; 2],
    dy: &CpuTensor,
    added: Option<&CpuTensor>,
) -> NormGradients<CpuTensor> {
    let mut gradients = [(); 2].map(|()| cpu.like(weight, |_| ()));
    let dx = cpu.like(x, |dx| {
        let [dweight, dbias] = gradients.each_mut().map(|tensor| tensor.values_mut(&cpu.floats));
        let [x, weight, mean, rstd, dy] = [x, weight, mean, rstd, dy].map(CpuTensor::values);
        let added = added.map(CpuTensor::values);
        kernel::layer_norm_backward(cpu.team(), x, weight, mean, rstd, dy, added, dx, dweight, dbias);
    });
    let [dweight, dbias] = gradients;
    NormGradients { dx, dweight, dbias, dresidual: None }
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
