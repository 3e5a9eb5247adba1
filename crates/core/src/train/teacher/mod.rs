//! The teacher of a distillation: whatever gives features for images, which the losses compare with.
//!
//! [`Teacher`] is what one is: a [`network`] of rkd, an [`onnx`] model, or stored vectors. A [`TeacherReader`] reads one in
//! one of two ways. `live` sends every batch through the teacher, changed as the student sees it but in the teacher's own
//! size and normalisation. `cached` computes what the losses read once for every training image, and where training mirrors
//! images for the mirrored one too, and keeps it in memory: float32 numbers, [`CACHE_LIMIT`] at most. Other augmentation the
//! teacher then does not see. What was computed once stands in a [`store`] on disk, which later runs read.

mod network;
mod onnx;
mod reader;
mod store;
mod vectors;

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(super) use reader::embed_teacher;
pub use reader::{TeacherBatch, TeacherReader};

use self::network::NetworkTeacher;
use self::onnx::OnnxTeacher;
use self::vectors::VectorTeacher;
use super::evaluate::{Images, open_dataset};
use super::event::Control;
use super::host::Host;
use crate::artefact::model::ModelCard;
use crate::data::{DataPlan, Dataset, InputSpec, View};
use crate::error::{Code, Error, Result};
use crate::nn::{Backend, Feature, FeatureMap};
use crate::onnx::{OnnxModel, OnnxOptions};
use crate::vectors::VectorOptions;

/// The teacher of a distillation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TeacherPlan {
    /// A `model.safetensors` written by `train` or `distill`, an ONNX model, or a file of vectors.
    pub model: PathBuf,
    /// How it is read, where it is an ONNX model.
    #[serde(default)]
    pub onnx: Option<OnnxOptions>,
    /// How it is read, where it is a file of vectors.
    #[serde(default)]
    pub vectors: Option<VectorOptions>,
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
    /// What it is called: a network's architecture, or the name of a file.
    fn name(&self) -> &str;
    /// The number of its parameters; 0 where nobody knows.
    fn parameter_count(&self) -> usize;
    /// Its features, each with its shape for one image.
    fn shapes(&self) -> &FeatureMap<Vec<usize>>;
    /// The images it takes; `None` where it knows its images by their names and needs no pixels.
    fn input(&self) -> Option<InputSpec>;
    /// The names of the classes that its logits stand for, where it has a classifier.
    fn classes(&self) -> Option<&[String]> {
        None
    }
    /// What its file says of it, where it is a network of rkd.
    fn card(&self) -> Option<&ModelCard> {
        None
    }
    /// Bytes that it takes, where it is no network of rkd.
    fn bytes(&self) -> u64 {
        0
    }
    /// A hash of what it is: teachers of one hash give the same features for the same images.
    fn hash(&self) -> &str;
    /// Learns which images `dataset` has; called once, before features are asked for.
    ///
    /// # Errors
    /// Where it does not know them.
    fn meet(&mut self, _dataset: &Dataset, _control: &Control) -> Result<()> {
        Ok(())
    }
    /// Whether it has features for the image `item` of that data set.
    fn knows(&self, _item: u32) -> bool {
        true
    }
    /// The features `names` of `images`, each `[n, ...]`.
    fn features(&self, images: &Images<'_, B::Tensor>, names: &[Feature]) -> Result<FeatureMap<B::Tensor>>;
}

/// Opens the teacher of `plan`. Of the taps inside a network only those in `read` will be asked for.
///
/// # Errors
/// Those of reading and judging it.
pub(super) fn open<B: Backend>(
    plan: &TeacherPlan,
    backend: &B,
    host: &Host,
    read: &[Feature],
    control: &Control,
) -> Result<Box<dyn Teacher<B>>> {
    Ok(match (&plan.onnx, &plan.vectors) {
        (None, None) => Box::new(NetworkTeacher::load(&plan.model, backend, read)?),
        (_, Some(options)) => Box::new(VectorTeacher::load(&plan.model, options, backend.clone(), control)?),
        (Some(options), None) => {
            let model = OnnxModel::open(&plan.model, options, host.team().threads())?;
            Box::new(OnnxTeacher::new(model, backend.clone()))
        }
    })
}

/// The shapes of features.
pub(super) fn shapes_of<B: Backend>(features: &FeatureMap<B::Tensor>) -> FeatureMap<Vec<usize>> {
    features.iter().map(|(feature, tensor)| (feature.clone(), B::shape(tensor).to_vec())).collect()
}

/// The images as the teacher wants them: the student's, if they have its size and channels or it needs none; `student` is
/// how the student sees them.
pub(super) fn teacher_view(
    data: &DataPlan,
    input: Option<InputSpec>,
    student: &Arc<Dataset>,
    control: &Control,
) -> Result<Option<View>> {
    let Some(InputSpec { image_size, channels, normalization }) = input else { return Ok(None) };
    if (image_size, channels) == (student.image_size(), student.channels()) {
        return Ok(Some(View { dataset: Arc::clone(student), normalization }));
    }
    let data = DataPlan { image_size, channels, ..data.clone() };
    let view = View { dataset: Arc::new(open_dataset(&data, image_size, channels, control)?), normalization };
    if view.dataset.has_items_of(student) {
        return Ok(Some(view));
    }
    Err(Error::new(
        Code::InvalidData,
        "the data have changed between decoding them for the student and for the teacher",
    )
    .with_subject("data")
    .with_advice("start again once nobody writes to them"))
}
