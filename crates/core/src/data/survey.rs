//! What a source is and what is missing in it, without decoding an image: `rkd doctor data`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::contents::Contents;
use super::part::{BrokenImage, Part};
use super::plan::{DataPlan, Labels};
use super::source::{Source, VECTORS};
use super::stop::Stop;
use crate::error::Result;

/// What a look at a source's names and lists found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Survey {
    /// As [`super::DatasetSummary::kind`].
    pub kind: String,
    /// The published data set that was recognised.
    pub name: Option<String>,
    /// One sentence for people: what was recognised and how much is in it.
    pub sentence: String,
    /// Whether the classes are labels: as the options say, else whether there are two of them.
    pub labels: Labels,
    /// Number of images.
    pub images: usize,
    /// Number of classes; 0 without labels.
    pub classes: usize,
    /// Images and classes of the source's own parts; empty where it has none.
    pub parts: Vec<PartCount>,
    /// Whether a class occurs in more than one part.
    pub shared_classes: bool,
    /// Images of each class, the smallest first. Without labels all are of one class.
    #[serde(skip)]
    #[cfg_attr(test, ts(skip))]
    pub(crate) class_sizes: Vec<usize>,
    /// The same of the source's own train part.
    #[serde(skip)]
    #[cfg_attr(test, ts(skip))]
    pub(crate) train_class_sizes: Vec<usize>,
    /// Files and folders that cannot be read.
    pub broken: Vec<BrokenImage>,
    /// What is missing, and other things a user should know.
    pub warnings: Vec<String>,
}

/// Size of one of the source's own parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct PartCount {
    /// The part.
    pub part: Part,
    /// Number of images.
    pub images: usize,
    /// Number of classes.
    pub classes: usize,
}

/// Looks at `plan.source` as [`super::Dataset::open`] would, and lists it.
///
/// # Errors
/// When the source cannot be read or recognised, or has no images; when stopped.
pub fn survey(plan: &DataPlan, stop: Stop<'_>) -> Result<Survey> {
    survey_of(&Source::detect(plan, stop)?, Some(plan.labels), plan.rotations, stop)
}

/// What it means that there are no labels.
const WITHOUT_LABELS: &str = "there are no labels: the split is by images, and a student keeps a teacher's relations and is \
                              measured by them; to train a network without a teacher, or to measure the retrieval of classes, \
                              put the images of each class into a folder of its own, or give a manifest with a column class";

/// Lists what was found. `labels` where they are not to be found out; with `rotations` every image comes in four turns.
pub(crate) fn survey_of(source: &Source, labels: Option<Labels>, rotations: bool, stop: Stop<'_>) -> Result<Survey> {
    let Contents { name, labels, samples, mut diagnostics, .. } = Contents::read(source, labels, rotations, stop)?;
    diagnostics.warnings.extend((labels == Labels::None).then(|| WITHOUT_LABELS.into()));
    let images = || samples.iter().map(|sample| (&sample.class[..], sample.part));
    let classes = images().map(|(class, _)| class).filter(|class| !class.is_empty()).collect::<BTreeSet<_>>().len();
    let parts = count_parts(images());
    let in_parts: usize = parts.iter().map(|part| part.classes).sum();
    let distinct = images().filter(|(_, part)| part.is_some()).map(|(class, _)| class).collect::<BTreeSet<_>>().len();
    Ok(Survey {
        class_sizes: class_sizes(images()),
        train_class_sizes: class_sizes(images().filter(|(_, part)| *part == Some(Part::Train))),
        kind: source.kind.into(),
        name: name.map(str::to_string),
        sentence: sentence(source.kind, name, &source.reason, samples.len(), classes, parts.len() > 1),
        labels,
        images: samples.len(),
        classes,
        shared_classes: labels == Labels::Classes && in_parts > distinct,
        parts,
        broken: diagnostics.broken,
        warnings: diagnostics.warnings,
    })
}

/// Images of each class that occurs, the smallest first.
fn class_sizes<'a>(images: impl Iterator<Item = (&'a str, Option<Part>)>) -> Vec<usize> {
    let mut by_class: BTreeMap<&str, usize> = BTreeMap::new();
    images.for_each(|(class, _)| *by_class.entry(class).or_default() += 1);
    let mut sizes: Vec<usize> = by_class.into_values().collect();
    sizes.sort_unstable();
    sizes
}

/// Images and classes of every part that occurs.
pub(super) fn count_parts<'a>(images: impl Iterator<Item = (&'a str, Option<Part>)>) -> Vec<PartCount> {
    let mut parts: BTreeMap<Part, (usize, BTreeSet<&str>)> = BTreeMap::new();
    for (class, part) in images {
        if let Some(part) = part {
            let (count, classes) = parts.entry(part).or_default();
            *count += 1;
            classes.extend(Some(class).filter(|class| !class.is_empty()));
        }
    }
    parts.into_iter().map(|(part, (images, classes))| PartCount { part, images, classes: classes.len() }).collect()
}

/// What was recognised and how much is in it.
pub(super) fn sentence(
    kind: &str,
    name: Option<&str>,
    reason: &str,
    images: usize,
    classes: usize,
    own_split: bool,
) -> String {
    let what = name.map_or(reason.to_string(), |name| format!("{name} ({reason})"));
    let count = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    let images = match kind {
        VECTORS => count(images, "vector", "vectors"),
        _ => count(images, "image", "images"),
    };
    let classes =
        if classes == 0 { "without labels".into() } else { format!("of {}", count(classes, "class", "classes")) };
    let split = if own_split { ", with a train / test split of its own" } else { "" };
    let ink = if kind == "omniglot" { "; black ink on white is turned into bright ink on black" } else { "" };
    format!("Recognised {what}: {images} {classes}{split}{ink}.")
}
