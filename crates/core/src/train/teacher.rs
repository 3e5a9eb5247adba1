//! The teacher of a distillation: whatever gives features for images, which the losses compare with.
//!
//! [`Teacher`] is what one is; a stored network is the first. A [`TeacherReader`] reads one in one of two ways. `live`
//! sends every batch through the teacher, changed as the student sees it but in the teacher's own size and normalisation.
//! `cached` computes what the losses read once for every training image, and where training mirrors images for the
//! mirrored one too, and keeps it in memory: float32 numbers, [`CACHE_LIMIT`] at most. Other augmentation the teacher then
//! does not see.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::evaluate::{BATCH, features_of, open_dataset};
use super::event::{Control, Event};
use crate::artefact::model::{Model, ModelCard};
use crate::data::{Batch, DataPlan, Dataset, EvaluationBatches, InputSpec, View};
use crate::error::{Code, Error, Result};
use crate::losses::{Feature, FeatureMap, Matrix};
use crate::nn::{Backend, Inference};

/// The teacher of a distillation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TeacherPlan {
    /// A `model.safetensors` written by `train` or `distill`.
    pub model: PathBuf,
    /// Whether the teacher sees each augmented batch, or every training image once before the first step.
    pub features: TeacherFeatures,
}

/// When the teacher's features are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum TeacherFeatures {
    /// In every step, on the same augmented images as the student.
    Live,
    /// Once per image, without augmentation, before the first step.
    Cached,
}

/// The largest cache, in bytes.
pub const CACHE_LIMIT: usize = 4 << 30;

/// Whatever gives features for images. It does not learn.
pub trait Teacher<B: Backend> {
    /// What it is called: a network's architecture.
    fn name(&self) -> &str;
    /// The number of its parameters.
    fn parameter_count(&self) -> usize;
    /// Its features, each with its shape for one image.
    fn shapes(&self) -> &FeatureMap<Vec<usize>>;
    /// The images it takes.
    fn input(&self) -> InputSpec;
    /// The names of the classes that its logits stand for, where it has a classifier.
    fn classes(&self) -> Option<&[String]>;
    /// A hash of what it is: teachers of one hash give the same features for the same images.
    fn hash(&self) -> &str;
    /// The features `names` of `images [n, h, w, c]`.
    fn features(&self, images: &B::Tensor, names: &[Feature]) -> Result<FeatureMap<B::Tensor>>;
}

/// A stored network as a teacher.
pub struct NetworkTeacher<B: Backend> {
    network: Inference<B>,
    card: ModelCard,
    shapes: FeatureMap<Vec<usize>>,
    hash: String,
}

impl<B: Backend> NetworkTeacher<B> {
    /// Reads a `model.safetensors`. Of the taps inside the network only those in `read` will be asked for: it frees the
    /// others as it goes.
    pub fn load(path: &Path, backend: &B, read: &[Feature]) -> Result<Self> {
        let model = Model::load(path)?;
        let network = model.network(backend.clone()).map_err(|error| error.with_subject(path.display().to_string()))?;
        let mut network = network.into_inference()?;
        let InputSpec { image_size, channels, .. } = model.card.input();
        let image = backend.zeros(&[1, image_size, image_size, channels])?;
        let shapes = shapes_of::<B>(&network.forward(&image)?);
        network.keep_taps(read);
        Ok(NetworkTeacher { network, shapes, hash: model.hash()?, card: model.card })
    }

    /// What its file says of it.
    pub fn card(&self) -> &ModelCard {
        &self.card
    }
}

/// The shapes of features.
pub(super) fn shapes_of<B: Backend>(features: &FeatureMap<B::Tensor>) -> FeatureMap<Vec<usize>> {
    features.iter().map(|(feature, tensor)| (feature.clone(), B::shape(tensor).to_vec())).collect()
}

/// The images as the teacher wants them: the student's, if they have its size and channels.
pub(super) fn teacher_view(
    data: &DataPlan,
    input: InputSpec,
    student: &Arc<Dataset>,
    control: &Control,
) -> Result<View> {
    let InputSpec { image_size, channels, normalization } = input;
    if (image_size, channels) == (student.image_size(), student.channels()) {
        return Ok(View { dataset: Arc::clone(student), normalization });
    }
    let data = DataPlan { image_size, channels, ..data.clone() };
    let view = View { dataset: Arc::new(open_dataset(&data, image_size, channels, control)?), normalization };
    if view.dataset.has_items_of(student) {
        return Ok(view);
    }
    Err(Error::new(
        Code::InvalidData,
        "the data have changed between decoding them for the student and for the teacher",
    )
    .with_subject("data")
    .with_advice("start again once nobody writes to them"))
}

impl<B: Backend> Teacher<B> for NetworkTeacher<B> {
    fn name(&self) -> &str {
        &self.card.backbone.kind
    }

    fn parameter_count(&self) -> usize {
        self.network.parameter_count()
    }

    fn shapes(&self) -> &FeatureMap<Vec<usize>> {
        &self.shapes
    }

    fn input(&self) -> InputSpec {
        self.card.input()
    }

    fn classes(&self) -> Option<&[String]> {
        self.card.classes.as_deref()
    }

    fn hash(&self) -> &str {
        &self.hash
    }

    fn features(&self, images: &B::Tensor, names: &[Feature]) -> Result<FeatureMap<B::Tensor>> {
        let mut all = self.network.forward(images)?;
        let feature = |name: &Feature| {
            all.remove_entry(name).ok_or_else(|| {
                Error::new(Code::Internal, format!("the teacher was not told that {} will be read", name.name()))
            })
        };
        names.iter().map(feature).collect()
    }
}

/// A teacher and the way in which its features are read.
pub struct TeacherReader<B: Backend> {
    /// The teacher.
    pub teacher: Box<dyn Teacher<B>>,
    /// The images as it wants them.
    pub view: View,
    read: Vec<Feature>,
    /// The features of all training images, where they are computed once.
    cache: Option<FeatureCache>,
}

/// What losses read of a batch: on the device, or on the host where it comes from a cache.
pub struct TeacherBatch<T> {
    /// On the device, in the pieces of the batch.
    pub device: FeatureMap<Vec<T>>,
    /// On the host.
    pub host: FeatureMap<Matrix>,
}

impl<T> Default for TeacherBatch<T> {
    fn default() -> Self {
        TeacherBatch { device: FeatureMap::new(), host: FeatureMap::new() }
    }
}

impl<B: Backend> TeacherReader<B> {
    /// Reads the features `read` of `teacher` as `way` says. If they are computed once, then now, for all images `train`, as
    /// they are and, if training `mirrors`, mirrored.
    ///
    /// # Errors
    /// `ERR_INVALID_OPTION` if they would need more memory than [`CACHE_LIMIT`].
    #[allow(clippy::too_many_arguments)] // Two of them are the images, two are what happens to them.
    pub fn open(
        backend: &B,
        teacher: Box<dyn Teacher<B>>,
        way: TeacherFeatures,
        read: Vec<Feature>,
        view: View,
        train: &[u32],
        mirrors: bool,
        control: &Control,
    ) -> Result<Self> {
        let cache = match way {
            TeacherFeatures::Cached if !read.is_empty() => {
                Some(FeatureCache::compute(backend, &*teacher, &read, &view, train, mirrors, control)?)
            }
            _ => None,
        };
        Ok(TeacherReader { teacher, view, read, cache })
    }

    /// Whether it looks at every batch.
    pub fn is_live(&self) -> bool {
        self.cache.is_none() && !self.read.is_empty()
    }

    /// What losses read of a batch: of the `pieces` of its images in the teacher's view, or of its items as they were.
    pub fn features(
        &self,
        batch: &Batch,
        pieces: impl FnOnce() -> Result<Vec<B::Tensor>>,
    ) -> Result<TeacherBatch<B::Tensor>> {
        let mut features = TeacherBatch::default();
        match &self.cache {
            _ if self.read.is_empty() => {}
            Some(cache) => features.host = cache.look_up(batch)?,
            None => {
                for images in pieces()? {
                    for (feature, piece) in self.teacher.features(&images, &self.read)? {
                        features.device.entry(feature).or_default().push(piece);
                    }
                }
            }
        }
        Ok(features)
    }
}

/// Features of all training images, computed once.
struct FeatureCache {
    features: FeatureMap<Cached>,
    /// The row of each image in the cache; those that are not trained on have none. The mirrored image's row comes
    /// `images` later.
    rows: Vec<Option<u32>>,
    images: usize,
}

/// One feature of all training images.
struct Cached {
    /// `[1, d]` or `[1, h, w, c]`.
    shape: Vec<usize>,
    /// Of the images as they are, then of the mirrored ones if training mirrors.
    data: Vec<f32>,
}

impl FeatureCache {
    fn compute<B: Backend>(
        backend: &B,
        teacher: &dyn Teacher<B>,
        read: &[Feature],
        View { dataset, normalization }: &View,
        train: &[u32],
        mirrors: bool,
        control: &Control,
    ) -> Result<FeatureCache> {
        let cached = |feature: &Feature| {
            let shape = teacher.shapes().get(feature).cloned().unwrap_or_default();
            (feature.clone(), Cached { shape, data: Vec::new() })
        };
        let mut features: FeatureMap<Cached> = read.iter().map(cached).collect();
        let sides: &[bool] = if mirrors { &[false, true] } else { &[false] };
        let images = train.len() * sides.len();
        check_memory(features.values().map(|cached| cached.length() * images * size_of::<f32>()).sum())?;
        for (side, &mirrored) in (0..).zip(sides) {
            let before = side * train.len() as u64;
            let progress = |done, _| Event::TeacherFeatures { done: before + done, total: images as u64 };
            let batches = EvaluationBatches::new(dataset, train, BATCH, normalization).mirrored(mirrored);
            let forward = |images: &B::Tensor| teacher.features(images, read);
            let (mut rows, _) = features_of(backend, forward, batches, progress, control)?;
            dataset.intact()?;
            for (feature, Cached { data, .. }) in &mut features {
                let rows = rows.remove(feature).unwrap_or_default();
                match data.is_empty() {
                    true => *data = rows,
                    false => data.extend(rows),
                }
            }
        }
        let mut rows = vec![None; dataset.len()];
        train.iter().zip(0..).for_each(|(&item, row)| rows[item as usize] = Some(row));
        Ok(FeatureCache { features, rows, images: train.len() })
    }

    fn look_up(&self, batch: &Batch) -> Result<FeatureMap<Matrix>> {
        let features = self.features.iter();
        features.map(|(feature, cached)| Ok((feature.clone(), self.rows(feature, cached, batch)?))).collect()
    }

    fn rows(&self, feature: &Feature, cached: &Cached, batch: &Batch) -> Result<Matrix> {
        let length = cached.length();
        let mut data = Vec::with_capacity(batch.len() * length);
        for (&item, &mirrored) in batch.items.iter().zip(&batch.mirrored) {
            let row = self.rows[item as usize].ok_or_else(|| {
                Error::new(Code::Internal, format!("item {item} is not among the teacher's features"))
            })?;
            let row = row as usize + if mirrored { self.images } else { 0 };
            data.extend_from_slice(&cached.data[row * length..][..length]);
        }
        let mut shape = cached.shape.clone();
        shape[0] = batch.len();
        Matrix::tensor(&format!("the teacher's {}", feature.name()), &data, &shape)
    }
}

impl Cached {
    /// Numbers of one image.
    fn length(&self) -> usize {
        self.shape.iter().skip(1).product()
    }
}

fn check_memory(bytes: usize) -> Result<()> {
    if bytes <= CACHE_LIMIT {
        return Ok(());
    }
    let gigabytes = |bytes: usize| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    Err(Error::new(Code::InvalidOption, "the teacher's features of all training images do not fit into memory")
        .with_subject("teacherFeatures")
        .with_values(format!("at most {}", gigabytes(CACHE_LIMIT)), gigabytes(bytes))
        .with_advice("use live features, or point the losses at smaller ones"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_is_too_large_is_refused() {
        check_memory(CACHE_LIMIT).unwrap();
        let message = check_memory(6 << 30).unwrap_err().to_string();
        assert!(message.contains("expected at most 4.0 GiB, received 6.0 GiB. Use live features"), "{message}");
    }
}
