//! The threads that make a cache's pixels, and the verdict on what they made.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::cache::{CacheWriter, Manifest};
use super::part::{BrokenImage, Part};
use super::rotation::turn;
use super::stop::{Stop, go_on};
use super::threads::decode_threads;
use crate::error::{Code, Error, Result};

/// How far decoding is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DecodeProgress {
    /// Images done, broken ones among them.
    pub done: usize,
    /// Images in all.
    pub total: usize,
    /// Broken images so far.
    pub broken: usize,
    /// Seconds since decoding began.
    pub seconds: f64,
    /// Images a second since then.
    pub images_per_second: f64,
}

/// One image to be made: slot `i` of the cache is sample `i`.
#[derive(Clone)]
pub struct Sample {
    pub id: String,
    /// The path, where a manifest's id stands in place of it.
    pub path: Option<String>,
    /// The id that a manifest or a list beside the images gives it.
    pub given: Option<String>,
    /// Empty without labels.
    pub class: String,
    pub part: Option<Part>,
    /// Which root, and where in it.
    pub at: (usize, usize),
    /// Turned by so many times 90 degrees.
    pub quarters: usize,
}

/// What a listing gives beside the samples.
#[derive(Default)]
pub struct Diagnostics {
    pub broken: Vec<BrokenImage>,
    pub warnings: Vec<String>,
}

/// The next number below `end`, each handed out once.
pub fn count_up(next: &AtomicUsize, end: usize) -> Option<usize> {
    Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&i| i < end)
}

/// Makes the samples on all cores and writes their pixels.
pub struct Factory<'a> {
    writer: CacheWriter,
    /// Side and channels of an image.
    shape: [usize; 2],
    quarters: Vec<usize>,
    /// What each image is, see [`super::fingerprint`].
    contents: Vec<u64>,
    failures: Vec<Option<String>>,
    done: usize,
    broken: usize,
    start: Instant,
    stop: Stop<'a>,
    progress: &'a mut dyn FnMut(DecodeProgress),
}

impl<'a> Factory<'a> {
    pub fn new(
        path: &Path,
        [side, channels]: [usize; 2],
        samples: &[Sample],
        stop: Stop<'a>,
        progress: &'a mut dyn FnMut(DecodeProgress),
    ) -> Result<Self> {
        Ok(Factory {
            writer: CacheWriter::new(path, side * side * channels, samples.len())?,
            shape: [side, channels],
            quarters: samples.iter().map(|sample| sample.quarters).collect(),
            contents: vec![0; samples.len()],
            failures: vec![None; samples.len()],
            done: 0,
            broken: 0,
            start: Instant::now(),
            stop,
            progress,
        })
    }

    /// On each thread: makes a state, then fetches (slot, input) and makes the slot's pixels of it until there is no
    /// more. `make` returns a hash of the image's bytes.
    pub fn run<S, T>(
        &mut self,
        state: impl Fn() -> S + Sync,
        fetch: impl Fn(&mut S) -> Option<(usize, T)> + Sync,
        make: impl Fn(&mut S, T, &mut [u8]) -> Result<u64, String> + Sync,
    ) -> Result<()> {
        let (sender, receiver) = mpsc::channel::<Result<(usize, Result<u64, String>)>>();
        let stop = AtomicBool::new(false);
        let (writer, quarters, [side, channels]) = (&self.writer, &self.quarters, self.shape);
        let work = |sender: mpsc::Sender<_>| {
            let mut state_now = state();
            let (mut pixels, mut spare) = (vec![0; side * side * channels], Vec::new());
            while !stop.load(Ordering::Relaxed) {
                let Some((slot, input)) = fetch(&mut state_now) else { return };
                // A decoder that panics on a strange file must not take the run with it.
                let made =
                    catch_unwind(AssertUnwindSafe(|| make(&mut state_now, input, &mut pixels))).unwrap_or_else(|_| {
                        state_now = state();
                        Err("made the decoder fail".into())
                    });
                if made.is_ok() {
                    turn(&mut pixels, side, channels, quarters[slot], &mut spare);
                }
                let result = match made {
                    Ok(content) => writer.write(slot, &pixels).map(|()| (slot, Ok(content))),
                    Err(reason) => Ok((slot, Err(reason))),
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
                let (slot, made) = result.inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
                self.done += 1;
                match made {
                    Ok(content) => self.contents[slot] = content,
                    Err(reason) => {
                        self.broken += 1;
                        self.failures[slot] = Some(reason);
                    }
                }
                if reported.elapsed() > Duration::from_millis(100) {
                    reported = Instant::now();
                    let (done, total, broken, start) = (self.done, self.failures.len(), self.broken, self.start);
                    (self.progress)(progress_of(done, total, broken, start));
                    go_on(self.stop).inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
                }
            }
            Ok(())
        })
    }

    /// Checks the outcome, writes the manifest and puts the file in place. What is asked of a data set is not asked of the images
    /// of a shard, which do not make one.
    pub fn finish(
        self,
        name: Option<&str>,
        samples: Vec<Sample>,
        mut diagnostics: Diagnostics,
        is_whole: bool,
    ) -> Result<()> {
        (self.progress)(progress_of(self.done, self.failures.len(), self.broken, self.start));
        go_on(self.stop)?;
        let listed: BTreeSet<&str> = samples.iter().map(|sample| &sample.class[..]).collect();
        let (mut usable, mut slots) = (Vec::new(), Vec::new());
        for (slot, (sample, failure)) in samples.iter().zip(self.failures).enumerate() {
            match failure {
                Some(reason) => diagnostics.broken.push(BrokenImage { path: sample.id.clone(), reason }),
                None => {
                    usable.push(sample);
                    slots.push(slot as u32);
                }
            }
        }
        diagnostics.broken.sort_by(|a, b| a.path.cmp(&b.path));
        if is_whole {
            refuse_if_mostly_broken(usable.len(), &diagnostics.broken)?;
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        usable.iter().for_each(|sample| *counts.entry(&sample.class).or_default() += 1);
        if is_whole && !counts.contains_key("") {
            warn_of_small_classes(&listed, &counts, &mut diagnostics.warnings);
        }
        let classes: Vec<String> = counts.keys().map(|class| class.to_string()).filter(|it| !it.is_empty()).collect();
        let label = |sample: &&Sample| classes.binary_search(&sample.class).unwrap_or_default() as u32;
        let labels = usable.iter().map(label).collect();
        self.writer.finish(Manifest {
            name: name.map(str::to_string),
            labels,
            ids: usable.iter().map(|sample| sample.id.clone()).collect(),
            paths: unless_none(&usable, |sample| sample.path.as_deref()),
            given: unless_none(&usable, |sample| sample.given.as_deref()),
            parts: usable.iter().map(|sample| sample.part).collect(),
            contents: slots.iter().map(|&slot| self.contents[slot as usize]).collect(),
            slots,
            classes,
            broken: diagnostics.broken,
            warnings: diagnostics.warnings,
            chunks: Vec::new(),
        })
    }
}

/// The names that `name` gives the samples; for those without one their id, and nothing where all are without.
fn unless_none(samples: &[&Sample], name: fn(&Sample) -> Option<&str>) -> Vec<String> {
    if samples.iter().all(|sample| name(sample).is_none()) {
        return Vec::new();
    }
    samples.iter().map(|sample| name(sample).unwrap_or(&sample.id).to_string()).collect()
}

fn progress_of(done: usize, total: usize, broken: usize, start: Instant) -> DecodeProgress {
    let seconds = start.elapsed().as_secs_f64();
    DecodeProgress { done, total, broken, seconds, images_per_second: done as f64 / seconds.max(1e-9) }
}

/// Refuses a data set of which more images are broken than usable.
///
/// # Errors
/// `ERR_INVALID_DATA`, which names the first.
pub fn refuse_if_mostly_broken(usable: usize, broken: &[BrokenImage]) -> Result<()> {
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
