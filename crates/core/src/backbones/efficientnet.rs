//! EfficientNet-B0 (Tan and Le 2019) and EfficientNet-Lite0 to Lite4 (Liu 2020), in timm's names.
//!
//! | stage | block | channels | blocks | stride |
//! | --- | --- | --- | --- | --- |
//! | conv_stem | 3x3 | 32 | | 2 |
//! | blocks.0 | depthwise 3x3, 1x1 | 16 | 1 | 1 |
//! | blocks.1 | inverted residual, 3x3 | 24 | 2 | 2 |
//! | blocks.2 | inverted residual, 5x5 | 40 | 2 | 2 |
//! | blocks.3 | inverted residual, 3x3 | 80 | 3 | 2 |
//! | blocks.4 | inverted residual, 5x5 | 112 | 3 | 1 |
//! | blocks.5 | inverted residual, 5x5 | 192 | 4 | 2 |
//! | blocks.6 | inverted residual, 3x3 | 320 | 1 | 1 |
//! | conv_head | 1x1 | 1280 | | 1 |
//! | pool | mean over pixels | | | |
//!
//! An inverted residual (Sandler et al. 2018) widens its input six times by a 1x1 convolution, filters each channel on
//! its own, and narrows to its output, which nothing follows but the sum with the input where both have one shape. Every
//! convolution has a batch norm; all but the narrowing ones have an activation.
//!
//! | | B0 | Lite |
//! | --- | --- | --- |
//! | timm's name | `efficientnet_b0` | `tf_efficientnet_lite0` to `4` |
//! | activation | SiLU | ReLU6 |
//! | after the depthwise convolution | squeeze and excitation: a quarter of the block's input channels, sigmoid gate | nothing |
//! | padding | symmetric, PyTorch's | TensorFlow's "same": at stride 2 an even side has its odd zero below and to the right |
//! | batch norm's epsilon, momentum | 1e-5, 0.1: PyTorch's | 0.001, 0.01: TensorFlow's |
//!
//! Lite1 to Lite4 have more channels and blocks by two factors (`SCALES`), channels in multiples of 8; the stem, the
//! head, and the count of blocks of the first and last stage stay. The channels above belong to width 64, and all grow
//! with it. Started as TensorFlow and timm start it (He et al. 2015, fan-out).
//!
//! Weights of timm's `efficientnet_lite0` (without `tf_`) have the same names but belong to symmetric padding and an
//! epsilon of 1e-5, and those of `tf_efficientnet_b0` the other way round: they can be read, and are a start rather than the
//! same network.

use std::collections::BTreeMap;

use super::Body;
use super::mobile::{multiple_of_8, squeeze_excitation, with_shortcut};
use crate::backbones::BackboneSpec;
use crate::nn::backend::Activation;
use crate::nn::builder::Builder;
use crate::nn::geometry::Conv2d;
use crate::nn::layer::{BatchNorm2d, Layer};
use crate::tensor::HostTensor;

/// The stages: kernel, stride, channels, blocks.
const STAGES: [[usize; 4]; 7] =
    [[3, 1, 16, 1], [3, 2, 24, 2], [5, 2, 40, 2], [3, 2, 80, 3], [5, 1, 112, 3], [5, 2, 192, 4], [3, 1, 320, 1]];

/// Factors on channels and on blocks, of Lite0 to Lite4.
const SCALES: [[f64; 2]; 5] = [[1.0, 1.0], [1.0, 1.1], [1.1, 1.2], [1.2, 1.4], [1.4, 1.8]];

/// How often an inverted residual widens its input.
const EXPANSION: usize = 6;

/// What differs between the networks of this file, as the head's second table has it.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    B0,
    Lite,
}

pub(super) fn b0(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    body(builder, spec, Form::B0, [1.0, 1.0])
}

pub(super) fn lite0(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    body(builder, spec, Form::Lite, SCALES[0])
}

pub(super) fn lite1(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    body(builder, spec, Form::Lite, SCALES[1])
}

pub(super) fn lite2(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    body(builder, spec, Form::Lite, SCALES[2])
}

pub(super) fn lite3(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    body(builder, spec, Form::Lite, SCALES[3])
}

pub(super) fn lite4(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    body(builder, spec, Form::Lite, SCALES[4])
}

/// The stages are taps `blocks.0` to `blocks.6`.
fn body(builder: &mut Builder, spec: &BackboneSpec, form: Form, [wider, deeper]: [f64; 2]) -> Body {
    let width = spec.width as f64 / 64.0;
    let (stem, head) = (multiple_of_8(32.0 * width), multiple_of_8(1280.0 * width));
    let mut layers = vec![
        builder.convolution("conv_stem", spec.in_channels, stem, form.windows(3, 2, spec.image_size)),
        form.normalization(builder, "bn1", stem),
    ];
    let (mut side, mut channels) = (spec.image_size.div_ceil(2), stem);
    for (stage, [kernel, stride, c, count]) in STAGES.into_iter().enumerate() {
        let outputs = multiple_of_8(c as f64 * width * wider);
        let fixed = stage == 0 || stage == STAGES.len() - 1;
        let count = if fixed { count } else { (count as f64 * deeper).ceil() as usize };
        for index in 0..count {
            let (name, stride) = (format!("blocks.{stage}.{index}"), if index == 0 { stride } else { 1 });
            let windows = form.windows(kernel, stride, side);
            match stage {
                0 => layers.extend(separable(builder, &name, form, [channels, outputs], windows)),
                _ => layers.extend(inverted_residual(builder, &name, form, [channels, outputs], windows)),
            }
            (side, channels) = (side.div_ceil(stride), outputs);
        }
        layers.push(Layer::Tap(format!("blocks.{stage}")));
    }
    layers.push(builder.convolution("conv_head", channels, head, Conv2d::square(1, 1, 0)));
    layers.push(form.normalization(builder, "bn2", head));
    layers.push(Layer::GlobalAverage);
    Body { layers, pooled_size: head }
}

/// Depthwise, then 1x1. With as many channels out as in and a stride of 1 the input is added.
fn separable(builder: &mut Builder, name: &str, form: Form, [c_in, c_out]: [usize; 2], windows: Conv2d) -> Vec<Layer> {
    let mut layers = vec![
        builder.depthwise(&format!("{name}.conv_dw"), c_in, windows),
        form.normalization(builder, &format!("{name}.bn1"), c_in),
    ];
    layers.extend(form.gate(builder, name, [c_in, c_in]));
    layers.push(builder.convolution(&format!("{name}.conv_pw"), c_in, c_out, Conv2d::square(1, 1, 0)));
    let last = form.batch_norm(builder, &format!("{name}.bn2"), c_out, None);
    with_shortcut(layers, last, c_in == c_out && windows.stride == [1, 1])
}

/// 1x1 up, depthwise, 1x1 down.
fn inverted_residual(
    builder: &mut Builder,
    name: &str,
    form: Form,
    [c_in, c_out]: [usize; 2],
    windows: Conv2d,
) -> Vec<Layer> {
    let inner = EXPANSION * c_in;
    let mut layers = vec![
        builder.convolution(&format!("{name}.conv_pw"), c_in, inner, Conv2d::square(1, 1, 0)),
        form.normalization(builder, &format!("{name}.bn1"), inner),
        builder.depthwise(&format!("{name}.conv_dw"), inner, windows),
        form.normalization(builder, &format!("{name}.bn2"), inner),
    ];
    layers.extend(form.gate(builder, name, [c_in, inner]));
    layers.push(builder.convolution(&format!("{name}.conv_pwl"), inner, c_out, Conv2d::square(1, 1, 0)));
    let last = form.batch_norm(builder, &format!("{name}.bn3"), c_out, None);
    with_shortcut(layers, last, c_in == c_out && windows.stride == [1, 1])
}

impl Form {
    fn activation(self) -> Activation {
        match self {
            Form::B0 => Activation::Silu,
            Form::Lite => Activation::Relu6,
        }
    }

    /// A square kernel, padded so that a stride of 1 keeps the side.
    fn windows(self, kernel: usize, stride: usize, side: usize) -> Conv2d {
        match self {
            Form::B0 => Conv2d::square(kernel, stride, kernel / 2),
            Form::Lite => Conv2d::same(kernel, stride, side),
        }
    }

    fn normalization(self, builder: &mut Builder, name: &str, c: usize) -> Layer {
        Layer::BatchNorm2d(self.batch_norm(builder, name, c, Some(self.activation())))
    }

    fn batch_norm(self, builder: &mut Builder, name: &str, c: usize, activation: Option<Activation>) -> BatchNorm2d {
        let layer = BatchNorm2d { activation, ..builder.batch_norm(name, c, false) };
        match self {
            Form::B0 => layer,
            Form::Lite => BatchNorm2d { epsilon: 1e-3, momentum: 0.01, ..layer },
        }
    }

    /// Squeeze and excitation of the inner channels of a block with so many inputs, where there is any.
    fn gate(self, builder: &mut Builder, name: &str, [c_in, inner]: [usize; 2]) -> Option<Layer> {
        let names = [format!("{name}.se.conv_reduce"), format!("{name}.se.conv_expand")];
        let activations = [self.activation(), Activation::Sigmoid];
        (self == Form::B0).then(|| squeeze_excitation(builder, names, [inner, c_in / 4], activations))
    }
}

/// Weights under the names of the PyPI package `efficientnet-lite-pytorch` (`_conv_stem`, `_blocks.5._project_conv`)
/// under timm's; `None` where there are none. `parameters` are the names of the network they are for.
pub(super) fn rename<'a>(
    parameters: impl Iterator<Item = &'a str>,
    tensors: &BTreeMap<String, HostTensor>,
) -> Option<BTreeMap<String, HostTensor>> {
    tensors.keys().find(|name| name.starts_with("_blocks."))?;
    // Blocks are counted through all stages there: the prefixes `blocks.1.0` in their order.
    let mut blocks: Vec<&str> = parameters.filter_map(|name| name.rsplitn(3, '.').nth(2)).collect();
    blocks.retain(|block| block.starts_with("blocks."));
    blocks.dedup();
    let renamed = |name: &str| {
        let renamed = match name.split('.').collect::<Vec<_>>()[..] {
            ["_conv_stem", end] => format!("conv_stem.{end}"),
            ["_bn0", end] => format!("bn1.{end}"),
            ["_conv_head", end] => format!("conv_head.{end}"),
            ["_bn1", end] => format!("bn2.{end}"),
            ["_fc", end] => format!("fc.{end}"),
            ["_blocks", index, layer, end] => {
                let (index, block) = index.parse().ok().and_then(|i: usize| Some((i, *blocks.get(i)?)))?;
                // The first block widens nothing, so its layers have other numbers.
                let layer = match (layer, index) {
                    ("_expand_conv", _) => "conv_pw",
                    ("_depthwise_conv", _) => "conv_dw",
                    ("_project_conv", 0) => "conv_pw",
                    ("_project_conv", _) => "conv_pwl",
                    ("_bn0", _) => "bn1",
                    ("_bn1", 0) => "bn1",
                    ("_bn1", _) => "bn2",
                    ("_bn2", 0) => "bn2",
                    ("_bn2", _) => "bn3",
                    _ => return None,
                };
                format!("{block}.{layer}.{end}")
            }
            _ => return None,
        };
        Some(renamed)
    };
    let entry =
        |(name, tensor): (&String, &HostTensor)| (renamed(name).unwrap_or_else(|| name.clone()), tensor.clone());
    Some(tensors.iter().map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbones::{adapt, define};

    fn spec(size: usize, width: usize) -> BackboneSpec {
        BackboneSpec { width, ..BackboneSpec::published(format!("efficientnet-lite{size}"), 224) }
    }

    fn shapes(spec: &BackboneSpec) -> BTreeMap<String, Vec<usize>> {
        define(spec).unwrap().parameters.into_iter().map(|parameter| (parameter.name, parameter.shape)).collect()
    }

    #[test]
    fn channels_and_blocks_grow_as_tensorflow_rounds_them() {
        let lite2 = shapes(&spec(2, 64));
        assert_eq!(lite2["blocks.4.0.conv_pwl.weight"], [120, 528, 1, 1], "112 * 1.1 is nearest to 120");
        assert!(lite2.contains_key("blocks.5.4.bn3.bias") && !lite2.contains_key("blocks.5.5.bn3.bias"), "4 * 1.2");
        assert_eq!(lite2["conv_stem.weight"], [32, 3, 3, 3], "stem and head stay");
        assert_eq!(lite2["conv_head.weight"], [1280, 352, 1, 1]);
        let half = shapes(&spec(0, 32));
        assert_eq!(half["conv_stem.weight"], [16, 3, 3, 3]);
        assert_eq!(half["blocks.1.0.conv_dw.weight"], [48, 1, 3, 3]);
        assert_eq!(half["conv_head.weight"], [640, 160, 1, 1]);
    }

    #[test]
    fn b0_has_gates_of_a_quarter_of_the_inputs() {
        let b0 = shapes(&BackboneSpec { kind: "efficientnet-b0".into(), ..spec(0, 64) });
        assert_eq!(b0["blocks.0.0.se.conv_reduce.weight"], [8, 32, 1, 1]);
        assert_eq!(b0["blocks.1.0.se.conv_reduce.weight"], [4, 96, 1, 1]);
        assert_eq!(b0["blocks.6.0.se.conv_expand.weight"], [1152, 48, 1, 1]);
        assert_eq!(b0["blocks.6.0.se.conv_expand.bias"], [1152]);
    }

    #[test]
    fn names_of_the_pypi_files_become_those_of_timm() {
        let table = [
            ("_conv_stem.weight", "conv_stem.weight"),
            ("_bn0.running_var", "bn1.running_var"),
            ("_blocks.0._depthwise_conv.weight", "blocks.0.0.conv_dw.weight"),
            ("_blocks.0._bn1.bias", "blocks.0.0.bn1.bias"),
            ("_blocks.0._project_conv.weight", "blocks.0.0.conv_pw.weight"),
            ("_blocks.0._bn2.bias", "blocks.0.0.bn2.bias"),
            ("_blocks.4._expand_conv.weight", "blocks.2.1.conv_pw.weight"),
            ("_blocks.4._bn0.weight", "blocks.2.1.bn1.weight"),
            ("_blocks.4._bn1.weight", "blocks.2.1.bn2.weight"),
            ("_blocks.15._project_conv.weight", "blocks.6.0.conv_pwl.weight"),
            ("_blocks.15._bn2.running_mean", "blocks.6.0.bn3.running_mean"),
            ("_conv_head.weight", "conv_head.weight"),
            ("_bn1.bias", "bn2.bias"),
            ("_fc.weight", "fc.weight"),
            // What no such network has keeps its name, so that an error can tell it.
            ("_blocks.16._bn2.bias", "_blocks.16._bn2.bias"),
            ("_blocks.1._se_reduce.bias", "_blocks.1._se_reduce.bias"),
        ];
        let tensor = |value: usize| HostTensor { shape: vec![1], data: vec![value as f32] };
        let file: BTreeMap<_, _> =
            table.iter().enumerate().map(|(i, (name, _))| (name.to_string(), tensor(i))).collect();
        let adapted = adapt(&spec(0, 64), &file).into_owned();
        assert_eq!(adapted.len(), table.len());
        for (i, (name, expected)) in table.into_iter().enumerate() {
            assert_eq!(adapted.get(expected), Some(&tensor(i)), "{name}");
        }
        let own = BTreeMap::from([("blocks.0.0.bn1.bias".to_string(), tensor(1))]);
        assert_eq!(*adapt(&spec(0, 64), &own), own);
    }
}
