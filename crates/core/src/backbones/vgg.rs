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
//! w = 64 in the paper. Two things of torchvision are left out, and neither has parameters. Its average to 7x7 places,
//! with which the first linear layer takes maps of any size, changes nothing at 224 pixels. Elsewhere average and layer
//! are one linear layer over the places that the map has, and that is what the layer is here: [`fold_average`] makes it
//! of torchvision's weights, and the outputs are torchvision's. The dropout of the ImageNet head is left out since a
//! relation between two images should not depend on a draw. Started as torchvision starts it (He et al. 2015, fan-out;
//! biases 0; linear layers normal with deviation 0.01).

use super::Body;
use crate::backbones::{BackboneSpec, Stem};
use crate::nn::backend::Activation;
use crate::nn::builder::Builder;
use crate::nn::geometry::{Conv2d, Pool2d};
use crate::nn::layer::Layer;
use crate::tensor::HostTensor;

/// Five halvings leave one pixel.
pub(super) const SMALLEST_IMAGE: usize = 32;

/// The weight of the first linear layer of the ImageNet head.
pub(super) const FIRST_LINEAR: &str = "classifier.0.weight";

/// Side of the map that torchvision's head takes.
const SIDE: usize = 7;

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
            let [convolution, batch_norm] = [module, module + 1].map(|module| format!("features.{module}"));
            layers.push(builder.convolution_with_zero_bias(&convolution, channels, c_out, Conv2d::square(3, 1, 1)));
            layers.push(Layer::BatchNorm2d(builder.batch_norm(&batch_norm, c_out, true)));
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
            layers
                .extend([builder.linear_normal(name, pooled_size, hidden, 0.01), Layer::Activation(Activation::Relu)]);
            pooled_size = hidden;
        }
    }
    Body { layers, pooled_size }
}

/// torchvision's first linear layer `[o, c * 7 * 7]` and the average before it (`AdaptiveAvgPool2d(7)`) as one weight
/// `[o, c * s * s]` for maps of side s = image size / 32.
///
/// ```text
/// y_o = sum over c, q of W_ocq (mean of x_cp over p in window(q)) = sum over c, p of V_ocp x_cp
/// V_ocp = sum over q with p in window(q) of W_ocq / |window(q)|
/// ```
/// window(q) spans `floor(q s / 7) .. ceil((q + 1) s / 7)` along each axis. Sums in float64, rounded once. `None` where
/// there is nothing to fold: another head, another shape, or s = 7.
pub(super) fn fold_average(spec: &BackboneSpec, weight: &HostTensor) -> Option<HostTensor> {
    let (side, channels) = (spec.image_size / 32, spec.width << 3);
    let &[outputs, inputs] = weight.shape.as_slice() else { return None };
    let theirs = channels * SIDE * SIDE;
    if spec.stem != Stem::Imagenet || side == SIDE || inputs != theirs || weight.data.len() != outputs * theirs {
        return None;
    }
    let windows: Vec<_> = (0..SIDE).map(|q| q * side / SIDE..((q + 1) * side).div_ceil(SIDE)).collect();
    let mut data = Vec::with_capacity(outputs * channels * side * side);
    let mut places = vec![0.0; side * side];
    for map in weight.data.chunks_exact(SIDE * SIDE) {
        places.fill(0.0);
        for (row, vertical) in map.chunks_exact(SIDE).zip(&windows) {
            for (&value, horizontal) in row.iter().zip(&windows) {
                let share = f64::from(value) / (vertical.len() * horizontal.len()) as f64;
                for y in vertical.clone() {
                    places[y * side..][horizontal.clone()].iter_mut().for_each(|place| *place += share);
                }
            }
        }
        data.extend(places.iter().map(|&place| place as f32));
    }
    Some(HostTensor { shape: vec![outputs, channels * side * side], data })
}
