//! ResNet-18, 34, 50 and 101 (He, Zhang, Ren, Sun 2016, table 1), as torchvision builds them: no biases, the stride of
//! a bottleneck on its 3x3 convolution.
//!
//! | stage | resnet18 | resnet34 | resnet50 | resnet101 | stride |
//! | --- | --- | --- | --- | --- | --- |
//! | stem | 7x7 w, stride 2; 3x3 max pool, stride 2 (or, small: 3x3 w) | same | same | same | 4 (or 1) |
//! | layer1 | 2 x [3x3 w, 3x3 w] | 3 x | 3 x [1x1 w, 3x3 w, 1x1 4w] | 3 x | 1 |
//! | layer2 | 2 x [3x3 2w, 3x3 2w] | 4 x | 4 x [1x1 2w, 3x3 2w, 1x1 8w] | 4 x | 2 |
//! | layer3 | 2 x [3x3 4w, 3x3 4w] | 6 x | 6 x [1x1 4w, 3x3 4w, 1x1 16w] | 23 x | 2 |
//! | layer4 | 2 x [3x3 8w, 3x3 8w] | 3 x | 3 x [1x1 8w, 3x3 8w, 1x1 32w] | 3 x | 2 |
//! | pool | mean over pixels | | | | |
//!
//! w = 64 in the paper. Started as torchvision starts it (He et al. 2015, fan-out; normalisations as the identity).

use super::Body;
use crate::backbones::{BackboneSpec, Stem};
use crate::nn::builder::Builder;
use crate::nn::geometry::{Conv2d, Pool2d};
use crate::nn::layer::{Layer, Residual};

/// The two kinds of block.
#[derive(Clone, Copy)]
enum Block {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1 down, 3x3, 1x1 up to four times the channels.
    Bottleneck,
}

impl Block {
    /// Output channels for each inner channel.
    fn expansion(self) -> usize {
        match self {
            Block::Basic => 1,
            Block::Bottleneck => 4,
        }
    }
}

/// Half of what the strides divide by: below it the last stages see one pixel and its padding only.
pub(super) fn smallest_image(spec: &BackboneSpec) -> usize {
    match spec.stem {
        Stem::Imagenet => 16,
        Stem::Small => 4,
    }
}

pub(super) fn body18(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    body(builder, spec, Block::Basic, [2, 2, 2, 2])
}

pub(super) fn body34(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    body(builder, spec, Block::Basic, [3, 4, 6, 3])
}

pub(super) fn body50(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    body(builder, spec, Block::Bottleneck, [3, 4, 6, 3])
}

pub(super) fn body101(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    body(builder, spec, Block::Bottleneck, [3, 4, 23, 3])
}

/// The stages are taps `layer1` to `layer4`.
fn body(builder: &mut Builder, spec: &BackboneSpec, block: Block, blocks: [usize; 4]) -> Body {
    let mut layers = stem(builder, spec);
    let mut channels = spec.width;
    for (stage, count) in blocks.into_iter().enumerate() {
        let inner = spec.width << stage;
        for index in 0..count {
            let stride = if stage > 0 && index == 0 { 2 } else { 1 };
            let name = format!("layer{}.{index}", stage + 1);
            layers.push(residual(builder, &name, block, [channels, inner], stride));
            channels = inner * block.expansion();
        }
        layers.push(Layer::Tap(format!("layer{}", stage + 1)));
    }
    layers.push(Layer::GlobalAverage);
    Body { layers, pooled_size: channels }
}

fn stem(builder: &mut Builder, spec: &BackboneSpec) -> Vec<Layer> {
    let windows = match spec.stem {
        Stem::Imagenet => Conv2d::square(7, 2, 3),
        Stem::Small => Conv2d::square(3, 1, 1),
    };
    let mut layers = vec![
        builder.convolution("conv1", spec.in_channels, spec.width, windows),
        Layer::BatchNorm2d(builder.batch_norm("bn1", spec.width, true)),
    ];
    if spec.stem == Stem::Imagenet {
        layers.push(Layer::MaxPool(Pool2d::square(3, 2, 1)));
    }
    layers
}

/// One block from `c_in` channels with `inner` channels inside.
fn residual(builder: &mut Builder, name: &str, block: Block, [c_in, inner]: [usize; 2], stride: usize) -> Layer {
    let c_out = inner * block.expansion();
    let convolutions = match block {
        Block::Basic => vec![(inner, Conv2d::square(3, stride, 1)), (c_out, Conv2d::square(3, 1, 1))],
        Block::Bottleneck => vec![
            (inner, Conv2d::square(1, 1, 0)),
            (inner, Conv2d::square(3, stride, 1)),
            (c_out, Conv2d::square(1, 1, 0)),
        ],
    };
    let mut body = Vec::new();
    let mut channels = c_in;
    for (index, &(c, windows)) in convolutions.iter().enumerate() {
        if index > 0 {
            body.push(Layer::BatchNorm2d(builder.batch_norm(&format!("{name}.bn{index}"), channels, true)));
        }
        body.push(builder.convolution(&format!("{name}.conv{}", index + 1), channels, c, windows));
        channels = c;
    }
    let last = builder.batch_norm(&format!("{name}.bn{}", convolutions.len()), c_out, true);
    let mut shortcut = Vec::new();
    if stride != 1 || c_in != c_out {
        shortcut.push(builder.convolution(&format!("{name}.downsample.0"), c_in, c_out, Conv2d::square(1, stride, 0)));
        let batch_norm = builder.batch_norm(&format!("{name}.downsample.1"), c_out, false);
        shortcut.push(Layer::BatchNorm2d(batch_norm));
    }
    Layer::Residual(Residual { body, last, shortcut })
}
