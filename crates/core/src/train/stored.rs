//! Measuring a stored model on one part of a data set.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::evaluate::{Embeddings, StoredNetwork, embed_part, measure, open_view, outputs};
use super::event::{Control, Event};
use super::host::Host;
use super::known::{self, Known, Whose, Wish};
use super::reference::{Reference, add_fidelity, unmeasured};
use super::report::{Evaluation, PrefixEvaluation};
use super::teacher::{self, TeacherPlan, embed_teacher, teacher_views};
use crate::artefact::model::ModelCard;
use crate::data::{DataPlan, Dataset, Part, Split};
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
    /// How they are split.
    pub split: SplitChoice,
    /// The seed of episodes, and of the pairs and triples that fidelity is measured on.
    pub seed: u64,
    /// Which part is measured.
    pub part: Part,
    /// The K of Recall@K.
    pub ks: Vec<usize>,
    /// Few-shot episodes of the part's classes that are measured too.
    #[serde(default)]
    pub few_shot: Vec<FewShotPlan>,
    /// Teachers whose relations are compared with the model's.
    #[serde(default)]
    pub teachers: Vec<TeacherPlan>,
    /// CPU threads; 0: all cores.
    pub threads: usize,
}

/// How the data of a stored model are split. Beside the plan's split.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SplitChoice {
    /// The seed of the class split.
    pub seed: u64,
    /// Whether the user asked for the plan's split, and for that seed: else those that the model was trained with come first,
    /// where it was trained on these data.
    pub given: (bool, bool),
    /// Whether the data are named as the run names its own: then they count as the same, changed or not.
    pub own: bool,
    /// Whether changed data are accepted.
    pub accept_changed_data: bool,
}

/// The split of `dataset` for the model of `card` in `file`, of which `measured` is looked at.
pub(super) fn split_for_model(
    (card, file): (&ModelCard, &Path),
    dataset: &Dataset,
    plan: &DataPlan,
    choice: &SplitChoice,
    measured: Part,
    control: &Control,
) -> Result<Split> {
    let split = (&plan.split, choice.seed);
    let wish =
        Wish { source: &plan.source, split, given: choice.given, measured, accepted: choice.accept_changed_data };
    let known = Known::of_model(Whose::Model, card, file, choice.own);
    known::settle(known.as_slice(), dataset, &wish, control).map(|(split, _)| split)
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
    let view = open_view(&plan.data, card.input(), 0, control)?;
    let of = (&card, plan.model.as_path());
    let mut split = split_for_model(of, &view.dataset, &plan.data, &plan.split, plan.part, control)?;
    for message in view.dataset.notices().into_iter().chain(split.warnings.iter().cloned()) {
        control.emit(Event::Warning { message });
    }
    let labelled = view.dataset.is_labelled();
    if !labelled {
        check_without_labels(plan)?;
    }
    let open = |plan| teacher::open(plan, &backend, &host, &[], control);
    let mut teachers = plan.teachers.iter().map(open).collect::<Result<Vec<_>>>()?;
    for (teacher, plan) in teachers.iter_mut().zip(&plan.teachers) {
        teacher.meet(&view.dataset, &plan.about(control))?;
        // As in training: what it says nothing of is not measured.
        split.keep(|item| teacher.knows(item));
    }
    let items = split.items(plan.part);
    let embeddings = embed_part(&backend, outputs(&network), &view, items, control)?;
    let labels: Vec<u32> = items.iter().map(|&item| view.dataset.label(item)).collect();
    let seen = teacher_views(&plan.data, teachers.iter().map(|teacher| teacher.input()), &view.dataset, control)?;
    let said = teachers.iter().zip(&plan.teachers).zip(&seen).map(|((teacher, of), seen)| {
        let (seen, control) = (seen.as_ref().unwrap_or(&view), &of.about(control));
        embed_teacher(&backend, &**teacher, seen, &plan.data.cache, items, control)
    });
    let said = said.collect::<Result<Vec<_>>>()?;
    let references = Reference::of(&plan.teachers, said.iter().map(|said| &said.values[..]));
    let score = |embeddings: &Embeddings, classes| {
        let mut evaluation = match labelled {
            true => measure(&host, &view.dataset, classes, items, embeddings, &plan.ks)?,
            false => unmeasured(embeddings),
        };
        for episodes in &plan.few_shot {
            let (n, d) = (items.len(), embeddings.size);
            let score = few_shot(host.team(), &embeddings.values, n, d, &labels, episodes, plan.seed)?;
            evaluation.metrics.insert(episodes.name(), score.accuracy);
            evaluation.intervals.insert(episodes.name(), score.interval);
        }
        add_fidelity(&mut evaluation, &host, &references, &embeddings.values, &plan.ks, plan.seed)?;
        Ok::<_, Error>(evaluation)
    };
    let mut evaluation = score(&embeddings, card.classes.as_deref())?;
    for &length in &card.prefixes {
        let found = score(&embeddings.prefix(length, card.backbone.normalize), None)?;
        let Evaluation { metrics, intervals, fidelity, .. } = found;
        evaluation.prefixes.push(PrefixEvaluation { embedding: length, metrics, intervals, fidelity });
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
    if !plan.teachers.is_empty() {
        return Ok(());
    }
    let advice = "name the teacher (--teacher), or give images with classes";
    refuse("teacher", "a teacher whose relations are the measure", "none", advice)
}
