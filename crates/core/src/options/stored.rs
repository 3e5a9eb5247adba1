//! A model on disk: what its header says, and the plan of the run that wrote it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::data::Pixels;
use super::{Job, Policy, TeacherFeaturesOption, TeacherOption};
use crate::artefact::kind::is_onnx;
use crate::artefact::tensors::read_document;
use crate::data::DataPlan;
use crate::error::{Code, Error, Result};
use crate::input::{PathText, absolute, invalid, read_written};
use crate::onnx::OnnxOptions;
use crate::train::{Plan, TeacherFeatures, TeacherPlan};
use crate::vectors::{VectorOptions, may_hold_vectors};

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
    /// The fingerprint of the data; `data.json` says what it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub fingerprint: Option<String>,
    /// The weights `"auto"` that the run found, by term; nothing before they are found, or where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub chosen_weights: Option<BTreeMap<String, f64>>,
    /// False where the run was started without a report: then `resume` writes none either, unless it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub report: Option<bool>,
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
    /// The seed of its class split.
    pub split_seed: u64,
    /// Its teachers, for a distillation.
    pub teachers: Vec<TeacherPlan>,
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
    let advice = match option {
        "weights" => "give a file of torchvision or timm (.pth, .safetensors), or the folder of a finished run",
        teacher if teacher.starts_with("teacher") => {
            "give the folder of a finished run, a model.safetensors, an ONNX model, or a file of vectors"
        }
        _ => "give the folder of a finished run or a model.safetensors",
    };
    if !given.exists() {
        return missing("there is no such folder or file".into(), advice);
    }
    let (file, plan) = (given.join("model.safetensors"), given.join("plan.json"));
    let file = if given.is_dir() { file } else { given.clone() };
    if !file.is_file() {
        let unfinished = format!("the run in it is not finished: go on with resume({:?})", location.0);
        return missing(
            "the folder holds no model.safetensors".into(),
            if plan.exists() { &unfinished } else { advice },
        );
    }
    let run = if given.is_dir() && plan.exists() { Some(read_run(&plan)?) } else { None };
    let input = input_of(&file).or(run.as_ref().map(|run| (run.data.image_size, run.data.channels)));
    Ok(StoredModel { file, input, run })
}

/// A teacher on disk.
pub struct StoredTeacher {
    /// The option that names it.
    pub option: String,
    /// What it is called.
    pub name: String,
    /// Its weight among several.
    pub weight: f64,
    /// When its features are computed, where its options say so.
    pub features: Option<TeacherFeaturesOption>,
    /// The file, and what is known of it.
    pub model: StoredModel,
    /// How it is read, where it is an ONNX model.
    pub onnx: Option<OnnxOptions>,
    /// How it is read, where it is a file of vectors.
    pub vectors: Option<VectorOptions>,
    /// What had to be assumed, in full sentences.
    pub warnings: Vec<String>,
}

impl StoredTeacher {
    /// The plan of this teacher, whose features are computed as `features` says.
    pub fn plan(self, features: TeacherFeatures) -> TeacherPlan {
        let StoredTeacher { name, weight, model, onnx, vectors, .. } = self;
        TeacherPlan { name, weight, model: model.file, onnx, vectors, features }
    }
}

/// Finds and judges the teachers of the options `teacher` and `teachers`, of which one may be given, and names them.
///
/// # Errors
/// As [`find_teacher`]; `ERR_INVALID_OPTION` for both options, and for a name that two have.
pub fn find_teachers(
    teacher: Option<TeacherOption>,
    teachers: Option<Vec<TeacherOption>>,
) -> Result<Vec<StoredTeacher>> {
    let given: Vec<(String, TeacherOption)> = match (teacher, teachers) {
        (Some(_), Some(teachers)) => {
            let received = format!("an array of {}", teachers.len());
            return Err(invalid("teachers", "nothing beside teacher", received)
                .with_advice("leave teacher out, and put all of them into teachers"));
        }
        (Some(teacher), None) => vec![("teacher".into(), teacher)],
        (None, teachers) => {
            let teachers = teachers.into_iter().flatten().enumerate();
            teachers.map(|(place, teacher)| (format!("teachers[{place}]"), teacher)).collect()
        }
    };
    let mut names: Vec<String> = Vec::new();
    for (option, TeacherOption(teacher)) in &given {
        let Some(name) = teacher.name.clone().map(String::from) else { continue };
        if names.contains(&name) {
            let expected = "a name that no other teacher has";
            return Err(invalid(format!("{option}.name"), expected, format!("{name:?}")));
        }
        names.push(name);
    }
    let mut found = Vec::new();
    for (option, teacher) in given {
        let mut stored = find_teacher(&option, &teacher)?;
        if teacher.0.name.is_none() {
            let (usual, mut number) = (stored.name.clone(), 1);
            while names.contains(&stored.name) {
                number += 1;
                stored.name = format!("{usual}#{number}");
            }
            names.push(stored.name.clone());
        }
        found.push(stored);
    }
    Ok(found)
}

/// What a teacher in `file` is called where nobody says: as the file, or, where all are called alike, as its folder.
fn usual_name(file: &Path) -> String {
    let stem = file.file_stem().filter(|stem| *stem != "model");
    let folders = file.ancestors().skip(1).filter_map(Path::file_name);
    let name = stem.or_else(|| folders.into_iter().find(|folder| *folder != "onnx"));
    name.map_or_else(|| "teacher".into(), |name| name.to_string_lossy().into_owned())
}

/// The only ONNX file in `folder`, or in the folder `onnx` in it, whatever it is called: exports of float16 and int8 alone have
/// no `model.onnx`.
///
/// # Errors
/// `ERR_INVALID_OPTION` that names them where there are several.
fn only_onnx_in(option: &str, folder: &Path) -> Result<Option<PathBuf>> {
    let entries = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = entries(folder.to_path_buf()).chain(entries(folder.join("onnx")));
    let mut found: Vec<PathBuf> =
        all.filter(|path| path.extension().is_some_and(|ending| ending == "onnx") && path.is_file()).collect();
    found.sort();
    match &found[..] {
        [] => Ok(None),
        [only] => Ok(Some(only.clone())),
        several => {
            let names: Vec<String> = several.iter().map(|path| path.display().to_string()).collect();
            let expected = "a folder with one ONNX file, or with model.onnx";
            Err(invalid(option, expected, names.join(", ")).with_advice("give the file that is meant"))
        }
    }
}

/// Finds and judges the teacher that the option `option` names.
///
/// # Errors
/// As [`find_model`]; those of [`OnnxOptions::resolve`].
pub fn find_teacher(option: &str, TeacherOption(given): &TeacherOption) -> Result<StoredTeacher> {
    let location = given.model.absolute();
    let inside = |name: &str| location.join(name).is_file().then(|| location.join(name));
    let onnx = match location.is_dir() {
        true if location.join("model.safetensors").exists() && location.join("plan.json").exists() => None,
        true => match inside("model.onnx").or_else(|| inside("onnx/model.onnx")) {
            None if inside("model.safetensors").is_none() => only_onnx_in(option, &location)?,
            found => found,
        },
        false => is_onnx(&location).then(|| location.clone()),
    };
    let vectors = given.vectors.clone().flatten();
    let file = |file| StoredModel { file, input: None, run: None };
    let (model, onnx, vectors, warnings) = match (onnx, given.onnx.clone().flatten()) {
        (Some(path), options) => {
            let (onnx, warnings) = options.unwrap_or_default().resolve(&path)?;
            (file(path), Some(onnx), None, warnings)
        }
        (None, Some(_)) if location.exists() => {
            let expected = "nothing with a teacher that is no ONNX model";
            return Err(invalid(format!("{option}.onnx"), expected, location.display().to_string()));
        }
        (None, _) if location.is_file() && (vectors.is_some() || holds_vectors(&location)) => {
            let mut vectors = vectors.unwrap_or_default();
            vectors.ids = vectors.ids.map(absolute);
            (file(location), None, Some(vectors), Vec::new())
        }
        (None, _) => (find_model(option, &given.model)?, None, None, Vec::new()),
    };
    let name = given.name.clone().map_or_else(|| usual_name(&model.file), String::from);
    let weight = given.weight.map_or(1.0, |weight| weight.0);
    Ok(StoredTeacher { option: option.into(), name, weight, features: given.features, model, onnx, vectors, warnings })
}

/// Whether a file is one of vectors, by its name; a `.safetensors` is, where it is no network of rkd.
fn holds_vectors(path: &Path) -> bool {
    may_hold_vectors(path)
        || (path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("safetensors"))
            && path.file_name().is_some_and(|name| name != "model.safetensors")
            && read_document(path).is_none())
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
    let seed = read_written(part("seed")).map_err(damaged)?;
    let split_seed = read_written::<Option<u64>>(part("splitSeed")).map_err(damaged)?.unwrap_or(seed);
    let data = read_written(part("data")).map_err(damaged)?;
    let teachers = read_written::<Option<Vec<TeacherPlan>>>(part("teachers")).map_err(damaged)?.unwrap_or_default();
    Ok(StoredRun { data, seed, split_seed, teachers })
}

/// The pixels that the header of a model names; nothing where it is of another program or damaged: reading all of it, which
/// comes later, gives the error.
fn input_of(file: &Path) -> Option<Pixels> {
    let document = read_document(file)?;
    let number = |name: &str| document["backbone"][name].as_u64().map(|number| number as usize);
    Some((number("imageSize")?, number("inChannels")?))
}
