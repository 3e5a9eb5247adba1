//! The gate between the owner of a region and the workers, without a lock where both are busy.
//!
//! The owner opens the gate, takes part in the region, closes the gate and waits for the workers that came in. Idle
//! workers spin for a little (the gap between two kernels of a training step) and then park.
//!
//! Invariants:
//! 1. The region is written only while the gate is closed and no worker is inside, by the one owner.
//! 2. A worker reads the region only between coming in through the open gate and leaving it.
//! 3. So no worker uses a region when [`Gate::run`] has returned.
//!
//! `model/gate.rs` includes this file with loom's atomics and runs through the orders in which threads can meet.

use super::sync::{AtomicBool, AtomicUsize, Condvar, Mutex, Ordering, UnsafeCell, spin, wait_until};

/// The gate's open bit; the bits below it count the workers inside.
const OPEN: usize = 1 << (usize::BITS - 1);

pub(crate) struct Gate<R> {
    region: UnsafeCell<Option<R>>,
    /// The next block to hand out.
    next: AtomicUsize,
    state: AtomicUsize,
    /// Counts the regions, so that a worker knows a new one from the one it did.
    epoch: AtomicUsize,
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
}

// SAFETY: `region` is the only field that is not already Sync. The module's invariants order its writes before and
// after all reads, and it is sent to the threads that read it.
unsafe impl<R: Send> Sync for Gate<R> {}

impl<R: Copy> Gate<R> {
    pub(crate) fn new() -> Self {
        Gate {
            region: UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            state: AtomicUsize::new(0),
            epoch: AtomicUsize::new(0),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
        }
    }

    /// Lets the workers in to `region`, does its own share by `work`, and returns when all that came in have left.
    ///
    /// # Safety
    /// No other thread is in `run`, and `work` does not unwind.
    pub(crate) unsafe fn run(&self, region: R, work: impl FnOnce(R)) {
        // SAFETY: this thread is the one owner, and the last `run` closed the gate and saw the last worker leave
        // (invariant 1).
        self.region.with_mut(|place| unsafe { *place = Some(region) });
        self.next.store(0, Ordering::Relaxed);
        self.state.store(OPEN, Ordering::SeqCst);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            self.wake_all();
        }
        work(region);
        self.state.fetch_and(!OPEN, Ordering::AcqRel);
        wait_until(|| self.state.load(Ordering::Acquire) == 0);
    }

    /// A worker's life: does its share of every region it comes in time for, until [`Gate::stop`].
    pub(crate) fn work(&self, work: impl Fn(R)) {
        let mut seen = 0;
        loop {
            seen = self.next_epoch(seen);
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let enter = |state: usize| (state & OPEN != 0).then_some(state + 1);
            if self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).is_ok() {
                // SAFETY: this thread came in through the open gate and has not left (invariant 2).
                if let Some(region) = self.region.with(|place| unsafe { *place }) {
                    work(region);
                }
                self.state.fetch_sub(1, Ordering::Release);
            }
        }
    }

    /// Ends all workers.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.wake_all();
    }

    /// Hands out the next block of the region.
    pub(crate) fn next_block(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Leaves out the blocks before `block`.
    pub(crate) fn skip_to_block(&self, block: usize) {
        self.next.store(block, Ordering::Relaxed);
    }

    /// Workers that are parked.
    #[cfg(test)]
    pub(crate) fn sleepers(&self) -> usize {
        self.sleepers.load(Ordering::SeqCst)
    }

    /// Waits for an epoch other than `seen`: spins, then parks.
    fn next_epoch(&self, seen: usize) -> usize {
        let changed = || self.epoch.load(Ordering::SeqCst) != seen;
        if !spin(changed) {
            // The mutex protects nothing but the wait, so poison says nothing.
            let mut guard = self.sleep.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            while !changed() {
                guard = self.wake.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner());
            }
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
        self.epoch.load(Ordering::SeqCst)
    }

    fn wake_all(&self) {
        // A worker that has found no new epoch holds the lock until it waits, and so is woken.
        drop(self.sleep.lock());
        self.wake.notify_all();
    }
}
