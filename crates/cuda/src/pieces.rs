//! Pieces of a device's memory, and the buffers that have them for a while.
//!
//! All work is done in the order in which it was asked for, so a piece whose buffer is dropped can be given to the next operation at
//! once: that comes after the last one that used it. Of the pieces of a size that are free, the first of the memory is taken: so the
//! same sequence of operations gets the same places, which is what its recording needs (see [`queue`](crate::queue)).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::device::{Kind, rounded};

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Values in a device's memory.
pub struct Buffer {
    pub(crate) pointer: u64,
    pub(crate) len: usize,
    pub(crate) kind: Kind,
    bytes: usize,
    pieces: Arc<Pieces>,
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} values, {:?})", self.len, self.kind)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        lock(&self.pieces.free).entry(self.bytes).or_default().insert(self.pointer);
    }
}

/// Pieces of memory that no buffer has, by their bytes.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    free: Mutex<BTreeMap<usize, BTreeSet<u64>>>,
}

impl Pieces {
    /// A buffer of any values, in a piece that is free or one that `allocate` gives, which is told the bytes.
    pub(crate) fn take<E>(
        self: &Arc<Self>,
        kind: Kind,
        len: usize,
        allocate: impl FnOnce(usize) -> Result<u64, E>,
    ) -> Result<Buffer, E> {
        let bytes = rounded(kind.bytes() * len);
        let free = lock(&self.free).get_mut(&bytes).and_then(BTreeSet::pop_first);
        let pointer = free.map_or_else(|| allocate(bytes), Ok)?;
        Ok(Buffer { pointer, len, kind, bytes, pieces: Arc::clone(self) })
    }

    /// Forgets the pieces that are free, and tells each with its bytes.
    #[cfg(any(test, feature = "gpu"))]
    pub(crate) fn release(&self, mut give_back: impl FnMut(u64, usize)) {
        for (bytes, pointers) in std::mem::take(&mut *lock(&self.free)) {
            pointers.into_iter().for_each(|pointer| give_back(pointer, bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_sequence_gets_the_same_places_in_whatever_order_they_became_free() {
        let (pieces, mut next) = (Arc::<Pieces>::default(), 0);
        let mut take = |len| {
            let allocate = |bytes| {
                next += bytes as u64;
                Ok::<_, ()>(next)
            };
            pieces.take(Kind::Float32, len, allocate).unwrap()
        };
        let mut step = |kept: Option<Buffer>, first_goes_first: bool| {
            let (a, b, small) = (take(1000), take(1000), take(10));
            drop(kept);
            let c = take(1000);
            let places = [&a, &b, &small, &c].map(|buffer| buffer.pointer);
            if first_goes_first {
                drop((a, b))
            } else {
                drop((b, a))
            }
            (places, c)
        };
        let (_, kept) = step(None, true);
        let (second, kept) = step(Some(kept), false);
        let (third, kept) = step(Some(kept), true);
        let (fourth, kept) = step(Some(kept), false);
        assert_eq!((second, third), (fourth, step(Some(kept), true).0));
        let mut given_back = Vec::new();
        pieces.release(|pointer, bytes| given_back.push((pointer, bytes)));
        assert_eq!(given_back.len(), 4, "{given_back:?}");
    }
}
