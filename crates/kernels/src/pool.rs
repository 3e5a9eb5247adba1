//! A small thread pool for kernels: one job at a time, cut into numbered blocks.
//!
//! The caller opens the *gate*, takes part in the job, closes the gate and waits for the workers that came in; a worker
//! that wakes too late finds the gate closed and is not waited for, so a short job never costs a thread's wake-up.
//! Idle workers spin for about 50 microseconds (the gap between two kernels of a training step) and then park.
//!
//! Invariants:
//! 1. The job is written only while the gate is closed and no worker is inside, by the holder of `owner`.
//! 2. A worker reads the job only between coming in through the open gate and leaving it.
//! 3. So the borrow behind the job's pointer outlives every use of it: `for_each` returns after the last one left.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Isa;

/// How long an idle worker spins before it parks: longer than the gap between kernels, shorter than anyone notices.
const SPIN: Duration = Duration::from_micros(50);
/// The gate's open bit; the bits below it count the workers inside.
const OPEN: usize = 1 << (usize::BITS - 1);

thread_local! {
    /// Whether this thread runs a block right now, of any pool: nested use then runs in place.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A pool of threads that run the blocks of one kernel at a time.
///
/// Which thread runs which block is left open; kernels must not let their result depend on it.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    isa: Isa,
}

/// A job as the workers see it, with the borrow's lifetime erased (module head, invariant 3).
#[derive(Clone, Copy)]
struct Job {
    body: *const (dyn Fn(usize) + Sync),
    blocks: usize,
}

struct Shared {
    job: UnsafeCell<Option<Job>>,
    /// The next block to hand out.
    next: AtomicUsize,
    gate: AtomicUsize,
    /// Counts the jobs, so that a worker knows a new one from the one it did.
    epoch: AtomicUsize,
    /// Held by the thread whose job is running.
    owner: Mutex<()>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
}

// SAFETY: `job` is the only field that is not already Send and Sync; the invariants in the module head order every
// access to it, and `body` is Sync.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Pool {
    /// A pool of `threads` threads, the calling one included; 0 takes one for each processor core available.
    /// Uses the instruction set of [`Isa::chosen`].
    ///
    /// # Panics
    /// If the environment names no instruction set of this processor, or a thread cannot be started.
    pub fn new(threads: usize) -> Pool {
        Pool::with_isa(threads, Isa::chosen().unwrap_or_else(|message| panic!("{message}")))
    }

    /// As [`Pool::new`] with a chosen instruction set, for tests and comparisons.
    ///
    /// # Panics
    /// If a thread cannot be started.
    pub fn with_isa(threads: usize, isa: Isa) -> Pool {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, |count| count.get()),
            count => count,
        };
        let shared = Arc::new(Shared::new());
        let start = |index: usize| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("rkd-kernel-{index}"));
            builder.spawn(move || shared.work()).expect("a thread of the kernel pool could not be started")
        };
        let workers = (1..threads).map(start).collect();
        Pool { shared, workers, isa }
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
    /// done. Called from inside a block, or while another thread's job runs, it does the blocks in the calling thread.
    ///
    /// # Panics
    /// If `body` panics: blocks not yet begun are left out, and the panic is raised again here. The pool stays usable.
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
            // SAFETY: chunks of different blocks do not overlap, and each block runs once.
            body(block, unsafe { parts.slice(start, chunk.min(length - start)) });
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        self.shared.wake_all();
        for worker in self.workers.drain(..) {
            // A worker catches every panic of a block, so this cannot fail; there is nothing to do if it did.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn new() -> Shared {
        Shared {
            job: UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            gate: AtomicUsize::new(0),
            epoch: AtomicUsize::new(0),
            owner: Mutex::new(()),
            panic: Mutex::new(None),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
        }
    }

    /// The owner's side of a job.
    fn run(&self, owner: MutexGuard<'_, ()>, blocks: usize, body: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes, and this function returns after the last use (module head, invariant 3).
        let body: &'static (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(body) };
        let job = Job { body, blocks };
        // SAFETY: this thread holds `owner`, and the gate is closed with nobody inside (invariant 1).
        unsafe { *self.job.get() = Some(job) };
        self.next.store(0, Ordering::Relaxed);
        self.gate.store(OPEN, Ordering::SeqCst);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            self.wake_all();
        }
        self.take_blocks(job);
        self.gate.fetch_and(!OPEN, Ordering::AcqRel);
        wait_until(|| self.gate.load(Ordering::Acquire) == 0);
        let panic = lock(&self.panic).take();
        drop(owner);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// A worker's life.
    fn work(&self) {
        let mut seen = 0;
        loop {
            seen = self.next_epoch(seen);
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let enter = |gate: usize| (gate & OPEN != 0).then_some(gate + 1);
            if self.gate.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).is_ok() {
                // SAFETY: this thread came in through the open gate and has not left (invariant 2).
                if let Some(job) = unsafe { *self.job.get() } {
                    self.take_blocks(job);
                }
                self.gate.fetch_sub(1, Ordering::Release);
            }
        }
    }

    /// Waits for an epoch other than `seen`: spins, then parks.
    fn next_epoch(&self, seen: usize) -> usize {
        let start = Instant::now();
        loop {
            for _ in 0..64 {
                let epoch = self.epoch.load(Ordering::SeqCst);
                if epoch != seen {
                    return epoch;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() > SPIN {
                break;
            }
        }
        let mut guard = lock(&self.sleep);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while self.epoch.load(Ordering::SeqCst) == seen {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        self.epoch.load(Ordering::SeqCst)
    }

    fn wake_all(&self) {
        drop(lock(&self.sleep));
        self.wake.notify_all();
    }

    /// Runs blocks until none is left; a panic is kept for the owner and ends the job early.
    fn take_blocks(&self, job: Job) {
        INSIDE.set(true);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let block = self.next.fetch_add(1, Ordering::Relaxed);
                if block >= job.blocks {
                    break;
                }
                // SAFETY: the job's owner waits in `run` until this thread is done with it (invariant 3).
                unsafe { (*job.body)(block) };
            }
        }));
        INSIDE.set(false);
        if let Err(payload) = outcome {
            self.next.store(job.blocks, Ordering::Relaxed);
            lock(&self.panic).get_or_insert(payload);
        }
    }
}

/// Locks a mutex that protects no invariant of its own, poisoned or not.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Spins, and yields when it takes long: the awaited thread may need this very core.
fn wait_until(done: impl Fn() -> bool) {
    let mut rounds = 0_u32;
    while !done() {
        rounds += 1;
        if rounds > 4096 {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

/// A mutable slice that blocks of one job share, each using its own parts.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a, T> {
    start: *mut T,
    length: usize,
    slice: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: handing out parts is unsafe, and their users promise that they do not overlap; T may move between threads.
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

    /// The address of element `index`, or of the slice's end. Using it is up to the caller's own promise that blocks do not overlap.
    pub(crate) fn pointer(&self, index: usize) -> *mut T {
        assert!(index <= self.length, "a part lies outside its slice");
        self.start.wrapping_add(index)
    }

    /// The part of `length` elements from `start`.
    ///
    /// # Safety
    /// No two parts in use at the same time overlap.
    #[allow(clippy::mut_from_ref)] // The point of this type; the caller's promise makes it sound.
    pub(crate) unsafe fn slice(&self, start: usize, length: usize) -> &mut [T] {
        assert!(start <= self.length && length <= self.length - start, "a part lies outside its slice");
        // SAFETY: in bounds by the assertion, unique by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn runs_each_block_once() {
        for threads in [1, 2, 3, 5] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads);
            for blocks in [0, 1, 2, 7, 1000] {
                let counts: Vec<AtomicU32> = (0..blocks).map(|_| AtomicU32::new(0)).collect();
                pool.for_each(blocks, |block| {
                    counts[block].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn wakes_parked_workers() {
        let pool = Pool::new(3);
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(1));
            let sum = AtomicUsize::new(0);
            pool.for_each(10, |block| {
                sum.fetch_add(block, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 45);
        }
    }

    #[test]
    fn raises_a_panic_in_the_caller_and_stays_usable() {
        let pool = Pool::new(2);
        for _ in 0..50 {
            let outcome =
                catch_unwind(AssertUnwindSafe(|| pool.for_each(64, |block| assert!(block != 40, "block 40"))));
            let payload = outcome.expect_err("the panic was swallowed");
            assert_eq!(payload.downcast_ref::<&str>(), Some(&"block 40"));
        }
        let mut data = vec![0; 100];
        pool.for_each_chunk(&mut data, 7, |index, chunk| chunk.fill(index));
        assert!(data.iter().enumerate().all(|(i, &v)| v == i / 7));
    }

    #[test]
    fn nested_and_concurrent_use_is_safe() {
        let pool = Pool::new(2);
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.for_each(4, |_| {
                            pool.for_each(3, |_| {
                                sum.fetch_add(1, Ordering::Relaxed);
                            })
                        });
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 3 * 200 * 4 * 3);
    }
}
