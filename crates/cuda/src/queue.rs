//! Work that was asked for and is not started yet, and work that comes again and again.
//!
//! A step of training asks for some hundred kernels, and the driver takes longer to start a small one than the device to compute it.
//! So what is asked for is listed, and started when there are [`MOST`] or somebody waits. A list that has come before, the same
//! kernels with the same arguments at the same places, is recorded (by CUDA, as a graph), and from then on all of it is started at
//! once. Nothing else makes a step a recorded one: another batch size, a table of other numbers or a learning rate as an argument are
//! another list. That the places are the same from step to step is the work of [`pieces`](crate::pieces).

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::device::{Convolution, Kind, Pass, Product, Result};

/// Pieces of work in a list. A longer one would let the device wait for its end.
const MOST: usize = 64;
/// Fewer are not worth a recording.
const LEAST: usize = 6;
/// Lists that are remembered.
const REMEMBERED: usize = 128;

/// What a product or a convolution multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Numbers {
    /// Float32 as it is.
    Float32,
    /// Float32, of which the hardware may take TF32.
    Tf32,
    /// Bfloat16.
    Bfloat16,
}

impl Numbers {
    /// Those of buffers of this kind, on a device that allows TF32 or not.
    pub(crate) fn of(kind: Kind, tf32: bool) -> Self {
        match (kind, tf32) {
            (Kind::Float32, false) => Numbers::Float32,
            (Kind::Float32, true) => Numbers::Tf32,
            (Kind::Bfloat16, _) => Numbers::Bfloat16,
        }
    }

    /// How they lie in memory.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Numbers::Float32 | Numbers::Tf32 => Kind::Float32,
            Numbers::Bfloat16 => Kind::Bfloat16,
        }
    }
}

/// A piece of work; buffers are the addresses of their first values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Work {
    /// A kernel.
    Launch { kernel: &'static str, grid: [u32; 3], block: [u32; 2], arguments: Vec<Passed> },
    /// A product of matrices of these numbers; its result is of `kind`.
    Product { product: Product, numbers: Numbers, kind: Kind, a: u64, b: u64, c: u64 },
    /// A pass of a convolution, with the memory its algorithm works in.
    Convolve { pass: Pass, shape: Convolution, numbers: Numbers, from: [u64; 2], out: u64, workspace: u64 },
}

/// An argument as a kernel gets it: its first bytes, and the letter of its kind, see [`Argument::letter`](crate::device::Argument::letter).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Passed {
    pub(crate) bytes: [u8; 8],
    pub(crate) letter: u8,
}

impl Hash for Work {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Work::Launch { kernel, grid, block, arguments } => (kernel, grid, block, arguments).hash(state),
            Work::Product { product, numbers, kind, a, b, c } => {
                let Product { m, n, k, batch, a: from_a, b: from_b, c: from_c, beta } = product;
                (m, n, k, batch, from_a, from_b, from_c, beta.to_bits()).hash(state);
                (numbers, kind, a, b, c).hash(state);
            }
            Work::Convolve { pass, shape, numbers, from, out, workspace } => {
                (pass, shape, numbers, from, out, workspace).hash(state);
            }
        }
    }
}

/// What does the work.
pub(crate) trait Engine {
    /// A list that can be started at once.
    type Recording;

    /// Starts each piece.
    fn run(&mut self, works: &[Work]) -> Result<()>;
    /// Records a list, which is not run by that; `None` where it cannot be recorded.
    fn record(&mut self, works: &[Work]) -> Result<Option<Self::Recording>>;
    /// Starts a recorded list.
    fn replay(&mut self, recording: &Self::Recording) -> Result<()>;
}

/// How often work was started, see [`Queue::counts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pieces of work, each by itself.
    pub single: usize,
    /// Pieces of work, in recordings.
    pub recorded: usize,
    /// Recordings.
    pub recordings: usize,
}

/// The list, and those that were before.
pub(crate) struct Queue<E: Engine> {
    // Recordings go before what made them.
    /// By their hash.
    before: HashMap<u64, Before<E::Recording>>,
    engine: E,
    list: Vec<Work>,
    records: bool,
    lists: u64,
    counts: Counts,
}

struct Before<R> {
    works: Vec<Work>,
    recording: Recorded<R>,
    /// The list's number.
    last: u64,
}

enum Recorded<R> {
    NotYet,
    Cannot,
    As(R),
}

impl<E: Engine> Queue<E> {
    /// An empty one; `records` says whether lists are recorded.
    pub(crate) fn new(engine: E, records: bool) -> Self {
        Queue { before: HashMap::new(), engine, list: Vec::new(), records, lists: 0, counts: Counts::default() }
    }

    /// What does the work. What is started by it is not in the list's order.
    #[cfg(any(test, feature = "gpu"))]
    pub(crate) fn engine(&mut self) -> &mut E {
        &mut self.engine
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Adds to the list.
    ///
    /// # Errors
    /// Where the list is started and cannot be.
    pub(crate) fn push(&mut self, work: Work) -> Result<()> {
        self.list.push(work);
        if self.list.len() < MOST { Ok(()) } else { self.flush() }
    }

    /// Starts what is listed.
    ///
    /// # Errors
    /// Where something cannot be started; what is behind it is not.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let works = std::mem::take(&mut self.list);
        if works.is_empty() {
            return Ok(());
        }
        self.lists += 1;
        if !self.records || works.len() < LEAST {
            return self.run(&works);
        }
        let mut hasher = DefaultHasher::new();
        works.hash(&mut hasher);
        let key = hasher.finish();
        match self.before.get_mut(&key).filter(|before| before.works == works) {
            Some(before) => {
                before.last = self.lists;
                if let Recorded::NotYet = before.recording {
                    before.recording = self.engine.record(&works)?.map_or(Recorded::Cannot, Recorded::As);
                }
                let Recorded::As(recording) = &before.recording else { return self.run(&works) };
                self.counts.recorded += works.len();
                self.counts.recordings += 1;
                self.engine.replay(recording)
            }
            None => {
                self.run(&works)?;
                if self.before.len() >= REMEMBERED {
                    let oldest = self.before.iter().min_by_key(|(_, before)| before.last).map(|(&key, _)| key);
                    oldest.and_then(|oldest| self.before.remove(&oldest));
                }
                self.before.insert(key, Before { works, recording: Recorded::NotYet, last: self.lists });
                Ok(())
            }
        }
    }

    fn run(&mut self, works: &[Work]) -> Result<()> {
        self.counts.single += works.len();
        self.engine.run(works)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes what was started.
    #[derive(Default)]
    struct Notes {
        done: Vec<Work>,
        replays: usize,
        refuses: bool,
    }

    impl Engine for Notes {
        type Recording = Vec<Work>;

        fn run(&mut self, works: &[Work]) -> Result<()> {
            self.done.extend_from_slice(works);
            Ok(())
        }

        fn record(&mut self, works: &[Work]) -> Result<Option<Vec<Work>>> {
            Ok((!self.refuses).then(|| works.to_vec()))
        }

        fn replay(&mut self, recording: &Vec<Work>) -> Result<()> {
            self.replays += 1;
            self.run(recording)
        }
    }

    fn launch(number: u64) -> Work {
        let arguments = vec![Passed { bytes: number.to_ne_bytes(), letter: b'l' }];
        Work::Launch { kernel: "fill", grid: [1; 3], block: [32, 1], arguments }
    }

    fn ask(queue: &mut Queue<Notes>, numbers: impl IntoIterator<Item = u64>) -> usize {
        let before = queue.engine().replays;
        numbers.into_iter().for_each(|number| queue.push(launch(number)).unwrap());
        queue.flush().unwrap();
        queue.engine().replays - before
    }

    #[test]
    fn a_list_that_comes_again_is_recorded_and_everything_is_done_once_and_in_order() {
        let mut queue = Queue::new(Notes::default(), true);
        let found: Vec<usize> = (0..4).map(|_| ask(&mut queue, 0..100)).collect();
        // Two lists each time, of 64 and 36: run, recorded and started, started.
        assert_eq!(found, [0, 2, 2, 2]);
        let all: Vec<Work> = (0..4).flat_map(|_| (0..100).map(launch)).collect();
        assert_eq!(queue.engine().done, all);
        assert_eq!(queue.counts(), Counts { single: 100, recorded: 300, recordings: 6 });
    }

    #[test]
    fn another_argument_is_another_list_and_few_works_are_not_recorded() {
        let mut queue = Queue::new(Notes::default(), true);
        assert_eq!((0..9).map(|step| ask(&mut queue, step..step + 20)).sum::<usize>(), 0);
        assert_eq!(ask(&mut queue, 0..20), 1);
        assert_eq!((0..9).map(|_| ask(&mut queue, 0..LEAST as u64 - 1)).sum::<usize>(), 0);
    }

    #[test]
    fn what_comes_every_step_is_remembered_and_what_came_once_is_forgotten() {
        let mut queue = Queue::new(Notes::default(), true);
        for step in 0..2 * REMEMBERED as u64 {
            ask(&mut queue, 0..20);
            ask(&mut queue, 100 + step..120 + step);
        }
        assert_eq!(queue.engine().replays, 2 * REMEMBERED - 1);
        assert_eq!(queue.before.len(), REMEMBERED);
    }

    #[test]
    fn without_recording_and_where_it_cannot_be_each_work_is_started_by_itself() {
        for (records, refuses) in [(false, false), (true, true)] {
            let mut queue = Queue::new(Notes { refuses, ..Notes::default() }, records);
            assert_eq!((0..4).map(|_| ask(&mut queue, 0..20)).sum::<usize>(), 0);
            assert_eq!(queue.counts(), Counts { single: 80, recorded: 0, recordings: 0 });
        }
    }
}
