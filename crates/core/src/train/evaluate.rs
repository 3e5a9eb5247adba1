//! Embedding whole parts of a data set, and measuring retrieval on them by labels.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event::{Control, Event};
use super::host::Host;
use super::report::Evaluation;
use crate::artefact::model::{Model, ModelCard};
use crate::data::{
    DataPlan, Dataset, DecodeProgress, EvaluationBatches, InputKind, InputSpec, IsWanted, Shard, View, describe,
};
use crate::error::{Code, Error, Result};
use crate::metrics::{retrieval, top_k_accuracy};
use crate::nn::{Backend, Feature, FeatureMap, Inference};
use crate::ranks::{Ranks, share};

/// Images of one forward pass of an evaluation.
pub const BATCH: usize = 64;

/// Embeddings of some images, row by row, and what they took.
#[derive(Debug)]
pub struct Embeddings {
    /// `[images, d]`, row-major.
    pub values: Vec<f32>,
    /// `[images, classes]`, row-major; empty where the network has no classifier.
    pub logits: Vec<f32>,
    /// d.
    pub size: usize,
    /// Images.
    pub images: usize,
    /// Time of the forward passes alone, at the rate of the quickest batch.
    pub time: Duration,
}

/// Images that go through a network, and which ones they are.
pub struct Images<'a, T> {
    /// `[n, h, w, c]`, normalised.
    pub pixels: &'a T,
    /// Of the data set.
    pub items: &'a [u32],
}

impl Embeddings {
    /// Those among the features of `items`, row by row.
    ///
    /// # Errors
    /// `ERR_NON_FINITE` with the image's id.
    pub fn new(
        mut features: FeatureMap<Vec<f32>>,
        items: &[u32],
        dataset: &Dataset,
        time: Duration,
    ) -> Result<Embeddings> {
        let [values, logits] =
            [Feature::Embedding, Feature::Logits].map(|feature| features.remove(&feature).unwrap_or_default());
        check_finite(&values, items, dataset)?;
        Ok(Embeddings { size: values.len() / items.len().max(1), values, logits, images: items.len(), time })
    }

    /// The first `length` numbers of each row, which is divided by its norm where `unit`; without logits.
    pub fn prefix(&self, length: usize, unit: bool) -> Embeddings {
        let rows = self.values.chunks_exact(self.size.max(1));
        let mut values: Vec<f32> = rows.flat_map(|row| &row[..length.min(row.len())]).copied().collect();
        for row in values.chunks_exact_mut(length.max(1)).filter(|_| unit) {
            let norm = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt().max(1e-12);
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
        }
        Embeddings { values, logits: Vec::new(), size: length, images: self.images, time: self.time }
    }

    /// Those of all ranks, in their order, where this rank has the images of [`share_of_images`].
    ///
    /// # Errors
    /// Those of [`Ranks::gather`].
    pub(super) fn gathered(self, ranks: &Ranks) -> Result<Embeddings> {
        if ranks.size() == 1 {
            return Ok(self);
        }
        let quickest = if self.images > 0 { self.time.as_secs_f64() / self.images as f64 } else { f64::INFINITY };
        let heads = ranks.gather_values(&(self.images, self.size, quickest.min(f64::MAX)))?;
        let (values, logits) = (ranks.gather_numbers(self.values)?, ranks.gather_numbers(self.logits)?);
        let images: usize = heads.iter().map(|(images, _, _)| images).sum();
        let size = heads.iter().map(|(_, size, _)| *size).max().unwrap_or_default();
        let quickest = heads.iter().map(|(_, _, quickest)| *quickest).fold(f64::MAX, f64::min);
        let time = Duration::try_from_secs_f64(quickest * images as f64).unwrap_or_default();
        Ok(Embeddings { values, logits, size, images, time })
    }

    /// Time of the forward pass for one image, in the quickest batch.
    pub fn milliseconds_per_image(&self) -> f64 {
        self.time.as_secs_f64() * 1e3 / self.images.max(1) as f64
    }
}

/// Embeds `items` in order, without augmentation. `forward` gives the embedding of a batch of images and, where there is a
/// classifier, its logits.
///
/// An embedding that is not finite is `ERR_NON_FINITE` with the image's id. `progress` makes the event that reports images
/// done and images in all; it comes at most every [`Control::STEP_INTERVAL`], and at the end.
pub fn embed_items<B: Backend>(
    backend: &B,
    forward: impl Fn(&Images<'_, B::Tensor>) -> Result<FeatureMap<B::Tensor>>,
    View { dataset, normalization }: &View,
    items: &[u32],
    progress: impl Fn(u64, u64) -> Event,
    control: &Control,
) -> Result<Embeddings> {
    let batches = EvaluationBatches::new(dataset, items, BATCH, normalization);
    let (features, time) = features_of(backend, forward, batches, progress, control)?;
    dataset.intact()?;
    Embeddings::new(features, items, dataset, time)
}

/// Checks the `embeddings` of `items`, row by row.
fn check_finite(embeddings: &[f32], items: &[u32], dataset: &Dataset) -> Result<()> {
    let Some(place) = embeddings.iter().position(|value| !value.is_finite()) else { return Ok(()) };
    let item = items[place / (embeddings.len() / items.len())];
    Err(Error::new(Code::NonFinite, format!("the embedding of the image {} is not finite", dataset.id(item)))
        .with_values("finite numbers", embeddings[place].to_string())
        .with_advice(
            "the model's training has diverged, or its numbers are too large; use an earlier or another model",
        ))
}

/// The embedding and, with a classifier, the logits, as [`embed_items`] wants them.
pub fn outputs<B: Backend>(network: &Inference<B>) -> impl Fn(&Images<'_, B::Tensor>) -> Result<FeatureMap<B::Tensor>> {
    |images| {
        let mut features = network.forward(images.pixels)?;
        features.retain(|feature, _| matches!(feature, Feature::Embedding | Feature::Logits));
        Ok(features)
    }
}

/// Sends `batches` through `forward`, and gives each of the features it returns for all images, row by row.
/// Beside them the time that forward passes and bringing their results to the host take where nothing disturbs them: that of the
/// quickest whole batch, for all images. Other work on the machine only adds to it.
pub(super) fn features_of<B: Backend>(
    backend: &B,
    forward: impl Fn(&Images<'_, B::Tensor>) -> Result<FeatureMap<B::Tensor>>,
    batches: EvaluationBatches<'_>,
    progress: impl Fn(u64, u64) -> Event,
    control: &Control,
) -> Result<(FeatureMap<Vec<f32>>, Duration)> {
    let ([h, w, c], all) = (batches.image_shape(), batches.images());
    let (mut done, mut whole, mut quickest, mut last_event) = (0, 0, Duration::ZERO, Instant::now());
    let mut features: FeatureMap<Vec<f32>> = FeatureMap::new();
    for batch in batches {
        if control.is_cancelled() {
            return Err(Error::new(Code::Cancelled, "stopped while embedding images"));
        }
        let start = Instant::now();
        let images = backend.from_f32(&batch.images, &[batch.len(), h, w, c])?;
        for (feature, tensor) in forward(&Images { pixels: &images, items: &batch.items })? {
            features.entry(feature).or_default().extend(backend.to_f32(&tensor)?);
        }
        let each = start.elapsed() / batch.len() as u32;
        if batch.len() > whole || batch.len() == whole && each < quickest {
            (whole, quickest) = (batch.len(), each);
        }
        done += batch.len();
        if done == all || last_event.elapsed() >= Control::STEP_INTERVAL {
            last_event = Instant::now();
            control.emit(progress(done as u64, all as u64));
        }
    }
    Ok((features, quickest * done as u32))
}

/// Which of so many images this rank embeds: whole batches, so that each image is in the batch that it is in on one rank.
pub(super) fn share_of_images(images: usize, ranks: &Ranks) -> Range<usize> {
    let batches = share(images.div_ceil(BATCH), ranks.rank(), ranks.size());
    (batches.start * BATCH).min(images)..(batches.end * BATCH).min(images)
}

/// Embeds `items`, one part of the data, for an evaluation; each of `ranks` a share of them, and all get all.
pub(super) fn embed_part<B: Backend>(
    backend: &B,
    forward: impl Fn(&Images<'_, B::Tensor>) -> Result<FeatureMap<B::Tensor>>,
    view: &View,
    items: &[u32],
    ranks: &Ranks,
    control: &Control,
) -> Result<Embeddings> {
    check_enough(items)?;
    let (mine, progress) = (share_of_images(items.len(), ranks), |done, total| Event::Embed { done, total });
    embed_items(backend, forward, view, &items[mine], progress, control)?.gathered(ranks)
}

/// Retrieval wants two images at least.
pub(super) fn check_enough(items: &[u32]) -> Result<()> {
    if items.len() >= 2 {
        return Ok(());
    }
    Err(Error::new(Code::InvalidData, "there is too little to evaluate on")
        .with_values("at least 2 images in the part", items.len().to_string())
        .with_advice("choose another part, or a split that leaves images for it"))
}

/// Retrieval by labels of `embeddings`, those of `items`: every image is a query against all others. `classes` names the
/// classes that the network's logits stand for, where it has a classifier.
pub(super) fn measure(
    host: &Host,
    dataset: &Dataset,
    classes: Option<&[String]>,
    items: &[u32],
    embeddings: &Embeddings,
    ks: &[usize],
) -> Result<Evaluation> {
    let labels: Vec<u32> = items.iter().map(|&item| dataset.label(item)).collect();
    let scores = retrieval(host.team(), &embeddings.values, items.len(), embeddings.size, &labels, ks)?;
    let mut metrics: BTreeMap<String, f64> =
        scores.recall.iter().map(|(k, recall)| (format!("recall@{k}"), *recall)).collect();
    metrics.extend(scores.knn.iter().map(|(k, accuracy)| (format!("knn@{k}"), *accuracy)));
    metrics.insert("mapAtR".into(), scores.map_at_r);
    metrics.insert("rPrecision".into(), scores.r_precision);
    if let Some(labels) = classes.and_then(|classes| known_labels(dataset, items, classes)) {
        let class_count = embeddings.logits.len() / items.len();
        let accuracies = top_k_accuracy(&embeddings.logits, class_count, &labels, ks)?;
        metrics.extend(accuracies.iter().map(|(k, accuracy)| (format!("top@{k}"), *accuracy)));
    }
    Ok(Evaluation {
        metrics,
        images: items.len(),
        classes: labels.iter().collect::<BTreeSet<_>>().len(),
        milliseconds_per_image: embeddings.milliseconds_per_image(),
        intervals: BTreeMap::new(),
        fidelity: Vec::new(),
        prefixes: Vec::new(),
    })
}

/// The place of each item's class among `classes`; nothing if one has none, as with classes never trained on.
fn known_labels(dataset: &Dataset, items: &[u32], classes: &[String]) -> Option<Vec<u32>> {
    let places: BTreeMap<&str, u32> = classes.iter().zip(0..).map(|(class, place)| (&class[..], place)).collect();
    items.iter().map(|&item| places.get(dataset.class_of(item)?).copied()).collect()
}

/// A network of a file, folded, with what the file says of it.
#[derive(Debug)]
pub struct StoredNetwork<B: Backend> {
    /// The network.
    pub network: Inference<B>,
    /// Its card.
    pub card: ModelCard,
}

impl<B: Backend> StoredNetwork<B> {
    /// Reads a `model.safetensors`.
    pub fn load(path: &Path, backend: &B) -> Result<Self> {
        Self::of(Model::load(path)?, path, backend)
    }

    /// Reads it, and its [`Model::hash`], which takes a pass over all its numbers.
    pub fn load_hashed(path: &Path, backend: &B) -> Result<(Self, String)> {
        let model = Model::load(path)?;
        let hash = model.hash()?;
        Ok((Self::of(model, path, backend)?, hash))
    }

    fn of(model: Model, path: &Path, backend: &B) -> Result<Self> {
        let network = model.network(backend.clone()).map_err(|error| error.with_subject(path.display().to_string()))?;
        Ok(StoredNetwork { network: network.into_inference()?, card: model.card })
    }
}

/// Opens `plan`'s images for a network that takes `input`, as it wants to see them; reports the decoding. The decoded images
/// of a source with fewer than `fewest` are not kept.
pub fn open_view(plan: &DataPlan, input: InputSpec, fewest: usize, control: &Control) -> Result<View> {
    let dataset = open_dataset(plan, (input.kind, input.image_size, input.channels), fewest, control)?;
    Ok(View { dataset: Arc::new(dataset), normalization: input.normalization })
}

/// Opens `plan`'s images for a network that takes `wanted`, a kind of images of that size and so many channels, reporting the
/// decoding; `fewest` as of [`open_view`].
pub(super) fn open_dataset(
    plan: &DataPlan,
    wanted: (InputKind, usize, usize),
    fewest: usize,
    control: &Control,
) -> Result<Dataset> {
    check_input(plan, wanted)?;
    let dataset = Dataset::open_keeping(plan, fewest, &|| control.is_cancelled(), &mut decoding(control))?;
    tell_of_cache(&dataset, control);
    Ok(dataset)
}

/// Opens a shard of `plan`'s images as [`open_view`] does all of them; see [`Dataset::open_shard`].
pub(super) fn open_shard_view(
    plan: &DataPlan,
    shard: Shard,
    is_wanted: IsWanted<'_>,
    input: InputSpec,
    fewest: usize,
    control: &Control,
) -> Result<Option<View>> {
    check_input(plan, (input.kind, input.image_size, input.channels))?;
    let stop = || control.is_cancelled();
    let found = Dataset::open_shard(plan, shard, is_wanted, fewest, &stop, &mut decoding(control))?;
    let Some(dataset) = found else { return Ok(None) };
    tell_of_cache(&dataset, control);
    Ok(Some(View { dataset: Arc::new(dataset), normalization: input.normalization }))
}

/// Warns where the decoded images do not lie where they were to.
fn tell_of_cache(dataset: &Dataset, control: &Control) {
    if let Some(notice) = dataset.cache_notice() {
        control.emit(Event::Warning { message: notice.into() });
    }
}

/// Reports the decoding.
fn decoding(control: &Control) -> impl FnMut(DecodeProgress) {
    |progress| {
        control.emit(Event::Decode {
            done: progress.done as u64,
            total: progress.total as u64,
            images_per_second: progress.images_per_second,
        });
    }
}

/// Refuses images that a network which takes `wanted` does not.
fn check_input(plan: &DataPlan, wanted: (InputKind, usize, usize)) -> Result<()> {
    let found = (plan.input_kind(), plan.image_size, plan.channels);
    if found != wanted {
        let words = |(kind, image_size, channels)| describe(kind, image_size, channels);
        let vectors = [found.0, wanted.0].contains(&InputKind::Vectors);
        let received = match (wanted.0, found.0) {
            (InputKind::Vectors, InputKind::Images) => "images".into(),
            _ => words(found),
        };
        let (message, advice) = match vectors {
            true => ("the data do not fit the network", "give data like those that the network was trained on"),
            false => {
                ("the images do not fit the network", "leave image size and channels out; they follow the network")
            }
        };
        return Err(Error::new(Code::InvalidOption, message)
            .with_subject("data")
            .with_values(words(wanted), received)
            .with_advice(advice));
    }
    Ok(())
}
