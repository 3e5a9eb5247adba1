//! Whether plan, student and teacher fit together: what a session checks before it computes anything.

use super::objective::Objective;
use super::teacher::Teacher;
use crate::error::{Code, Error, Result};
use crate::plan::Plan;

/// Losses that compare need a teacher, and one that takes the student's images.
pub(super) fn check_teacher(objective: &Objective, plan: &Plan, teacher: Option<&Teacher>) -> Result<()> {
    if objective.needs_teacher() && teacher.is_none() {
        return Err(Error::new(Code::InvalidOption, "a loss compares with a teacher, and there is none")
            .with_subject("teacher")
            .with_values("the folder of a trained run", "none")
            .with_advice("use distill() with a teacher, or losses that need none"));
    }
    let Some(teacher) = teacher else { return Ok(()) };
    let (wants, has) = (teacher.network.spec(), &plan.backbone);
    if (wants.image_size, wants.in_channels) == (has.image_size, has.in_channels) {
        return Ok(());
    }
    Err(Error::new(Code::InvalidOption, "teacher and student see images of different sizes")
        .with_subject("imageSize, channels")
        .with_values(
            format!("the teacher's {0} x {0} of {1} channels", wants.image_size, wants.in_channels),
            format!("{0} x {0} of {1}", has.image_size, has.in_channels),
        )
        .with_advice("leave image size and channels out; they follow the teacher"))
}

/// Soft targets are probabilities of the same classes in the same order.
pub(super) fn check_classes(objective: &Objective, teacher: &Teacher, classes: &[String]) -> Result<()> {
    let Some(known) = teacher.classes.as_deref().filter(|_| objective.compares_logits()) else { return Ok(()) };
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
