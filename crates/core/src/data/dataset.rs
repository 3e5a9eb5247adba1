//! A data set: decoded images with their names, classes and parts.

use std::borrow::Cow;

use serde::Serialize;

use super::cache::{Cache, CacheFolder, Manifest};
use super::contents::Contents;
use super::decode::DECODER_VERSION;
use super::factory::DecodeProgress;
use super::fingerprint::fingerprint_of;
use super::part::{BrokenImage, Part};
use super::plan::{DataKind, DataPlan, InputKind, Labels};
use super::rotation::{unturned, unturned_id};
use super::shard::Shard;
use super::source::{Source, VECTORS};
use super::stop::Stop;
use super::survey::{PartCount, count_parts, sentence};
use crate::error::{Code, Error, Result};

/// What was found, for people and programs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct DatasetSummary {
    /// `"glyphs"`, `"folder"`, `"glob"`, `"manifest"`, `"zip"`, `"tar"`, `"parquet"`, `"omniglot"`, `"idx"`, `"cifar"` or `"vectors"`.
    pub kind: String,
    /// The published data set that was recognised.
    pub name: Option<String>,
    /// One sentence for people: what was recognised and how much is in it.
    pub sentence: String,
    /// Number of usable images.
    pub images: usize,
    /// Number of classes with at least one usable image; 0 without labels.
    pub classes: usize,
    /// Whether the source has parts of its own (at least two of train, validation, test).
    pub own_split: bool,
    /// Images and classes of those parts.
    pub parts: Vec<PartCount>,
    /// Images that could not be used.
    pub broken: Vec<BrokenImage>,
    /// Things a user should know.
    pub warnings: Vec<String>,
    /// The same, and the images that could not be used in a sentence: see [`Dataset::notices`].
    pub notices: Vec<String>,
    /// The path of the file with the decoded images.
    pub cache: String,
    /// Whether that file was there already.
    pub reused: bool,
    /// Hash of all images with their names and classes; equal for equal data wherever it lies.
    pub fingerprint: String,
    /// Height and width of the decoded images.
    pub image_size: usize,
    /// Channels of the decoded images.
    pub channels: usize,
}

/// A decoded data set. Items are ordered by id, labels by class name; both orders depend on nothing else.
#[derive(Debug)]
pub struct Dataset {
    cache: Cache,
    kind: &'static str,
    reason: String,
    reused: bool,
    cache_notice: Option<String>,
    image_size: usize,
    channels: usize,
    rotations: bool,
    /// Whether ids begin with number and name of one of several places.
    several: bool,
    fingerprint: String,
}

/// Whether the whole of that hash is wanted, see [`Dataset::open_shard`].
pub type IsWanted<'a> = &'a mut dyn FnMut(&str) -> Result<bool>;

impl Dataset {
    /// Finds out what `plan.source` is and opens its decoded cache, decoding on all cores first if there is none.
    /// `progress` is called about ten times a second while it decodes, from this thread. Where the folder of the cache may
    /// not be written, a temporary one takes its place, see [`Dataset::cache_notice`].
    ///
    /// # Errors
    /// When the source cannot be read or recognised, has no images, or more than half of them are broken; when the cache
    /// cannot be written; when `image_size` or `channels` is out of range; when stopped.
    pub fn open(plan: &DataPlan, stop: Stop<'_>, progress: &mut dyn FnMut(DecodeProgress)) -> Result<Dataset> {
        Dataset::open_keeping(plan, 0, stop, progress)
    }

    /// The same, but the decoded images of a source with fewer than `fewest` are not kept: they lie in a temporary file.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn open_keeping(
        plan: &DataPlan,
        fewest: usize,
        stop: Stop<'_>,
        progress: &mut dyn FnMut(DecodeProgress),
    ) -> Result<Dataset> {
        let all = Dataset::open_part(plan, None, fewest, stop, progress)?;
        all.ok_or_else(|| Error::new(Code::Internal, "the whole of the images was not wanted"))
    }

    /// The same of a shard: its images alone are decoded, and the order is that of the whole. First `is_wanted` is told what the whole
    /// is, a hash of the names and classes of its images and the sizes of its files; where it says no, nothing is decoded and there is
    /// no data set. A shard may have no usable image at all.
    ///
    /// # Errors
    /// As [`Dataset::open`], but for broken images; `ERR_INVALID_OPTION` where there are more shards than images; those of
    /// `is_wanted`.
    pub fn open_shard(
        plan: &DataPlan,
        shard: Shard,
        is_wanted: IsWanted<'_>,
        fewest: usize,
        stop: Stop<'_>,
        progress: &mut dyn FnMut(DecodeProgress),
    ) -> Result<Option<Dataset>> {
        Dataset::open_part(plan, Some((shard, is_wanted)), fewest, stop, progress)
    }

    fn open_part(
        plan: &DataPlan,
        shard: Option<(Shard, IsWanted<'_>)>,
        fewest: usize,
        stop: Stop<'_>,
        progress: &mut dyn FnMut(DecodeProgress),
    ) -> Result<Option<Dataset>> {
        check_plan(plan)?;
        let source = Source::detect(plan, stop)?;
        source.check_dimension(plan.channels)?;
        let mut key = source.key()?;
        key.update(decoding(plan.image_size, plan.channels, plan.rotations).as_bytes());
        if plan.labels == Labels::None {
            key.update(b"no labels");
        }
        let read = || Contents::read(&source, Some(plan.labels), plan.rotations, stop);
        let (is_whole, mut own) = (shard.is_none(), None);
        if let Some((shard, is_wanted)) = shard {
            let mut contents = read()?;
            let mut outline = contents.outline(&source)?;
            outline.update(format!("{} {}", plan.image_size, plan.channels).as_bytes());
            if !is_wanted(&outline.finalize().to_hex()[..32])? {
                return Ok(None);
            }
            contents.keep(shard)?;
            key.update(format!("shard {shard}").as_bytes());
            own = Some(contents);
        }
        let name = format!("{}.rkdcache", &key.finalize().to_hex()[..32]);
        let path = plan.cache.join(&name);
        let element = if source.kind == VECTORS { size_of::<f32>() } else { 1 };
        let slot_bytes = plan.image_size * plan.image_size * plan.channels * element;
        let (cache, reused, cache_notice) = match Cache::open(&path, slot_bytes) {
            Some(cache) => (cache, true, None),
            None => {
                let contents = own.take().map_or_else(read, Ok)?;
                let folder = match contents.samples.len() < fewest {
                    true => CacheFolder::once()?,
                    false => CacheFolder::new(&plan.cache)?,
                };
                let path = folder.path().join(&name);
                contents.decode(&source, plan, &path, is_whole, stop, progress)?;
                let damaged = || {
                    Error::new(Code::Io, "the decoded cache was damaged right after it was written")
                        .with_subject(path.display().to_string())
                        .with_advice("check the disk, or choose another cache folder")
                };
                let mut cache = Cache::open(&path, slot_bytes).ok_or_else(damaged)?;
                let cache_notice = folder.notice();
                cache.keep(folder);
                (cache, false, cache_notice)
            }
        };
        drop(own);
        let (image_size, channels, rotations) = (plan.image_size, plan.channels, plan.rotations);
        let Source { kind, reason, .. } = source;
        let several = !plan.more.is_empty() && kind != "omniglot";
        let fingerprint = String::new();
        let mut dataset = Dataset {
            cache,
            kind,
            reason,
            reused,
            cache_notice,
            image_size,
            channels,
            rotations,
            several,
            fingerprint,
        };
        let images = dataset.unturned_items();
        dataset.fingerprint = fingerprint_of(
            images.map(|item| (dataset.bare_id(item), dataset.unturned_class(item), dataset.content(item))),
        );
        Ok(Some(dataset))
    }

    /// What was found.
    pub fn describe(&self) -> DatasetSummary {
        let manifest = &self.cache.manifest;
        let items = 0..self.len() as u32;
        let parts = count_parts(items.map(|item| (self.class_of(item).unwrap_or_default(), self.part(item))));
        let name = manifest.name.as_deref();
        let sentence = sentence(self.kind, name, &self.reason, self.len(), self.classes(), self.has_own_split());
        DatasetSummary {
            kind: self.kind.into(),
            name: manifest.name.clone(),
            sentence,
            images: self.len(),
            classes: self.classes(),
            own_split: self.has_own_split(),
            parts,
            broken: manifest.broken.clone(),
            warnings: manifest.warnings.clone(),
            notices: self.notices(),
            cache: self.cache.path.display().to_string(),
            reused: self.reused,
            fingerprint: self.fingerprint.clone(),
            image_size: self.image_size,
            channels: self.channels,
        }
    }

    /// What the user should know of where the decoded images are.
    pub fn cache_notice(&self) -> Option<&str> {
        self.cache_notice.as_deref()
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.cache.manifest.ids.len()
    }

    /// Whether there is no image: of a data set that only a shard can be.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Height and width in pixels.
    pub fn image_size(&self) -> usize {
        self.image_size
    }

    /// 1 or 3.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Number of classes; 0 without labels.
    pub fn classes(&self) -> usize {
        self.cache.manifest.classes.len()
    }

    /// Whether its images have labels.
    pub fn is_labelled(&self) -> bool {
        self.classes() > 0
    }

    /// The pixels of `item`, `[h, w, c]`; of a vector the bytes of its numbers.
    pub fn pixels(&self, item: u32) -> Vec<u8> {
        self.cache.pixels(item as usize)
    }

    /// Whether the items are stored vectors, not pictures.
    pub fn input_kind(&self) -> InputKind {
        if self.kind == VECTORS { InputKind::Vectors } else { InputKind::Images }
    }

    /// The numbers of the vector `item`, `[c]`.
    pub fn numbers(&self, item: u32) -> Vec<f32> {
        self.pixels(item).as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect()
    }

    /// Whether all pixels that were read so far are right. Who reads pixels asks this before using them.
    ///
    /// # Errors
    /// [`Code::Io`] when the decoded cache was cut meanwhile, or its disk failed.
    pub fn intact(&self) -> Result<()> {
        self.cache.intact()
    }

    /// The images that cannot be used, in the order of their paths.
    pub fn broken(&self) -> &[BrokenImage] {
        &self.cache.manifest.broken
    }

    /// What a user should know of the data, each a full sentence: its warnings, and the images that cannot be used.
    pub fn notices(&self) -> Vec<String> {
        let Manifest { warnings, broken, .. } = &self.cache.manifest;
        let mut notices = warnings.clone();
        if let Some(count) = Some(broken.len()).filter(|&count| count > 0) {
            let some: Vec<String> = broken.iter().take(5).map(|b| format!("{} ({})", b.path, b.reason)).collect();
            let rest = if count > 5 { format!(", and {} more", count - 5) } else { String::new() };
            let images = if count == 1 { "1 image".into() } else { format!("{count} images") };
            notices.push(format!("{images} could not be used: {}{rest}.", some.join(", ")));
        }
        notices
    }

    /// The label of `item`, in `0..classes()`; 0 without labels.
    pub fn label(&self, item: u32) -> u32 {
        self.cache.manifest.labels[item as usize]
    }

    /// The id of `item`: the image's path inside the source, or what a manifest gives in place of it. Unique.
    pub fn id(&self, item: u32) -> &str {
        &self.cache.manifest.ids[item as usize]
    }

    /// The ids of all images.
    pub fn ids(&self) -> &[String] {
        &self.cache.manifest.ids
    }

    /// The paths of all images, where some of their ids are a manifest's.
    pub fn paths(&self) -> Option<&[String]> {
        Some(&self.cache.manifest.paths[..]).filter(|paths| !paths.is_empty())
    }

    /// What a manifest, or a list beside the images, calls all images, where it has ids: those without one have that of
    /// [`Dataset::ids`].
    pub fn given_ids(&self) -> Option<&[String]> {
        Some(&self.cache.manifest.given[..]).filter(|given| !given.is_empty())
    }

    /// The id of `item` as any place of the data has it: without its turn, and without the name of one of several places.
    pub fn bare_id(&self, item: u32) -> Cow<'_, str> {
        let id = self.id(item);
        let id = if self.rotations { unturned_id(id).map_or(id, |(id, _)| id) } else { id };
        match id.split_once('-').zip(id.split_once('/')) {
            Some(((number, _), (_, path))) if self.several => Cow::Owned(format!("{number}/{path}")),
            _ => Cow::Borrowed(id),
        }
    }

    /// The items that are not a turned copy of another one.
    pub fn unturned_items(&self) -> impl Iterator<Item = u32> {
        let is_first = |item: &u32| !self.rotations || unturned_id(self.id(*item)).is_none_or(|(_, first)| first);
        (0..self.len() as u32).filter(is_first)
    }

    /// A hash of the bytes of `item`, and of the part that the source itself puts it in.
    pub fn content(&self, item: u32) -> u64 {
        self.cache.manifest.contents[item as usize].wrapping_add(self.part(item).map_or(0, |part| part as u64 + 1))
    }

    /// The part that the source itself puts `item` in.
    pub fn part(&self, item: u32) -> Option<Part> {
        self.cache.manifest.parts[item as usize]
    }

    /// The name of the class of `item`; nothing without labels.
    pub fn class_of(&self, item: u32) -> Option<&str> {
        self.is_labelled().then(|| self.class_name(self.label(item)))
    }

    /// The name of a class.
    pub fn class_name(&self, label: u32) -> &str {
        &self.cache.manifest.classes[label as usize]
    }

    /// The name of a class without its turn, see [`super::rotation`]: what all turns of a character share.
    pub fn unturned_name(&self, label: u32) -> &str {
        let name = self.class_name(label);
        if self.rotations { unturned(name) } else { name }
    }

    /// The name of the class of `item` without its turn; empty without labels.
    pub fn unturned_class(&self, item: u32) -> &str {
        if self.is_labelled() { self.unturned_name(self.label(item)) } else { "" }
    }

    /// Whether the source has parts of its own, at least two of them.
    pub fn has_own_split(&self) -> bool {
        let mut parts = self.cache.manifest.parts.iter().flatten();
        let first = parts.next();
        parts.any(|part| Some(part) != first)
    }

    /// Whether the images are bright ink on black (glyphs and Omniglot), for which a mirrored image is another character.
    pub fn is_ink(&self) -> bool {
        matches!(self.kind, "glyphs" | "omniglot")
    }

    /// Whether `other` has the same images in the same order, be they decoded to another size.
    pub fn has_items_of(&self, other: &Dataset) -> bool {
        let (own, theirs) = (&self.cache.manifest, &other.cache.manifest);
        own.ids == theirs.ids && own.labels == theirs.labels && own.classes == theirs.classes
    }

    /// See [`super::fingerprint`].
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The fingerprint, and what makes pixels of those images: data of one key have the same pixels under the same numbers.
    pub fn pixels_key(&self) -> String {
        format!("{} {}", self.fingerprint, decoding(self.image_size, self.channels, self.rotations))
    }
}

/// What makes pixels of an image.
fn decoding(image_size: usize, channels: usize, rotations: bool) -> String {
    let turns = if rotations { "rotations" } else { "" };
    format!("{image_size} {channels} {DECODER_VERSION} {}{turns}", env!("CARGO_PKG_VERSION"))
}

fn check_plan(plan: &DataPlan) -> Result<()> {
    if plan.kind == DataKind::Vectors {
        return Ok(());
    }
    if !(1..=2048).contains(&plan.image_size) {
        return Err(Error::new(Code::InvalidOption, "the image size is out of range")
            .with_subject("imageSize")
            .with_values("1 to 2048 pixels", plan.image_size.to_string()));
    }
    if plan.channels != 1 && plan.channels != 3 {
        return Err(Error::new(Code::InvalidOption, "the number of channels is out of range")
            .with_subject("channels")
            .with_values("1 (grey) or 3 (RGB)", plan.channels.to_string()));
    }
    Ok(())
}
