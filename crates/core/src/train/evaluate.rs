//! Embedding whole parts of a data set, and measuring retrieval on them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rkd_kernels::Pool;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::{Control, Event};
use super::report::Evaluation;
use crate::backbones::BackboneSpec;
use crate::data::DataPlan;
use crate::data::{Dataset, EvaluationBatches, Normalization, Part, Split};
use crate::error::{Code, Error, Result};
use crate::metrics::{FewShotPlan, FidelityOptions, few_shot, relation_fidelity, retrieval, top_k_accuracy};
use crate::nn::{Backend, Cpu, Features, Inference, Network};

/// Images of one forward pass of an evaluation.
pub const BATCH: usize = 64;

/// Embeddings of some images, row by row, and what they took.
#[derive(Debug)]
pub struct Embeddings {
    /// `[images, d]`, row-major.
    pub values: Vec<f32>,
    /// `[images, classes]`, row-major; empty where the network has no classifier.
    pub logits: Vec<f32>,
    /// Time spent in forward passes only.
    pub time: Duration,
}

impl Embeddings {
    /// Mean time of the forward pass for one of `images` images.
    pub fn milliseconds_per_image(&self, images: usize) -> f64 {
        self.time.as_secs_f64() * 1e3 / images.max(1) as f64
    }
}

/// Embeds `items` in order, without augmentation, with running statistics.
///
/// An embedding that is not finite is `ERR_NON_FINITE` with the image's id. `progress` makes the event that reports
/// images done and images in all; it comes at most every [`Control::STEP_INTERVAL`], and at the end.
pub fn embed_items(
    network: &Inference<Cpu>,
    dataset: &Dataset,
    normalization: &Normalization,
    items: &[u32],
    progress: impl Fn(u64, u64) -> Event,
    control: &Control,
) -> Result<Embeddings> {
    let mut values = Vec::with_capacity(items.len() * network.embedding_size());
    let mut logits = Vec::new();
    let batches = EvaluationBatches::new(dataset, items, BATCH, normalization);
    let mut rest = items;
    let time = for_each_batch(network, batches, progress, control, |features| {
        let embeddings = network.backend().to_f32(&features.embedding)?;
        let (batch, after) = rest.split_at(embeddings.len() / network.embedding_size());
        check_finite(&embeddings, batch, dataset)?;
        rest = after;
        values.extend(embeddings);
        if let Some(batch) = &features.logits {
            logits.extend(network.backend().to_f32(batch)?);
        }
        Ok(())
    })?;
    Ok(Embeddings { values, logits, time })
}

/// Checks the `embeddings` of `items`, row by row.
fn check_finite(embeddings: &[f32], items: &[u32], dataset: &Dataset) -> Result<()> {
    let Some(place) = embeddings.iter().position(|value| !value.is_finite()) else { return Ok(()) };
    let item = items[place * items.len() / embeddings.len()];
    Err(Error::new(Code::NonFinite, format!("the embedding of the image {} is not finite", dataset.id(item)))
        .with_values("finite numbers", embeddings[place].to_string())
        .with_advice(
            "the model's training has diverged, or its numbers are too large; use an earlier or another model",
        ))
}

/// Sends `batches` through `network`, and gives the features of each to `each`.
/// Returns the time spent in forward passes and in `each`.
pub(super) fn for_each_batch(
    network: &Inference<Cpu>,
    batches: EvaluationBatches<'_>,
    progress: impl Fn(u64, u64) -> Event,
    control: &Control,
    mut each: impl FnMut(&Features<<Cpu as Backend>::Tensor>) -> Result<()>,
) -> Result<Duration> {
    let ([h, w, c], all) = (batches.image_shape(), batches.images());
    let (mut done, mut time, mut last_news) = (0, Duration::ZERO, Instant::now());
    for batch in batches {
        if control.is_cancelled() {
            return Err(Error::new(Code::Cancelled, "stopped while embedding images"));
        }
        let start = Instant::now();
        let images = network.backend().from_f32(&batch.images, &[batch.len(), h, w, c])?;
        each(&network.forward(&images)?)?;
        time += start.elapsed();
        done += batch.len();
        if done == all || last_news.elapsed() >= Control::STEP_INTERVAL {
            last_news = Instant::now();
            control.emit(progress(done as u64, all as u64));
        }
    }
    Ok(time)
}

/// Embeds `items` and measures retrieval among them: every image is a query against all others. `classes` names the
/// classes that the network's logits stand for, where it has a classifier.
pub fn evaluate_items(
    network: &Inference<Cpu>,
    dataset: &Dataset,
    normalization: &Normalization,
    classes: Option<&[String]>,
    items: &[u32],
    ks: &[usize],
    control: &Control,
) -> Result<Evaluation> {
    let embeddings = embed_part(network, dataset, normalization, items, control)?;
    measure(network, dataset, classes, items, &embeddings, ks)
}

fn embed_part(
    network: &Inference<Cpu>,
    dataset: &Dataset,
    normalization: &Normalization,
    items: &[u32],
    control: &Control,
) -> Result<Embeddings> {
    if items.len() < 2 {
        return Err(Error::new(Code::InvalidData, "there is too little to evaluate on")
            .with_values("at least 2 images in the part", items.len().to_string())
            .with_advice("choose another part, or a split that leaves images for it"));
    }
    embed_items(network, dataset, normalization, items, |done, total| Event::Embed { done, total }, control)
}

/// The metrics of `embeddings`, those of `items` by `network`.
fn measure(
    network: &Inference<Cpu>,
    dataset: &Dataset,
    classes: Option<&[String]>,
    items: &[u32],
    embeddings: &Embeddings,
    ks: &[usize],
) -> Result<Evaluation> {
    let labels: Vec<u32> = items.iter().map(|&item| dataset.label(item)).collect();
    let found =
        retrieval(network.backend().pool(), &embeddings.values, items.len(), network.embedding_size(), &labels, ks)?;
    let mut metrics: BTreeMap<String, f64> =
        found.recall.iter().map(|(k, recall)| (format!("recall@{k}"), *recall)).collect();
    metrics.extend(found.knn.iter().map(|(k, accuracy)| (format!("knn@{k}"), *accuracy)));
    metrics.insert("mapAtR".into(), found.map_at_r);
    metrics.insert("rPrecision".into(), found.r_precision);
    if let Some(labels) = classes.and_then(|classes| known_labels(dataset, items, classes)) {
        let known = embeddings.logits.len() / items.len();
        let found = top_k_accuracy(&embeddings.logits, known, &labels, ks)?;
        metrics.extend(found.iter().map(|(k, accuracy)| (format!("top@{k}"), *accuracy)));
    }
    Ok(Evaluation {
        metrics,
        images: items.len(),
        classes: labels.iter().collect::<BTreeSet<_>>().len(),
        milliseconds_per_image: embeddings.milliseconds_per_image(items.len()),
        intervals: BTreeMap::new(),
        fidelity: None,
    })
}

/// The place of each item's class among `classes`; nothing if one has none, as with classes never trained on.
fn known_labels(dataset: &Dataset, items: &[u32], classes: &[String]) -> Option<Vec<u32>> {
    let places: BTreeMap<&str, u32> = classes.iter().zip(0..).map(|(class, place)| (&class[..], place)).collect();
    items.iter().map(|&item| places.get(dataset.class_name(dataset.label(item))).copied()).collect()
}

/// What `evaluate` measures.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvaluatePlan {
    /// A `model.safetensors`.
    pub model: PathBuf,
    /// The images; image size and channels are the model's.
    pub data: DataPlan,
    /// The seed of the split.
    pub seed: u64,
    /// Which part is measured.
    pub part: Part,
    /// The K of Recall@K.
    pub ks: Vec<usize>,
    /// Few-shot episodes of the part's classes that are measured too.
    #[serde(default)]
    pub few_shot: Vec<FewShotPlan>,
    /// The `model.safetensors` of a teacher whose relations are compared with the model's.
    #[serde(default)]
    pub teacher: Option<PathBuf>,
    /// CPU threads; 0: all cores.
    pub threads: usize,
}

/// Measures a stored model on one part of a data set: retrieval, few-shot accuracy, and how well it keeps the relations of a teacher.
pub fn evaluate_model(plan: &EvaluatePlan, control: &Control) -> Result<Evaluation> {
    let backend = Cpu::new(Arc::new(Pool::new(plan.threads)));
    let (network, about) = Network::load(backend.clone(), &plan.model)?;
    let (network, normalization) = (network.into_inference()?, normalization_of(&about, &plan.model)?);
    let classes = classes_of(&about);
    let dataset = open_dataset(&plan.data, network.spec(), control)?;
    let split = Split::new(&dataset, &plan.data.split, plan.seed)?;
    let items = split.items(plan.part);
    let embeddings = embed_part(&network, &dataset, &normalization, items, control)?;
    let mut evaluation = measure(&network, &dataset, classes.as_deref(), items, &embeddings, &plan.ks)?;
    let labels: Vec<u32> = items.iter().map(|&item| dataset.label(item)).collect();
    for episodes in &plan.few_shot {
        let (n, d) = (items.len(), network.embedding_size());
        let found = few_shot(backend.pool(), &embeddings.values, n, d, &labels, episodes, plan.seed)?;
        evaluation.metrics.insert(episodes.name(), found.accuracy);
        evaluation.intervals.insert(episodes.name(), found.interval);
    }
    if let Some(path) = &plan.teacher {
        let (teacher, normalization) = load_model(path, &backend)?;
        let (image_size, channels) = (teacher.spec().image_size, teacher.spec().in_channels);
        let dataset = open_dataset(&DataPlan { image_size, channels, ..plan.data.clone() }, teacher.spec(), control)?;
        let own = embed_part(&teacher, &dataset, &normalization, items, control)?;
        let options = FidelityOptions { seed: plan.seed, ..FidelityOptions::default() };
        let (pool, n) = (backend.pool(), items.len());
        evaluation.fidelity = Some(relation_fidelity(pool, &own.values, &embeddings.values, n, &options)?);
    }
    Ok(evaluation)
}

/// A stored network on the CPU, with the way it wants its pixels.
pub fn load_model(path: &std::path::Path, backend: &Cpu) -> Result<(Inference<Cpu>, Normalization)> {
    let (network, about) = Network::load(backend.clone(), path)?;
    Ok((network.into_inference()?, normalization_of(&about, path)?))
}

/// The names of the classes in a model's document that its logits stand for; nothing without a classifier.
pub(super) fn classes_of(about: &Value) -> Option<Vec<String>> {
    serde_json::from_value(about["classes"].clone()).ok()
}

/// The input normalisation in a model's document.
pub(super) fn normalization_of(about: &Value, path: &std::path::Path) -> Result<Normalization> {
    serde_json::from_value(about["normalization"].clone()).map_err(|e| {
        Error::new(Code::InvalidArtefact, "the model does not say how its input is normalised")
            .with_subject(path.display().to_string())
            .with_advice("use a model.safetensors that rkd wrote")
            .with_source(e)
    })
}

/// Opens `plan`'s images for a network of `spec`, reporting the decoding.
pub fn open_dataset(plan: &DataPlan, spec: &BackboneSpec, control: &Control) -> Result<Dataset> {
    if (plan.image_size, plan.channels) != (spec.image_size, spec.in_channels) {
        return Err(Error::new(Code::InvalidOption, "the images do not fit the network")
            .with_subject("data")
            .with_values(
                format!("{0}x{0} pixels of {1} channels", spec.image_size, spec.in_channels),
                format!("{0}x{0} of {1}", plan.image_size, plan.channels),
            )
            .with_advice("leave image size and channels out; they follow the network"));
    }
    Dataset::open(plan, &mut |progress| {
        control.emit(Event::Decode {
            done: progress.done as u64,
            total: progress.total as u64,
            images_per_second: progress.images_per_second,
        });
    })
}
