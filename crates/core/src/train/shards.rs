//! Shards of embeddings: what is noted beside each, whether one is finished, and all of them in one file.
//!
//! Shard 3 of 100 of `vectors.npy` is `vectors-00003-of-00100.npy`, a whole file of its form. When it and its ids are on the disk,
//! `vectors-00003-of-00100.npy.shard.json` is written, which makes it finished: it says of which model and images the rows are, and
//! has a hash of each file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Error as IoError, Write};
use std::path::{Path, PathBuf};

use rkd_kernels::Isa;
use serde::{Deserialize, Serialize};

use super::embedded::{EmbedFormat, ids_beside, names};
use super::event::{Control, Event};
use super::report::MergeReport;
use crate::artefact::file::write_atomically;
use crate::artefact::joined::{join_arrow, join_bytes, join_csv, join_npy_values, join_parquet, join_tensor_values};
use crate::artefact::npy;
use crate::artefact::tensors::{TensorFile, read_document};
use crate::data::{BrokenImage, Shard, refuse_if_mostly_broken};
use crate::error::{Code, Error, Result};
use crate::names::with_ending;
use crate::vectors::MadeBy;

/// What is appended to the name of a shard's file for its note.
const NOTE: &str = ".shard.json";

/// Indices that a message names before the rest is only counted.
const MAX_TOLD: usize = 20;

/// What the rows of a shard are of; all shards of one file agree in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Origin {
    /// The version of rkd.
    pub version: String,
    /// The hash of the model, see [`MadeBy::hash`].
    pub model_hash: String,
    /// What all images are, see [`crate::data::Dataset::open_shard`].
    pub data: String,
    /// The form of the file.
    pub format: EmbedFormat,
    /// Whether the rows have classes.
    pub labelled: bool,
    /// Numbers of a row.
    pub embedding: usize,
}

impl Origin {
    /// What is not the same in `other`, in words.
    fn differences(&self, other: &Origin) -> String {
        let all = [
            (self.version != other.version, "another version of rkd"),
            (self.model_hash != other.model_hash || self.embedding != other.embedding, "another model"),
            (self.data != other.data || self.labelled != other.labelled, "other images"),
            (self.format != other.format, "another format"),
        ];
        let differing: Vec<&str> = all.iter().filter(|(differs, _)| *differs).map(|(_, words)| *words).collect();
        differing.join(" and ")
    }
}

/// What stands beside a finished shard.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Note {
    /// Which shard it is.
    pub shard: Shard,
    /// What its rows are of.
    pub origin: Origin,
    /// The model's path where it was embedded.
    pub model: String,
    /// The instruction set of that processor: another one may give other last bits.
    pub instruction_set: String,
    /// Rows.
    pub images: usize,
    /// As of [`super::report::EmbedReport`].
    pub milliseconds_per_image: f64,
    /// As of [`super::report::EmbedReport`].
    pub left_out: Vec<BrokenImage>,
    /// The BLAKE3 of its file, and of that of its ids where they have one.
    pub hashes: Vec<String>,
}

impl Note {
    /// Reads the note of the shard in `file`; nothing where there is none or it is damaged.
    fn read(file: &Path) -> Option<Note> {
        serde_json::from_slice(&fs::read(note_of(file)).ok()?).ok()
    }

    /// Writes it beside `file`, with the hash of that and of its ids.
    pub fn write(mut self, file: &Path) -> Result<()> {
        for path in files_of(file, self.origin.format) {
            let hash = hash_of(&path).map_err(|e| Error::io("reading", &path, e))?;
            self.hashes.push(hash);
        }
        write_atomically(&note_of(file), |out| serde_json::to_writer(out, &self).map_err(IoError::other))
    }

    /// Whether the files of the shard in `file` are as they were written.
    fn is_intact(&self, file: &Path) -> bool {
        let files = files_of(file, self.origin.format);
        let is_intact = |(path, hash): (&PathBuf, &String)| hash_of(path).is_ok_and(|found| found == *hash);
        files.len() == self.hashes.len() && files.iter().zip(&self.hashes).all(is_intact)
    }
}

/// The instruction set that embeds here.
pub(super) fn instruction_set() -> Result<String> {
    let isa = Isa::chosen().map_err(|message| Error::new(Code::InvalidOption, message))?;
    Ok(isa.name().into())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn note_of(file: &Path) -> PathBuf {
    with_ending(file, NOTE)
}

fn files_of(file: &Path, format: EmbedFormat) -> Vec<PathBuf> {
    let ids = (format == EmbedFormat::Npy).then(|| ids_beside(file));
    std::iter::once(file.into()).chain(ids).collect()
}

fn hash_of(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// The file of a shard of the file `whole`.
pub fn file_of(whole: &Path, Shard { index, count }: Shard) -> PathBuf {
    let (stem, ending) = parts_of(whole);
    whole.with_file_name(format!("{stem}-{index:05}-of-{count:05}{ending}"))
}

/// The name of `whole` before and from the dot of its ending on.
fn parts_of(whole: &Path) -> (String, String) {
    let stem = whole.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    (stem, whole.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default())
}

/// The shards of the file `whole` that have notes.
///
/// # Errors
/// Those of listing the folder.
fn noted(whole: &Path) -> Result<BTreeSet<(usize, usize)>> {
    let folder = whole.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |e| Error::io("looking for shards", folder, e);
    let (stem, ending) = parts_of(whole);
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let middle = name.strip_prefix(&stem).and_then(|rest| rest.strip_suffix(NOTE)?.strip_suffix(&ending[..]));
        let numbers = middle.and_then(|middle| middle.strip_prefix('-')?.split_once("-of-"));
        let number = |text: &str| text.parse().ok().filter(|_| text.len() == 5);
        found.extend(numbers.and_then(|(index, count)| number(index).zip(number(count))));
    }
    Ok(found)
}

/// The note of a shard that is finished and as it was written; of one that is neither a warning, and nothing.
///
/// # Errors
/// `ERR_OUTPUT_EXISTS` where a finished shard of this name is of something else than `origin`, and where the file is already cut into
/// another number of shards.
pub(super) fn finished(whole: &Path, shard: Shard, origin: &Origin, control: &Control) -> Result<Option<Note>> {
    let file = file_of(whole, shard);
    if let Some((index, count)) = noted(whole)?.into_iter().find(|(_, count)| *count != shard.count) {
        return Err(exists(&file_of(whole, Shard { index, count }), "the folder has shards of another number")
            .with_values(format!("of {}", shard.count), format!("of {count}")));
    }
    if !note_of(&file).exists() {
        return Ok(None);
    }
    let note = Note::read(&file);
    if let Some(note) = &note
        && note.origin != *origin
    {
        let message = format!("a finished shard is here, of {}", origin.differences(&note.origin));
        return Err(exists(&file, &message));
    }
    let note = note.filter(|note| note.shard == shard && note.is_intact(&file));
    if note.is_none() {
        let message = format!("{} is damaged, so it is made anew.", file.display());
        control.emit(Event::Warning { message });
    }
    Ok(note)
}

fn exists(file: &Path, message: &str) -> Error {
    let advice = format!("remove its shards with their {NOTE}, or write to another file");
    Error::new(Code::OutputExists, message).with_subject(file.display().to_string()).with_advice(advice)
}

/// Writes the rows of all shards of the file `out` into it, in the order of the whole. The shards stay.
///
/// # Errors
/// `ERR_NOT_FOUND` for shards that are not finished, `ERR_INVALID_ARTEFACT` for those that are damaged or of something else than the
/// others: all of them are named. `ERR_INVALID_DATA` where more than half of the images are broken; those of reading and writing.
pub fn merge(out: &Path, control: &Control) -> Result<MergeReport> {
    let (files, notes) = all_of(out)?;
    let mut read = 0;
    let total = 2 * files.len() as u64;
    let mut step = || {
        read += 1;
        control.emit(Event::Merge { done: read, total });
        match control.is_cancelled() {
            true => Err(Error::new(Code::Cancelled, "stopped while joining shards")),
            false => Ok(()),
        }
    };
    let mut damaged = Vec::new();
    for (index, (file, note)) in files.iter().zip(&notes).enumerate() {
        if !note.is_intact(file) {
            damaged.push(index);
        }
        step()?;
    }
    refuse(out, "damaged", &damaged, notes.len())?;
    let first = &notes[0];
    let (origin, images) = (&first.origin, notes.iter().map(|note| note.images).sum());
    let mut left_out: Vec<BrokenImage> = notes.iter().flat_map(|note| note.left_out.iter().cloned()).collect();
    left_out.sort_by(|a, b| a.path.cmp(&b.path));
    refuse_if_mostly_broken(images, &left_out)?;
    let sets: BTreeSet<&str> = notes.iter().map(|note| &note.instruction_set[..]).collect();
    if sets.len() > 1 {
        let sets = sets.into_iter().collect::<Vec<_>>().join(", ");
        let message = format!(
            "The shards are of processors with different instruction sets ({sets}), so rows may have other last bits than on one: \
             RKD_ISA names one for all."
        );
        control.emit(Event::Warning { message });
    }
    let made_by = MadeBy { model: first.model.clone(), hash: Some(origin.model_hash.clone()) };
    let joined = Joined { files: &files, origin, images, made_by: &made_by };
    let mut failure = None;
    let mut step = || {
        step().map_err(|error| {
            let text = error.to_string();
            failure = Some(error);
            IoError::other(text)
        })
    };
    let written = joined.write(out, &mut step);
    if let Some(error) = failure {
        return Err(error);
    }
    written?;
    Ok(MergeReport {
        out: out.display().to_string(),
        images,
        embedding: origin.embedding,
        shards: files.len(),
        left_out,
    })
}

/// The files of all shards of `out`, and their notes, which agree.
fn all_of(out: &Path) -> Result<(Vec<PathBuf>, Vec<Note>)> {
    let found = noted(out)?;
    let counts: BTreeSet<usize> = found.iter().map(|(_, count)| *count).collect();
    let count = match counts.iter().collect::<Vec<_>>()[..] {
        [&count] => count,
        [] => {
            let example = file_of(out, Shard { index: 0, count: 1 });
            return Err(Error::new(Code::NotFound, "there is no finished shard of this file")
                .with_subject(out.display().to_string())
                .with_values(format!("files like {}, each with its {NOTE}", name_of(&example)), "none")
                .with_advice("write them first, with --shard, or say the out that they were written with"));
        }
        _ => {
            let counts = counts.iter().map(|count| format!("of {count}")).collect::<Vec<_>>().join(" and ");
            return Err(Error::new(Code::InvalidArtefact, "the folder has shards of several numbers")
                .with_subject(out.display().to_string())
                .with_values("one number", counts)
                .with_advice(format!("remove those that are not meant, with their {NOTE}")));
        }
    };
    let files: Vec<PathBuf> = (0..count).map(|index| file_of(out, Shard { index, count })).collect();
    let missing: Vec<usize> = (0..count).filter(|index| !found.contains(&(*index, count))).collect();
    if !missing.is_empty() {
        return Err(Error::new(
            Code::NotFound,
            format!("these shards of {count} are not finished: {}", listed(&missing)),
        )
        .with_subject(out.display().to_string())
        .with_advice(format!("embed them: --shard {}/{count}", missing[0])));
    }
    let notes: Vec<Option<Note>> = files.iter().map(|file| Note::read(file)).collect();
    let unread: Vec<usize> = (0..count).filter(|&index| notes[index].is_none()).collect();
    refuse(out, "damaged", &unread, count)?;
    let notes: Vec<Note> = notes.into_iter().flatten().collect();
    let mut origins: BTreeMap<&Origin, usize> = BTreeMap::new();
    notes.iter().for_each(|note| *origins.entry(&note.origin).or_default() += 1);
    let usual = origins.iter().max_by_key(|(_, count)| **count).map(|(origin, _)| (*origin).clone());
    let foreign: Vec<usize> = (0..count)
        .filter(|&index| Some(&notes[index].origin) != usual.as_ref() || notes[index].shard != Shard { index, count })
        .collect();
    if let Some((usual, &index)) = usual.as_ref().zip(foreign.first()) {
        let what = match usual.differences(&notes[index].origin) {
            same if same.is_empty() => "renamed".into(),
            differences => format!("of {differences}"),
        };
        refuse(out, &format!("{what}, unlike the others"), &foreign, count)?;
    }
    Ok((files, notes))
}

fn refuse(out: &Path, what: &str, shards: &[usize], count: usize) -> Result<()> {
    if shards.is_empty() {
        return Ok(());
    }
    let message = format!("these shards of {count} are {what}: {}", listed(shards));
    // What is damaged is made anew; what is something else stands in the way.
    let first = if what == "damaged" { String::new() } else { format!("remove their files with their {NOTE} and ") };
    let advice = format!("{first}embed them again: --shard {}/{count}", shards[0]);
    Err(Error::new(Code::InvalidArtefact, message).with_subject(out.display().to_string()).with_advice(advice))
}

/// Numbers as `sbatch --array` takes them: `3,7-9`.
fn listed(numbers: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let words = |&(first, last): &(usize, usize)| match last - first {
        0 => first.to_string(),
        _ => format!("{first}-{last}"),
    };
    let told: Vec<String> = ranges.iter().take(MAX_TOLD).map(words).collect();
    let more = ranges.len().saturating_sub(MAX_TOLD);
    told.join(",") + &if more > 0 { format!(" and {more} more ranges") } else { String::new() }
}

/// Shards that fit, on their way into one file.
struct Joined<'a> {
    files: &'a [PathBuf],
    origin: &'a Origin,
    images: usize,
    made_by: &'a MadeBy,
}

impl Joined<'_> {
    fn write(&self, out: &Path, step: &mut dyn FnMut() -> std::io::Result<()>) -> Result<()> {
        let shape = [self.images, self.origin.embedding];
        let files = self.files;
        match self.origin.format {
            EmbedFormat::Csv => write_atomically(out, |out| join_csv(files, out, step)),
            EmbedFormat::Jsonl => write_atomically(out, |out| join_bytes(files, out, step)),
            EmbedFormat::Arrow => write_atomically(out, |out| join_arrow(files, out, step)),
            EmbedFormat::Parquet => {
                write_atomically(out, |out| join_parquet(files, self.origin.labelled, self.made_by, out, step))
            }
            EmbedFormat::Npy => {
                write_atomically(out, |out| {
                    out.write_all(&npy::header(&shape))?;
                    join_npy_values(files, out, step)
                })?;
                let read = |file: &PathBuf| serde_json::from_slice(&fs::read(ids_beside(file)).ok()?).ok();
                let names = self.names(read)?;
                write_atomically(&ids_beside(out), |file| serde_json::to_writer(file, &names).map_err(IoError::other))
            }
            EmbedFormat::Safetensors => {
                let names = self.names(|file| serde_json::from_value(read_document(file)?).ok())?;
                let mut first = true;
                TensorFile::save_in_pieces(out, &names, ("embeddings", &shape), |out: &mut (dyn Write + Send)| {
                    // They are read twice, and counted once.
                    let uncounted = std::mem::take(&mut first);
                    join_tensor_values(files, out, &mut || if uncounted { Ok(()) } else { step() })
                })
            }
        }
    }

    /// The ids and classes of all shards, which `read` gives of each.
    fn names(&self, read: impl Fn(&PathBuf) -> Option<Names>) -> Result<serde_json::Value> {
        let mut all = Names { ids: Vec::new(), classes: self.origin.labelled.then(Vec::new) };
        for file in self.files {
            let damaged =
                || Error::new(Code::InvalidArtefact, "its ids are not there").with_subject(file.display().to_string());
            let Names { ids, classes } = read(file).ok_or_else(damaged)?;
            all.ids.extend(ids);
            if let Some(all) = &mut all.classes {
                all.extend(classes.unwrap_or_default());
            }
        }
        Ok(names(&all.ids, all.classes.as_deref(), self.made_by))
    }
}

/// What stands beside or in a file of numbers.
#[derive(Deserialize)]
struct Names {
    ids: Vec<String>,
    classes: Option<Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_has_the_name_of_the_whole_with_index_and_count() {
        let file = |whole: &str| file_of(Path::new(whole), Shard { index: 3, count: 100 });
        assert_eq!(file("out/vectors.npy"), Path::new("out/vectors-00003-of-00100.npy"));
        assert_eq!(file("a.b.jsonl"), Path::new("a.b-00003-of-00100.jsonl"));
        assert_eq!(file("/vectors"), Path::new("/vectors-00003-of-00100"));
    }

    #[test]
    fn notes_are_found_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "v-00001-of-00002.npy.shard.json",
            "v-00000-of-00003.npy.shard.json",
            "v-00001-of-00002.csv.shard.json",
            "v-00001-of-00002.npy",
            "v-1-of-2.npy.shard.json",
            "w-v-00001-of-00002.npy.shard.json",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(noted(&folder.path().join("v.npy")).unwrap(), BTreeSet::from([(0, 3), (1, 2)]));
    }

    #[test]
    fn numbers_are_listed_as_ranges() {
        assert_eq!(listed(&[3, 7, 8, 9, 11]), "3,7-9,11");
        let odd: Vec<usize> = (0..25).map(|number| 2 * number).collect();
        assert!(listed(&odd).ends_with("36,38 and 5 more ranges"), "{}", listed(&odd));
    }
}
