//! A model of the team's gate: loom runs its very source through the orders in which threads can meet, with the
//! memory of the C11 model, and finds every data race, deadlock and wrong result among them.
//!
//! loom takes sequentially consistent operations for acquire and release; that a parked worker is woken hangs on more
//! than that, and is the matter of a test beside the team.

#![cfg(test)]

#[path = "../src/team/gate.rs"]
mod gate;

/// What `src/team/sync.rs` gives the gate, of loom's.
mod sync {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    pub(crate) use loom::sync::{Condvar, Mutex};

    /// Time does not pass in a model: a worker parks at once.
    pub(crate) fn spin(done: impl Fn() -> bool) -> bool {
        done()
    }

    pub(crate) fn wait_until(done: impl Fn() -> bool) {
        while !done() {
            loom::thread::yield_now();
        }
    }
}

use std::sync::Arc;

use gate::Gate;
use loom::cell::UnsafeCell;

/// Places that the blocks of a region add 1 to, without synchronisation of their own.
type Places = Arc<Vec<UnsafeCell<u32>>>;

/// A region adds `amount` to as many places as it has blocks.
#[derive(Clone, Copy)]
struct Region {
    amount: u32,
    blocks: usize,
}

fn take_blocks(gate: &Gate<Region>, places: &Places, region: Region) {
    loop {
        let block = gate.next_block();
        if block >= region.blocks {
            break;
        }
        // SAFETY: a block is one thread's, which is what the model is to find out: loom reports any other use.
        places[block].with_mut(|place| unsafe { *place += region.amount });
        if block + 1 == region.blocks {
            gate.skip_to_block(region.blocks);
        }
    }
}

/// An owner with `workers` workers runs a region for each of `blocks`, and after each reads what all of them wrote.
fn model(workers: usize, preemptions: usize, blocks: &'static [usize]) {
    let mut builder = loom::model::Builder::new();
    // All orders are more than can be gone through; few preemptions find nearly every mistake.
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        let most = blocks.iter().max().copied().unwrap_or(0);
        let (gate, places) = (Arc::new(Gate::new()), Places::new((0..most).map(|_| UnsafeCell::new(0)).collect()));
        let work = || {
            let (gate, places) = (Arc::clone(&gate), Arc::clone(&places));
            loom::thread::spawn(move || gate.work(|region| take_blocks(&gate, &places, region)))
        };
        let workers: Vec<_> = (0..workers).map(|_| work()).collect();
        let mut expected = vec![0; most];
        for (index, &blocks) in blocks.iter().enumerate() {
            let region = Region { amount: 1 << index, blocks };
            // SAFETY: this is the only thread that runs regions, and `take_blocks` panics in no order that is right.
            unsafe { gate.run(region, |region| take_blocks(&gate, &places, region)) };
            expected[..blocks].iter_mut().for_each(|expected| *expected += region.amount);
            // SAFETY: as for the blocks: loom reports a worker that still writes.
            let found: Vec<u32> = places.iter().map(|place| place.with(|place| unsafe { *place })).collect();
            assert_eq!(found, expected);
        }
        gate.stop();
        workers.into_iter().for_each(|worker| worker.join().expect("a worker panicked"));
        assert_eq!(gate.sleepers(), 0);
    });
}

#[test]
fn one_worker_and_two_jobs() {
    model(1, 3, &[2, 1]);
}

#[test]
fn two_workers_and_one_job() {
    model(2, 2, &[2]);
}
