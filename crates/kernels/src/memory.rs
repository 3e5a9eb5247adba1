//! Large buffers in huge pages.
//!
//! An activation of some megabytes lies on thousands of 4 KiB pages: more than a processor keeps translations for, and
//! each costs microseconds the first time it is touched. A large buffer is therefore a mapping of its own for which the
//! system is asked for pages of 2 MiB; where it has none, nothing is lost.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// Bytes from which a buffer is a mapping: below, whole huge pages would not fit.
/// Miri has no such mappings.
const LARGE: usize = if cfg!(miri) { usize::MAX } else { 4 << 20 };

/// Numbers whose bits may all be zero.
pub trait Number: Copy + Default + sealed::Sealed {}

impl Number for f32 {}
impl Number for u32 {}

mod sealed {
    /// Keeps [`super::Number`] to types for which zeroed memory is a value and a page's alignment is enough.
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for u32 {}
}

/// A fixed number of values, zeros at first.
#[derive(Debug)]
pub struct Memory<T> {
    place: Place<T>,
    length: usize,
}

#[derive(Debug)]
enum Place<T> {
    Heap(Vec<T>),
    Mapping(MmapMut),
}

impl<T: Number> Memory<T> {
    /// `length` zeros.
    pub fn zeros(length: usize) -> Self {
        let bytes = length * size_of::<T>();
        let mapping = if bytes >= LARGE { MmapMut::map_anon(bytes).ok() } else { None };
        let place = match mapping {
            Some(mapping) => {
                // Advice: a system without huge pages answers with an error that changes nothing.
                #[cfg(target_os = "linux")]
                let _ = mapping.advise(memmap2::Advice::HugePage);
                Place::Mapping(mapping)
            }
            None => Place::Heap(vec![T::default(); length]),
        };
        Memory { place, length }
    }
}

impl<T: Number> Deref for Memory<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.place {
            Place::Heap(values) => values,
            // SAFETY: the mapping holds `length` values, begins at a page and is initialised; all bits zero and
            // whatever was written as `T` are a `T`, and the borrow is that of `self`, which owns the mapping.
            Place::Mapping(mapping) => unsafe { std::slice::from_raw_parts(mapping.as_ptr().cast(), self.length) },
        }
    }
}

impl<T: Number> DerefMut for Memory<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.place {
            Place::Heap(values) => values,
            // SAFETY: the mapping holds `length` values, begins at a page and is initialised with values of `T`; the
            // borrow of `self`, which owns the mapping, is unique.
            Place::Mapping(mapping) => unsafe {
                std::slice::from_raw_parts_mut(mapping.as_mut_ptr().cast(), self.length)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_buffers_begin_as_zeros_and_keep_what_is_written() {
        let large = if cfg!(miri) { 4096 } else { LARGE / 4 };
        for length in [0, 1, 1000, large - 1, large, 3 * large + 1] {
            let mut memory = Memory::<f32>::zeros(length);
            assert_eq!(memory.len(), length);
            assert!(memory.iter().all(|&v| v == 0.0));
            memory.fill(2.0);
            assert!(memory.iter().all(|&v| v == 2.0));
        }
    }
}
