//! A model on disk: what its header says, and the plan of the run that wrote it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::data::Pixels;
use super::{Job, Policy};
use crate::artefact::tensors::read_document;
use crate::data::DataPlan;
use crate::error::{Code, Error, Result};
use crate::input::{PathText, read_written};
use crate::train::{Plan, TeacherPlan};

/// The content of `plan.json`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct PlanFile {
    /// Form of this file, 1; another number is refused.
    pub form: u32,
    /// The version of rkd that wrote it.
    pub rkd: String,
    /// What the run is for.
    pub job: Job,
    /// The plan.
    pub plan: Plan,
    /// What is done between its segments.
    pub policy: Policy,
    /// SHA-256 of the files the run was started from, by path.
    pub inputs: BTreeMap<String, String>,
    /// The weights `"auto"` that the run found, by term; nothing before they are found, or where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub chosen_weights: Option<BTreeMap<String, f64>>,
}

/// The form of `plan.json` that this version reads and writes.
pub const PLAN_FORM: u32 = 1;

/// A model on disk.
pub struct StoredModel {
    /// Absolute path of the file.
    pub file: PathBuf,
    /// The pixels it takes, where that is known.
    pub input: Option<Pixels>,
    /// Data and seed of the run that wrote it, where it stands in a run's folder.
    pub run: Option<StoredRun>,
}

/// What is needed of the run that wrote a model.
pub struct StoredRun {
    /// Its data.
    pub data: DataPlan,
    /// Its seed.
    pub seed: u64,
    /// Its teacher, for a distillation.
    pub teacher: Option<TeacherPlan>,
}

/// Finds the model at `location`, which the option `option` names: the folder of a finished run, or a file.
///
/// # Errors
/// `ERR_NOT_FOUND` that says whether the run is missing, unfinished or elsewhere; `ERR_INVALID_ARTEFACT` for a `plan.json`
/// of another form.
pub fn find_model(option: &str, location: &PathText) -> Result<StoredModel> {
    let given = location.absolute();
    let missing = |message: String, advice: &str| {
        Err(Error::new(Code::NotFound, format!("{option}: {message}")).with_subject(&location.0).with_advice(advice))
    };
    let advice = "give the folder of a finished run or a model.safetensors";
    if !given.exists() {
        return missing("there is no such folder or file".into(), advice);
    }
    let (file, plan) = (given.join("model.safetensors"), given.join("plan.json"));
    let file = if given.is_dir() { file } else { given.clone() };
    if !file.is_file() {
        let unfinished = format!("the run in it is not finished: rkd resume {}", location.0);
        return missing(
            "the folder holds no model.safetensors".into(),
            if plan.exists() { &unfinished } else { advice },
        );
    }
    let run = if given.is_dir() && plan.exists() { Some(read_run(&plan)?) } else { None };
    let input = input_of(&file).or(run.as_ref().map(|run| (run.data.image_size, run.data.channels)));
    Ok(StoredModel { file, input, run })
}

fn read_run(path: &Path) -> Result<StoredRun> {
    let refuse = |received: String| {
        Error::new(Code::InvalidArtefact, "not a plan of this version")
            .with_subject(path.display().to_string())
            .with_values(format!("a plan.json of form {PLAN_FORM}"), received)
            .with_advice("start the run anew, or use the version of rkd that wrote the file")
    };
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("reading", path, e))?;
    let mut file: Value = serde_json::from_str(&text).map_err(|_| refuse("a damaged file".into()))?;
    if file["form"] != PLAN_FORM {
        return Err(refuse(format!("form {}", file["form"])));
    }
    let plan = file["plan"].take();
    let part = |name: &str| plan[name].clone();
    let damaged = |_| refuse("a plan that lacks its data".into());
    Ok(StoredRun {
        data: read_written(part("data")).map_err(damaged)?,
        seed: read_written(part("seed")).map_err(damaged)?,
        teacher: read_written(part("teacher")).map_err(damaged)?,
    })
}

/// The pixels that the header of a model names; nothing where it is of another program or damaged: reading all of it, which
/// comes later, gives the error.
fn input_of(file: &Path) -> Option<Pixels> {
    let document = read_document(file)?;
    let number = |name: &str| document["backbone"][name].as_u64().map(|number| number as usize);
    Some((number("imageSize")?, number("inChannels")?))
}
