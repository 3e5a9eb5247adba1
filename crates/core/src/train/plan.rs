//! The plan: one complete, printable description of a run, with every default filled in.
//!
//! [`options`](crate::options) make it of what a user says. `plan.json` in the output folder holds this structure. Field
//! names are camelCase in JSON, and those of the options.

use serde::{Deserialize, Serialize};

use super::initial_weights::WeightsPlan;
use super::teacher::TeacherPlan;
use crate::backbones::BackboneSpec;
use crate::data::{BatchPlan, DataPlan};
use crate::devices::Device;
use crate::losses::TermSpec;
use crate::nn::Precision;
use crate::nn::tuning::TuningPlan;
use crate::optim::{OptimizerSpec, ScheduleSpec};

/// A training run of one network: `train` without a teacher, `distill` with one or more.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
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
    /// The teachers, for a distillation; their names are all different.
    #[serde(default)]
    pub teachers: Vec<TeacherPlan>,
    /// The weighted terms of the total loss; at least one.
    #[cfg_attr(test, ts(type = "Array<Loss>"))]
    pub losses: Vec<TermSpec>,
    /// Lengths of the prefixes of the student's embedding that terms are evaluated on too, rising. See
    /// [`Prefixes`](crate::losses::Prefixes).
    #[serde(default)]
    pub prefixes: Vec<usize>,
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
    /// The seed of the class split: which classes, or images, are in which part.
    pub split_seed: u64,
    /// Number of CPU threads; 0: all cores.
    pub threads: usize,
    /// Where the network runs.
    #[serde(default)]
    pub device: Device,
    /// In which numbers it runs there.
    #[serde(default)]
    pub precision: Precision,
}
