//! An ONNX model as a teacher: it gives its embedding, and nothing from inside.

use super::{Images, Teacher};
use crate::data::InputSpec;
use crate::error::Result;
use crate::nn::{Backend, Feature, FeatureMap};
use crate::onnx::OnnxModel;

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
