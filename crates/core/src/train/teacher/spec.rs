//! What a teacher is, and how a plan names one.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::artefact::model::ModelCard;
use crate::data::{Dataset, InputSpec};
use crate::error::Result;
use crate::nn::{Backend, Feature, FeatureMap};
use crate::onnx::OnnxOptions;
use crate::train::evaluate::Images;
use crate::train::event::Control;
use crate::vectors::VectorOptions;

/// A teacher of a distillation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TeacherPlan {
    /// What it is called: by terms that compare with it alone, by reports and warnings.
    pub name: String,
    /// Its weight in averages over the teachers, greater than 0; they are divided by their sum.
    pub weight: f64,
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

impl TeacherPlan {
    /// `control`, whose warnings name the teacher.
    pub(in crate::train) fn about(&self, control: &Control) -> Control {
        control.about(&format!("Teacher {}", self.name))
    }
}

/// The names of teachers, each with its weight.
pub fn weights_of(teachers: &[TeacherPlan]) -> Vec<(&str, f64)> {
    teachers.iter().map(|teacher| (&teacher.name[..], teacher.weight)).collect()
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

/// The shapes of features.
pub(in crate::train) fn shapes_of<B: Backend>(features: &FeatureMap<B::Tensor>) -> FeatureMap<Vec<usize>> {
    features.iter().map(|(feature, tensor)| (feature.clone(), B::shape(tensor).to_vec())).collect()
}

/// The numbers that the features `names` have for one image.
pub(in crate::train) fn numbers_of(names: &[Feature], shapes: &FeatureMap<Vec<usize>>) -> usize {
    names.iter().filter_map(|name| shapes.get(name)).map(|shape| shape.iter().skip(1).product::<usize>()).sum()
}
