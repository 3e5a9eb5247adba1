//! A batch of images, and batches for evaluation: in order, unchanged but normalised.

use std::time::Duration;

use super::dataset::Dataset;
use super::statistics::Normalization;

/// Images ready for a network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The epoch it belongs to; 0 in evaluation.
    pub epoch: u64,
    /// Its number in the epoch.
    pub index: u64,
    /// Items.
    pub items: Vec<u32>,
    /// The items' labels, in `0..dataset.classes()`.
    pub labels: Vec<u32>,
    /// `[n, h, w, c]`, normalised.
    pub images: Vec<f32>,
    /// How long training waited for it.
    pub waited: Duration,
}

impl Batch {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it holds no image.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// Goes once through a list of items, in its order; the last batch may be smaller. Makes a batch in far less time than a
/// network takes to embed it, so it does so when asked.
pub struct EvaluationBatches<'a> {
    dataset: &'a Dataset,
    items: &'a [u32],
    size: usize,
    normalization: &'a Normalization,
    done: usize,
}

impl<'a> EvaluationBatches<'a> {
    /// Batches of at most `size` (at least 1) of `items`.
    pub fn new(dataset: &'a Dataset, items: &'a [u32], size: usize, normalization: &'a Normalization) -> Self {
        EvaluationBatches { dataset, items, size: size.max(1), normalization, done: 0 }
    }
}

impl Iterator for EvaluationBatches<'_> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let rest = &self.items[self.done..];
        let items = rest[..rest.len().min(self.size)].to_vec();
        if items.is_empty() {
            return None;
        }
        let index = (self.done / self.size) as u64;
        self.done += items.len();
        let labels = items.iter().map(|&item| self.dataset.label(item)).collect();
        let pixels = self.dataset.image_size() * self.dataset.image_size() * self.dataset.channels();
        let mut images = vec![0.0; items.len() * pixels];
        for (&item, out) in items.iter().zip(images.chunks_exact_mut(pixels)) {
            self.normalization.apply(self.dataset.pixels(item), out);
        }
        Some(Batch { epoch: 0, index, items, labels, images, waited: Duration::ZERO })
    }
}
