//! GoogLeNet with batch normalisation (Szegedy et al. 2015, table 1; Ioffe, Szegedy 2015), as torchvision builds it.
//!
//! | layer | channels: 1x1, 3x3 (reduced to), "5x5" (reduced to), pool | side |
//! | --- | --- | --- |
//! | conv1 | 7x7 64, stride 2 (or, small: 3x3 64) | halved (or kept) |
//! | | 3x3 max pool, stride 2 (or, small: none) | halved (or kept) |
//! | conv2, conv3 | 1x1 64, 3x3 192 | |
//! | | 3x3 max pool, stride 2 | halved |
//! | inception3a, b | 64, 128 (96), 32 (16), 32; 128, 192 (128), 96 (32), 64 | |
//! | | 3x3 max pool, stride 2 | halved |
//! | inception4a to e | 192, 208 (96), 48 (16), 64; and so on, see `FOURTH` | |
//! | | 2x2 max pool, stride 2 | halved |
//! | inception5a, b | 256, 320 (160), 128 (32), 128; 384, 384 (192), 128 (48), 128 | |
//! | pool | mean over pixels: 1024 numbers | |
//!
//! Every convolution is followed by a batch norm with epsilon 0.001 and a ReLU; every pool counts a last, incomplete
//! window; the "5x5" branch has a 3x3 kernel, as torchvision's has. The channels above belong to width 64 and grow with
//! it. The classifiers beside the trunk (`aux1`, `aux2`) are left out: there is nothing to classify. Started as ResNets
//! are.
//!
//! torchvision's published weights were trained on pixels from -1 to 1 (`transform_input`): read them with a
//! normalisation of mean 0.5 and deviation 0.5 in every channel.

use super::Body;
use crate::backbones::{BackboneSpec, Stem};
use crate::nn::builder::Builder;
use crate::nn::geometry::{Conv2d, Pool2d};
use crate::nn::layer::{BatchNorm2d, Layer};

/// Below it a pool would see less than one window.
pub(super) fn smallest_image(spec: &BackboneSpec) -> usize {
    match spec.stem {
        Stem::Imagenet => 31,
        Stem::Small => 8,
    }
}

/// The channels of an inception module: 1x1; 3x3 reduced and full; 5x5 reduced and full; after the pool.
type Channels = [usize; 6];

const THIRD: &[(&str, Channels)] =
    &[("inception3a", [64, 96, 128, 16, 32, 32]), ("inception3b", [128, 128, 192, 32, 96, 64])];
const FOURTH: &[(&str, Channels)] = &[
    ("inception4a", [192, 96, 208, 16, 48, 64]),
    ("inception4b", [160, 112, 224, 24, 64, 64]),
    ("inception4c", [128, 128, 256, 24, 64, 64]),
    ("inception4d", [112, 144, 288, 32, 64, 64]),
    ("inception4e", [256, 160, 320, 32, 128, 128]),
];
const FIFTH: &[(&str, Channels)] =
    &[("inception5a", [256, 160, 320, 32, 128, 128]), ("inception5b", [384, 192, 384, 48, 128, 128])];

/// The last module of each stage is a tap of its name.
pub(super) fn body(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    // Channels in proportion to the width, never none.
    let scale = |channels: usize| (channels * spec.width / 64).max(1);
    let pool = |kernel| Layer::MaxPool(Pool2d { ceil: true, ..Pool2d::square(kernel, 2, 0) });
    let (windows, [c64, c192]) = (Conv2d::square, [64, 192].map(scale));
    let mut layers = match spec.stem {
        Stem::Imagenet => convolution(builder, "conv1", spec.in_channels, c64, windows(7, 2, 3)).to_vec(),
        Stem::Small => convolution(builder, "conv1", spec.in_channels, c64, windows(3, 1, 1)).to_vec(),
    };
    if spec.stem == Stem::Imagenet {
        layers.push(pool(3));
    }
    layers.extend(convolution(builder, "conv2", c64, c64, windows(1, 1, 0)));
    layers.extend(convolution(builder, "conv3", c64, c192, windows(3, 1, 1)));
    let mut channels = c192;
    for (kernel, stage) in [(3, THIRD), (3, FOURTH), (2, FIFTH)] {
        layers.push(pool(kernel));
        for (name, of) in stage {
            let of = of.map(scale);
            layers.push(inception(builder, name, channels, of));
            channels = of[0] + of[2] + of[4] + of[5];
        }
        layers.extend(stage.last().map(|(name, _)| Layer::Tap(name.to_string())));
    }
    layers.push(Layer::GlobalAverage);
    Body { layers, pooled_size: channels }
}

/// Four ways side by side: 1x1; 1x1 then 3x3; 1x1 then 3x3 again; 3x3 max pool then 1x1.
fn inception(builder: &mut Builder, name: &str, c_in: usize, channels: Channels) -> Layer {
    let [one, three_reduced, three, five_reduced, five, pooled] = channels;
    let (point, square) = (Conv2d::square(1, 1, 0), Conv2d::square(3, 1, 1));
    let mut add = |branch: &str, c_in, c_out, windows| {
        convolution(builder, &format!("{name}.branch{branch}"), c_in, c_out, windows)
    };
    let first = add("1", c_in, one, point).to_vec();
    let second = [add("2.0", c_in, three_reduced, point), add("2.1", three_reduced, three, square)].concat();
    let third = [add("3.0", c_in, five_reduced, point), add("3.1", five_reduced, five, square)].concat();
    let mut fourth = vec![Layer::MaxPool(Pool2d { ceil: true, ..Pool2d::square(3, 1, 1) })];
    fourth.extend(add("4.1", c_in, pooled, point));
    Layer::Branches(vec![first, second, third, fourth])
}

/// Convolution without bias, batch norm, ReLU: torchvision's `BasicConv2d`.
fn convolution(builder: &mut Builder, name: &str, c_in: usize, c_out: usize, windows: Conv2d) -> [Layer; 2] {
    let convolution = builder.convolution(&format!("{name}.conv"), c_in, c_out, windows);
    let batch_norm = builder.batch_norm(&format!("{name}.bn"), c_out, true);
    [convolution, Layer::BatchNorm2d(BatchNorm2d { epsilon: 1e-3, ..batch_norm })]
}
