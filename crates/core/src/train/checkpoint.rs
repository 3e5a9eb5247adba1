//! A checkpoint: everything a run needs to go on as if it had never stopped, in one file.
//!
//! One file means that writing aside and renaming makes it atomic: a kill at any moment leaves the old checkpoint or the
//! new one. There is no generator state in it: random numbers are keyed by position ([`crate::random`]), so the step
//! number is the position of sampler, augmentation and losses alike.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::plan::Device;
use crate::artefact::tensors::TensorFile;
use crate::error::{Code, Error, Result};
use crate::tensor::HostTensor;

/// The form of this file; another number is refused.
const VERSION: u32 = 3;

/// The state of a run between two steps. Tensor names carry the prefix `model.`, `optimizer.`, `losses.` or
/// `best.`.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Steps done.
    pub step: u64,
    /// Where the run went on to this step; on another device the same plan gives other bytes.
    pub device: Device,
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
    plan: Value,
    state: Value,
    policy: Value,
}

impl Checkpoint {
    /// Writes the checkpoint: whole or not at all.
    pub fn save(self, path: &Path) -> Result<()> {
        let Checkpoint { step, device, plan, state, policy, tensors } = self;
        let document = Document { checkpoint: VERSION, step, device, plan, state, policy };
        let document = serde_json::to_value(document)
            .map_err(|e| Error::new(Code::Internal, format!("encoding the checkpoint failed: {e}")))?;
        TensorFile { document, tensors }.save(path)
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
        let Document { step, device, plan, state, policy, .. } = document;
        Ok(Checkpoint { step, device, plan, state, policy, tensors: file.tensors })
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
    fn another_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        TensorFile { document: json!({"model": 1}), tensors: BTreeMap::new() }.save(&path).unwrap();
        let error = Checkpoint::load(&path).unwrap_err();
        assert_eq!(error.code, Code::InvalidArtefact);
        assert!(error.to_string().contains("model.safetensors"), "{error}");
    }
}
