//! The layer operations, each with its gradient, that a device must offer.
//!
//! Tensors are handles: cloning one copies no numbers. Activations are `[n, h, w, c]`, vectors `[n, d]`, convolution
//! weights `[kernel_h, kernel_w, c_in / groups, c_out]`, linear weights `[out, in]`. Callers pass shapes that fit; the
//! layers above check what a user can reach.

pub use rkd_kernels::activation::{Activation, CEILING};
pub use rkd_kernels::optimizer::{AdamStep, SgdStep};

use super::geometry::{Conv2d, Pool2d};
use super::precision::Precision;
use crate::error::{Code, Error, Result};

/// A device that runs layer operations.
#[allow(clippy::wrong_self_convention)] // `backend.from_f32(...)`: the backend is the factory, not what is converted.
pub trait Backend: Clone + Send + Sync + std::fmt::Debug + 'static {
    /// A tensor; cheap to clone.
    type Tensor: Clone + Send + Sync + std::fmt::Debug;
    /// Positions of the maxima that [`max_pool`](Backend::max_pool) found; cheap to clone.
    type Indices: Clone + Send + Sync + std::fmt::Debug;

    /// In which numbers it computes.
    fn precision(&self) -> Precision {
        Precision::Float32
    }
    /// The lengths of a tensor's axes.
    fn shape(tensor: &Self::Tensor) -> &[usize];
    /// A tensor with these values, row-major.
    fn from_f32(&self, values: &[f32], shape: &[usize]) -> Result<Self::Tensor>;
    /// A tensor of values in double precision; rounded where the device computes in float32.
    fn from_f64(&self, values: &[f64], shape: &[usize]) -> Result<Self::Tensor> {
        let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        self.from_f32(&values, shape)
    }
    /// The values, row-major.
    fn to_f32(&self, tensor: &Self::Tensor) -> Result<Vec<f32>>;
    /// The values in double precision: what the device holds where it computes in float64.
    fn to_f64(&self, tensor: &Self::Tensor) -> Result<Vec<f64>> {
        Ok(self.to_f32(tensor)?.into_iter().map(f64::from).collect())
    }
    /// The values of several tensors in double precision. A device sends them together: the host waits once.
    fn download(&self, tensors: &[&Self::Tensor]) -> Result<Vec<Vec<f64>>> {
        tensors.iter().map(|tensor| self.to_f64(tensor)).collect()
    }
    /// A tensor of zeros.
    fn zeros(&self, shape: &[usize]) -> Result<Self::Tensor>;
    /// `a + b`, of one shape.
    fn add(&self, a: Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;

    /// Convolution (cross-correlation) of `x [n, h, w, c_in]`, plus `bias [c_out]`.
    fn conv2d(
        &self,
        windows: &Conv2d,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        bias: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor>;
    /// `activation?(conv2d + residual)`, where `residual` is of the output's shape: in one pass where the device can.
    fn conv2d_finished(
        &self,
        windows: &Conv2d,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        bias: Option<&Self::Tensor>,
        residual: Option<&Self::Tensor>,
        activation: Option<Activation>,
    ) -> Result<Self::Tensor> {
        let mut y = self.conv2d(windows, x, weight, bias)?;
        if let Some(residual) = residual {
            y = self.add(y, residual)?;
        }
        match activation {
            Some(kind) => self.activate(kind, &y),
            None => Ok(y),
        }
    }
    /// The gradient of [`conv2d`](Backend::conv2d) with respect to `x`, whose shape is `input`.
    fn conv2d_backward_input(
        &self,
        windows: &Conv2d,
        input: &[usize],
        weight: &Self::Tensor,
        dy: &Self::Tensor,
    ) -> Result<Self::Tensor>;
    /// The gradient with respect to the weight, and to the bias if `bias` asks for it.
    fn conv2d_backward_weight(
        &self,
        windows: &Conv2d,
        x: &Self::Tensor,
        dy: &Self::Tensor,
        bias: bool,
    ) -> Result<(Self::Tensor, Option<Self::Tensor>)>;

    /// Mean and biased variance of each channel of `x [n, h, w, c]`, as exact as the device has them. The host waits for them.
    fn moments(&self, x: &Self::Tensor) -> Result<[Vec<f64>; 2]> {
        let zeros = self.zeros(&Self::shape(x)[Self::shape(x).len() - 1..])?;
        let operation = BatchNorm {
            x,
            weight: &zeros,
            bias: &zeros,
            residual: None,
            activation: None,
            epsilon: 1.0,
            statistics: Statistics::Batch,
        };
        let Normalized { mean, variance, .. } = self.batch_norm(&operation)?;
        let mut found = self.download(&[&mean, &variance])?.into_iter();
        Ok([(); 2].map(|()| found.next().unwrap_or_default()))
    }
    /// Batch normalisation over all axes but the last; see [`BatchNorm`].
    fn batch_norm(&self, operation: &BatchNorm<'_, Self::Tensor>) -> Result<Normalized<Self::Tensor>>;
    /// The gradients of [`batch_norm`](Backend::batch_norm).
    fn batch_norm_backward(
        &self,
        saved: &SavedNorm<'_, Self::Tensor>,
        dy: &Self::Tensor,
    ) -> Result<NormGradients<Self::Tensor>>;

    /// A batch normalisation by the batch's statistics without residual, its plain ReLU and a max pool: in one pass where the
    /// device can.
    fn batch_norm_max_pool(
        &self,
        operation: &BatchNorm<'_, Self::Tensor>,
        windows: &Pool2d,
    ) -> Result<PooledNorm<Self::Tensor, Self::Indices>> {
        let mut normalized = self.batch_norm(operation)?;
        let indices;
        (normalized.y, indices) = self.max_pool(windows, &normalized.y)?;
        Ok(PooledNorm { normalized, won: Won { inputs: None, indices } })
    }
    /// The gradients of [`batch_norm_max_pool`](Backend::batch_norm_max_pool), which gave `won`. `saved.activation`
    /// is the shift.
    fn batch_norm_max_pool_backward(
        &self,
        saved: &SavedNorm<'_, Self::Tensor>,
        windows: &Pool2d,
        won: &Won<Self::Tensor, Self::Indices>,
        dy: &Self::Tensor,
    ) -> Result<NormGradients<Self::Tensor>> {
        let dy = self.max_pool_backward(windows, Self::shape(saved.x), &won.indices, dy)?;
        self.batch_norm_backward(saved, &dy)
    }

    /// A batch normalisation without residual and the depthwise convolution without bias behind it, in one pass where the
    /// device can: `y` is the convolution's.
    fn batch_norm_depthwise(
        &self,
        operation: &BatchNorm<'_, Self::Tensor>,
        windows: &Conv2d,
        weight: &Self::Tensor,
    ) -> Result<Normalized<Self::Tensor>> {
        let normalized = self.batch_norm(operation)?;
        let y = self.conv2d(windows, &normalized.y, weight, None)?;
        Ok(Normalized { y, ..normalized })
    }
    /// The gradients of [`batch_norm_depthwise`](Backend::batch_norm_depthwise), the last that of the convolution's weight.
    /// The statistics of `operation` are given ones: those that the pass found or was given; `batch` says which.
    fn batch_norm_depthwise_backward(
        &self,
        operation: &BatchNorm<'_, Self::Tensor>,
        rstd: &Self::Tensor,
        batch: bool,
        windows: &Conv2d,
        weight: &Self::Tensor,
        dy: &Self::Tensor,
    ) -> Result<(NormGradients<Self::Tensor>, Self::Tensor)> {
        let Normalized { y: between, mean, .. } = self.batch_norm(operation)?;
        let (dweight, _) = self.conv2d_backward_weight(windows, &between, dy, false)?;
        let dbetween = self.conv2d_backward_input(windows, Self::shape(operation.x), weight, dy)?;
        let &BatchNorm { x, weight, bias, .. } = operation;
        let activation = operation.activation.map_or(Passed::All, |activation| Passed::Shift(activation, bias));
        let saved = SavedNorm { x, activation, weight, mean: &mean, rstd, residual: false, batch };
        Ok((self.batch_norm_backward(&saved, &dbetween)?, dweight))
    }

    /// The activation of every value; NaN stays NaN.
    fn activate(&self, kind: Activation, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// The gradient of [`activate`](Backend::activate) from its input `x`, or of a ReLU from its output; at the kinks that of
    /// [`Activation`].
    fn activate_backward(&self, kind: Activation, x: &Self::Tensor, dy: &Self::Tensor) -> Result<Self::Tensor>;
    /// The maximum of every window, with the position of the first maximum.
    fn max_pool(&self, windows: &Pool2d, x: &Self::Tensor) -> Result<(Self::Tensor, Self::Indices)>;
    /// The gradient of [`max_pool`](Backend::max_pool): all of it goes to the first maximum.
    fn max_pool_backward(
        &self,
        windows: &Pool2d,
        input: &[usize],
        indices: &Self::Indices,
        dy: &Self::Tensor,
    ) -> Result<Self::Tensor>;
    /// The mean over pixels: `[n, h, w, c]` to `[n, c]`.
    fn global_average(&self, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// The gradient of [`global_average`](Backend::global_average).
    fn global_average_backward(&self, input: &[usize], dy: &Self::Tensor) -> Result<Self::Tensor>;
    /// The same values in the same order with other axes.
    fn reshape(&self, x: &Self::Tensor, shape: &[usize]) -> Result<Self::Tensor>;
    /// `x [n, h, w, c]` times `gate [n, 1, 1, c]`, the same for every pixel.
    fn scale_channels(&self, x: &Self::Tensor, gate: &Self::Tensor) -> Result<Self::Tensor>;
    /// The gradient of [`scale_channels`](Backend::scale_channels) with respect to the gate.
    fn scale_channels_backward_gate(&self, x: &Self::Tensor, dy: &Self::Tensor) -> Result<Self::Tensor>;
    /// The gradient with respect to `x`, where the gate comes of the mean of `x` over pixels, whose gradient is `dmean
    /// [n, 1, 1, c]`: `dy gate + dmean / (h w)`.
    fn scale_channels_backward_input(
        &self,
        dy: &Self::Tensor,
        gate: &Self::Tensor,
        dmean: &Self::Tensor,
    ) -> Result<Self::Tensor>;
    /// The same values, of which the device may keep what it prepares of them for many passes: they stay as they are.
    fn constant(&self, tensor: &Self::Tensor) -> Self::Tensor {
        tensor.clone()
    }
    /// Values of maps that stay in the device's cache, where it pays to evaluate few images at a time for that
    /// ([`Blocks`](super::blocks::Blocks)).
    fn cached_values(&self) -> Option<usize> {
        None
    }
    /// The images `[first, end)` of a batch.
    fn images(&self, x: &Self::Tensor, range: [usize; 2]) -> Result<Self::Tensor>;
    /// Batches one after the other in one: the inverse of [`images`](Backend::images).
    fn stack(&self, parts: &[Self::Tensor]) -> Result<Self::Tensor>;
    /// Maps of one height and width, `[n, h, w, c]` each, side by side along the channels.
    fn join(&self, parts: &[Self::Tensor]) -> Result<Self::Tensor>;
    /// The gradients of the parts of [`join`](Backend::join), which had so many `channels`.
    fn join_backward(&self, channels: &[usize], dy: &Self::Tensor) -> Result<Vec<Self::Tensor>>;
    /// Layer normalisation along the last axis: `(x - mean) / sqrt(variance + epsilon) * weight + bias`, where mean and
    /// (biased) variance are those of each row; `weight` and `bias` are `[c]`.
    fn layer_norm(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        bias: &Self::Tensor,
        epsilon: f64,
    ) -> Result<LayerNormalized<Self::Tensor>>;
    /// The gradients of [`layer_norm`](Backend::layer_norm), which gave `[mean, rstd]`; that of `x` plus `added`, what comes
    /// around the layer.
    fn layer_norm_backward(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        statistics: [&Self::Tensor; 2],
        dy: &Self::Tensor,
        added: Option<&Self::Tensor>,
    ) -> Result<NormGradients<Self::Tensor>>;
    /// Self-attention: `x [n, t, 1, 3 c]` has Q, K and V, each of `heads` times `c / heads` channels; of every image and head
    /// `softmax(Q K^T / sqrt(c / heads)) V`, `[n, t, 1, c]`.
    fn attention(&self, x: &Self::Tensor, heads: usize) -> Result<Self::Tensor>;
    /// The gradient of [`attention`](Backend::attention).
    fn attention_backward(&self, x: &Self::Tensor, heads: usize, dy: &Self::Tensor) -> Result<Self::Tensor>;
    /// `x [n, h, w, c]` as tokens `[n, 1 + h w, 1, c]`: row by row behind `class [1, 1, c]`, plus `position [1, 1 + h w, c]`.
    fn add_tokens(&self, x: &Self::Tensor, class: &Self::Tensor, position: &Self::Tensor) -> Result<Self::Tensor>;
    /// The gradients of [`add_tokens`](Backend::add_tokens) with respect to `x`, whose shape is `input`, to `class` and to
    /// `position`.
    fn add_tokens_backward(&self, input: &[usize], dy: &Self::Tensor) -> Result<[Self::Tensor; 3]>;
    /// The first token of `[n, t, 1, c]`: `[n, c]`.
    fn class_token(&self, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// The gradient of [`class_token`](Backend::class_token).
    fn class_token_backward(&self, input: &[usize], dy: &Self::Tensor) -> Result<Self::Tensor>;
    /// `[n, h, w, c]` to `[n, c * h * w]` in PyTorch's order: channel, row, column.
    fn flatten(&self, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// The gradient of [`flatten`](Backend::flatten).
    fn flatten_backward(&self, input: &[usize], dy: &Self::Tensor) -> Result<Self::Tensor>;
    /// `x [..., in] weight [out, in]^T + bias [out]`: every row of x, whatever its axes.
    fn linear(&self, x: &Self::Tensor, weight: &Self::Tensor, bias: &Self::Tensor) -> Result<Self::Tensor>;
    /// `activation?(linear + residual)`, where `residual` is of the output's shape: in one pass where the device can.
    fn linear_finished(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        bias: &Self::Tensor,
        residual: Option<&Self::Tensor>,
        activation: Option<Activation>,
    ) -> Result<Self::Tensor> {
        let mut y = self.linear(x, weight, bias)?;
        if let Some(residual) = residual {
            y = self.add(y, residual)?;
        }
        match activation {
            Some(kind) => self.activate(kind, &y),
            None => Ok(y),
        }
    }
    /// The gradient of [`linear`](Backend::linear) with respect to `x`.
    fn linear_backward_input(&self, weight: &Self::Tensor, dy: &Self::Tensor) -> Result<Self::Tensor>;
    /// The gradients with respect to weight and bias.
    fn linear_backward_weight(&self, x: &Self::Tensor, dy: &Self::Tensor) -> Result<(Self::Tensor, Self::Tensor)>;
    /// Every row of `[n, d]` divided by `max(norm, 1e-12)` (PyTorch's `normalize`), and the norms `[n]`.
    fn l2_normalize(&self, x: &Self::Tensor) -> Result<(Self::Tensor, Self::Tensor)>;
    /// The gradient of [`l2_normalize`](Backend::l2_normalize) from its output and the norms.
    fn l2_normalize_backward(&self, y: &Self::Tensor, norm: &Self::Tensor, dy: &Self::Tensor) -> Result<Self::Tensor>;

    /// The operations of the losses on maps, where features stay on the device; `None` where they are the host's anyway.
    fn maps(&self) -> Option<&dyn MapOperations<Self::Tensor>> {
        None
    }

    /// Bytes of the device's own memory that are free; `None` where it has none beside the host's.
    fn free_memory(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// The relational losses on the device; `None` where the host computes them.
    fn relations(&self) -> Option<&dyn RelationOperations<Self::Tensor>> {
        None
    }

    /// `target = (1 - share) target + share * factor * source`: running statistics.
    fn blend(&self, target: &mut Self::Tensor, source: &Self::Tensor, share: f64, factor: f64) -> Result<()>;
    /// `tensor += 1`: a counter.
    fn increment(&self, tensor: &mut Self::Tensor) -> Result<()>;
    /// The norm of each tensor: not finite exactly if an entry is not (or, on a device, if float32 cannot hold it).
    fn norms(&self, tensors: &[&Self::Tensor]) -> Result<Norms<Self::Tensor>>;
    /// `tensor *= min(1, largest / (norm + 1e-6))` for each, where `norm` is that of all [`Norms::Pending`] together: as
    /// PyTorch's `clip_grad_norm_`, without a number that comes to the host. Only devices with pending norms have it.
    fn clip(&self, _tensors: &mut [&mut Self::Tensor], _norms: &Self::Tensor, _largest: f64) -> Result<()> {
        Err(Error::new(Code::Internal, "the norms on this device are known to the host"))
    }
    /// `tensor *= factor`.
    fn scale(&self, tensor: &mut Self::Tensor, factor: f64) -> Result<()>;
    /// One step of Adam or AdamW on one parameter; `mean` and `square` are its state, zeros at first.
    fn adam(
        &self,
        step: &AdamStep,
        parameter: &mut Self::Tensor,
        gradient: &Self::Tensor,
        mean: &mut Self::Tensor,
        square: &mut Self::Tensor,
    ) -> Result<()>;
    /// One step of stochastic gradient descent; `velocity`, zeros at first, is only read with a momentum.
    fn sgd(
        &self,
        step: &SgdStep,
        parameter: &mut Self::Tensor,
        gradient: &Self::Tensor,
        velocity: Option<&mut Self::Tensor>,
    ) -> Result<()>;
    /// Whether [`adam_all`](Backend::adam_all) and [`sgd_all`](Backend::sgd_all) do their work at once, and not one parameter after
    /// the other.
    fn updates_at_once(&self) -> bool {
        false
    }
    /// [`adam`](Backend::adam) on each of some parameters. What their steps have in common is all but rate and count.
    fn adam_all(&self, updates: Vec<AdamUpdate<'_, Self::Tensor>>) -> Result<()> {
        let adam = |AdamUpdate { step, parameter, gradient, state: [mean, square] }: AdamUpdate<'_, _>| {
            self.adam(&step, parameter, gradient, mean, square)
        };
        updates.into_iter().try_for_each(adam)
    }
    /// [`sgd`](Backend::sgd) on each of some parameters. What their steps have in common is all but the rate.
    fn sgd_all(&self, updates: Vec<SgdUpdate<'_, Self::Tensor>>) -> Result<()> {
        let sgd = |SgdUpdate { step, parameter, gradient, velocity }: SgdUpdate<'_, _>| {
            self.sgd(&step, parameter, gradient, velocity)
        };
        updates.into_iter().try_for_each(sgd)
    }
}

/// A parameter that Adam changes.
#[derive(Debug)]
pub struct AdamUpdate<'a, T> {
    /// Its step.
    pub step: AdamStep,
    /// What is changed.
    pub parameter: &'a mut T,
    /// Its gradient.
    pub gradient: &'a T,
    /// The means of the gradient and of its square.
    pub state: [&'a mut T; 2],
}

/// A parameter that stochastic gradient descent changes.
#[derive(Debug)]
pub struct SgdUpdate<'a, T> {
    /// Its step.
    pub step: SgdStep,
    /// What is changed.
    pub parameter: &'a mut T,
    /// Its gradient.
    pub gradient: &'a T,
    /// Only read with a momentum.
    pub velocity: Option<&'a mut T>,
}

/// The norms of some tensors.
#[derive(Clone, Debug)]
pub enum Norms<T> {
    /// The sum of squares of each, in float64 and in a fixed order.
    Known(Vec<f64>),
    /// The norms of `k` tensors, `[k]`, on a device that may not have them yet: to be downloaded when it waits anyway.
    Pending(T),
}

/// What the losses on maps need of a device, so that a large map need not come to the host. Maps are `[n, h, w, c]`; a
/// vector `[n, d]` is a map of one pixel.
pub trait MapOperations<T> {
    /// The map averaged to a size that is not larger, as PyTorch's `adaptive_avg_pool2d` does.
    fn average(&self, x: &T, size: [usize; 2]) -> Result<T>;
    /// The gradient of [`average`](MapOperations::average) from maps of the size `from`, of the shape `[n, h, w, c]`.
    fn average_backward(&self, from: [usize; 2], dy: &T) -> Result<T>;
    /// Every pixel through `weight [b, a]`, a convolution of 1x1: channels a to b.
    fn project(&self, x: &T, weight: &T) -> Result<T>;
    /// The gradients of [`project`](MapOperations::project) with respect to `x` and `weight`.
    fn project_backward(&self, x: &T, weight: &T, dy: &T) -> Result<(T, T)>;
    /// The mean square of each pixel's channels, every image divided by `max(norm, 1e-12)` (attention transfer's map):
    /// `[n, h w]`, and the norms `[n]`.
    fn attention(&self, x: &T) -> Result<(T, T)>;
    /// The gradient of [`attention`](MapOperations::attention) from its results.
    fn attention_backward(&self, x: &T, attention: &T, norm: &T, dy: &T) -> Result<T>;
    /// `sum (a - b)^2 / count`, a single number, and its gradient `2 (a - b) / count` with respect to `a`.
    fn squared_error(&self, a: &T, b: &T, count: f64) -> Result<(T, T)>;
    /// The sum of squares, a single number.
    fn squares(&self, x: &T) -> Result<T>;
}

/// The relational losses where the embeddings are, computed in float64: a student's `[n, d]` and a teacher's `[n, e]`. Each gives
/// the value, a single number, and its gradient with respect to the student's. The maths is that of `losses::RkdDistance` and
/// `losses::RkdAngle`; `delta` is Huber's threshold, and sums are divided by `divisor`.
pub trait RelationOperations<T> {
    /// The distance loss.
    fn rkd_distance(&self, student: &T, teacher: &T, delta: f64, divisor: f64) -> Result<(T, T)>;
    /// The angle loss; `same_leg` says that the sum is over b = c too.
    fn rkd_angle(&self, student: &T, teacher: &T, delta: f64, divisor: f64, same_leg: bool) -> Result<(T, T)>;
}

/// Which statistics a batch normalisation subtracts and divides by.
#[derive(Debug)]
pub enum Statistics<'a, T> {
    /// Those of the batch: training.
    Batch,
    /// Given ones: evaluation.
    Fixed {
        /// `[c]`.
        mean: &'a T,
        /// Biased or not, as it was stored. `[c]`.
        variance: &'a T,
    },
}

/// `y = activation?((x - mean) / sqrt(variance + epsilon) * weight + bias + residual)`, in one pass where the device can.
#[derive(Debug)]
pub struct BatchNorm<'a, T> {
    /// `[n, h, w, c]`.
    pub x: &'a T,
    /// Scale `[c]`.
    pub weight: &'a T,
    /// Shift `[c]`.
    pub bias: &'a T,
    /// Added before the activation; of `x`'s shape.
    pub residual: Option<&'a T>,
    /// The activation that follows.
    pub activation: Option<Activation>,
    /// Added to the variance.
    pub epsilon: f64,
    /// Of the batch or given.
    pub statistics: Statistics<'a, T>,
}

/// What a batch normalisation gives.
#[derive(Debug)]
pub struct Normalized<T> {
    /// The output.
    pub y: T,
    /// The mean that was subtracted, `[c]`.
    pub mean: T,
    /// `1 / sqrt(variance + epsilon)`, `[c]`.
    pub rstd: T,
    /// The variance (biased, if of the batch), `[c]`.
    pub variance: T,
}

/// What a layer normalisation gives.
#[derive(Debug)]
pub struct LayerNormalized<T> {
    /// The output.
    pub y: T,
    /// The mean of each row.
    pub mean: T,
    /// `1 / sqrt(variance + epsilon)` of each row.
    pub rstd: T,
}

/// What a batch normalisation with max pool gives: the pooled output and the statistics, and what won the windows.
#[derive(Debug)]
pub struct PooledNorm<T, I> {
    /// As of the normalisation; `y` is pooled.
    pub normalized: Normalized<T>,
    /// For the gradient.
    pub won: Won<T, I>,
}

/// What won the windows of a max pool behind a batch normalisation.
#[derive(Clone, Debug)]
pub struct Won<T, I> {
    /// The normalisation's inputs that won, of the pooled shape, where the device reads them on the way back.
    pub inputs: Option<T>,
    /// Where they stand.
    pub indices: I,
}

/// What an activation behind a batch normalisation lets pass of a gradient.
#[derive(Clone, Copy, Debug)]
pub enum Passed<'a, T> {
    /// Everything: there was none.
    All,
    /// What this output says: of a ReLU.
    Output(Activation, &'a T),
    /// What the input says, given this shift `[c]`: without a residual. The output need neither be kept nor read.
    Shift(Activation, &'a T),
}

/// What the gradient of a batch normalisation needs.
#[derive(Debug)]
pub struct SavedNorm<'a, T> {
    /// The input.
    pub x: &'a T,
    /// What the activation behind it lets pass.
    pub activation: Passed<'a, T>,
    /// Scale `[c]`.
    pub weight: &'a T,
    /// `[c]`.
    pub mean: &'a T,
    /// `[c]`.
    pub rstd: &'a T,
    /// Whether a residual was added, so that its gradient is wanted.
    pub residual: bool,
    /// Whether the statistics were those of the batch, so that the gradient goes through them.
    pub batch: bool,
}

/// The gradients of a batch or layer normalisation.
#[derive(Debug)]
pub struct NormGradients<T> {
    /// Of the input.
    pub dx: T,
    /// Of the scale, `[c]`.
    pub dweight: T,
    /// Of the shift, `[c]`.
    pub dbias: T,
    /// Of the residual, where there was one.
    pub dresidual: Option<T>,
}
