//! The teacher of a distillation: a stored network whose features the losses compare with.

use super::evaluate::embed_items;
use super::event::{Control, Event};
use crate::data::{Dataset, Normalization};
use crate::error::Result;
use crate::nn::{Backend, Cpu, Network};
use crate::plan::{TeacherFeatures, TeacherPlan};

/// A network in evaluation mode, and its features where they are computed once.
#[derive(Debug)]
pub struct Teacher {
    /// The network.
    pub network: Network<Cpu>,
    /// The way it wants its pixels; the student takes the same, so that both see one image.
    pub normalization: Normalization,
    features: TeacherFeatures,
    /// Row `i` is the embedding of item `i` of the data set; rows of images that are not trained on stay zero.
    cached: Vec<f32>,
}

impl Teacher {
    /// Reads the teacher's model.
    pub fn load(plan: &TeacherPlan, backend: &Cpu) -> Result<Teacher> {
        let (network, normalization) = super::evaluate::load_model(&plan.model, backend)?;
        Ok(Teacher { network, normalization, features: plan.features, cached: Vec::new() })
    }

    /// Computes the embeddings of all training images, if the plan wants them computed once.
    pub fn prepare(&mut self, dataset: &Dataset, train: &[u32], control: &Control) -> Result<()> {
        if self.features == TeacherFeatures::Live {
            return Ok(());
        }
        let progress = |done, total| Event::TeacherFeatures { done, total };
        let rows = embed_items(&self.network, dataset, &self.normalization, train, progress, control)?.values;
        let d = self.network.embedding_size();
        self.cached = vec![0.0; dataset.len() * d];
        for (row, &item) in rows.chunks_exact(d).zip(train) {
            self.cached[item as usize * d..][..d].copy_from_slice(row);
        }
        Ok(())
    }

    /// The embeddings `[n, d]` of a batch: of its `images` as they are, or of its `items` as they were.
    pub fn embeddings(&self, items: &[u32], images: &<Cpu as Backend>::Tensor) -> Result<Vec<f32>> {
        match self.features {
            TeacherFeatures::Live => self.network.backend().to_f32(&self.network.forward_eval(images)?.embedding),
            TeacherFeatures::Cached => {
                let d = self.network.embedding_size();
                Ok(items.iter().flat_map(|&item| &self.cached[item as usize * d..][..d]).copied().collect())
            }
        }
    }
}
