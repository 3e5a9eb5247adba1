//! The networks: lists of layers that read like the papers' tables.
//!
//! [`define`] turns a [`BackboneSpec`] into a [`Definition`], [`build`] into a network that is ready to train. A new network is one file with a function that returns
//! its `Body`, and one line in `KINDS`.

mod conv4;
mod efficientnet;
mod googlenet;
mod mlp;
mod mobile;
mod mobilenet;
mod resnet;
mod spec;
mod vgg;
mod vit;

pub use spec::{BackboneSpec, Stem};

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::error::{Code, Error, Result};
use crate::nn::builder::Builder;
use crate::nn::layer::{Definition, Layer};
use crate::nn::parameters::ParameterSpec;
use crate::nn::{Backend, Network};
use crate::spelling;
use crate::tensor::HostTensor;

/// The part of a network that is its own: images to the pooled feature.
struct Body {
    layers: Vec<Layer>,
    /// Length of the pooled feature.
    pooled_size: usize,
}

/// An architecture: its name in plans, the smallest image it takes, and its table.
struct Kind {
    name: &'static str,
    smallest_image: fn(&BackboneSpec) -> usize,
    body: fn(&mut Builder, &BackboneSpec) -> Body,
}

const KINDS: &[Kind] = &[
    Kind { name: "conv4", smallest_image: |_| conv4::SMALLEST_IMAGE, body: conv4::body },
    Kind { name: "resnet18", smallest_image: resnet::smallest_image, body: resnet::body18 },
    Kind { name: "resnet34", smallest_image: resnet::smallest_image, body: resnet::body34 },
    Kind { name: "resnet50", smallest_image: resnet::smallest_image, body: resnet::body50 },
    Kind { name: "resnet101", smallest_image: resnet::smallest_image, body: resnet::body101 },
    Kind { name: "vgg11", smallest_image: |_| vgg::SMALLEST_IMAGE, body: vgg::body11 },
    Kind { name: "vgg13", smallest_image: |_| vgg::SMALLEST_IMAGE, body: vgg::body13 },
    Kind { name: "vgg16", smallest_image: |_| vgg::SMALLEST_IMAGE, body: vgg::body16 },
    Kind { name: "googlenet", smallest_image: googlenet::smallest_image, body: googlenet::body },
    mobile("mobilenet-v2", mobilenet::v2),
    mobile("mobilenet-v3-small", mobilenet::v3_small),
    mobile("mobilenet-v3-large", mobilenet::v3_large),
    mobile("efficientnet-b0", efficientnet::b0),
    mobile("efficientnet-lite0", efficientnet::lite0),
    mobile("efficientnet-lite1", efficientnet::lite1),
    mobile("efficientnet-lite2", efficientnet::lite2),
    mobile("efficientnet-lite3", efficientnet::lite3),
    mobile("efficientnet-lite4", efficientnet::lite4),
    Kind { name: "vit-tiny", smallest_image: |_| vit::PATCH, body: vit::tiny },
    Kind { name: "vit-small", smallest_image: |_| vit::PATCH, body: vit::small },
    Kind { name: "vit-tiny-clip", smallest_image: |_| vit::PATCH, body: vit::tiny_clip },
    Kind { name: "vit-small-clip", smallest_image: |_| vit::PATCH, body: vit::small_clip },
    Kind { name: "mlp", smallest_image: |_| mlp::SMALLEST_IMAGE, body: mlp::body },
];

/// A MobileNet or an EfficientNet; all of them take the same images.
const fn mobile(name: &'static str, body: fn(&mut Builder, &BackboneSpec) -> Body) -> Kind {
    Kind { name, smallest_image: |_| mobile::SMALLEST_IMAGE, body }
}

/// The names that [`BackboneSpec::kind`] takes.
pub fn kinds() -> Vec<&'static str> {
    KINDS.iter().map(|kind| kind.name).collect()
}

/// A network before training; its start belongs to `seed`. The errors are those of [`define`].
pub fn build<B: Backend>(backend: B, spec: &BackboneSpec, seed: u64) -> Result<Network<B>> {
    Network::new(backend, define(spec)?, seed)
}

/// The layers and parameters of a network.
///
/// Above the body every network is alike: a linear layer `fc` to the embedding (if its length is given), a linear layer
/// `classifier` from the embedding to the logits (if classes are given), and the L2 normalisation of the embedding (if
/// asked for), which the logits do not see.
///
/// # Errors
///
/// `ERR_INVALID_OPTION` for an unknown kind (with a suggestion), a width, embedding or channel count of 0, fewer than
/// two classes, an image too small for the network, and numbers that are too large for any machine.
pub fn define(spec: &BackboneSpec) -> Result<Definition> {
    let kind = find(&spec.kind)?;
    check(spec, kind)?;
    let mut builder = Builder::new();
    let body = (kind.body)(&mut builder, spec);
    let embedding = spec.embedding.map(|size| builder.linear("fc", body.pooled_size, size));
    let embedding_size = spec.embedding.unwrap_or(body.pooled_size);
    let classifier = spec.classes.map(|classes| builder.linear("classifier", embedding_size, classes));
    let parameters = builder.finish();
    check_parameters(spec, &parameters)?;
    Ok(Definition {
        body: body.layers,
        embedding: embedding.into_iter().collect(),
        classifier: classifier.into_iter().collect(),
        output: if spec.normalize { vec![Layer::L2Normalize] } else { Vec::new() },
        parameters,
        image_size: spec.image_size,
        in_channels: spec.in_channels,
        pooled_size: body.pooled_size,
        embedding_size,
    })
}

/// Weights of other programs in the form that a network of `spec` has. Of torchvision's VGG the first linear layer, made
/// for maps of 7x7 places, is folded with the average that torchvision puts before it; the outputs are the same. Those of
/// the PyPI package `efficientnet-lite-pytorch` get timm's names, timm's MobileNets torchvision's. Of a ViT for images of
/// another size the embeddings of positions are resized. All else stays.
pub fn adapt<'a>(
    spec: &BackboneSpec,
    tensors: &'a BTreeMap<String, HostTensor>,
) -> Cow<'a, BTreeMap<String, HostTensor>> {
    if spec.kind.starts_with("efficientnet-lite") {
        let names = define(spec).map(|definition| definition.parameters).unwrap_or_default();
        let renamed = efficientnet::rename(names.iter().map(|parameter| parameter.name.as_str()), tensors);
        return renamed.map_or(Cow::Borrowed(tensors), Cow::Owned);
    }
    if spec.kind.starts_with("mobilenet-") {
        return mobilenet::of_timm(&spec.kind, tensors).map_or(Cow::Borrowed(tensors), Cow::Owned);
    }
    if is_vit(&spec.kind) {
        return vit::resize_positions(spec, tensors).map_or(Cow::Borrowed(tensors), Cow::Owned);
    }
    let name = vgg::FIRST_LINEAR;
    match tensors.get(name).filter(|_| spec.kind.starts_with("vgg")).and_then(|weight| vgg::fold_average(spec, weight))
    {
        None => Cow::Borrowed(tensors),
        Some(folded) => {
            let mut tensors = tensors.clone();
            tensors.insert(name.to_string(), folded);
            Cow::Owned(tensors)
        }
    }
}

/// Whether networks of this kind are ViTs.
pub(crate) fn is_vit(kind: &str) -> bool {
    kind.starts_with("vit-")
}

/// What the height and width of the images that a network of this kind takes are multiples of.
pub fn image_step(kind: &str) -> usize {
    if is_vit(kind) { vit::PATCH } else { 1 }
}

fn find(name: &str) -> Result<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name).ok_or_else(|| {
        let nearest = spelling::nearest(name, KINDS.iter().map(|kind| kind.name), 1);
        let advice = match nearest.first().filter(|kind| spelling::distance(kind, name) <= 3) {
            Some(kind) => format!("did you mean {kind:?}?"),
            None => "choose one of these".to_string(),
        };
        Error::new(Code::InvalidOption, "there is no such network")
            .with_subject("backbone")
            .with_values(format!("one of {}", kinds().join(", ")), format!("{name:?}"))
            .with_advice(advice)
    })
}

/// The largest value of any option: far beyond use, and small enough that no product of them overflows.
const LARGEST: usize = 1 << 16;

/// The largest number of parameters: 8 GiB of weights, and three times that with gradients and an optimiser's state.
const MOST_PARAMETERS: usize = 1 << 31;

fn check(spec: &BackboneSpec, kind: &Kind) -> Result<()> {
    let smallest = (kind.smallest_image)(spec);
    let between = |option: &str, lowest: usize, value: usize, advice: &str| match (lowest..=LARGEST).contains(&value) {
        true => Ok(()),
        false => Err(Error::new(Code::InvalidOption, format!("{} cannot be built like this", kind.name))
            .with_subject(option)
            .with_values(format!("at least {lowest} and at most {LARGEST}"), value.to_string())
            .with_advice(advice)),
    };
    between("width", 1, spec.width, "64 is the published width")?;
    if (kind.name == "mlp") == spec.hidden.is_empty() {
        return Err(Error::new(Code::InvalidOption, format!("{} cannot be built like this", kind.name))
            .with_subject("hidden")
            .with_values("one width or more for an mlp, none for other networks", format!("{:?}", spec.hidden))
            .with_advice("give the widths of an mlp's hidden layers, [256, 256] for example"));
    }
    for &hidden in &spec.hidden {
        between("hidden", 1, hidden, "256 is a usual width")?;
    }
    between("inChannels", 1, spec.in_channels, "1 is grey, 3 is RGB")?;
    between("embedding", 1, spec.embedding.unwrap_or(1), "leave it out to use the pooled feature itself")?;
    between("classes", 2, spec.classes.unwrap_or(2), "leave it out for a network without classifier")?;
    between("imageSize", smallest, spec.image_size, "use larger images, or a network that reduces them less")?;
    let step = image_step(kind.name);
    if spec.image_size.is_multiple_of(step) {
        return Ok(());
    }
    let below = spec.image_size / step * step;
    Err(Error::new(Code::InvalidOption, format!("{} cannot be built like this", kind.name))
        .with_subject("imageSize")
        .with_values(format!("a multiple of {step}, the side of a patch"), spec.image_size.to_string())
        .with_advice(format!("choose {below} or {} for data.imageSize", below + step)))
}

fn check_parameters(spec: &BackboneSpec, parameters: &[ParameterSpec]) -> Result<()> {
    let count = parameters.iter().map(ParameterSpec::count).fold(0, usize::saturating_add);
    if count <= MOST_PARAMETERS {
        return Ok(());
    }
    Err(Error::new(Code::InvalidOption, format!("the network would have {count} parameters"))
        .with_subject("width")
        .with_values(format!("at most {MOST_PARAMETERS} parameters"), format!("width {}", spec.width))
        .with_advice("choose a smaller width, embedding or image size"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kind: &str) -> BackboneSpec {
        BackboneSpec {
            hidden: if kind == "mlp" { vec![32, 16] } else { Vec::new() },
            embedding: Some(1000),
            ..BackboneSpec::published(kind, 224)
        }
    }

    fn count(definition: &Definition) -> usize {
        definition.parameters.iter().filter(|p| p.is_trained()).map(|p| p.count()).sum()
    }

    #[test]
    fn parameter_counts_are_those_of_torchvision_and_timm() {
        let table = [
            ("resnet18", 11_689_512),
            ("resnet34", 21_797_672),
            ("resnet50", 25_557_032),
            ("resnet101", 44_549_160),
            ("vgg11", 132_868_840),
            ("vgg13", 133_053_736),
            ("vgg16", 138_365_992),
            ("googlenet", 6_624_904),
            ("mobilenet-v2", 3_504_872),
            ("mobilenet-v3-small", 2_542_856),
            ("mobilenet-v3-large", 5_483_032),
            ("efficientnet-b0", 5_288_548),
            ("efficientnet-lite0", 4_652_008),
            ("efficientnet-lite1", 5_416_680),
            ("efficientnet-lite2", 6_092_072),
            ("efficientnet-lite3", 8_197_096),
            ("efficientnet-lite4", 13_006_568),
            ("vit-tiny", 5_717_416),
            ("vit-small", 22_050_664),
            ("vit-tiny-clip", 5_717_608),
            ("vit-small-clip", 22_051_048),
        ];
        for (kind, expected) in table {
            assert_eq!(count(&define(&spec(kind)).unwrap()), expected, "{kind}");
        }
    }

    #[test]
    fn names_come_in_the_order_of_a_state_dict() {
        let names: Vec<String> = define(&spec("resnet18")).unwrap().parameters.into_iter().map(|p| p.name).collect();
        assert_eq!(names.len(), 122);
        assert_eq!(names[0], "conv1.weight");
        assert_eq!(
            names[1..6],
            ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"].map(|n| format!("bn1.{n}"))
        );
        let at = |name: &str| names.iter().position(|n| n == name).unwrap();
        assert!(at("layer2.0.bn2.weight") < at("layer2.0.downsample.0.weight"));
        assert_eq!(names[121], "fc.bias");
    }

    #[test]
    fn heads_have_the_lengths_asked_for() {
        let conv4 = BackboneSpec { image_size: 28, width: 16, embedding: None, classes: Some(5), ..spec("conv4") };
        let definition = define(&conv4).unwrap();
        assert_eq!((definition.pooled_size, definition.embedding_size), (16, 16));
        assert_eq!(definition.parameters.last().unwrap().name, "classifier.bias");
        assert_eq!(definition.parameters.last().unwrap().shape, [5]);
    }

    #[test]
    fn every_bad_option_is_named() {
        let good = spec("conv4");
        let table = [
            (BackboneSpec { kind: "restnet18".into(), ..good.clone() }, "backbone", "Did you mean \"resnet18\"?"),
            (BackboneSpec { kind: "transformer".into(), ..good.clone() }, "backbone", "Choose one of these"),
            (BackboneSpec { width: 0, ..good.clone() }, "width", "at least 1"),
            (BackboneSpec { in_channels: 0, ..good.clone() }, "inChannels", "at least 1"),
            (BackboneSpec { hidden: vec![8], ..good.clone() }, "hidden", "none for other networks"),
            (BackboneSpec { hidden: vec![], ..spec("mlp") }, "hidden", "one width or more"),
            (BackboneSpec { hidden: vec![8, 0], ..spec("mlp") }, "hidden", "at least 1"),
            (
                BackboneSpec { hidden: vec![1 << 16], image_size: 1 << 16, in_channels: 1 << 16, ..spec("mlp") },
                "width",
                "parameters",
            ),
            (BackboneSpec { embedding: Some(0), ..good.clone() }, "embedding", "at least 1"),
            (BackboneSpec { classes: Some(1), ..good.clone() }, "classes", "at least 2"),
            (
                BackboneSpec { image_size: 15, ..good.clone() },
                "imageSize",
                "at least 16 and at most 65536, received 15",
            ),
            (BackboneSpec { image_size: 215, ..spec("vit-tiny") }, "imageSize", "Choose 208 or 224"),
            (BackboneSpec { width: usize::MAX, ..good.clone() }, "width", "64 is the published width"),
            (BackboneSpec { kind: "resnet50".into(), width: 1 << 16, ..good.clone() }, "width", "parameters"),
            (
                BackboneSpec { image_size: 1 << 16, width: 1 << 16, embedding: Some(1 << 16), ..good.clone() },
                "width",
                "parameters",
            ),
        ];
        for (bad, subject, part) in table {
            let error = define(&bad).unwrap_err();
            assert_eq!((error.code, error.subject.as_deref()), (Code::InvalidOption, Some(subject)));
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
