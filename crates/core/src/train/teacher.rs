//! The teacher of a distillation: a stored network whose features the losses compare with.
//!
//! `live` sends every batch through the teacher, as the student sees it. `cached` computes what the losses read once for
//! every training image, and where training mirrors images for the mirrored one too, and keeps it in memory: float32
//! numbers, [`CACHE_LIMIT`] at most. Other augmentation the teacher then does not see.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::evaluate::{BATCH, classes_of, for_each_batch, normalization_of};
use super::event::{Control, Event};
use super::objective::Shapes;
use super::pass::Gathered;
use crate::data::{Batch, Dataset, EvaluationBatches, Normalization};
use crate::error::{Code, Error, Result};
use crate::losses::{Feature, Matrix};
use crate::nn::{Backend, Cpu, Inference, Network};

/// The teacher of a distillation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TeacherPlan {
    /// A `model.safetensors` written by `train` or `distill`.
    pub model: PathBuf,
    /// Whether the teacher sees each augmented batch, or every training image once before the first step.
    pub features: TeacherFeatures,
}

/// When the teacher's features are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TeacherFeatures {
    /// In every step, on the same augmented images as the student.
    Live,
    /// Once per image, without augmentation, before the first step.
    Cached,
}

/// The largest cache, in bytes.
pub const CACHE_LIMIT: usize = 4 << 30;

type Tensor = <Cpu as Backend>::Tensor;

/// A network in evaluation mode, and its features where they are computed once.
#[derive(Debug)]
pub struct Teacher {
    /// The network.
    pub network: Inference<Cpu>,
    /// The way it wants its pixels; the student takes the same, so that both see one image.
    pub normalization: Normalization,
    /// The names of the classes that its logits stand for, where it has a classifier.
    pub classes: Option<Vec<String>>,
    mode: TeacherFeatures,
    /// What losses read.
    read: Vec<Feature>,
    cache: Vec<Cached>,
    /// The row of each image in the cache; those that are not trained on have none. The mirrored image's row comes
    /// `images` later.
    rows: Vec<Option<u32>>,
    images: usize,
}

/// One feature of all training images.
#[derive(Debug)]
struct Cached {
    feature: Feature,
    /// `[1, d]` or `[1, h, w, c]`.
    shape: Vec<usize>,
    /// Of the images as they are, then of the mirrored ones if training mirrors.
    data: Vec<f32>,
}

impl Teacher {
    /// Reads the teacher's model.
    pub fn load(plan: &TeacherPlan, backend: &Cpu) -> Result<Teacher> {
        let (network, about) = Network::load(backend.clone(), &plan.model)?;
        let normalization = normalization_of(&about, &plan.model)?;
        let classes = classes_of(&about);
        let (read, cache, rows) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Teacher {
            network: network.into_inference()?,
            normalization,
            classes,
            mode: plan.features,
            read,
            cache,
            rows,
            images: 0,
        })
    }

    /// Gets ready to give the features `read`, whose shapes are among `shapes`; if the plan wants them computed once,
    /// computes them for all images `train`, as they are and, if training `mirrors`, mirrored.
    ///
    /// # Errors
    /// `ERR_INVALID_OPTION` if they would need more memory than [`CACHE_LIMIT`].
    pub fn prepare(
        &mut self,
        read: Vec<Feature>,
        shapes: &Shapes,
        dataset: &Dataset,
        train: &[u32],
        mirrors: bool,
        control: &Control,
    ) -> Result<()> {
        self.network.keep_taps(&read);
        self.read = read;
        if self.mode == TeacherFeatures::Live || self.read.is_empty() {
            return Ok(());
        }
        let wanted = shapes.iter().filter(|(feature, _)| self.read.contains(feature));
        let mut cache: Vec<Cached> = wanted
            .map(|(feature, shape)| Cached { feature: feature.clone(), shape: shape.clone(), data: Vec::new() })
            .collect();
        let sides: &[bool] = if mirrors { &[false, true] } else { &[false] };
        let images = train.len() * sides.len();
        check_memory(cache.iter().map(|cached| cached.length() * images * size_of::<f32>()).sum())?;
        let backend = self.network.backend();
        for (side, &mirrored) in (0..).zip(sides) {
            let before = side * train.len() as u64;
            let progress = |done, _| Event::TeacherFeatures { done: before + done, total: images as u64 };
            let batches = EvaluationBatches::new(dataset, train, BATCH, &self.normalization).mirrored(mirrored);
            for_each_batch(&self.network, batches, progress, control, |features| {
                for cached in &mut cache {
                    if let Some(tensor) = features.get(&cached.feature) {
                        cached.data.extend(backend.to_f32(tensor)?);
                    }
                }
                Ok(())
            })?;
            dataset.intact()?;
        }
        self.cache = cache;
        self.images = train.len();
        self.rows = vec![None; dataset.len()];
        train.iter().zip(0..).for_each(|(&item, row)| self.rows[item as usize] = Some(row));
        Ok(())
    }

    /// What losses read of a batch: of the `pieces` of its images as they are, or of its items as they were.
    pub fn features(&self, batch: &Batch, pieces: &[Tensor]) -> Result<Vec<(Feature, Matrix)>> {
        match self.mode {
            _ if self.read.is_empty() => Ok(Vec::new()),
            TeacherFeatures::Live => {
                let mut gathered = Gathered::new(&self.read);
                for images in pieces {
                    gathered.add(self.network.backend(), &self.network.forward(images)?)?;
                }
                gathered.matrices("the teacher's")
            }
            TeacherFeatures::Cached => self.cache.iter().map(|cached| self.look_up(cached, batch)).collect(),
        }
    }

    fn look_up(&self, cached: &Cached, batch: &Batch) -> Result<(Feature, Matrix)> {
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
        let name = format!("the teacher's {}", cached.feature.name());
        Ok((cached.feature.clone(), Matrix::tensor(&name, &data, &shape)?))
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
