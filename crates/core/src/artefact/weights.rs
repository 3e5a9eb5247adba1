//! Weights of this or another program: `.safetensors` of rkd, torchvision and timm, `.pth` of PyTorch.
//!
//! What the file is follows from its first bytes, not from its name. Names keep torchvision's form; the prefixes that
//! wrappers put before all of them (`module.` of DataParallel, `_orig_mod.` of `torch.compile`) are taken off. timm's ResNets
//! and VGGs have the same names but for the linear layers of a VGG, which get torchvision's.

use std::collections::BTreeMap;
use std::path::Path;

use super::model::ModelCard;
use super::pth;
use super::tensors::TensorFile;
use crate::data::Normalization;
use crate::error::{Code, Error, Result};
use crate::tensor::HostTensor;

/// What a file of weights holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// The tensors by torchvision's names, float32.
    pub tensors: BTreeMap<String, HostTensor>,
    /// How the images were normalised that the weights were trained on, where the file says so: rkd's own do.
    pub normalization: Option<Normalization>,
}

const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

impl Weights {
    /// Reads a file.
    ///
    /// # Errors
    /// Those of reading; `ERR_INVALID_ARTEFACT`, naming the file, for one that is damaged, asks for code, has numbers
    /// that are not finite or no tensors at all.
    pub fn load(path: &Path) -> Result<Weights> {
        let bytes = std::fs::read(path).map_err(|e| Error::io("reading the weights", path, e))?;
        Self::decode(&bytes).map_err(|error| error.with_subject(path.display().to_string()))
    }

    /// The weights in the bytes of a file. Whatever the bytes are, this ends in weights or in an error, and needs no
    /// more memory than a few times their length.
    ///
    /// # Errors
    /// As [`Weights::load`].
    pub fn decode(bytes: &[u8]) -> Result<Weights> {
        if pth::is_legacy(bytes) {
            return Err(Error::new(Code::InvalidArtefact, "the checkpoint has the form of PyTorch before 1.6")
                .with_values("a ZIP archive, as torch.save writes since 1.6", "a bare pickle")
                .with_advice("save it anew, in Python: torch.save(torch.load(path, weights_only=True), path)"));
        }
        let (tensors, document) = if pth::is_pth(bytes) {
            (pth::decode(bytes)?, serde_json::Value::Null)
        } else {
            let file = TensorFile::decode(bytes)?;
            (file.tensors, file.document)
        };
        let tensors = linear_layers_of_timm(unwrap(tensors));
        if tensors.is_empty() {
            return Err(Error::new(Code::InvalidArtefact, "there are no weights in the file")
                .with_values("at least one tensor", "none")
                .with_advice("choose another file"));
        }
        for (name, tensor) in &tensors {
            if let Some(value) = tensor.data.iter().find(|value| !value.is_finite()) {
                return Err(Error::new(Code::InvalidArtefact, format!("the tensor {name} is not finite"))
                    .with_values("finite numbers within float32", value.to_string())
                    .with_advice("the training that saved it has diverged; use an earlier checkpoint"));
            }
        }
        let of_rkd = document.get("backbone").is_some();
        let normalization = of_rkd.then(|| ModelCard::read(&document)).transpose()?.map(|card| card.normalization);
        Ok(Weights { tensors, normalization })
    }
}

/// The tensors without the prefixes that all of them have.
fn unwrap(mut tensors: BTreeMap<String, HostTensor>) -> BTreeMap<String, HostTensor> {
    while let Some(prefix) = WRAPPERS.iter().find(|prefix| tensors.keys().all(|name| name.starts_with(**prefix))) {
        if tensors.is_empty() {
            break;
        }
        tensors = tensors.into_iter().map(|(name, tensor)| (name[prefix.len()..].to_string(), tensor)).collect();
    }
    tensors
}

/// timm writes the first two linear layers of a VGG as convolutions over the whole map: `pre_logits.fc1` `[o, c, 7, 7]`, `fc2`
/// `[o, c, 1, 1]`. torchvision's `classifier.0` and `classifier.3` have the same numbers in the same order, `[o, c * 7 * 7]`.
fn linear_layers_of_timm(mut tensors: BTreeMap<String, HostTensor>) -> BTreeMap<String, HostTensor> {
    for (theirs, ours) in [("pre_logits.fc1", "classifier.0"), ("pre_logits.fc2", "classifier.3")] {
        if tensors.get(&format!("{theirs}.weight")).is_none_or(|weight| weight.shape.len() != 4) {
            continue;
        }
        for part in ["weight", "bias"] {
            let Some(mut tensor) = tensors.remove(&format!("{theirs}.{part}")) else { continue };
            if let [outputs, ref inputs @ ..] = tensor.shape[..]
                && !inputs.is_empty()
            {
                tensor.shape = vec![outputs, inputs.iter().fold(1usize, |all, &axis| all.saturating_mul(axis))];
            }
            tensors.insert(format!("{ours}.{part}"), tensor);
        }
    }
    tensors
}
