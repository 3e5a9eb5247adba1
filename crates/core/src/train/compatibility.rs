//! Whether plan, student and teacher fit together: what a session checks before it computes anything.

use std::collections::BTreeMap;

use super::objective::Objective;
use super::plan::Plan;
use crate::data::{Dataset, EpisodePlan, Labels, Split};
use crate::error::{Code, Error, Result};
use crate::input;
use crate::losses::{Feature, LossSpec, TermSpec};

/// Losses that compare need a teacher.
pub(super) fn check_teacher(objective: &Objective, plan: &Plan) -> Result<()> {
    if objective.needs_teacher() && plan.teachers.is_empty() {
        return Err(Error::new(Code::InvalidOption, "a loss compares with a teacher, and there is none")
            .with_subject("teacher")
            .with_values("the folder of a trained run", "none")
            .with_advice("use distill() with a teacher, or losses that need none"));
    }
    Ok(())
}

/// Without labels only a teacher says what is alike, and only losses that read no class go.
pub fn check_labels(labels: Labels, losses: &[TermSpec], has_teacher: bool) -> Result<()> {
    if labels == Labels::Classes {
        return Ok(());
    }
    let folders = "put the images of each class into a folder of its own, or give a manifest with a column class";
    if !has_teacher {
        return Err(Error::new(Code::InvalidOption, "there is nothing to learn from: the images have no labels")
            .with_subject("data")
            .with_values("images of two classes or more, or a teacher", "images without labels, and no teacher")
            .with_advice(format!("distill from a teacher, which needs no labels; or {folders}")));
    }
    let Some(term) = losses.iter().find(|term| reads_labels(term)) else { return Ok(()) };
    let given = |kind: &&str| input::read::<TermSpec>("", &serde_json::json!({ "kind": kind })).ok();
    let others: Vec<&str> =
        LossSpec::KINDS.iter().copied().filter(|kind| given(kind).is_some_and(|term| !reads_labels(&term))).collect();
    Err(input::invalid(
        "losses",
        format!("losses that go without labels ({})", others.join(", ")),
        format!("{:?} for images without labels", term.loss.name()),
    )
    .with_advice(format!("leave it out; or {folders}")))
}

/// Whether a term reads classes, or the student's logits, which are scores of classes.
pub fn reads_labels(term: &TermSpec) -> bool {
    let loss = term.build();
    let student = term.student_feature.clone().unwrap_or_else(|| loss.reads());
    loss.needs_labels() || matches!(term.loss, LossSpec::Prototypical(_)) || student == Feature::Logits
}

/// Soft targets are probabilities of the same classes in the same order; `known` are those of the teacher at `place`.
pub(super) fn check_classes(
    objective: &Objective,
    place: usize,
    known: Option<&[String]>,
    classes: &[String],
) -> Result<()> {
    let Some(known) = known.filter(|_| objective.compares_logits(place)) else { return Ok(()) };
    let Some(place) = (0..known.len().max(classes.len())).find(|&place| known.get(place) != classes.get(place)) else {
        return Ok(());
    };
    let class = |names: &[String]| match names.get(place) {
        Some(name) => format!("{} classes, {name:?} in place {place}", names.len()),
        None => format!("{} classes", names.len()),
    };
    Err(Error::new(Code::InvalidOption, "teacher and student classify different classes")
        .with_subject("teacher")
        .with_values(class(classes), class(known))
        .with_advice("use the teacher's data, split and seed, or losses that do not read logits"))
}

/// The prototypical loss reads a batch as an episode, so the batch must be one of its shape.
pub(super) fn check_episode(plan: &Plan) -> Result<()> {
    for term in &plan.losses {
        let LossSpec::Prototypical(loss) = &term.loss else { continue };
        let fits = |episode: &EpisodePlan| (episode.way, episode.shots) == (loss.way, loss.support_count);
        if !plan.batch.episode.as_ref().is_some_and(fits) {
            let received = plan.batch.episode.as_ref().map_or("a batch that is no episode".into(), |episode| {
                format!("{} ways, {} shots", episode.way, episode.shots)
            });
            return Err(Error::new(Code::InvalidOption, "the prototypical loss needs an episode as its batch")
                .with_subject("batch.episode")
                .with_values(format!("{} ways, {} shots", loss.way, loss.support_count), received)
                .with_advice("give the loss and the batch the same number of ways and shots"));
        }
    }
    Ok(())
}

/// Losses that compare images of one class need classes of two images, and see of the others only that they differ.
/// What a user should know.
pub(super) fn check_class_pairs(plan: &Plan, dataset: &Dataset, split: &Split) -> Result<Option<String>> {
    let mut on = plan.losses.iter().filter(|term| !term.weight.is_off());
    let Some(term) = on.find(|term| term.build().needs_class_pairs()) else { return Ok(None) };
    let mut images: BTreeMap<u32, usize> = BTreeMap::new();
    split.train.iter().for_each(|&item| *images.entry(dataset.label(item)).or_default() += 1);
    let (classes, single) = (images.len(), images.values().filter(|&&images| images < 2).count());
    let name = term.loss.name();
    if single == classes {
        return Err(Error::new(
            Code::InvalidData,
            format!("every training class has one image, and {name} compares two of one class"),
        )
        .with_values("classes of at least 2 images", format!("{classes} training classes of 1"))
        .with_advice("add images, or name the classes by other folders: the folder of an image is its class"));
    }
    Ok((single > classes / 2).then(|| {
        format!("{single} of the {classes} training classes have one image: {name} learns nothing of what their images share.")
    }))
}

/// A piece of one image has no batch statistics.
pub(super) fn check_micro_batch(plan: &Plan) -> Result<()> {
    match plan.micro_batch {
        Some(size) if size < 2 => Err(Error::new(Code::InvalidOption, "the micro batch is out of range")
            .with_subject("microBatch")
            .with_values("at least 2 images", size.to_string())
            .with_advice("leave it out for batches in one piece")),
        _ => Ok(()),
    }
}
