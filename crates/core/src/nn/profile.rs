//! Where the time of a step goes: a profile that passes and optimisers tell what they do.
//!
//! While a [`Profile`] is recording, the passes of its network note of each operation how long it took, what it
//! multiplied and which tensors it read and wrote; while it is not, an operation pays one atomic load.
//!
//! Counts are those of the definition, not of the algorithm: a convolution of p output pixels with a weight of k values
//! is
//! 2 p k operations in each of its three passes, even where Winograd's algorithm multiplies less; a tensor counts its
//! bytes once, even where the kernel goes over it twice. Only convolutions, linear layers and attention count operations:
//! all else is bound by memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

use super::backend::Backend;
use crate::error::Result;

/// What an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "ProfileCategory"))]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// Convolutions and linear layers, forward.
    Forward,
    /// Their gradients with respect to the input.
    InputGradient,
    /// Their gradients with respect to weight and bias.
    WeightGradient,
    /// Batch normalisation, with the activation, the residual and the max pool in it, its gradient and its running
    /// statistics.
    BatchNorm,
    /// Layer normalisation and its gradient.
    LayerNorm,
    /// Self-attention without its linear layers, and its gradient.
    Attention,
    /// Max pool on its own, mean over pixels, flattening, class tokens, and their gradients.
    Pooling,
    /// An activation on its own, gated channels, tokens put together, L2 normalisation, sums of two gradients, branches joined
    /// along channels, zeros.
    Elementwise,
    /// The losses with their gradients.
    Loss,
    /// The gradient norm and the update.
    Optimizer,
    /// Values into the backend and out of it.
    Data,
}

/// What was noted of one operation of one layer. Calls that agree in all names and the shape are added up.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "ProfileRecord"))]
pub struct Record {
    /// The layer as its parameters name it, `layer2.0.conv1`; empty for an operation without parameters.
    pub layer: String,
    /// The method of [`Backend`], or what [`Profile::time`] was told.
    pub operation: &'static str,
    /// What it is for.
    pub category: Category,
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
    records: Mutex<Vec<Record>>,
}

impl Profile {
    /// Switches recording on or off.
    pub fn set_recording(&self, on: bool) {
        self.recording.store(on, Ordering::Relaxed);
    }

    /// What was recorded since the last call, in order of first calls.
    pub fn take(&self) -> Vec<Record> {
        std::mem::take(&mut self.records())
    }

    /// Does `work` and, while recording, notes its time under `category` and `operation`, and what `cost` says of its
    /// result. `parameter` is the name of a parameter of the layer; empty for an operation without parameters.
    pub fn time<T>(
        &self,
        category: Category,
        operation: &'static str,
        parameter: &str,
        work: impl FnOnce() -> Result<T>,
        cost: impl FnOnce(&T) -> Cost,
    ) -> Result<T> {
        if !self.recording.load(Ordering::Relaxed) {
            return work();
        }
        let start = Instant::now();
        let result = work()?;
        let ms = start.elapsed().as_secs_f64() * 1e3;
        let layer = parameter.rsplit_once('.').map_or(parameter, |(layer, _)| layer);
        self.add(category, operation, layer, ms, cost(&result));
        Ok(result)
    }

    fn add(
        &self,
        category: Category,
        operation: &'static str,
        layer: &str,
        ms: f64,
        Cost { shape, values, flops }: Cost,
    ) {
        let mut records = self.records();
        let bytes = 4.0 * values as f64;
        match records.iter_mut().find(|r| r.operation == operation && r.layer == layer && r.shape == shape) {
            Some(record) => {
                record.calls += 1;
                record.ms += ms;
                record.flops += flops;
                record.bytes += bytes;
            }
            None => {
                let layer = layer.to_string();
                records.push(Record { layer, operation, category, shape, calls: 1, ms, flops, bytes });
            }
        }
    }

    fn records(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an operation touched.
#[derive(Debug, Default)]
pub struct Cost {
    /// Shape of the first tensor.
    shape: Vec<usize>,
    /// Values read and written.
    values: usize,
    /// Operations by definition.
    flops: f64,
}

impl Cost {
    /// That of reading and writing these tensors; the shape is that of the first.
    pub fn of<'a, B: Backend>(tensors: impl IntoIterator<Item = &'a B::Tensor>) -> Cost
    where
        B::Tensor: 'a,
    {
        let mut tensors = tensors.into_iter().map(B::shape).peekable();
        let shape = tensors.peek().map_or(Vec::new(), |shape| shape.to_vec());
        Cost { shape, values: tensors.map(product).sum(), flops: 0.0 }
    }

    /// That of an array of this shape, read or written so many `times`.
    pub fn array(shape: &[usize], times: usize) -> Cost {
        Cost { shape: shape.to_vec(), values: times * product(shape), flops: 0.0 }
    }

    /// And the operations of a convolution or a linear layer: every row of `y` (an output pixel, or an image in a
    /// linear layer) costs a multiplication and an addition for each value of the weight.
    pub fn multiplying<B: Backend>(self, y: &B::Tensor, weight: &B::Tensor) -> Cost {
        let [y, weight] = [y, weight].map(B::shape);
        let flops = 2.0 * product(&y[..y.len() - 1]) as f64 * product(weight) as f64;
        Cost { flops: self.flops + flops, ..self }
    }

    /// And the operations of so many products of self-attention whose output is `y [n, t, 1, c]`: for each channel of each
    /// token a multiplication and an addition with every other token.
    pub fn attending<B: Backend>(self, y: &B::Tensor, products: usize) -> Cost {
        let shape = B::shape(y);
        let flops = (2 * products * product(shape) * shape.get(1).copied().unwrap_or(1)) as f64;
        Cost { flops: self.flops + flops, ..self }
    }
}

fn product(shape: &[usize]) -> usize {
    shape.iter().product()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbones;
    use crate::backbones::BackboneSpec;
    use crate::nn::{Cpu, Feature};
    use std::sync::Arc;

    fn spec() -> BackboneSpec {
        BackboneSpec { width: 4, embedding: Some(8), ..BackboneSpec::published("resnet18", 32) }
    }

    /// The records of a step on two images: forward and backward.
    fn step(recording: bool) -> Vec<Record> {
        let backend = Cpu::new(Arc::new(rkd_kernels::Team::new(1)));
        let mut network = backbones::build(backend.clone(), &spec(), 1).unwrap();
        let images = backend.from_f32(&vec![0.5; 2 * 32 * 32 * 3], &[2, 32, 32, 3]).unwrap();
        let profile = Arc::new(Profile::default());
        network.set_profile(&profile);
        network.forward_eval(&images).unwrap();
        assert!(profile.take().is_empty(), "off at first");
        profile.set_recording(recording);
        let (features, tape) = network.forward_train(&images).unwrap();
        let gradients = [(Feature::Embedding, features[&Feature::Embedding].clone())].into();
        network.backward(tape, gradients, false).unwrap();
        profile.take()
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
            records.iter().filter(|record| !record.layer.is_empty()).map(|record| record.layer.as_str()).collect();
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
