//! What a run keeps of its data: which images there were, of which classes, in which part; and what another state of them
//! differs in.
//!
//! Two forms. The [`DataOutline`] goes into models and checkpoints: the fingerprint, how the split was made, and of each
//! class its parts and a sum over its images. Its size follows the number of classes (some 30 bytes each), and beyond
//! [`MOST_CLASSES`] it has none. The [`DataRecord`] names every image; it is `data.json` in a run's folder (some 60 bytes an
//! image, 3.5 MB for 60,000), where neither plan nor model grow by it. Without it a split by images cannot be kept over a
//! change of the data, and what has changed is said by class.
//!
//! Turned copies of an image are not recorded: the image itself stands for them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::dataset::Dataset;
use super::fingerprint::mark_of;
use super::part::Part;
use super::plan::{ELSEWHERE, SplitPlan};
use super::split::Split;

/// Most classes that an outline names: it then has a megabyte.
pub const MOST_CLASSES: usize = 32_768;

/// The form of `data.json`; another number counts as no record.
const FORM: u32 = 1;

/// Data by their classes. See the module's text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataOutline {
    /// See [`super::fingerprint`].
    pub fingerprint: String,
    /// How the split was made; the paths of lists are left out.
    pub split: SplitPlan,
    /// Its seed.
    pub split_seed: u64,
    /// Whether the parts are those of an earlier state of the data, so that `split` and `split_seed` do not give them.
    pub kept: bool,
    /// Of each class, by its name without a turn: the low bits of the sum of its images' marks, and its parts (`0` train, `1`
    /// validation, `2` test).
    classes: BTreeMap<String, (u32, String)>,
}

/// Data by their images: `data.json`. See the module's text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataRecord {
    form: u32,
    /// The same by classes.
    pub outline: DataOutline,
    /// Names inside the source.
    images: Vec<String>,
    /// Of each image, the place of its class among those of the outline.
    labels: Vec<u32>,
    /// Of each image, [`Dataset::content`].
    contents: Vec<u64>,
    /// A letter an image: `0` train, `1` validation, `2` test, `-` none.
    parts: String,
}

impl DataRecord {
    /// The record of `dataset` in the parts of `split`, which `plan` and `seed` made, or which was `kept`.
    pub fn new(dataset: &Dataset, split: &Split, (plan, seed): (&SplitPlan, u64), kept: bool) -> DataRecord {
        let mut parts = vec![None; dataset.len()];
        for part in [Part::Train, Part::Validation, Part::Test] {
            split.items(part).iter().for_each(|&item| parts[item as usize] = Some(part));
        }
        DataRecord::of(dataset, &parts, (plan, seed), kept)
    }

    /// As [`DataRecord::new`], of the part of every item.
    fn of(dataset: &Dataset, part_of: &[Option<Part>], (plan, seed): (&SplitPlan, u64), kept: bool) -> DataRecord {
        let mut classes: BTreeMap<String, (u32, String)> = BTreeMap::new();
        let mut record = DataRecord {
            form: FORM,
            outline: DataOutline {
                fingerprint: dataset.fingerprint().into(),
                split: without_paths(plan),
                split_seed: seed,
                kept,
                classes: BTreeMap::new(),
            },
            images: Vec::new(),
            labels: Vec::new(),
            contents: Vec::new(),
            parts: String::new(),
        };
        let items: Vec<u32> = dataset.unturned_items().collect();
        for &item in &items {
            let (name, content, part) = (dataset.bare_id(item), dataset.content(item), part_of[item as usize]);
            let (sum, parts) = classes.entry(dataset.unturned_class(item).into()).or_default();
            *sum = sum.wrapping_add(mark_of(&name, content) as u32);
            if let Some(letter) = part.map(letter_of).filter(|letter| !parts.contains(*letter)) {
                parts.push(letter);
            }
            record.images.push(name.into_owned());
            record.contents.push(content);
            record.parts.push(part.map_or('-', letter_of));
        }
        let places: HashMap<&str, u32> = classes.keys().map(|name| &name[..]).zip(0..).collect();
        record.labels = items.iter().map(|&item| places[dataset.unturned_class(item)]).collect();
        record.outline.classes = classes;
        record
    }

    /// Whether it is one that this version wrote, with all its parts.
    pub fn is_whole(&self) -> bool {
        let count = self.images.len();
        self.form == FORM
            && [self.labels.len(), self.contents.len(), self.parts.len()].iter().all(|&length| length == count)
            && self.labels.iter().all(|&label| (label as usize) < self.outline.classes.len())
    }

    /// Each image: name, class, content, part.
    fn images(&self) -> impl Iterator<Item = (&str, &str, u64, Option<Part>)> {
        let classes: Vec<&str> = self.outline.classes.keys().map(|name| &name[..]).collect();
        let parts = self.parts.chars().map(part_of);
        let each = self.images.iter().zip(&self.labels).zip(&self.contents).zip(parts);
        each.map(move |(((name, &label), &content), part)| (&name[..], classes[label as usize], content, part))
    }
}

impl DataOutline {
    /// As models and checkpoints hold it: without classes where there are more than [`MOST_CLASSES`].
    pub fn bounded(&self) -> DataOutline {
        let classes = if self.classes.len() > MOST_CLASSES { BTreeMap::new() } else { self.classes.clone() };
        DataOutline { classes, ..self.clone() }
    }

    /// The names of the classes of `part`, without turns.
    pub fn classes(&self, part: Part) -> impl Iterator<Item = &str> {
        let letter = letter_of(part);
        self.classes.iter().filter(move |(_, (_, parts))| parts.contains(letter)).map(|(name, _)| &name[..])
    }

    /// Whether `plan` and `seed` are those of the split.
    pub fn is_of(&self, plan: &SplitPlan, seed: u64) -> bool {
        self.split_seed == seed && self.split == without_paths(plan)
    }

    /// Whether every class is in one part at most.
    fn is_by_classes(&self) -> bool {
        !self.classes.is_empty() && self.classes.values().all(|(_, parts)| parts.len() <= 1)
    }
}

/// The data of an earlier job: their outline, and the record where it is at hand.
#[derive(Clone, Debug)]
pub struct KnownData {
    /// By classes.
    pub outline: DataOutline,
    /// By images.
    pub record: Option<DataRecord>,
}

impl KnownData {
    /// The part that each item of `dataset` was in: of a split by classes that of its class, of another one its own, and
    /// nothing for what is new. Nothing at all where that is not known.
    pub fn parts(&self, dataset: &Dataset) -> Option<Vec<Option<Part>>> {
        let items = 0..dataset.len() as u32;
        if self.outline.is_by_classes() {
            let part = |item| {
                let (_, parts) = self.outline.classes.get(dataset.unturned_class(item))?;
                parts.chars().next().and_then(part_of)
            };
            return Some(items.map(part).collect());
        }
        let record = self.record.as_ref()?;
        let parts: HashMap<&str, Option<Part>> = record.images().map(|(name, _, _, part)| (name, part)).collect();
        Some(items.map(|item| parts.get(&*dataset.bare_id(item)).copied().flatten()).collect())
    }

    /// What `dataset` differs in.
    pub fn difference(&self, dataset: &Dataset) -> Difference {
        let now = DataRecord::of(dataset, &vec![None; dataset.len()], (&self.outline.split, 0), true);
        let marks = |outline: &DataOutline| -> BTreeMap<String, u64> {
            outline.classes.iter().map(|(name, (sum, _))| (name.clone(), u64::from(*sum))).collect()
        };
        let (before, after) = (marks(&self.outline), marks(&now.outline));
        let mut shared = before.iter().any(|(name, sum)| after.get(name) == Some(sum));
        let classes = if before.is_empty() { Changes::default() } else { Changes::between(&before, &after) };
        let images = self.record.as_ref().map(|record| {
            let marks = |record: &DataRecord| -> BTreeMap<String, u64> {
                record.images().map(|(name, class, content, _)| (name.into(), mark_of(class, content))).collect()
            };
            let (before, after) = (marks(record), marks(&now));
            shared |= before.iter().any(|(name, mark)| after.get(name) == Some(mark));
            Changes::between(&before, &after)
        });
        Difference { classes, images, shared }
    }
}

/// What two states of data differ in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// By class; empty where the classes of before are not known.
    pub classes: Changes,
    /// By image, where those of before are known.
    pub images: Option<Changes>,
    /// Whether they have an image in common, or all images of a class: two states of one data set, not two data sets.
    pub shared: bool,
}

/// Names that came, went, and stayed with another content, each list ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that came.
    pub added: Vec<String>,
    /// Those that went.
    pub removed: Vec<String>,
    /// Those with another content.
    pub changed: Vec<String>,
}

impl Changes {
    fn between(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Changes {
        let missing = |of: &BTreeMap<String, u64>, from: &BTreeMap<String, u64>| {
            of.keys().filter(|name| !from.contains_key(*name)).cloned().collect()
        };
        let differs = |(name, mark): &(&String, &u64)| after.get(*name).is_some_and(|now| now != *mark);
        let changed = before.iter().filter(differs).map(|(name, _)| name.clone()).collect();
        Changes { added: missing(after, before), removed: missing(before, after), changed }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        let mut say = |names: &[String], [one, many]: [&str; 2], what: &str| {
            if !names.is_empty() {
                let some = names[..names.len().min(3)].join(", ");
                let more = names.len().saturating_sub(3);
                let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
                let noun = if names.len() == 1 { one } else { many };
                words.push(format!("{} {noun} {what} ({some}{rest})", names.len()));
            }
        };
        let (class, image) = (["class", "classes"], ["image", "images"]);
        say(&self.classes.added, class, "added");
        say(&self.classes.removed, class, "removed");
        match &self.images {
            Some(images) => {
                say(&images.added, image, "added");
                say(&images.removed, image, "removed");
                say(&images.changed, image, "changed");
            }
            None => say(&self.classes.changed, class, "changed"),
        }
        match &words[..] {
            [] => f.write_str("another fingerprint, and what they were is no longer known"),
            words => f.write_str(&words.join(", ")),
        }
    }
}

fn letter_of(part: Part) -> char {
    char::from(b'0' + part as u8)
}

fn part_of(letter: char) -> Option<Part> {
    [Part::Train, Part::Validation, Part::Test].into_iter().find(|part| letter_of(*part) == letter)
}

/// Where lists lie says nothing of the split, and would be written into models.
fn without_paths(plan: &SplitPlan) -> SplitPlan {
    match plan {
        SplitPlan::Lists { validation, test, .. } => SplitPlan::Lists {
            train: ELSEWHERE.into(),
            validation: validation.as_ref().map(|_| ELSEWHERE.into()),
            test: test.as_ref().map(|_| ELSEWHERE.into()),
        },
        other => other.clone(),
    }
}
