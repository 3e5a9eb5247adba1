//! Training batches, made ahead of training on threads of their own.
//!
//! Each worker takes the number of the next batch, makes the whole batch, and puts it down under that number; `next` hands
//! batches out in the order of their numbers. A number is only given out when it is less than `ahead` beyond the batch
//! that training is at, which bounds memory. What a batch is, down to the last bit, follows from (seed, epoch, number in
//! the epoch), so neither the number of workers nor a start in the middle changes it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::augment::{augment_view, check_augment};
use super::batches::Batch;
use super::dataset::Dataset;
use super::plan::{AugmentSpec, InputKind};
use super::sampler::BatchSampler;
use super::statistics::Normalization;
use crate::error::{Code, Error, Result};
use crate::random::Random;

/// A place in a run: the batch that comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Batch of the epoch, from 0.
    pub batch: u64,
}

/// How a loader works.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// The run's seed.
    pub seed: u64,
    /// Threads, at least 1. One makes hundreds of batches of small images a second.
    pub workers: usize,
    /// Batches that may be ready or in the making, at least 1.
    pub ahead: usize,
    /// The first batch.
    pub start: Position,
    /// The rows of each batch whose images are read, where others read the rest; `None`: all.
    pub rows: Option<Range<usize>>,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        LoaderOptions { seed: 0, workers: 1, ahead: 4, start: Position::default(), rows: None }
    }
}

/// An endless sequence of training batches; see the module's text. Dropping it stops and joins its threads.
pub struct Loader {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    delivered: u64,
    waited: Duration,
}

/// What a network sees of the images: a size and channels, and a normalisation.
#[derive(Clone, Debug)]
pub struct View {
    /// The decoded images.
    pub dataset: Arc<Dataset>,
    /// How their pixels are normalised.
    pub normalization: Normalization,
}

impl View {
    /// Whether both show the same pixels.
    pub fn is_same(&self, other: &View) -> bool {
        Arc::ptr_eq(&self.dataset, &other.dataset) && self.normalization == other.normalization
    }

    /// Numbers of one image.
    fn image_length(&self) -> usize {
        self.dataset.image_size() * self.dataset.image_size() * self.dataset.channels()
    }

    /// Writes `item`, changed as `spec` says; its pixels are those of an image of the side `side`. Gives whether it was
    /// mirrored.
    fn draw(&self, item: u32, spec: &AugmentSpec, side: usize, mut random: Random, out: &mut [f32]) -> bool {
        if self.dataset.input_kind() == InputKind::Vectors {
            self.normalization.apply_to(&self.dataset, item, out);
            return false;
        }
        let (h, c) = (self.dataset.image_size(), self.dataset.channels());
        let ratio = h as f64 / side as f64;
        augment_view(&self.dataset.pixels(item), [h, h, c], ratio, spec, &self.normalization, &mut random, out)
    }
}

/// What all threads see.
struct Shared {
    student: View,
    /// What teachers see where it is not the student's.
    teachers: Vec<View>,
    sampler: BatchSampler,
    augment: AugmentSpec,
    options: LoaderOptions,
    state: Mutex<State>,
    /// Signalled when a batch is ready or a worker failed.
    ready: Condvar,
    /// Signalled when there is room for another batch, or it is time to stop.
    room: Condvar,
}

/// The items of each batch of an epoch.
type Epoch = Arc<Vec<Vec<u32>>>;

struct State {
    /// Batches counted from the start position: the next to be made, and the one `next` waits for.
    to_make: u64,
    to_deliver: u64,
    ready: BTreeMap<u64, Batch>,
    /// Batches handed back, whose memory is used again.
    spare: Vec<Batch>,
    /// The composition of the epoch that was asked for last.
    epoch: Option<(u64, Epoch)>,
    stop: bool,
    failed: bool,
}

impl Loader {
    /// Starts making batches of `sampler`: the student's view of the images, and each of those that teachers have of the same
    /// items where theirs is another one.
    ///
    /// # Errors
    /// When an augmentation is out of range, or the system gives no thread.
    pub fn new(
        student: View,
        teachers: Vec<View>,
        sampler: BatchSampler,
        augment: AugmentSpec,
        options: LoaderOptions,
    ) -> Result<Loader> {
        check_augment(&augment, student.dataset.image_size())?;
        let workers = options.workers;
        if workers == 0 || options.ahead == 0 {
            return Err(Error::new(Code::InvalidOption, "the loader needs at least one worker and one batch ahead")
                .with_subject("workers"));
        }
        let state = State {
            to_make: 0,
            to_deliver: 0,
            ready: BTreeMap::new(),
            spare: Vec::new(),
            epoch: None,
            stop: false,
            failed: false,
        };
        let (state, ready, room) = (Mutex::new(state), Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { student, teachers, sampler, augment, options, state, ready, room });
        let mut loader = Loader { shared, workers: Vec::new(), delivered: 0, waited: Duration::ZERO };
        for i in 0..workers {
            let shared = Arc::clone(&loader.shared);
            let thread = std::thread::Builder::new().name(format!("rkd-loader-{i}"));
            let worker = thread.spawn(move || shared.work()).map_err(|e| {
                Error::new(Code::Io, format!("a loader thread could not be started: {e}"))
                    .with_advice("raise the limit on threads of this user")
                    .with_source(e)
            })?;
            loader.workers.push(worker);
        }
        Ok(loader)
    }

    /// The next batch; waits until it is made.
    ///
    /// # Errors
    /// [`Code::Internal`] when a worker panicked.
    #[allow(clippy::should_implement_trait)] // It never ends and may fail: no iterator.
    pub fn next(&mut self) -> Result<Batch> {
        let start = Instant::now();
        let mut state = self.shared.lock();
        let mut batch = loop {
            if let Some(batch) = state.ready.remove(&self.delivered) {
                break batch;
            }
            if state.failed {
                return Err(Error::new(Code::Internal, "a loader thread failed")
                    .with_advice("please report it with the message above"));
            }
            state = self.shared.ready.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        };
        self.delivered += 1;
        state.to_deliver = self.delivered;
        drop(state);
        self.shared.room.notify_one();
        batch.waited = start.elapsed();
        self.waited += batch.waited;
        Ok(batch)
    }

    /// Hands a batch back, so that its memory is used again.
    pub fn recycle(&self, batch: Batch) {
        let mut state = self.shared.lock();
        if state.spare.len() < self.shared.options.ahead + 1 {
            state.spare.push(batch);
        }
    }

    /// How long `next` has waited in all.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// The place of the batch that `next` gives next.
    pub fn position(&self) -> Position {
        self.shared.position(self.delivered)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.room.notify_all();
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs while the lock is held.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The place of batch `number`, counted from the start position.
    fn position(&self, number: u64) -> Position {
        let start = self.options.start;
        let batches = self.sampler.batches();
        let batch = start.batch + number;
        Position { epoch: start.epoch + batch / batches, batch: batch % batches }
    }

    fn work(&self) {
        let made = catch_unwind(AssertUnwindSafe(|| {
            while let Some((number, position, items, mut batch)) = self.take() {
                self.fill(position, &items[position.batch as usize], &mut batch);
                self.lock().ready.insert(number, batch);
                self.ready.notify_all();
            }
        }));
        if made.is_err() {
            self.lock().failed = true;
            self.ready.notify_all();
        }
    }

    /// The next batch to make: its number and place, its epoch's composition, and memory for it. `None`: stop.
    fn take(&self) -> Option<(u64, Position, Epoch, Batch)> {
        let mut state = self.lock();
        while !state.stop && state.to_make >= state.to_deliver + self.options.ahead as u64 {
            state = self.room.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        if state.stop {
            return None;
        }
        let number = state.to_make;
        state.to_make += 1;
        let position = self.position(number);
        if state.epoch.as_ref().is_none_or(|(epoch, _)| *epoch != position.epoch) {
            state.epoch = Some((position.epoch, Arc::new(self.sampler.epoch(position.epoch))));
        }
        let items = Arc::clone(&state.epoch.as_ref().expect("set above").1);
        Some((number, position, items, state.spare.pop().unwrap_or_default()))
    }

    fn fill(&self, position: Position, items: &[u32], batch: &mut Batch) {
        let View { dataset, .. } = &self.student;
        (batch.epoch, batch.index) = (position.epoch, position.batch);
        batch.items.clear();
        batch.items.extend_from_slice(items);
        batch.labels.clear();
        batch.labels.extend(items.iter().map(|&item| dataset.label(item)));
        batch.mirrored.clear();
        batch.rows = self.options.rows.clone().unwrap_or(0..items.len());
        let (first, side) = (batch.rows.start, dataset.image_size());
        // Keyed by the place in the epoch, not by the item: an image shown twice in an epoch is changed twice.
        let random = |i: usize| {
            let place = position.batch * items.len() as u64 + (first + i) as u64;
            Random::keyed(self.options.seed, position.epoch, place, "augment")
        };
        let items = &items[batch.rows.clone()];
        let pixels = self.student.image_length();
        batch.images.resize(items.len() * pixels, 0.0);
        for (i, (&item, out)) in items.iter().zip(batch.images.chunks_exact_mut(pixels)).enumerate() {
            batch.mirrored.push(self.student.draw(item, &self.augment, side, random(i), out));
        }
        batch.teacher_images.resize(self.teachers.len(), Vec::new());
        for (view, images) in self.teachers.iter().zip(&mut batch.teacher_images) {
            let pixels = view.image_length();
            images.resize(items.len() * pixels, 0.0);
            for (i, (&item, out)) in items.iter().zip(images.chunks_exact_mut(pixels)).enumerate() {
                view.draw(item, &self.augment, side, random(i), out);
            }
        }
    }
}
