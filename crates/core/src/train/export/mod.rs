//! Exporting a stored model: written in the forms of [`crate::export`], then measured as others would load it.
//!
//! What is written is read again from its files by an engine of others, fed with the test part of the data as the files beside
//! it say, and held against the model itself: the same scores, and the cosine of each image's two embeddings.

mod folder;
mod plan;
mod readme;
mod report;

use std::path::Path;

use self::folder::Folder;
pub use self::folder::REPORT;
pub use self::plan::{About, ExportPlan, Gates};
use self::readme::readme;
pub use self::report::{Cosine, ExportReport, ExportedFile, ExportedModel};
use super::evaluate::{Embeddings, embed_part, outputs};
use super::event::{Control, Event};
use super::host::Host;
use super::stored::Measuring;
use super::teacher::{self, TeacherFeatures, TeacherPlan};
use crate::artefact::model::Model;
use crate::data::{EvaluationBatches, InputKind, Part};
use crate::error::{Code, Error, Result};
use crate::export::calibrate::Calibration;
use crate::export::float16::with_float16_weights;
use crate::export::folder::{Timm, config, preprocessor};
use crate::export::graph::Graph;
use crate::export::int8::{Ranges, quantize};
use crate::export::network::{self, graph_of};
use crate::export::{Dtype, ExportInput, ExportTarget};
use crate::nn::Feature;
use crate::onnx::OnnxOptions;
use crate::random::Random;

/// Images that are calibrated on at once: the activations of all operations are kept for them.
const CALIBRATION_BATCH: usize = 4;

/// The model, and the images that it is measured on.
struct Subject<'a> {
    plan: &'a ExportPlan,
    model: &'a Model,
    host: &'a Host,
    measuring: Option<Measuring<'a>>,
}

/// Writes a stored model for others, and measures what it wrote.
///
/// # Errors
/// Those of model and data; `ERR_OUTPUT_EXISTS`; `ERR_INVALID_OPTION` for what a target cannot take, with the reason;
/// `ERR_NON_FINITE` for weights beyond float16; `ERR_CANCELLED`. A gate that is missed is none.
pub fn export(plan: &ExportPlan, control: &Control) -> Result<ExportReport> {
    let model = Model::load(&plan.model)?;
    let timm = timm_of(plan, &model)?;
    check(plan, &model)?;
    let mut folder = Folder::open(&plan.out, plan.overwrite)?;
    let host = Host::new(plan.threads);
    let mut subject = Subject { plan, model: &model, host: &host, measuring: None };
    if let Some(data) = &plan.data {
        subject.measuring = Some(Measuring::open(data, &host, &model.card, control)?);
    }
    let mut models = subject.write(&mut folder, timm.as_ref(), control)?;
    let student = subject.measure(&folder, &mut models, control)?;
    let missed = models.iter().flat_map(|model| missed(model, &plan.gates)).collect();
    let mut report = ExportReport {
        to: plan.to,
        out: plan.out.display().to_string(),
        model: plan.model.display().to_string(),
        files: Vec::new(),
        student,
        student_bytes: std::fs::metadata(&plan.model).map_or(0, |about| about.len()),
        models,
        missed,
    };
    let images = subject.measuring.as_ref().map(|measuring| measuring.split.items(Part::Train).len());
    folder.write("README.md", readme(plan, &model, &report, timm.is_some(), images).as_bytes())?;
    report.files = folder.close(&report)?;
    Ok(report)
}

/// What timm calls the network: needed for timm, and put beside transformers.js' files where the weights are those of float32.
fn timm_of(plan: &ExportPlan, model: &Model) -> Result<Option<Timm>> {
    match plan.to {
        ExportTarget::Timm => Timm::of(&model.card).map(Some),
        ExportTarget::Transformers if plan.dtypes.contains(&Dtype::Float32) => Ok(Timm::of(&model.card).ok()),
        _ => Ok(None),
    }
}

/// Checks what a target takes.
fn check(plan: &ExportPlan, model: &Model) -> Result<()> {
    let refuse = |subject: &str, expected: String, received: String, advice: &str| {
        Err(Error::new(Code::InvalidOption, "this cannot be exported")
            .with_subject(subject)
            .with_values(expected, received)
            .with_advice(advice))
    };
    let (target, onnx) = (plan.to.name(), matches!(plan.to, ExportTarget::Onnx | ExportTarget::Transformers));
    if let Some(dtype) = plan.dtypes.iter().find(|dtype| !onnx && **dtype != Dtype::Float32) {
        let advice = "export for onnx or transformers, whose files are smaller";
        return refuse("dtype", format!("float32 for {target}"), dtype.name().into(), advice);
    }
    if plan.input == ExportInput::Bytes && plan.to != ExportTarget::Onnx {
        let advice = "export for onnx; others feed normalised floats";
        return refuse("input", format!("floats for {target}"), "bytes".into(), advice);
    }
    let channels = network::channels(model);
    let takes_images = model.card.input().kind == InputKind::Images;
    if (channels != 3 || !takes_images) && plan.to != ExportTarget::Safetensors {
        let advice = "export its weights alone, for safetensors";
        return refuse(
            "model",
            "a network for images".into(),
            format!("one of {channels} {}", if takes_images { "channels" } else { "numbers" }),
            advice,
        );
    }
    Ok(())
}

impl Subject<'_> {
    /// Writes the weights and what stands beside them.
    fn write(&self, folder: &mut Folder, timm: Option<&Timm>, control: &Control) -> Result<Vec<ExportedModel>> {
        let ExportPlan { to, dtypes, input, .. } = self.plan;
        let mut models = Vec::new();
        let unmeasured = |dtype, file: &str, bytes| ExportedModel {
            dtype,
            file: file.to_string(),
            bytes,
            engine: None,
            evaluation: None,
            cosine: None,
        };
        if matches!(to, ExportTarget::Onnx | ExportTarget::Transformers) {
            let card = self.model.card.document()?.to_string();
            let graph = graph_of(self.model, *input)?;
            for &dtype in dtypes {
                let graph = self.in_dtype(graph.clone(), dtype, control)?;
                let place = if *to == ExportTarget::Transformers { "onnx/" } else { "" };
                let file = format!("{place}{}", dtype.file());
                let bytes = folder.write(&file, &graph.encode(&[("rkd", &card)])?)?;
                models.push(unmeasured(dtype, &file, bytes));
            }
        }
        let weights = match (to, timm) {
            (ExportTarget::Safetensors, _) => Some(self.model.clone()),
            (_, Some(timm)) => Some(timm.weights(self.model)),
            _ => None,
        };
        if let Some(weights) = weights {
            let file = "model.safetensors";
            let bytes = folder.write_with(file, |path| weights.save(path))?;
            if models.is_empty() {
                models.push(unmeasured(Dtype::Float32, file, bytes));
            }
        }
        if matches!(to, ExportTarget::Transformers | ExportTarget::Timm) {
            let dtype = dtypes.first().copied().filter(|_| *to == ExportTarget::Transformers);
            folder.write_json("config.json", &config(dtype, timm, self.model))?;
        }
        folder.write_json("preprocessor_config.json", &preprocessor(self.model, *input))?;
        Ok(models)
    }

    fn in_dtype(&self, graph: Graph, dtype: Dtype, control: &Control) -> Result<Graph> {
        match dtype {
            Dtype::Float32 => Ok(graph),
            Dtype::Float16 => with_float16_weights(graph),
            Dtype::Int8 => {
                let ranges = self.calibrate(&graph, control)?;
                quantize(graph, &ranges)
            }
        }
    }

    /// The ranges of activations on training images, drawn by the run's seed.
    fn calibrate(&self, graph: &Graph, control: &Control) -> Result<Ranges> {
        let (Some(measuring), Some(plan)) = (&self.measuring, &self.plan.data) else {
            return Err(Error::new(Code::InvalidOption, "int8 is calibrated on images, and there are none")
                .with_subject("data")
                .with_advice("name the images that the model was trained on (--data)"));
        };
        let mut items = measuring.split.items(Part::Train).to_vec();
        Random::keyed(plan.seed, 0, 0, "calibration").shuffle(&mut items);
        items.truncate(self.plan.calibration_images);
        items.sort_unstable();
        if items.is_empty() {
            return Err(Error::new(Code::InvalidData, "int8 is calibrated on training images, and the data have none")
                .with_subject("data")
                .with_advice("name the data that the model was trained on"));
        }
        let input = network::input(self.model, self.plan.input);
        let (side, channels) = (input.image_size, input.channels);
        let view = measuring.view_of(input, control)?;
        let mut calibration = Calibration::new(graph, self.host.team().threads())?;
        let mut done = 0;
        for batch in EvaluationBatches::new(&view.dataset, &items, CALIBRATION_BATCH, &view.normalization) {
            if control.is_cancelled() {
                return Err(Error::new(Code::Cancelled, "stopped while calibrating"));
            }
            calibration.watch(&batch.images, side, channels)?;
            done += batch.len() as u64;
            control.emit(Event::Calibrate { done, total: items.len() as u64 });
        }
        view.dataset.intact()?;
        Ok(calibration.ranges())
    }

    /// Measures the model itself and each of its exported forms.
    fn measure(
        &mut self,
        folder: &Folder,
        models: &mut [ExportedModel],
        control: &Control,
    ) -> Result<Option<super::report::Evaluation>> {
        let Some(measuring) = self.measuring.as_mut().filter(|_| self.plan.measure) else { return Ok(None) };
        measuring.ask_teachers(control)?;
        let Some(measuring) = &self.measuring else { return Ok(None) };
        let own = self.model.network(measuring.backend.clone())?.into_inference()?;
        let own = embed_part(
            &measuring.backend,
            outputs(&own),
            &measuring.view,
            measuring.items(),
            self.host.ranks(),
            control,
        )?;
        let student = measuring.score(&own, None)?;
        for model in models {
            let (engine, found) = self.embeddings_of(measuring, &folder.place(&model.file), control)?;
            model.engine = Some(engine);
            model.cosine = Some(Cosine::of(&own.values, &found.values, own.size));
            model.evaluation = Some(measuring.score(&found, None)?);
        }
        Ok(Some(student))
    }

    /// What the written file makes of the test images, and by which engine.
    fn embeddings_of(&self, measuring: &Measuring<'_>, file: &Path, control: &Control) -> Result<(String, Embeddings)> {
        let (backend, items) = (&measuring.backend, measuring.items());
        if file.extension().is_some_and(|ending| ending == "safetensors") {
            let model = Model::load(file)?;
            let view = measuring.view_of(model.card.input(), control)?;
            let network = Timm::unnamed(model).network(backend.clone())?.into_inference()?;
            return Ok((
                "rkd".into(),
                embed_part(backend, outputs(&network), &view, items, self.host.ranks(), control)?,
            ));
        }
        let wanted = OnnxOptions {
            engine: self.plan.engine,
            onnxruntime: self.plan.onnxruntime.clone(),
            ..OnnxOptions::default()
        };
        let (options, _) = wanted.resolve(file)?;
        let engine = options.engine.name().to_string();
        let plan = TeacherPlan {
            name: engine.clone(),
            weight: 1.0,
            model: file.to_path_buf(),
            onnx: Some(options),
            vectors: None,
            features: TeacherFeatures::Live,
        };
        let exported = teacher::open(&plan, backend, self.host, &[], control)?;
        let input = exported.input().ok_or_else(|| Error::new(Code::Internal, "an ONNX model takes no images"))?;
        let view = measuring.view_of(input, control)?;
        let forward = |images: &super::evaluate::Images<'_, _>| exported.features(images, &[Feature::Embedding]);
        Ok((engine, embed_part(backend, forward, &view, items, self.host.ranks(), control)?))
    }
}

/// A sentence for each gate that `model` misses.
fn missed(model: &ExportedModel, gates: &Gates) -> Vec<String> {
    let name = model.dtype.name();
    let recall = model.evaluation.as_ref().and_then(|evaluation| smallest_recall(&evaluation.metrics));
    let below = |gate: &str, limit: Option<f64>, found: Option<(&str, f64)>| match (limit?, found) {
        (limit, Some((_, found))) if found >= limit => None,
        (limit, Some((what, found))) => {
            // As many digits as tell it from the limit.
            let digits =
                (4..17).find(|&digits| format!("{found:.digits$}").parse().is_ok_and(|shown: f64| shown < limit));
            Some(format!("{name} misses {gate} {limit}: its {what} is {found:.*}.", digits.unwrap_or(17)))
        }
        (limit, None) => Some(format!("{name} misses {gate} {limit}: without labels and teacher it has none.")),
    };
    let large = gates.max_bytes.filter(|&limit| model.bytes > limit);
    [
        below("minRecall", gates.min_recall, recall),
        large.map(|limit| format!("{name} misses maxBytes {limit}: its file has {} bytes.", model.bytes)),
        below("minCosine", gates.min_cosine, model.cosine.map(|cosine| ("mean cosine to the model", cosine.mean))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// `recall@K` of the smallest K; without labels `teacherRecall@K`.
fn smallest_recall(metrics: &std::collections::BTreeMap<String, f64>) -> Option<(&str, f64)> {
    let of = |kind: &str| {
        let found = metrics.iter().filter_map(|(name, &value)| {
            let k: usize = name.strip_prefix(kind)?.strip_prefix('@')?.parse().ok()?;
            Some((k, (&name[..], value)))
        });
        found.min_by_key(|(k, _)| *k).map(|(_, found)| found)
    };
    of("recall").or_else(|| of("teacherRecall"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::train::report::Evaluation;

    fn exported(metrics: &[(&str, f64)], bytes: u64, mean: f64) -> ExportedModel {
        let metrics: BTreeMap<String, f64> = metrics.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        let evaluation = Evaluation {
            metrics,
            images: 2,
            classes: 2,
            milliseconds_per_image: 1.0,
            intervals: BTreeMap::new(),
            fidelity: Vec::new(),
            prefixes: Vec::new(),
        };
        ExportedModel {
            dtype: Dtype::Int8,
            file: "model_quantized.onnx".into(),
            bytes,
            engine: Some("rten".into()),
            evaluation: Some(evaluation),
            cosine: Some(Cosine { mean, min: 0.5 }),
        }
    }

    #[test]
    fn gates_are_held_against_the_smallest_k_the_file_and_the_mean() {
        let model = exported(&[("recall@10", 0.95), ("recall@2", 0.7), ("mapAtR", 0.1)], 1000, 0.99);
        let met = Gates { min_recall: Some(0.7), max_bytes: Some(1000), min_cosine: Some(0.99) };
        assert_eq!(missed(&model, &met), Vec::<String>::new());
        let gates = Gates { min_recall: Some(0.71), max_bytes: Some(999), min_cosine: Some(0.995) };
        let sentences = missed(&model, &gates);
        assert_eq!(sentences.len(), 3);
        assert!(sentences[0].contains("recall@2 is 0.7000"), "{sentences:?}");
        assert!(sentences[1].contains("1000 bytes") && sentences[2].contains("0.9900"), "{sentences:?}");
        let rounded = exported(&[("recall@1", 1.0)], 1, 0.999_999_7);
        let gates = Gates { min_cosine: Some(1.0), ..Gates::default() };
        assert!(missed(&rounded, &gates)[0].contains("is 0.9999997."), "{:?}", missed(&rounded, &gates));
        let unlabelled = exported(&[("neighbourOverlap", 0.9), ("teacherRecall@1", 0.4)], 1, 1.0);
        let gates = Gates { min_recall: Some(0.5), ..Gates::default() };
        assert!(missed(&unlabelled, &gates)[0].contains("teacherRecall@1 is 0.4000"));
        assert!(missed(&exported(&[], 1, 1.0), &gates)[0].contains("without labels and teacher"));
    }
}
