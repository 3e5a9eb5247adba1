//! An ONNX model as a teacher: it gives its embedding, and nothing from inside.

use super::reader::LARGE;
use super::spec::Teacher;
use crate::data::InputSpec;
use crate::error::Result;
use crate::nn::{Backend, Feature, FeatureMap};
use crate::onnx::OnnxModel;
use crate::train::evaluate::{BATCH, Images};

/// An ONNX model as a teacher.
pub struct OnnxTeacher<B: Backend> {
    backend: B,
    model: OnnxModel,
    name: String,
    shapes: FeatureMap<Vec<usize>>,
}

impl<B: Backend> OnnxTeacher<B> {
    /// `model`, whose embeddings go to `backend`.
    pub fn new(model: OnnxModel, backend: B) -> Self {
        let shapes = FeatureMap::from([(Feature::Embedding, vec![1, model.length()])]);
        OnnxTeacher { backend, name: model.name(), model, shapes }
    }
}

impl<B: Backend> Teacher<B> for OnnxTeacher<B> {
    fn name(&self) -> &str {
        &self.name
    }

    fn parameter_count(&self) -> usize {
        self.model.parameters()
    }

    fn shapes(&self) -> &FeatureMap<Vec<usize>> {
        &self.shapes
    }

    fn input(&self) -> Option<InputSpec> {
        Some(self.model.input().clone())
    }

    fn bytes(&self) -> u64 {
        let InputSpec { image_size, channels, .. } = self.model.input();
        let batch = 4 * (BATCH * image_size * image_size * channels) as u64;
        8 * self.model.parameters() as u64 + 12 * if *image_size > LARGE { batch / 4 } else { batch }
    }

    fn hash(&self) -> &str {
        self.model.hash()
    }

    fn features(&self, images: &Images<'_, B::Tensor>, names: &[Feature]) -> Result<FeatureMap<B::Tensor>> {
        if !names.contains(&Feature::Embedding) {
            return Ok(FeatureMap::new());
        }
        let embeddings = self.model.embed(&self.backend.to_f32(images.pixels)?)?;
        Ok(FeatureMap::from([(Feature::Embedding, self.backend.from_f32(&embeddings.data, &embeddings.shape)?)]))
    }
}
