//! Where the time of a step goes: a backend that measures another.
//!
//! [`Profiled`] hands every operation on to the backend it wraps. While its [`Profile`] is recording it also notes how long
//! the operation took, what it multiplied and which tensors it read and wrote. Networks and optimisers know nothing of it,
//! but that they say [`at`](Backend::at) which parameter they come to; while nothing is recorded an operation pays one
//! atomic load.
//!
//! Counts are those of the definition, not of the algorithm: a convolution of p output pixels with a weight of k values is
//! 2 p k operations in each of its three passes, even where Winograd's algorithm multiplies less; a tensor counts its
//! bytes once, even where the kernel goes over it twice. Only convolutions and linear layers count operations: all else
//! is bound by memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

use super::backend::{
    AdamStep, Backend, BatchNorm, NormGradients, Normalized, Passed, PooledNorm, SavedNorm, SgdStep, Won,
};
use super::geometry::{Conv2d, Pool2d};
use crate::error::Result;

/// What an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "ProfilePart"))]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Convolutions and linear layers, forward.
    Forward,
    /// Their gradients with respect to the input.
    InputGradient,
    /// Their gradients with respect to weight and bias.
    WeightGradient,
    /// Batch normalisation, with the ReLU, the residual and the max pool in it, its gradient and its running statistics.
    Normalization,
    /// Max pool on its own, mean over pixels, flattening, and their gradients.
    Pooling,
    /// ReLU on its own, L2 normalisation, sums of two gradients, branches joined along channels, zeros.
    Elementwise,
    /// The losses with their gradients.
    Loss,
    /// The gradient norm and the update.
    Optimizer,
    /// Values into the backend and out of it.
    Data,
}

impl Part {
    /// Whether its operations belong to a parameter, so that the layer has a name.
    fn is_named(self) -> bool {
        use Part::{Forward, InputGradient, Normalization, Optimizer, WeightGradient};
        matches!(self, Forward | InputGradient | WeightGradient | Normalization | Optimizer)
    }
}

/// What was noted of one operation of one layer. Calls that agree in all names and the shape are added up.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "ProfileRecord"))]
pub struct Record {
    /// The layer as its parameters name it, `layer2.0.conv1`; empty for an operation without parameters.
    pub layer: String,
    /// The method of [`Backend`], or what [`Profile::record`] was told.
    pub operation: &'static str,
    /// What it is for.
    pub part: Part,
    /// Shape of the operation's first tensor.
    pub shape: Vec<usize>,
    /// Number of calls.
    pub calls: usize,
    /// Time in milliseconds.
    pub ms: f64,
    /// Operations by definition; 0 where they are not counted.
    pub flops: f64,
    /// Bytes of the tensors read and written, each once, at four a value.
    pub bytes: f64,
}

/// Collects records while it is on. Off at first.
#[derive(Debug, Default)]
pub struct Profile {
    recording: AtomicBool,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    /// The layer that [`Backend::at`] named last.
    layer: String,
    records: Vec<Record>,
}

impl Profile {
    /// Switches recording on or off.
    pub fn set_recording(&self, on: bool) {
        self.recording.store(on, Ordering::Relaxed);
    }

    /// What was recorded since the last call, in order of first calls.
    pub fn take(&self) -> Vec<Record> {
        std::mem::take(&mut self.notes().records)
    }

    /// Does `work` and, while recording, notes its time under `part` and `operation`.
    pub fn record<T>(&self, part: Part, operation: &'static str, work: impl FnOnce() -> T) -> T {
        self.measure(part, operation, work, |_| Cost::default())
    }

    fn measure<T>(
        &self,
        part: Part,
        operation: &'static str,
        work: impl FnOnce() -> T,
        cost: impl FnOnce(&T) -> Cost,
    ) -> T {
        if !self.is_recording() {
            return work();
        }
        let start = Instant::now();
        let result = work();
        let ms = start.elapsed().as_secs_f64() * 1e3;
        self.notes().add(part, operation, ms, cost(&result));
        result
    }

    fn is_recording(&self) -> bool {
        self.recording.load(Ordering::Relaxed)
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    fn add(&mut self, part: Part, operation: &'static str, ms: f64, Cost { shape, values, flops }: Cost) {
        let layer = if part.is_named() { self.layer.clone() } else { String::new() };
        let bytes = 4.0 * values as f64;
        let same = |r: &&mut Record| r.operation == operation && r.layer == layer && r.shape == shape;
        match self.records.iter_mut().find(same) {
            Some(record) => {
                record.calls += 1;
                record.ms += ms;
                record.flops += flops;
                record.bytes += bytes;
            }
            None => self.records.push(Record { layer, operation, part, shape, calls: 1, ms, flops, bytes }),
        }
    }
}

/// What an operation touched.
#[derive(Debug, Default)]
struct Cost {
    /// Shape of the first tensor.
    shape: Vec<usize>,
    /// Values read and written.
    values: usize,
    /// Operations by definition.
    flops: f64,
}

/// A backend whose operations a [`Profile`] may record. Clones share the profile.
#[derive(Clone, Debug)]
pub struct Profiled<B: Backend> {
    inner: B,
    profile: Arc<Profile>,
}

impl<B: Backend> Profiled<B> {
    /// `inner`, with a profile that does not yet record.
    pub fn new(inner: B) -> Self {
        Profiled { inner, profile: Arc::default() }
    }

    /// The backend that does the work.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    /// The profile.
    pub fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    /// Runs an operation that reads `read`; `cost` gives the number of values written and the operations.
    fn run<T>(
        &self,
        part: Part,
        operation: &'static str,
        read: &[&B::Tensor],
        work: impl FnOnce() -> Result<T>,
        cost: impl FnOnce(&T) -> (usize, f64),
    ) -> Result<T> {
        self.profile.measure(part, operation, work, |result| {
            let (written, flops) = result.as_ref().map_or((0, 0.0), cost);
            let values = read.iter().map(|tensor| count::<B>(tensor)).sum::<usize>() + written;
            Cost { shape: read.first().map_or(Vec::new(), |tensor| B::shape(tensor).to_vec()), values, flops }
        })
    }

    /// Runs an operation that multiplies nothing worth counting and writes one tensor.
    fn moving(
        &self,
        part: Part,
        operation: &'static str,
        read: &[&B::Tensor],
        work: impl FnOnce() -> Result<B::Tensor>,
    ) -> Result<B::Tensor> {
        self.run(part, operation, read, work, |y| (count::<B>(y), 0.0))
    }
}

/// Number of values.
fn count<B: Backend>(tensor: &B::Tensor) -> usize {
    product(B::shape(tensor))
}

fn product(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// Every row of `y` (an output pixel, or an image in a linear layer) costs a multiplication and an addition for each
/// value of the weight.
fn flops<B: Backend>(y: &B::Tensor, weight: &B::Tensor) -> f64 {
    let shape = B::shape(y);
    2.0 * product(&shape[..shape.len() - 1]) as f64 * count::<B>(weight) as f64
}

impl<B: Backend> Backend for Profiled<B> {
    type Tensor = B::Tensor;
    type Indices = B::Indices;

    fn shape(tensor: &B::Tensor) -> &[usize] {
        B::shape(tensor)
    }

    fn at(&self, parameter: &str) {
        if self.profile.is_recording() {
            let layer = parameter.rsplit_once('.').map_or(parameter, |(layer, _)| layer);
            self.profile.notes().layer = layer.to_string();
        }
    }

    fn from_f32(&self, values: &[f32], shape: &[usize]) -> Result<B::Tensor> {
        let work = || self.inner.from_f32(values, shape);
        let cost = |_: &_| Cost { shape: shape.to_vec(), values: 2 * values.len(), flops: 0.0 };
        self.profile.measure(Part::Data, "from_f32", work, cost)
    }

    fn from_f64(&self, values: &[f64], shape: &[usize]) -> Result<B::Tensor> {
        let work = || self.inner.from_f64(values, shape);
        let cost = |_: &_| Cost { shape: shape.to_vec(), values: 3 * values.len(), flops: 0.0 };
        self.profile.measure(Part::Data, "from_f64", work, cost)
    }

    fn to_f32(&self, tensor: &B::Tensor) -> Result<Vec<f32>> {
        self.run(Part::Data, "to_f32", &[tensor], || self.inner.to_f32(tensor), |values| (values.len(), 0.0))
    }

    fn to_f64(&self, tensor: &B::Tensor) -> Result<Vec<f64>> {
        self.run(Part::Data, "to_f64", &[tensor], || self.inner.to_f64(tensor), |values| (2 * values.len(), 0.0))
    }

    fn zeros(&self, shape: &[usize]) -> Result<B::Tensor> {
        let cost = |_: &_| Cost { shape: shape.to_vec(), values: product(shape), flops: 0.0 };
        self.profile.measure(Part::Elementwise, "zeros", || self.inner.zeros(shape), cost)
    }

    fn add(&self, a: B::Tensor, b: &B::Tensor) -> Result<B::Tensor> {
        self.run(Part::Elementwise, "add", &[b], || self.inner.add(a, b), |sum| (2 * count::<B>(sum), 0.0))
    }

    fn conv2d(
        &self,
        windows: &Conv2d,
        x: &B::Tensor,
        weight: &B::Tensor,
        bias: Option<&B::Tensor>,
    ) -> Result<B::Tensor> {
        let work = || self.inner.conv2d(windows, x, weight, bias);
        self.run(Part::Forward, "conv2d", &[x, weight], work, |y| (count::<B>(y), flops::<B>(y, weight)))
    }

    fn conv2d_finished(
        &self,
        windows: &Conv2d,
        x: &B::Tensor,
        weight: &B::Tensor,
        bias: Option<&B::Tensor>,
        residual: Option<&B::Tensor>,
        relu: bool,
    ) -> Result<B::Tensor> {
        let read: Vec<_> = [x, weight].into_iter().chain(residual).collect();
        let work = || self.inner.conv2d_finished(windows, x, weight, bias, residual, relu);
        self.run(Part::Forward, "conv2d_finished", &read, work, |y| (count::<B>(y), flops::<B>(y, weight)))
    }

    fn conv2d_backward_input(
        &self,
        windows: &Conv2d,
        input: &[usize],
        weight: &B::Tensor,
        dy: &B::Tensor,
    ) -> Result<B::Tensor> {
        let work = || self.inner.conv2d_backward_input(windows, input, weight, dy);
        let cost = |dx: &_| (count::<B>(dx), flops::<B>(dy, weight));
        self.run(Part::InputGradient, "conv2d_backward_input", &[dy, weight], work, cost)
    }

    fn conv2d_backward_weight(
        &self,
        windows: &Conv2d,
        x: &B::Tensor,
        dy: &B::Tensor,
        bias: bool,
    ) -> Result<(B::Tensor, Option<B::Tensor>)> {
        let work = || self.inner.conv2d_backward_weight(windows, x, dy, bias);
        let cost = |(dweight, _): &(B::Tensor, _)| (count::<B>(dweight), flops::<B>(dy, dweight));
        self.run(Part::WeightGradient, "conv2d_backward_weight", &[x, dy], work, cost)
    }

    fn batch_norm(&self, operation: &BatchNorm<'_, B::Tensor>) -> Result<Normalized<B::Tensor>> {
        let read: Vec<_> = [operation.x].into_iter().chain(operation.residual).collect();
        let work = || self.inner.batch_norm(operation);
        self.run(Part::Normalization, "batch_norm", &read, work, |normalized| (count::<B>(&normalized.y), 0.0))
    }

    fn batch_norm_backward(
        &self,
        saved: &SavedNorm<'_, B::Tensor>,
        dy: &B::Tensor,
    ) -> Result<NormGradients<B::Tensor>> {
        let output = if let Passed::Output(y) = saved.relu { Some(y) } else { None };
        let read: Vec<_> = [saved.x, dy].into_iter().chain(output).collect();
        let work = || self.inner.batch_norm_backward(saved, dy);
        let cost = |gradients: &NormGradients<_>| {
            // Without a ReLU the residual's gradient is `dy` itself: nothing is written.
            let dresidual =
                gradients.dresidual.as_ref().filter(|_| !matches!(saved.relu, Passed::All)).map_or(0, count::<B>);
            (count::<B>(&gradients.dx) + dresidual, 0.0)
        };
        self.run(Part::Normalization, "batch_norm_backward", &read, work, cost)
    }

    fn batch_norm_max_pool(
        &self,
        operation: &BatchNorm<'_, B::Tensor>,
        windows: &Pool2d,
    ) -> Result<Option<PooledNorm<B::Tensor, B::Indices>>> {
        let work = || self.inner.batch_norm_max_pool(operation, windows);
        // Maxima, what won and where.
        let written = |pooled: &Option<PooledNorm<_, _>>| {
            (pooled.as_ref().map_or(0, |pooled| 3 * count::<B>(&pooled.normalized.y)), 0.0)
        };
        self.run(Part::Normalization, "batch_norm_max_pool", &[operation.x], work, written)
    }

    fn batch_norm_max_pool_backward(
        &self,
        saved: &SavedNorm<'_, B::Tensor>,
        windows: &Pool2d,
        won: &Won<B::Tensor, B::Indices>,
        dy: &B::Tensor,
    ) -> Result<NormGradients<B::Tensor>> {
        let work = || self.inner.batch_norm_max_pool_backward(saved, windows, won, dy);
        let cost = |gradients: &NormGradients<_>| (count::<B>(&gradients.dx) + count::<B>(dy), 0.0);
        let read = [saved.x, &won.inputs, dy];
        self.run(Part::Normalization, "batch_norm_max_pool_backward", &read, work, cost)
    }

    fn relu(&self, x: &B::Tensor) -> Result<B::Tensor> {
        self.moving(Part::Elementwise, "relu", &[x], || self.inner.relu(x))
    }

    fn relu_backward(&self, y: &B::Tensor, dy: &B::Tensor) -> Result<B::Tensor> {
        self.moving(Part::Elementwise, "relu_backward", &[y, dy], || self.inner.relu_backward(y, dy))
    }

    fn max_pool(&self, windows: &Pool2d, x: &B::Tensor) -> Result<(B::Tensor, B::Indices)> {
        // The positions take as many bytes as the maxima.
        let cost = |(y, _): &(B::Tensor, _)| (2 * count::<B>(y), 0.0);
        self.run(Part::Pooling, "max_pool", &[x], || self.inner.max_pool(windows, x), cost)
    }

    fn max_pool_backward(
        &self,
        windows: &Pool2d,
        input: &[usize],
        indices: &B::Indices,
        dy: &B::Tensor,
    ) -> Result<B::Tensor> {
        let work = || self.inner.max_pool_backward(windows, input, indices, dy);
        let cost = |dx: &_| (count::<B>(dx) + count::<B>(dy), 0.0);
        self.run(Part::Pooling, "max_pool_backward", &[dy], work, cost)
    }

    fn global_average(&self, x: &B::Tensor) -> Result<B::Tensor> {
        self.moving(Part::Pooling, "global_average", &[x], || self.inner.global_average(x))
    }

    fn global_average_backward(&self, input: &[usize], dy: &B::Tensor) -> Result<B::Tensor> {
        let work = || self.inner.global_average_backward(input, dy);
        self.moving(Part::Pooling, "global_average_backward", &[dy], work)
    }

    fn join(&self, parts: &[B::Tensor]) -> Result<B::Tensor> {
        let read: Vec<_> = parts.iter().collect();
        self.moving(Part::Elementwise, "join", &read, || self.inner.join(parts))
    }

    fn join_backward(&self, channels: &[usize], dy: &B::Tensor) -> Result<Vec<B::Tensor>> {
        let cost = |parts: &Vec<B::Tensor>| (parts.iter().map(count::<B>).sum(), 0.0);
        self.run(Part::Elementwise, "join_backward", &[dy], || self.inner.join_backward(channels, dy), cost)
    }

    fn flatten(&self, x: &B::Tensor) -> Result<B::Tensor> {
        self.moving(Part::Pooling, "flatten", &[x], || self.inner.flatten(x))
    }

    fn flatten_backward(&self, input: &[usize], dy: &B::Tensor) -> Result<B::Tensor> {
        self.moving(Part::Pooling, "flatten_backward", &[dy], || self.inner.flatten_backward(input, dy))
    }

    fn linear(&self, x: &B::Tensor, weight: &B::Tensor, bias: &B::Tensor) -> Result<B::Tensor> {
        let work = || self.inner.linear(x, weight, bias);
        self.run(Part::Forward, "linear", &[x, weight], work, |y| (count::<B>(y), flops::<B>(y, weight)))
    }

    fn linear_backward_input(&self, weight: &B::Tensor, dy: &B::Tensor) -> Result<B::Tensor> {
        let work = || self.inner.linear_backward_input(weight, dy);
        let cost = |dx: &_| (count::<B>(dx), flops::<B>(dy, weight));
        self.run(Part::InputGradient, "linear_backward_input", &[dy, weight], work, cost)
    }

    fn linear_backward_weight(&self, x: &B::Tensor, dy: &B::Tensor) -> Result<(B::Tensor, B::Tensor)> {
        let work = || self.inner.linear_backward_weight(x, dy);
        let cost = |(dweight, _): &(B::Tensor, _)| (count::<B>(dweight), flops::<B>(dy, dweight));
        self.run(Part::WeightGradient, "linear_backward_weight", &[x, dy], work, cost)
    }

    fn l2_normalize(&self, x: &B::Tensor) -> Result<(B::Tensor, B::Tensor)> {
        let cost = |(y, _): &(B::Tensor, _)| (count::<B>(y), 0.0);
        self.run(Part::Elementwise, "l2_normalize", &[x], || self.inner.l2_normalize(x), cost)
    }

    fn l2_normalize_backward(&self, y: &B::Tensor, norm: &B::Tensor, dy: &B::Tensor) -> Result<B::Tensor> {
        let work = || self.inner.l2_normalize_backward(y, norm, dy);
        self.moving(Part::Elementwise, "l2_normalize_backward", &[y, dy], work)
    }

    fn blend(&self, target: &mut B::Tensor, source: &B::Tensor, share: f64, factor: f64) -> Result<()> {
        let cost = |&(): &()| (2 * count::<B>(source), 0.0);
        let work = || self.inner.blend(target, source, share, factor);
        self.run(Part::Normalization, "blend", &[source], work, cost)
    }

    fn sum_of_squares(&self, tensor: &B::Tensor) -> Result<f64> {
        let work = || self.inner.sum_of_squares(tensor);
        self.run(Part::Optimizer, "sum_of_squares", &[tensor], work, |_| (0, 0.0))
    }

    fn scale(&self, tensor: &mut B::Tensor, factor: f64) -> Result<()> {
        let shape = B::shape(tensor).to_vec();
        let cost = |_: &_| Cost { values: 2 * product(&shape), shape, flops: 0.0 };
        self.profile.measure(Part::Optimizer, "scale", || self.inner.scale(tensor, factor), cost)
    }

    fn adam(
        &self,
        step: &AdamStep,
        parameter: &mut B::Tensor,
        gradient: &B::Tensor,
        mean: &mut B::Tensor,
        square: &mut B::Tensor,
    ) -> Result<()> {
        // Parameter, mean and square are read and written.
        let cost = |&(): &()| (6 * count::<B>(gradient), 0.0);
        let work = || self.inner.adam(step, parameter, gradient, mean, square);
        self.run(Part::Optimizer, "adam", &[gradient], work, cost)
    }

    fn sgd(
        &self,
        step: &SgdStep,
        parameter: &mut B::Tensor,
        gradient: &B::Tensor,
        velocity: Option<&mut B::Tensor>,
    ) -> Result<()> {
        // Parameter and velocity are read and written.
        let changed = if velocity.is_some() { 2 } else { 1 };
        let cost = |&(): &()| (2 * changed * count::<B>(gradient), 0.0);
        let work = || self.inner.sgd(step, parameter, gradient, velocity);
        self.run(Part::Optimizer, "sgd", &[gradient], work, cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbones;
    use crate::backbones::{BackboneSpec, Stem};
    use crate::nn::{Cpu, FeatureGradients, Network};

    fn spec() -> BackboneSpec {
        BackboneSpec {
            kind: "resnet18".into(),
            width: 4,
            stem: Stem::Imagenet,
            hidden: Vec::new(),
            embedding: Some(8),
            normalize: false,
            in_channels: 3,
            image_size: 32,
            classes: None,
        }
    }

    /// The records of a step on two images: forward and backward.
    fn step(recording: bool) -> Vec<Record> {
        let backend = Profiled::new(Cpu::new(Arc::new(rkd_kernels::Pool::new(1))));
        let mut network = Network::new(backend.clone(), &spec(), 1).unwrap();
        let images = backend.from_f32(&vec![0.5; 2 * 32 * 32 * 3], &[2, 32, 32, 3]).unwrap();
        assert!(backend.profile().take().is_empty(), "off at first");
        backend.profile().set_recording(recording);
        let (features, tape) = network.forward_train(&images).unwrap();
        let gradients = FeatureGradients { embedding: Some(features.embedding), ..Default::default() };
        network.backward(tape, gradients, false).unwrap();
        backend.profile().take()
    }

    #[test]
    fn a_layer_counts_the_operations_of_its_definition() {
        let records = step(true);
        let of = |layer: &str, operation: &str| {
            records.iter().find(|record| record.layer == layer && record.operation == operation)
        };
        // 2 images of 16 x 16 output pixels, 7 x 7 windows over 3 channels, 4 output channels; two operations each.
        let flops = (2 * 2 * 16 * 16 * 7 * 7 * 3 * 4) as f64;
        let bytes = 4.0 * (2 * 32 * 32 * 3 + 7 * 7 * 3 * 4 + 2 * 16 * 16 * 4) as f64;
        for operation in ["conv2d", "conv2d_backward_weight"] {
            let record = of("conv1", operation).unwrap();
            assert_eq!((record.flops, record.bytes, record.calls), (flops, bytes, 1), "{operation}");
        }
        assert!(of("conv1", "conv2d_backward_input").is_none(), "nobody needs the images' gradient");
        // Stride 2 from 8 x 8 to 4 x 4 pixels, 4 to 8 channels: the gradient of the input multiplies as often.
        let flops = (2 * 2 * 4 * 4 * 3 * 3 * 4 * 8) as f64;
        assert_eq!(of("layer2.0.conv1", "conv2d_backward_input").unwrap().flops, flops);
        assert_eq!(of("fc", "linear").unwrap().flops, (2 * 2 * 32 * 8) as f64);
        // x and y; the shortcut is read too. 2 x 8 x 8 x 4 values.
        assert_eq!(of("layer1.0.bn1", "batch_norm").unwrap().bytes, 4.0 * 2.0 * 512.0);
        assert_eq!(of("layer1.0.bn2", "batch_norm").unwrap().bytes, 4.0 * 3.0 * 512.0);
        assert_eq!(of("bn1", "batch_norm_max_pool").unwrap().shape, [2, 16, 16, 4]);
    }

    #[test]
    fn every_layer_is_there_and_nothing_else() {
        let records = step(true);
        let mut seen: Vec<&str> =
            records.iter().filter(|record| record.part.is_named()).map(|record| record.layer.as_str()).collect();
        seen.sort_unstable();
        seen.dedup();
        let definition = backbones::define(&spec()).unwrap();
        let mut layers: Vec<&str> =
            definition.parameters.iter().map(|parameter| parameter.name.rsplit_once('.').unwrap().0).collect();
        layers.sort_unstable();
        layers.dedup();
        assert_eq!(seen, layers);
    }

    #[test]
    fn nothing_is_noted_while_it_is_off() {
        assert!(step(false).is_empty());
    }
}
