//! What MobileNets and EfficientNets have in common.

use crate::nn::backend::Activation;
use crate::nn::builder::Builder;
use crate::nn::geometry::Conv2d;
use crate::nn::layer::{BatchNorm2d, Layer, Residual};

/// Half of what the strides divide by: below it the last stages see one pixel and its padding only.
pub(super) const SMALLEST_IMAGE: usize = 16;

/// The nearest multiple of 8, but never less than nine tenths: how TensorFlow, torchvision (`_make_divisible`) and timm
/// (`make_divisible`) round channels.
pub(super) fn multiple_of_8(channels: f64) -> usize {
    let nearest = ((channels + 4.0) as usize / 8 * 8).max(8);
    if (nearest as f64) < 0.9 * channels { nearest + 8 } else { nearest }
}

/// Squeeze and excitation (Hu et al. 2018): the means of `c` channels through a 1x1 convolution to `squeezed` ones, an
/// activation, a 1x1 convolution back and a gate, which the channels are multiplied by. Both convolutions have a bias,
/// which starts at 0.
pub(super) fn squeeze_excitation(
    builder: &mut Builder,
    [reduce, expand]: [String; 2],
    [c, squeezed]: [usize; 2],
    [activation, gate]: [Activation; 2],
) -> Layer {
    let point = Conv2d::square(1, 1, 0);
    Layer::SqueezeExcitation(vec![
        builder.convolution_with_zero_bias(&reduce, c, squeezed, point),
        Layer::Activation(activation),
        builder.convolution_with_zero_bias(&expand, squeezed, c, point),
        Layer::Activation(gate),
    ])
}

/// The layers of a block that ends in `last`, with its input added if `shortcut`.
pub(super) fn with_shortcut(mut body: Vec<Layer>, last: BatchNorm2d, shortcut: bool) -> Vec<Layer> {
    if shortcut {
        return vec![Layer::Residual(Residual { body, last, shortcut: Vec::new() })];
    }
    body.push(Layer::BatchNorm2d(last));
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_rounded_to_eights_but_never_by_more_than_a_tenth_down() {
        // 12 would be 8, less than nine tenths of it.
        assert_eq!([1.0, 11.0, 12.0, 20.0, 24.0].map(multiple_of_8), [8, 16, 16, 24, 24]);
    }
}
