//! A stored network of rkd as a teacher.

use std::path::Path;

use super::spec::{Teacher, shapes_of};
use crate::artefact::model::{Model, ModelCard};
use crate::data::InputSpec;
use crate::error::{Code, Error, Result};
use crate::nn::{Backend, Feature, FeatureMap, Inference};
use crate::train::evaluate::Images;

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

    fn input(&self) -> Option<InputSpec> {
        Some(self.card.input())
    }

    fn classes(&self) -> Option<&[String]> {
        self.card.classes.as_deref()
    }

    fn card(&self) -> Option<&ModelCard> {
        Some(&self.card)
    }

    fn hash(&self) -> &str {
        &self.hash
    }

    fn features(&self, images: &Images<'_, B::Tensor>, names: &[Feature]) -> Result<FeatureMap<B::Tensor>> {
        let mut all = self.network.forward(images.pixels)?;
        let feature = |name: &Feature| {
            all.remove_entry(name).ok_or_else(|| {
                Error::new(Code::Internal, format!("the teacher was not told that {} will be read", name.name()))
            })
        };
        names.iter().map(feature).collect()
    }
}
