//! What the gate needs of the system. The model in `model/gate.rs` puts loom's in its place.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
pub(crate) use std::sync::{Condvar, Mutex};

use std::time::{Duration, Instant};

/// How long an idle worker spins before it parks: longer than the gap between kernels, shorter than anyone notices.
const SPIN: Duration = Duration::from_micros(50);

/// Memory that several threads use by a promise of their own.
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    /// Calls `read` with the address, for reading.
    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Calls `write` with the address, for writing.
    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Spins until `done` or for [`SPIN`]; returns whether it was `done`.
pub(crate) fn spin(done: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..64 {
            if done() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            return false;
        }
    }
}

/// Spins until `done`, and yields when it takes long: the awaited thread may need this very core.
pub(crate) fn wait_until(done: impl Fn() -> bool) {
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
