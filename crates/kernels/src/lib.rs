//! CPU kernels of `rkd` over plain slices.
//!
//! This crate knows nothing of candle, of files or of Node. Activations are NHWC float32. Every kernel takes a
//! [`Pool`]: work is cut into blocks by problem size, never by thread count, and sums are taken in a fixed order, so
//! the same inputs give the same bits on any number of threads.

pub mod mapped_file;
