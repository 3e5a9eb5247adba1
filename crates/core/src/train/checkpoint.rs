//! A checkpoint: everything a run needs to go on as if it had never stopped, in one file.
//!
//! One file means that writing aside and renaming makes it atomic: a kill at any moment leaves the old checkpoint or the
//! new one. The one before the last stays beside it ([`previous`]), for the day that the last is damaged: both have a
//! hash ([`crate::artefact::tensors`]). There is no generator state in it: random numbers are keyed by position
//! ([`crate::random`]), so the step number is the position of sampler, augmentation and losses alike.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::artefact::file::sync_folder;
use crate::artefact::tensors::TensorFile;
use crate::devices::Device;
use crate::error::{Code, Error, Result};
use crate::nn::Precision;
use crate::tensor::HostTensor;

/// The form of this file; another number is refused.
const VERSION: u32 = 4;

/// The state of a run between two steps. Tensor names carry the prefix `model.`, `optimizer.`, `losses.` or
/// `best.`.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Steps done.
    pub step: u64,
    /// Where the run went on to this step; on another device the same plan gives other bytes.
    pub device: Device,
    /// In which numbers it did; in others it gives other bytes too.
    pub precision: Precision,
    /// The plan the run was started with, as JSON.
    pub plan: Value,
    /// What the session keeps beside tensors: measured gradient norms, the alarm.
    pub state: Value,
    /// What the caller keeps: the history of evaluations, which of them was best.
    pub policy: Value,
    /// Parameters, running statistics, optimiser state, and the best parameters so far.
    pub tensors: BTreeMap<String, HostTensor>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    checkpoint: u32,
    step: u64,
    device: Device,
    #[serde(default)]
    precision: Precision,
    plan: Value,
    state: Value,
    policy: Value,
}

impl Checkpoint {
    /// Writes the checkpoint: whole or not at all. The one that was there becomes the [`previous`] one, once the new
    /// one is on the disk; in between there are three.
    pub fn save(self, path: &Path) -> Result<()> {
        let Checkpoint { step, device, precision, plan, state, policy, tensors } = self;
        let document = Document { checkpoint: VERSION, step, device, precision, plan, state, policy };
        let document = serde_json::to_value(document)
            .map_err(|e| Error::new(Code::Internal, format!("encoding the checkpoint failed: {e}")))?;
        let next = path.with_file_name("next.safetensors");
        TensorFile { document, tensors }.save(&next)?;
        let turn = || -> std::io::Result<()> {
            if path.exists() {
                fs::rename(path, previous(path))?;
            }
            fs::rename(&next, path)?;
            path.parent().map_or(Ok(()), sync_folder)
        };
        turn().map_err(|e| Error::io("renaming the checkpoint", path, e))
    }

    /// Reads the checkpoint at `path`, or the [`previous`] one where that one is damaged or missing; then also gives a
    /// sentence that says so, and the previous one takes the place of the damaged one.
    ///
    /// # Errors
    /// Those of [`Checkpoint::load`] for the last one, where none of the two can be read.
    pub fn load_last(path: &Path) -> Result<(Checkpoint, Option<String>)> {
        let error = match Self::load(path) {
            Ok(checkpoint) => return Ok((checkpoint, None)),
            Err(error) => error,
        };
        let Ok(checkpoint) = Self::load(&previous(path)) else { return Err(error) };
        fs::rename(previous(path), path).map_err(|e| Error::io("renaming the checkpoint", path, e))?;
        // A kill between two renames leaves none; nothing is damaged then.
        let warning = (error.code != Code::NotFound).then(|| {
            let step = checkpoint.step;
            format!(
                "The last checkpoint cannot be read; the run goes on from the one before it, of step {step} ({error})."
            )
        });
        Ok((checkpoint, warning))
    }

    /// Reads a checkpoint that [`Checkpoint::save`] wrote.
    pub fn load(path: &Path) -> Result<Checkpoint> {
        let file = TensorFile::load(path)?;
        let refuse = |received: String| {
            Error::new(Code::InvalidArtefact, "not a checkpoint of this version")
                .with_subject(path.display().to_string())
                .with_values(format!("a checkpoint of form {VERSION}"), received)
                .with_advice("start the run anew, or use the version of rkd that wrote the file")
        };
        let document: Document = serde_json::from_value(file.document).map_err(|e| refuse(e.to_string()))?;
        if document.checkpoint != VERSION {
            return Err(refuse(format!("form {}", document.checkpoint)));
        }
        let Document { step, device, precision, plan, state, policy, .. } = document;
        Ok(Checkpoint { step, device, precision, plan, state, policy, tensors: file.tensors })
    }

    /// Adds `tensors` under `prefix` (with its dot).
    pub fn insert(&mut self, prefix: &str, tensors: impl IntoIterator<Item = (String, HostTensor)>) {
        self.tensors.extend(tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)));
    }

    /// Takes the tensors under `prefix` (with its dot) out, without the prefix.
    pub fn take(&mut self, prefix: &str) -> BTreeMap<String, HostTensor> {
        let (tensors, rest) =
            std::mem::take(&mut self.tensors).into_iter().partition(|(name, _)| name.starts_with(prefix));
        self.tensors = rest;
        let tensors: BTreeMap<String, HostTensor> = tensors;
        tensors.into_iter().map(|(name, tensor)| (name[prefix.len()..].to_string(), tensor)).collect()
    }
}

/// Where the checkpoint before the one at `path` is.
pub fn previous(path: &Path) -> PathBuf {
    path.with_file_name("previous.safetensors")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latest.safetensors");
        let tensor = HostTensor { shape: vec![2], data: vec![1.0, f32::MIN_POSITIVE] };
        let mut checkpoint = Checkpoint {
            step: 7,
            device: Device::CandleCpu,
            precision: Precision::Bf16,
            plan: json!({"seed": 1}),
            state: json!(0.1),
            policy: json!([1, 2]),
            tensors: BTreeMap::new(),
        };
        checkpoint.insert("model.", [("fc.weight".to_string(), tensor.clone())]);
        checkpoint.insert("optimizer.", [("fc.weight.mean".to_string(), tensor.clone())]);
        checkpoint.clone().save(&path).unwrap();
        let mut loaded = Checkpoint::load(&path).unwrap();
        assert_eq!(loaded, checkpoint);
        assert_eq!(loaded.take("model."), BTreeMap::from([("fc.weight".to_string(), tensor)]));
        assert_eq!(loaded.tensors.keys().collect::<Vec<_>>(), ["optimizer.fc.weight.mean"]);
    }

    #[test]
    fn the_checkpoint_before_the_last_is_kept_and_used_where_the_last_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latest.safetensors");
        let at = |step| Checkpoint {
            step,
            device: Device::Cpu,
            precision: Precision::Float32,
            plan: Value::Null,
            state: Value::Null,
            policy: Value::Null,
            tensors: BTreeMap::from([("model.a".into(), HostTensor { shape: vec![4], data: vec![0.5; 4] })]),
        };
        (1..=3).for_each(|step| at(step).save(&path).unwrap());
        let names = || {
            let entries = fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(names(), ["latest.safetensors", "previous.safetensors"]);
        assert_eq!(Checkpoint::load_last(&path).unwrap(), (at(3), None));
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        let (checkpoint, warning) = Checkpoint::load_last(&path).unwrap();
        assert_eq!(checkpoint, at(2));
        let warning = warning.unwrap();
        assert!(warning.contains("of step 2") && warning.contains("latest.safetensors"), "{warning}");
        // The damaged one is gone, and the next save does not put it in the place of a whole one.
        assert_eq!((names(), Checkpoint::load(&path).unwrap()), (vec!["latest.safetensors".to_string()], at(2)));
        at(3).save(&path).unwrap();
        assert_eq!(Checkpoint::load(&previous(&path)).unwrap(), at(2));
        // A kill between the two renames.
        fs::remove_file(&path).unwrap();
        assert_eq!(Checkpoint::load_last(&path).unwrap(), (at(2), None));
        fs::write(&path, b"").unwrap();
        assert_eq!(Checkpoint::load_last(&path).unwrap_err().code, Code::InvalidArtefact);
    }

    #[test]
    fn another_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        TensorFile { document: json!({"model": 1}), tensors: BTreeMap::new() }.save(&path).unwrap();
        let error = Checkpoint::load(&path).unwrap_err();
        assert_eq!(error.code, Code::InvalidArtefact);
        assert!(error.to_string().contains("model.safetensors"), "{error}");
    }
}
