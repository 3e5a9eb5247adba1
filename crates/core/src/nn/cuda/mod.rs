//! The CUDA backend: tensors in a device's memory. Every operation is queued; the host waits only where values come to it.
//!
//! In [`Precision::Bf16`] convolutions and linear layers multiply bfloat16 and add up in float32, and maps `[n, h, w, c]` and their
//! gradients are bfloat16 from the first convolution on; whatever reads them computes in float32 and rounds what it writes. Vectors
//! `[n, d]` are float32, and so are parameters, their gradients and statistics: a weight is rounded where it is multiplied.
//!
//! Generic over the [`Device`], so that the tests run all of it on the CPU twin, with the device's own kernels.

mod maps;
mod relations;
mod tensor;

use std::sync::Arc;

use rkd_cuda::Device;
use rkd_cuda::device::{Convolution, Failure, Kind, Matrix, Product};
use rkd_cuda::ops::{self, Activated, Columns, Pool};

pub use self::tensor::CudaTensor;
use super::backend::{
    Activation, AdamStep, AdamUpdate, Backend, BatchNorm, LayerNormalized, MapOperations, NormGradients, Normalized,
    Norms, Passed, PooledNorm, RelationOperations, SavedNorm, SgdStep, SgdUpdate, Statistics, Won,
};
use super::geometry::{Conv2d, Pool2d};
use super::precision::Precision;
use super::shape::check_filled;
use crate::error::{Code, Error, Result};

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Memory { wanted, free } => {
                Error::new(Code::InvalidOption, "the run does not fit into the memory of the device")
                    .with_subject("batch.size")
                    .with_values(format!("{wanted} bytes"), format!("{free} bytes free"))
                    .with_advice("compute a batch in pieces (--micro-batch), or take a smaller batch or network")
            }
            Failure::Other(_) => Error::new(Code::Internal, format!("the CUDA device failed: {failure}")),
        }
    }
}

/// Layer operations on a CUDA device, in one precision. Clones share its memory and its queue.
#[derive(Clone, Debug)]
pub struct Cuda<D: Device> {
    device: D,
    precision: Precision,
}

/// The convolution as the device describes it, and the zeros behind the padding.
fn convolution_shape(windows: &Conv2d, input: &[usize], c_out: usize) -> Result<(Convolution, [usize; 2])> {
    let Conv2d { kernel, stride, padding, extra, dilation, groups } = *windows;
    let [n, h, w, c_in] = four(input)?;
    let output = windows.output([h, w])?;
    let shape = Convolution { n, input: [h, w], output, c_in, c_out, kernel, stride, padding, dilation, groups };
    Ok((shape, extra))
}

fn pool_shape(windows: &Pool2d, input: &[usize]) -> Result<Pool> {
    let Pool2d { kernel, stride, padding, .. } = *windows;
    let [n, h, w, c] = four(input)?;
    Ok(Pool { n, input: [h, w], output: windows.output([h, w])?, c, kernel, stride, padding })
}

fn four(shape: &[usize]) -> Result<[usize; 4]> {
    shape.try_into().map_err(|_| {
        Error::new(Code::Internal, "an activation has four axes").with_values("[n, h, w, c]", format!("{shape:?}"))
    })
}

impl<D: Device> Cuda<D> {
    /// Operations on `device`, in float32.
    pub fn new(device: D) -> Self {
        Cuda { device, precision: Precision::Float32 }
    }

    /// The same operations in another precision.
    pub fn with_precision(self, precision: Precision) -> Self {
        Cuda { device: self.device.with_tf32(precision == Precision::Tf32), precision }
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    fn tensor(shape: &[usize], buffer: D::Buffer) -> CudaTensor<D> {
        CudaTensor { shape: shape.to_vec(), buffer: Arc::new(buffer), operand: None }
    }

    /// The kind of maps, and of what products multiply.
    fn kind(&self) -> Kind {
        match self.precision {
            Precision::Float32 | Precision::Tf32 => Kind::Float32,
            Precision::Bf16 => Kind::Bfloat16,
        }
    }

    /// The values of a tensor in this kind of numbers; a copy only where they are of another.
    fn as_kind(&self, x: &CudaTensor<D>, kind: Kind) -> Result<Arc<D::Buffer>> {
        if D::kind(&x.buffer) == kind {
            return Ok(Arc::clone(&x.buffer));
        }
        Ok(Arc::new(ops::as_kind(&self.device, &x.buffer, kind)?))
    }

    /// The values of a map, or what a product multiplies.
    fn narrow(&self, x: &CudaTensor<D>) -> Result<Arc<D::Buffer>> {
        self.as_kind(x, self.kind())
    }

    /// The values in float32.
    fn wide(&self, x: &CudaTensor<D>) -> Result<Arc<D::Buffer>> {
        self.as_kind(x, Kind::Float32)
    }

    /// The values in the kind that `other` is of.
    fn like(&self, x: &CudaTensor<D>, other: &D::Buffer) -> Result<Arc<D::Buffer>> {
        self.as_kind(x, D::kind(other))
    }

    /// A weight as convolutions and products take it.
    fn operand(&self, weight: &CudaTensor<D>) -> Result<Arc<D::Buffer>> {
        weight.operand.clone().map_or_else(|| self.narrow(weight), Ok)
    }

    /// The buffer of a tensor, to be changed in place; copied first if another handle shares it.
    fn own<'a>(&self, tensor: &'a mut CudaTensor<D>) -> Result<&'a D::Buffer> {
        if Arc::get_mut(&mut tensor.buffer).is_none() {
            tensor.buffer = Arc::new(ops::copy(&self.device, &tensor.buffer)?);
        }
        tensor.operand = None;
        Ok(&tensor.buffer)
    }

    /// One matrix product: `[m, k]` of `a` times `[k, n]` of `b`, either of which may be transposed. `kind` is that of the result:
    /// float32, or as `a` and `b` are.
    fn multiply(
        &self,
        [m, n, k]: [usize; 3],
        (a, a_transposed): (&D::Buffer, bool),
        (b, b_transposed): (&D::Buffer, bool),
        kind: Kind,
    ) -> Result<D::Buffer> {
        let mut product = Product::of([m, n, k]);
        if a_transposed {
            product.a = Matrix::rows(m).transpose();
        }
        if b_transposed {
            product.b = Matrix::rows(k).transpose();
        }
        let c = self.device.take_as(kind, m * n)?;
        self.device.product(&product, a, b, &c)?;
        Ok(c)
    }
}

impl<D: Device> Backend for Cuda<D> {
    type Tensor = CudaTensor<D>;
    type Indices = Arc<D::Buffer>;

    fn precision(&self) -> Precision {
        self.precision
    }

    fn shape(tensor: &CudaTensor<D>) -> &[usize] {
        &tensor.shape
    }

    fn from_f32(&self, values: &[f32], shape: &[usize]) -> Result<CudaTensor<D>> {
        check_filled(values.len(), shape)?;
        Ok(Self::tensor(shape, self.device.upload(values)?))
    }

    fn to_f32(&self, tensor: &CudaTensor<D>) -> Result<Vec<f32>> {
        Ok(self.device.download(&[&*self.wide(tensor)?])?.pop().unwrap_or_default())
    }

    fn download(&self, tensors: &[&CudaTensor<D>]) -> Result<Vec<Vec<f64>>> {
        let buffers = tensors.iter().map(|tensor| self.wide(tensor)).collect::<Result<Vec<_>>>()?;
        let buffers: Vec<&D::Buffer> = buffers.iter().map(|buffer| &**buffer).collect();
        let values = self.device.download(&buffers)?;
        Ok(values.into_iter().map(|values| values.into_iter().map(f64::from).collect()).collect())
    }

    fn zeros(&self, shape: &[usize]) -> Result<CudaTensor<D>> {
        Ok(Self::tensor(shape, ops::fill(&self.device, Kind::Float32, 0.0, shape.iter().product())?))
    }

    fn add(&self, mut a: CudaTensor<D>, b: &CudaTensor<D>) -> Result<CudaTensor<D>> {
        let b = self.like(b, &a.buffer)?;
        a.operand = None;
        match Arc::get_mut(&mut a.buffer) {
            Some(buffer) => ops::add_in_place(&self.device, buffer, &b)?,
            None => a.buffer = Arc::new(ops::sum(&self.device, &a.buffer, &b)?),
        }
        Ok(a)
    }

    fn conv2d(
        &self,
        windows: &Conv2d,
        x: &CudaTensor<D>,
        weight: &CudaTensor<D>,
        bias: Option<&CudaTensor<D>>,
    ) -> Result<CudaTensor<D>> {
        self.conv2d_finished(windows, x, weight, bias, None, None)
    }

    fn conv2d_finished(
        &self,
        windows: &Conv2d,
        x: &CudaTensor<D>,
        weight: &CudaTensor<D>,
        bias: Option<&CudaTensor<D>>,
        residual: Option<&CudaTensor<D>>,
        activation: Option<Activation>,
    ) -> Result<CudaTensor<D>> {
        let (shape, extra) = convolution_shape(windows, &x.shape, weight.channels())?;
        let y = ops::convolution(&self.device, &shape, extra, &*self.narrow(x)?, &*self.operand(weight)?)?;
        let y = Self::tensor(&[shape.n, shape.output[0], shape.output[1], shape.c_out], y);
        self.finished(y, bias, residual, activation)
    }

    fn conv2d_backward_input(
        &self,
        windows: &Conv2d,
        input: &[usize],
        weight: &CudaTensor<D>,
        dy: &CudaTensor<D>,
    ) -> Result<CudaTensor<D>> {
        let (shape, extra) = convolution_shape(windows, input, weight.channels())?;
        let (weight, dy) = (self.operand(weight)?, self.narrow(dy)?);
        let dx = ops::convolution_backward_input(&self.device, &shape, extra, &weight, &dy)?;
        Ok(Self::tensor(input, dx))
    }

    fn conv2d_backward_weight(
        &self,
        windows: &Conv2d,
        x: &CudaTensor<D>,
        dy: &CudaTensor<D>,
        bias: bool,
    ) -> Result<(CudaTensor<D>, Option<CudaTensor<D>>)> {
        let (shape, extra) = convolution_shape(windows, &x.shape, dy.channels())?;
        let (x, slopes) = (self.narrow(x)?, self.narrow(dy)?);
        let dweight = ops::convolution_backward_weight(&self.device, &shape, extra, &x, &slopes)?;
        let [height, width] = shape.kernel;
        let of_weight = [height, width, shape.c_in / shape.groups, shape.c_out];
        let dbias = if bias { Some(self.column_sums(dy)?) } else { None };
        Ok((Self::tensor(&of_weight, dweight), dbias))
    }

    fn moments(&self, x: &CudaTensor<D>) -> Result<[Vec<f64>; 2]> {
        let ops::Statistics { mean, variance, .. } = ops::batch_statistics(&self.device, &x.buffer, x.channels(), 1.0)?;
        let mut found = self.device.download(&[&mean, &variance])?.into_iter();
        Ok([(); 2].map(|()| found.next().unwrap_or_default().into_iter().map(f64::from).collect()))
    }

    fn batch_norm(&self, operation: &BatchNorm<'_, CudaTensor<D>>) -> Result<Normalized<CudaTensor<D>>> {
        let &BatchNorm { x, weight, bias, residual, activation, epsilon, ref statistics } = operation;
        let c = x.channels();
        let (mean, variance, rstd) = match *statistics {
            Statistics::Batch => {
                let found = ops::batch_statistics(&self.device, &x.buffer, c, epsilon)?;
                let tensor = |buffer| Self::tensor(&[c], buffer);
                (tensor(found.mean), tensor(found.variance), tensor(found.rstd))
            }
            Statistics::Fixed { mean, variance } => {
                let rstd = ops::rstd(&self.device, &variance.buffer, epsilon)?;
                (mean.clone(), variance.clone(), Self::tensor(&[c], rstd))
            }
        };
        let channels = [&*mean.buffer, &rstd.buffer, &weight.buffer, &bias.buffer];
        let residual = residual.map(|residual| self.like(residual, &x.buffer)).transpose()?;
        let y = ops::batch_norm(&self.device, &x.buffer, channels, residual.as_deref(), activation)?;
        Ok(Normalized { y: Self::tensor(&x.shape, y), mean, rstd, variance })
    }

    fn batch_norm_backward(
        &self,
        saved: &SavedNorm<'_, CudaTensor<D>>,
        dy: &CudaTensor<D>,
    ) -> Result<NormGradients<CudaTensor<D>>> {
        let x = &saved.x.buffer;
        let activated = match saved.activation {
            Passed::All => Activated::Not,
            Passed::Output(kind, y) => Activated::Output(kind, &*y.buffer),
            Passed::Shift(kind, bias) => Activated::Shift(kind, &*bias.buffer),
        };
        let channels = [&*saved.mean.buffer, &saved.rstd.buffer, &saved.weight.buffer];
        let (dy, residual) = (self.like(dy, x)?, saved.residual);
        let found = ops::batch_norm_backward(&self.device, x, channels, &activated, &dy, residual, saved.batch)?;
        let of_channels = [saved.x.channels()];
        Ok(NormGradients {
            dx: Self::tensor(&saved.x.shape, found.dx),
            dweight: Self::tensor(&of_channels, found.dweight),
            dbias: Self::tensor(&of_channels, found.dbias),
            dresidual: found.dresidual.map(|residual| Self::tensor(&saved.x.shape, residual)),
        })
    }

    fn batch_norm_max_pool(
        &self,
        operation: &BatchNorm<'_, CudaTensor<D>>,
        windows: &Pool2d,
    ) -> Result<PooledNorm<CudaTensor<D>, Arc<D::Buffer>>> {
        let &BatchNorm { x, weight, bias, activation, epsilon, .. } = operation;
        let (pool, c) = (pool_shape(windows, &x.shape)?, x.channels());
        let found = ops::batch_statistics(&self.device, &x.buffer, c, epsilon)?;
        let channels = [&found.mean, &found.rstd, &*weight.buffer, &*bias.buffer];
        let ops::PooledNorm { y, won, at } =
            ops::batch_norm_max_pool(&self.device, &pool, &x.buffer, channels, activation)?;
        let pooled = |buffer| Self::tensor(&[pool.n, pool.output[0], pool.output[1], c], buffer);
        let of_channels = |buffer| Self::tensor(&[c], buffer);
        let [mean, rstd, variance] = [found.mean, found.rstd, found.variance].map(of_channels);
        let normalized = Normalized { y: pooled(y), mean, rstd, variance };
        Ok(PooledNorm { normalized, won: Won { inputs: Some(pooled(won)), indices: Arc::new(at) } })
    }

    fn batch_norm_max_pool_backward(
        &self,
        saved: &SavedNorm<'_, CudaTensor<D>>,
        windows: &Pool2d,
        won: &Won<CudaTensor<D>, Arc<D::Buffer>>,
        dy: &CudaTensor<D>,
    ) -> Result<NormGradients<CudaTensor<D>>> {
        let (&Passed::Shift(activation, bias), Some(inputs)) = (&saved.activation, &won.inputs) else {
            return Err(Error::new(Code::Internal, "a pooled normalisation keeps its shift and what has won"));
        };
        let (pool, x) = (pool_shape(windows, &saved.x.shape)?, &saved.x.buffer);
        let channels = [&*saved.mean.buffer, &*saved.rstd.buffer, &*saved.weight.buffer, &*bias.buffer];
        let (won, dy) = ([&*inputs.buffer, &*won.indices], self.like(dy, x)?);
        let found = ops::batch_norm_max_pool_backward(&self.device, &pool, x, channels, Some(activation), won, &dy)?;
        let of_channels = |buffer| Self::tensor(&[pool.c], buffer);
        let dx = Self::tensor(&saved.x.shape, found.dx);
        Ok(NormGradients { dx, dweight: of_channels(found.dweight), dbias: of_channels(found.dbias), dresidual: None })
    }

    fn activate(&self, kind: Activation, x: &CudaTensor<D>) -> Result<CudaTensor<D>> {
        Ok(Self::tensor(&x.shape, ops::activate(&self.device, kind, &x.buffer)?))
    }

    fn activate_backward(&self, kind: Activation, x: &CudaTensor<D>, dy: &CudaTensor<D>) -> Result<CudaTensor<D>> {
        Ok(Self::tensor(&x.shape, ops::activate_backward(&self.device, kind, &x.buffer, &*self.like(dy, &x.buffer)?)?))
    }

    fn max_pool(&self, windows: &Pool2d, x: &CudaTensor<D>) -> Result<(CudaTensor<D>, Arc<D::Buffer>)> {
        let pool = pool_shape(windows, &x.shape)?;
        let [y, at] = ops::max_pool(&self.device, &pool, &x.buffer)?;
        Ok((Self::tensor(&[pool.n, pool.output[0], pool.output[1], pool.c], y), Arc::new(at)))
    }

    fn max_pool_backward(
        &self,
        windows: &Pool2d,
        input: &[usize],
        indices: &Arc<D::Buffer>,
        dy: &CudaTensor<D>,
    ) -> Result<CudaTensor<D>> {
        let pool = pool_shape(windows, input)?;
        Ok(Self::tensor(input, ops::max_pool_backward(&self.device, &pool, indices, &*self.narrow(dy)?)?))
    }

    fn global_average(&self, x: &CudaTensor<D>) -> Result<CudaTensor<D>> {
        let [n, pixels, c] = images(&x.shape)?;
        let mean = ops::image_sums(&self.device, &x.buffer, None, [n, pixels, c], 1.0 / pixels as f32)?;
        Ok(Self::tensor(&[n, c], mean))
    }

    fn global_average_backward(&self, input: &[usize], dy: &CudaTensor<D>) -> Result<CudaTensor<D>> {
        let (shape, dy) = (images(input)?, self.wide(dy)?);
        let added = Some((&*dy, 1.0 / shape[1] as f32));
        Ok(Self::tensor(input, ops::by_image(&self.device, self.kind(), None, added, shape)?))
    }

    fn reshape(&self, x: &CudaTensor<D>, shape: &[usize]) -> Result<CudaTensor<D>> {
        x.reshaped(shape)
    }

    fn scale_channels(&self, x: &CudaTensor<D>, gate: &CudaTensor<D>) -> Result<CudaTensor<D>> {
        let (kind, gate) = (D::kind(&x.buffer), self.wide(gate)?);
        let y = ops::by_image(&self.device, kind, Some([&x.buffer, &gate]), None, images(&x.shape)?)?;
        Ok(Self::tensor(&x.shape, y))
    }

    fn scale_channels_backward_gate(&self, x: &CudaTensor<D>, dy: &CudaTensor<D>) -> Result<CudaTensor<D>> {
        let [n, pixels, c] = images(&x.shape)?;
        let dy = self.like(dy, &x.buffer)?;
        let sums = ops::image_sums(&self.device, &x.buffer, Some(&dy), [n, pixels, c], 1.0)?;
        Ok(Self::tensor(&[n, 1, 1, c], sums))
    }

    fn scale_channels_backward_input(
        &self,
        dy: &CudaTensor<D>,
        gate: &CudaTensor<D>,
        dmean: &CudaTensor<D>,
    ) -> Result<CudaTensor<D>> {
        let (shape, kind) = (images(&dy.shape)?, D::kind(&dy.buffer));
        let (gate, dmean) = (self.wide(gate)?, self.wide(dmean)?);
        let added = Some((&*dmean, 1.0 / shape[1] as f32));
        let dx = ops::by_image(&self.device, kind, Some([&dy.buffer, &gate]), added, shape)?;
        Ok(Self::tensor(&dy.shape, dx))
    }

    /// Of weights, what products take.
    fn constant(&self, tensor: &CudaTensor<D>) -> CudaTensor<D> {
        let is_weight = matches!(tensor.shape.len(), 2 | 4) && self.kind() != Kind::Float32;
        // Where there is no memory for it now, an operation will say so.
        let operand = is_weight.then(|| self.narrow(tensor).ok()).flatten();
        CudaTensor { operand, ..tensor.clone() }
    }

    fn images(&self, x: &CudaTensor<D>, [first, end]: [usize; 2]) -> Result<CudaTensor<D>> {
        let mut shape = x.shape.clone();
        shape[0] = end - first;
        let (all, image) = (x.len(), shape[1..].iter().product::<usize>());
        let columns = (end - first) * image;
        let y = self.device.take_as(D::kind(&x.buffer), columns)?;
        let from = (&*x.buffer, Columns { of: all, first: first * image });
        ops::copy_columns(&self.device, [from, (&y, Columns { of: columns, first: 0 })], columns, 1)?;
        Ok(Self::tensor(&shape, y))
    }

    fn stack(&self, parts: &[CudaTensor<D>]) -> Result<CudaTensor<D>> {
        let mut shape = parts.first().map_or_else(Vec::new, |part| part.shape.clone());
        if let Some(images) = shape.first_mut() {
            *images = parts.iter().map(|part| part.shape[0]).sum();
        }
        let lengths: Vec<usize> = parts.iter().map(CudaTensor::len).collect();
        Ok(Self::tensor(&shape, self.side_by_side(parts, &lengths, 1)?))
    }

    fn join(&self, parts: &[CudaTensor<D>]) -> Result<CudaTensor<D>> {
        let channels: Vec<usize> = parts.iter().map(CudaTensor::channels).collect();
        let Some(first) = parts.first() else {
            return Err(Error::new(Code::Internal, "there is nothing to join"));
        };
        let y = self.side_by_side(parts, &channels, first.rows())?;
        Ok(Self::tensor(&first.with_channels(channels.iter().sum()), y))
    }

    fn join_backward(&self, channels: &[usize], dy: &CudaTensor<D>) -> Result<Vec<CudaTensor<D>>> {
        let (of, rows, mut first) = (dy.channels(), dy.rows(), 0);
        let part = |&c: &usize| {
            let part = self.device.take_as(D::kind(&dy.buffer), rows * c)?;
            let from = (&*dy.buffer, Columns { of, first });
            ops::copy_columns(&self.device, [from, (&part, Columns { of: c, first: 0 })], c, rows)?;
            first += c;
            Ok(Self::tensor(&dy.with_channels(c), part))
        };
        channels.iter().map(part).collect()
    }

    fn layer_norm(
        &self,
        x: &CudaTensor<D>,
        weight: &CudaTensor<D>,
        bias: &CudaTensor<D>,
        epsilon: f64,
    ) -> Result<LayerNormalized<CudaTensor<D>>> {
        let [y, mean, rstd] = ops::layer_norm(&self.device, &x.buffer, &weight.buffer, &bias.buffer, epsilon)?;
        let rows = [x.rows()];
        let [mean, rstd] = [mean, rstd].map(|buffer| Self::tensor(&rows, buffer));
        Ok(LayerNormalized { y: Self::tensor(&x.shape, y), mean, rstd })
    }

    fn layer_norm_backward(
        &self,
        x: &CudaTensor<D>,
        weight: &CudaTensor<D>,
        statistics: [&CudaTensor<D>; 2],
        dy: &CudaTensor<D>,
        added: Option<&CudaTensor<D>>,
    ) -> Result<NormGradients<CudaTensor<D>>> {
        let statistics = statistics.map(|tensor| &*tensor.buffer);
        let (dy, added) = (self.like(dy, &x.buffer)?, added.map(|added| self.like(added, &x.buffer)).transpose()?);
        let added = added.as_deref();
        let found = ops::layer_norm_backward(&self.device, &x.buffer, &weight.buffer, statistics, &dy, added)?;
        let c = [x.channels()];
        let [dweight, dbias] = [found.dweight, found.dbias].map(|buffer| Self::tensor(&c, buffer));
        Ok(NormGradients { dx: Self::tensor(&x.shape, found.dx), dweight, dbias, dresidual: None })
    }

    fn attention(&self, x: &CudaTensor<D>, heads: usize) -> Result<CudaTensor<D>> {
        let [n, t, _, c] = four(&x.shape)?;
        let y = ops::attention(&self.device, &*self.narrow(x)?, [n, t, heads, c / 3 / heads])?;
        Ok(Self::tensor(&[n, t, 1, c / 3], y))
    }

    fn attention_backward(&self, x: &CudaTensor<D>, heads: usize, dy: &CudaTensor<D>) -> Result<CudaTensor<D>> {
        let [n, t, _, c] = four(&x.shape)?;
        let (own, dy) = (self.narrow(x)?, self.narrow(dy)?);
        let dx = ops::attention_backward(&self.device, &own, [n, t, heads, c / 3 / heads], &dy)?;
        Ok(Self::tensor(&x.shape, dx))
    }

    fn add_tokens(&self, x: &CudaTensor<D>, class: &CudaTensor<D>, position: &CudaTensor<D>) -> Result<CudaTensor<D>> {
        let [n, pixels, c] = images(&x.shape)?;
        let y = ops::add_tokens(&self.device, &*self.narrow(x)?, &class.buffer, &position.buffer, n)?;
        Ok(Self::tensor(&[n, 1 + pixels, 1, c], y))
    }

    fn add_tokens_backward(&self, input: &[usize], dy: &CudaTensor<D>) -> Result<[CudaTensor<D>; 3]> {
        let [n, pixels, c] = images(input)?;
        let (t, all) = (1 + pixels, (1 + pixels) * c);
        let dposition = ops::column_sums(&self.device, &dy.buffer, None, all)?;
        let dposition = Self::tensor(&[1, t, c], dposition);
        let dclass = self.first_columns(&dposition, all, c, 1)?;
        let dx = self.device.take_as(D::kind(&dy.buffer), n * pixels * c)?;
        let (from, to) = (Columns { of: all, first: c }, Columns { of: pixels * c, first: 0 });
        ops::copy_columns(&self.device, [(&dy.buffer, from), (&dx, to)], pixels * c, n)?;
        Ok([Self::tensor(input, dx), Self::tensor(&[1, 1, c], dclass), dposition])
    }

    fn class_token(&self, x: &CudaTensor<D>) -> Result<CudaTensor<D>> {
        let [n, t, c] = images(&x.shape)?;
        self.vectors(&[n, c], self.first_columns(x, t * c, c, n)?)
    }

    fn class_token_backward(&self, input: &[usize], dy: &CudaTensor<D>) -> Result<CudaTensor<D>> {
        let [n, t, c] = images(input)?;
        let (dx, dy) = (ops::fill(&self.device, self.kind(), 0.0, n * t * c)?, self.narrow(dy)?);
        let (from, to) = (Columns { of: c, first: 0 }, Columns { of: t * c, first: 0 });
        ops::copy_columns(&self.device, [(&dy, from), (&dx, to)], c, n)?;
        Ok(Self::tensor(input, dx))
    }

    fn flatten(&self, x: &CudaTensor<D>) -> Result<CudaTensor<D>> {
        let [n, pixels, c] = images(&x.shape)?;
        self.vectors(&[n, c * pixels], ops::transpose(&self.device, &x.buffer, pixels, c)?)
    }

    fn flatten_backward(&self, input: &[usize], dy: &CudaTensor<D>) -> Result<CudaTensor<D>> {
        let [_, pixels, c] = images(input)?;
        Ok(Self::tensor(input, ops::transpose(&self.device, &*self.narrow(dy)?, c, pixels)?))
    }

    fn linear(&self, x: &CudaTensor<D>, weight: &CudaTensor<D>, bias: &CudaTensor<D>) -> Result<CudaTensor<D>> {
        self.linear_finished(x, weight, bias, None, None)
    }

    fn linear_finished(
        &self,
        x: &CudaTensor<D>,
        weight: &CudaTensor<D>,
        bias: &CudaTensor<D>,
        residual: Option<&CudaTensor<D>>,
        activation: Option<Activation>,
    ) -> Result<CudaTensor<D>> {
        let ([outputs, inputs], kind) = ([weight.shape[0], weight.shape[1]], D::kind(&x.buffer));
        let (own, weight) = (self.narrow(x)?, self.operand(weight)?);
        let y = self.multiply([x.rows(), outputs, inputs], (&own, false), (&weight, true), kind)?;
        self.finished(Self::tensor(&x.with_channels(outputs), y), Some(bias), residual, activation)
    }

    fn linear_backward_input(&self, weight: &CudaTensor<D>, dy: &CudaTensor<D>) -> Result<CudaTensor<D>> {
        let [outputs, inputs] = [weight.shape[0], weight.shape[1]];
        let (own, weight, kind) = (self.narrow(dy)?, self.operand(weight)?, D::kind(&dy.buffer));
        let dx = self.multiply([dy.rows(), inputs, outputs], (&own, false), (&weight, false), kind)?;
        Ok(Self::tensor(&dy.with_channels(inputs), dx))
    }

    fn linear_backward_weight(&self, x: &CudaTensor<D>, dy: &CudaTensor<D>) -> Result<(CudaTensor<D>, CudaTensor<D>)> {
        let [outputs, inputs] = [dy.channels(), x.channels()];
        let (own, slopes) = (self.narrow(x)?, self.narrow(dy)?);
        let sizes = [outputs, inputs, x.rows()];
        let dweight = self.multiply(sizes, (&slopes, true), (&own, false), Kind::Float32)?;
        Ok((Self::tensor(&[outputs, inputs], dweight), self.column_sums(dy)?))
    }

    fn l2_normalize(&self, x: &CudaTensor<D>) -> Result<(CudaTensor<D>, CudaTensor<D>)> {
        let [y, norm] = ops::l2_normalize(&self.device, &*self.wide(x)?, x.channels())?;
        Ok((Self::tensor(&x.shape, y), Self::tensor(&[x.rows()], norm)))
    }

    fn l2_normalize_backward(
        &self,
        y: &CudaTensor<D>,
        norm: &CudaTensor<D>,
        dy: &CudaTensor<D>,
    ) -> Result<CudaTensor<D>> {
        let dx = ops::l2_normalize_backward(&self.device, &y.buffer, &norm.buffer, &*self.wide(dy)?)?;
        Ok(Self::tensor(&y.shape, dx))
    }

    fn maps(&self) -> Option<&dyn MapOperations<CudaTensor<D>>> {
        Some(self)
    }

    fn free_memory(&self) -> Result<Option<u64>> {
        Ok(self.device.free_memory()?.map(|bytes| bytes as u64))
    }

    fn relations(&self) -> Option<&dyn RelationOperations<CudaTensor<D>>> {
        Some(self)
    }

    fn blend(&self, target: &mut CudaTensor<D>, source: &CudaTensor<D>, share: f64, factor: f64) -> Result<()> {
        let (keep, take) = ((1.0 - share) as f32, (share * factor) as f32);
        Ok(ops::blend_in_place(&self.device, self.own(target)?, &source.buffer, keep, take)?)
    }

    fn increment(&self, tensor: &mut CudaTensor<D>) -> Result<()> {
        Ok(ops::shift_in_place(&self.device, self.own(tensor)?, 1.0)?)
    }

    fn norms(&self, tensors: &[&CudaTensor<D>]) -> Result<Norms<CudaTensor<D>>> {
        if tensors.is_empty() {
            return Ok(Norms::Known(Vec::new()));
        }
        let buffers = tensors.iter().map(|tensor| self.wide(tensor)).collect::<Result<Vec<_>>>()?;
        let buffers: Vec<&D::Buffer> = buffers.iter().map(|buffer| &**buffer).collect();
        Ok(Norms::Pending(Self::tensor(&[tensors.len()], ops::norms(&self.device, &buffers)?)))
    }

    fn clip(&self, tensors: &mut [&mut CudaTensor<D>], norms: &CudaTensor<D>, largest: f64) -> Result<()> {
        let buffers = tensors.iter_mut().map(|tensor| self.own(tensor)).collect::<Result<Vec<_>>>()?;
        Ok(ops::clip_in_place(&self.device, &buffers, &norms.buffer, largest)?)
    }

    fn scale(&self, tensor: &mut CudaTensor<D>, factor: f64) -> Result<()> {
        Ok(ops::scale_in_place(&self.device, self.own(tensor)?, factor as f32)?)
    }

    fn adam(
        &self,
        step: &AdamStep,
        parameter: &mut CudaTensor<D>,
        gradient: &CudaTensor<D>,
        mean: &mut CudaTensor<D>,
        square: &mut CudaTensor<D>,
    ) -> Result<()> {
        self.adam_all(vec![AdamUpdate { step: *step, parameter, gradient, state: [mean, square] }])
    }

    fn sgd(
        &self,
        step: &SgdStep,
        parameter: &mut CudaTensor<D>,
        gradient: &CudaTensor<D>,
        velocity: Option<&mut CudaTensor<D>>,
    ) -> Result<()> {
        self.sgd_all(vec![SgdUpdate { step: *step, parameter, gradient, velocity }])
    }

    fn updates_at_once(&self) -> bool {
        true
    }

    fn adam_all(&self, updates: Vec<AdamUpdate<'_, CudaTensor<D>>>) -> Result<()> {
        let update = |AdamUpdate { step, parameter, gradient, state: [mean, square] }| {
            let (parameter, mean, square) = (self.own(parameter)?, self.own(mean)?, self.own(square)?);
            let gradient: &CudaTensor<D> = gradient;
            Ok(ops::AdamUpdate { step, parameter, gradient: &gradient.buffer, mean, square })
        };
        Ok(ops::adam_in_place(&self.device, &updates.into_iter().map(update).collect::<Result<Vec<_>>>()?)?)
    }

    fn sgd_all(&self, updates: Vec<SgdUpdate<'_, CudaTensor<D>>>) -> Result<()> {
        let update = |SgdUpdate { step, parameter, gradient, velocity }| {
            let gradient: &CudaTensor<D> = gradient;
            let velocity = velocity.map(|velocity| self.own(velocity)).transpose()?;
            Ok(ops::SgdUpdate { step, parameter: self.own(parameter)?, gradient: &gradient.buffer, velocity })
        };
        Ok(ops::sgd_in_place(&self.device, &updates.into_iter().map(update).collect::<Result<Vec<_>>>()?)?)
    }
}

impl<D: Device> Cuda<D> {
    /// `activation?(y + bias + residual)`, in one pass, or `y` where there is nothing to add.
    fn finished(
        &self,
        y: CudaTensor<D>,
        bias: Option<&CudaTensor<D>>,
        residual: Option<&CudaTensor<D>>,
        activation: Option<Activation>,
    ) -> Result<CudaTensor<D>> {
        if bias.is_some() || residual.is_some() || activation.is_some() {
            let residual = residual.map(|residual| self.like(residual, &y.buffer)).transpose()?;
            let (bias, residual) = (bias.map(|bias| &*bias.buffer), residual.as_deref());
            ops::finish_in_place(&self.device, &y.buffer, bias, residual, activation, y.channels())?;
        }
        Ok(y)
    }

    fn column_sums(&self, x: &CudaTensor<D>) -> Result<CudaTensor<D>> {
        let c = x.channels();
        Ok(Self::tensor(&[c], ops::column_sums(&self.device, &x.buffer, None, c)?))
    }

    /// The first `columns` of `of` columns of every row.
    fn first_columns(&self, x: &CudaTensor<D>, of: usize, columns: usize, rows: usize) -> Result<D::Buffer> {
        let y = self.device.take_as(D::kind(&x.buffer), rows * columns)?;
        let (from, to) = (Columns { of, first: 0 }, Columns { of: columns, first: 0 });
        ops::copy_columns(&self.device, [(&x.buffer, from), (&y, to)], columns, rows)?;
        Ok(y)
    }

    /// A tensor of vectors that were taken from a map.
    fn vectors(&self, shape: &[usize], taken: D::Buffer) -> Result<CudaTensor<D>> {
        let taken = Self::tensor(shape, taken);
        let buffer = self.wide(&taken)?;
        Ok(CudaTensor { buffer, ..taken })
    }

    /// Matrices of as many rows side by side, of so many columns each, in the kind of the first.
    fn side_by_side(&self, parts: &[CudaTensor<D>], columns: &[usize], rows: usize) -> Result<D::Buffer> {
        let (of, kind) =
            (columns.iter().sum::<usize>(), parts.first().map_or(Kind::Float32, |part| D::kind(&part.buffer)));
        let y = self.device.take_as(kind, rows * of)?;
        let mut first = 0;
        for (part, &columns) in parts.iter().zip(columns) {
            let (from, to) = (Columns { of: columns, first: 0 }, Columns { of, first });
            ops::copy_columns(&self.device, [(&*self.as_kind(part, kind)?, from), (&y, to)], columns, rows)?;
            first += columns;
        }
        Ok(y)
    }
}

/// `[n, h, w, c]` as `[n, h w, c]`.
fn images(shape: &[usize]) -> Result<[usize; 3]> {
    let [n, h, w, c] = four(shape)?;
    Ok([n, h * w, c])
}
