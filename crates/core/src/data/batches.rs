//! A batch of images, and batches for evaluation: in order, unchanged but normalised (and mirrored, if wished).

use std::ops::Range;
use std::time::Duration;

use super::augment::mirror;
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
    /// The rows that have images here; other ranks have those of the rest.
    pub rows: Range<usize>,
    /// `[rows, h, w, c]`, normalised: the student's view.
    pub images: Vec<f32>,
    /// The same images, changed alike, in each further view that the loader was given: the size and the normalisation that
    /// a teacher wants, where that is not the student's view.
    pub teacher_images: Vec<Vec<f32>>,
    /// Which of these images are mirrored.
    pub mirrored: Vec<bool>,
    /// How long training waited for it.
    pub waited: Duration,
}

impl Batch {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// The items whose images are here.
    pub fn own_items(&self) -> &[u32] {
        &self.items[self.rows.clone()]
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
    mirrored: bool,
    done: usize,
}

impl<'a> EvaluationBatches<'a> {
    /// Batches of at most `size` (at least 1) of `items`.
    pub fn new(dataset: &'a Dataset, items: &'a [u32], size: usize, normalization: &'a Normalization) -> Self {
        EvaluationBatches { dataset, items, size: size.max(1), normalization, mirrored: false, done: 0 }
    }

    /// The same batches of mirrored images, if `mirrored`.
    pub fn mirrored(self, mirrored: bool) -> Self {
        EvaluationBatches { mirrored, ..self }
    }

    /// Number of images in all.
    pub fn images(&self) -> usize {
        self.items.len()
    }

    /// `[h, w, c]` of an image.
    pub fn image_shape(&self) -> [usize; 3] {
        let side = self.dataset.image_size();
        [side, side, self.dataset.channels()]
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
        let [h, w, c] = self.image_shape();
        let mut images = vec![0.0; items.len() * h * w * c];
        for (&item, out) in items.iter().zip(images.chunks_exact_mut(h * w * c)) {
            self.normalization.apply_to(self.dataset, item, out);
            if self.mirrored {
                mirror(out, w, c);
            }
        }
        let mirrored = vec![self.mirrored; items.len()];
        let rows = 0..items.len();
        Some(Batch { index, items, labels, rows, images, mirrored, ..Batch::default() })
    }
}
