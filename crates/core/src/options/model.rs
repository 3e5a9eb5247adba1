//! `evaluate`, `neighbours`, `embed` and `exportModel`: from partial options to their plans.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::run::threads;
use super::shard;
use super::stored::{StoredModel, find_model, find_teacher, find_teachers};
use super::{
    DataOption, EmbedOptions, EvaluateOptions, ExportOptions, LoadModelOptions, MergeOptions, NeighboursOptions,
    NetworkReport, TeacherOption, TeacherOptions, TeacherReport,
};
use crate::artefact::model::Model;
use crate::data::{DataPlan, Labels, Part, Stop};
use crate::error::{Code, Error, Result};
use crate::export::Dtype;
use crate::input::{Whole, invalid, read};
use crate::nn::Portable;
use crate::onnx::OnnxModel;
use crate::serve::ServePlan;
use crate::train::embedded::EmbedFormat;
use crate::train::evaluate::BATCH;
use crate::train::export::{About, Gates};
use crate::train::shards;
use crate::train::stored::SplitChoice;
use crate::train::{EmbedPlan, EvaluatePlan, ExportPlan, NeighboursPlan, TeacherFeatures};
use crate::vectors::{self, judge};

/// The plan of `evaluate(options)`.
///
/// # Errors
/// Those of the options; `ERR_NOT_FOUND`, `ERR_INVALID_ARTEFACT`, bad data; when stopped.
pub fn evaluate(options: &Value, stop: Stop<'_>) -> Result<EvaluatePlan> {
    let options: EvaluateOptions = read("", options)?;
    let stored = find_model("model", &options.model)?;
    let (data, own) = data_of(&stored, options.data.as_ref(), stop)?;
    let (split_seed, accepted) = (options.split_seed.or(options.seed), options.accept_changed_data);
    let given = options.teacher.is_some() || options.teachers.is_some();
    let teachers = match (given, data.labels) {
        (true, _) => {
            let found = find_teachers(options.teacher.flatten(), options.teachers)?;
            found.into_iter().map(|teacher| teacher.plan(TeacherFeatures::Cached)).collect()
        }
        (false, Labels::None) => stored.run.as_ref().map(|run| run.teachers.clone()).unwrap_or_default(),
        (false, Labels::Classes) => Vec::new(),
    };
    Ok(EvaluatePlan {
        split: choice(&stored, options.data.as_ref(), own, split_seed, accepted),
        data,
        seed: options.seed.map_or_else(|| seed_of(&stored), Into::into),
        part: options.part.unwrap_or(Part::Test),
        ks: options.ks.unwrap_or_default().0,
        few_shot: options.few_shot.unwrap_or_default().into_iter().map(Into::into).collect(),
        teachers,
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
    let (data, own) = data_of(&stored, options.data.as_ref(), stop)?;
    let (split_seed, accepted) = (options.split_seed.or(options.seed), options.accept_changed_data);
    Ok(NeighboursPlan {
        split: choice(&stored, options.data.as_ref(), own, split_seed, accepted),
        data,
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
        None => EmbedFormat::of(Path::new(&options.out.0)).ok_or_else(|| {
            let expected = format!("a file name that ends in one of {}", EmbedFormat::endings());
            invalid("out", expected, format!("{:?}", options.out.0))
                .with_advice("or say which it is, format: \"npy\" for example")
        })?,
    };
    let shard = options.shard.map(|shard| shard::resolve(&shard, |name| std::env::var(name).ok())).transpose()?;
    let out = options.out.absolute();
    Ok(EmbedPlan {
        data: data_of(&stored, Some(&options.data), stop)?.0,
        file: shard.map_or_else(|| out.clone(), |shard| shards::file_of(&out, shard)),
        shard,
        out,
        format,
        threads: threads(options.threads),
        model: stored.file,
    })
}

/// The file that `mergeShards(options)` writes.
///
/// # Errors
/// Those of the options.
pub fn merge(options: &Value) -> Result<PathBuf> {
    let MergeOptions { out } = read("", options)?;
    Ok(out.absolute())
}

/// The plan of `loadModel(model, options)`.
///
/// # Errors
/// Those of the options; of reading and judging an ONNX model; `ERR_NOT_FOUND`; `ERR_INVALID_ARTEFACT` for what is no model.
pub fn load_model(options: &Value) -> Result<ServePlan> {
    let LoadModelOptions { model, threads: given, batch, onnx } = read("", options)?;
    let location = model.absolute();
    let teacher = TeacherOptions { model, onnx, vectors: None, name: None, weight: None, features: None };
    let found = find_teacher("model", &TeacherOption(teacher)).map_err(of_model)?;
    if found.vectors.is_some() {
        return Err(Error::new(Code::InvalidArtefact, "stored vectors are no model")
            .with_subject(location.display().to_string())
            .with_values("the folder of a finished run, a model.safetensors, or an ONNX model", "a file of vectors")
            .with_advice("give the model that made them; readVectors reads the vectors themselves"));
    }
    Ok(ServePlan {
        model: found.model.file,
        onnx: found.onnx,
        threads: threads(given),
        batch: batch.map_or(BATCH, Into::into),
        warnings: found.warnings.into_iter().map(|warning| in_terms_of_models(&warning)).collect(),
    })
}

/// The error with the names that the options of a loaded model have.
fn of_model(mut error: Error) -> Error {
    error.subject = error.subject.map(|subject| in_terms_of_models(&subject));
    error.advice = error.advice.map(|advice| in_terms_of_models(&advice));
    error
}

/// What is said of a teacher, said of a model that is loaded.
fn in_terms_of_models(text: &str) -> String {
    let names = [
        ("teacher.onnx.", "onnx."),
        ("The teacher", "The model"),
        ("--teacher-output NAME", "onnx.output"),
        ("--teacher-mean, --teacher-std", "onnx.normalization"),
        ("--onnxruntime FILE", "onnx.onnxruntime"),
    ];
    names.iter().fold(text.to_string(), |text, (teacher, model)| text.replace(teacher, model))
}

/// The plan of `exportModel(options)`, and full sentences about what is left out for want of files.
///
/// # Errors
/// As [`evaluate`].
pub fn export(options: &Value, stop: Stop<'_>) -> Result<(ExportPlan, Vec<String>)> {
    let options: ExportOptions = read("", options)?;
    let stored = find_model("model", &options.model)?;
    let dtypes = options.dtype.map_or_else(|| vec![Dtype::Float32], |dtypes| dtypes.0);
    let gates = Gates {
        min_recall: options.min_recall.map(|recall| recall.0),
        max_bytes: options.max_bytes.map(Into::into),
        min_cosine: options.min_cosine.map(|cosine| cosine.0),
    };
    let measured = [("minRecall", gates.min_recall), ("minCosine", gates.min_cosine)];
    if let Some((gate, limit)) = measured.iter().find(|(_, limit)| limit.is_some() && options.measure == Some(false)) {
        let limit = limit.unwrap_or_default().to_string();
        return Err(invalid(*gate, "nothing where nothing is measured", limit).with_advice("leave measure out"));
    }
    let mut warnings = Vec::new();
    let needed = dtypes.contains(&Dtype::Int8) || gates.min_recall.is_some() || gates.min_cosine.is_some();
    let wanted = options.measure.unwrap_or(true) || needed;
    let found = match wanted.then(|| data_of(&stored, options.data.as_ref(), stop)).transpose() {
        Ok(found) => found,
        Err(error) if needed || options.data.is_some() || options.measure.is_some() => return Err(error),
        Err(_) => {
            warnings.push(
                "There are no images to measure the export on: the run's own are not there, and no others were named (data)."
                    .into(),
            );
            None
        }
    };
    let run_teachers = stored.run.as_ref().map(|run| &run.teachers[..]).unwrap_or_default();
    let about = About {
        data: stored.run.as_ref().and_then(|run| {
            let name = Path::new(&run.data.source).file_name()?;
            Some(name.to_string_lossy().into_owned())
        }),
        teachers: run_teachers.iter().map(|teacher| teacher.name.clone()).collect(),
        run: stored.run.as_ref().and(stored.file.parent()).map(Path::to_path_buf),
    };
    let teachers = match (&found, options.teacher.is_some() || options.teachers.is_some()) {
        (None, _) => Vec::new(),
        (Some(_), true) => {
            let given = find_teachers(options.teacher.flatten(), options.teachers)?;
            given.into_iter().map(|teacher| teacher.plan(TeacherFeatures::Cached)).collect()
        }
        (Some(_), false) => {
            let (there, gone): (Vec<_>, Vec<_>) = run_teachers.iter().cloned().partition(|one| one.model.exists());
            warnings.extend(gone.iter().map(|teacher| {
                format!(
                    "The teacher {} is not there any more ({}), so its relations are not compared; name it with the option \
                     teacher.",
                    teacher.name,
                    teacher.model.display()
                )
            }));
            there
        }
    };
    let threads = threads(options.threads);
    let data = found.map(|(data, own)| EvaluatePlan {
        split: choice(&stored, options.data.as_ref(), own, None, options.accept_changed_data),
        data,
        seed: seed_of(&stored),
        part: Part::Test,
        ks: options.ks.unwrap_or_default().0,
        few_shot: Vec::new(),
        teachers,
        threads,
        model: stored.file.clone(),
    });
    let plan = ExportPlan {
        to: options.to,
        dtypes,
        input: options.input.unwrap_or_default(),
        out: options.out.absolute(),
        overwrite: options.overwrite.unwrap_or(false),
        calibration_images: options.calibration_images.map_or(CALIBRATION_IMAGES, Into::into),
        engine: options.engine.unwrap_or_default(),
        onnxruntime: options.onnxruntime.map(|library| library.absolute()),
        measure: options.measure.unwrap_or(true),
        data,
        gates,
        about,
        threads,
        model: stored.file,
    };
    Ok((plan, warnings))
}

/// Training images that int8 is calibrated on: more change little.
const CALIBRATION_IMAGES: usize = 200;

/// What a teacher is, found out by reading it and embedding three images.
///
/// # Errors
/// As [`distill`](super::run::resolve)'s of its teacher.
pub fn judge_teacher(options: &Value) -> Result<TeacherReport> {
    let given: TeacherOption = read("teacher", options)?;
    let teacher = find_teacher("teacher", &given)?;
    let file = teacher.model.file.display().to_string();
    let onnx = match &teacher.onnx {
        Some(options) => {
            let model = OnnxModel::open(&teacher.model.file, options, threads(None))?;
            Some(model.report(teacher.warnings)?)
        }
        None => None,
    };
    let vectors = match &teacher.vectors {
        Some(options) => {
            let found = judge(&vectors::read(&teacher.model.file, options)?);
            Some(found.map_err(|error| error.with_subject(file.clone()))?)
        }
        None => None,
    };
    let network = match (&teacher.onnx, &teacher.vectors) {
        (None, None) => Some(judge_network(&teacher.model)?),
        _ => None,
    };
    Ok(TeacherReport { file, onnx, vectors, network })
}

/// What a stored network and its run say of it.
fn judge_network(StoredModel { file, run, .. }: &StoredModel) -> Result<NetworkReport> {
    let model = Model::load(file)?;
    let network = model.network(Portable::cpu_f32()).map_err(|error| error.with_subject(file.display().to_string()))?;
    let origin = &model.card.origin;
    let labelled = run.as_ref().is_none_or(|run| run.data.labels == Labels::Classes);
    let classes = origin.data.as_ref().map(|data| data.classes(Part::Train).count());
    Ok(NetworkReport {
        embedding: network.embedding_size(),
        parameters: network.parameter_count(),
        rkd: origin.rkd.clone(),
        seed: origin.seed,
        distilled: !origin.teachers.is_empty(),
        data: run.as_ref().map(|run| run.data.source.clone()),
        classes: if labelled { classes } else { Some(0) },
        backbone: model.card.backbone,
    })
}

fn seed_of(stored: &StoredModel) -> u64 {
    stored.run.as_ref().map_or(1, |run| run.seed)
}

/// What the options say of the split; what they leave open is the run's. `own`: see [`data_of`].
fn choice(
    stored: &StoredModel,
    data: Option<&DataOption>,
    own: bool,
    seed: Option<Whole<0>>,
    accepted: Option<bool>,
) -> SplitChoice {
    let of_run = || stored.run.as_ref().map_or(1, |run| run.split_seed);
    SplitChoice {
        seed: seed.map_or_else(of_run, Into::into),
        given: (data.is_some_and(|data| data.0.split.is_some()), seed.is_some()),
        own,
        accept_changed_data: accepted.unwrap_or(false),
    }
}

/// The data of an evaluation or embedding, and whether they are named as the run names its own: what the options leave open
/// is the run's.
fn data_of(stored: &StoredModel, given: Option<&DataOption>, stop: Stop<'_>) -> Result<(DataPlan, bool)> {
    let own = stored.run.as_ref().map(|run| &run.data);
    let Some(given) = given else {
        let own = own.cloned().ok_or_else(|| {
            Error::new(Code::InvalidOption, "this option is needed with a model outside a run's folder")
                .with_subject("data")
        })?;
        return match own.missing() {
            Some(place) => Err(Error::new(Code::NotFound, "the data of the run are not there any more")
                .with_subject(place)
                .with_advice("say where they are now with the option data (--data)")),
            None => Ok((own, true)),
        };
    };
    let plan = given.resolve(stored.input, stop)?;
    Ok(match own {
        Some(own) if own.source == plan.source && given.0.split.is_none() => {
            let labels = given.0.labels.unwrap_or(own.labels);
            let rotations = given.0.rotations.unwrap_or(own.rotations);
            (DataPlan { split: own.split.clone(), labels, rotations, ..plan }, true)
        }
        own => {
            let is_own = own.is_some_and(|own| own.source == plan.source);
            (plan, is_own)
        }
    })
}
