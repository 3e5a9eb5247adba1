//! What a plan says of a network.

use serde::{Deserialize, Serialize};

/// The network: which one, how wide, and what it puts out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "BackbonePlan"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackboneSpec {
    /// The architecture: one of [`super::kinds`].
    #[cfg_attr(test, ts(type = "BackboneKind"))]
    pub kind: String,
    /// Channels of the first block, of a ViT those of one head; 64 is the published width of every architecture here.
    pub width: usize,
    /// The widths of the hidden layers of an `"mlp"`, at least one; empty for every other architecture.
    #[serde(default)]
    pub hidden: Vec<usize>,
    /// The form for large or for small images; the networks without a stem option have one form and ignore it.
    pub stem: Stem,
    /// Length of the embedding; `None`: the pooled feature itself (Conv-4 and the small VGG: the flattened map).
    pub embedding: Option<usize>,
    /// Whether the embedding is divided by its Euclidean norm.
    pub normalize: bool,
    /// Channels of the input image.
    pub in_channels: usize,
    /// Height and width of the input image.
    pub image_size: usize,
    /// Number of classes of the `classifier` layer on top of the embedding, for losses on logits; `None`: no such layer.
    pub classes: Option<usize>,
}

impl BackboneSpec {
    /// The architecture as it is published: of width 64, with ImageNet's stem, for colour images of this side, its pooled feature
    /// as it is.
    pub fn published(kind: impl Into<String>, image_size: usize) -> BackboneSpec {
        BackboneSpec {
            kind: kind.into(),
            width: 64,
            hidden: Vec::new(),
            stem: Stem::Imagenet,
            embedding: None,
            normalize: false,
            in_channels: 3,
            image_size,
            classes: None,
        }
    }
}

/// The form of a network for large or for small images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum Stem {
    /// ResNet and GoogLeNet: 7x7 convolution of stride 2, then 3x3 max pool of stride 2. VGG: two linear layers above the
    /// maps.
    Imagenet,
    /// ResNet and GoogLeNet: 3x3 convolution of stride 1, no pool: for images of 32 to 64 pixels. VGG: the maps,
    /// flattened.
    Small,
}
