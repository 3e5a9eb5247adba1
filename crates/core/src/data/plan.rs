//! What a plan says of its data: source, sizes, split, augmentation and batches.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the images come from and how they reach the network.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataPlan {
    /// `"glyphs"`, or the path of a folder, an archive or an IDX file; see [`super`].
    pub source: String,
    /// Several paths may make one data set (Omniglot's two archives): the further ones. Usually empty.
    #[serde(default)]
    pub more: Vec<String>,
    /// Height and width in pixels after decoding; every image is resized to this square.
    pub image_size: usize,
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// Whether every image comes in four turns, each a class of its own, see [`super::rotation`].
    #[serde(default)]
    pub rotations: bool,
    /// How images are split.
    pub split: SplitPlan,
    /// Random changes of training images.
    pub augment: AugmentSpec,
    /// Folder of the decoded cache; nothing is written outside it.
    pub cache: PathBuf,
}

/// How images go to the three parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum SplitPlan {
    /// Class-disjoint by seed: `validation` and `test` are shares of the classes, in `[0, 1)`.
    Classes {
        /// Share of the classes that choose the checkpoint.
        validation: f64,
        /// Share of the classes that only the final evaluation sees.
        test: f64,
    },
    /// The source's own split (folders `train`, `val`, `test`; a published data set's, see [`super`]). Where it brings
    /// no validation part beside its test part, `validation` is the share of the training classes set aside to choose the
    /// checkpoint; where its parts share classes, the share of each class's training images.
    Source {
        /// A share, in `[0, 1)`.
        validation: f64,
    },
    /// All classes in all parts, for classification: shares of the images of each class, by seed.
    Images {
        /// Share of each class's images that choose the checkpoint, in `[0, 1)`.
        validation: f64,
        /// Share of each class's images that only the final evaluation sees, in `[0, 1)`.
        test: f64,
    },
    /// Class-disjoint by lists: text files of class names, one a line. Classes in no list are left out.
    Lists {
        /// The training classes.
        train: PathBuf,
        /// The classes that choose the checkpoint.
        #[serde(default)]
        validation: Option<PathBuf>,
        /// The classes that only the final evaluation sees.
        #[serde(default)]
        test: Option<PathBuf>,
    },
}

/// Random changes of a training image. Every field's neutral value switches it off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AugmentSpec {
    /// Random crop after padding by this many pixels on every side (edge pixels repeated); 0 is off.
    pub crop_padding: usize,
    /// Mirror left-right with probability one half.
    pub flip: bool,
    /// Largest rotation in degrees, either way; 0 is off.
    pub rotate: f64,
    /// Largest relative change of scale, for example 0.1; 0 is off.
    pub scale: f64,
    /// Largest shear in degrees; 0 is off.
    pub shear: f64,
    /// Largest shift as a share of the image's side; 0 is off.
    pub translate: f64,
}

/// Composition of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchPlan {
    /// Images of a batch.
    pub size: usize,
    /// Images of each class in a batch; `None`: images are drawn without regard to class.
    pub per_class: Option<usize>,
    /// The batch is an episode of this shape; `size` is then its number of images and `per_class` `None`.
    #[serde(default)]
    pub episode: Option<EpisodePlan>,
}

/// The shape of an episode, see [`super::episode`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EpisodePlan {
    /// Classes, at least 2.
    pub way: usize,
    /// Support images of each class, at least 1.
    pub shots: usize,
    /// Query images of each class, at least 1.
    pub queries: usize,
}

impl EpisodePlan {
    /// Images of an episode.
    pub fn images(&self) -> usize {
        self.way * (self.shots + self.queries)
    }
}
