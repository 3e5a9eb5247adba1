//! What a run writes and reads: models, checkpoints, vectors.

mod element;
pub mod file;
mod kind;
pub mod model;
pub mod npy;
mod pickle;
mod pth;
mod state_dict;
pub mod tensors;
pub mod weights;
