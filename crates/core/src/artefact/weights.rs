//! Weights of this or another program: `.safetensors` of rkd, torchvision and timm, `.pth` of PyTorch.
//!
//! What the file is follows from its first bytes, not from its name. Names keep torchvision's form; the prefixes that
//! wrappers and training scripts put before all of them (`module.` of DataParallel, `_orig_mod.` of `torch.compile`,
//! `backbone.`, ...) are taken off, however often they are nested. timm's ResNets and VGGs have the same names but for
//! the linear layers of a VGG, which get torchvision's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::kind::{self, Kind};
use super::model::ModelCard;
use super::pth::{self, StateDict};
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
    /// The keys that lead to the tensors in the checkpoint, joined by dots; empty for the whole file.
    pub path: String,
    /// Keys of other weights in the checkpoint, averaged ones for example, that could have been chosen.
    pub others: Vec<String>,
}

/// What stands before the names of a network that is part of another module.
const WRAPPERS: [&str; 13] = [
    "module",
    "_orig_mod",
    "model",
    "net",
    "network",
    "backbone",
    "encoder",
    "student",
    "teacher",
    "base_model",
    "base",
    "trunk",
    "ema",
];

/// The first parts of names that belong to a head beside a wrapped network: they do not keep its prefix from being
/// taken off.
const BESIDE: [&str; 5] = ["fc", "classifier", "head", "projector", "predictor"];

impl Weights {
    /// Reads a file: what is under `key`, keys of a checkpoint's dictionaries and the beginning of names, joined by
    /// dots; without a key the state dict at its usual place.
    ///
    /// # Errors
    /// Those of reading; `ERR_INVALID_ARTEFACT`, naming the file, for one of another kind, one that is damaged, asks
    /// for code, or has no tensors at all or none under the key, and where several state dicts could be meant.
    pub fn load(path: &Path, key: Option<&str>) -> Result<Weights> {
        let bytes = kind::read(path)?;
        Self::decode(&bytes, key).map_err(|error| error.with_subject(path.display().to_string()))
    }

    /// The weights in the bytes of a file. Whatever the bytes are, this ends in weights or in an error; time and memory
    /// are linear in their number: sixteen times the memory at most, and 4 MiB.
    ///
    /// # Errors
    /// As [`Weights::load`].
    pub fn decode(bytes: &[u8], key: Option<&str>) -> Result<Weights> {
        let (found, document) = match kind::of(bytes, bytes.len() as u64)? {
            Kind::Zip => (pth::decode(bytes, key)?, Value::Null),
            Kind::Pickles => (pth::decode_pickles(bytes, key)?, Value::Null),
            Kind::Safetensors => {
                let TensorFile { document, tensors } = TensorFile::decode(bytes)?;
                check_document(&document)?;
                let prefix = key.map(str::to_string);
                (StateDict { tensors, path: String::new(), others: Vec::new(), prefix }, document)
            }
        };
        let StateDict { mut tensors, path, others, prefix } = found;
        if let Some(prefix) = prefix {
            let choices: Vec<&str> =
                [&path].into_iter().chain(&others).map(String::as_str).filter(|name| !name.is_empty()).collect();
            tensors = under(tensors, &prefix, &choices)?;
        }
        let tensors = linear_layers_of_timm(unwrap(tensors));
        if tensors.is_empty() {
            return Err(Error::new(Code::InvalidArtefact, "there are no weights in the file")
                .with_values("at least one tensor", "none")
                .with_advice("choose another file"));
        }
        let of_rkd = document.get("backbone").is_some();
        let normalization = of_rkd.then(|| ModelCard::read(&document)).transpose()?.map(|card| card.normalization);
        Ok(Weights { tensors, normalization, path, others })
    }

    /// The wrappers that some names begin with and others do not: what a key may choose.
    pub fn parts(&self) -> Vec<&str> {
        let firsts: BTreeSet<&str> = self.tensors.keys().map(|name| first(name)).collect();
        WRAPPERS.into_iter().filter(|wrapper| firsts.contains(wrapper)).collect()
    }
}

/// Refuses what rkd writes that is no model.
fn check_document(document: &Value) -> Result<()> {
    let (what, advice) = if document.get("checkpoint").is_some() {
        ("the checkpoint of an unfinished run of rkd", "finish the run with resume(), and give its folder")
    } else if document.get("ids").is_some() {
        ("embeddings that rkd wrote", "give the model that they come from")
    } else {
        return Ok(());
    };
    Err(kind::foreign(what, advice))
}

/// The part of a name before its first dot.
fn first(name: &str) -> &str {
    name.split_once('.').map_or(name, |(first, _)| first)
}

/// The tensors whose names begin with `prefix`, without it; wrappers of all names may stand before it. `choices` are the
/// dictionaries of the checkpoint, where it has any.
fn under(
    mut tensors: BTreeMap<String, HostTensor>,
    prefix: &str,
    choices: &[&str],
) -> Result<BTreeMap<String, HostTensor>> {
    let prefix = format!("{}.", prefix.trim_end_matches('.'));
    loop {
        if tensors.keys().any(|name| name.starts_with(&prefix)) {
            let chosen = tensors
                .into_iter()
                .filter_map(|(name, tensor)| Some((name.strip_prefix(&prefix)?.to_string(), tensor)));
            return Ok(chosen.collect());
        }
        match common_wrapper(&tensors) {
            Some(wrapper) => tensors = without(tensors, wrapper),
            None => break,
        }
    }
    let firsts: BTreeSet<&str> = tensors.keys().map(|name| first(name)).collect();
    let some: Vec<String> = firsts.iter().take(12).map(|first| first.chars().take(60).collect()).collect();
    let choices = if choices.is_empty() { "these".into() } else { choices.join(", ") };
    Err(Error::new(Code::InvalidArtefact, "nothing of the file lies under the key of the weights")
        .with_values(
            format!("tensors under {}", prefix.trim_end_matches('.')),
            format!("names that begin with {}", some.join(", ")),
        )
        .with_advice(format!("choose one of {choices}, or leave the key out")))
}

/// The tensors without the wrappers that all of them have.
fn unwrap(mut tensors: BTreeMap<String, HostTensor>) -> BTreeMap<String, HostTensor> {
    while let Some(wrapper) = common_wrapper(&tensors) {
        tensors = without(tensors, wrapper);
    }
    tensors
}

/// The wrapper that all names begin with, but for those of a head beside it.
fn common_wrapper(tensors: &BTreeMap<String, HostTensor>) -> Option<&'static str> {
    let firsts: BTreeSet<&str> = tensors.keys().filter(|name| name.contains('.')).map(|name| first(name)).collect();
    let wrapper = WRAPPERS.into_iter().find(|wrapper| firsts.contains(wrapper))?;
    let only = tensors.keys().all(|name| {
        let first = first(name);
        let beside = BESIDE.contains(&first) && !tensors.contains_key(&format!("{wrapper}.{name}"));
        beside || (first == wrapper && name.len() > wrapper.len())
    });
    only.then_some(wrapper)
}

/// The tensors without `wrapper` before their names.
fn without(tensors: BTreeMap<String, HostTensor>, wrapper: &str) -> BTreeMap<String, HostTensor> {
    let inner = |name: &str| Some(name.strip_prefix(wrapper)?.strip_prefix('.')?.to_string());
    tensors.into_iter().map(|(name, tensor)| (inner(&name).unwrap_or(name), tensor)).collect()
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
