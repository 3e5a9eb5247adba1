//! The plan: one complete, printable description of a run, with every default filled in.
//!
//! TypeScript turns a user's options into a plan; the core takes nothing else. `plan.json` in the output folder is
//! this structure. Field names are camelCase in JSON; unknown fields are errors, so that a typing mistake cannot pass.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::data::Normalization;
use crate::losses::TermSpec;
use crate::optim::{OptimizerSpec, ScheduleSpec};

/// A training run of one network: `train` without a teacher, `distill` with one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// The data.
    pub data: DataPlan,
    /// The network that is trained.
    pub backbone: BackboneSpec,
    /// Where its parameters come from; `None`: drawn at random.
    pub weights: Option<WeightsPlan>,
    /// Which of its parameters are trained, and how fast.
    #[serde(default)]
    pub tuning: TuningPlan,
    /// The teacher, for a distillation.
    pub teacher: Option<TeacherPlan>,
    /// The weighted terms of the total loss; at least one.
    pub losses: Vec<TermSpec>,
    /// The optimiser.
    pub optimizer: OptimizerSpec,
    /// The learning rate over the run.
    pub schedule: ScheduleSpec,
    /// Largest Euclidean norm of the whole gradient; larger ones are scaled down. `None`: no clipping.
    pub clip_gradient_norm: Option<f64>,
    /// Batch composition.
    pub batch: BatchPlan,
    /// Largest number of images that go through the network at once; `None`: the whole batch. See [`crate::train::pass`].
    #[serde(default)]
    pub micro_batch: Option<usize>,
    /// Number of epochs, at least 1.
    pub epochs: u64,
    /// Batches of one epoch; `None`: as many as it takes to show as many images as the training part has.
    pub steps_per_epoch: Option<u64>,
    /// The seed of everything random.
    pub seed: u64,
    /// Number of CPU threads; 0: all cores.
    pub threads: usize,
}

/// Where the images come from and how they reach the network.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataPlan {
    /// `"glyphs"`, or the path of a folder, an archive or an IDX file; see [`crate::data`].
    pub source: String,
    /// Several paths may make one data set (Omniglot's two archives): the further ones. Usually empty.
    #[serde(default)]
    pub more: Vec<String>,
    /// Height and width in pixels after decoding; every image is resized to this square.
    pub image_size: usize,
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// How classes are split.
    pub split: SplitPlan,
    /// Random changes of training images.
    pub augment: AugmentSpec,
    /// Folder of the decoded cache; nothing is written outside it.
    pub cache: PathBuf,
}

/// How classes go to the three parts.
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
    /// The source's own split (folders `train`, `val`, `test`; Omniglot background / evaluation; IDX train / t10k);
    /// `validation` is the share of the training classes set aside to choose the checkpoint.
    Source {
        /// Share of the training classes, in `[0, 1)`.
        validation: f64,
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

/// The network: which one, how wide, and what it puts out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackboneSpec {
    /// The architecture: one of [`crate::backbones::kinds`].
    pub kind: String,
    /// Channels of the first block; 64 is the published width of every architecture here.
    pub width: usize,
    /// The widths of the hidden layers of an `"mlp"`, at least one; empty for every other architecture.
    #[serde(default)]
    pub hidden: Vec<usize>,
    /// The form for large or for small images; Conv-4 and the perceptron have one form and ignore it.
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

/// The form of a network for large or for small images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stem {
    /// ResNet and GoogLeNet: 7x7 convolution of stride 2, then 3x3 max pool of stride 2. VGG: two linear layers above the
    /// maps.
    Imagenet,
    /// ResNet and GoogLeNet: 3x3 convolution of stride 1, no pool: for images of 32 to 64 pixels. VGG: the maps,
    /// flattened.
    Small,
}

/// The parameters a network begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WeightsPlan {
    /// A file of [`Weights`](crate::artefact::weights::Weights).
    pub file: PathBuf,
    /// Patterns of names ([`crate::nn::pattern`]) that may be missing, unexpected or of another shape, besides the head.
    #[serde(default)]
    pub except: Vec<String>,
    /// How images are normalised; `None`: as the file says (rkd's own), as ImageNet is (other files, three channels), or
    /// by the training data (other files, grey). A teacher's normalisation comes before all of these.
    pub normalization: Option<Normalization>,
}

/// Which parameters are trained, and how fast. Patterns choose parameters by name, see [`crate::nn::pattern`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TuningPlan {
    /// Patterns of parameters that stay as they are.
    pub freeze: Vec<String>,
    /// Factors on the learning rate by pattern, greater than 0; no parameter may be chosen by two.
    pub learning_rates: BTreeMap<String, f64>,
    /// What batch normalisation subtracts and divides by in training.
    pub batch_norm: TrainingStatistics,
}

/// The statistics of batch normalisation in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TrainingStatistics {
    /// Those of the batch; the running ones follow.
    #[default]
    Batch,
    /// The running ones, which stay as they are.
    Running,
}

/// The teacher of a distillation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TeacherPlan {
    /// A `model.safetensors` written by `train` or `distill`.
    pub model: PathBuf,
    /// Whether the teacher sees each augmented batch, or every training image once before the first step.
    pub features: TeacherFeatures,
}

/// When the teacher's features are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TeacherFeatures {
    /// In every step, on the same augmented images as the student.
    Live,
    /// Once per image, without augmentation, before the first step.
    Cached,
}

/// Composition of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchPlan {
    /// Images of a batch.
    pub size: usize,
    /// Images of each class in a batch; `None`: images are drawn without regard to class.
    pub per_class: Option<usize>,
}
