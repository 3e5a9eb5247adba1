//! What a student is measured by where labels say nothing: its teacher's embeddings of the same images.

use std::collections::BTreeMap;

use super::evaluate::Embeddings;
use super::host::Host;
use super::report::Evaluation;
use crate::error::Result;
use crate::metrics::{FidelityOptions, relation_fidelity};

/// An evaluation of `embeddings` without labels, before anything is compared.
pub(super) fn unmeasured(embeddings: &Embeddings) -> Evaluation {
    Evaluation {
        metrics: BTreeMap::new(),
        images: embeddings.images,
        classes: 0,
        milliseconds_per_image: embeddings.milliseconds_per_image(),
        intervals: BTreeMap::new(),
        fidelity: None,
        prefixes: Vec::new(),
    }
}

/// Adds how well a student's embeddings keep the relations of its teacher's. Where labels give no metrics, these are the
/// metrics.
pub(super) fn add_fidelity(
    evaluation: &mut Evaluation,
    host: &Host,
    teacher: &[f32],
    student: &[f32],
    ks: &[usize],
    seed: u64,
) -> Result<()> {
    let options = FidelityOptions { ks: ks.to_vec(), seed, ..FidelityOptions::default() };
    let fidelity = relation_fidelity(host.team(), teacher, student, evaluation.images, &options)?;
    if evaluation.classes == 0 {
        evaluation.metrics = fidelity.metrics();
    }
    evaluation.fidelity = Some(fidelity);
    Ok(())
}
