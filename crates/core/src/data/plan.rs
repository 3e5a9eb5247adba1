//! What a plan says of its data: source, sizes, split, augmentation and batches.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::input::{HalfTurn, PathText, Share, Shear, Whole, invalid, nullable_via, tagged, via};
use crate::vectors::VectorOptions;

/// What a source is, as far as defaults of images, split and augmentation hang on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum DataKind {
    /// Drawn characters.
    Glyphs,
    /// Omniglot.
    Omniglot,
    /// Files of MNIST's format.
    Idx,
    /// CIFAR-100.
    Cifar,
    /// A folder or archive of image files.
    #[default]
    Images,
    /// A file of stored vectors: each is an image of one pixel with as many channels as it has numbers.
    Vectors,
}

/// What a network embeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputKind {
    /// Pictures: pixels of 0 to 255.
    #[default]
    Images,
    /// Stored vectors, each an image of one pixel with as many channels as it has numbers.
    Vectors,
}

/// Size and kind of one image, or vector, in words.
pub fn describe(kind: InputKind, image_size: usize, channels: usize) -> String {
    match kind {
        InputKind::Images => format!("images of {image_size}x{image_size} pixels of {channels} channels"),
        InputKind::Vectors => format!("vectors of {channels} numbers"),
    }
}

/// Whether images have labels: their classes, or `"none"`. Without labels a teacher alone says what is alike: the split is by
/// images, batches are drawn without regard to class, and a student is measured by its teacher's relations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Labels {
    /// Each image has a class.
    #[default]
    Classes,
    /// No classes are known, or those there are do not count.
    None,
}

/// Where the images come from and how they reach the network.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataPlan {
    /// What the source was found to be.
    #[serde(default)]
    pub kind: DataKind,
    /// `"glyphs"`, or the path of a folder, an archive, a manifest or an IDX file, or a pattern of paths; see [`super`].
    pub source: String,
    /// Several paths may make one data set (Omniglot's two archives): the further ones. Usually empty.
    #[serde(default)]
    pub more: Vec<String>,
    /// Height and width in pixels after decoding; every image is resized to this square.
    pub image_size: usize,
    /// 1 (grey) or 3 (RGB); of vectors the numbers of one.
    pub channels: usize,
    /// How they are read, where they are vectors.
    #[serde(default)]
    pub vectors: Option<VectorOptions>,
    /// Whether its classes are labels.
    #[serde(default)]
    pub labels: Labels,
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

impl DataPlan {
    /// All its places: [`source`](DataPlan::source), and the further ones.
    pub fn places(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.source).chain(&self.more).map(|place| &place[..])
    }

    /// Whether it is of pictures or of stored vectors.
    pub fn input_kind(&self) -> InputKind {
        if self.kind == DataKind::Vectors { InputKind::Vectors } else { InputKind::Images }
    }

    /// The first of its places that is not there; `None` also for glyphs, which are nowhere.
    pub fn missing(&self) -> Option<&str> {
        self.places().filter(|place| Path::new(place).is_absolute()).find(|place| !Path::new(place).exists())
    }
}

tagged! {
    /// How images go to the parts. By itself `source` for Omniglot, for folders and manifests with `train` and `test`, and for
    /// data sets whose published split is by classes, else `classes` with shares 0.1 and 0.2 (IDX, which has few classes: 0.2
    /// and 0.3). Without labels `source` for folders and manifests with `train` and `test`, else `images` with 0.1 and 0.1.
    "a split, for example { kind: \"classes\", validation: 0.1, test: 0.2 }",
    "SplitPlan",
    pub enum SplitPlan {
        /// Class-disjoint by seed: `validation` and `test` are shares of the classes.
        "classes" => Classes {
            /// Share of the classes that choose the checkpoint, in [0, 1).
            #[serde(deserialize_with = "via::<Share, _, _>")]
            validation: f64,
            /// Share of the classes that only the final evaluation sees, in [0, 1).
            #[serde(deserialize_with = "via::<Share, _, _>")]
            test: f64,
        },
        /// The source's own split: folders `train`, `val`, `test`; Omniglot's background and evaluation; the halves or lists
        /// of CUB-200-2011, Cars 196, Stanford Online Products, miniImageNet; train and test of CIFAR-100, Tiny ImageNet,
        /// IDX files.
        "source" => Source {
            /// Where the source brings no validation part beside its test part, the share of the training classes set aside
            /// to choose the checkpoint, in [0, 1); where its parts share classes, of each class's training images.
            #[serde(deserialize_with = "via::<Share, _, _>")]
            validation: f64,
        },
        /// All classes in all parts, for classification: shares of the images of each class, by seed. Without labels shares of
        /// all images.
        "images" => Images {
            /// Share of each class's images that choose the checkpoint, in [0, 1).
            #[serde(deserialize_with = "via::<Share, _, _>")]
            validation: f64,
            /// Share of each class's images that only the final evaluation sees, in [0, 1).
            #[serde(deserialize_with = "via::<Share, _, _>")]
            test: f64,
        },
        /// Class-disjoint by text files of class names, one a line. Classes in no list are left out.
        "lists" => Lists {
            /// The training classes.
            #[serde(deserialize_with = "via::<PathText, _, _>")]
            train: PathBuf,
            /// The classes that choose the checkpoint.
            #[serde(default, deserialize_with = "nullable_via::<PathText, _, _>")]
            validation: Option<PathBuf>,
            /// The classes that only the final evaluation sees.
            #[serde(default, deserialize_with = "nullable_via::<PathText, _, _>")]
            test: Option<PathBuf>,
        },
    }
}

/// In words: `by classes (validation 0.1, test 0.2)`.
impl fmt::Display for SplitPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SplitPlan::Classes { validation, test } => write!(f, "by classes (validation {validation}, test {test})"),
            SplitPlan::Images { validation, test } => write!(f, "by images (validation {validation}, test {test})"),
            SplitPlan::Source { validation } => write!(f, "of the source (validation {validation})"),
            SplitPlan::Lists { train, .. } => write!(f, "by lists ({}, ...)", train.display()),
        }
    }
}

/// What stands in a model for a list: where lists lie is nobody else's business.
pub const ELSEWHERE: &str = "/-";

impl SplitPlan {
    /// Whether its lists are not known.
    pub fn is_elsewhere(&self) -> bool {
        self.lists().iter().any(|path| path.file_name().is_some_and(|name| name == "-"))
    }

    /// Shares must leave something for training.
    fn validate(&self) -> Result<()> {
        match *self {
            SplitPlan::Classes { validation, test } | SplitPlan::Images { validation, test }
                if validation + test >= 1.0 =>
            {
                let expected = "shares that leave something for training (validation + test < 1)";
                let mut error = invalid("", expected, (validation + test).to_string());
                error.subject = None;
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// The files of class names that it is made from.
    pub fn lists(&self) -> Vec<&Path> {
        let SplitPlan::Lists { train, validation, test } = self else { return Vec::new() };
        [Some(train), validation.as_ref(), test.as_ref()].into_iter().flatten().map(PathBuf::as_path).collect()
    }
}

/// Random changes of a training image. Every field's neutral value switches it off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "Augment"))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AugmentSpec {
    /// Random crop after padding by this many pixels on every side (edge pixels repeated); 0 is off.
    #[serde(deserialize_with = "via::<Whole<0, 512>, _, _>")]
    pub crop_padding: usize,
    /// Mirror left-right with probability one half.
    pub flip: bool,
    /// Largest rotation in degrees, either way; 0 is off.
    #[serde(deserialize_with = "via::<HalfTurn, _, _>")]
    pub rotate: f64,
    /// Largest relative change of scale, for example 0.1; 0 is off.
    #[serde(deserialize_with = "via::<Share, _, _>")]
    pub scale: f64,
    /// Largest shear in degrees; 0 is off.
    #[serde(deserialize_with = "via::<Shear, _, _>")]
    pub shear: f64,
    /// Largest shift as a share of the image's side; 0 is off.
    #[serde(deserialize_with = "via::<Share, _, _>")]
    pub translate: f64,
}

/// Composition of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
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
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "Episode"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EpisodePlan {
    /// Classes, at least 2.
    #[serde(deserialize_with = "via::<Whole<2, 10_000>, _, _>")]
    pub way: usize,
    /// Support images of each class, at least 1.
    #[serde(deserialize_with = "via::<Whole<1, 10_000>, _, _>")]
    pub shots: usize,
    /// Query images of each class, at least 1.
    #[serde(deserialize_with = "via::<Whole<1, 10_000>, _, _>")]
    pub queries: usize,
}

impl EpisodePlan {
    /// Images of an episode.
    pub fn images(&self) -> usize {
        self.way * (self.shots + self.queries)
    }
}
