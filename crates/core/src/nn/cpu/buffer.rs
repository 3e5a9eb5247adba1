//! Memory that comes back: buffers return to a free list when their last handle goes, and the next operation of about
//! the same size takes them again.
//!
//! Fresh pages cost more than many kernels (about 2.4 us for 4 KiB), and every training step wants the same sizes, so
//! after the first step next to nothing is allocated. A recycled buffer holds old values; every kernel overwrites all
//! of its output.
//!
//! A list may only *count*: its buffers are given out, come back and are taken again as those of any list, but have no
//! memory. So a pass says what it would allocate without computing anything.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rkd_kernels::memory::{Memory, Number};

/// Free buffers by capacity.
#[derive(Debug)]
pub struct FreeList<T: Number> {
    shelves: Mutex<BTreeMap<usize, Vec<Memory<T>>>>,
    /// Values of all buffers there are, in use or free.
    allocated: AtomicUsize,
    counts: bool,
}

/// A buffer of `len` values that goes back to its list when it is dropped.
#[derive(Debug)]
pub struct Buffer<T: Number> {
    values: Memory<T>,
    /// Values of `values`, or, in a list that counts, those it would have.
    capacity: usize,
    /// Values that are seen: none in a list that counts.
    len: usize,
    home: Arc<FreeList<T>>,
}

impl<T: Number> FreeList<T> {
    /// An empty list.
    pub fn new() -> Arc<Self> {
        Arc::new(FreeList { shelves: Mutex::default(), allocated: AtomicUsize::new(0), counts: false })
    }

    /// An empty list that only counts.
    pub fn counting() -> Arc<Self> {
        Arc::new(FreeList { shelves: Mutex::default(), allocated: AtomicUsize::new(0), counts: true })
    }

    /// Whether it only counts, so that nobody need fill its buffers.
    pub fn counts(&self) -> bool {
        self.counts
    }

    /// Values of all buffers there are, in use or free.
    pub fn allocated(&self) -> usize {
        self.allocated.load(Ordering::Relaxed)
    }

    /// A buffer with unspecified values: a free one that is at most a quarter too long, or a new one.
    pub fn take(self: &Arc<Self>, len: usize) -> Buffer<T> {
        let free = {
            let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
            let mut fitting = shelves.range_mut(len..=len + len / 4).filter(|(_, shelf)| !shelf.is_empty());
            fitting.next().and_then(|(&capacity, shelf)| Some((capacity, shelf.pop()?)))
        };
        let (capacity, values) = free.unwrap_or_else(|| {
            self.allocated.fetch_add(len, Ordering::Relaxed);
            (len, Memory::zeros(if self.counts { 0 } else { len }))
        });
        Buffer { values, capacity, len: if self.counts { 0 } else { len }, home: Arc::clone(self) }
    }

    /// Gives all free memory back to the system.
    pub fn trim(&self) {
        let shelves = std::mem::take(&mut *self.shelves.lock().unwrap_or_else(PoisonError::into_inner));
        let freed = shelves.iter().map(|(capacity, shelf)| capacity * shelf.len()).sum();
        self.allocated.fetch_sub(freed, Ordering::Relaxed);
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
        shelves.entry(self.capacity).or_default().push(values);
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
        assert_eq!(list.allocated(), 150);
        list.trim();
        assert!(list.shelves.lock().unwrap().is_empty());
        assert_eq!(list.allocated(), 0);
    }

    #[test]
    fn a_list_that_counts_has_no_memory_and_takes_buffers_again_as_any_other() {
        let lists = [FreeList::<f32>::new(), FreeList::counting()];
        let allocated = lists.map(|list| {
            let (one, two) = (list.take(100), list.take(100));
            assert_eq!(one.values().len(), if list.counts() { 0 } else { 100 });
            drop((one, two));
            let _kept = (list.take(90), list.take(100), list.take(100), list.take(50));
            list.allocated()
        });
        assert_eq!(allocated, [350, 350]);
    }
}
