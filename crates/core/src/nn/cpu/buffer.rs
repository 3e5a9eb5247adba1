//! Memory that comes back: buffers return to a free list when their last handle goes, and the next operation of about
//! the same size takes them again.
//!
//! Fresh pages cost more than many kernels (about 2.4 us for 4 KiB), and every training step wants the same sizes, so
//! after the first step next to nothing is allocated. A recycled buffer holds old values; every kernel overwrites all
//! of its output.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rkd_kernels::memory::{Memory, Number};

/// Free buffers by capacity.
#[derive(Debug)]
pub struct FreeList<T: Number> {
    shelves: Mutex<BTreeMap<usize, Vec<Memory<T>>>>,
}

/// A buffer of `len` values that goes back to its list when it is dropped.
#[derive(Debug)]
pub struct Buffer<T: Number> {
    values: Memory<T>,
    len: usize,
    home: Arc<FreeList<T>>,
}

impl<T: Number> FreeList<T> {
    /// An empty list.
    pub fn new() -> Arc<Self> {
        Arc::new(FreeList { shelves: Mutex::new(BTreeMap::new()) })
    }

    /// A buffer with unspecified values: a free one that is at most a quarter too long, or a new one.
    pub fn take(self: &Arc<Self>, len: usize) -> Buffer<T> {
        let free = {
            let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
            let fitting = shelves.range_mut(len..=len + len / 4).find(|(_, shelf)| !shelf.is_empty());
            fitting.and_then(|(_, shelf)| shelf.pop())
        };
        Buffer { values: free.unwrap_or_else(|| Memory::zeros(len)), len, home: Arc::clone(self) }
    }

    /// Gives all free memory back to the system.
    pub fn trim(&self) {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl<T: Number> Buffer<T> {
    /// The values.
    pub fn values(&self) -> &[T] {
        &self.values[..self.len]
    }

    /// The values, to be changed.
    pub fn values_mut(&mut self) -> &mut [T] {
        &mut self.values[..self.len]
    }
}

impl<T: Number> Drop for Buffer<T> {
    fn drop(&mut self) {
        let values = std::mem::replace(&mut self.values, Memory::zeros(0));
        let mut shelves = self.home.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        shelves.entry(values.len()).or_default().push(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_taken_again() {
        let list = FreeList::<f32>::new();
        let address = list.take(100).values().as_ptr();
        let again = list.take(90);
        assert_eq!((again.values().as_ptr(), again.values().len()), (address, 90));
        assert_ne!(list.take(100).values().as_ptr(), address, "a buffer in use is not given twice");
    }

    #[test]
    fn a_much_longer_buffer_is_left_alone_and_trimming_frees() {
        let list = FreeList::<f32>::new();
        drop(list.take(100));
        assert_eq!(list.take(50).values.len(), 50);
        list.trim();
        assert!(list.shelves.lock().unwrap().is_empty());
    }
}
