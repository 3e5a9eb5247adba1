//! The weights that a run begins with: those of a file, and the way their network wants its pixels.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::event::{Control, Event};
use crate::artefact::weights::Weights;
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
    /// Patterns of names ([`crate::nn::pattern`]) that may be missing, unexpected or of another shape, besides the head.
    #[serde(default)]
    pub except: Vec<String>,
    /// How images are normalised; `None`: as the file says (rkd's own), as ImageNet is (other files, three channels), or
    /// (other files, grey) as the teacher wants images of the same size, or by the training data. A teacher that was
    /// trained with another normalisation sees its own.
    pub normalization: Option<Normalization>,
}

/// Puts the weights of `plan` into `network`; a warning says what was not taken. Gives the normalisation of images that
/// belongs to them, if there is one; see [`WeightsPlan::normalization`].
pub(super) fn load<B: Backend>(
    plan: &WeightsPlan,
    network: &mut Network<B>,
    control: &Control,
) -> Result<Option<Normalization>> {
    let weights = Weights::load(&plan.file)?;
    let taken = network.take(&weights.tensors, &plan.except).map_err(|error| match error.code {
        Code::InvalidArtefact => error.with_subject(plan.file.display().to_string()),
        _ => error,
    })?;
    if let Some(warning) = taken.warning() {
        control.emit(Event::Warning { message: format!("{}: {warning}", plan.file.display()) });
    }
    let channels = network.definition().in_channels;
    let of_file = weights.normalization.filter(|normalization| normalization.check(channels).is_ok());
    match &plan.normalization {
        Some(given) => {
            given.check(channels)?;
            Ok(Some(given.clone()))
        }
        None if channels == 3 => Ok(of_file.or_else(|| Some(Normalization::imagenet()))),
        None => Ok(of_file),
    }
}

impl Normalization {
    /// Checks that there is a mean and a positive deviation for each of `channels`.
    fn check(&self, channels: usize) -> Result<()> {
        let whole = self.mean.len() == channels && self.std.len() == channels;
        if whole
            && self.mean.iter().all(|value| value.is_finite())
            && self.std.iter().all(|value| value.is_finite() && *value > 0.0)
        {
            return Ok(());
        }
        Err(Error::new(Code::InvalidOption, "images cannot be normalised like this")
            .with_subject("weights.normalization")
            .with_values(
                format!("a mean and a positive std for each of {channels} channels"),
                format!("mean {:?}, std {:?}", self.mean, self.std),
            )
            .with_advice("leave it out for what the weights want"))
    }
}
