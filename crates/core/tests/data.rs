//! From files to batches: sources and what people have in them, decoding, cache, split, batches, glyphs.

mod batches;
mod cache;
mod common;
mod decode;
mod fingerprint;
mod glyphs;
mod habits;
mod hostile;
mod manifests;
mod parquet;
mod published;
mod real;
mod sources;
mod split;
mod unlabelled;
