//! Conv-4: the four-block network of few-shot learning (Vinyals et al. 2016; Snell, Swersky, Zemel 2017).
//!
//! | block | layers | side |
//! | --- | --- | --- |
//! | 0 to 3 | 3x3 convolution (w channels, bias), batch norm, ReLU, 2x2 max pool | halved, rounded down |
//!
//! The pooled feature is the last map, flattened: 64 numbers for 28-pixel images and w = 64. Started as PyTorch starts
//! its layers.

use super::Body;
use crate::backbones::BackboneSpec;
use crate::nn::builder::Builder;
use crate::nn::geometry::{Conv2d, Pool2d};
use crate::nn::layer::Layer;

/// Four halvings leave one pixel.
pub(super) const SMALLEST_IMAGE: usize = 16;

/// The blocks are taps `blocks.0` to `blocks.3`.
pub(super) fn body(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    let mut layers = Vec::new();
    let mut channels = spec.in_channels;
    for block in 0..4 {
        let name = format!("blocks.{block}");
        layers.extend([
            builder.convolution_with_bias(&format!("{name}.0"), channels, spec.width, Conv2d::square(3, 1, 1)),
            Layer::BatchNorm2d(builder.batch_norm(&format!("{name}.1"), spec.width, true)),
            Layer::MaxPool(Pool2d::square(2, 2, 0)),
            Layer::Tap(name),
        ]);
        channels = spec.width;
    }
    layers.push(Layer::Flatten);
    let side = spec.image_size / 16;
    Body { layers, pooled_size: spec.width * side * side }
}
