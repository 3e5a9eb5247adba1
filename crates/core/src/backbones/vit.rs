//! ViT (Dosovitskiy et al. 2021; tiny and small: Touvron et al. 2021, DeiT), as timm builds and names it.
//!
//! | part | layers |
//! | --- | --- |
//! | `patch_embed.proj` | 16x16 convolution of stride 16: the image as a map of patches |
//! | `cls_token`, `pos_embed` | the map row by row behind a class token, plus an embedding of each position |
//! | `blocks.0` to `blocks.11` | x + `attn`(`norm1`(x)), then x + `mlp`(`norm2`(x)) |
//! | `norm` | layer norm of the class token, which is the pooled feature |
//!
//! `attn` is a linear layer `qkv`, self-attention by heads and a linear layer `proj`; `mlp` is `fc1` to four times the channels,
//! GELU and `fc2` back. timm normalises every token and takes the class token then; the others change nothing there. Layer
//! norms have epsilon 1e-6.
//!
//! | | tiny | small |
//! | --- | --- | --- |
//! | heads of 64 channels | 3 | 6 |
//!
//! The form of CLIP (Radford et al. 2021; timm's `vit_*_patch16_clip_*`) has a layer norm `norm_pre` before the blocks, no bias in
//! `patch_embed.proj`, and epsilon 1e-5.
//!
//! `width` is the channels of a head, 64 in every published one; `stem` means nothing here. Sides of images are multiples of
//! 16. Started as timm starts it.

use std::collections::BTreeMap;

use super::{BackboneSpec, Body};
use crate::nn::backend::Activation;
use crate::nn::builder::Builder;
use crate::nn::geometry::Conv2d;
use crate::nn::layer::Layer;
use crate::tensor::HostTensor;

/// Height and width of a patch, which those of an image are multiples of.
pub(super) const PATCH: usize = 16;
/// Blocks, in either size.
const BLOCKS: usize = 12;
/// The channels between the two linear layers of a block, over those of a token.
const WIDER: usize = 4;

/// The two forms.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Plain,
    Clip,
}

/// The embeddings of the positions: the one parameter that depends on the size of the images.
const POSITIONS: &str = "pos_embed";

pub(super) fn tiny(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    body(builder, spec, 3, Form::Plain)
}

pub(super) fn small(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    body(builder, spec, 6, Form::Plain)
}

pub(super) fn tiny_clip(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    body(builder, spec, 3, Form::Clip)
}

pub(super) fn small_clip(builder: &mut Builder, spec: &BackboneSpec) -> Body {
    body(builder, spec, 6, Form::Clip)
}

/// The blocks are taps `blocks.0` to `blocks.11`: all tokens, `[n, t, 1, c]`.
fn body(builder: &mut Builder, spec: &BackboneSpec, heads: usize, form: Form) -> Body {
    let c = heads * spec.width;
    let epsilon = if form == Form::Clip { 1e-5 } else { 1e-6 };
    // Registered in the order of timm's state, in which the tokens come first.
    let tokens = builder.tokens(1 + grid(spec).pow(2), c);
    let patches = Conv2d::square(PATCH, PATCH, 0);
    let mut layers = match form {
        Form::Plain => vec![builder.convolution_with_bias("patch_embed.proj", spec.in_channels, c, patches), tokens],
        Form::Clip => vec![
            builder.convolution_uniform("patch_embed.proj", spec.in_channels, c, patches),
            tokens,
            builder.layer_norm("norm_pre", c, epsilon),
        ],
    };
    for block in 0..BLOCKS {
        let name = format!("blocks.{block}");
        layers.push(Layer::Sum(vec![
            builder.layer_norm(&format!("{name}.norm1"), c, epsilon),
            linear(builder, &format!("{name}.attn.qkv"), [c, 3 * c]),
            Layer::Attention { heads },
            linear(builder, &format!("{name}.attn.proj"), [c, c]),
        ]));
        layers.push(Layer::Sum(vec![
            builder.layer_norm(&format!("{name}.norm2"), c, epsilon),
            linear(builder, &format!("{name}.mlp.fc1"), [c, WIDER * c]),
            Layer::Activation(Activation::Gelu),
            linear(builder, &format!("{name}.mlp.fc2"), [WIDER * c, c]),
        ]));
        layers.push(Layer::Tap(name));
    }
    layers.extend([Layer::ClassToken, builder.layer_norm("norm", c, epsilon)]);
    Body { layers, pooled_size: c }
}

/// timm's start is a normal distribution cut off at 2, which is a hundred deviations.
fn linear(builder: &mut Builder, name: &str, [size_in, size_out]: [usize; 2]) -> Layer {
    builder.linear_normal(name, size_in, size_out, 0.02)
}

/// Patches along a side.
fn grid(spec: &BackboneSpec) -> usize {
    spec.image_size / PATCH
}

/// Weights for images of another size with their position embeddings resized, as timm does; `None` where there is nothing
/// to resize, or no square to begin with.
pub(super) fn resize_positions(
    spec: &BackboneSpec,
    tensors: &BTreeMap<String, HostTensor>,
) -> Option<BTreeMap<String, HostTensor>> {
    let HostTensor { shape, data } = tensors.get(POSITIONS)?;
    let &[1, count, c] = shape.as_slice() else { return None };
    let (from, to) = (count.checked_sub(1)?.isqrt(), grid(spec));
    if from == to || from == 0 || from * from + 1 != count || data.len() != count * c {
        return None;
    }
    let (class, patches) = data.split_at(c);
    let resized = class.iter().copied().chain(resize(patches, [from, to], c)).collect();
    let mut tensors = tensors.clone();
    tensors.insert(POSITIONS.to_string(), HostTensor { shape: vec![1, 1 + to * to, c], data: resized });
    Some(tensors)
}

/// A square map `[from, from, c]` as `[to, to, c]`, bicubic and antialiased: PyTorch's
/// `interpolate(mode="bicubic", antialias=True)`.
fn resize(map: &[f32], [from, to]: [usize; 2], c: usize) -> Vec<f32> {
    let windows: Vec<_> = (0..to).map(|place| window(place, [from, to])).collect();
    // Along the columns, then along the rows.
    let mut wide = vec![0.0; from * to * c];
    for (row, out) in map.chunks_exact(from * c).zip(wide.chunks_exact_mut(to * c)) {
        for ((first, weights), out) in windows.iter().zip(out.chunks_exact_mut(c)) {
            for (weight, x) in weights.iter().zip(row[first * c..].chunks_exact(c)) {
                out.iter_mut().zip(x).for_each(|(out, &x)| *out += weight * f64::from(x));
            }
        }
    }
    let mut resized = vec![0.0; to * to * c];
    for ((first, weights), out) in windows.iter().zip(resized.chunks_exact_mut(to * c)) {
        for (weight, row) in weights.iter().zip(wide[first * to * c..].chunks_exact(to * c)) {
            out.iter_mut().zip(row).for_each(|(out, x)| *out += weight * x);
        }
    }
    resized.into_iter().map(|value| value as f32).collect()
}

/// The first place that an output reads, and the weights from there on.
fn window(place: usize, [from, to]: [usize; 2]) -> (usize, Vec<f64>) {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let (centre, reach) = ((place as f64 + 0.5) * scale, 2.0 * stretch);
    let first = (centre - reach + 0.5).max(0.0) as usize;
    let end = ((centre + reach + 0.5) as usize).min(from);
    let weights: Vec<f64> = (first..end).map(|x| cubic((x as f64 + 0.5 - centre) / stretch)).collect();
    let sum: f64 = weights.iter().sum();
    (first, weights.into_iter().map(|weight| weight / sum).collect())
}

/// Keys' cubic kernel with a = -0.5, as Pillow has it.
fn cubic(x: f64) -> f64 {
    let x = x.abs();
    match x {
        _ if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        _ if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbones::{adapt, define};

    fn spec(image_size: usize) -> BackboneSpec {
        BackboneSpec::published("vit-tiny", image_size)
    }

    #[test]
    fn names_and_shapes_come_in_the_order_of_timms_state() {
        let parameters = define(&spec(96)).unwrap().parameters;
        let found: Vec<(&str, &[usize])> =
            parameters.iter().take(6).map(|parameter| (&parameter.name[..], &parameter.shape[..])).collect();
        let expected: [(&str, &[usize]); 6] = [
            ("cls_token", &[1, 1, 192]),
            ("pos_embed", &[1, 37, 192]),
            ("patch_embed.proj.weight", &[192, 3, 16, 16]),
            ("patch_embed.proj.bias", &[192]),
            ("blocks.0.norm1.weight", &[192]),
            ("blocks.0.norm1.bias", &[192]),
        ];
        assert_eq!(found, expected);
        assert_eq!(parameters.last().unwrap().name, "norm.bias");
        assert_eq!(define(&spec(224)).unwrap().parameters[1].shape, [1, 197, 192]);
    }

    #[test]
    fn positions_are_resized_as_timm_does() {
        // timm's `resample_abs_pos_embed` of the same numbers.
        let table: [(usize, usize, &[f32]); 3] = [
            (3, 2, &[-1.25, 0.247_592, -0.270_064, 0.592_697, 0.07504]),
            (
                7,
                3,
                &[
                    -1.25, 0.193_097, -0.136_917, 0.006_683, 0.065_679, -0.061_699, 0.109_644, -0.110_781, -0.054_053,
                    0.211_811,
                ],
            ),
            (
                2,
                5,
                &[
                    -1.25, -0.274_764, -0.110_157, 0.324_292, 0.758_742, 0.923_349, -0.398_219, -0.233_612, 0.200_837,
                    0.635_287, 0.799_894, -0.724_057, -0.55945, -0.125, 0.30945, 0.474_057, -1.049_894, -0.885_287,
                    -0.450_837, -0.016_388, 0.148_219, -1.173_349, -1.008_742, -0.574_293, -0.139_843, 0.024_764,
                ],
            ),
        ];
        for (from, to, expected) in table {
            let data: Vec<f32> = (0..1 + from * from).map(|i| ((i * 37 % 11) as f32 - 5.0) / 4.0).collect();
            let file = BTreeMap::from([(POSITIONS.to_string(), HostTensor { shape: vec![1, data.len(), 1], data })]);
            let adapted = adapt(&spec(PATCH * to), &file);
            assert_eq!(adapted[POSITIONS].shape, [1, 1 + to * to, 1]);
            for (found, expected) in adapted[POSITIONS].data.iter().zip(expected) {
                assert!((found - expected).abs() < 2e-6, "{from} to {to}: {found}, expected {expected}");
            }
            assert_eq!(*adapt(&spec(PATCH * from), &file), file, "of one size nothing changes");
        }
        // Twelve positions are no square behind a class token: the error is that of names and shapes.
        let odd = HostTensor { shape: vec![1, 12, 1], data: vec![0.0; 12] };
        let odd = BTreeMap::from([(POSITIONS.to_string(), odd)]);
        assert_eq!(*adapt(&spec(96), &odd), odd);
    }
}
