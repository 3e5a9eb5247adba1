//! `evaluate`, `neighbours` and `embed`: from partial options to their plans.

use serde_json::Value;

use super::run::threads;
use super::stored::{StoredModel, find_model};
use super::{DataOption, EmbedOptions, EvaluateOptions, NeighboursOptions};
use crate::data::{DataPlan, Labels, Part, Stop};
use crate::error::{Code, Error, Result};
use crate::input::{invalid, read};
use crate::train::embed::EmbedFormat;
use crate::train::{EmbedPlan, EvaluatePlan, NeighboursPlan};

/// The plan of `evaluate(options)`.
///
/// # Errors
/// Those of the options; `ERR_NOT_FOUND`, `ERR_INVALID_ARTEFACT`, bad data; when stopped.
pub fn evaluate(options: &Value, stop: Stop<'_>) -> Result<EvaluatePlan> {
    let options: EvaluateOptions = read("", options)?;
    let stored = find_model("model", &options.model)?;
    let data = data_of(&stored, options.data.as_ref(), stop)?;
    let teacher = match (options.teacher, data.labels) {
        (Some(given), _) => given.map(|teacher| find_model("teacher", &teacher)).transpose()?.map(|found| found.file),
        (None, Labels::None) => stored.run.as_ref().and_then(|run| Some(run.teacher.as_ref()?.model.clone())),
        (None, Labels::Classes) => None,
    };
    Ok(EvaluatePlan {
        data,
        seed: options.seed.map_or_else(|| seed_of(&stored), Into::into),
        part: options.part.unwrap_or(Part::Test),
        ks: options.ks.unwrap_or_default().0,
        few_shot: options.few_shot.unwrap_or_default().into_iter().map(Into::into).collect(),
        teacher,
        threads: threads(options.threads),
        model: stored.file,
    })
}

/// The plan of `neighbours(options)`.
///
/// # Errors
/// As [`evaluate`].
pub fn neighbours(options: &Value, stop: Stop<'_>) -> Result<NeighboursPlan> {
    let options: NeighboursOptions = read("", options)?;
    let stored = find_model("model", &options.model)?;
    Ok(NeighboursPlan {
        data: data_of(&stored, options.data.as_ref(), stop)?,
        seed: options.seed.map_or_else(|| seed_of(&stored), Into::into),
        part: options.part.unwrap_or(Part::Test),
        queries: options.queries.map_or(8, Into::into),
        k: options.k.map_or(8, Into::into),
        threads: threads(options.threads),
        model: stored.file,
    })
}

/// The plan of `embed(options)`.
///
/// # Errors
/// As [`evaluate`].
pub fn embed(options: &Value, stop: Stop<'_>) -> Result<EmbedPlan> {
    let options: EmbedOptions = read("", options)?;
    let stored = find_model("model", &options.model)?;
    let format = match options.format {
        Some(format) => format,
        None if options.out.0.ends_with(".npy") => EmbedFormat::Npy,
        None if options.out.0.ends_with(".safetensors") => EmbedFormat::Safetensors,
        None => {
            let expected = "a file name that ends in .npy or .safetensors";
            return Err(
                invalid("out", expected, format!("{:?}", options.out.0)).with_advice("or say which it is with format")
            );
        }
    };
    Ok(EmbedPlan {
        data: data_of(&stored, Some(&options.data), stop)?,
        out: options.out.absolute(),
        format,
        threads: threads(options.threads),
        model: stored.file,
    })
}

fn seed_of(stored: &StoredModel) -> u64 {
    stored.run.as_ref().map_or(1, |run| run.seed)
}

/// The data of an evaluation or embedding: what the options leave open is the run's.
fn data_of(stored: &StoredModel, given: Option<&DataOption>, stop: Stop<'_>) -> Result<DataPlan> {
    let own = stored.run.as_ref().map(|run| &run.data);
    let Some(given) = given else {
        return own.cloned().ok_or_else(|| {
            Error::new(Code::InvalidOption, "this option is needed with a model outside a run's folder")
                .with_subject("data")
        });
    };
    let plan = given.resolve(stored.input, stop)?;
    Ok(match own {
        Some(own) if own.source == plan.source && given.0.split.is_none() => {
            let labels = given.0.labels.unwrap_or(own.labels);
            DataPlan { split: own.split.clone(), labels, rotations: given.0.rotations.unwrap_or(own.rotations), ..plan }
        }
        _ => plan,
    })
}
