//! A plain multilayer perceptron: linear layers, each followed by a ReLU.
//!
//! ```text
//! x [n, h, w, c] -> flattened [n, c * h * w] -> linear, ReLU, linear, ReLU, ... -> [n, last hidden width]
//! ```
//!
//! A vector of d numbers travels as an image of one pixel with d channels: `imageSize` 1, `inChannels` d. The parameters
//! are named as in PyTorch's `layers = Sequential(Linear, ReLU, Linear, ReLU, ...)`: `layers.0`, `layers.2` and so on.
//! `width` and `stem` mean nothing here; `hidden` says how wide each layer is. Started as PyTorch starts its layers.

use super::Body;
use crate::backbones::BackboneSpec;
use crate::nn::backend::Activation;
use crate::nn::builder::Builder;
use crate::nn::layer::Layer;

/// One pixel will do.
pub(super) const SMALLEST_IMAGE: usize = 1;

/// The output of hidden layer i, after its ReLU, is the tap `layers.{2i}`.
pub(super) fn body(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    let mut layers = vec![Layer::Flatten];
    let mut size = spec.in_channels * spec.image_size * spec.image_size;
    for (index, &hidden) in spec.hidden.iter().enumerate() {
        let name = format!("layers.{}", 2 * index);
        layers.extend([builder.linear(&name, size, hidden), Layer::Activation(Activation::Relu), Layer::Tap(name)]);
        size = hidden;
    }
    Body { layers, pooled_size: size }
}
