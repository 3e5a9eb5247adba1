//! The CPU backend: float32 kernels on all cores, in recycled memory. The same bits on any number of threads.

mod buffer;
mod normalization;
mod tensor;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rkd_kernels::attention::{self, Attention};
use rkd_kernels::convolution::Pass;
use rkd_kernels::finish::Finish;
use rkd_kernels::linear::Linear;
use rkd_kernels::normalization::batch_norm_moments;
use rkd_kernels::{Isa, Team, channels, convolution, elementwise, excitation, linear, optimizer, pooling, tokens};

use self::buffer::{Buffer, FreeList};
pub use self::tensor::CpuTensor;
use super::backend::{
    Activation, AdamStep, Backend, BatchNorm, LayerNormalized, NormGradients, Normalized, Norms, PooledNorm, SavedNorm,
    SgdStep, Won,
};
use super::geometry::{Conv2d, Pool2d};
use super::shape::check_filled;
use crate::error::{Code, Error, Result};

/// Values of maps that are computed together: 8 MiB, a part of the third-level cache that most machines have.
const CACHED_VALUES: usize = 2 << 20;

/// Layer operations by the kernels of `rkd-kernels`. Clones share threads and memory.
#[derive(Clone)]
pub struct Cpu {
    team: Arc<Team>,
    floats: Arc<FreeList<f32>>,
    positions: Arc<FreeList<u32>>,
    /// Floats of the kernels' outer and inner buffers so far, where memory is only counted.
    working: Arc<Mutex<[usize; 2]>>,
}

impl fmt::Debug for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cpu({} threads, {})", self.team.threads(), self.team.isa().name())
    }
}

impl Cpu {
    /// Kernels that run on `team`.
    pub fn new(team: Arc<Team>) -> Self {
        Cpu { team, floats: FreeList::new(), positions: FreeList::new(), working: Arc::default() }
    }

    /// A backend whose operations compute nothing and take no memory, but count what they would take. Its tensors have
    /// shapes and no values.
    pub fn counting() -> Self {
        Cpu { floats: FreeList::counting(), positions: FreeList::counting(), ..Cpu::new(Arc::new(Team::new(1))) }
    }

    /// Bytes of all tensors' memory, in use or free; it only grows until [`Cpu::trim`].
    pub fn allocated(&self) -> usize {
        size_of::<f32>() * self.floats.allocated() + size_of::<u32>() * self.positions.allocated()
    }

    /// Bytes of working memory of the convolutions and linear layers so far, where memory is only counted.
    pub fn working_memory(&self) -> usize {
        let [outer, inner] = *self.working.lock().unwrap_or_else(PoisonError::into_inner);
        size_of::<f32>() * (outer + inner)
    }

    /// Notes the kernels' buffers of an operation, where memory is only counted.
    fn count(&self, need: impl FnOnce(Isa) -> [usize; 2]) {
        if self.floats.counts() {
            let need = need(self.team.isa());
            let mut working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
            working.iter_mut().zip(need).for_each(|(most, need)| *most = need.max(*most));
        }
    }

    /// The threads.
    pub fn team(&self) -> &Arc<Team> {
        &self.team
    }

    /// Gives memory that no tensor uses back to the system.
    pub fn trim(&self) {
        self.floats.trim();
        self.positions.trim();
    }

    fn make(&self, shape: &[usize], fill: impl FnOnce(&mut [f32])) -> CpuTensor {
        CpuTensor::make(&self.floats, shape, fill)
    }

    fn like(&self, tensor: &CpuTensor, fill: impl FnOnce(&mut [f32])) -> CpuTensor {
        self.make(&tensor.shape, fill)
    }
}

/// The kernel's description of a convolution.
fn convolution_shape(windows: &Conv2d, input: &[usize], c_out: usize) -> Result<convolution::Conv2d> {
    let Conv2d { kernel, stride, padding, extra, dilation, groups } = *windows;
    windows.output([input[1], input[2]])?;
    let [n, h, w, c_in] = four(input)?;
    Ok(convolution::Conv2d { n, h, w, c_in, c_out, kernel, stride, padding, extra, dilation, groups })
}

/// The kernel's description of a pool.
fn pool_shape(windows: &Pool2d, input: &[usize]) -> Result<pooling::Pool2d> {
    let Pool2d { kernel, stride, padding, ceil } = *windows;
    let [n, h, w, c] = four(input)?;
    windows.output([h, w])?;
    Ok(pooling::Pool2d { n, h, w, c, kernel, stride, padding, ceil })
}

fn four(shape: &[usize]) -> Result<[usize; 4]> {
    shape.try_into().map_err(|_| {
        Error::new(Code::Internal, "an activation has four axes").with_values("[n, h, w, c]", format!("{shape:?}"))
    })
}

fn linear_shape(x: &CpuTensor, weight: &CpuTensor) -> Linear {
    Linear { n: x.rows(), inputs: weight.shape[1], outputs: weight.shape[0] }
}

/// The kernel's description of self-attention on `x`.
fn attention_shape(x: &CpuTensor, heads: usize) -> Result<Attention> {
    let [n, tokens, _, c] = four(&x.shape)?;
    Ok(Attention { n, tokens, heads, channels: c / 3 / heads })
}

impl Backend for Cpu {
    type Tensor = CpuTensor;
    type Indices = Arc<Buffer<u32>>;

    fn shape(tensor: &CpuTensor) -> &[usize] {
        &tensor.shape
    }

    fn from_f32(&self, values: &[f32], shape: &[usize]) -> Result<CpuTensor> {
        check_filled(values.len(), shape)?;
        Ok(self.make(shape, |tensor| tensor.copy_from_slice(values)))
    }

    fn to_f32(&self, tensor: &CpuTensor) -> Result<Vec<f32>> {
        let mut values = tensor.values().to_vec();
        values.resize(tensor.shape.iter().product(), 0.0); // where memory is only counted there are none
        Ok(values)
    }

    fn zeros(&self, shape: &[usize]) -> Result<CpuTensor> {
        Ok(self.make(shape, |values| values.fill(0.0)))
    }

    fn add(&self, mut a: CpuTensor, b: &CpuTensor) -> Result<CpuTensor> {
        elementwise::add_in_place(&self.team, b.values(), a.values_mut(&self.floats));
        Ok(a)
    }

    fn conv2d(
        &self,
        windows: &Conv2d,
        x: &CpuTensor,
        weight: &CpuTensor,
        bias: Option<&CpuTensor>,
    ) -> Result<CpuTensor> {
        self.conv2d_finished(windows, x, weight, bias, None, None)
    }

    fn conv2d_finished(
        &self,
        windows: &Conv2d,
        x: &CpuTensor,
        weight: &CpuTensor,
        bias: Option<&CpuTensor>,
        residual: Option<&CpuTensor>,
        activation: Option<Activation>,
    ) -> Result<CpuTensor> {
        let shape = convolution_shape(windows, &x.shape, weight.channels())?;
        let (team, length) = (&self.team, convolution::prepared_length(self.team.isa(), &shape));
        let prepared = weight.prepared(&self.floats, length, |prepared| {
            convolution::prepare(team, &shape, weight.values(), prepared);
        });
        if prepared.is_none() {
            self.count(|isa| convolution::working_memory(isa, &shape, Pass::Forward));
        }
        let [h, w] = shape.output();
        let (bias, residual) = (bias.map(CpuTensor::values), residual.map(CpuTensor::values));
        let finish = Finish { bias, residual, activation };
        let (x, weight) = (x.values(), weight.values());
        Ok(self.make(&[shape.n, h, w, shape.c_out], |y| match prepared {
            Some(prepared) => convolution::forward_prepared(team, &shape, x, [weight, prepared], finish, y),
            None => convolution::forward_finished(team, &shape, x, weight, finish, y),
        }))
    }

    fn conv2d_backward_input(
        &self,
        windows: &Conv2d,
        input: &[usize],
        weight: &CpuTensor,
        dy: &CpuTensor,
    ) -> Result<CpuTensor> {
        let shape = convolution_shape(windows, input, weight.channels())?;
        self.count(|isa| convolution::working_memory(isa, &shape, Pass::Input));
        Ok(self.make(input, |dx| convolution::backward_input(&self.team, &shape, dy.values(), weight.values(), dx)))
    }

    fn conv2d_backward_weight(
        &self,
        windows: &Conv2d,
        x: &CpuTensor,
        dy: &CpuTensor,
        bias: bool,
    ) -> Result<(CpuTensor, Option<CpuTensor>)> {
        let shape = convolution_shape(windows, &x.shape, dy.channels())?;
        self.count(|isa| convolution::working_memory(isa, &shape, Pass::Weight));
        // Outside of the other tensor's filling, which does not happen where memory is only counted.
        let mut dbias = bias.then(|| self.make(&[shape.c_out], |_| ()));
        let [height, width] = shape.kernel;
        let dweight = self.make(&[height, width, shape.c_in / shape.groups, shape.c_out], |dweight| {
            let dbias = dbias.as_mut().map(|dbias| dbias.values_mut(&self.floats));
            convolution::backward_weight(&self.team, &shape, x.values(), dy.values(), dweight, dbias);
        });
        Ok((dweight, dbias))
    }

    fn moments(&self, x: &CpuTensor) -> Result<[Vec<f64>; 2]> {
        let c = x.channels();
        let moments = match self.floats.counts() {
            true => vec![[0.0; 2]; c],
            false => batch_norm_moments(&self.team, c, x.values()),
        };
        Ok([0, 1].map(|which| moments.iter().map(|of_channel| of_channel[which]).collect()))
    }

    fn batch_norm(&self, operation: &BatchNorm<'_, CpuTensor>) -> Result<Normalized<CpuTensor>> {
        Ok(normalization::batch_norm(self, operation))
    }

    fn batch_norm_backward(
        &self,
        saved: &SavedNorm<'_, CpuTensor>,
        dy: &CpuTensor,
    ) -> Result<NormGradients<CpuTensor>> {
        Ok(normalization::batch_norm_backward(self, saved, dy))
    }

    fn batch_norm_max_pool(
        &self,
        operation: &BatchNorm<'_, CpuTensor>,
        windows: &Pool2d,
    ) -> Result<PooledNorm<CpuTensor, Arc<Buffer<u32>>>> {
        let shape = pool_shape(windows, &operation.x.shape)?;
        Ok(normalization::batch_norm_max_pool(self, operation, &shape))
    }

    fn batch_norm_max_pool_backward(
        &self,
        saved: &SavedNorm<'_, CpuTensor>,
        windows: &Pool2d,
        won: &Won<CpuTensor, Arc<Buffer<u32>>>,
        dy: &CpuTensor,
    ) -> Result<NormGradients<CpuTensor>> {
        let shape = pool_shape(windows, &saved.x.shape)?;
        normalization::batch_norm_max_pool_backward(self, saved, &shape, won, dy)
    }

    fn batch_norm_depthwise(
        &self,
        operation: &BatchNorm<'_, CpuTensor>,
        windows: &Conv2d,
        weight: &CpuTensor,
    ) -> Result<Normalized<CpuTensor>> {
        let shape = convolution_shape(windows, &operation.x.shape, weight.channels())?;
        Ok(normalization::batch_norm_depthwise(self, operation, &shape, weight))
    }

    fn batch_norm_depthwise_backward(
        &self,
        operation: &BatchNorm<'_, CpuTensor>,
        rstd: &CpuTensor,
        batch: bool,
        windows: &Conv2d,
        weight: &CpuTensor,
        dy: &CpuTensor,
    ) -> Result<(NormGradients<CpuTensor>, CpuTensor)> {
        let shape = convolution_shape(windows, &operation.x.shape, weight.channels())?;
        self.count(|_| [convolution::normalized::working_memory(&shape), 0]);
        normalization::batch_norm_depthwise_backward(self, operation, rstd, batch, &shape, weight, dy)
    }

    fn activate(&self, kind: Activation, x: &CpuTensor) -> Result<CpuTensor> {
        Ok(self.like(x, |y| elementwise::activate(&self.team, kind, x.values(), y)))
    }

    fn activate_backward(&self, kind: Activation, x: &CpuTensor, dy: &CpuTensor) -> Result<CpuTensor> {
        Ok(self.like(x, |dx| elementwise::activate_backward(&self.team, kind, x.values(), dy.values(), dx)))
    }

    fn max_pool(&self, windows: &Pool2d, x: &CpuTensor) -> Result<(CpuTensor, Arc<Buffer<u32>>)> {
        let shape = pool_shape(windows, &x.shape)?;
        let [h, w] = shape.output();
        let mut positions = self.positions.take(shape.n * h * w * shape.c);
        let y = self.make(&[shape.n, h, w, shape.c], |y| {
            pooling::max_pool(&self.team, &shape, x.values(), y, positions.values_mut())
        });
        Ok((y, Arc::new(positions)))
    }

    fn max_pool_backward(
        &self,
        windows: &Pool2d,
        input: &[usize],
        positions: &Arc<Buffer<u32>>,
        dy: &CpuTensor,
    ) -> Result<CpuTensor> {
        let shape = pool_shape(windows, input)?;
        Ok(self.make(input, |dx| pooling::max_pool_backward(&self.team, &shape, positions.values(), dy.values(), dx)))
    }

    fn global_average(&self, x: &CpuTensor) -> Result<CpuTensor> {
        let [n, h, w, c] = four(&x.shape)?;
        Ok(self.make(&[n, c], |y| pooling::global_average(&self.team, h * w, c, x.values(), y)))
    }

    fn global_average_backward(&self, input: &[usize], dy: &CpuTensor) -> Result<CpuTensor> {
        let [_, h, w, c] = four(input)?;
        Ok(self.make(input, |dx| pooling::global_average_backward(&self.team, h * w, c, dy.values(), dx)))
    }

    fn reshape(&self, x: &CpuTensor, shape: &[usize]) -> Result<CpuTensor> {
        x.reshaped(shape)
    }

    fn scale_channels(&self, x: &CpuTensor, gate: &CpuTensor) -> Result<CpuTensor> {
        let [_, h, w, c] = four(&x.shape)?;
        let size = [h * w, c];
        Ok(self.like(x, |y| excitation::scale_channels(&self.team, size, x.values(), gate.values(), y)))
    }

    fn scale_channels_backward_gate(&self, x: &CpuTensor, dy: &CpuTensor) -> Result<CpuTensor> {
        let [n, h, w, c] = four(&x.shape)?;
        let (size, x, dy) = ([h * w, c], x.values(), dy.values());
        let fill = |dgate: &mut [f32]| excitation::scale_channels_backward_gate(&self.team, size, x, dy, dgate);
        Ok(self.make(&[n, 1, 1, c], fill))
    }

    fn scale_channels_backward_input(&self, dy: &CpuTensor, gate: &CpuTensor, dmean: &CpuTensor) -> Result<CpuTensor> {
        let [_, h, w, c] = four(&dy.shape)?;
        let (size, gate, dmean) = ([h * w, c], gate.values(), dmean.values());
        let fill =
            |dx: &mut [f32]| excitation::scale_channels_backward_input(&self.team, size, dy.values(), gate, dmean, dx);
        Ok(self.like(dy, fill))
    }

    fn constant(&self, tensor: &CpuTensor) -> CpuTensor {
        tensor.constant()
    }

    fn cached_values(&self) -> Option<usize> {
        Some(CACHED_VALUES)
    }

    fn images(&self, x: &CpuTensor, range: [usize; 2]) -> Result<CpuTensor> {
        Ok(x.images(range))
    }

    fn stack(&self, parts: &[CpuTensor]) -> Result<CpuTensor> {
        let mut shape = parts.first().map_or_else(Vec::new, |part| part.shape.clone());
        shape[0] = parts.iter().map(|part| part.shape[0]).sum();
        let length = shape[1..].iter().product();
        Ok(self.make(&shape, |y| {
            let images: Vec<&[f32]> = parts.iter().flat_map(|part| part.values().chunks_exact(length)).collect();
            self.team.for_each_chunk(y, length, |image, y| y.copy_from_slice(images[image]));
        }))
    }

    fn join(&self, parts: &[CpuTensor]) -> Result<CpuTensor> {
        let all = parts.iter().map(CpuTensor::channels).sum();
        let [n, h, w, _] = four(parts.first().map_or(&[], |part| &part.shape))?;
        let parts: Vec<_> = parts.iter().map(|part| (part.values(), part.channels())).collect();
        Ok(self.make(&[n, h, w, all], |y| channels::join(&self.team, &parts, y)))
    }

    fn join_backward(&self, channels: &[usize], dy: &CpuTensor) -> Result<Vec<CpuTensor>> {
        let [n, h, w, all] = four(&dy.shape)?;
        let mut first = 0;
        let part = |&c: &usize| {
            first += c;
            self.make(&[n, h, w, c], |dx| channels::cut(&self.team, dy.values(), all, first - c, c, dx))
        };
        Ok(channels.iter().map(part).collect())
    }

    fn layer_norm(
        &self,
        x: &CpuTensor,
        weight: &CpuTensor,
        bias: &CpuTensor,
        epsilon: f64,
    ) -> Result<LayerNormalized<CpuTensor>> {
        Ok(normalization::layer_norm(self, x, weight, bias, epsilon))
    }

    fn layer_norm_backward(
        &self,
        x: &CpuTensor,
        weight: &CpuTensor,
        statistics: [&CpuTensor; 2],
        dy: &CpuTensor,
        added: Option<&CpuTensor>,
    ) -> Result<NormGradients<CpuTensor>> {
        Ok(normalization::layer_norm_backward(self, x, weight, statistics, dy, added))
    }

    fn attention(&self, x: &CpuTensor, heads: usize) -> Result<CpuTensor> {
        let shape = attention_shape(x, heads)?;
        Ok(self.make(&[shape.n, shape.tokens, 1, heads * shape.channels], |y| {
            attention::forward(&self.team, &shape, x.values(), y)
        }))
    }

    fn attention_backward(&self, x: &CpuTensor, heads: usize, dy: &CpuTensor) -> Result<CpuTensor> {
        let shape = attention_shape(x, heads)?;
        Ok(self.like(x, |dx| attention::backward(&self.team, &shape, x.values(), dy.values(), dx)))
    }

    fn add_tokens(&self, x: &CpuTensor, class: &CpuTensor, position: &CpuTensor) -> Result<CpuTensor> {
        let [n, h, w, c] = four(&x.shape)?;
        let (x, class, position) = (x.values(), class.values(), position.values());
        Ok(self.make(&[n, 1 + h * w, 1, c], |y| tokens::add_tokens(&self.team, x, class, position, y)))
    }

    fn add_tokens_backward(&self, input: &[usize], dy: &CpuTensor) -> Result<[CpuTensor; 3]> {
        let [_, h, w, c] = four(input)?;
        let (mut dclass, mut dposition) = (self.make(&[1, 1, c], |_| ()), self.make(&[1, 1 + h * w, c], |_| ()));
        let dx = self.make(input, |dx| {
            let [dclass, dposition] = [&mut dclass, &mut dposition].map(|tensor| tensor.values_mut(&self.floats));
            tokens::add_tokens_backward(&self.team, dy.values(), dx, dclass, dposition);
        });
        Ok([dx, dclass, dposition])
    }

    fn class_token(&self, x: &CpuTensor) -> Result<CpuTensor> {
        let [n, t, _, c] = four(&x.shape)?;
        let rows = |y: &mut [f32]| {
            let images = x.values().chunks_exact(t * c);
            y.chunks_exact_mut(c).zip(images).for_each(|(y, image)| y.copy_from_slice(&image[..c]));
        };
        Ok(self.make(&[n, c], rows))
    }

    fn class_token_backward(&self, input: &[usize], dy: &CpuTensor) -> Result<CpuTensor> {
        let [_, t, _, c] = four(input)?;
        let rows = |dx: &mut [f32]| {
            dx.fill(0.0);
            let images = dx.chunks_exact_mut(t * c);
            images.zip(dy.values().chunks_exact(c)).for_each(|(image, dy)| image[..c].copy_from_slice(dy));
        };
        Ok(self.make(input, rows))
    }

    fn flatten(&self, x: &CpuTensor) -> Result<CpuTensor> {
        let [n, h, w, c] = four(&x.shape)?;
        Ok(self.make(&[n, c * h * w], |y| transpose_images(x.values(), [h * w, c], y)))
    }

    fn flatten_backward(&self, input: &[usize], dy: &CpuTensor) -> Result<CpuTensor> {
        let [_, h, w, c] = four(input)?;
        Ok(self.make(input, |dx| transpose_images(dy.values(), [c, h * w], dx)))
    }

    fn linear(&self, x: &CpuTensor, weight: &CpuTensor, bias: &CpuTensor) -> Result<CpuTensor> {
        self.linear_finished(x, weight, bias, None, None)
    }

    fn linear_finished(
        &self,
        x: &CpuTensor,
        weight: &CpuTensor,
        bias: &CpuTensor,
        residual: Option<&CpuTensor>,
        activation: Option<Activation>,
    ) -> Result<CpuTensor> {
        let shape = linear_shape(x, weight);
        let (team, length) = (&self.team, linear::prepared_length(self.team.isa(), &shape));
        let prepared =
            weight.prepared(&self.floats, length, |prepared| linear::prepare(team, &shape, weight.values(), prepared));
        if prepared.is_none() {
            self.count(|isa| [linear::working_memory(isa, &shape, false), 0]);
        }
        let finish = Finish { bias: Some(bias.values()), residual: residual.map(CpuTensor::values), activation };
        let (from, weight) = (x.values(), weight.values());
        Ok(self.make(&x.with_channels(shape.outputs), |y| match prepared {
            Some(prepared) => linear::forward_prepared(team, &shape, from, prepared, finish, y),
            None => linear::forward(team, &shape, from, weight, finish, y),
        }))
    }

    fn linear_backward_input(&self, weight: &CpuTensor, dy: &CpuTensor) -> Result<CpuTensor> {
        let shape = linear_shape(dy, weight);
        Ok(self.make(&dy.with_channels(shape.inputs), |dx| {
            linear::backward_input(&self.team, &shape, dy.values(), weight.values(), dx)
        }))
    }

    fn linear_backward_weight(&self, x: &CpuTensor, dy: &CpuTensor) -> Result<(CpuTensor, CpuTensor)> {
        let shape = Linear { n: x.rows(), inputs: x.channels(), outputs: dy.channels() };
        self.count(|isa| [linear::working_memory(isa, &shape, true), 0]);
        let mut dbias = self.zeros(&[shape.outputs])?;
        let dweight = self.make(&[shape.outputs, shape.inputs], |dweight| {
            let dbias = dbias.values_mut(&self.floats);
            linear::backward_weight(&self.team, &shape, x.values(), dy.values(), dweight, Some(dbias))
        });
        Ok((dweight, dbias))
    }

    fn l2_normalize(&self, x: &CpuTensor) -> Result<(CpuTensor, CpuTensor)> {
        Ok(normalization::l2_normalize(self, x))
    }

    fn l2_normalize_backward(&self, y: &CpuTensor, norm: &CpuTensor, dy: &CpuTensor) -> Result<CpuTensor> {
        Ok(normalization::l2_normalize_backward(self, y, norm, dy))
    }

    fn blend(&self, target: &mut CpuTensor, source: &CpuTensor, share: f64, factor: f64) -> Result<()> {
        let values = target.values_mut(&self.floats);
        elementwise::scale(&self.team, (1.0 - share) as f32, values);
        elementwise::add_scaled(&self.team, (share * factor) as f32, source.values(), values);
        Ok(())
    }

    fn increment(&self, tensor: &mut CpuTensor) -> Result<()> {
        tensor.values_mut(&self.floats).iter_mut().for_each(|value| *value += 1.0);
        Ok(())
    }

    fn norms(&self, tensors: &[&CpuTensor]) -> Result<Norms<CpuTensor>> {
        let squares = tensors.iter().map(|tensor| elementwise::sum_of_squares(&self.team, tensor.values()));
        Ok(Norms::Known(squares.collect()))
    }

    fn scale(&self, tensor: &mut CpuTensor, factor: f64) -> Result<()> {
        elementwise::scale(&self.team, factor as f32, tensor.values_mut(&self.floats));
        Ok(())
    }

    fn adam(
        &self,
        step: &AdamStep,
        parameter: &mut CpuTensor,
        gradient: &CpuTensor,
        mean: &mut CpuTensor,
        square: &mut CpuTensor,
    ) -> Result<()> {
        let [parameter, mean, square] = [parameter, mean, square].map(|tensor| tensor.values_mut(&self.floats));
        optimizer::adam(&self.team, step, parameter, gradient.values(), mean, square);
        Ok(())
    }

    fn sgd(
        &self,
        step: &SgdStep,
        parameter: &mut CpuTensor,
        gradient: &CpuTensor,
        velocity: Option<&mut CpuTensor>,
    ) -> Result<()> {
        let velocity = velocity.map(|tensor| tensor.values_mut(&self.floats)).unwrap_or_default();
        optimizer::sgd(&self.team, step, parameter.values_mut(&self.floats), gradient.values(), velocity);
        Ok(())
    }
}

/// Transposes each image of `rows` x `columns` values. The maps at the end of a network are small: a plain loop does.
fn transpose_images(from: &[f32], [rows, columns]: [usize; 2], to: &mut [f32]) {
    for (from, to) in from.chunks_exact(rows * columns).zip(to.chunks_exact_mut(rows * columns)) {
        for (row, values) in from.chunks_exact(columns).enumerate() {
            for (column, value) in values.iter().enumerate() {
                to[column * rows + row] = *value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbones::{self, BackboneSpec, Stem};
    use crate::nn::{Feature, Network};
    use crate::optim::{Optimizer, OptimizerSpec};

    /// Bytes that two training steps and an evaluation allocate, and those of working memory that were counted.
    fn allocated(cpu: &Cpu, kind: &str) -> (usize, usize) {
        let spec = BackboneSpec {
            kind: kind.into(),
            width: 32,
            hidden: if kind == "mlp" { vec![64] } else { Vec::new() },
            stem: Stem::Small,
            embedding: Some(16),
            normalize: true,
            in_channels: 3,
            image_size: 32,
            classes: None,
        };
        let mut network = Network::zeros(cpu.clone(), backbones::define(&spec).unwrap()).unwrap();
        let adam =
            OptimizerSpec::Adam { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };
        let mut optimizer = Optimizer::new(&adam).unwrap();
        let images = |n: usize| cpu.zeros(&[n, 32, 32, 3]).unwrap();
        for _ in 0..2 {
            let (mut features, tape) = network.forward_train(&images(6)).unwrap();
            features.retain(|name, _| *name == Feature::Embedding);
            let gradients = network.backward(tape, features, false).unwrap().parameters;
            optimizer.step(cpu, &mut [&mut network.parameters], gradients, 1e-3, Some(1.0)).unwrap();
        }
        let network = network.clone();
        let network = match cpu.floats.counts() {
            true => network.into_inference_without_values().unwrap(),
            false => network.into_inference().unwrap(),
        };
        // So many that those of one kind are cut into blocks.
        network.forward(&images(if kind == "conv4" { 40 } else { 9 })).unwrap();
        (cpu.allocated(), cpu.working_memory())
    }

    #[test]
    fn what_is_counted_is_what_is_allocated() {
        let others = ["efficientnet-lite0", "efficientnet-b0", "mobilenet-v2", "mobilenet-v3-small", "vit-tiny"];
        for kind in ["conv4", "resnet18", "resnet50", "vgg11", "googlenet", "mlp"].into_iter().chain(others) {
            let real = Cpu::new(Arc::new(Team::new(2)));
            let (counted, working) = allocated(&Cpu::counting(), kind);
            assert_eq!(counted, allocated(&real, kind).0, "{kind}");
            assert!(working > 0 && real.working_memory() == 0, "{kind}");
        }
    }
}
