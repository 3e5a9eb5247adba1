//! From files to batches.
//!
//! The way of one image: [`Dataset::open`] finds out what the source is (`source`), decodes every image once into a
//! cache file of bytes ([`decode`], `cache`), [`Split`] gives whole classes to training, validation and test,
//! [`BatchSampler`] says which items make a batch, [`augment()`] changes one image at random and normalises it, and
//! [`Loader`] does that ahead of training on its own threads.
//!
//! Letters: `h`, `w` height and width in pixels (always equal here), `c` channels (1 grey, 3 RGB). An image is
//! `[h, w, c]` bytes, a batch `[n, h, w, c]` float32. An *item* is the position of an image in the data set, a *label* the
//! position of its class in the sorted list of class names. Every random choice is keyed by (seed, epoch, item, purpose),
//! so neither the number of workers nor a restart changes a single bit.

pub mod augment;
pub mod batches;
mod cache;
pub mod dataset;
pub mod decode;
pub mod episode;
pub mod glyphs;
pub mod loader;
pub mod plan;
mod positioned;
pub mod rotation;
pub mod sampler;
mod source;
pub mod split;
pub mod statistics;
pub mod survey;

pub use augment::augment;
pub use batches::{Batch, EvaluationBatches};
pub use dataset::{BrokenImage, Dataset, DatasetSummary, DecodeProgress};
pub use decode::Decoder;
pub use loader::{Loader, LoaderOptions, Position};
pub use plan::{AugmentSpec, BatchPlan, DataPlan, EpisodePlan, SplitPlan};
pub use sampler::BatchSampler;
pub use split::{Part, Split};
pub use statistics::Normalization;
pub use survey::{PartCount, Survey, survey};

/// Threads for decoding and hashing: one a core.
fn decode_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get())
}
