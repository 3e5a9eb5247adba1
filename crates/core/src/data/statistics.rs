//! Mean and standard deviation of each channel, by which pixels are normalised.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use super::dataset::Dataset;
use super::plan::InputKind;
use super::threads::decode_threads;

/// Pixels `v` in `0..=255` become `(v / 255 - mean) / std`, channel by channel; the numbers `v` of a stored vector
/// `(v - mean) / std`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Normalization {
    /// Mean of `v / 255`, one a channel; of a vector of `v`.
    pub mean: Vec<f32>,
    /// Standard deviation of `v / 255` over all pixels (not below 1/255, so that a constant channel is no division by
    /// zero), one a channel; of a vector all are the same.
    pub std: Vec<f32>,
}

impl Normalization {
    /// The statistics of all pixels of `items`. The sums are whole numbers, so the result depends on nothing but them.
    pub fn measure(dataset: &Dataset, items: &[u32]) -> Normalization {
        if dataset.input_kind() == InputKind::Vectors {
            return of_vectors(dataset, items);
        }
        let c = dataset.channels();
        let sums = sum_pixels(dataset, items);
        let count = (items.len() * dataset.image_size() * dataset.image_size()).max(1) as f64;
        let mean: Vec<f64> = (0..c).map(|i| sums[i].0 as f64 / count / 255.0).collect();
        let std = (0..c).map(|i| {
            let square = sums[i].1 as f64 / count / (255.0 * 255.0);
            (square - mean[i] * mean[i]).max(0.0).sqrt().max(1.0 / 255.0) as f32
        });
        Normalization { std: std.collect(), mean: mean.iter().map(|&m| m as f32).collect() }
    }

    /// The statistics of ImageNet's photographs in RGB, by which torchvision's and timm's weights were trained.
    pub fn imagenet() -> Normalization {
        Normalization { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] }
    }

    /// Whether there is a finite mean and a positive, finite deviation for each of `channels`.
    pub(crate) fn fits(&self, channels: usize) -> bool {
        (self.mean.len(), self.std.len()) == (channels, channels)
            && self.mean.iter().all(|mean| mean.is_finite())
            && self.std.iter().all(|std| std.is_finite() && *std > 0.0)
    }

    /// Whether the mean can be one of pixels from 0 to 1.
    pub(crate) fn is_of_unit_pixels(&self) -> bool {
        self.mean.iter().all(|mean| (0.0..=1.0).contains(mean))
    }

    /// The factor and the summand of each channel: `(v / 255 - mean) / std = factor * v + summand`.
    pub(super) fn linear(&self) -> Vec<(f32, f32)> {
        self.mean.iter().zip(&self.std).map(|(mean, std)| (1.0 / (255.0 * std), -mean / std)).collect()
    }

    /// Writes the image or vector `item`, normalised, to `out` (`[h, w, c]`).
    pub fn apply_to(&self, dataset: &Dataset, item: u32, out: &mut [f32]) {
        match dataset.input_kind() {
            InputKind::Images => self.apply(&dataset.pixels(item), out),
            InputKind::Vectors => {
                let numbers = dataset.numbers(item).into_iter().zip(&self.mean).zip(&self.std);
                out.iter_mut().zip(numbers).for_each(|(out, ((value, mean), std))| *out = (value - mean) / std);
            }
        }
    }

    /// Normalises `pixels` (`[h, w, c]`) into `out` of the same shape.
    pub fn apply(&self, pixels: &[u8], out: &mut [f32]) {
        let linear = self.linear();
        let c = linear.len();
        for (out, pixels) in out.chunks_exact_mut(c).zip(pixels.chunks_exact(c)) {
            for i in 0..c {
                out[i] = linear[i].0 * f32::from(pixels[i]) + linear[i].1;
            }
        }
    }
}

/// The mean of every number, and one deviation for all: a number that varies little stays small beside the others, as it
/// is where vectors are compared. Of the 1,280 numbers that EfficientNet-Lite0 says of 8,189 photographs of flowers, shortened
/// to 64 by a twin in PyTorch of the default (4,000 batches, one seed), 73.0 % of the ten nearest were kept like this, 71.3 %
/// with a deviation for each number; the 64 principal components keep 71.6 %.
fn of_vectors(dataset: &Dataset, items: &[u32]) -> Normalization {
    let d = dataset.channels();
    let count = items.len().max(1) as f64;
    let mut mean = vec![0.0; d];
    for &item in items {
        mean.iter_mut().zip(dataset.numbers(item)).for_each(|(mean, value)| *mean += f64::from(value) / count);
    }
    let square = |item: &u32| -> f64 {
        dataset.numbers(*item).iter().zip(&mean).map(|(&value, mean)| (f64::from(value) - mean).powi(2)).sum()
    };
    let deviation = (items.iter().map(square).sum::<f64>() / count / d as f64).sqrt() as f32;
    let deviation = if deviation.is_normal() { deviation } else { 1.0 };
    Normalization { mean: mean.into_iter().map(|mean| mean as f32).collect(), std: vec![deviation; d] }
}

/// Sum and sum of squares of each channel.
fn sum_pixels(dataset: &Dataset, items: &[u32]) -> [(u64, u64); 3] {
    let c = dataset.channels();
    let blocks: Vec<&[u32]> = items.chunks(256).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut sums = [(0u64, 0u64); 3];
        while let Some(block) = blocks.get(next.fetch_add(1, Ordering::Relaxed)) {
            for &item in *block {
                for pixel in dataset.pixels(item).chunks_exact(c) {
                    for (sum, &value) in sums.iter_mut().zip(pixel) {
                        sum.0 += u64::from(value);
                        sum.1 += u64::from(value) * u64::from(value);
                    }
                }
            }
        }
        sums
    };
    std::thread::scope(|scope| {
        let threads = decode_threads().min(blocks.len().max(1));
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().fold([(0, 0); 3], |total, worker| {
            let sums = worker.join().expect("adding does not panic");
            [0, 1, 2].map(|i| (total[i].0 + sums[i].0, total[i].1 + sums[i].1))
        })
    })
}
