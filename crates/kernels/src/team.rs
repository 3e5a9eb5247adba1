//! A small team of threads for kernels: one region at a time, cut into numbered blocks.
//!
//! The caller and the workers meet at a `Gate`, which says when a worker may read the region. A worker that
//! wakes too late finds it closed and is not waited for, so a short region never costs a thread's wake-up.

mod gate;
mod sync;

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use self::gate::Gate;
use crate::Isa;

thread_local! {
    /// Whether this thread runs a block right now, of any team: nested use then runs in place.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A team of threads (OpenMP's word) that run the blocks of one kernel at a time.
///
/// Which thread runs which block is left open; kernels must not let their result depend on it.
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    isa: Isa,
}

/// A region as the workers see it, with the borrow's lifetime erased.
#[derive(Clone, Copy)]
struct Region {
    body: *const (dyn Fn(usize) + Sync),
    blocks: usize,
}

// SAFETY: what `body` points to is Sync, so any thread may call it; that it is there is the matter of `Shared::run`.
unsafe impl Send for Region {}

struct Shared {
    gate: Gate<Region>,
    /// Held by the thread whose region is running.
    owner: Mutex<()>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Team {
    /// A team of `threads` threads, the calling one included; 0 takes one for each processor core available.
    /// Uses the instruction set of [`Isa::chosen`].
    ///
    /// # Panics
    /// If the environment names no instruction set of this processor, or a thread cannot be started.
    pub fn new(threads: usize) -> Team {
        Team::with_isa(threads, Isa::chosen().unwrap_or_else(|message| panic!("{message}")))
    }

    /// As [`Team::new`] with a chosen instruction set, for tests and comparisons.
    ///
    /// # Panics
    /// If a thread cannot be started.
    pub fn with_isa(threads: usize, isa: Isa) -> Team {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, |count| count.get()),
            count => count,
        };
        let shared = Arc::new(Shared { gate: Gate::new(), owner: Mutex::new(()), panic: Mutex::new(None) });
        let start = |index: usize| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("rkd-kernel-{index}"));
            builder
                .spawn(move || shared.gate.work(|region| shared.take_blocks(region)))
                .expect("a thread of the kernel team could not be started")
        };
        let workers = (1..threads).map(start).collect();
        Team { shared, workers, isa }
    }

    /// The number of threads, the calling one included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// The instruction set the kernels run with.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Runs `body(0)`, ..., `body(blocks - 1)`, each once, on any thread and in any order, and returns when all are
    /// done. Called from inside a block, or while another thread's region runs, it does the blocks in the calling
    /// thread.
    ///
    /// # Panics
    /// If `body` panics: blocks not yet begun are left out, and the panic is raised again here. The team stays usable.
    pub fn for_each(&self, blocks: usize, body: impl Fn(usize) + Sync) {
        let serial = blocks <= 1 || self.workers.is_empty() || INSIDE.get();
        match if serial { None } else { self.shared.owner.try_lock().ok() } {
            Some(owner) => self.shared.run(owner, blocks, &body),
            None => (0..blocks).for_each(body),
        }
    }

    /// Cuts `data` into chunks of `chunk` elements (the last may be shorter) and runs `body(index, chunk)` on each.
    pub fn for_each_chunk<T: Send>(&self, data: &mut [T], chunk: usize, body: impl Fn(usize, &mut [T]) + Sync) {
        let length = data.len();
        let parts = Parts::new(data);
        self.for_each(length.div_ceil(chunk), |block| {
            let start = block * chunk;
            // SAFETY: block `block` has the elements from `block * chunk` up to those of the next, and runs once.
            body(block, unsafe { parts.slice(start, chunk.min(length - start)) });
        });
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.gate.stop();
        for worker in self.workers.drain(..) {
            // A worker catches every panic of a block, so this cannot fail; there is nothing to do if it did.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// The owner's side of a region.
    fn run(&self, owner: MutexGuard<'_, ()>, blocks: usize, body: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes, and workers use the region only inside the gate, which they have left when
        // `Gate::run` returns; until then this function has the borrow.
        let body: &'static (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(body) };
        // SAFETY: this thread holds `owner`, so no other runs a region, and `take_blocks` keeps panics to itself.
        unsafe { self.gate.run(Region { body, blocks }, |region| self.take_blocks(region)) };
        let panic = lock(&self.panic).take();
        drop(owner);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Runs blocks until none is left; a panic is kept for the owner and ends the region early.
    fn take_blocks(&self, region: Region) {
        INSIDE.set(true);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let block = self.gate.next_block();
                if block >= region.blocks {
                    break;
                }
                // SAFETY: this thread is the owner or a worker inside the gate, and the owner stays in `run`, which has
                // the borrow behind the pointer, until all have left.
                unsafe { (*region.body)(block) };
            }
        }));
        INSIDE.set(false);
        if let Err(payload) = outcome {
            self.gate.skip_to_block(region.blocks);
            lock(&self.panic).get_or_insert(payload);
        }
    }
}

/// Locks a mutex that protects no invariant of its own, poisoned or not.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mutable slice that blocks of one region share, each using its own parts.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a, T> {
    start: *mut T,
    length: usize,
    slice: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: a shared `Parts` gives a pointer, or a part whose user promises that no other in use overlaps it; so a place
// is one thread's at a time, and T may move between threads.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Parts { start: slice.as_mut_ptr(), length: slice.len(), slice: std::marker::PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// The same slice from element `first` on.
    pub(crate) fn skip(&self, first: usize) -> Self {
        Parts { start: self.pointer(first), length: self.length - first, ..*self }
    }

    /// The address of element `index`, or of the slice's end. Using it is up to the caller's own promise that blocks do
    /// not overlap.
    pub(crate) fn pointer(&self, index: usize) -> *mut T {
        assert!(index <= self.length, "a part lies outside its slice");
        self.start.wrapping_add(index)
    }

    /// The part of `length` elements from `start`.
    ///
    /// # Safety
    /// Nobody else uses any element of the part while it is in use.
    #[allow(clippy::mut_from_ref)] // The point of this type; the caller's promise makes it sound.
    pub(crate) unsafe fn slice(&self, start: usize, length: usize) -> &mut [T] {
        assert!(start <= self.length && length <= self.length - start, "a part lies outside its slice");
        // SAFETY: in bounds by the assertion, and in use nowhere else by the caller's promise; the slice it comes from
        // is mutably borrowed for 'a, which outlives the part.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
    use std::thread::{self, ThreadId};
    use std::time::{Duration, Instant};

    /// Waits for `done`; false after a minute, so that a thread that never comes is a failure and no endless test.
    fn comes_true(done: impl Fn() -> bool) -> bool {
        let start = Instant::now();
        while !done() {
            if start.elapsed() > Duration::from_secs(60) {
                return false;
            }
            thread::yield_now();
        }
        true
    }

    #[test]
    fn runs_each_block_once() {
        for threads in [1, 2, 3, 5] {
            let team = Team::new(threads);
            assert_eq!(team.threads(), threads);
            for blocks in [0, 1, 2, 7, if cfg!(miri) { 20 } else { 1000 }] {
                let counts: Vec<AtomicU32> = (0..blocks).map(|_| AtomicU32::new(0)).collect();
                team.for_each(blocks, |block| {
                    counts[block].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn wakes_parked_workers() {
        let team = Team::new(3);
        for _ in 0..5 {
            assert!(comes_true(|| team.shared.gate.sleepers() == 2), "idle workers do not park");
            // No block ends before all three have begun, so one thread cannot do all of them.
            let (begun, threads) = (AtomicUsize::new(0), Mutex::new(HashSet::<ThreadId>::new()));
            team.for_each(3, |_| {
                begun.fetch_add(1, Ordering::SeqCst);
                lock(&threads).insert(thread::current().id());
                assert!(comes_true(|| begun.load(Ordering::SeqCst) == 3), "a parked worker was not woken");
            });
            assert_eq!(lock(&threads).len(), 3);
        }
    }

    #[test]
    fn raises_a_panic_in_the_caller_and_stays_usable() {
        let team = Team::new(2);
        for _ in 0..if cfg!(miri) { 2 } else { 50 } {
            let outcome =
                catch_unwind(AssertUnwindSafe(|| team.for_each(64, |block| assert!(block != 40, "block 40"))));
            let payload = outcome.expect_err("the panic was swallowed");
            assert_eq!(payload.downcast_ref::<&str>(), Some(&"block 40"));
        }
        let mut data = vec![0; 100];
        team.for_each_chunk(&mut data, 7, |index, chunk| chunk.fill(index));
        assert!(data.iter().enumerate().all(|(i, &v)| v == i / 7));
    }

    #[test]
    fn nested_and_concurrent_use_is_safe() {
        let team = Team::new(2);
        let (sum, rounds) = (AtomicUsize::new(0), if cfg!(miri) { 3 } else { 200 });
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..rounds {
                        team.for_each(4, |_| {
                            team.for_each(3, |_| {
                                sum.fetch_add(1, Ordering::Relaxed);
                            })
                        });
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 3 * rounds * 4 * 3);
    }
}
