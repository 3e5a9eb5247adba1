//! Which images train, choose the checkpoint, and are only seen by the final evaluation.
//!
//! Retrieval is about classes never seen in training, so whole classes go to one part: by seed, by the source's own parts, or
//! by lists of class names. Classification is about new images of known classes: a source whose own parts share classes
//! (Fashion-MNIST, Tiny ImageNet, CIFAR-100) is kept as it is, with a warning, and any other can be split by images.
//!
//! The four turns of a character ([`super::rotation`]) always go to the same part.
//!
//! Without labels images are split as one class would be, with two at least where a share is not 0.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::dataset::Dataset;
use super::part::Part;
use super::plan::{DataPlan, Labels, SplitPlan};
use super::rotation::{TURNS, unturned};
use super::survey::Survey;
use crate::error::{Code, Error, Result};
use crate::names::{composed, text_of};
use crate::random::Random;

/// The items and classes of each part. Items and labels are ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Items of the train part.
    pub train: Vec<u32>,
    /// Items of the validation part; may be empty.
    pub validation: Vec<u32>,
    /// Items of the test part; may be empty.
    pub test: Vec<u32>,
    /// Labels that occur in the train part.
    pub train_classes: Vec<u32>,
    /// Labels that occur in the validation part.
    pub validation_classes: Vec<u32>,
    /// Labels that occur in the test part.
    pub test_classes: Vec<u32>,
    /// Things a user should know.
    pub warnings: Vec<String>,
}

impl Split {
    /// Leaves out the items that are not `wanted`.
    pub fn keep(&mut self, wanted: impl Fn(u32) -> bool) {
        for items in [&mut self.train, &mut self.validation, &mut self.test] {
            items.retain(|&item| wanted(item));
        }
    }

    /// Splits `dataset`. [`SplitPlan::Classes`] shuffles the classes by `seed` and gives `test` and `validation` their
    /// shares, rounded, but two classes at least where the share is not 0. [`SplitPlan::Source`] keeps the source's test
    /// part (its validation part where it has no test part) and takes the validation classes from training in the same
    /// way, unless the source brings a validation part beside the test part; where its parts share classes, it takes a
    /// share of each class's training images. [`SplitPlan::Images`] shuffles the images of each class by `seed`; rounded, and
    /// one at least trains. [`SplitPlan::Lists`] reads the lists.
    ///
    /// # Errors
    /// When shares are out of range, the source has no split of its own, too few classes or images are left to train on, a
    /// list cannot be read or does not fit the classes, or there are none.
    pub fn new(dataset: &Dataset, plan: &SplitPlan, seed: u64) -> Result<Split> {
        match plan {
            SplitPlan::Classes { .. } | SplitPlan::Lists { .. } if !dataset.is_labelled() => Err(without_classes()),
            SplitPlan::Classes { validation, test } => by_classes(dataset, *validation, *test, seed),
            SplitPlan::Source { validation } => by_source(dataset, *validation, seed),
            SplitPlan::Images { validation, test } => by_images(dataset, *validation, *test, seed),
            SplitPlan::Lists { train, validation, test } => {
                by_lists(dataset, [Some(train), validation.as_ref(), test.as_ref()].map(|path| path.map(|p| &**p)))
            }
        }
    }

    /// The items of `part`.
    pub fn items(&self, part: Part) -> &[u32] {
        match part {
            Part::Train => &self.train,
            Part::Validation => &self.validation,
            Part::Test => &self.test,
        }
    }

    /// The labels of `part`.
    pub fn classes(&self, part: Part) -> &[u32] {
        match part {
            Part::Train => &self.train_classes,
            Part::Validation => &self.validation_classes,
            Part::Test => &self.test_classes,
        }
    }

    /// The position of `label` among the training classes: its index for a classifier. `None` for a class not trained on.
    pub fn train_index(&self, label: u32) -> Option<u32> {
        self.train_classes.binary_search(&label).ok().map(|index| index as u32)
    }

    /// The split in which `part_of` says where each item is; nothing: in no part.
    ///
    /// # Errors
    /// When fewer than two classes are left to train on.
    pub fn assemble(dataset: &Dataset, part_of: impl Fn(u32) -> Option<Part>) -> Result<Split> {
        let mut items: [Vec<u32>; 3] = Default::default();
        for item in 0..dataset.len() as u32 {
            if let Some(part) = part_of(item) {
                items[part as usize].push(item);
            }
        }
        let labelled = dataset.is_labelled();
        let classes = [0, 1, 2].map(|part: usize| {
            let items = items[part].iter().filter(|_| labelled);
            let mut labels: Vec<u32> = items.map(|&item| dataset.label(item)).collect();
            labels.sort_unstable();
            labels.dedup();
            labels
        });
        let [train, validation, test] = items;
        let [train_classes, validation_classes, test_classes] = classes;
        if labelled && train_classes.len() < 2 {
            return Err(too_few_classes(dataset, train_classes.len()));
        }
        if train.len() < 2 {
            return Err(Error::new(Code::InvalidData, "there are too few images to train on")
                .with_values("at least 2 images in the train part", format!("{} of {}", train.len(), dataset.len()))
                .with_advice("add images, or give smaller shares to validation and test"));
        }
        let warnings = Vec::new();
        Ok(Split { train, validation, test, train_classes, validation_classes, test_classes, warnings })
    }
}

fn without_classes() -> Error {
    Error::new(Code::InvalidOption, "images without labels have no classes to split by")
        .with_subject("split")
        .with_values("a split by images, or the source's own parts", "a split by classes")
        .with_advice("split by images: { kind: \"images\", validation, test }, on the command line --split images")
}

fn too_few_classes(dataset: &Dataset, left: usize) -> Error {
    Error::new(Code::InvalidData, "there are too few classes to train on")
        .with_values("at least 2 classes in the train part", format!("{left} of the {} in all", dataset.classes()))
        .with_advice(
            "add images of other classes (one folder each), or hold out images of each class instead of whole classes, of which two \
             at least are held out: split: { kind: \"images\", validation, test }, on the command line --split images",
        )
}

/// The labels that belong together, the turns of one character, in the order of the labels.
fn groups(dataset: &Dataset, labels: impl Iterator<Item = u32>) -> Vec<Vec<u32>> {
    let mut groups: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for label in labels {
        groups.entry(dataset.unturned_name(label)).or_default().push(label);
    }
    groups.into_values().collect()
}

fn by_classes(dataset: &Dataset, validation: f64, test: f64, seed: u64) -> Result<Split> {
    check_shares(validation, test)?;
    let mut groups = groups(dataset, 0..dataset.classes() as u32);
    let count = groups.len();
    let (tests, validations) = (share_of(test, count), share_of(validation, count));
    if tests + validations + 2 > count {
        return Err(too_few_classes(dataset, count.saturating_sub(tests + validations)));
    }
    Random::keyed(seed, 0, 0, "split").shuffle(&mut groups);
    let mut parts = vec![Part::Train; dataset.classes()];
    groups[..tests].iter().flatten().for_each(|&label| parts[label as usize] = Part::Test);
    groups[tests..tests + validations].iter().flatten().for_each(|&label| parts[label as usize] = Part::Validation);
    Split::assemble(dataset, |item| Some(parts[dataset.label(item) as usize]))
}

fn by_source(dataset: &Dataset, validation: f64, seed: u64) -> Result<Split> {
    check_share("split.validation", validation)?;
    let has = |part| (0..dataset.len() as u32).any(|item| dataset.part(item) == Some(part));
    if !has(Part::Train) || !(has(Part::Test) || has(Part::Validation)) {
        return Err(Error::new(Code::InvalidOption, "this source has no split of its own")
            .with_subject("split")
            .with_values("folders train and test (or val), or a published data set with both parts", "not both of them")
            .with_advice("split by classes instead, split: { kind: \"classes\", validation: 0.1, test: 0.2 }"));
    }
    let own_validation = has(Part::Test) && has(Part::Validation);
    // Without labels all are of one class, 0, which the parts then share.
    let (train_labels, other_labels) = own_labels(dataset);
    let shared = other_labels.iter().any(|label| train_labels.binary_search(label).is_ok());
    let mut held_out = vec![false; dataset.len()];
    if !own_validation && shared {
        let train = (0..dataset.len() as u32).filter(|&item| dataset.part(item) == Some(Part::Train));
        for (part, item) in by_share(dataset, train, validation, 0.0, seed) {
            held_out[item as usize] = part == Part::Validation;
        }
    } else if !own_validation {
        let mut groups = groups(dataset, train_labels.iter().copied());
        Random::keyed(seed, 0, 0, "split").shuffle(&mut groups);
        let count = share_of(validation, groups.len());
        if count + 2 > groups.len() {
            return Err(too_few_classes(dataset, groups.len().saturating_sub(count)));
        }
        let labels: BTreeSet<u32> = groups[..count].iter().flatten().copied().collect();
        held_out = (0..dataset.len() as u32).map(|item| labels.contains(&dataset.label(item))).collect();
    }
    let mut split = Split::assemble(dataset, |item| {
        Some(match dataset.part(item) {
            Some(Part::Test) => Part::Test,
            Some(Part::Validation) if own_validation => Part::Validation,
            Some(Part::Validation) => Part::Test,
            _ if held_out[item as usize] => Part::Validation,
            _ => Part::Train,
        })
    })?;
    if shared && dataset.is_labelled() {
        split.warnings.push(
            "the source's own parts share classes, so its test images are of classes seen in training; split by classes to measure retrieval of new ones"
                .into(),
        );
    }
    if own_validation && validation > 0.0 {
        split.warnings.push("the source brings its own validation part, so the validation share is not used".into());
    }
    Ok(split)
}

fn by_images(dataset: &Dataset, validation: f64, test: f64, seed: u64) -> Result<Split> {
    check_shares(validation, test)?;
    let mut parts = vec![Part::Train; dataset.len()];
    for (part, item) in by_share(dataset, 0..dataset.len() as u32, validation, test, seed) {
        parts[item as usize] = part;
    }
    Split::assemble(dataset, |item| Some(parts[item as usize]))
}

/// Shares of the images of each class among `items`; the images of a class are shuffled by (seed, label).
fn by_share(
    dataset: &Dataset,
    items: impl Iterator<Item = u32>,
    validation: f64,
    test: f64,
    seed: u64,
) -> Vec<(Part, u32)> {
    let mut classes: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    items.for_each(|item| classes.entry(dataset.label(item)).or_default().push(item));
    let mut parts = Vec::new();
    for (label, mut items) in classes {
        Random::keyed(seed, 0, u64::from(label), "split images").shuffle(&mut items);
        let [tests, validations] = held_out(items.len(), dataset.is_labelled(), validation, test);
        let part = |i: usize| match i {
            i if i < tests => Part::Test,
            i if i < tests + validations => Part::Validation,
            _ => Part::Train,
        };
        parts.extend(items.iter().enumerate().map(|(i, &item)| (part(i), item)));
    }
    parts
}

/// `lists`: of train, validation and test.
fn by_lists(dataset: &Dataset, lists: [Option<&Path>; 3]) -> Result<Split> {
    let rotated = (0..dataset.classes() as u32).any(|label| dataset.unturned_name(label) != dataset.class_name(label));
    let in_data: BTreeSet<&str> = (0..dataset.classes() as u32)
        .flat_map(|label| [dataset.class_name(label), dataset.unturned_name(label)])
        .collect();
    let by_form: BTreeMap<Cow<str>, &str> = in_data.iter().map(|name| (composed(name), *name)).collect();
    let mut given: BTreeMap<String, Part> = BTreeMap::new();
    let mut warnings = Vec::new();
    for (part, path) in [Part::Train, Part::Validation, Part::Test].into_iter().zip(lists) {
        let Some(path) = path else { continue };
        let text = read_list(path)?;
        // The data may write accents in another form than the list.
        let in_form = |line: &'_ str| in_data.get(line).copied().or_else(|| by_form.get(&*composed(line)).copied());
        let names = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let names: BTreeSet<&str> = names.map(|line| in_form(line).unwrap_or(line)).collect();
        // Without turns, the four of a character are one class.
        let names: BTreeSet<&str> = names.into_iter().map(|name| if rotated { name } else { unturned(name) }).collect();
        let absent: Vec<&str> = names.difference(&in_data).copied().collect();
        if absent.len() == names.len() {
            return Err(Error::new(Code::InvalidData, "no class of the list is in the data")
                .with_subject(path.display().to_string())
                .with_values(format!("class names such as {:?}", dataset.class_name(0)), first_of(&names))
                .with_advice("write the classes as the data names them, one a line"));
        }
        if let Some(first) = absent.first() {
            let (path, count) = (path.display(), names.len());
            warnings.push(format!(
                "{} of the {count} classes in {path} are not in the data (the first is {first})",
                absent.len()
            ));
        }
        for name in names {
            if let Some(other) = given.insert(name.to_string(), part).filter(|other| *other != part) {
                return Err(Error::new(Code::InvalidData, format!("the class {name} is in the lists of two parts"))
                    .with_subject(path.display().to_string())
                    .with_values("each class in one list", format!("{name} in those of {other:?} and {part:?}"))
                    .with_advice("take it out of one of them"));
            }
        }
    }
    let part = |label: u32| given.get(dataset.class_name(label)).or_else(|| given.get(dataset.unturned_name(label)));
    let parts: Vec<Option<Part>> = (0..dataset.classes() as u32).map(|label| part(label).copied()).collect();
    let mut split = Split::assemble(dataset, |item| parts[dataset.label(item) as usize])?;
    split.warnings = warnings;
    Ok(split)
}

/// Most bytes of a list of classes.
const MAX_LIST_BYTES: u64 = 16 << 20;

fn read_list(path: &Path) -> Result<String> {
    let failed = |e| Error::io("reading the list of classes", path, e);
    let meta = std::fs::metadata(path).map_err(failed)?;
    if !meta.is_file() || meta.len() > MAX_LIST_BYTES {
        let received = if meta.is_file() { format!("{} bytes", meta.len()) } else { "no file".into() };
        return Err(Error::new(Code::InvalidData, "the list of classes is no small text file")
            .with_subject(path.display().to_string())
            .with_values(format!("a text file of at most {} MiB", MAX_LIST_BYTES >> 20), received)
            .with_advice("write the classes as the data names them, one a line"));
    }
    Ok(text_of(&std::fs::read(path).map_err(failed)?))
}

fn first_of(names: &BTreeSet<&str>) -> String {
    names.first().map_or("an empty list".into(), |name| format!("{name:?}"))
}

/// The sorted labels of the source's train part, and those of its other parts.
fn own_labels(dataset: &Dataset) -> (Vec<u32>, Vec<u32>) {
    let labels = |train: bool| {
        let items = (0..dataset.len() as u32).filter(|&item| (dataset.part(item) == Some(Part::Train)) == train);
        let set: BTreeSet<u32> = items.map(|item| dataset.label(item)).collect();
        set.into_iter().collect()
    };
    (labels(true), labels(false))
}

fn check_shares(validation: f64, test: f64) -> Result<()> {
    check_share("split.validation", validation)?;
    check_share("split.test", test)?;
    if validation + test < 1.0 {
        return Ok(());
    }
    Err(Error::new(Code::InvalidOption, "nothing would be left to train on")
        .with_subject("split")
        .with_values("validation + test below 1", (validation + test).to_string()))
}

fn check_share(option: &str, share: f64) -> Result<()> {
    if (0.0..1.0).contains(&share) {
        return Ok(());
    }
    Err(Error::new(Code::InvalidOption, "a share is out of range")
        .with_subject(option)
        .with_values("a number from 0 up to, but not including, 1", share.to_string()))
}

/// What a split leaves to train on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainingPart {
    /// Images; where classes are held out, and it is not known which, those of classes of equal size.
    pub images: usize,
    /// Classes; 0 without labels.
    pub classes: usize,
    /// The least images that each class has, the smallest first: which classes are held out is not known. Without labels all images are
    /// of one class.
    pub sizes: Vec<usize>,
}

impl TrainingPart {
    /// Images that a batch can have which takes at most so many of a class.
    pub fn most(&self, per_class: usize) -> usize {
        self.sizes.iter().map(|&size| size.min(per_class)).sum()
    }
}

/// What `plan`'s split leaves to train on, by what a look at the source `found`, without turns. All is exact but for lists, of which all
/// classes are counted.
pub(crate) fn training_part(plan: &DataPlan, found: &Survey) -> TrainingPart {
    let has = |part| found.parts.iter().any(|count| count.part == part);
    let labelled = plan.labels != Labels::None;
    let sizes = match plan.split {
        SplitPlan::Source { .. } if has(Part::Train) => &found.train_class_sizes,
        _ => &found.class_sizes,
    };
    let whole = |sizes: Vec<usize>| {
        let (images, classes) = (sizes.iter().sum(), if labelled { sizes.len() } else { 0 });
        TrainingPart { images, classes, sizes }
    };
    let by_classes = |shares: &[f64]| {
        let held_out = shares.iter().map(|&share| share_of(share, sizes.len())).sum();
        let left = sizes.len().saturating_sub(held_out);
        let images = sizes.iter().sum::<usize>() * left / sizes.len().max(1);
        TrainingPart { images, ..whole(sizes[..left].to_vec()) }
    };
    let by_images = |validation: f64, test: f64| {
        let left = |&size: &usize| size - held_out(size, labelled, validation, test).iter().sum::<usize>();
        let mut sizes: Vec<usize> = sizes.iter().map(left).collect();
        sizes.sort_unstable();
        whole(sizes)
    };
    let part = match plan.split {
        SplitPlan::Classes { validation, test } => by_classes(&[validation, test]),
        SplitPlan::Images { validation, test } => by_images(validation, test),
        SplitPlan::Source { .. } if !has(Part::Train) || (has(Part::Test) && has(Part::Validation)) => {
            whole(sizes.clone())
        }
        SplitPlan::Source { validation } if found.shared_classes || !labelled => by_images(validation, 0.0),
        SplitPlan::Source { validation } => by_classes(&[validation]),
        SplitPlan::Lists { .. } => whole(sizes.clone()),
    };
    let turns = if plan.rotations { TURNS.len() } else { 1 };
    let sizes = part.sizes.iter().flat_map(|&size| std::iter::repeat_n(size, turns)).collect();
    TrainingPart { images: part.images * turns, classes: part.classes * turns, sizes }
}

/// Images of a class of so many that go to test and to validation; without labels all images are one class.
fn held_out(size: usize, labelled: bool, validation: f64, test: f64) -> [usize; 2] {
    let count = |share: f64| match labelled {
        true => (share * size as f64).round() as usize,
        false => share_of(share, size),
    };
    let tests = count(test).min(size - 1);
    [tests, count(validation).min(size - 1 - tests)]
}

/// How many of `count` classes, or images without labels, a share is.
fn share_of(share: f64, count: usize) -> usize {
    if share == 0.0 { 0 } else { ((share * count as f64).round() as usize).max(2) }
}
