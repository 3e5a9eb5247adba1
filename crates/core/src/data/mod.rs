//! From files to batches.
//!
//! The way of one image: [`Dataset::open`] finds out what the source is (`source`), decodes every image once into a
//! cache file of bytes ([`decode`], `cache`), [`Split`] gives whole classes to training, validation and test,
//! [`BatchSampler`] says which items make a batch, [`augment()`] changes one image at random and normalises it, and
//! [`Loader`] does that ahead of training on its own threads.
//!
//! Letters: `h`, `w` height and width in pixels (always equal here), `c` channels (1 grey, 3 RGB). An image is
//! `[h, w, c]` bytes, a batch `[n, h, w, c]` float32. An *item* is the position of an image in the data set, a *label*
//! the position of its class in the sorted list of class names. Every random choice is keyed by (seed, epoch, item,
//! purpose), so neither the number of workers nor a restart changes a single bit.
//!
//! Files import from files above them in this list, from the one that owns an item, and never from this one; within a
//! row, from left to right:
//!
//! ```text
//! plan, part, shard, stop, threads, positioned, rotation    words that all share
//! decode: limits, deep, jpeg: pixels, codes, mod; tiff, mod   one image
//! glyphs: skeleton, hand, raster, mod                       images that are drawn
//! source: annotation, ignored, listing, hash                what people write, what lies about
//!         archive, parquet, walk, zip, tar, arrays, idx, cifar  readers
//!         layout, manifest, glob, spelling                  what is of which class
//!         published: rows, mat, cars, ...                   the same, of data sets that are known
//!         mod                                               what a source is
//! fingerprint, cache, factory, contents, survey, dataset    decoded once, known by number
//! statistics, input, split, record, episode, sampler        which images
//! augment, batches, loader                                  batches
//! ```

pub mod augment;
pub mod batches;
mod cache;
mod contents;
pub mod dataset;
pub mod decode;
pub mod episode;
mod factory;
pub mod fingerprint;
pub mod glyphs;
pub mod input;
pub mod loader;
mod part;
pub mod plan;
mod positioned;
pub mod record;
pub mod rotation;
pub mod sampler;
mod shard;
mod source;
pub mod split;
pub mod statistics;
mod stop;
pub mod survey;
mod threads;

pub use augment::augment;
pub use batches::{Batch, EvaluationBatches};
pub use dataset::{Dataset, DatasetSummary, IsWanted};
pub use decode::Decoder;
pub use factory::DecodeProgress;
pub(crate) use factory::refuse_if_mostly_broken;
pub use input::InputSpec;
pub use loader::{Loader, LoaderOptions, Position, View};
pub use part::{BrokenImage, Part};
pub use plan::{AugmentSpec, BatchPlan, DataKind, DataPlan, EpisodePlan, InputKind, Labels, SplitPlan, describe};
pub use record::{DataOutline, DataRecord, Difference, KnownData};
pub use sampler::BatchSampler;
pub use shard::Shard;
pub(crate) use source::Source;
pub(crate) use source::glob::is_pattern;
pub(crate) use source::published::splits_by_classes;
pub(crate) use source::walk::read as read_image;
pub use split::Split;
pub use split::TrainingPart;
pub(crate) use split::training_part;
pub use statistics::Normalization;
pub use stop::Stop;
pub use survey::{PartCount, Survey, survey};
