//! What a session remembers beside tensors, and whether a checkpoint is one of this run.

use std::path::Path;

use rkd_kernels::Isa;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::balance::Balance;
use super::checkpoint::Checkpoint;
use super::collapse::CollapseAlarm;
use super::event::{Control, Event};
use super::plan::Plan;
use super::teacher::TeacherPlan;
use crate::data::{DataOutline, Normalization};
use crate::devices::Device;
use crate::error::{Code, Error, Result};
use crate::input::show;
use crate::nn::Precision;
use crate::optim::ScheduleSpec;

/// What a session remembers between steps beside tensors.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub balance: Balance,
    pub alarm: CollapseAlarm,
    /// The hashes of the teachers.
    #[serde(default)]
    pub teachers: Vec<String>,
    /// The data, and their parts.
    pub data: Option<DataOutline>,
    /// What the student's images are normalised by: that of the training images of the start, whatever comes later.
    pub normalization: Option<Normalization>,
    /// The batches of an epoch. Data that have changed would make it another number, and step and epoch would not agree.
    pub steps_per_epoch: Option<u64>,
    /// The instruction set of the last processor.
    pub instructions: Option<Instructions>,
}

/// An instruction set of the kernels, as far as it shows in the bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Instructions {
    name: String,
    is_fused: bool,
}

impl Instructions {
    pub(super) fn of(isa: Isa) -> Self {
        Instructions { name: isa.name().into(), is_fused: isa.is_fused() }
    }

    /// A sentence where a run that was computed with `before` goes on with these and gets other bits.
    pub(super) fn differs(&self, before: &Instructions) -> Option<String> {
        (self.is_fused != before.is_fused).then(|| {
            format!(
                "The checkpoint is from the instruction set {} and the run goes on with {}, which rounds otherwise: its result will not \
                 be the one of a run on one of them, bit for bit. RKD_ISA names one for all.",
                before.name, self.name
            )
        })
    }
}

/// The plan as a checkpoint compares it: threads and the cache's place do not change a run, and another device may go on
/// with it, or the same in another precision. Where data and teachers lie says nothing either: what they are is compared by fingerprint and hash. The classes
/// of the classifier are not the plan's, they follow from the data.
pub(super) fn comparable(plan: &Plan) -> Result<Value> {
    let mut plan = plan.clone();
    plan.threads = 0;
    plan.device = Device::default();
    plan.precision = Precision::default();
    plan.data.cache = Default::default();
    plan.data.source.clear();
    plan.data.more.clear();
    for teacher in &mut plan.teachers {
        teacher.model = Default::default();
        if let Some(onnx) = &mut teacher.onnx {
            onnx.onnxruntime = None;
        }
        if let Some(vectors) = &mut teacher.vectors {
            vectors.ids = None;
        }
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

/// A run goes on with the teachers it was started with; `hashes` are those of the ones that are there, of these `plans`.
pub(super) fn check_teacher_hashes(state: &State, hashes: &[String], plans: &[TeacherPlan]) -> Result<()> {
    let Some(place) = (0..plans.len()).find(|&place| state.teachers.get(place) != hashes.get(place)) else {
        return Ok(());
    };
    let words = |hash: Option<&String>| hash.map_or("none".to_string(), |hash| format!("the hash {hash}"));
    Err(Error::new(Code::InvalidArtefact, "the checkpoint belongs to another teacher")
        .with_subject(format!("teacher {}", plans[place].name))
        .with_values(words(state.teachers.get(place)), words(hashes.get(place)))
        .with_advice("put the old teacher back, or start the run anew"))
}

pub(super) fn load_checkpoint(path: &Path, plan: &Plan, control: &Control) -> Result<Checkpoint> {
    let (checkpoint, warning) = Checkpoint::load_last(path)?;
    if let Some(message) = warning {
        control.emit(Event::Warning { message });
    }
    let expected = comparable(plan)?;
    let mut stored = checkpoint.plan.clone();
    // More epochs change none of those that are done, unless the learning rate depends on their number.
    if !matches!(plan.schedule, ScheduleSpec::Cosine { .. }) {
        stored["epochs"] = plan.epochs.into();
    }
    if stored == expected {
        if checkpoint.device != plan.device {
            let (before, now) = (checkpoint.device, plan.device);
            let message = format!(
                "The checkpoint is from the device {before} and the run goes on on {now}: its result will not be the one \
                 of a run on one device, bit for bit."
            );
            control.emit(Event::Warning { message });
        }
        if checkpoint.precision != plan.precision {
            let (before, now) = (checkpoint.precision, plan.precision);
            let message = format!(
                "The checkpoint was computed in {before} and the run goes on in {now}: its result will not be the one of a \
                 run in one precision."
            );
            control.emit(Event::Warning { message });
        }
        return Ok(checkpoint);
    }
    let mut changes = Vec::new();
    differences("", &stored, &expected, &mut changes);
    Err(Error::new(Code::InvalidArtefact, "plan.json is not the plan that this run began with")
        .with_subject(path.display().to_string())
        .with_values(
            format!("{}, as the checkpoint has it", in_words(&changes, |change| &change.before)),
            in_words(&changes, |change| &change.now),
        )
        .with_advice("put the old values back into plan.json, or start a new run in another folder"))
}

/// A field of a plan with two values.
pub(super) struct Change {
    pub name: String,
    pub before: Value,
    pub now: Value,
}

/// The first few of `changes`, each with one of its values.
pub(super) fn in_words(changes: &[Change], which: fn(&Change) -> &Value) -> String {
    let words = |change: &Change| format!("{}: {}", change.name, brief(which(change)));
    let more = changes.len().saturating_sub(3);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    changes.iter().take(3).map(words).collect::<Vec<_>>().join(", ") + &more
}

/// A value in a few words; of lists and objects their beginning.
fn brief(value: &Value) -> String {
    const MOST: usize = 80;
    match value {
        Value::Array(_) | Value::Object(_) => {
            let text = value.to_string();
            let end = text.char_indices().nth(MOST).map(|(end, _)| end);
            end.map_or(text.clone(), |end| format!("{}...", &text[..end]))
        }
        other => show(other),
    }
}

/// The fields in which two plans differ, by their whole names.
pub(super) fn differences(name: &str, before: &Value, now: &Value, into: &mut Vec<Change>) {
    if let (Value::Array(old), Value::Array(new)) = (before, now)
        && old.len() == new.len()
    {
        let pairs = old.iter().zip(new).enumerate();
        return pairs.for_each(|(place, (old, new))| differences(&format!("{name}[{place}]"), old, new, into));
    }
    let (Value::Object(old), Value::Object(new)) = (before, now) else {
        if before != now {
            into.push(Change { name: name.into(), before: before.clone(), now: now.clone() });
        }
        return;
    };
    let added = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(added) {
        let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
        let of = |fields: &serde_json::Map<String, Value>| fields.get(key).cloned().unwrap_or_default();
        differences(&name, &of(old), &of(new), into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_between_two_plans_is_named_to_its_place_in_a_list() {
        let plan = |weight: f64, teachers: &[&str]| serde_json::json!({ "losses": [{ "kind": "rkd-angle", "weight": weight }], "teachers": teachers });
        let found = |other: Value| {
            let mut changes = Vec::new();
            differences("", &plan(1.0, &["a"]), &other, &mut changes);
            in_words(&changes, |change| &change.now)
        };
        assert_eq!(found(plan(1.0, &["a"])), "");
        assert_eq!(found(plan(2.0, &["b"])), "losses[0].weight: 2.0, teachers[0]: \"b\"");
        assert_eq!(found(plan(1.0, &["a", "b"])), "teachers: [\"a\",\"b\"]");
    }

    #[test]
    fn a_run_that_goes_on_with_other_roundings_is_told_so() {
        let [widest, portable] = [Isa::supported()[0], Isa::PORTABLE].map(Instructions::of);
        let wide = Instructions::of(Isa::PORTABLE_WIDE);
        assert_eq!((widest.differs(&widest), portable.differs(&wide)), (None, None));
        if widest.is_fused {
            let said = portable.differs(&widest).unwrap();
            assert!(said.contains(&format!("{} and the run goes on with portable", widest.name)), "{said}");
            assert_eq!(widest.differs(&portable).is_some(), portable.differs(&widest).is_some());
        }
    }
}
