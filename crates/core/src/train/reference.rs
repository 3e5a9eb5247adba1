//! What a student is measured by where labels say nothing: its teachers' embeddings of the same images.

use std::collections::BTreeMap;

use super::evaluate::Embeddings;
use super::host::Host;
use super::report::{Evaluation, TeacherFidelity};
use super::teacher::TeacherPlan;
use crate::error::Result;
use crate::metrics::{FidelityOptions, relation_fidelity};

/// A teacher and its embeddings of the images that are measured.
pub(super) struct Reference<'a> {
    name: &'a str,
    weight: f64,
    /// `[images, d]`, row-major.
    embeddings: &'a [f32],
}

impl<'a> Reference<'a> {
    /// Those of `teachers`, whose `embeddings` come in their order.
    pub(super) fn of(teachers: &'a [TeacherPlan], embeddings: impl Iterator<Item = &'a [f32]>) -> Vec<Reference<'a>> {
        let reference = |(teacher, embeddings): (&'a TeacherPlan, _)| Reference {
            name: &teacher.name,
            weight: teacher.weight,
            embeddings,
        };
        teachers.iter().zip(embeddings).map(reference).collect()
    }
}

/// An evaluation of `embeddings` without labels, before anything is compared.
pub(super) fn unmeasured(embeddings: &Embeddings) -> Evaluation {
    Evaluation {
        metrics: BTreeMap::new(),
        images: embeddings.images,
        classes: 0,
        milliseconds_per_image: embeddings.milliseconds_per_image(),
        intervals: BTreeMap::new(),
        fidelity: Vec::new(),
        prefixes: Vec::new(),
    }
}

/// Adds how well a student's embeddings keep the relations of each teacher's. Where labels give no metrics, the averages of
/// these over the teachers, by their weights, are the metrics.
pub(super) fn add_fidelity(
    evaluation: &mut Evaluation,
    host: &Host,
    teachers: &[Reference<'_>],
    student: &[f32],
    ks: &[usize],
    seed: u64,
) -> Result<()> {
    let options = FidelityOptions { ks: ks.to_vec(), seed, ..FidelityOptions::default() };
    let weights: f64 = teachers.iter().map(|teacher| teacher.weight).sum();
    for &Reference { name, weight, embeddings } in teachers {
        let fidelity = relation_fidelity(host.team(), embeddings, student, evaluation.images, &options)?;
        if evaluation.classes == 0 {
            for (metric, value) in fidelity.metrics() {
                *evaluation.metrics.entry(metric).or_default() += weight / weights * value;
            }
        }
        evaluation.fidelity.push(TeacherFidelity { teacher: name.into(), weight, fidelity });
    }
    Ok(())
}
