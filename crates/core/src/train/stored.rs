//! Measuring a stored model on one part of a data set.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::evaluate::{StoredNetwork, embed_part, measure, open_view, outputs};
use super::event::{Control, Event};
use super::host::Host;
use super::reference::{add_fidelity, embed_by, unmeasured};
use super::report::Evaluation;
use super::teacher::{NetworkTeacher, Teacher};
use crate::data::{DataPlan, InputSpec, Part, Split};
use crate::error::{Code, Error, Result};
use crate::metrics::{FewShotPlan, few_shot};

/// What `evaluate` measures.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvaluatePlan {
    /// A `model.safetensors`.
    pub model: PathBuf,
    /// The images; image size and channels are the model's.
    pub data: DataPlan,
    /// The seed of the split.
    pub seed: u64,
    /// Which part is measured.
    pub part: Part,
    /// The K of Recall@K.
    pub ks: Vec<usize>,
    /// Few-shot episodes of the part's classes that are measured too.
    #[serde(default)]
    pub few_shot: Vec<FewShotPlan>,
    /// The `model.safetensors` of a teacher whose relations are compared with the model's.
    #[serde(default)]
    pub teacher: Option<PathBuf>,
    /// CPU threads; 0: all cores.
    pub threads: usize,
}

/// Measures a stored model on one part of a data set: retrieval and few-shot accuracy where there are labels, and how well it
/// keeps the relations of a teacher.
///
/// # Errors
/// Those of model, teacher and data; `ERR_INVALID_OPTION` without labels and without a teacher; `ERR_CANCELLED`.
pub fn evaluate_model(plan: &EvaluatePlan, control: &Control) -> Result<Evaluation> {
    let host = Host::new(plan.threads);
    let backend = host.cpu();
    let StoredNetwork { network, card } = StoredNetwork::load(&plan.model, &backend)?;
    let view = open_view(&plan.data, card.input(), control)?;
    let split = Split::new(&view.dataset, &plan.data.split, plan.seed)?;
    for message in view.dataset.notices().into_iter().chain(split.warnings.iter().cloned()) {
        control.emit(Event::Warning { message });
    }
    let labelled = view.dataset.is_labelled();
    if !labelled {
        check_without_labels(plan)?;
    }
    let items = split.items(plan.part);
    let embeddings = embed_part(&backend, outputs(&network), &view, items, control)?;
    let mut evaluation = match labelled {
        true => measure(&host, &view.dataset, card.classes.as_deref(), items, &embeddings, &plan.ks)?,
        false => unmeasured(&embeddings),
    };
    let labels: Vec<u32> = items.iter().map(|&item| view.dataset.label(item)).collect();
    for episodes in &plan.few_shot {
        let (n, d) = (items.len(), embeddings.size);
        let score = few_shot(host.team(), &embeddings.values, n, d, &labels, episodes, plan.seed)?;
        evaluation.metrics.insert(episodes.name(), score.accuracy);
        evaluation.intervals.insert(episodes.name(), score.interval);
    }
    if let Some(path) = &plan.teacher {
        let teacher = NetworkTeacher::load(path, &backend, &[])?;
        let InputSpec { image_size, channels, .. } = teacher.input();
        let data = DataPlan { image_size, channels, ..plan.data.clone() };
        let view = open_view(&data, teacher.input(), control)?;
        let own = embed_by(&backend, &teacher, &view, items, control)?;
        add_fidelity(&mut evaluation, &host, &own.values, &embeddings.values, &plan.ks, plan.seed)?;
    }
    Ok(evaluation)
}

/// Without labels a teacher alone can say what is near, and there are no classes to draw episodes of.
fn check_without_labels(plan: &EvaluatePlan) -> Result<()> {
    let refuse = |subject: &str, expected: &str, received: &str, advice: &str| {
        Err(Error::new(Code::InvalidOption, "the images have no labels")
            .with_subject(subject)
            .with_values(expected, received)
            .with_advice(advice))
    };
    if !plan.few_shot.is_empty() {
        return refuse("fewShot", "images with classes", "episodes of images without labels", "leave it out");
    }
    match plan.teacher {
        Some(_) => Ok(()),
        None => {
            let advice = "name the teacher (--teacher), or give images with classes";
            refuse("teacher", "a teacher whose relations are the measure", "none", advice)
        }
    }
}
