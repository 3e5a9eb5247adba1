//! Which classes train, choose the checkpoint, and are only seen by the final evaluation.
//!
//! Retrieval is about classes never seen in training, so whole classes go to one part. The exception is a source whose own
//! parts share classes (Fashion-MNIST, Tiny ImageNet): there the source's split is kept as it is, with a warning.

use serde::{Deserialize, Serialize};

use super::dataset::Dataset;
use crate::error::{Code, Error, Result};
use crate::plan::SplitPlan;
use crate::random::Random;

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Part {
    /// What gradients are computed on.
    Train,
    /// What chooses the checkpoint.
    Validation,
    /// What only the final evaluation sees.
    Test,
}

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
    /// Splits `dataset`. [`SplitPlan::Classes`] shuffles the classes by `seed` and gives `test` and `validation` their
    /// shares, rounded, but two classes at least where the share is not 0. [`SplitPlan::Source`] keeps the source's test
    /// part (its validation part where it has no test part) and takes the validation classes from training in the same
    /// way, unless the source brings a validation part beside the test part.
    ///
    /// # Errors
    /// When shares are out of range, the source has no split of its own, or too few classes are left to train on.
    pub fn new(dataset: &Dataset, plan: &SplitPlan, seed: u64) -> Result<Split> {
        match *plan {
            SplitPlan::Classes { validation, test } => by_classes(dataset, validation, test, seed),
            SplitPlan::Source { validation } => by_source(dataset, validation, seed),
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

    fn assemble(dataset: &Dataset, part_of: impl Fn(u32) -> Part) -> Result<Split> {
        let mut items: [Vec<u32>; 3] = Default::default();
        for item in 0..dataset.len() as u32 {
            items[part_of(item) as usize].push(item);
        }
        let classes = [0, 1, 2].map(|part: usize| {
            let mut labels: Vec<u32> = items[part].iter().map(|&item| dataset.label(item)).collect();
            labels.sort_unstable();
            labels.dedup();
            labels
        });
        let [train, validation, test] = items;
        let [train_classes, validation_classes, test_classes] = classes;
        if train_classes.len() < 2 {
            return Err(too_few_classes(dataset, train_classes.len()));
        }
        let warnings = Vec::new();
        Ok(Split { train, validation, test, train_classes, validation_classes, test_classes, warnings })
    }
}

fn too_few_classes(dataset: &Dataset, left: usize) -> Error {
    Error::new(Code::InvalidData, "there are too few classes to train on")
        .with_values("at least 2 classes in the train part", format!("{left} of the {} in all", dataset.classes()))
        .with_advice("add images of other classes (one folder each), or give smaller shares to validation and test")
}

fn by_classes(dataset: &Dataset, validation: f64, test: f64, seed: u64) -> Result<Split> {
    check_share("split.validation", validation)?;
    check_share("split.test", test)?;
    if validation + test >= 1.0 {
        return Err(Error::new(Code::InvalidOption, "nothing would be left to train on")
            .with_subject("split")
            .with_values("validation + test below 1", (validation + test).to_string()));
    }
    let count = dataset.classes();
    let (tests, validations) = (share_of(test, count), share_of(validation, count));
    if tests + validations + 2 > count {
        return Err(too_few_classes(dataset, count.saturating_sub(tests + validations)));
    }
    let mut order: Vec<usize> = (0..count).collect();
    Random::keyed(seed, 0, 0, "split").shuffle(&mut order);
    let mut parts = vec![Part::Train; count];
    order[..tests].iter().for_each(|&label| parts[label] = Part::Test);
    order[tests..tests + validations].iter().for_each(|&label| parts[label] = Part::Validation);
    Split::assemble(dataset, |item| parts[dataset.label(item) as usize])
}

fn by_source(dataset: &Dataset, validation: f64, seed: u64) -> Result<Split> {
    check_share("split.validation", validation)?;
    let has = |part| (0..dataset.len() as u32).any(|item| dataset.part(item) == Some(part));
    if !has(Part::Train) || !(has(Part::Test) || has(Part::Validation)) {
        return Err(Error::new(Code::InvalidOption, "this source has no split of its own")
            .with_subject("split")
            .with_values(
                "folders train and test (or val), Omniglot's two sets, or IDX train and t10k",
                "not both of them",
            )
            .with_advice("split by classes instead: { kind: \"classes\", validation, test }"));
    }
    let own_validation = has(Part::Test) && has(Part::Validation);
    let (train_labels, other_labels) = own_labels(dataset);
    let mut held_out = vec![false; dataset.classes()];
    if !own_validation {
        let mut order = train_labels.clone();
        Random::keyed(seed, 0, 0, "split").shuffle(&mut order);
        let count = share_of(validation, order.len());
        if count + 2 > order.len() {
            return Err(too_few_classes(dataset, order.len().saturating_sub(count)));
        }
        order[..count].iter().for_each(|&label| held_out[label as usize] = true);
    }
    let mut split = Split::assemble(dataset, |item| match dataset.part(item) {
        Some(Part::Test) => Part::Test,
        Some(Part::Validation) if own_validation => Part::Validation,
        Some(Part::Validation) => Part::Test,
        _ if held_out[dataset.label(item) as usize] => Part::Validation,
        _ => Part::Train,
    })?;
    if other_labels.iter().any(|label| train_labels.binary_search(label).is_ok()) {
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

/// The sorted labels of the source's train part, and those of its other parts.
fn own_labels(dataset: &Dataset) -> (Vec<u32>, Vec<u32>) {
    let labels = |train: bool| {
        let items = (0..dataset.len() as u32).filter(|&item| (dataset.part(item) == Some(Part::Train)) == train);
        let set: std::collections::BTreeSet<u32> = items.map(|item| dataset.label(item)).collect();
        set.into_iter().collect()
    };
    (labels(true), labels(false))
}

fn check_share(option: &str, share: f64) -> Result<()> {
    if (0.0..1.0).contains(&share) {
        return Ok(());
    }
    Err(Error::new(Code::InvalidOption, "a share of the classes is out of range")
        .with_subject(option)
        .with_values("a number from 0 up to, but not including, 1", share.to_string()))
}

fn share_of(share: f64, count: usize) -> usize {
    if share == 0.0 { 0 } else { ((share * count as f64).round() as usize).max(2) }
}
