//! What a session's calls return: plain, serialisable facts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::device::Device;
use super::event::Term;
use crate::data::DatasetSummary;
use crate::metrics::Fidelity;

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
    /// The teacher of a distillation.
    pub teacher: Option<NetworkSummary>,
    /// Batches of one epoch.
    pub steps_per_epoch: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// Steps done already (after a resume).
    pub step: u64,
    /// Where the student runs.
    pub device: Device,
    /// CPU threads in use.
    pub threads: usize,
    /// Instruction set in use.
    pub instruction_set: String,
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

/// What a call of `train` did.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct SegmentReport {
    /// Steps done since the run began.
    pub step: u64,
    /// Whether it stopped early because the caller cancelled.
    pub cancelled: bool,
    /// Wall-clock time of the segment.
    pub seconds: f64,
    /// Part of it spent waiting for data.
    pub data_wait_seconds: f64,
    /// Images shown to the network in the segment.
    pub images: u64,
    /// Mean total loss of the segment's steps.
    pub loss: f64,
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
    /// episode asked for; `top@K` where a classifier knows the classes; all in `[0, 1]`. Without labels, of the teacher's
    /// relations: `neighbourOverlap`, `teacherRecall@K` for every K asked for, both in `[0, 1]`, `distanceRankCorrelation` and
    /// `angleRankCorrelation`, in `[-1, 1]`.
    pub metrics: BTreeMap<String, f64>,
    /// Half the width of the 95 % interval of those metrics that are means over a sample (few-shot accuracy).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(test, ts(optional, as = "Option<BTreeMap<String, f64>>"))]
    pub intervals: BTreeMap<String, f64>,
    /// Images that were embedded; each is a query against all others.
    pub images: usize,
    /// Classes among them; 0 without labels.
    pub classes: usize,
    /// Mean time of the network's forward pass for one image, in batches of [`super::evaluate::BATCH`].
    pub milliseconds_per_image: f64,
    /// How well the relations of a teacher are kept, where one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub fidelity: Option<Fidelity>,
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
    /// Mean time of the network's forward pass for one image.
    pub milliseconds_per_image: f64,
}
