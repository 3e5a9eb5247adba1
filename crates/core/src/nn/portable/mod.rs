//! The portable backend: every operation composed of candle operations whose results are right on any device.
//!
//! It is the oracle of the CPU kernels and runs where there are none. candle's own convolution, pooling and
//! normalisation gradients are not used: in places they are missing, slow or wrong. Gradients are written out here;
//! candle's autograd has no part in it. Float32 or float64 (the latter for numeric gradient checks).

mod attention;
mod convolution;
mod maps;
mod normalization;
mod optimizer;
mod pooling;
mod windows;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{DType, Device, Tensor};

use super::backend::{
    Activation, AdamStep, Backend, BatchNorm, LayerNormalized, MapOperations, NormGradients, Normalized, Norms,
    SavedNorm, SgdStep,
};
use super::geometry::{Conv2d, Pool2d};
use super::shape::with_channels;
use crate::error::Result;

/// Layer operations on a candle device.
#[derive(Clone, Debug)]
pub struct Portable {
    device: Device,
    dtype: DType,
    downloads: Arc<AtomicU64>,
}

impl Portable {
    /// On `device`, in `dtype` (`F32` or `F64`).
    pub fn new(device: Device, dtype: DType) -> Self {
        Portable { device, dtype, downloads: Arc::default() }
    }

    /// Float32 on the CPU.
    pub fn cpu_f32() -> Self {
        Portable::new(Device::Cpu, DType::F32)
    }

    /// Float64 on the CPU.
    pub fn cpu_f64() -> Self {
        Portable::new(Device::Cpu, DType::F64)
    }

    /// How often values have come to the host, by this backend and its clones: each time the host has waited for all that
    /// the device had to do before.
    pub fn downloads(&self) -> u64 {
        self.downloads.load(Ordering::Relaxed)
    }

    fn to_host(&self, tensor: &Tensor) -> Result<Vec<f64>> {
        self.downloads.fetch_add(1, Ordering::Relaxed);
        Ok(tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
    }
}

/// `[..., c]` as `[m, c]`.
fn rows(x: &Tensor) -> Result<Tensor> {
    let c = x.dims().last().copied().unwrap_or(1);
    Ok(x.reshape((x.elem_count() / c.max(1), c))?)
}

/// The sum of each column of `[m, c]`, `[c]`. A product with ones: it adds in blocks, which loses fewer digits than
/// candle's sequential sum.
fn column_sums(x: &Tensor) -> Result<Tensor> {
    let (m, c) = x.dims2()?;
    let ones = Tensor::ones((1, m), x.dtype(), x.device())?;
    Ok(ones.matmul(&x.contiguous()?)?.reshape(c)?)
}

/// `min(max(x, lowest), highest)`; NaN stays NaN.
fn within([lowest, highest]: [f64; 2], x: &Tensor) -> Result<Tensor> {
    let constant = |value: f64| x.zeros_like()?.affine(1.0, value);
    let y = x.lt(lowest)?.where_cond(&constant(lowest)?, x)?;
    Ok(y.gt(highest)?.where_cond(&constant(highest)?, &y)?)
}

/// `v` where `lowest < x < highest`, else 0.
fn where_between([lowest, highest]: [f64; 2], x: &Tensor, v: &Tensor) -> Result<Tensor> {
    let zeros = v.zeros_like()?;
    let v = x.gt(lowest)?.where_cond(v, &zeros)?;
    Ok(x.lt(highest)?.where_cond(&v, &zeros)?)
}

/// `1 / (1 + exp(-x))`.
fn sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok(x.neg()?.exp()?.affine(1.0, 1.0)?.recip()?)
}

/// The probability that a standard normal number is below x.
fn normal_below(x: &Tensor) -> Result<Tensor> {
    Ok((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()?.affine(0.5, 0.5)?)
}

/// The ceiling of ReLU6.
const SIX: f64 = 6.0;

/// See [`Activation`].
fn activate(kind: Activation, x: &Tensor) -> Result<Tensor> {
    match kind {
        Activation::Relu => Ok(x.lt(0.0)?.where_cond(&x.zeros_like()?, x)?),
        Activation::Relu6 => within([0.0, SIX], x),
        Activation::HardSigmoid => Ok(within([0.0, SIX], &x.affine(1.0, 3.0)?)?.affine(1.0 / SIX, 0.0)?),
        Activation::HardSwish => Ok((x * activate(Activation::HardSigmoid, x)?)?),
        Activation::Sigmoid => sigmoid(x),
        Activation::Silu => Ok((x * sigmoid(x)?)?),
        Activation::Gelu => Ok((x * normal_below(x)?)?),
    }
}

/// `dy` times the slope at `x`; of a ReLU its output does for `x` too.
fn activate_backward(kind: Activation, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    match kind {
        Activation::Relu => Ok(x.gt(0.0)?.where_cond(dy, &dy.zeros_like()?)?),
        Activation::Relu6 => where_between([0.0, SIX], x, dy),
        Activation::HardSigmoid => where_between([-3.0, 3.0], x, &dy.affine(1.0 / SIX, 0.0)?),
        Activation::HardSwish => {
            let bent = where_between([-3.0, f64::INFINITY], x, &(dy * x.affine(1.0 / 3.0, 0.5)?)?)?;
            Ok(x.ge(3.0)?.where_cond(dy, &bent)?)
        }
        Activation::Sigmoid => {
            let y = sigmoid(x)?;
            Ok((dy * (&y * y.affine(-1.0, 1.0)?)?)?)
        }
        Activation::Silu => {
            let y = sigmoid(x)?;
            let slope = (&y * (x * y.affine(-1.0, 1.0)?)?.affine(1.0, 1.0)?)?;
            Ok((dy * slope)?)
        }
        Activation::Gelu => {
            let density = ((x.sqr()? * -0.5)?.exp()? / std::f64::consts::TAU.sqrt())?;
            Ok((dy * (normal_below(x)? + (x * density)?)?)?)
        }
    }
}

impl Backend for Portable {
    type Tensor = Tensor;
    type Indices = Tensor;

    fn shape(tensor: &Tensor) -> &[usize] {
        tensor.dims()
    }

    fn from_f32(&self, values: &[f32], shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::from_slice(values, shape, &self.device)?.to_dtype(self.dtype)?)
    }

    fn from_f64(&self, values: &[f64], shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::from_slice(values, shape, &self.device)?.to_dtype(self.dtype)?)
    }

    fn to_f32(&self, tensor: &Tensor) -> Result<Vec<f32>> {
        self.downloads.fetch_add(1, Ordering::Relaxed);
        Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }

    fn to_f64(&self, tensor: &Tensor) -> Result<Vec<f64>> {
        self.to_host(tensor)
    }

    fn download(&self, tensors: &[&Tensor]) -> Result<Vec<Vec<f64>>> {
        let flat = tensors.iter().map(|tensor| Ok(tensor.flatten_all()?)).collect::<Result<Vec<_>>>()?;
        let mut rest = match flat.is_empty() {
            true => Vec::new(),
            false => self.to_host(&Tensor::cat(&flat, 0)?)?,
        };
        // From the last, so that each takes its end off.
        let mut values: Vec<Vec<f64>> =
            tensors.iter().rev().map(|tensor| rest.split_off(rest.len() - tensor.elem_count())).collect();
        values.reverse();
        Ok(values)
    }

    fn maps(&self) -> Option<&dyn MapOperations<Tensor>> {
        Some(self)
    }

    fn zeros(&self, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::zeros(shape, self.dtype, &self.device)?)
    }

    fn add(&self, a: Tensor, b: &Tensor) -> Result<Tensor> {
        Ok((a + b)?)
    }

    fn conv2d(&self, windows: &Conv2d, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        convolution::forward(windows, x, weight, bias)
    }

    fn conv2d_backward_input(&self, windows: &Conv2d, input: &[usize], weight: &Tensor, dy: &Tensor) -> Result<Tensor> {
        convolution::backward_input(windows, input, weight, dy)
    }

    fn conv2d_backward_weight(
        &self,
        windows: &Conv2d,
        x: &Tensor,
        dy: &Tensor,
        bias: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let dbias = bias.then(|| column_sums(&rows(dy)?)).transpose()?;
        Ok((convolution::backward_weight(windows, x, dy)?, dbias))
    }

    fn batch_norm(&self, operation: &BatchNorm<'_, Tensor>) -> Result<Normalized<Tensor>> {
        normalization::batch_norm(operation)
    }

    fn batch_norm_backward(&self, saved: &SavedNorm<'_, Tensor>, dy: &Tensor) -> Result<NormGradients<Tensor>> {
        normalization::batch_norm_backward(saved, dy)
    }

    fn activate(&self, kind: Activation, x: &Tensor) -> Result<Tensor> {
        activate(kind, x)
    }

    fn activate_backward(&self, kind: Activation, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        activate_backward(kind, x, dy)
    }

    fn max_pool(&self, windows: &Pool2d, x: &Tensor) -> Result<(Tensor, Tensor)> {
        pooling::max_pool(windows, x)
    }

    fn max_pool_backward(&self, _: &Pool2d, input: &[usize], indices: &Tensor, dy: &Tensor) -> Result<Tensor> {
        pooling::max_pool_backward(input, indices, dy)
    }

    fn global_average(&self, x: &Tensor) -> Result<Tensor> {
        let (n, h, w, c) = x.dims4()?;
        Ok(x.reshape((n, h * w, c))?.mean(1)?)
    }

    fn global_average_backward(&self, input: &[usize], dy: &Tensor) -> Result<Tensor> {
        let (n, c) = dy.dims2()?;
        let share = (dy / (input[1] * input[2]) as f64)?;
        Ok(share.reshape((n, 1, 1, c))?.broadcast_as(input)?.contiguous()?)
    }

    fn reshape(&self, x: &Tensor, shape: &[usize]) -> Result<Tensor> {
        Ok(x.reshape(shape)?)
    }

    fn images(&self, x: &Tensor, [first, end]: [usize; 2]) -> Result<Tensor> {
        Ok(x.narrow(0, first, end - first)?)
    }

    fn stack(&self, parts: &[Tensor]) -> Result<Tensor> {
        Ok(Tensor::cat(parts, 0)?)
    }

    fn scale_channels(&self, x: &Tensor, gate: &Tensor) -> Result<Tensor> {
        Ok(x.broadcast_mul(gate)?)
    }

    fn scale_channels_backward_gate(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        let (n, h, w, c) = x.dims4()?;
        Ok((x * dy)?.reshape((n, h * w, c))?.sum(1)?.reshape((n, 1, 1, c))?)
    }

    fn scale_channels_backward_input(&self, dy: &Tensor, gate: &Tensor, dmean: &Tensor) -> Result<Tensor> {
        let (_, h, w, _) = dy.dims4()?;
        Ok(dy.broadcast_mul(gate)?.broadcast_add(&(dmean / (h * w) as f64)?)?)
    }

    fn join(&self, parts: &[Tensor]) -> Result<Tensor> {
        Ok(Tensor::cat(parts, 3)?)
    }

    fn join_backward(&self, channels: &[usize], dy: &Tensor) -> Result<Vec<Tensor>> {
        let mut first = 0;
        let part = |&c: &usize| {
            first += c;
            Ok(dy.narrow(3, first - c, c)?.contiguous()?)
        };
        channels.iter().map(part).collect()
    }

    fn layer_norm(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<LayerNormalized<Tensor>> {
        normalization::layer_norm(x, weight, bias, epsilon)
    }

    fn layer_norm_backward(
        &self,
        x: &Tensor,
        weight: &Tensor,
        statistics: [&Tensor; 2],
        dy: &Tensor,
        added: Option<&Tensor>,
    ) -> Result<NormGradients<Tensor>> {
        let mut gradients = normalization::layer_norm_backward(x, weight, statistics, dy)?;
        if let Some(added) = added {
            gradients.dx = (gradients.dx + added)?;
        }
        Ok(gradients)
    }

    fn attention(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        attention::forward(x, heads)
    }

    fn attention_backward(&self, x: &Tensor, heads: usize, dy: &Tensor) -> Result<Tensor> {
        attention::backward(x, heads, dy)
    }

    fn add_tokens(&self, x: &Tensor, class: &Tensor, position: &Tensor) -> Result<Tensor> {
        let (n, h, w, c) = x.dims4()?;
        let class = class.broadcast_as((n, 1, c))?;
        let tokens = Tensor::cat(&[&class, &x.reshape((n, h * w, c))?], 1)?.broadcast_add(position)?;
        Ok(tokens.reshape((n, 1 + h * w, 1, c))?)
    }

    fn add_tokens_backward(&self, input: &[usize], dy: &Tensor) -> Result<[Tensor; 3]> {
        let (n, t, _, c) = dy.dims4()?;
        let dposition = column_sums(&dy.reshape((n, t * c))?)?.reshape((1, t, c))?;
        let dclass = dposition.narrow(1, 0, 1)?.contiguous()?;
        Ok([dy.narrow(1, 1, t - 1)?.contiguous()?.reshape(input)?, dclass, dposition])
    }

    fn class_token(&self, x: &Tensor) -> Result<Tensor> {
        let (n, _, _, c) = x.dims4()?;
        Ok(x.narrow(1, 0, 1)?.contiguous()?.reshape((n, c))?)
    }

    fn class_token_backward(&self, input: &[usize], dy: &Tensor) -> Result<Tensor> {
        let &[n, t, _, c] = input else { unreachable!("tokens have four axes") };
        let rest = self.zeros(&[n, t - 1, 1, c])?;
        Ok(Tensor::cat(&[&dy.reshape((n, 1, 1, c))?, &rest], 1)?)
    }

    fn flatten(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.permute((0, 3, 1, 2))?.contiguous()?.flatten_from(1)?)
    }

    fn flatten_backward(&self, input: &[usize], dy: &Tensor) -> Result<Tensor> {
        let &[n, h, w, c] = input else { unreachable!("an activation has four axes") };
        Ok(dy.reshape((n, c, h, w))?.permute((0, 2, 3, 1))?.contiguous()?)
    }

    fn linear(&self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let y = rows(x)?.matmul(&weight.t()?)?.broadcast_add(bias)?;
        Ok(y.reshape(with_channels(x.dims(), y.dims()[1]))?)
    }

    fn linear_backward_input(&self, weight: &Tensor, dy: &Tensor) -> Result<Tensor> {
        let dx = rows(dy)?.matmul(weight)?;
        Ok(dx.reshape(with_channels(dy.dims(), dx.dims()[1]))?)
    }

    fn linear_backward_weight(&self, x: &Tensor, dy: &Tensor) -> Result<(Tensor, Tensor)> {
        let (x, dy) = (rows(x)?, rows(dy)?);
        Ok((dy.t()?.matmul(&x)?, column_sums(&dy)?))
    }

    fn l2_normalize(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        normalization::l2_normalize(x)
    }

    fn l2_normalize_backward(&self, y: &Tensor, norm: &Tensor, dy: &Tensor) -> Result<Tensor> {
        normalization::l2_normalize_backward(y, norm, dy)
    }

    fn blend(&self, target: &mut Tensor, source: &Tensor, share: f64, factor: f64) -> Result<()> {
        *target = (target.affine(1.0 - share, 0.0)? + source.affine(share * factor, 0.0)?)?;
        Ok(())
    }

    fn increment(&self, tensor: &mut Tensor) -> Result<()> {
        *tensor = tensor.affine(1.0, 1.0)?;
        Ok(())
    }

    fn norms(&self, tensors: &[&Tensor]) -> Result<Norms<Tensor>> {
        let norm = |tensor: &&Tensor| Ok(tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?.sqrt()?);
        let norms = tensors.iter().map(norm).collect::<Result<Vec<_>>>()?;
        match norms.is_empty() {
            true => Ok(Norms::Known(Vec::new())),
            false => Ok(Norms::Pending(Tensor::stack(&norms, 0)?.to_dtype(self.dtype)?)),
        }
    }

    fn clip(&self, tensors: &mut [&mut Tensor], norms: &Tensor, largest: f64) -> Result<()> {
        let total = norms.to_dtype(DType::F64)?.sqr()?.sum_all()?.sqrt()?;
        let factor = (total.affine(1.0, 1e-6)?.recip()? * largest)?.minimum(1.0)?.to_dtype(self.dtype)?;
        for tensor in tensors {
            **tensor = tensor.broadcast_mul(&factor)?;
        }
        Ok(())
    }

    fn scale(&self, tensor: &mut Tensor, factor: f64) -> Result<()> {
        *tensor = tensor.affine(factor, 0.0)?;
        Ok(())
    }

    fn adam(
        &self,
        step: &AdamStep,
        parameter: &mut Tensor,
        gradient: &Tensor,
        mean: &mut Tensor,
        square: &mut Tensor,
    ) -> Result<()> {
        optimizer::adam(step, parameter, gradient, mean, square)
    }

    fn sgd(
        &self,
        step: &SgdStep,
        parameter: &mut Tensor,
        gradient: &Tensor,
        velocity: Option<&mut Tensor>,
    ) -> Result<()> {
        optimizer::sgd(step, parameter, gradient, velocity)
    }
}
