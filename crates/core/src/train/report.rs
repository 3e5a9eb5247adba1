//! What a session's calls return: plain, serialisable facts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::event::Term;
use crate::data::{BrokenImage, DatasetSummary};
use crate::devices::Device;
use crate::metrics::Fidelity;
use crate::nn::Precision;

/// What a session is about to do.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct SessionSummary {
    /// What the data is.
    pub data: DatasetSummary,
    /// Images and classes of the three parts.
    pub train: PartSize,
    /// Images and classes that choose the checkpoint; may be empty.
    pub validation: PartSize,
    /// Images and classes of the final evaluation; may be empty.
    pub test: PartSize,
    /// The network that is trained.
    pub student: NetworkSummary,
    /// The teachers of a distillation.
    pub teachers: Vec<TeacherSummary>,
    /// Batches of one epoch.
    pub steps_per_epoch: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// Steps done already (after a resume).
    pub step: u64,
    /// Where the student runs.
    pub device: Device,
    /// In which numbers it computes there.
    pub precision: Precision,
    /// Processes that train together, see [`crate::ranks`].
    pub ranks: usize,
    /// CPU threads in use, in this process.
    pub threads: usize,
    /// Instruction set in use.
    pub instruction_set: String,
    /// What memory the run takes at its peak.
    pub memory: MemoryEstimate,
}

/// The memory of a run at its peak, in bytes. The parts make up `total`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct MemoryEstimate {
    /// What the process had before; 0 where the system does not say.
    pub process: u64,
    /// Weights and running statistics of student and teachers, and what losses learn.
    pub networks: u64,
    /// What the forward passes keep for the way back.
    pub activations: u64,
    /// The gradients of parameters and activations.
    pub gradients: u64,
    /// The optimiser's state.
    pub optimizer: u64,
    /// What evaluations during training take beside that.
    pub evaluation: u64,
    /// Working memory of the kernels.
    pub kernels: u64,
    /// The features on the host, and what losses make of them.
    pub losses: u64,
    /// Batches that are made ahead.
    pub loader: u64,
    /// The teachers' features of all training images, where they are computed once.
    pub teacher_features: u64,
    /// The list of the images.
    pub listing: u64,
    /// The best weights so far.
    pub best: u64,
    /// What no part counts: the addon's code, stacks, what allocators keep.
    pub other: u64,
    /// The largest of what comes and goes: a checkpoint, the final evaluation, reading a teacher.
    pub moment: u64,
    /// All of it.
    pub total: u64,
}

impl MemoryEstimate {
    /// What the run takes beside what the process had.
    pub fn needed(&self) -> u64 {
        self.total - self.process
    }

    /// The parts with their names, for people.
    pub(super) fn parts(&self) -> Vec<(&'static str, u64)> {
        let MemoryEstimate { networks, activations, gradients, optimizer, evaluation, kernels, .. } = *self;
        let MemoryEstimate { losses, loader, teacher_features, listing, best, other, moment, .. } = *self;
        vec![
            ("networks", networks),
            ("activations", activations),
            ("gradients", gradients),
            ("the optimiser's state", optimizer),
            ("evaluation", evaluation),
            ("kernels", kernels),
            ("losses", losses),
            ("batches made ahead", loader),
            ("the teachers' features", teacher_features),
            ("the list of images", listing),
            ("the best weights", best),
            ("other", other),
            ("checkpoints and the final evaluation", moment),
        ]
    }
}

/// Size of one part of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct PartSize {
    /// Number of images.
    pub images: usize,
    /// Number of classes.
    pub classes: usize,
}

/// Size of one network.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct NetworkSummary {
    /// The architecture's name, or whatever a teacher is called.
    pub backbone: String,
    /// Trainable numbers (running statistics not counted).
    pub parameters: usize,
    /// Length of the embedding.
    pub embedding: usize,
}

/// One teacher of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct TeacherSummary {
    /// What it is called.
    pub name: String,
    /// Its weight in averages over the teachers.
    pub weight: f64,
    /// Its size; it has no parameters where it is no network.
    #[serde(flatten)]
    pub network: NetworkSummary,
}

/// What a call of `train` did.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct SegmentReport {
    /// Steps done since the run began.
    pub step: u64,
    /// Whether it stopped early because the caller, or that of another rank, cancelled.
    pub cancelled: bool,
    /// Wall-clock time of the segment.
    pub seconds: f64,
    /// Part of it spent waiting for data.
    pub data_wait_seconds: f64,
    /// Part of it spent waiting for other ranks, and for what they sent.
    pub rank_wait_seconds: f64,
    /// Images shown to the network in the segment.
    pub images: u64,
    /// Mean total loss of the segment's steps.
    pub loss: f64,
    /// Whether the student's embeddings have run together in one point, in this segment or before.
    pub collapsed: bool,
    /// Each term that was computed in at least one step.
    pub terms: Vec<TermMean>,
}

/// One term over some steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct TermMean {
    /// Steps in which it was computed: those in which its weight was not 0.
    pub steps: u64,
    /// Means over these steps; the weight is that of the last one.
    #[serde(flatten)]
    pub term: Term,
}

/// The result of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Evaluation {
    /// `recall@K` and `knn@K` for every K asked for, `mapAtR`, `rPrecision`, and `fewshot/N-way-K-shot` for every shape of
    /// episode asked for; `top@K` where a classifier knows the classes; all in `[0, 1]`. Without labels, of the relations of
    /// the teachers, the average over them by their weights: `neighbourOverlap`, `teacherRecall@K` for every K asked for, both
    /// in `[0, 1]`, `distanceRankCorrelation` and `angleRankCorrelation`, in `[-1, 1]`.
    pub metrics: BTreeMap<String, f64>,
    /// Half the width of the 95 % interval of those metrics that are means over a sample (few-shot accuracy).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(test, ts(optional, as = "Option<BTreeMap<String, f64>>"))]
    pub intervals: BTreeMap<String, f64>,
    /// Images that were embedded; each is a query against all others.
    pub images: usize,
    /// Classes among them; 0 without labels.
    pub classes: usize,
    /// Time of the network's forward pass for one image, in the quickest batch of [`super::evaluate::BATCH`] of them.
    pub milliseconds_per_image: f64,
    /// How well the relations of each teacher are kept, where any were given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(optional, as = "Option<Vec<TeacherFidelity>>"))]
    pub fidelity: Vec<TeacherFidelity>,
    /// The same of each prefix of the embedding that a stored model was trained for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(optional, as = "Option<Vec<PrefixEvaluation>>"))]
    pub prefixes: Vec<PrefixEvaluation>,
}

/// How well the relations of one teacher are kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct TeacherFidelity {
    /// What the teacher is called.
    pub teacher: String,
    /// Its weight in averages over the teachers.
    pub weight: f64,
    /// How well they are kept.
    #[serde(flatten)]
    pub fidelity: Fidelity,
}

/// What the first numbers of an embedding are worth, divided by their own norm where the network normalises.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct PrefixEvaluation {
    /// How many.
    pub embedding: usize,
    /// As [`Evaluation::metrics`], but for the accuracy of the classifier, which sees the whole.
    pub metrics: BTreeMap<String, f64>,
    /// As [`Evaluation::intervals`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(test, ts(optional, as = "Option<BTreeMap<String, f64>>"))]
    pub intervals: BTreeMap<String, f64>,
    /// As [`Evaluation::fidelity`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(optional, as = "Option<Vec<TeacherFidelity>>"))]
    pub fidelity: Vec<TeacherFidelity>,
}

/// What `embed` wrote.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct EmbedReport {
    /// The file.
    pub out: String,
    /// Rows of the matrix.
    pub images: usize,
    /// Columns of the matrix.
    pub embedding: usize,
    /// Time of the network's forward pass for one image, in the quickest batch.
    pub milliseconds_per_image: f64,
    /// Every image that has no row, and why.
    pub left_out: Vec<BrokenImage>,
    /// Which shard of the images these are, where they are one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub shard: Option<WrittenShard>,
}

/// The shard that `embed` wrote, or found finished.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct WrittenShard {
    /// Which one, from 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
    /// Whether it was finished before: nothing was embedded then, and the report is that of before.
    pub skipped: bool,
}

/// What `mergeShards` wrote.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct MergeReport {
    /// The file.
    pub out: String,
    /// Rows of the matrix.
    pub images: usize,
    /// Columns of the matrix.
    pub embedding: usize,
    /// Shards that were joined.
    pub shards: usize,
    /// Every image that has no row, and why.
    pub left_out: Vec<BrokenImage>,
}
