//! What a run writes and reads: models, checkpoints, vectors.

mod element;
pub mod file;
pub mod lock;
pub mod model;
pub mod npy;
mod pickle;
mod pth;
pub mod tensors;
pub mod weights;
