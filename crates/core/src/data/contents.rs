//! Decoding a source into its cache: list, decode on all cores, write the manifest.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, mpsc};

use super::decode::{Decoder, grey_of};
use super::factory::{DecodeProgress, Diagnostics, Factory, Sample, count_up};
use super::fingerprint::content_of;
use super::glyphs::GlyphSpec;
use super::part::BrokenImage;
use super::plan::{DataPlan, Labels};
use super::rotation::TURNS;
use super::shard::Shard;
use super::source::annotation::Annotation;
use super::source::arrays::{ArrayPart, Arrays};
use super::source::ignored::Ignored;
use super::source::layout::{Layout, by_folders, parts_of};
use super::source::listing::Listing;
use super::source::parquet::ParquetImages;
use super::source::published::{compare, listed_ids, recognise};
use super::source::walk::{self, Walk};
use super::source::zip::Zip;
use super::source::{IMAGE_NAMES, Reader, Root, Source, advice_without_images, spelling, tar};
use super::stop::Stop;
use super::threads::decode_threads;
use crate::error::{Code, Error, Result};
use crate::names::is_escaped;
use crate::vectors::{VectorTable, judge};

/// What a source holds, before anything is decoded.
pub struct Contents<'s> {
    /// The published data set it is.
    pub name: Option<&'static str>,
    /// Whether its classes are labels.
    pub labels: Labels,
    /// Its images, in the order of their ids.
    pub samples: Vec<Sample>,
    /// What was noticed.
    pub diagnostics: Diagnostics,
    inside: Inside<'s>,
}

/// A source ready to be read.
enum Inside<'s> {
    Glyphs(&'s GlyphSpec),
    Arrays(Arrays),
    Vectors(&'s VectorTable),
    Files(Vec<Open<'s>>),
}

/// A root ready to be read.
enum Open<'s> {
    Folder(&'s Walk),
    Zip(Zip),
    Tar(&'s Path),
    Parquet(&'s ParquetImages),
}

impl<'s> Contents<'s> {
    /// Reads the tables of contents, the annotations and the labels of `source`; with `rotations` every image comes in
    /// four turns. Where `labels` are not given, there are such if there are at least two classes.
    pub fn read(source: &'s Source, labels: Option<Labels>, rotations: bool, stop: Stop<'_>) -> Result<Contents<'s>> {
        let kept = labels.unwrap_or_default();
        let mut contents = match &source.reader {
            Reader::Glyphs(spec) => {
                let (samples, diagnostics) = (glyph_samples(spec), Diagnostics::default());
                Contents { name: None, labels: kept, samples, diagnostics, inside: Inside::Glyphs(spec) }
            }
            Reader::Arrays(files) => {
                let arrays = files.read()?;
                let mut diagnostics = Diagnostics::default();
                if arrays.parts.len() == 2 && kept == Labels::Classes {
                    diagnostics.warnings.push(
                        "both parts of this source hold the same classes: with the source's own split, test classes are seen in training".into(),
                    );
                }
                Contents {
                    name: source.name,
                    labels: kept,
                    samples: array_samples(&arrays),
                    diagnostics,
                    inside: Inside::Arrays(arrays),
                }
            }
            Reader::Files(roots) => read_files(source, roots, labels, stop)?,
            Reader::Vectors(table) => read_vectors(table, labels)?,
        };
        if contents.labels == Labels::None {
            contents.samples.iter_mut().for_each(|sample| sample.class.clear());
        } else if let Some(name) = contents.name {
            let images = contents.samples.iter().map(|sample| (&sample.class[..], sample.part));
            contents.diagnostics.warnings.extend(compare(name, images));
        }
        if rotations {
            contents.samples = contents.samples.iter().flat_map(turned).collect();
            contents.samples.sort_by(|a, b| a.id.cmp(&b.id).then(a.at.cmp(&b.at)));
        }
        Ok(contents)
    }

    /// A hash of what the images are, as far as that is known before they are read: their names and classes, and the sizes of
    /// the files, but neither where these lie nor their times. So copies on several machines have the same one.
    ///
    /// # Errors
    /// When a file disappeared or may not be read.
    pub fn outline(&self, source: &Source) -> Result<blake3::Hasher> {
        let mut hasher = source.sizes()?;
        for text in self.samples.iter().flat_map(|sample| [&sample.id, &sample.class]) {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        Ok(hasher)
    }

    /// Keeps the images of a shard, and what is told of images that are not read among them.
    ///
    /// # Errors
    /// `ERR_INVALID_OPTION` where there are more shards than images.
    pub fn keep(&mut self, shard: Shard) -> Result<()> {
        let images = self.samples.len();
        if shard.count > images {
            return Err(Error::new(Code::InvalidOption, "there are more shards than images")
                .with_subject("shard.count")
                .with_values(format!("at most {images}, as there are images"), shard.count.to_string())
                .with_advice("say a smaller count, and start as many tasks"));
        }
        let range = shard.range(images);
        let end = self.samples.get(range.end).map(|next| next.id.clone());
        self.samples.truncate(range.end);
        self.samples.drain(..range.start);
        let first = self.samples.first().filter(|_| range.start > 0).map(|first| &first.id);
        let is_own =
            |path: &String| first.is_none_or(|first| path >= first) && end.as_ref().is_none_or(|end| path < end);
        self.diagnostics.broken.retain(|broken| is_own(&broken.path));
        Ok(())
    }

    /// Decodes everything into a new cache file at `path`; `is_whole` says that it is no shard.
    pub fn decode(
        self,
        source: &Source,
        plan: &DataPlan,
        path: &Path,
        is_whole: bool,
        stop: Stop<'_>,
        progress: &mut dyn FnMut(DecodeProgress),
    ) -> Result<()> {
        let samples = &self.samples;
        let shape = match self.inside {
            Inside::Vectors(_) => [1, plan.channels * size_of::<f32>()],
            _ => [plan.image_size, plan.channels],
        };
        let mut factory = Factory::new(path, shape, samples, stop, progress)?;
        let next = AtomicUsize::new(0);
        match &self.inside {
            Inside::Glyphs(spec) => {
                let fetch = |_: &mut ()| count_up(&next, samples.len()).map(|slot| (slot, samples[slot].at));
                let draw = |_: &mut (), (class, writer): (usize, usize), out: &mut [u8]| {
                    spec.draw(class, writer, plan.image_size, plan.channels, out);
                    Ok(content_of(format!("glyph {} {class} {writer}", spec.seed).as_bytes()))
                };
                factory.run(|| (), fetch, draw)?;
            }
            Inside::Arrays(arrays) => {
                type State = (Decoder, Vec<u8>);
                let fetch = |_: &mut State| count_up(&next, samples.len()).map(|slot| (slot, samples[slot].at));
                let copy = |(decoder, pixels): &mut State, (part, index): (usize, usize), out: &mut [u8]| {
                    let part = &arrays.parts[part];
                    with_channels(part, index, plan.channels, pixels);
                    decoder.resize(pixels, part.width, part.height, out)?;
                    Ok(content_of(part.image(index)))
                };
                factory.run(|| (Decoder::new(plan.image_size, plan.channels), Vec::new()), fetch, copy)?;
            }
            Inside::Vectors(table) => {
                let fetch = |_: &mut ()| count_up(&next, samples.len()).map(|slot| (slot, samples[slot].at.1));
                let copy = |_: &mut (), row: usize, out: &mut [u8]| {
                    for (out, number) in out.as_chunks_mut().0.iter_mut().zip(table.row(row)) {
                        *out = number.to_le_bytes();
                    }
                    Ok(content_of(out))
                };
                factory.run(|| (), fetch, copy)?;
            }
            Inside::Files(open) => {
                for (root, reader) in open.iter().enumerate() {
                    decode_root(reader, root, samples, plan, source.kind == "omniglot", &mut factory)?;
                }
            }
        }
        factory.finish(self.name, self.samples, self.diagnostics, is_whole)
    }
}

/// An image in its four turns.
fn turned(sample: &Sample) -> impl Iterator<Item = Sample> {
    let turn = |(quarters, name): (usize, &str)| Sample {
        id: format!("{}@{name}", sample.id),
        path: sample.path.as_ref().map(|path| format!("{path}@{name}")),
        given: sample.given.as_ref().map(|id| format!("{id}@{name}")),
        class: format!("{}/{name}", sample.class),
        quarters,
        ..sample.clone()
    };
    TURNS.into_iter().enumerate().map(turn)
}

fn glyph_samples(spec: &GlyphSpec) -> Vec<Sample> {
    let images = (0..spec.classes).flat_map(|class| (0..spec.writers).map(move |writer| (class, writer)));
    images
        .map(|(class, writer)| {
            let name = format!("character{class:04}");
            Sample {
                id: format!("{name}/writer{writer:04}"),
                path: None,
                given: None,
                class: name,
                part: None,
                at: (class, writer),
                quarters: 0,
            }
        })
        .collect()
}

fn array_samples(arrays: &Arrays) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (p, part) in arrays.parts.iter().enumerate() {
        samples.extend(part.labels.iter().enumerate().map(|(i, &label)| Sample {
            id: format!("{}/{i:06}", part.name),
            path: None,
            given: None,
            class: arrays.classes[label as usize].clone(),
            part: Some(part.part),
            at: (p, i),
            quarters: 0,
        }));
    }
    samples.sort_by(|a, b| a.id.cmp(&b.id));
    samples
}

/// The vectors of a table: labels are those of its column, else the folders of the ids, which may say parts too.
fn read_vectors(table: &VectorTable, labels: Option<Labels>) -> Result<Contents<'_>> {
    let mut sorted: Vec<&String> = table.ids.iter().collect();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::new(Code::InvalidData, "two vectors have the same id")
            .with_values("an id for each vector", format!("{:?} twice", twice[0]))
            .with_advice("give the column that holds the ids (vectors.idColumn), or write each vector once"));
    }
    let ids: Vec<&str> = table.ids.iter().map(|id| &id[..]).collect();
    let mut found = by_folders(&ids);
    if !table.labels.is_empty() {
        found.classes = table.labels.clone();
        found.classes.resize(ids.len(), None);
        let without = found.classes.iter().filter(|label| label.is_none()).count();
        let first = found.classes.iter().position(Option::is_none).map(|first| ids[first]);
        found.left_out = first
            .map(|first| format!("vectors without a label, left out: {without} (the first is {first})"))
            .into_iter()
            .collect();
    }
    let mut diagnostics = Diagnostics { warnings: judge(table)?.warnings, ..Diagnostics::default() };
    diagnostics.warnings.extend(table.warnings.iter().cloned());
    let distinct = found.classes.iter().flatten().collect::<BTreeSet<_>>().len();
    let labels = labels.unwrap_or(if distinct < 2 { Labels::None } else { Labels::Classes });
    match labels {
        Labels::None => found.classes.fill(Some(String::new())),
        Labels::Classes => diagnostics.warnings.append(&mut found.left_out),
    }
    if labels == Labels::None && found.parts.iter().all(Option::is_none) {
        found.parts = parts_of(&ids);
    }
    let mut samples = Vec::new();
    for (row, ((id, class), part)) in ids.iter().zip(found.classes).zip(found.parts).enumerate() {
        let Some(class) = class else { continue };
        samples.push(Sample { id: id.to_string(), path: None, given: None, class, part, at: (0, row), quarters: 0 });
    }
    samples.sort_by(|a, b| a.id.cmp(&b.id));
    if samples.is_empty() {
        return Err(Error::new(Code::InvalidData, "no vector has a label")
            .with_values("a column label, or ids that begin with a folder", "neither")
            .with_advice("go without labels: labels \"none\", split by images"));
    }
    Ok(Contents { name: None, labels, samples, diagnostics, inside: Inside::Vectors(table) })
}

/// Image `index` of `part` with 1 or 3 channels.
fn with_channels(part: &ArrayPart, index: usize, channels: usize, out: &mut Vec<u8>) {
    let image = part.image(index);
    out.clear();
    match (part.channels, channels) {
        (1, count) => out.extend(image.iter().flat_map(|&value| std::iter::repeat_n(value, count))),
        (3, 1) => out.extend(image.as_chunks::<3>().0.iter().map(grey_of)),
        _ => out.extend_from_slice(image),
    }
}

fn read_files<'s>(
    source: &'s Source,
    roots: &'s [Root],
    labels: Option<Labels>,
    stop: Stop<'_>,
) -> Result<Contents<'s>> {
    let mut open = Vec::new();
    let mut listings = Vec::new();
    for root in roots {
        let (reader, listing) = match root {
            Root::Folder(walk) => (Open::Folder(walk), None),
            Root::Zip(path) => Zip::open(path).map(|(zip, listing)| (Open::Zip(zip), Some(listing)))?,
            Root::Tar(path) => (Open::Tar(path), Some(tar::list(path, stop)?)),
            Root::Parquet(images) => (Open::Parquet(images), None),
        };
        open.push(reader);
        listings.push(listing);
    }
    let listings: Vec<&Listing> = roots
        .iter()
        .zip(&listings)
        .map(|(root, listing)| match (root, listing) {
            (Root::Folder(walk), _) => &walk.listing,
            (Root::Parquet(images), _) => &images.listing,
            (_, listing) => listing.as_ref().expect("archives were listed above"),
        })
        .collect();
    let names: Vec<PathBuf> = roots.iter().map(root_path).collect();
    let (name, labels, samples, diagnostics) = file_samples(source.kind, &names, &listings, labels)?;
    Ok(Contents { name: source.name.or(name), labels, samples, diagnostics, inside: Inside::Files(open) })
}

fn root_path(root: &Root) -> PathBuf {
    match root {
        Root::Folder(walk) => walk.root.clone(),
        Root::Zip(path) | Root::Tar(path) => path.clone(),
        Root::Parquet(images) => images.root.clone(),
    }
}

/// Empty folders that are named before the rest is only counted.
const MAX_TOLD: usize = 20;

/// The published data set, whether its classes are labels, its images, and what was noticed.
type Listed = (Option<&'static str>, Labels, Vec<Sample>, Diagnostics);

/// Puts the listings of all roots together. With several roots, ids begin with the root's name.
fn file_samples(kind: &str, names: &[PathBuf], listings: &[&Listing], labels: Option<Labels>) -> Result<Listed> {
    let prefix = |root: usize| {
        let name = names[root].file_name().unwrap_or_default().to_string_lossy().into_owned();
        if names.len() == 1 || kind == "omniglot" { String::new() } else { format!("{root}-{name}/") }
    };
    let mut paths = Vec::new();
    let mut diagnostics = Diagnostics::default();
    let mut ignored = Ignored::default();
    let mut empty = Vec::new();
    for (root, listing) in listings.iter().enumerate() {
        paths.extend(listing.entries.iter().map(|entry| (&entry.path[..], (root, entry.index))));
        let path = |path: &str| format!("{}{path}", prefix(root));
        diagnostics
            .broken
            .extend(listing.broken.iter().map(|b| BrokenImage { path: path(&b.path), reason: b.reason.clone() }));
        diagnostics.warnings.extend(listing.warnings.iter().cloned());
        empty.extend(listing.empty.iter().map(|class| format!("the folder {} holds no image", path(class))));
        ignored.add(&listing.ignored);
    }
    let more = empty.len().saturating_sub(MAX_TOLD);
    diagnostics.warnings.extend(empty.drain(..empty.len() - more));
    diagnostics.warnings.extend((more > 0).then(|| format!("{more} more folders hold no image")));
    diagnostics.warnings.extend(ignored.warnings());
    if paths.is_empty() {
        return Err(Error::new(Code::InvalidData, "the archive holds no images")
            .with_subject(names[0].display().to_string())
            .with_values(IMAGE_NAMES, ignored.describe())
            .with_advice(advice_without_images(
                listings[0],
                "put the images of each class into a folder of their own and pack that",
            )));
    }
    let escaped: Vec<&str> = paths.iter().map(|(path, _)| *path).filter(|path| is_escaped(path)).collect();
    if let Some(first) = escaped.first() {
        diagnostics.warnings.push(format!(
            "{} {} not UTF-8 or hold control characters; such bytes are written as \\x and two digits (the first is {first})",
            escaped.len(),
            if escaped.len() == 1 { "image has a path that is" } else { "images have paths that are" }
        ));
    }
    let beside: Vec<_> = listings.iter().flat_map(|listing| listing.annotations.iter().cloned()).collect();
    let mut found = layout_of(&paths, listings, &beside);
    diagnostics.warnings.extend(std::mem::take(&mut found.warnings));
    let distinct = found.classes.iter().flatten().collect::<BTreeSet<_>>().len();
    let labels = labels.unwrap_or(if distinct < 2 { Labels::None } else { Labels::Classes });
    if labels == Labels::None {
        let all: Vec<&str> = paths.iter().map(|(path, _)| *path).collect();
        if found.parts.iter().all(Option::is_none) {
            found.parts = parts_of(&all);
        }
        found.classes.fill(Some(String::new()));
    } else {
        diagnostics.warnings.append(&mut found.left_out);
        let places = paths.iter().zip(&found.parts).map(|((_, (root, _)), part)| (*root, *part)).collect::<Vec<_>>();
        diagnostics.warnings.extend(spelling::unite(&mut found.classes, &places));
    }
    let images = paths.len();
    let said = found.classes.into_iter().zip(found.parts).zip(ids_of(&paths, listings, &beside));
    let mut samples: Vec<Sample> = paths
        .into_iter()
        .zip(said)
        .filter_map(|((path, at), ((class, part), given))| {
            let id = format!("{}{path}", prefix(at.0));
            let row = listings[at.0].rows.as_ref().map(|rows| &rows[at.1]).filter(|row| row.id.is_some());
            let path = row.map(|row| format!("{}{}", prefix(at.0), row.path));
            Some(Sample { id, path, given, class: class?, part, at, quarters: 0 })
        })
        .collect();
    samples.sort_by(|a, b| a.id.cmp(&b.id).then(a.at.cmp(&b.at)));
    if samples.is_empty() {
        let told = std::iter::once(format!("{images} images without a class")).chain(diagnostics.warnings);
        return Err(Error::new(Code::InvalidData, "no image has a class")
            .with_subject(names[0].display().to_string())
            .with_values("a folder for each class, or lists that name the images", told.collect::<Vec<_>>().join("; "))
            .with_advice(
                "put the images of each class into a folder of its own, give a manifest with a column class, or go without \
                 labels: labels \"none\", split by images",
            ));
    }
    Ok((found.name, labels, samples, diagnostics))
}

/// Class and part of every image: what a manifest says of those it names, what lists and folders say of the others.
fn layout_of(paths: &[(&str, (usize, usize))], listings: &[&Listing], beside: &[Annotation]) -> Layout {
    let free: Vec<&str> =
        paths.iter().filter(|(_, (root, _))| listings[*root].rows.is_none()).map(|(path, _)| *path).collect();
    let mut found = recognise(&free, beside).unwrap_or_else(|| by_folders(&free));
    let mut rest = found.classes.into_iter().zip(found.parts);
    let of = |&(_, (root, index)): &(&str, (usize, usize))| match &listings[root].rows {
        Some(rows) => (rows[index].class.clone(), rows[index].part),
        None => rest.next().expect("a layout has a class and a part for each path"),
    };
    (found.classes, found.parts) = paths.iter().map(of).unzip();
    let named = || paths.iter().zip(&found.classes).filter(|((_, (root, _)), _)| listings[*root].rows.is_some());
    let without = named().filter(|(_, class)| class.is_none()).count();
    if let Some(((first, _), _)) = named().find(|(_, class)| class.is_none()) {
        let count = if without == 1 { "1 image has".into() } else { format!("{without} images have") };
        found
            .left_out
            .push(format!("{count} no class in the manifest or table and are left out (the first is {first})"));
    }
    found
}

/// The id that a manifest gives an image which it names, or a list beside the images one of the others.
fn ids_of(paths: &[(&str, (usize, usize))], listings: &[&Listing], beside: &[Annotation]) -> Vec<Option<String>> {
    let free = paths.iter().filter(|(_, (root, _))| listings[*root].rows.is_none()).map(|(path, _)| *path);
    let mut listed = listed_ids(free, beside).into_iter();
    let of = |&(_, (root, index)): &(&str, (usize, usize))| match &listings[root].rows {
        Some(rows) => rows[index].id.clone(),
        None => listed.next().flatten(),
    };
    paths.iter().map(of).collect()
}

/// What a decoding thread keeps.
struct FileWorker {
    decoder: Decoder,
    zip: Option<Zip>,
}

fn decode_root(
    open: &Open<'_>,
    root: usize,
    samples: &[Sample],
    plan: &DataPlan,
    invert: bool,
    factory: &mut Factory<'_>,
) -> Result<()> {
    // (index in the root, slot), in the root's order, which is the order a tar must be read in.
    let mut mine: Vec<(usize, usize)> = samples
        .iter()
        .enumerate()
        .filter(|(_, sample)| sample.at.0 == root)
        .map(|(slot, sample)| (sample.at.1, slot))
        .collect();
    mine.sort_unstable();
    let zip = if let Open::Zip(zip) = open { Some(zip) } else { None };
    let worker = || FileWorker { decoder: Decoder::new(plan.image_size, plan.channels), zip: zip.cloned() };
    let next = AtomicUsize::new(0);
    match open {
        Open::Folder(walk) => {
            let read = |_: &mut FileWorker| {
                let (index, slot) = mine[count_up(&next, mine.len())?];
                Some((slot, walk::read(&walk.files[index].0)))
            };
            factory.run(worker, read, decode_image(invert))
        }
        Open::Zip(_) => {
            let read = |worker: &mut FileWorker| {
                let (index, slot) = mine[count_up(&next, mine.len())?];
                Some((slot, worker.zip.as_mut().expect("a ZIP root").read(index)))
            };
            factory.run(worker, read, decode_image(invert))
        }
        Open::Tar(path) => decode_stream(&mine, worker, invert, factory, |wanted, take| tar::read(path, wanted, take)),
        Open::Parquet(images) => {
            decode_stream(&mine, worker, invert, factory, |wanted, take| images.read(wanted, take))
        }
    }
}

/// Decodes the bytes of an image file, and gives their hash.
fn decode_image<T: AsRef<[u8]>>(
    invert: bool,
) -> impl Fn(&mut FileWorker, Result<T, String>, &mut [u8]) -> Result<u64, String> {
    move |worker, bytes, out| {
        let bytes = bytes?;
        worker.decoder.decode(bytes.as_ref(), out)?;
        if invert {
            out.iter_mut().for_each(|value| *value = 255 - *value);
        }
        Ok(content_of(bytes.as_ref()))
    }
}

/// Takes an image by its place among those that are wanted, and says whether to go on.
type Take<'a, T> = &'a mut dyn FnMut(usize, Result<T, String>) -> bool;

/// Decodes images that can only be read one after the other: `feed` reads those whose indices are wanted on a thread of
/// its own, no further ahead than the decoding threads need.
fn decode_stream<T: AsRef<[u8]> + Send>(
    mine: &[(usize, usize)],
    worker: impl Fn() -> FileWorker + Sync,
    invert: bool,
    factory: &mut Factory<'_>,
    feed: impl FnOnce(&[usize], Take<'_, T>) -> Result<()> + Send,
) -> Result<()> {
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(2 * decode_threads());
        let receiver = Mutex::new(receiver);
        let feeder = scope.spawn(move || {
            let wanted: Vec<usize> = mine.iter().map(|(index, _)| *index).collect();
            feed(&wanted, &mut |i, bytes| sender.send((mine[i].1, bytes)).is_ok())
        });
        let read = |_: &mut FileWorker| receiver.lock().expect("no panic while it is held").recv().ok();
        let decoded = factory.run(worker, read, decode_image(invert));
        drop(receiver); // Else a feeder whose workers stopped early would wait for ever.
        decoded.and(feeder.join().expect("reading such files does not panic"))
    })
}
