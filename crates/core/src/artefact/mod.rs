//! What a run writes and reads: models, checkpoints, vectors.

mod element;
pub mod file;
pub mod joined;
pub mod kind;
pub mod lock;
pub mod model;
pub mod npy;
mod pickle;
mod pth;
mod state_dict;
pub mod tensors;
pub mod vectors;
mod view;
pub mod weights;
