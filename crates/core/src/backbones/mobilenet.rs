//! MobileNetV2 (Sandler et al. 2018) and MobileNetV3 (Howard et al. 2019), as torchvision builds and names them.
//!
//! Both are a 3x3 convolution of stride 2 (`features.0`), inverted residuals, a 1x1 convolution and the mean over pixels. An
//! inverted residual widens its input by a 1x1 convolution (where it widens it at all), filters each channel on its own, and
//! narrows to its output, which nothing follows but the sum with the input where both have one shape.
//!
//! | | V2 | V3 |
//! | --- | --- | --- |
//! | blocks | `V2`: six times as wide, 3x3 | `SMALL`, `LARGE`: channels, kernel, gate and activation of their own |
//! | activation | ReLU6 | ReLU in the early blocks, else hard swish |
//! | gate | none | squeeze and excitation in some blocks: a quarter of the inner channels, hard sigmoid |
//! | last 1x1 convolution | to 1280 channels, more in a wider network and never fewer | six times the last block's channels |
//! | behind the mean | nothing | linear layer `classifier.0` and hard swish: 1024 (small) or 1280 numbers (large) |
//! | batch norm's epsilon, momentum | 1e-5, 0.1 | 0.001, 0.01 |
//!
//! V3's `classifier.0` is the last feature layer, moved behind the mean to save work (the paper's section 5.1), so it is part of
//! the body as EfficientNet's `conv_head` is: the pooled feature is what torchvision's last linear layer (`classifier.1` of V2,
//! `classifier.3` of V3) sees. The channels belong to width 64 and grow with it in multiples of 8. Started as torchvision
//! starts it (He et al. 2015, fan-out; biases 0; the linear layer normal with deviation 0.01).
//!
//! timm's `mobilenetv2_100`, `mobilenetv3_small_100` and `mobilenetv3_large_100` are the same layers under other names
//! (`of_timm`). Its V3 has an epsilon of 1e-5: the scales take in the difference, by the running variances, so that
//! evaluation gives the same numbers. Its `tf_mobilenetv3_*` have the same names again but TensorFlow's padding; nothing
//! in a file tells them apart, so they are read as the others are, and are a start rather than the same network.

use std::collections::{BTreeMap, BTreeSet};

use super::Body;
use super::mobile::{multiple_of_8, squeeze_excitation, with_shortcut};
use crate::backbones::BackboneSpec;
use crate::nn::backend::Activation;
use crate::nn::builder::Builder;
use crate::nn::geometry::Conv2d;
use crate::nn::layer::{BatchNorm2d, Layer};
use crate::tensor::HostTensor;

/// The stages of V2: factor of widening, channels, blocks, stride of the first.
const V2: [[usize; 4]; 7] =
    [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]];

/// A block of V3.
struct Block {
    kernel: usize,
    inner: usize,
    outputs: usize,
    gated: bool,
    activation: Activation,
    stride: usize,
}

const fn block(
    kernel: usize,
    [inner, outputs]: [usize; 2],
    gated: bool,
    activation: Activation,
    stride: usize,
) -> Block {
    Block { kernel, inner, outputs, gated, activation, stride }
}

const SMALL: &[Block] = &[
    block(3, [16, 16], true, Activation::Relu, 2),
    block(3, [72, 24], false, Activation::Relu, 2),
    block(3, [88, 24], false, Activation::Relu, 1),
    block(5, [96, 40], true, Activation::HardSwish, 2),
    block(5, [240, 40], true, Activation::HardSwish, 1),
    block(5, [240, 40], true, Activation::HardSwish, 1),
    block(5, [120, 48], true, Activation::HardSwish, 1),
    block(5, [144, 48], true, Activation::HardSwish, 1),
    block(5, [288, 96], true, Activation::HardSwish, 2),
    block(5, [576, 96], true, Activation::HardSwish, 1),
    block(5, [576, 96], true, Activation::HardSwish, 1),
];

const LARGE: &[Block] = &[
    block(3, [16, 16], false, Activation::Relu, 1),
    block(3, [64, 24], false, Activation::Relu, 2),
    block(3, [72, 24], false, Activation::Relu, 1),
    block(5, [72, 40], true, Activation::Relu, 2),
    block(5, [120, 40], true, Activation::Relu, 1),
    block(5, [120, 40], true, Activation::Relu, 1),
    block(3, [240, 80], false, Activation::HardSwish, 2),
    block(3, [200, 80], false, Activation::HardSwish, 1),
    block(3, [184, 80], false, Activation::HardSwish, 1),
    block(3, [184, 80], false, Activation::HardSwish, 1),
    block(3, [480, 112], true, Activation::HardSwish, 1),
    block(3, [672, 112], true, Activation::HardSwish, 1),
    block(5, [672, 160], true, Activation::HardSwish, 2),
    block(5, [960, 160], true, Activation::HardSwish, 1),
    block(5, [960, 160], true, Activation::HardSwish, 1),
];

pub(super) fn v2(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    let width = spec.width as f64 / 64.0;
    let relu6 = Some(Activation::Relu6);
    let mut channels = multiple_of_8(32.0 * width);
    let mut layers = Vec::from(Style::V2.stem(builder, spec, channels, Activation::Relu6));
    let mut count = 1;
    for [factor, c, blocks, stride] in V2 {
        let outputs = multiple_of_8(c as f64 * width);
        for index in 0..blocks {
            let stride = if index == 0 { stride } else { 1 };
            let (name, inner) = (format!("features.{count}.conv"), factor * channels);
            let (mut body, mut module) = (Vec::new(), 0);
            if factor > 1 {
                body.extend(Style::V2.convolution(builder, &name, module, [channels, inner], relu6));
                module += 1;
            }
            let windows = Conv2d::square(3, stride, 1);
            body.extend(Style::V2.depthwise(builder, &name, module, inner, windows, relu6));
            body.push(builder.convolution(&format!("{name}.{}", module + 1), inner, outputs, Conv2d::square(1, 1, 0)));
            let last = Style::V2.batch_norm(builder, &format!("{name}.{}", module + 2), outputs, None);
            layers.extend(with_shortcut(body, last, stride == 1 && channels == outputs));
            (channels, count) = (outputs, count + 1);
        }
        layers.push(Layer::Tap(format!("features.{}", count - 1)));
    }
    let head = multiple_of_8(1280.0 * width.max(1.0));
    layers.extend(Style::V2.convolution(builder, "features", count, [channels, head], relu6));
    layers.push(Layer::GlobalAverage);
    Body { layers, pooled_size: head }
}

pub(super) fn v3_small(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    v3(builder, spec, SMALL, 1024)
}

pub(super) fn v3_large(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    v3(builder, spec, LARGE, 1280)
}

/// The last block of as many channels as those before it is a tap: `features.1`, `features.3` and so on.
fn v3(builder: &mut Builder, spec: &BackboneSpec, blocks: &[Block], last: usize) -> Body {
    let scale = |channels: usize| multiple_of_8(channels as f64 * spec.width as f64 / 64.0);
    let hard_swish = Some(Activation::HardSwish);
    let mut channels = scale(16);
    let mut layers = Vec::from(Style::V3.stem(builder, spec, channels, Activation::HardSwish));
    for (index, block) in blocks.iter().enumerate() {
        let (inner, outputs, activation) = (scale(block.inner), scale(block.outputs), Some(block.activation));
        let name = format!("features.{}.block", index + 1);
        let (mut body, mut module) = (Vec::new(), 0);
        if inner != channels {
            body.extend(Style::V3.convolution(builder, &name, module, [channels, inner], activation));
            module += 1;
        }
        let windows = Conv2d::square(block.kernel, block.stride, block.kernel / 2);
        body.extend(Style::V3.depthwise(builder, &name, module, inner, windows, activation));
        module += 1;
        if block.gated {
            let names = ["fc1", "fc2"].map(|layer| format!("{name}.{module}.{layer}"));
            let squeezed = multiple_of_8((inner / 4) as f64);
            let activations = [Activation::Relu, Activation::HardSigmoid];
            body.push(squeeze_excitation(builder, names, [inner, squeezed], activations));
            module += 1;
        }
        let narrow = format!("{name}.{module}");
        body.push(builder.convolution(&format!("{narrow}.0"), inner, outputs, Conv2d::square(1, 1, 0)));
        let end = Style::V3.batch_norm(builder, &format!("{narrow}.1"), outputs, None);
        layers.extend(with_shortcut(body, end, block.stride == 1 && channels == outputs));
        if blocks.get(index + 1).is_none_or(|next| next.outputs != block.outputs) {
            layers.push(Layer::Tap(format!("features.{}", index + 1)));
        }
        channels = outputs;
    }
    let (wide, head) = (6 * channels, scale(last));
    layers.extend(Style::V3.convolution(builder, "features", blocks.len() + 1, [channels, wide], hard_swish));
    layers.push(Layer::GlobalAverage);
    layers.push(builder.linear_normal("classifier.0", wide, head, 0.01));
    layers.push(Layer::Activation(Activation::HardSwish));
    Body { layers, pooled_size: head }
}

/// Of torchvision's V3.
const EPSILON_V3: f64 = 1e-3;

/// Of timm's.
const EPSILON_OF_TIMM: f64 = 1e-5;

/// Weights under timm's names (`conv_stem`, `blocks.1.0.conv_pw`) under torchvision's, for a network `kind`; `None` where there
/// are none.
pub(super) fn of_timm(kind: &str, tensors: &BTreeMap<String, HostTensor>) -> Option<BTreeMap<String, HostTensor>> {
    tensors.get("conv_stem.weight")?;
    let style = if kind == "mobilenet-v2" { Style::V2 } else { Style::V3 };
    // torchvision counts blocks through all stages, and V3's last convolution is a block of timm's.
    let blocks: BTreeSet<[usize; 2]> = tensors.keys().filter_map(|name| Some(block_of_timm(name)?.0)).collect();
    let renamed = |name: &str| match name.split('.').collect::<Vec<_>>()[..] {
        ["conv_stem", end] => Some(format!("features.0.0.{end}")),
        ["bn1", end] => Some(format!("features.0.1.{end}")),
        ["conv_head", end] if style == Style::V3 => Some(format!("classifier.0.{end}")),
        ["conv_head", end] => Some(format!("features.{}.0.{end}", blocks.len() + 1)),
        ["bn2", end] => Some(format!("features.{}.1.{end}", blocks.len() + 1)),
        _ => {
            let (place @ [stage, index], layer) = block_of_timm(name)?;
            let has = |layer: &str| tensors.contains_key(&format!("blocks.{stage}.{index}.{layer}.weight"));
            let (layer, end) = layer.rsplit_once('.')?;
            let layer = match layer {
                "conv" => "0".to_string(),
                "bn1" if has("conv") => "1".to_string(),
                _ => style.layer_of_timm(layer, has("conv_pwl"), has("se.conv_reduce"))?,
            };
            Some(format!("features.{}.{layer}.{end}", 1 + blocks.iter().position(|block| *block == place)?))
        }
    };
    let mut found = BTreeMap::new();
    for (name, tensor) in tensors {
        let (renamed, mut tensor) = (renamed(name).unwrap_or_else(|| name.clone()), tensor.clone());
        // A convolution over one pixel is a linear layer.
        if let ("classifier.0.weight", &[outputs, inputs, 1, 1]) = (renamed.as_str(), &tensor.shape[..]) {
            tensor.shape = vec![outputs, inputs];
        }
        found.insert(renamed, tensor);
    }
    if style == Style::V3 {
        fold_epsilon(&mut found);
    }
    Some(found)
}

/// Stage and place of the block that a name of timm's belongs to, and the rest of the name.
fn block_of_timm(name: &str) -> Option<([usize; 2], &str)> {
    let mut parts = name.strip_prefix("blocks.")?.splitn(3, '.');
    let mut number = || parts.next()?.parse().ok();
    let place = [number()?, number()?];
    Some((place, parts.next()?))
}

/// Scales `weight` of normalisations such that with torchvision's epsilon they do what they did with timm's.
fn fold_epsilon(tensors: &mut BTreeMap<String, HostTensor>) {
    let variances: Vec<(String, Vec<f32>)> = tensors
        .iter()
        .filter_map(|(name, variance)| Some((name.strip_suffix(".running_var")?.to_string(), variance.data.clone())))
        .collect();
    for (layer, variance) in variances {
        let Some(weight) = tensors.get_mut(&format!("{layer}.weight")) else { continue };
        for (scale, variance) in weight.data.iter_mut().zip(variance) {
            let variance = f64::from(variance);
            *scale = (f64::from(*scale) * ((variance + EPSILON_V3) / (variance + EPSILON_OF_TIMM)).sqrt()) as f32;
        }
    }
}

/// Whose batch normalisation it is.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    V2,
    V3,
}

impl Style {
    /// The layer of an inverted residual that timm calls `layer`, where the block widens its input and has a gate.
    fn layer_of_timm(self, layer: &str, widens: bool, gated: bool) -> Option<String> {
        let depthwise = usize::from(widens);
        let narrow = depthwise + 1 + usize::from(gated);
        let narrowed = |convolution: bool| match (self, convolution) {
            (Style::V2, true) => format!("conv.{narrow}"),
            (Style::V2, false) => format!("conv.{}", narrow + 1),
            (Style::V3, true) => format!("block.{narrow}.0"),
            (Style::V3, false) => format!("block.{narrow}.1"),
        };
        let block = if self == Style::V2 { "conv" } else { "block" };
        Some(match (layer, widens) {
            ("conv_pw", true) => format!("{block}.0.0"),
            ("bn1", true) => format!("{block}.0.1"),
            ("conv_dw", _) => format!("{block}.{depthwise}.0"),
            ("bn2", true) | ("bn1", false) => format!("{block}.{depthwise}.1"),
            ("se.conv_reduce", _) => format!("{block}.{}.fc1", depthwise + 1),
            ("se.conv_expand", _) => format!("{block}.{}.fc2", depthwise + 1),
            ("conv_pwl", true) | ("conv_pw", false) => narrowed(true),
            ("bn3", true) | ("bn2", false) => narrowed(false),
            _ => return None,
        })
    }

    fn batch_norm(self, builder: &mut Builder, name: &str, c: usize, activation: Option<Activation>) -> BatchNorm2d {
        let layer = BatchNorm2d { activation, ..builder.batch_norm(name, c, false) };
        match self {
            Style::V2 => layer,
            Style::V3 => BatchNorm2d { epsilon: EPSILON_V3, momentum: 0.01, ..layer },
        }
    }

    fn stem(self, builder: &mut Builder, spec: &BackboneSpec, c: usize, activation: Activation) -> [Layer; 2] {
        let windows = Conv2d::square(3, 2, 1);
        let convolution = builder.convolution("features.0.0", spec.in_channels, c, windows);
        [convolution, Layer::BatchNorm2d(self.batch_norm(builder, "features.0.1", c, Some(activation)))]
    }

    /// 1x1 convolution and normalisation: module `module` of `name`, torchvision's `Conv2dNormActivation`.
    fn convolution(
        self,
        builder: &mut Builder,
        name: &str,
        module: usize,
        [c_in, c_out]: [usize; 2],
        activation: Option<Activation>,
    ) -> [Layer; 2] {
        let name = format!("{name}.{module}");
        let convolution = builder.convolution(&format!("{name}.0"), c_in, c_out, Conv2d::square(1, 1, 0));
        [convolution, Layer::BatchNorm2d(self.batch_norm(builder, &format!("{name}.1"), c_out, activation))]
    }

    /// The same of a depthwise convolution.
    fn depthwise(
        self,
        builder: &mut Builder,
        name: &str,
        module: usize,
        c: usize,
        windows: Conv2d,
        activation: Option<Activation>,
    ) -> [Layer; 2] {
        let name = format!("{name}.{module}");
        let convolution = builder.depthwise(&format!("{name}.0"), c, windows);
        [convolution, Layer::BatchNorm2d(self.batch_norm(builder, &format!("{name}.1"), c, activation))]
    }
}
