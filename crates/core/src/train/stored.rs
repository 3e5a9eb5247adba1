//! Measuring a stored model on one part of a data set.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::evaluate::{Embeddings, StoredNetwork, embed_part, measure, open_view, outputs, share_of_images};
use super::event::{Control, Event};
use super::host::Host;
use super::known::{self, Known, Whose, Wish};
use super::reference::{Reference, add_fidelity, unmeasured};
use super::report::{Evaluation, PrefixEvaluation};
use super::teacher::{self, Teacher, TeacherPlan, embed_teacher, teacher_views};
use crate::artefact::model::ModelCard;
use crate::data::{DataPlan, Dataset, InputSpec, Part, Split, View};
use crate::error::{Code, Error, Result};
use crate::metrics::{FewShotPlan, few_shot};
use crate::nn::{Cpu, Inference};
use crate::ranks::Ranks;

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

/// One part of a data set, and what models are compared by there: its labels, and what teachers say of its images.
pub(super) struct Measuring<'a> {
    plan: &'a EvaluatePlan,
    host: Host,
    /// What everything here runs on.
    pub(super) backend: Cpu,
    /// The images as the model sees them.
    pub(super) view: View,
    /// All parts.
    pub(super) split: Split,
    teachers: Vec<Box<dyn Teacher<Cpu>>>,
    said: Vec<Embeddings>,
}

impl<'a> Measuring<'a> {
    /// Opens the data of `plan` and its teachers for the model of `card`, and tells what a user should know of them.
    pub(super) fn open(plan: &'a EvaluatePlan, host: &Host, card: &ModelCard, control: &Control) -> Result<Self> {
        Self::open_telling(plan, host, card, control, |message| control.emit(Event::Warning { message }))
    }

    /// The same; `tell` takes what a user should know.
    pub(super) fn open_telling(
        plan: &'a EvaluatePlan,
        host: &Host,
        card: &ModelCard,
        control: &Control,
        tell: impl Fn(String),
    ) -> Result<Self> {
        let backend = host.cpu();
        let view = open_data(plan, host, card, control)?;
        let of = (card, plan.model.as_path());
        let mut split = split_for_model(of, &view.dataset, &plan.data, &plan.split, plan.part, control)?;
        view.dataset.notices().into_iter().chain(split.warnings.iter().cloned()).for_each(tell);
        let teachers = open_teachers(plan, &backend, host, &view.dataset, control)?;
        // As in training: what one says nothing of is not measured.
        teachers.iter().for_each(|teacher| split.keep(|item| teacher.knows(item)));
        Ok(Measuring { plan, host: host.clone(), backend, view, split, teachers, said: Vec::new() })
    }

    /// The same images as another network of `input` sees them.
    pub(super) fn view_of(&self, input: InputSpec, control: &Control) -> Result<View> {
        let views = teacher_views(&self.plan.data, [Some(input)].into_iter(), &self.view.dataset, control)?;
        Ok(views.into_iter().flatten().next().unwrap_or_else(|| self.view.clone()))
    }

    /// The embeddings of the items by `network`, of which each rank makes a share; the other ranks [take part](take_part).
    fn embed(&self, network: &Inference<Cpu>, control: &Control) -> Result<Embeddings> {
        let (ranks, items) = (self.host.ranks(), self.items());
        agree(ranks, items)?;
        embed_part(&self.backend, outputs(network), &self.view, items, ranks, control)
    }

    /// Asks the teachers for their embeddings, and lets them go.
    pub(super) fn ask_teachers(&mut self, control: &Control) -> Result<()> {
        self.said = self.said_of(self.items(), control)?;
        self.teachers.clear();
        Ok(())
    }

    /// The embeddings of `items` by each teacher.
    pub(super) fn said_of(&self, items: &[u32], control: &Control) -> Result<Vec<Embeddings>> {
        ask(self.plan, &self.backend, &self.teachers, &self.view, items, self.host.ranks(), control)
    }

    /// Whether the images have labels.
    pub(super) fn is_labelled(&self) -> bool {
        self.view.dataset.is_labelled()
    }

    /// The images that are measured.
    pub(super) fn items(&self) -> &[u32] {
        self.split.items(self.plan.part)
    }

    /// What `embeddings` of the items are worth; `classes` are those of the classifier whose logits they have.
    pub(super) fn score(&self, embeddings: &Embeddings, classes: Option<&[String]>) -> Result<Evaluation> {
        let (plan, host, items) = (self.plan, &self.host, self.items());
        let mut evaluation = match self.is_labelled() {
            true => measure(host, &self.view.dataset, classes, items, embeddings, &plan.ks)?,
            false => unmeasured(embeddings),
        };
        if !plan.few_shot.is_empty() {
            let labels: Vec<u32> = items.iter().map(|&item| self.view.dataset.label(item)).collect();
            for episodes in &plan.few_shot {
                let (n, d) = (items.len(), embeddings.size);
                let score = few_shot(host.team(), &embeddings.values, n, d, &labels, episodes, plan.seed)?;
                evaluation.metrics.insert(episodes.name(), score.accuracy);
                evaluation.intervals.insert(episodes.name(), score.interval);
            }
        }
        let references = Reference::of(&plan.teachers, self.said.iter().map(|said| &said.values[..]));
        add_fidelity(&mut evaluation, host, &references, &embeddings.values, &plan.ks, plan.seed)?;
        Ok(evaluation)
    }
}

/// The images of `plan` as the model of `card` sees them: the same on all ranks.
fn open_data(plan: &EvaluatePlan, host: &Host, card: &ModelCard, control: &Control) -> Result<View> {
    let ranks = host.ranks();
    let view = ranks.in_turn(|| open_view(&plan.data, card.input(), 0, control))?;
    let advice = "leave the data as they are while a run is on them";
    ranks.check_same(&[("data", view.dataset.fingerprint().into(), advice)])?;
    Ok(view)
}

fn open_teachers(
    plan: &EvaluatePlan,
    backend: &Cpu,
    host: &Host,
    dataset: &Dataset,
    control: &Control,
) -> Result<Vec<Box<dyn Teacher<Cpu>>>> {
    let open = |plan: &TeacherPlan| {
        let mut teacher = teacher::open(plan, backend, host, &[], control)?;
        teacher.meet(dataset, &plan.about(control))?;
        Ok(teacher)
    };
    plan.teachers.iter().map(open).collect()
}

/// The embeddings of `items` by each teacher, of which each of `ranks` makes a share.
fn ask(
    plan: &EvaluatePlan,
    backend: &Cpu,
    teachers: &[Box<dyn Teacher<Cpu>>],
    view: &View,
    items: &[u32],
    ranks: &Ranks,
    control: &Control,
) -> Result<Vec<Embeddings>> {
    let inputs = teachers.iter().map(|teacher| teacher.input());
    let seen = ranks.in_turn(|| teacher_views(&plan.data, inputs, &view.dataset, control))?;
    let mine = &items[share_of_images(items.len(), ranks)];
    let said = teachers.iter().zip(&plan.teachers).zip(&seen).map(|((teacher, of), seen)| {
        let (seen, control) = (seen.as_ref().unwrap_or(view), &of.about(control));
        embed_teacher(backend, &**teacher, seen, &plan.data.cache, mine, control)?.gathered(ranks)
    });
    said.collect()
}

/// The items that rank 0 measures, which it finds out alone: the split is a matter of the run's folder.
fn agree(ranks: &Ranks, items: &[u32]) -> Result<Vec<u32>> {
    let bytes = ranks.broadcast(items.iter().flat_map(|item| item.to_le_bytes()).collect())?;
    Ok(bytes.as_chunks().0.iter().map(|four| u32::from_le_bytes(*four)).collect())
}

/// What the other ranks do where rank 0 does [`evaluate_on`]: their share of the embeddings. `plan` has the model, data and
/// teachers at their places here.
pub(super) fn take_part(host: &Host, plan: &EvaluatePlan, control: &Control) -> Result<()> {
    let (backend, ranks) = (host.cpu(), host.ranks());
    let StoredNetwork { network, card } = StoredNetwork::load(&plan.model, &backend)?;
    let view = open_data(plan, host, &card, control)?;
    let teachers = open_teachers(plan, &backend, host, &view.dataset, control)?;
    let items = agree(ranks, &[])?;
    embed_part(&backend, outputs(&network), &view, &items, ranks, control)?;
    ask(plan, &backend, &teachers, &view, &items, ranks, control).map(drop)
}

/// Measures a stored model on one part of a data set: retrieval and few-shot accuracy where there are labels, and how well it
/// keeps the relations of a teacher.
///
/// # Errors
/// Those of model, teacher and data; `ERR_INVALID_OPTION` without labels and without a teacher; `ERR_CANCELLED`.
pub fn evaluate_model(plan: &EvaluatePlan, control: &Control) -> Result<Evaluation> {
    evaluate_on(&Host::new(plan.threads), plan, control)
}

/// The same on the ranks of `host`, of which this is the first; the others [take part](take_part). The bits are those of one.
pub(super) fn evaluate_on(host: &Host, plan: &EvaluatePlan, control: &Control) -> Result<Evaluation> {
    let StoredNetwork { network, card } = StoredNetwork::load(&plan.model, &host.cpu())?;
    let mut measuring = Measuring::open(plan, host, &card, control)?;
    if !measuring.is_labelled() {
        check_without_labels(plan)?;
    }
    let embeddings = measuring.embed(&network, control)?;
    measuring.ask_teachers(control)?;
    let mut evaluation = measuring.score(&embeddings, card.classes.as_deref())?;
    for &length in &card.prefixes {
        let found = measuring.score(&embeddings.prefix(length, card.backbone.normalize), None)?;
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
