//! Decoding a source into its cache: list, decode on all cores, write the manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use super::{BrokenImage, DecodeProgress};
use crate::data::cache::{CacheWriter, Manifest};
use crate::data::decode::Decoder;
use crate::data::decode_threads;
use crate::data::glyphs::GlyphSpec;
use crate::data::source::idx::{IdxFiles, IdxPart};
use crate::data::source::walk::{Walk, read_failure};
use crate::data::source::zip::Zip;
use crate::data::source::{Listing, Reader, Root, Source, layout, tar};
use crate::data::split::Part;
use crate::error::{Code, Error, Result};
use crate::plan::DataPlan;

/// One image to be made: slot `i` of the cache is job `i`.
struct Job {
    id: String,
    class: String,
    part: Option<Part>,
    /// Which root, and where in it.
    at: (usize, usize),
}

/// What a listing gives beside the jobs.
#[derive(Default)]
struct Notes {
    broken: Vec<BrokenImage>,
    warnings: Vec<String>,
}

/// Decodes `source` into a new cache file at `path`.
pub fn build(source: &Source, plan: &DataPlan, path: &Path, progress: &mut dyn FnMut(DecodeProgress)) -> Result<()> {
    let slot_bytes = plan.image_size * plan.image_size * plan.channels;
    match &source.reader {
        Reader::Glyphs(spec) => {
            let jobs = glyph_jobs(spec);
            let mut factory = Factory::new(path, slot_bytes, jobs.len(), progress)?;
            let next = AtomicUsize::new(0);
            let fetch = |_: &mut ()| count_up(&next, jobs.len()).map(|slot| (slot, jobs[slot].at));
            let draw = |_: &mut (), (class, writer): (usize, usize), out: &mut [u8]| {
                spec.draw(class, writer, plan.image_size, plan.channels, out);
                Ok(())
            };
            factory.run(|| (), fetch, draw)?;
            factory.finish(jobs, Notes::default())
        }
        Reader::Idx(files) => build_idx(files, plan, Factory::new_later(path, slot_bytes, progress)),
        Reader::Files(roots) => build_files(source, roots, plan, Factory::new_later(path, slot_bytes, progress)),
    }
}

fn glyph_jobs(spec: &GlyphSpec) -> Vec<Job> {
    let images = (0..spec.classes).flat_map(|class| (0..spec.writers).map(move |writer| (class, writer)));
    images
        .map(|(class, writer)| {
            let name = format!("character{class:04}");
            Job { id: format!("{name}/writer{writer:04}"), class: name, part: None, at: (class, writer) }
        })
        .collect()
}

fn build_idx<'p>(files: &IdxFiles, plan: &DataPlan, start: impl FnOnce(usize) -> Result<Factory<'p>>) -> Result<()> {
    let parts = files.read()?;
    let jobs = idx_jobs(&parts);
    let mut factory = start(jobs.len())?;
    let next = AtomicUsize::new(0);
    let fetch = |_: &mut (Decoder, Vec<u8>)| count_up(&next, jobs.len()).map(|slot| (slot, jobs[slot].at));
    let copy = |(decoder, rgb): &mut (Decoder, Vec<u8>), (part, index): (usize, usize), out: &mut [u8]| {
        let IdxPart { pixels, height, width, .. } = &parts[part];
        let grey = &pixels[index * height * width..][..height * width];
        rgb.clear();
        rgb.extend(grey.iter().flat_map(|&value| std::iter::repeat_n(value, plan.channels)));
        decoder.resize(rgb, *width, *height, out)
    };
    factory.run(|| (Decoder::new(plan.image_size, plan.channels), Vec::new()), fetch, copy)?;
    let mut notes = Notes::default();
    if parts.len() == 2 {
        notes.warnings.push(
            "both parts of this source hold the same classes: with the source's own split, test classes are seen in training".into(),
        );
    }
    factory.finish(jobs, notes)
}

fn idx_jobs(parts: &[IdxPart]) -> Vec<Job> {
    let largest = parts.iter().flat_map(|part| &part.labels).max().copied().unwrap_or(0);
    let digits = largest.to_string().len();
    let mut jobs = Vec::new();
    for (p, part) in parts.iter().enumerate() {
        let name = if part.part == Part::Train { "train" } else { "t10k" };
        jobs.extend(part.labels.iter().enumerate().map(|(i, label)| Job {
            id: format!("{name}/{i:06}"),
            class: format!("{label:0digits$}"),
            part: Some(part.part),
            at: (p, i),
        }));
    }
    jobs.sort_by(|a, b| a.id.cmp(&b.id));
    jobs
}

/// A root ready to be read.
enum Open<'a> {
    Folder(&'a Walk),
    Zip(Zip),
    Tar(&'a Path),
}

fn build_files<'p>(
    source: &Source,
    roots: &[Root],
    plan: &DataPlan,
    start: impl FnOnce(usize) -> Result<Factory<'p>>,
) -> Result<()> {
    let mut open = Vec::new();
    let mut listings = Vec::new();
    for root in roots {
        let (reader, listing) = match root {
            Root::Folder(walk) => (Open::Folder(walk), None),
            Root::Zip(path) => Zip::open(path).map(|(zip, listing)| (Open::Zip(zip), Some(listing)))?,
            Root::Tar(path) => (Open::Tar(path), Some(tar::list(path)?)),
        };
        open.push(reader);
        listings.push(listing);
    }
    let listings: Vec<&Listing> = roots
        .iter()
        .zip(&listings)
        .map(|(root, listing)| match (root, listing) {
            (Root::Folder(walk), _) => &walk.listing,
            (_, listing) => listing.as_ref().expect("archives were listed above"),
        })
        .collect();
    let names: Vec<PathBuf> = roots.iter().map(root_path).collect();
    let (jobs, notes) = file_jobs(source.kind, &names, &listings)?;
    let mut factory = start(jobs.len())?;
    for (root, reader) in open.iter().enumerate() {
        decode_root(reader, root, &jobs, plan, source.kind == "omniglot", &mut factory)?;
    }
    factory.finish(jobs, notes)
}

fn root_path(root: &Root) -> PathBuf {
    match root {
        Root::Folder(walk) => walk.root.clone(),
        Root::Zip(path) | Root::Tar(path) => path.clone(),
    }
}

/// Puts the listings of all roots together. With several roots, ids begin with the root's name.
fn file_jobs(kind: &str, names: &[PathBuf], listings: &[&Listing]) -> Result<(Vec<Job>, Notes)> {
    let prefix = |root: usize| {
        let name = names[root].file_name().unwrap_or_default().to_string_lossy().into_owned();
        if names.len() == 1 || kind == "omniglot" { String::new() } else { format!("{root}-{name}/") }
    };
    let mut paths = Vec::new();
    let mut notes = Notes::default();
    let mut ignored = 0;
    for (root, listing) in listings.iter().enumerate() {
        paths.extend(listing.entries.iter().map(|entry| (&entry.path[..], (root, entry.index))));
        let path = |path: &str| format!("{}{path}", prefix(root));
        notes
            .broken
            .extend(listing.broken.iter().map(|b| BrokenImage { path: path(&b.path), reason: b.reason.clone() }));
        notes.warnings.extend(listing.warnings.iter().cloned());
        notes.warnings.extend(listing.empty.iter().map(|class| format!("the folder {} holds no image", path(class))));
        ignored += listing.ignored;
    }
    if paths.is_empty() {
        return Err(Error::new(Code::InvalidData, "the archive holds no images")
            .with_subject(names[0].display().to_string())
            .with_values("class/image.png, .jpg, .jpeg, .webp, .bmp, .gif or .tiff", format!("{ignored} other files"))
            .with_advice("put the images of each class into a folder of their own and pack that"));
    }
    if ignored > 0 {
        notes.warnings.push(format!(
            "{ignored} {} no image by name and left out",
            if ignored == 1 { "file is" } else { "files are" }
        ));
    }
    let annotations: Vec<_> = listings.iter().flat_map(|listing| listing.annotations.iter().cloned()).collect();
    let found = layout::layout(&paths.iter().map(|(path, _)| *path).collect::<Vec<_>>(), &annotations);
    notes.warnings.extend(found.warnings);
    let classes = found.classes.into_iter().zip(found.parts);
    let mut jobs: Vec<Job> = paths
        .into_iter()
        .zip(classes)
        .filter_map(|((path, at), (class, part))| {
            Some(Job { id: format!("{}{path}", prefix(at.0)), class: class?, part, at })
        })
        .collect();
    jobs.sort_by(|a, b| a.id.cmp(&b.id).then(a.at.cmp(&b.at)));
    Ok((jobs, notes))
}

/// What a decoding thread keeps.
struct FileWorker {
    decoder: Decoder,
    zip: Option<Zip>,
}

fn decode_root(
    open: &Open<'_>,
    root: usize,
    jobs: &[Job],
    plan: &DataPlan,
    invert: bool,
    factory: &mut Factory<'_>,
) -> Result<()> {
    // (index in the root, slot), in the root's order, which is the order a tar must be read in.
    let mut mine: Vec<(usize, usize)> =
        jobs.iter().enumerate().filter(|(_, job)| job.at.0 == root).map(|(slot, job)| (job.at.1, slot)).collect();
    mine.sort_unstable();
    let zip = if let Open::Zip(zip) = open { Some(zip) } else { None };
    let worker = || FileWorker { decoder: Decoder::new(plan.image_size, plan.channels), zip: zip.cloned() };
    let decode = |worker: &mut FileWorker, bytes: Result<Vec<u8>, String>, out: &mut [u8]| {
        worker.decoder.decode(&bytes?, out)?;
        if invert {
            out.iter_mut().for_each(|value| *value = 255 - *value);
        }
        Ok(())
    };
    let next = AtomicUsize::new(0);
    match open {
        Open::Folder(walk) => {
            let read = |_: &mut FileWorker| {
                let (index, slot) = mine[count_up(&next, mine.len())?];
                Some((slot, std::fs::read(&walk.files[index].0).map_err(|e| read_failure(&e))))
            };
            factory.run(worker, read, decode)
        }
        Open::Zip(_) => {
            let read = |worker: &mut FileWorker| {
                let (index, slot) = mine[count_up(&next, mine.len())?];
                Some((slot, worker.zip.as_mut().expect("a ZIP root").read(index)))
            };
            factory.run(worker, read, decode)
        }
        Open::Tar(path) => std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::sync_channel(2 * decode_threads());
            let receiver = Mutex::new(receiver);
            let mine = &mine;
            let feeder = scope.spawn(move || {
                let wanted: Vec<usize> = mine.iter().map(|(index, _)| *index).collect();
                tar::read(path, &wanted, |i, bytes| sender.send((mine[i].1, bytes)).is_ok())
            });
            let read = |_: &mut FileWorker| receiver.lock().expect("no panic while it is held").recv().ok();
            let decoded = factory.run(worker, read, decode);
            drop(receiver); // Else a feeder whose workers stopped early would wait for ever.
            decoded.and(feeder.join().expect("reading a tar does not panic"))
        }),
    }
}

fn count_up(next: &AtomicUsize, end: usize) -> Option<usize> {
    Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&i| i < end)
}

/// Runs jobs on all cores and writes their pixels.
struct Factory<'a> {
    writer: CacheWriter,
    slot_bytes: usize,
    failures: Vec<Option<String>>,
    done: usize,
    broken: usize,
    start: Instant,
    progress: &'a mut dyn FnMut(DecodeProgress),
}

impl<'a> Factory<'a> {
    fn new(path: &Path, slot_bytes: usize, jobs: usize, progress: &'a mut dyn FnMut(DecodeProgress)) -> Result<Self> {
        let writer = CacheWriter::new(path, slot_bytes, jobs)?;
        Ok(Factory {
            writer,
            slot_bytes,
            failures: vec![None; jobs],
            done: 0,
            broken: 0,
            start: Instant::now(),
            progress,
        })
    }

    /// [`Factory::new`], once the number of jobs is known.
    fn new_later(
        path: &Path,
        slot_bytes: usize,
        progress: &'a mut dyn FnMut(DecodeProgress),
    ) -> impl FnOnce(usize) -> Result<Self> {
        move |jobs| Factory::new(path, slot_bytes, jobs, progress)
    }

    /// On each thread: makes a state, then fetches (slot, input) and makes the slot's pixels of it until there is no more.
    fn run<S, T>(
        &mut self,
        state: impl Fn() -> S + Sync,
        fetch: impl Fn(&mut S) -> Option<(usize, T)> + Sync,
        make: impl Fn(&mut S, T, &mut [u8]) -> Result<(), String> + Sync,
    ) -> Result<()> {
        let (sender, receiver) = mpsc::channel::<Result<(usize, Option<String>)>>();
        let stop = AtomicBool::new(false);
        let (writer, slot_bytes) = (&self.writer, self.slot_bytes);
        let work = |sender: mpsc::Sender<_>| {
            let mut state_now = state();
            let mut pixels = vec![0; slot_bytes];
            while !stop.load(Ordering::Relaxed) {
                let Some((slot, input)) = fetch(&mut state_now) else { return };
                // A decoder that panics on a strange file must not take the run with it.
                let made =
                    catch_unwind(AssertUnwindSafe(|| make(&mut state_now, input, &mut pixels))).unwrap_or_else(|_| {
                        state_now = state();
                        Err("made the decoder fail".into())
                    });
                let result = match made {
                    Ok(()) => writer.write(slot, &pixels).map(|()| (slot, None)),
                    Err(reason) => Ok((slot, Some(reason))),
                };
                if sender.send(result).is_err() {
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..decode_threads() {
                let sender = sender.clone();
                scope.spawn(|| work(sender));
            }
            drop(sender);
            let mut reported = Instant::now();
            for result in receiver {
                let (slot, failure) = result.inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
                self.done += 1;
                self.broken += usize::from(failure.is_some());
                self.failures[slot] = failure;
                if reported.elapsed() > Duration::from_millis(100) {
                    reported = Instant::now();
                    let (done, total, broken, start) = (self.done, self.failures.len(), self.broken, self.start);
                    (self.progress)(progress_of(done, total, broken, start));
                }
            }
            Ok(())
        })
    }

    /// Checks the outcome, writes the manifest and puts the file in place.
    fn finish(self, jobs: Vec<Job>, mut notes: Notes) -> Result<()> {
        (self.progress)(progress_of(self.done, self.failures.len(), self.broken, self.start));
        let listed: BTreeSet<&str> = jobs.iter().map(|job| &job.class[..]).collect();
        let (mut usable, mut slots) = (Vec::new(), Vec::new());
        for (slot, (job, failure)) in jobs.iter().zip(self.failures).enumerate() {
            match failure {
                Some(reason) => notes.broken.push(BrokenImage { path: job.id.clone(), reason }),
                None => {
                    usable.push(job);
                    slots.push(slot as u32);
                }
            }
        }
        notes.broken.sort_by(|a, b| a.path.cmp(&b.path));
        refuse_if_mostly_broken(usable.len(), &notes.broken)?;
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        usable.iter().for_each(|job| *counts.entry(&job.class).or_default() += 1);
        warn_of_small_classes(&listed, &counts, &mut notes.warnings);
        let classes: Vec<String> = counts.keys().map(|class| class.to_string()).collect();
        let labels =
            usable.iter().map(|job| classes.binary_search(&job.class).expect("it was counted") as u32).collect();
        self.writer.finish(Manifest {
            labels,
            ids: usable.iter().map(|job| job.id.clone()).collect(),
            parts: usable.iter().map(|job| job.part).collect(),
            slots,
            classes,
            broken: notes.broken,
            warnings: notes.warnings,
            chunks: Vec::new(),
        })
    }
}

fn progress_of(done: usize, total: usize, broken: usize, start: Instant) -> DecodeProgress {
    let seconds = start.elapsed().as_secs_f64();
    DecodeProgress { done, total, broken, seconds, images_per_second: done as f64 / seconds.max(1e-9) }
}

fn refuse_if_mostly_broken(usable: usize, broken: &[BrokenImage]) -> Result<()> {
    if usable > 0 && broken.len() <= usable {
        return Ok(());
    }
    let first: Vec<String> = broken.iter().take(3).map(|b| format!("{} {}", b.path, b.reason)).collect();
    let message = format!("{} of {} images cannot be used: {}", broken.len(), usable + broken.len(), first.join("; "));
    Err(Error::new(Code::InvalidData, message).with_advice(
        "when more than half are broken, something is wrong with the whole; check how the images were made or copied",
    ))
}

fn warn_of_small_classes(listed: &BTreeSet<&str>, counts: &BTreeMap<&str, usize>, warnings: &mut Vec<String>) {
    let name_some = |names: &[&str]| {
        let rest = if names.len() > 3 { format!(" and {} more", names.len() - 3) } else { String::new() };
        format!("{}{rest}", names[..names.len().min(3)].join(", "))
    };
    let empty: Vec<&str> = listed.iter().copied().filter(|class| !counts.contains_key(class)).collect();
    if !empty.is_empty() {
        warnings.push(format!(
            "all images of these classes are broken, so the classes are left out: {}",
            name_some(&empty)
        ));
    }
    let single: Vec<&str> = counts.iter().filter(|(_, n)| **n == 1).map(|(class, _)| *class).collect();
    if !single.is_empty() {
        warnings
            .push(format!("these classes have one image only, so no image to match it with: {}", name_some(&single)));
    }
    if counts.len() == 1 {
        let class = counts.keys().next().expect("there is one");
        warnings.push(format!(
            "all images are of one class, {class}: that is enough to embed them, not to train or to evaluate"
        ));
    }
}
