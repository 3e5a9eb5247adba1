//! The one place that asks whether data are still those of an earlier job, and decides what follows.
//!
//! `resume` asks for its run, `distill` for its teacher, `evaluate` and `neighbours` for their model. With the same
//! fingerprint the split is made as before. Other data that share an image with those of before are taken for them,
//! changed: an error that says what came, went and changed, or, where the user accepts it, a warning and the *stored*
//! parts. Then a class that was trained on stays trained on, and no class or, in a split by images, image that is new gets
//! into any part: whether a network has seen it is not known. Data that share nothing are another data set, of which
//! nothing is known. Of several teachers the first that was trained on these data decides; of another one that was trained
//! on what is now measured a warning says so.

use std::fs;
use std::path::Path;

use super::event::{Control, Event};
use crate::artefact::file::write_atomically;
use crate::artefact::model::ModelCard;
use crate::data::{DataOutline, DataRecord, Dataset, KnownData, Part, Split, SplitPlan};
use crate::error::{Code, Error, Result};

/// The name of a [`DataRecord`] beside a model.
const RECORD: &str = "data.json";

/// Whose data they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Of the run that goes on.
    Run,
    /// Of a distillation's teacher of that name.
    Teacher(String),
    /// Of the model that is measured.
    Model,
}

/// The data of an earlier job, as a job that goes with it knows them.
pub(super) struct Known {
    pub whose: Whose,
    pub data: KnownData,
    /// Whether the user says that they are the same data: then they count as changed, whatever they share.
    pub is_same: bool,
}

/// How a job wants its data split.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    /// What the data are called, for errors.
    pub source: &'a str,
    /// The split and its seed.
    pub split: (&'a SplitPlan, u64),
    /// Whether the user asked for that split, and for that seed; else those of before come first.
    pub given: (bool, bool),
    /// The part whose score would be too good if its images had been trained on.
    pub measured: Part,
    /// Whether changed data are accepted.
    pub accepted: bool,
}

/// A split, and whether it was kept over a change of the data.
pub(super) type Settled = (Split, bool);

impl Known {
    /// The data of the run whose record is at `record`, or, where that is missing or damaged, those of its checkpoint.
    pub(super) fn of_run(record: &Path, checkpoint: Option<DataOutline>) -> Option<Known> {
        let record = read(record);
        let outline = record.as_ref().map(|record| record.outline.clone()).or(checkpoint)?;
        Some(Known { whose: Whose::Run, data: KnownData { outline, record }, is_same: true })
    }

    /// The data of the model in `file`, with their record where it stands beside it.
    pub(super) fn of_model(whose: Whose, card: &ModelCard, file: &Path, is_same: bool) -> Option<Known> {
        let outline = card.origin.data.clone()?;
        let record = read(&file.with_file_name(RECORD));
        let record = record.filter(|record| record.outline.fingerprint == outline.fingerprint);
        Some(Known { whose, data: KnownData { outline, record }, is_same })
    }

    /// Whether `dataset` is what these data are now.
    fn is_of(&self, dataset: &Dataset) -> bool {
        let same = self.is_same || dataset.fingerprint() == self.data.outline.fingerprint;
        same || self.data.difference(dataset).shared
    }

    /// The split of `dataset`, which these data are now. See the module's text.
    ///
    /// # Errors
    /// `ERR_INVALID_DATA` for data that have changed and are not accepted, or whose parts are not known any more; those of
    /// [`Split::new`].
    fn split(&self, dataset: &Dataset, wish: &Wish<'_>, control: &Control) -> Result<Settled> {
        let before = &self.data.outline;
        if dataset.fingerprint() == before.fingerprint {
            return self.split_of_same(dataset, wish, control);
        }
        let difference = self.data.difference(dataset);
        let message = format!("the data are not those that {}: {difference}", self.whose.did());
        if !wish.accepted {
            return Err(Error::new(Code::InvalidData, message)
                .with_subject(wish.source)
                .with_values(format!("the fingerprint {}", before.fingerprint), dataset.fingerprint())
                .with_advice(
                    "put them back as they were, or go on with the stored split (acceptChangedData, --accept-changed-data): \
                     what was trained on stays trained on, and what is new goes into no part",
                ));
        }
        let split = self.stored_parts(dataset, wish)?;
        let left_out =
            dataset.len() - [&split.train, &split.validation, &split.test].map(Vec::len).iter().sum::<usize>();
        control.emit(Event::Warning {
            message: format!(
                "T{}. The stored split goes on; {left_out} images of the data are in no part of it.",
                &message[1..]
            ),
        });
        Ok((split, true))
    }

    /// The split of the very data of before.
    fn split_of_same(&self, dataset: &Dataset, wish: &Wish<'_>, control: &Control) -> Result<Settled> {
        let before = &self.data.outline;
        let (split, seed) = wish.split;
        let seed = if wish.given.1 { seed } else { before.split_seed };
        let split = if wish.given.0 || before.is_of(split, seed) { split } else { &before.split };
        // A model alone does not know where its lists lie.
        if split.is_elsewhere() || (before.kept && before.is_of(split, seed)) {
            return Ok((self.stored_parts(dataset, wish)?, before.kept));
        }
        let (new, _) = plain(dataset, (split, seed))?;
        if !before.is_of(split, seed) && wish.measured != Part::Train {
            self.warn_of_leak(dataset, &new, wish.measured, control)?;
        }
        Ok((new, false))
    }

    /// The parts of before.
    fn stored_parts(&self, dataset: &Dataset, wish: &Wish<'_>) -> Result<Split> {
        let parts = self.data.parts(dataset).ok_or_else(|| {
            Error::new(Code::InvalidData, "which image was in which part is no longer known")
                .with_subject(wish.source)
                .with_values(format!("{RECORD} beside the model"), "none")
                .with_advice("put the data back as they were, or give the folder of the run instead of its model alone")
        })?;
        Split::assemble(dataset, |item| parts[item as usize])
    }

    /// Says how much of a part was trained on.
    fn warn_of_leak(&self, dataset: &Dataset, split: &Split, measured: Part, control: &Control) -> Result<()> {
        let before = &self.data.outline;
        let parts = match self.data.parts(dataset) {
            Some(parts) => parts,
            None if before.kept => return Ok(()),
            None => {
                let earlier = Split::new(dataset, &before.split, before.split_seed)?;
                let mut parts = vec![None; dataset.len()];
                earlier.train.iter().for_each(|&item| parts[item as usize] = Some(Part::Train));
                parts
            }
        };
        let items = split.items(measured);
        let seen = items.iter().filter(|&&item| parts[item as usize] == Some(Part::Train)).count();
        if seen == 0 {
            return Ok(());
        }
        let part = if measured == Part::Test { "test" } else { "validation" };
        let (whose, seed) = (self.whose.name(), before.split_seed);
        control.emit(Event::Warning {
            message: format!(
                "{whose} was trained on {seen} of the {} images of the {part} part: the score on it will be too good. Use \
                 the split that it was trained with: its seed is {seed} (splitSeed, --split-seed).",
                items.len()
            ),
        });
        Ok(())
    }
}

impl Whose {
    /// What was done with the data, a clause.
    fn did(&self) -> String {
        match self {
            Whose::Run => "the run was started with".into(),
            Whose::Teacher(name) => format!("the teacher {name} was trained on"),
            Whose::Model => "the model was trained on".into(),
        }
    }

    fn name(&self) -> String {
        match self {
            Whose::Run => "The run".into(),
            Whose::Teacher(name) => format!("The teacher {name}"),
            Whose::Model => "The model".into(),
        }
    }
}

/// The split of `dataset` as `wish` has it, for a job that goes with data that are `known`: of the first of these that are
/// those of `dataset`, where any are.
///
/// # Errors
/// Those of [`Known::split`].
pub(super) fn settle(known: &[Known], dataset: &Dataset, wish: &Wish<'_>, control: &Control) -> Result<Settled> {
    let Some(place) = known.iter().position(|known| known.is_of(dataset)) else { return plain(dataset, wish.split) };
    let settled = known[place].split(dataset, wish, control)?;
    let same = |known: &&Known| known.data.outline.fingerprint == dataset.fingerprint();
    for other in known[place + 1..].iter().filter(same) {
        other.warn_of_leak(dataset, &settled.0, wish.measured, control)?;
    }
    Ok(settled)
}

/// The split of data of which nothing is known.
fn plain(dataset: &Dataset, (split, seed): (&SplitPlan, u64)) -> Result<Settled> {
    Ok((Split::new(dataset, split, seed)?, false))
}

/// Writes the record, whole or not at all.
pub(super) fn write(record: &DataRecord, path: &Path) -> Result<()> {
    write_atomically(path, |file| serde_json::to_writer(file, record).map_err(std::io::Error::other))
}

/// The record in a file; nothing where it is missing or damaged: the fingerprint alone still tells what has changed.
fn read(path: &Path) -> Option<DataRecord> {
    let record: DataRecord = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    record.is_whole().then_some(record)
}
