//! Working memory that is reused between calls.
//!
//! A fresh 4 KiB page costs about 2.4 microseconds, so a fresh buffer can cost more than the kernel that fills it.
//! Each thread keeps the buffers it has used; nested use takes further buffers. Contents are whatever was there.

use std::cell::RefCell;

use crate::memory::Memory;

/// Floats are handed out from addresses of this many bytes' alignment: a cache line and the widest vector.
const ALIGNMENT: usize = 64;

thread_local! {
    static FREE: RefCell<Vec<Memory<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `body` with `length` floats of unspecified (but initialised) contents, aligned to a cache line.
pub(crate) fn with<R>(length: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    let padded = length + ALIGNMENT / size_of::<f32>();
    let mut buffer = take(padded);
    if buffer.len() < padded {
        // Back to the system first: never two where one is used.
        drop(buffer);
        buffer = Memory::zeros(padded);
    }
    let skip = buffer.as_ptr().align_offset(ALIGNMENT).min(padded - length);
    let result = body(&mut buffer[skip..skip + length]);
    FREE.with_borrow_mut(|free| free.push(buffer));
    result
}

/// As [`with`], for doubles.
pub(crate) fn with_doubles<R>(length: usize, body: impl FnOnce(&mut [f64]) -> R) -> R {
    with(2 * length, |floats| {
        // SAFETY: any bits of two initialised floats are a double. The middle begins at the first float, as the buffer
        // is aligned to a cache line, and so has all `length` doubles.
        let (_, doubles, _) = unsafe { floats.align_to_mut::<f64>() };
        body(&mut doubles[..length])
    })
}

/// The smallest free buffer that is long enough, or else the largest there is.
fn take(length: usize) -> Memory<f32> {
    FREE.with_borrow_mut(|free| {
        let fitting = free.iter().enumerate().filter(|(_, b)| b.len() >= length).min_by_key(|(_, b)| b.len());
        let chosen = fitting.or_else(|| free.iter().enumerate().max_by_key(|(_, b)| b.len()));
        match chosen.map(|(index, _)| index) {
            Some(index) => free.swap_remove(index),
            None => Memory::zeros(0),
        }
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn reuses_aligned_buffers_and_nests() {
        let first = super::with(100, |outer| {
            outer.fill(1.0);
            super::with(100, |inner| inner.fill(2.0));
            assert!(outer.iter().all(|&v| v == 1.0));
            assert_eq!(outer.as_ptr() as usize % 64, 0);
            outer.as_ptr() as usize
        });
        let again = super::with(50, |slice| slice.as_ptr() as usize);
        let third = super::with(100, |slice| slice.as_ptr() as usize);
        assert!(first == third || again == first);
    }

    #[test]
    fn the_smallest_buffer_that_fits_is_taken() {
        // Another thread has no buffers yet.
        std::thread::spawn(|| {
            let address = |length| super::with(length, |slice| slice.as_ptr() as usize);
            let (large, small) = super::with(1000, |large| (large.as_ptr() as usize, address(100)));
            assert_eq!([address(500), address(90), address(1000)], [large, small, large]);
        })
        .join()
        .expect("the thread panicked");
    }
}
