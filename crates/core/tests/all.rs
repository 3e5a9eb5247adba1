//! The tests of the core as one program: what is generic is compiled once for all of them. Three stay apart, whose
//! process must be their own: `mpi`, `peak_memory`, `estimated_memory`.

mod backends;
mod common;
mod conformance;
mod data;
mod device_losses;
mod export;
mod feature_losses;
mod golden_losses;
mod golden_networks;
mod golden_training;
mod gradients;
mod inference;
mod losses;
mod networks;
mod objective;
mod onnx;
mod pass;
mod ranks;
mod sessions;
mod vectors;
mod weights;
