//! VGG-11, 13 and 16 with batch normalisation (Simonyan, Zisserman 2015, table 1, columns A, B and D; Ioffe, Szegedy
//! 2015), as torchvision builds them: every 3x3 convolution has a bias, a batch norm and a ReLU.
//!
//! | stage | vgg11 | vgg13 | vgg16 | side |
//! | --- | --- | --- | --- | --- |
//! | 1 | 1 x 3x3 w | 2 x | 2 x | 2x2 max pool: halved, rounded down |
//! | 2 | 1 x 3x3 2w | 2 x | 2 x | halved |
//! | 3 | 2 x 3x3 4w | 2 x | 3 x | halved |
//! | 4 | 2 x 3x3 8w | 2 x | 3 x | halved |
//! | 5 | 2 x 3x3 8w | 2 x | 3 x | halved |
//! | head, small | the last map, flattened: 512 numbers for 32-pixel images and w = 64 | | | |
//! | head, imagenet | flattened, linear 64w, ReLU, linear 64w, ReLU | | | |
//!
//! w = 64 in the paper. Two things of torchvision are left out, and neither has parameters: its average over 7x7 places,
//! which changes nothing at 224 pixels, and the dropout of the ImageNet head, since a relation between two images should
//! not depend on a draw. Started as torchvision starts it (He et al. 2015, fan-out; biases 0; linear layers normal with
//! deviation 0.01).

use super::Body;
use crate::backbones::{BackboneSpec, Stem};
use crate::nn::builder::Builder;
use crate::nn::geometry::{Conv2d, Pool2d};
use crate::nn::layer::Layer;

/// Five halvings leave one pixel.
pub(super) const SMALLEST_IMAGE: usize = 32;

pub(super) fn body11(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    body(builder, spec, [1, 1, 2, 2, 2])
}

pub(super) fn body13(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    body(builder, spec, [2, 2, 2, 2, 2])
}

pub(super) fn body16(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    body(builder, spec, [2, 2, 3, 3, 3])
}

/// The stages are taps `stage1` to `stage5`. `features.N` counts modules as torchvision does: a convolution, its
/// normalisation and its ReLU are three, a pool is one.
fn body(builder: &mut Builder, spec: &BackboneSpec, convolutions: [usize; 5]) -> Body {
    let mut layers = Vec::new();
    let (mut channels, mut module) = (spec.in_channels, 0);
    for (stage, count) in convolutions.into_iter().enumerate() {
        let c_out = spec.width << stage.min(3);
        for _ in 0..count {
            let [convolution, normalization] = [module, module + 1].map(|module| format!("features.{module}"));
            layers.push(builder.convolution_with_zero_bias(&convolution, channels, c_out, Conv2d::square(3, 1, 1)));
            layers.push(Layer::Normalization(builder.normalization(&normalization, c_out, true)));
            (channels, module) = (c_out, module + 3);
        }
        layers.extend([Layer::MaxPool(Pool2d::square(2, 2, 0)), Layer::Tap(format!("stage{}", stage + 1))]);
        module += 1;
    }
    layers.push(Layer::Flatten);
    let side = spec.image_size / 32;
    let mut pooled_size = channels * side * side;
    if spec.stem == Stem::Imagenet {
        for name in ["classifier.0", "classifier.3"] {
            let hidden = 64 * spec.width;
            layers.extend([builder.linear_normal(name, pooled_size, hidden, 0.01), Layer::Relu]);
            pooled_size = hidden;
        }
    }
    Body { layers, pooled_size }
}
