//! From files to batches: sources and what people have in them, decoding, cache, split, batches, glyphs.

#[path = "data/batches.rs"]
mod batches;
#[path = "data/cache.rs"]
mod cache;
#[path = "data/common.rs"]
mod common;
#[path = "data/decode.rs"]
mod decode;
#[path = "data/fingerprint.rs"]
mod fingerprint;
#[path = "data/glyphs.rs"]
mod glyphs;
#[path = "data/habits.rs"]
mod habits;
#[path = "data/hostile.rs"]
mod hostile;
#[path = "data/manifests.rs"]
mod manifests;
#[path = "data/parquet.rs"]
mod parquet;
#[path = "data/published.rs"]
mod published;
#[path = "data/real.rs"]
mod real;
#[path = "data/sources.rs"]
mod sources;
#[path = "data/split.rs"]
mod split;
#[path = "data/unlabelled.rs"]
mod unlabelled;
