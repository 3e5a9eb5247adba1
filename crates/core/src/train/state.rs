//! What a session remembers beside tensors, and whether a checkpoint is one of this run.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::balance::Balance;
use super::checkpoint::Checkpoint;
use super::collapse::CollapseAlarm;
use super::device::Device;
use super::event::{Control, Event};
use super::plan::Plan;
use crate::data::{DataOutline, Normalization};
use crate::error::{Code, Error, Result};

/// What a session remembers between steps beside tensors.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub balance: Balance,
    pub alarm: CollapseAlarm,
    /// The hash of the teacher.
    pub teacher: Option<String>,
    /// The data, and their parts.
    pub data: Option<DataOutline>,
    /// What the student's images are normalised by: that of the training images of the start, whatever comes later.
    pub normalization: Option<Normalization>,
    /// The batches of an epoch. Data that have changed would make it another number, and step and epoch would not agree.
    pub steps_per_epoch: Option<u64>,
}

/// The plan as a checkpoint compares it: threads and the cache's place do not change a run, and another device may go on
/// with it. Where data and teacher lie says nothing either: what they are is compared by fingerprint and hash. The classes
/// of the classifier are not the plan's, they follow from the data.
pub(super) fn comparable(plan: &Plan) -> Result<Value> {
    let mut plan = plan.clone();
    plan.threads = 0;
    plan.device = Device::default();
    plan.data.cache = Default::default();
    plan.data.source.clear();
    plan.data.more.clear();
    if let Some(teacher) = &mut plan.teacher {
        teacher.model = Default::default();
    }
    plan.backbone.classes = None;
    to_json(&plan)
}

pub(super) fn to_json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::new(Code::Internal, format!("a value has no JSON form: {e}")))
}

/// The state of a checkpoint.
pub(super) fn read_state(state: Value) -> Result<State> {
    serde_json::from_value(state).map_err(|e| {
        Error::new(Code::InvalidArtefact, "the checkpoint's state is damaged")
            .with_advice("start the run anew")
            .with_source(e)
    })
}

/// A run goes on with the teacher it was started with; `hash` is that of the one that is there.
pub(super) fn check_teacher_hash(state: &State, hash: Option<&str>) -> Result<()> {
    if state.teacher.as_deref() == hash {
        return Ok(());
    }
    let words = |hash: Option<&str>| hash.map_or("none".to_string(), |hash| format!("the hash {hash}"));
    Err(Error::new(Code::InvalidArtefact, "the checkpoint belongs to another teacher")
        .with_subject("teacher")
        .with_values(words(state.teacher.as_deref()), words(hash))
        .with_advice("put the old teacher back, or start the run anew"))
}

pub(super) fn load_checkpoint(path: &Path, plan: &Plan, control: &Control) -> Result<Checkpoint> {
    let (checkpoint, warning) = Checkpoint::load_last(path)?;
    if let Some(message) = warning {
        control.emit(Event::Warning { message });
    }
    let expected = comparable(plan)?;
    if checkpoint.plan == expected {
        if checkpoint.device != plan.device {
            let (before, now) = (checkpoint.device.name(), plan.device.name());
            let message = format!(
                "The checkpoint is from the device {before} and the run goes on on {now}: its result will not be the one \
                 of a run on one device, bit for bit."
            );
            control.emit(Event::Warning { message });
        }
        return Ok(checkpoint);
    }
    let differ = |(name, value): (&String, &Value)| (checkpoint.plan.get(name) != Some(value)).then(|| name.clone());
    let names: Vec<String> = expected.as_object().into_iter().flatten().filter_map(differ).collect();
    Err(Error::new(Code::InvalidArtefact, "the checkpoint belongs to another plan")
        .with_subject(path.display().to_string())
        .with_values("a checkpoint of this plan", format!("one that differs in {}", names.join(", ")))
        .with_advice("resume with the plan.json beside it, or start the run anew"))
}
