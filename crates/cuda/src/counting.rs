//! A device that computes nothing and counts: how much memory a GPU would need for what is asked of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::device::{Argument, Convolution, Device, Failure, Kind, Pass, Product, Result, SCRATCH, rounded};

/// The device. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    in_use: AtomicUsize,
    peak: AtomicUsize,
    largest_upload: AtomicUsize,
}

/// A buffer without values.
#[derive(Debug)]
pub struct Nothing {
    len: usize,
    kind: Kind,
    counts: Arc<Counts>,
}

impl Counter {
    /// The most bytes that were in use at once, and where the largest upload arrives twice, while one is used and the next one
    /// comes. What a GPU keeps in other sizes it gives back where it needs them.
    pub fn peak(&self) -> usize {
        self.0.peak.load(Ordering::Relaxed) + 2 * self.0.largest_upload.load(Ordering::Relaxed)
    }
}

impl Nothing {
    fn bytes(&self) -> usize {
        rounded(self.kind.bytes() * self.len)
    }
}

impl Drop for Nothing {
    fn drop(&mut self) {
        self.counts.in_use.fetch_sub(self.bytes(), Ordering::Relaxed);
    }
}

impl Device for Counter {
    type Buffer = Nothing;

    fn scratch(&self) -> usize {
        SCRATCH
    }

    fn len(buffer: &Nothing) -> usize {
        buffer.len
    }

    fn kind(buffer: &Nothing) -> Kind {
        buffer.kind
    }

    fn with_tf32(self, _: bool) -> Self {
        self
    }

    fn free_memory(&self) -> Result<Option<usize>> {
        Ok(None)
    }

    fn address(&self, _: &Nothing) -> u64 {
        0
    }

    fn take_as(&self, kind: Kind, len: usize) -> Result<Nothing> {
        let buffer = Nothing { len, kind, counts: Arc::clone(&self.0) };
        let before = self.0.in_use.fetch_add(buffer.bytes(), Ordering::Relaxed);
        self.0.peak.fetch_max(before + buffer.bytes(), Ordering::Relaxed);
        Ok(buffer)
    }

    fn upload(&self, values: &[f32]) -> Result<Nothing> {
        let buffer = self.take(values.len())?;
        self.0.largest_upload.fetch_max(buffer.bytes(), Ordering::Relaxed);
        Ok(buffer)
    }

    fn download(&self, _: &[&Nothing]) -> Result<Vec<Vec<f32>>> {
        Err(Failure::Other("a device that counts has no values".into()))
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    unsafe fn launch(&self, _: &'static str, _: [u32; 3], _: [u32; 2], _: &[Argument<'_, Nothing>]) -> Result<()> {
        Ok(())
    }

    fn product(&self, product: &Product, a: &Nothing, b: &Nothing, c: &Nothing) -> Result<()> {
        product.check::<Self>([a, b, c]);
        Ok(())
    }

    fn convolve(&self, pass: Pass, shape: &Convolution, from: [&Nothing; 2], out: &Nothing) -> Result<bool> {
        shape.check::<Self>(pass, from, out);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_of_what_is_in_use_at_once() {
        let counter = Counter::default();
        let large = counter.take(1 << 20).unwrap();
        assert_eq!(counter.peak(), 4 << 20);
        drop(large);
        let both = [counter.take(1 << 18).unwrap(), counter.clone().take(1 << 18).unwrap()];
        assert_eq!(counter.peak(), 4 << 20);
        let more = counter.take(1 << 20).unwrap();
        assert_eq!(counter.peak(), 6 << 20);
        drop((both, more));
        counter.upload(&[0.0; 1 << 18]).unwrap();
        assert_eq!(counter.peak(), 8 << 20);
        // Two bytes of each.
        let halves = counter.take_as(Kind::Bfloat16, 1 << 22).unwrap();
        assert_eq!(counter.peak(), 10 << 20);
        drop(halves);
    }
}
