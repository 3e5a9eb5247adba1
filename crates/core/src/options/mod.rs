//! What a user says, and the whole plan that follows: every default and rule of `train`, `distill`, `evaluate`,
//! `embed`, `neighbours`, `exportModel` and the command line.
//!
//! Each option is one field, with its doc, range and whether it may be left out; TypeScript's types are made from
//! these. `Option` is an option that may be left out, `Option<Option>` one that may also be null, which is a value of
//! its own. The names are those of the plan, so a whole plan is options too: resolving it gives itself. [`run`]
//! resolves `train` and `distill`, [`model`] what works on a stored model; [`check`] is what constructors ask.

pub mod check;
mod data;
pub mod model;
pub mod run;
mod shard;
mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::backbones::{self, BackboneSpec, Stem};
use crate::data::{AugmentSpec, DataKind, EpisodePlan, Labels, Normalization, Part, SplitPlan};
use crate::devices::{Device, Wish};
use crate::export::{Dtype, ExportInput, ExportTarget};
use crate::input::{At, PathText, Positive, Share, Text, Unit, Whole, carry, invalid, one_of, show};
use crate::losses::TermSpec;
use crate::metrics::{self, FewShotPlan};
use crate::nn::Precision;
use crate::nn::tuning::TrainingStatistics;
use crate::onnx::{EngineChoice, OnnxOptions, OnnxReport};
use crate::optim::{OptimizerSpec, ScheduleSpec};
use crate::ranks::launch;
use crate::train::Plan;
use crate::train::embedded::EmbedFormat;
use crate::vectors::{VectorOptions, VectorSummary};

pub use data::{DataSurvey, default_cache, survey};
pub use stored::PlanFile;

/// What `train` and `distill` take.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunOptions {
    /// The images: a source, or its name (`"glyphs"` or a path).
    #[cfg_attr(test, ts(type = "Data | string | URL"))]
    pub data: DataOption,
    /// Folder of the run; made where it is missing. An existing run in it is an error unless `overwrite`.
    #[cfg_attr(test, ts(type = "string | URL"))]
    pub out: PathText,
    /// Whether a run in `out` may be replaced. Other files in the folder are left alone. @default false
    pub overwrite: Option<bool>,
    /// The network that `train` trains.
    #[cfg_attr(test, ts(as = "Option<BackboneOptions>"))]
    pub backbone: Option<BackboneOptions>,
    /// The network that `distill` trains. Without a kind, `{ embedding: 32 }`, it is the default one with what is said.
    /// @default conv4({ embedding: 64 }) for images up to 32 pixels, else resnet(18, { width: 32, stem: "imagenet",
    /// embedding: 128 }); for stored vectors mlp({ embedding: 64 })
    #[cfg_attr(test, ts(optional, type = "Partial<Backbone>"))]
    pub student: Option<BackboneOptions>,
    /// The teacher: its path, or that with how it is read. @default of data that are vectors they themselves
    #[cfg_attr(test, ts(optional, type = "string | URL | Teacher"))]
    pub teacher: Option<TeacherOption>,
    /// Several teachers, in place of `teacher`, each as that has it. What the student learns of a term that compares with
    /// a teacher is then the average over all, by their weights, or of the one that the term names.
    #[cfg_attr(test, ts(optional, type = "Array<string | URL | Teacher>"))]
    pub teachers: Option<Vec<TeacherOption>>,
    /// When the features of those teachers are computed that say nothing of it themselves. `"live"`: the teacher sees the
    /// same augmented images as the student, in every step. `"cached"`: every training image once, and its mirror image
    /// where training mirrors, before the first step; other augmentation the teacher then does not see. `"auto"`: live
    /// of a network of rkd where training does more than mirror images, cached otherwise. @default "live" of a network of
    /// rkd, "cached" of others
    #[cfg_attr(test, ts(optional, type = "TeacherFeatures | \"auto\""))]
    pub teacher_features: Option<TeacherFeaturesOption>,
    /// The weighted terms of the total loss, at least one.
    /// @default train: triplet(); distill: rkdDistance({ weight: 1 }) and rkdAngle({ weight: 2 }), with labels beside
    /// triplet()
    #[cfg_attr(test, ts(optional, type = "Array<Loss>"))]
    pub losses: Option<Vec<TermSpec>>,
    /// Lengths of prefixes of the student's embedding, each at least 2 and below the embedding's: one network then serves
    /// embeddings of all these lengths (Matryoshka; Kusupati et al. 2022). Every term that reads the embedding is the mean
    /// over the prefixes and the whole, and a classifier's has one of its own on each. Where the network normalises, a
    /// prefix is divided by its own norm; divide it when you use it, too. @default []
    #[cfg_attr(test, ts(as = "Option<Vec<usize>>"))]
    pub prefixes: Option<PrefixLengths>,
    /// Weights to begin with: a file, or a file with what it need not have. @default drawn at random
    #[cfg_attr(test, ts(optional, type = "string | URL | Weights | null"))]
    pub weights: Option<Option<WeightsOption>>,
    /// Patterns of parameters that stay as they are. Their running statistics follow `batchNorm`. A pattern is a name
    /// as in torchvision, `layer1.0.conv1.weight`, or a module, `layer1`, which stands for all below it; a star stands
    /// for any letters: `layer*.bn1`. @default []
    #[cfg_attr(test, ts(as = "Option<Vec<String>>"))]
    pub freeze: Option<Patterns>,
    /// Factors on the learning rate by pattern, each greater than 0: `{ fc: 10 }`. @default {}
    #[cfg_attr(test, ts(as = "Option<BTreeMap<String, f64>>"))]
    pub learning_rates: Option<BTreeMap<String, Positive>>,
    /// What batch norm subtracts and divides by in training: the statistics of the `"batch"`, of each `microBatch` where
    /// there are any, which the running ones follow; `"sync"`, of the whole batch over all micro batches and processes, whose
    /// activations are then in memory at once; or the `"running"` ones, which then stay as they are.
    /// @default "running" with `weights`, else "batch"
    pub batch_norm: Option<TrainingStatistics>,
    /// Share of the pooled feature's numbers that training leaves out at random before the embedding layer (without one,
    /// before the classifier), from 0 to below 1; the others are divided by one less the share. Nothing is left out in
    /// evaluation. torchvision's MobileNets and EfficientNet-B0 have 0.2 in training by classes. @default 0
    #[cfg_attr(test, ts(as = "Option<f64>"))]
    pub dropout: Option<Share>,
    /// Stochastic depth: share of images for which training leaves the last residual block out at random, from 0 to below 1;
    /// that of the blocks before it rises evenly from 0. For ResNets, MobileNets, EfficientNets and ViTs. @default 0
    #[cfg_attr(test, ts(as = "Option<f64>"))]
    pub drop_path: Option<Share>,
    /// The optimiser. With `weights` a rate that is not said is a tenth of the usual one: 1e-4, of sgd 0.005.
    /// @default adam()
    #[cfg_attr(test, ts(optional, type = "OptimizerOptions"))]
    pub optimizer: Option<OptimizerSpec>,
    /// The learning rate over the run. @default cosine()
    #[cfg_attr(test, ts(optional, type = "ScheduleOptions"))]
    pub schedule: Option<ScheduleSpec>,
    /// Number of epochs, 1 to 1,000,000.
    /// @default train: 20; distill: as many as show 128,000 images (2,000 batches of 64), at least 5, at most 60
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub epochs: Option<Whole<1, 1_000_000>>,
    /// Batches of one epoch, 1 to 1,000,000. @default null: as many as show as many images as the training part has
    #[cfg_attr(test, ts(as = "Option<Option<u64>>"))]
    pub steps_per_epoch: Option<Option<Whole<1, 1_000_000>>>,
    /// Composition of a batch.
    pub batch: Option<BatchOptions>,
    /// Images that go through the network at once, 2 to 65,536; `null` is the whole batch. Smaller ones save memory: the
    /// loss still sees the whole batch, and its gradient is the same, for the price of a second forward pass. Batch
    /// normalisation takes its statistics from each such part, unless `batchNorm` is `"sync"`. Of several processes (`distributed`) each has some of these
    /// parts. @default null; where processes train together eight parts of a batch
    #[cfg_attr(test, ts(as = "Option<Option<u64>>"))]
    pub micro_batch: Option<Option<Whole<2, LARGEST_BATCH>>>,
    /// Largest Euclidean norm of the whole gradient, greater than 0; `null` is no clipping. @default null
    #[cfg_attr(test, ts(as = "Option<Option<f64>>"))]
    pub clip_gradient_norm: Option<Option<Positive>>,
    /// Seed of everything random, a whole number from 0. Same seed, same bytes, on any number of threads. @default 1
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub seed: Option<Whole<0>>,
    /// Seed of the split: which classes, or images, are in which part. Its own, so that runs of other seeds have the same
    /// test classes. @default the teacher's where it was trained on the same data; else `seed`
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub split_seed: Option<Whole<0>>,
    /// Of `distill`: whether the data may have changed since the teacher was trained on them. Then the teacher's split
    /// goes on: what it was trained on trains, and what is new goes into no part. @default false: an error that says what
    /// has changed
    pub accept_changed_data: Option<bool>,
    /// Of `distill`: whether the same student is trained by labels alone too, in the folder `baseline` of the run. The
    /// verdict then has a row for it, and measures the gap from there. It needs labels, and about as much time again.
    /// @default false
    pub baseline: Option<bool>,
    /// CPU threads, 0 to 1024; 0 is all cores. @default 0
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub threads: Option<Threads>,
    /// Where to compute. `"auto"` is the best there is. @default "auto"
    pub device: Option<DeviceOption>,
    /// In which numbers a GPU computes; the CPU does so in float32. @default "float32"
    pub precision: Option<Precision>,
    /// Whether the processes that a launcher has started train together. @default "auto"
    pub distributed: Option<Distributed>,
    /// Evaluation during training.
    pub evaluation: Option<EvaluationOptions>,
    /// Which weights become the model. @default "last"; without labels, with a split by images, and with `weights` or
    /// `patience` "best"
    pub keep: Option<Keep>,
    /// Evaluations without a new best after which the run ends, at least 1; `null` never. @default null
    #[cfg_attr(test, ts(as = "Option<Option<u64>>"))]
    pub patience: Option<Option<Whole<1>>>,
    /// Steps between checkpoints besides the one after every epoch, at least 1; `null` none. @default null
    #[cfg_attr(test, ts(as = "Option<Option<u64>>"))]
    pub checkpoint_every_steps: Option<Option<Whole<1>>>,
}

/// What `resume` takes besides the folder: where things are now, and what cannot change the result.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResumeOptions {
    /// Where the data are now: one place, or as many as the run had. Their fingerprint must be the run's.
    /// @default where they were
    #[cfg_attr(test, ts(optional, type = "string | URL | Array<string | URL>"))]
    pub data: Option<Places>,
    /// Where the teacher is now: the folder of a finished run, or the file. It must be the same one. Of several the place of
    /// each that has moved, by its name: `{ dinov2: "models/dinov2.onnx" }`.
    /// @default where it was
    #[cfg_attr(test, ts(optional, type = "string | URL | Record<string, string | URL>"))]
    pub teacher: Option<TeacherPlaces>,
    /// Epochs of the whole run, 1 to 1,000,000: more than planned go on beyond the planned end, where the schedule does not
    /// depend on it, as `cosine` does. @default those of the run
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub epochs: Option<Whole<1, 1_000_000>>,
    /// CPU threads, 0 is all cores. @default those of the run
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub threads: Option<Threads>,
    /// Where to compute. Another device than the run's gives other bytes. @default the run's
    pub device: Option<DeviceOption>,
    /// In which numbers a GPU computes. Another precision than the run's gives other bytes. @default the run's
    pub precision: Option<Precision>,
    /// Whether the processes that a launcher has started train together, as many as now. @default "auto"
    pub distributed: Option<Distributed>,
    /// Whether the data may have changed. Then the run goes on with its stored split: what was trained on stays trained
    /// on, and what is new goes into no part. @default false: an error that says what has changed
    pub accept_changed_data: Option<bool>,
}

/// One place, or several.
#[derive(Clone, Debug)]
pub struct Places(pub Vec<PathText>);

impl<'de> Deserialize<'de> for Places {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let at = At::deserialize(deserializer)?;
        let places = if at.value.is_array() { at.read() } else { at.read().map(|place| vec![place]) };
        places.map(Places).map_err(carry)
    }
}

/// Where teachers are now.
#[derive(Clone, Debug)]
pub enum TeacherPlaces {
    /// Of a run with one teacher.
    Only(PathText),
    /// By name.
    Named(BTreeMap<String, PathText>),
}

impl<'de> Deserialize<'de> for TeacherPlaces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let at = At::deserialize(deserializer)?;
        let places = match at.value.is_object() {
            true => at.read().map(TeacherPlaces::Named),
            false => at.read().map(TeacherPlaces::Only),
        };
        places.map_err(carry)
    }
}

/// CPU threads; 0: all cores.
pub type Threads = Whole<0, 1024>;

/// The most images of a batch.
const LARGEST_BATCH: u64 = 65_536;

/// Evaluation during training.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvaluationOptions {
    /// Epochs between evaluations on the validation classes, at least 1; `null` beside `everySteps`: none by epochs.
    /// @default 1; null with `everySteps`
    #[cfg_attr(test, ts(as = "Option<Option<u64>>"))]
    pub every_epochs: Option<Option<Whole<1>>>,
    /// Steps between evaluations, at least 1, instead of those by epochs or beside them. The last step is always
    /// evaluated.
    /// @default null
    #[cfg_attr(test, ts(as = "Option<Option<u64>>"))]
    pub every_steps: Option<Option<Whole<1>>>,
    /// The K of Recall@K, each at least 1. @default [1, 2, 4, 8]
    #[cfg_attr(test, ts(as = "Option<Vec<usize>>"))]
    pub ks: Option<Ks>,
    /// The classes that are measured and so choose the best weights. @default "validation"
    pub part: Option<ChoosingPart>,
}

/// The classes that choose the best weights. `"test"` is what the paper's code does: its scores are of weights chosen
/// by the very same classes, and too good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum ChoosingPart {
    /// Those that are held back for it.
    Validation,
    /// Those of the final score.
    Test,
}

/// Which weights become the model: those with the best validation (accuracy of a classifier that knows the classes,
/// else Recall@K, of the smallest K; without labels the share of the ten nearest in common with the teacher), or the
/// last. `"both"` is the best, and writes and measures the last ones beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// The best.
    Best,
    /// The last.
    Last,
    /// The best, with the last beside them.
    Both,
}

/// Where a run computes. Devices agree but for rounding: the same plan gives the same bytes on one device only. `"cuda"` is the
/// first NVIDIA GPU, `"cuda:1"` the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(type = "\"auto\" | \"cpu\" | \"candle-cpu\" | \"cuda\" | `cuda:${number}`"))]
pub enum DeviceOption {
    /// The best there is; where it is no GPU, a build with CUDA warns why.
    Auto,
    /// The CPU, by rkd's own kernels; the CPU, by the candle library: slower, and what runs where there are no own kernels;
    /// or an NVIDIA GPU.
    On(Device),
}

impl From<DeviceOption> for Wish {
    fn from(option: DeviceOption) -> Self {
        match option {
            DeviceOption::Auto => Wish::Best,
            DeviceOption::On(device) => Wish::This(device),
        }
    }
}

impl Serialize for DeviceOption {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            DeviceOption::Auto => serializer.serialize_str("auto"),
            DeviceOption::On(device) => device.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for DeviceOption {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let At { path, value } = At::deserialize(deserializer)?;
        match value.as_str() {
            Some("auto") => Ok(DeviceOption::Auto),
            Some("cuda") => Ok(DeviceOption::On(Device::Cuda(0))),
            name => match name.and_then(Device::named) {
                Some(device) => Ok(DeviceOption::On(device)),
                None => {
                    let known = "\"auto\", \"cpu\", \"candle-cpu\", \"cuda\" or one such as \"cuda:1\"";
                    Err(carry(invalid(&path, known, show(&value))))
                }
            },
        }
    }
}

/// Whether processes, on one machine or several, train one network together: `mpirun -n 4 rkd train ...`. The same plan
/// gives the same bytes on any number of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Distributed {
    /// By MPI where its launcher has started this process.
    #[default]
    Auto,
    /// By MPI: an error where there is none.
    Mpi,
    /// Each process for itself.
    None,
}

impl Distributed {
    /// Whether processes are to train together.
    pub fn is_asked_for(self) -> bool {
        match self {
            // Schedulers start single processes by the same way.
            Distributed::Auto => launch().is_some_and(|launch| launch.size != Some(1)),
            Distributed::Mpi => true,
            Distributed::None => false,
        }
    }
}

/// A teacher, and how it is read.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields, rename = "Teacher"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TeacherOptions {
    /// The folder of a finished run, a `model.safetensors`, an ONNX model, or a folder with one (`model.onnx`,
    /// `onnx/model.onnx`), or stored vectors: `.npy`, `.npz`, `.safetensors`, `.csv`, `.jsonl`, Parquet or Arrow IPC.
    #[cfg_attr(test, ts(type = "string | URL"))]
    pub model: PathText,
    /// How an ONNX model is read. @default found out from the file
    #[cfg_attr(test, ts(optional, type = "Partial<OnnxOptions> | null"))]
    pub onnx: Option<Option<OnnxOptions>>,
    /// How stored vectors are read. @default found out from the file
    #[cfg_attr(test, ts(optional, type = "Partial<VectorOptions> | null"))]
    pub vectors: Option<Option<VectorOptions>>,
    /// What it is called: by terms that compare with it alone, by reports and warnings. No two have the same name.
    /// @default the name of its file without the ending; of a `model.safetensors` or `model.onnx` that of its folder; with #2
    /// and so on where another one has it
    #[cfg_attr(test, ts(as = "Option<String>"))]
    pub name: Option<Text>,
    /// Its weight in averages over several teachers, greater than 0; they are divided by their sum. @default 1
    #[cfg_attr(test, ts(as = "Option<f64>"))]
    pub weight: Option<Positive>,
    /// When its features are computed, in a distillation. @default that of `teacherFeatures`
    #[cfg_attr(test, ts(optional, type = "TeacherFeatures | \"auto\""))]
    pub features: Option<TeacherFeaturesOption>,
}

/// A teacher with all that can be said, or its path alone.
#[derive(Clone, Debug)]
pub struct TeacherOption(pub TeacherOptions);

impl<'de> Deserialize<'de> for TeacherOption {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let named =
            |model| TeacherOptions { model, onnx: None, vectors: None, name: None, weight: None, features: None };
        path_or(deserializer, named).map(TeacherOption)
    }
}

/// An object, or a path alone, which is what `named` makes of it.
fn path_or<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
    named: impl FnOnce(PathText) -> T,
) -> Result<T, D::Error> {
    let at = At::deserialize(deserializer)?;
    if at.value.is_object() { at.read() } else { at.read().map(named) }.map_err(carry)
}

/// What a teacher was found to be.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct TeacherReport {
    /// The file.
    pub file: String,
    /// Of an ONNX model.
    pub onnx: Option<OnnxReport>,
    /// Of stored vectors.
    pub vectors: Option<VectorSummary>,
    /// Of a network of rkd.
    pub network: Option<NetworkReport>,
}

/// What a network of rkd says of itself.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct NetworkReport {
    /// The network, with the size and channels of the images it takes.
    pub backbone: BackboneSpec,
    /// Numbers of its embedding.
    pub embedding: usize,
    /// The number of its parameters.
    pub parameters: usize,
    /// The version of rkd that trained it.
    pub rkd: String,
    /// The seed of that run.
    pub seed: u64,
    /// Whether it was distilled from a teacher.
    pub distilled: bool,
    /// The path of the data that it was trained on, or `"glyphs"`; nothing where its run's `plan.json` is not beside it.
    pub data: Option<String>,
    /// Its training classes; 0 without labels, and nothing where the file does not say.
    pub classes: Option<usize>,
}

/// When the teacher's features are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TeacherFeaturesOption {
    /// In every step.
    Live,
    /// Before the first step.
    Cached,
    /// In every step of a network of rkd where training does more than mirror images, before the first otherwise.
    Auto,
}

/// Composition of a batch.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchOptions {
    /// Images of a batch, 2 to 65,536. @default 64; without labels at most the training images
    #[cfg_attr(test, ts(as = "Option<usize>"))]
    pub size: Option<Whole<2, LARGEST_BATCH>>,
    /// Images of each class in a batch, 1 to `size`; `null` draws without regard to class.
    /// @default 4, or more where there are so few classes that a batch needs it; null where all losses see each image on
    /// its own, and without labels
    #[cfg_attr(test, ts(as = "Option<Option<usize>>"))]
    pub per_class: Option<Option<Whole<1>>>,
    /// A few-shot episode as batch, in place of `size` and `perClass`: what prototypical() needs. Its rows are the
    /// supports class by class, then the queries class by class; relational losses read all of them. @default null
    pub episode: Option<Option<EpisodePlan>>,
}

/// A network, as conv4(), resnet(), vgg(), googlenet(), mobilenetV2(), mobilenetV3(), efficientnet(), efficientnetLite(),
/// vit() and mlp() make it.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields, rename = "Backbone"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackboneOptions {
    /// The architecture.
    #[cfg_attr(test, ts(type = "BackboneKind"))]
    pub kind: Option<BackboneKind>,
    /// Channels of the first block, 1 to 1024; of a MobileNet or an EfficientNet, whose first layers have fewer, 64 is the
    /// published network too; of a ViT the channels of one head. @default 64, the published width
    #[cfg_attr(test, ts(as = "Option<usize>"))]
    pub width: Option<Whole<1, 1024>>,
    /// Widths of an mlp's hidden layers, at least one, each 1 to 65,536. @default [256, 256]
    #[cfg_attr(test, ts(as = "Option<Vec<usize>>"))]
    pub hidden: Option<Vec<Whole<1, 65_536>>>,
    /// ResNet and GoogLeNet: `"imagenet"` begins with a 7x7 convolution of stride 2 and a max pool, `"small"` with a
    /// 3x3 convolution of stride 1, for images of 32 to 64 pixels. VGG: `"imagenet"` ends in two linear layers,
    /// `"small"` in the flattened maps. The others have one form. @default "small" up to 64 pixels, else "imagenet"
    pub stem: Option<Stem>,
    /// Length of the embedding, 1 to 65,536; `null` is the pooled feature itself, without a linear layer.
    /// @default null; of the student of `distill` 64 (conv4) or 128
    #[cfg_attr(test, ts(as = "Option<Option<usize>>"))]
    pub embedding: Option<Option<Whole<1, 65_536>>>,
    /// Whether embeddings are divided by their Euclidean norm.
    /// @default true with a loss whose options assume a scale (triplet, contrastive, margin, hard-dark-rank); else
    /// false
    pub normalize: Option<bool>,
    /// Of a whole plan: the channels of the images.
    #[cfg_attr(test, ts(skip))]
    pub in_channels: Option<usize>,
    /// Of a whole plan: the size of the images.
    #[cfg_attr(test, ts(skip))]
    pub image_size: Option<usize>,
    /// Of a whole plan: found from the data.
    #[cfg_attr(test, ts(skip))]
    pub classes: Option<Option<usize>>,
}

/// The name of an architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackboneKind(pub &'static str);

impl<'de> Deserialize<'de> for BackboneKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let At { path, value } = At::deserialize(deserializer)?;
        one_of(&path, &value, &backbones::kinds()).map(BackboneKind).map_err(carry)
    }
}

/// A file of weights and what it need not have.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Weights {
    /// A `.safetensors` of rkd, torchvision or timm, a `.pth` of PyTorch (a state dict, or a checkpoint with one), or
    /// the folder of a finished run. No code in the file is run.
    #[cfg_attr(test, ts(type = "string | URL"))]
    pub file: PathText,
    /// Which weights of the file: the keys that lead to them in a checkpoint and the beginning of their names, joined
    /// by dots: `"ema_state_dict"`, `"state_dict.backbone"`.
    /// @default those under a usual name (`state_dict`, `model`, ...), or the only ones; where there are several, an
    /// error that names them
    #[cfg_attr(test, ts(as = "Option<Option<String>>"))]
    pub key: Option<Option<Text>>,
    /// Patterns of names that may be missing, unexpected or of another shape. The head, what stands above the pooled
    /// feature, always may. What is not taken is named in a warning. @default []
    #[cfg_attr(test, ts(as = "Option<Vec<String>>"))]
    pub except: Option<Patterns>,
    /// Mean and standard deviation of each channel, by which pixels from 0 to 1 are normalised.
    /// torchvision's GoogLeNet wants 0.5 and 0.5 throughout. A teacher that wants another normalisation sees its own.
    /// @default what the file says (rkd's own), ImageNet's (other files, three channels), or (grey) what the run would
    /// have without weights
    pub normalization: Option<Option<Normalization>>,
}

/// Weights with all that can be said, or their file alone.
#[derive(Clone, Debug)]
pub struct WeightsOption(pub Weights);

impl<'de> Deserialize<'de> for WeightsOption {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let named = |file| Weights { file, key: None, except: None, normalization: None };
        path_or(deserializer, named).map(WeightsOption)
    }
}

/// Patterns of parameters.
#[derive(Clone, Debug, Default)]
pub struct Patterns(pub Vec<String>);

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let at = At::deserialize(deserializer)?;
        if !at.value.is_array() {
            let expected = "a list of patterns, for example [\"layer1\"]";
            return Err(carry(invalid(&at.path, expected, show(&at.value))));
        }
        let patterns: Vec<Text> = at.read().map_err(carry)?;
        Ok(Patterns(patterns.into_iter().map(Into::into).collect()))
    }
}

/// The K of Recall@K: unique and rising.
#[derive(Clone, Debug, PartialEq)]
pub struct Ks(pub Vec<usize>);

impl Default for Ks {
    fn default() -> Self {
        Ks(vec![1, 2, 4, 8])
    }
}

impl<'de> Deserialize<'de> for Ks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let at = At::deserialize(deserializer)?;
        if at.value.as_array().is_none_or(Vec::is_empty) {
            return Err(carry(invalid(&at.path, "a list of K, for example [1, 2, 4, 8]", show(&at.value))));
        }
        rising::<1>(&at).map(Ks).map_err(carry)
    }
}

/// A list of whole numbers from `LEAST` on, made unique and rising.
fn rising<const LEAST: u64>(at: &At) -> crate::error::Result<Vec<usize>> {
    let numbers = at.read::<Vec<Whole<LEAST, 1_000_000>>>()?.into_iter();
    Ok(numbers.map(Into::into).collect::<BTreeSet<usize>>().into_iter().collect())
}

/// Lengths of prefixes of an embedding: unique and rising.
#[derive(Clone, Debug, Default)]
pub struct PrefixLengths(pub Vec<usize>);

impl<'de> Deserialize<'de> for PrefixLengths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let at = At::deserialize(deserializer)?;
        if !at.value.is_array() {
            return Err(carry(invalid(&at.path, "a list of lengths, for example [32, 64]", show(&at.value))));
        }
        rising::<2>(&at).map(PrefixLengths).map_err(carry)
    }
}

/// A source of images, as glyphs(), imageFolder(), omniglot(), idx() and cifar100() make it.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields, rename = "Data"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataOptions {
    /// What the source must be. @default whatever it is found to be
    pub kind: Option<DataKind>,
    /// `"glyphs"`, with its settings or without, or a path: a folder, flat or with one for each class, a ZIP, a tar,
    /// Omniglot, IDX or CIFAR-100 files; a manifest (`.txt` with a path a line; `.csv`, `.tsv`, `.json`, `.jsonl` with `path`,
    /// and `class`, `part`, `id` where there are such); a pattern of paths (`"photos/2024-*"`); Parquet files with a column of
    /// images. Or a file of stored vectors, which an `mlp` makes shorter: `.npy`, `.npz`, Arrow, `.safetensors`, Parquet;
    /// with `kind: "vectors"` also `.csv` and `.jsonl`.
    #[cfg_attr(test, ts(type = "string | URL"))]
    pub source: PathText,
    /// Further paths of the same data set. @default []
    #[cfg_attr(test, ts(optional, type = "Array<string | URL>"))]
    pub more: Option<Vec<PathText>>,
    /// Of vectors: which columns, arrays or files hold them and their ids. @default found by their usual names
    #[cfg_attr(test, ts(optional, type = "Partial<VectorOptions> | null"))]
    pub vectors: Option<Option<VectorOptions>>,
    /// Of glyphs: number of characters, 2 to 10,000. @default 240
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub classes: Option<Whole<2, 10_000>>,
    /// Of glyphs: writers, each drawing every character once, 2 to 1,000. @default 20
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub writers: Option<Whole<2, 1_000>>,
    /// Of glyphs: seed of the drawings; not the run's. @default 0
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub seed: Option<Whole<0>>,
    /// Height and width in pixels; every image is resized (antialiased) to this square, 8 to 1024.
    /// @default the teacher's in a distillation; else 28 for glyphs, Omniglot and IDX, 32 for CIFAR-100, 64 for others
    #[cfg_attr(test, ts(as = "Option<usize>"))]
    pub image_size: Option<Whole<1, 1024>>,
    /// 1 (grey) or 3 (RGB). @default the teacher's in a distillation; else 1 for glyphs, Omniglot and IDX, 3 for others
    #[cfg_attr(test, ts(optional, type = "number"))]
    pub channels: Option<Channels>,
    /// Whether images have labels: their `"classes"`, or `"none"`. Without labels only losses that compare with a teacher
    /// go, and the teacher's relations say how good a student is.
    /// @default "classes" where there are two or more, else "none"
    pub labels: Option<Labels>,
    /// Whether every image comes in four turns, by 0, 90, 180 and 270 degrees, each a class of its own: the characters
    /// of Omniglot become four times as many (Snell et al. 2017). @default false
    pub rotations: Option<bool>,
    /// How images go to training, validation and test; shares without a kind are of the source's own kind of split, and
    /// with a `test` of its own of `"classes"`. @default see {@link Split}
    #[cfg_attr(test, ts(optional, type = "Split | Shares"))]
    pub split: Option<SplitOption>,
    /// Random changes of training images: `"affine"` for characters, `"crop-flip"` for photographs, `"none"`, or each
    /// strength by hand, where what is left out is off. @default "affine" for glyphs and Omniglot, else "crop-flip"
    #[cfg_attr(test, ts(optional, type = "\"affine\" | \"crop-flip\" | \"none\" | Partial<Augment>"))]
    pub augment: Option<AugmentOption>,
    /// Folder of the decoded images; nothing is written outside it.
    /// @default `$RKD_CACHE`, else `$XDG_CACHE_HOME/rkd`, else `~/.cache/rkd`
    #[cfg_attr(test, ts(optional, type = "string | URL"))]
    pub cache: Option<PathText>,
}

/// Shares of a split whose kind is the source's own.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shares {
    /// Share that chooses the checkpoint, in [0, 1). @default that of the source
    #[cfg_attr(test, ts(as = "Option<f64>"))]
    pub validation: Option<Share>,
    /// Share that only the final evaluation sees, in [0, 1). @default that of the source
    #[cfg_attr(test, ts(as = "Option<f64>"))]
    pub test: Option<Share>,
}

/// A split, or shares alone.
#[derive(Clone, Debug)]
pub enum SplitOption {
    /// As it says.
    Exactly(SplitPlan),
    /// The source's own with these shares.
    Shares(Shares),
}

impl<'de> Deserialize<'de> for SplitOption {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let at = At::deserialize(deserializer)?;
        let has = |name: &str| at.value.get(name).is_some();
        if (has("validation") || has("test")) && !has("kind") && !has("train") {
            return at.read().map(SplitOption::Shares).map_err(carry);
        }
        at.read().map(SplitOption::Exactly).map_err(carry)
    }
}

/// 1 (grey) or 3 (RGB); in a whole plan of vectors the numbers of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels(pub usize);

impl<'de> Deserialize<'de> for Channels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let At { path, value } = At::deserialize(deserializer)?;
        match value.as_u64() {
            Some(channels @ 1..=65_536) => Ok(Channels(channels as usize)),
            _ => Err(carry(invalid(path, "1 or 3", show(&value)))),
        }
    }
}

/// Random changes by name, or each by hand.
#[derive(Clone, Debug)]
pub enum AugmentOption {
    /// For characters: what another hand would change, and no mirror image, which is another character.
    Affine,
    /// For photographs.
    CropFlip,
    /// As they say.
    Exactly(AugmentSpec),
}

impl<'de> Deserialize<'de> for AugmentOption {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let at = At::deserialize(deserializer)?;
        if at.value.is_object() {
            return at.read().map(AugmentOption::Exactly).map_err(carry);
        }
        match one_of(&at.path, &at.value, &["affine", "crop-flip", "none"]).map_err(carry)? {
            "affine" => Ok(AugmentOption::Affine),
            "crop-flip" => Ok(AugmentOption::CropFlip),
            _ => Ok(AugmentOption::Exactly(AugmentSpec::default())),
        }
    }
}

/// A source with all that can be said, or its name alone.
#[derive(Clone, Debug)]
pub struct DataOption(pub DataOptions);

impl DataOptions {
    /// The source with every default.
    fn named(source: PathText) -> DataOptions {
        DataOptions {
            kind: None,
            source,
            more: None,
            vectors: None,
            classes: None,
            writers: None,
            seed: None,
            image_size: None,
            channels: None,
            labels: None,
            rotations: None,
            split: None,
            augment: None,
            cache: None,
        }
    }
}

impl<'de> Deserialize<'de> for DataOption {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        path_or(deserializer, DataOptions::named).map(DataOption)
    }
}

/// What the loop of segments does between them. It stands beside the plan in `plan.json`, under the names of the
/// options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Evaluation during training.
    pub evaluation: EvaluationPolicy,
    /// Which weights become the model.
    pub keep: Keep,
    /// Evaluations without a new best after which the run ends; `None`: never.
    pub patience: Option<u64>,
    /// Steps between checkpoints besides those after decisions; `None`: no others.
    pub checkpoint_every_steps: Option<u64>,
    /// Whether the same student is trained without its teacher too.
    pub baseline: bool,
}

/// See [`EvaluationOptions`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct EvaluationPolicy {
    /// Epochs between evaluations; `None`: only by steps.
    pub every_epochs: Option<u64>,
    /// Steps between evaluations; `None`: only by epochs.
    pub every_steps: Option<u64>,
    /// The K of Recall@K, rising.
    pub ks: Vec<usize>,
    /// The classes that say which weights are the best.
    pub part: ChoosingPart,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Job {
    /// A network from images and labels.
    Train,
    /// A student from a teacher.
    Distill,
}

/// A run that is ready to start.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct ResolvedRun {
    /// What it is for.
    pub job: Job,
    /// Absolute path of its folder.
    pub out: PathBuf,
    /// Whether a run in that folder is replaced.
    pub overwrite: bool,
    /// The plan.
    pub plan: Plan,
    /// What is done between its segments.
    pub policy: Policy,
    /// The plan of the same student by labels alone, where it is asked for.
    pub baseline: Option<Plan>,
    /// Whether data that have changed are accepted.
    pub accept_changed_data: bool,
    /// What had to be assumed, in full sentences.
    pub warnings: Vec<String>,
}

/// Episodes whose accuracy `evaluate` measures, by the nearest mean of the supports (Snell et al. 2017).
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FewShot {
    /// Classes, at least 2.
    #[cfg_attr(test, ts(as = "usize"))]
    pub way: Whole<2, 10_000>,
    /// Support images of each class, at least 1.
    #[cfg_attr(test, ts(as = "usize"))]
    pub shots: Whole<1, 10_000>,
    /// Query images of each class, at least 1. @default 15
    #[cfg_attr(test, ts(as = "Option<usize>"))]
    pub queries: Option<Whole<1, 10_000>>,
    /// Number of episodes, at least 2. @default 1000
    #[cfg_attr(test, ts(as = "Option<usize>"))]
    pub episodes: Option<Whole<2, 1_000_000>>,
}

impl From<FewShot> for FewShotPlan {
    fn from(FewShot { way, shots, queries, episodes }: FewShot) -> Self {
        FewShotPlan {
            way: way.into(),
            shots: shots.into(),
            queries: queries.map_or(15, Into::into),
            episodes: episodes.map_or(1000, Into::into),
        }
    }
}

/// What `evaluate` takes.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvaluateOptions {
    /// The folder of a finished run, or a `model.safetensors`.
    #[cfg_attr(test, ts(type = "string | URL"))]
    pub model: PathText,
    /// The images. @default those of the run
    #[cfg_attr(test, ts(optional, type = "Data | string | URL"))]
    pub data: Option<DataOption>,
    /// Which classes. @default "test"
    pub part: Option<Part>,
    /// The K of Recall@K, of kNN accuracy and, where a classifier knows the classes, of top-K accuracy, each at least
    /// 1.
    /// @default [1, 2, 4, 8]
    #[cfg_attr(test, ts(as = "Option<Vec<usize>>"))]
    pub ks: Option<Ks>,
    /// Few-shot accuracies to measure, each over episodes drawn from the part's classes. @default none
    pub few_shot: Option<Vec<FewShot>>,
    /// The teacher whose relations are compared with the model's: as of `distill`; `null` is none. Without labels it is
    /// needed. @default null; without labels the run's own teachers
    #[cfg_attr(test, ts(optional, type = "string | URL | Teacher | null"))]
    pub teacher: Option<Option<TeacherOption>>,
    /// Several teachers, in place of `teacher`. Without labels the metrics are the averages over them, by their weights.
    #[cfg_attr(test, ts(optional, type = "Array<string | URL | Teacher>"))]
    pub teachers: Option<Vec<TeacherOption>>,
    /// CPU threads, 0 to 1024; 0 is all cores. @default 0
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub threads: Option<Threads>,
    /// Seed of few-shot episodes and of what fidelity is measured on; where `splitSeed` is not given, of the split too.
    /// @default the run's, else 1
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub seed: Option<Whole<0>>,
    /// Seed of the split. Another one than the model was trained with makes training classes into test classes, which a
    /// warning says. @default `seed`; else the model's
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub split_seed: Option<Whole<0>>,
    /// Whether the data may have changed since the model was trained on them. Then they are measured by the stored split,
    /// in which nothing that is new has a part. @default false: an error that says what has changed
    pub accept_changed_data: Option<bool>,
}

/// What `neighbours` takes.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NeighboursOptions {
    /// The folder of a finished run, or a `model.safetensors`.
    #[cfg_attr(test, ts(type = "string | URL"))]
    pub model: PathText,
    /// The images. @default those of the run
    #[cfg_attr(test, ts(optional, type = "Data | string | URL"))]
    pub data: Option<DataOption>,
    /// Which classes. @default "test"
    pub part: Option<Part>,
    /// Number of queries, drawn by the seed, each of another class while there are classes, 1 to 1000. @default 8
    #[cfg_attr(test, ts(as = "Option<usize>"))]
    pub queries: Option<Whole<1, 1000>>,
    /// Neighbours of each query, 1 to 1000. @default 8
    #[cfg_attr(test, ts(as = "Option<usize>"))]
    pub k: Option<Whole<1, 1000>>,
    /// CPU threads, 0 to 1024; 0 is all cores. @default 0
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub threads: Option<Threads>,
    /// Seed of the queries; where `splitSeed` is not given, of the split too. @default the run's, else 1
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub seed: Option<Whole<0>>,
    /// Seed of the split. @default `seed`; else the model's
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub split_seed: Option<Whole<0>>,
    /// As of `evaluate`. @default false
    pub accept_changed_data: Option<bool>,
}

/// What `embed` takes.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmbedOptions {
    /// The folder of a finished run, or a `model.safetensors`.
    #[cfg_attr(test, ts(type = "string | URL"))]
    pub model: PathText,
    /// The images; all of them are embedded, or a shard.
    #[cfg_attr(test, ts(type = "Data | string | URL"))]
    pub data: DataOption,
    /// The file to write: `.npy`, with `<name>.ids.json` beside it, `.safetensors`, `.csv`, `.jsonl`, `.parquet` or `.arrow`,
    /// which hold their ids.
    #[cfg_attr(test, ts(type = "string | URL"))]
    pub out: PathText,
    /// Form of the file. @default by the name's ending
    pub format: Option<EmbedFormat>,
    /// Embeds this shard of the images alone, into a file of its own: shard 3 of 100 of `vectors.npy` is
    /// `vectors-00003-of-00100.npy`. One that is finished is left as it is. `mergeShards` makes one file of all. `{}` is the shard that
    /// the scheduler gives this process. @default all images, whatever the environment says
    pub shard: Option<ShardOptions>,
    /// CPU threads, 0 to 1024; 0 is all cores. @default 0
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub threads: Option<Threads>,
}

/// Which shard of the images a process embeds: one of so many neighbouring parts of the same size, but for an image. What is not said
/// the scheduler says that has started the process: a Kubernetes Indexed Job (`JOB_COMPLETION_INDEX`), a Slurm array
/// (`SLURM_ARRAY_TASK_ID`), an AWS Batch array job (`AWS_BATCH_JOB_ARRAY_INDEX`) or a Cloud Run job (`CLOUD_RUN_TASK_INDEX`).
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShardOptions {
    /// Which one, from 0 and below `count`. @default the scheduler's
    #[cfg_attr(test, ts(as = "Option<usize>"))]
    pub index: Option<Whole<0, 99_998>>,
    /// How many there are, 1 to 99,999; needed beside `index`. @default the scheduler's, which Kubernetes does not say
    #[cfg_attr(test, ts(as = "Option<usize>"))]
    pub count: Option<Whole<1, 99_999>>,
}

/// What `mergeShards` takes.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MergeOptions {
    /// The `out` that the shards were written with: the file to write, beside which they lie.
    #[cfg_attr(test, ts(type = "string | URL"))]
    pub out: PathText,
}

/// What `loadModel` takes.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadModelOptions {
    /// The folder of a finished run, a `model.safetensors`, an ONNX model, or a folder with one (`model.onnx`,
    /// `onnx/model.onnx`).
    #[cfg_attr(test, ts(type = "string | URL"))]
    pub model: PathText,
    /// CPU threads, 0 to 1024; 0 is all cores. @default 0
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub threads: Option<Threads>,
    /// Most images of one forward pass, 1 to 4096. Calls that wait at the same time share a pass up to that. @default 64
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub batch: Option<Whole<1, 4096>>,
    /// How an ONNX model is read. @default found out from the file
    #[cfg_attr(test, ts(optional, type = "Partial<OnnxOptions> | null"))]
    pub onnx: Option<Option<OnnxOptions>>,
}

/// What `relationFidelity` takes besides the two embeddings.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FidelityOptions {
    /// The K of Recall@K of the teacher's nearest neighbour, each at least 1. @default [1, 2, 4, 8]
    #[cfg_attr(test, ts(as = "Option<Vec<usize>>"))]
    pub ks: Option<Ks>,
    /// Neighbours that are compared of each item, at most a quarter of the others, rounded up. @default 10
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub neighbours: Option<Whole<1, 1_000_000>>,
    /// Pairs of items at most whose distances are compared; of more, so many are drawn. @default 4000000
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub pairs: Option<Whole<1, 1_000_000_000>>,
    /// Triples that are drawn for angles. @default 100000
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub triples: Option<Whole<1, 1_000_000_000>>,
    /// Seed of what is drawn. @default 0
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub seed: Option<Whole<0>>,
    /// CPU threads, 0 to 1024; 0 is all cores. The result has the same bits on any number. @default 0
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub threads: Option<Threads>,
}

impl FidelityOptions {
    /// The options of the metric, and the threads.
    pub fn resolve(self) -> (metrics::FidelityOptions, usize) {
        let usual = metrics::FidelityOptions::default();
        let options = metrics::FidelityOptions {
            pairs: self.pairs.map_or(usual.pairs, Into::into),
            triples: self.triples.map_or(usual.triples, Into::into),
            neighbours: self.neighbours.map_or(usual.neighbours, Into::into),
            ks: self.ks.unwrap_or_default().0,
            seed: self.seed.map_or(usual.seed, Into::into),
        };
        (options, run::threads(self.threads))
    }
}

/// What `exportModel` takes.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportOptions {
    /// The folder of a finished run, or a `model.safetensors`.
    #[cfg_attr(test, ts(type = "string | URL"))]
    pub model: PathText,
    /// What it is exported for.
    pub to: ExportTarget,
    /// The folder to write, which is made; one that holds something else than an export is an error.
    #[cfg_attr(test, ts(type = "string | URL"))]
    pub out: PathText,
    /// Whether an export in `out` may be replaced. @default false
    pub overwrite: Option<bool>,
    /// The form of the weights, or several, a file each; for timm and safetensors float32 alone. Of several the first is the
    /// one that transformers.js takes by itself. @default "float32"
    #[cfg_attr(test, ts(optional, type = "Dtype | Array<Dtype>"))]
    pub dtype: Option<Dtypes>,
    /// What an ONNX file takes: `"floats"`, normalised by the caller, or, for onnx alone, `"bytes"`. @default "floats"
    pub input: Option<ExportInput>,
    /// The images that int8 is calibrated on and all is measured on. @default those of the run
    #[cfg_attr(test, ts(optional, type = "Data | string | URL"))]
    pub data: Option<DataOption>,
    /// The teacher whose relations are compared with the model's: as of `distill`; `null` is none.
    /// @default the run's own teachers, those that are still there
    #[cfg_attr(test, ts(optional, type = "string | URL | Teacher | null"))]
    pub teacher: Option<Option<TeacherOption>>,
    /// Several teachers, in place of `teacher`.
    #[cfg_attr(test, ts(optional, type = "Array<string | URL | Teacher>"))]
    pub teachers: Option<Vec<TeacherOption>>,
    /// Training images that int8 is calibrated on, drawn by the run's seed, 1 to 100,000. @default 200
    #[cfg_attr(test, ts(as = "Option<usize>"))]
    pub calibration_images: Option<Whole<1, 100_000>>,
    /// Whether what was written is measured on the test images. @default true, where the data are there
    pub measure: Option<bool>,
    /// The K of Recall@K, each at least 1. @default [1, 2, 4, 8]
    #[cfg_attr(test, ts(as = "Option<Vec<usize>>"))]
    pub ks: Option<Ks>,
    /// What ONNX files are measured by. @default "auto"
    pub engine: Option<EngineChoice>,
    /// The library of onnxruntime. @default `$RKD_ONNXRUNTIME`, else that of an installed onnxruntime-node
    #[cfg_attr(test, ts(optional, type = "string | URL"))]
    pub onnxruntime: Option<PathText>,
    /// The lowest Recall@K of the smallest K, in [0, 1]; without labels the share of images whose nearest image for the teacher
    /// is among the K nearest. What falls below is told by `missed`. @default no such gate
    #[cfg_attr(test, ts(as = "Option<f64>"))]
    pub min_recall: Option<Unit>,
    /// The most bytes of a file of weights. @default no such gate
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub max_bytes: Option<Whole<1>>,
    /// The lowest mean cosine of embeddings and those of the model before export, in [0, 1]. @default no such gate
    #[cfg_attr(test, ts(as = "Option<f64>"))]
    pub min_cosine: Option<Unit>,
    /// CPU threads, 0 to 1024; 0 is all cores. @default 0
    #[cfg_attr(test, ts(as = "Option<u64>"))]
    pub threads: Option<Threads>,
    /// As of `evaluate`. @default false
    pub accept_changed_data: Option<bool>,
}

/// Forms of weights: one, or a list without repetitions.
#[derive(Clone, Debug)]
pub struct Dtypes(pub Vec<Dtype>);

impl<'de> Deserialize<'de> for Dtypes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let at = At::deserialize(deserializer)?;
        if !at.value.is_array() {
            return at.read().map(|dtype| Dtypes(vec![dtype])).map_err(carry);
        }
        let dtypes: Vec<Dtype> = at.read().map_err(carry)?;
        let repeated = (1..dtypes.len()).any(|place| dtypes[..place].contains(&dtypes[place]));
        if dtypes.is_empty() || repeated {
            let expected = "one dtype or more, each once";
            let received = if repeated { "a dtype twice".into() } else { show(&at.value) };
            return Err(carry(invalid(&at.path, expected, received)));
        }
        Ok(Dtypes(dtypes))
    }
}
