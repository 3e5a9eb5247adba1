//! The files that stand beside exported weights, so that other programs know what they are.
//!
//! | file | who reads it |
//! | --- | --- |
//! | `config.json` | transformers.js, timm |
//! | `preprocessor_config.json` | transformers.js; rkd, for a model that is a teacher |
//!
//! transformers.js takes `model_type` for the class to make, and has none of its own for most networks here: a "resnet" is what
//! it calls any image encoder that takes `pixel_values` and gives a vector.

use serde_json::{Value, json};

use super::network::{channels, normalization};
use super::{Dtype, ExportInput};
use crate::artefact::model::{Model, ModelCard};
use crate::data::Normalization;
use crate::error::{Code, Error, Result};
use crate::tensor::HostTensor;

/// Pillow's number for the Lanczos filter.
const LANCZOS: u32 = 1;

/// `preprocessor_config.json`: short side to the model's size by the Lanczos filter, centre square, `(v / 255 - mean) / std`.
pub fn preprocessor(model: &Model, input: ExportInput) -> Value {
    let side = model.card.backbone.image_size;
    let Normalization { mean, std } = normalization(model);
    let floats = input == ExportInput::Floats;
    let mut config = json!({
        "image_processor_type": "ImageProcessor",
        "do_convert_rgb": true,
        "do_resize": true,
        "size": { "shortest_edge": side },
        "resample": LANCZOS,
        "do_center_crop": true,
        "crop_size": { "width": side, "height": side },
        "do_rescale": floats,
        "do_normalize": floats,
    });
    if floats {
        config["rescale_factor"] = json!(1.0 / 255.0);
        config["image_mean"] = json!(mean);
        config["image_std"] = json!(std);
    }
    config
}

/// `config.json`. `dtype` is the form that transformers.js takes where nobody asks for another, `timm` the network for timm.
pub fn config(dtype: Option<Dtype>, timm: Option<&Timm>, model: &Model) -> Value {
    let mut config = timm.map_or_else(|| json!({}), |timm| timm.config(model));
    if let Some(dtype) = dtype {
        config["model_type"] = json!("resnet");
        config["architectures"] = json!(["ResNetModel"]);
        config["transformers.js_config"] = json!({ "dtype": dtype.in_transformers() });
    }
    config
}

/// What timm calls a network of rkd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timm {
    architecture: &'static str,
    first: &'static str,
    classifier: &'static str,
    form: Form,
}

/// What timm must know of a network's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Maps of any size, of which it takes the mean.
    Maps,
    /// Tokens of images of one size, of which it takes the class token.
    Tokens,
}

/// The networks that timm has too, with the names of its first and its last layer.
const IN_TIMM: &[(&str, Timm)] = &[
    ("resnet18", resnet("resnet18")),
    ("resnet34", resnet("resnet34")),
    ("resnet50", resnet("resnet50")),
    ("resnet101", resnet("resnet101")),
    ("efficientnet-b0", efficientnet("efficientnet_b0")),
    ("efficientnet-lite0", efficientnet("tf_efficientnet_lite0")),
    ("efficientnet-lite1", efficientnet("tf_efficientnet_lite1")),
    ("efficientnet-lite2", efficientnet("tf_efficientnet_lite2")),
    ("efficientnet-lite3", efficientnet("tf_efficientnet_lite3")),
    ("efficientnet-lite4", efficientnet("tf_efficientnet_lite4")),
    ("vit-tiny", vit("vit_tiny_patch16_224")),
    ("vit-small", vit("vit_small_patch16_224")),
];

/// A ResNet.
const fn resnet(architecture: &'static str) -> Timm {
    Timm { architecture, first: "conv1", classifier: "fc", form: Form::Maps }
}

/// A ViT.
const fn vit(architecture: &'static str) -> Timm {
    Timm { architecture, first: "patch_embed.proj", classifier: "head", form: Form::Tokens }
}

/// An EfficientNet; timm has the Lites with TensorFlow's padding, as here, under names that begin with `tf_`.
const fn efficientnet(architecture: &'static str) -> Timm {
    Timm { architecture, first: "conv_stem", classifier: "classifier", form: Form::Maps }
}

impl Timm {
    /// What timm calls the network of `card`.
    ///
    /// # Errors
    /// `ERR_INVALID_OPTION` for a network that timm has not, with the reason.
    pub fn of(card: &ModelCard) -> Result<Timm> {
        let spec = &card.backbone;
        let refuse = |expected: &str, received: String| {
            Err(Error::new(Code::InvalidOption, "timm has no such network")
                .with_subject("to")
                .with_values(expected, received)
                .with_advice("export for transformers or onnx, which take every network"))
        };
        let Some((_, timm)) = IN_TIMM.iter().find(|(kind, _)| *kind == spec.kind) else {
            return refuse("a ResNet, an EfficientNet, vit-tiny or vit-small", spec.kind.clone());
        };
        if spec.width != 64 {
            return refuse("a network of width 64", format!("{} of width {}", spec.kind, spec.width));
        }
        if spec.kind.starts_with("resnet") && spec.stem == crate::backbones::Stem::Small {
            return refuse("a ResNet with ImageNet's stem", format!("{} with the small one", spec.kind));
        }
        Ok(*timm)
    }

    /// The weights as timm takes them: for colour images, without the classifier that rkd trained beside the embedding.
    pub fn weights(&self, model: &Model) -> Model {
        let grey = model.card.backbone.in_channels == 1;
        let mut colour = model.clone();
        colour.tensors.retain(|name, _| !name.starts_with("classifier."));
        let first = format!("{}.weight", self.first);
        if let Some(weight) = colour.tensors.get_mut(&first).filter(|_| grey) {
            *weight = spread(weight);
        }
        let head = colour.tensors.keys().filter(|name| name.starts_with("fc.")).cloned().collect::<Vec<_>>();
        for name in head {
            if let Some(tensor) = colour.tensors.remove(&name) {
                colour.tensors.insert(name.replacen("fc", self.classifier, 1), tensor);
            }
        }
        colour.card.normalization = normalization(model);
        colour.card.backbone.in_channels = channels(model);
        colour.card.backbone.classes = None;
        colour.card.classes = None;
        colour
    }

    /// Weights under timm's names under those of rkd again.
    pub fn unnamed(mut model: Model) -> Model {
        for end in ["weight", "bias"].iter().filter(|_| model.card.backbone.classes.is_none()) {
            let theirs = ["classifier", "head"].map(|layer| format!("{layer}.{end}"));
            if let Some(tensor) = theirs.iter().find_map(|name| model.tensors.remove(name)) {
                model.tensors.insert(format!("fc.{end}"), tensor);
            }
        }
        model
    }

    fn config(&self, model: &Model) -> Value {
        let spec = &model.card.backbone;
        let Normalization { mean, std } = normalization(model);
        let (size, classes) = (spec.image_size, spec.embedding.unwrap_or(0));
        let map = size.div_ceil(32);
        let (pool, arguments, pool_size) = match self.form {
            Form::Maps => ("avg", json!({}), json!([map, map])),
            Form::Tokens => ("token", json!({ "img_size": size }), Value::Null),
        };
        json!({
            "architecture": self.architecture,
            "num_classes": classes,
            "global_pool": pool,
            "model_args": arguments,
            "pretrained_cfg": {
                "tag": "rkd",
                "custom_load": false,
                "input_size": [channels(model), size, size],
                "fixed_input_size": self.form == Form::Tokens,
                "interpolation": "lanczos",
                "crop_pct": 1.0,
                "crop_mode": "center",
                "mean": mean,
                "std": std,
                "num_classes": classes,
                "pool_size": pool_size,
                "first_conv": self.first,
                "classifier": self.classifier,
            },
        })
    }
}

/// The first weight of a network for grey images as one for colour images.
fn spread(weight: &HostTensor) -> HostTensor {
    let mut shape = weight.shape.clone();
    let values = super::network::spread_grey(&weight.data, shape[0]);
    shape[1] *= 3;
    HostTensor { shape, data: values.into_iter().map(|value| value as f32).collect() }
}
