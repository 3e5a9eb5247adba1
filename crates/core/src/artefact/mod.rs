//! What a run writes and reads: models, checkpoints, vectors.

pub mod file;
pub mod model;
pub mod npy;
pub mod tensors;
