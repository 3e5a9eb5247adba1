//! The science of `rkd`: data, networks, losses, optimisers, training, evaluation and artefacts.
//!
//! Knows nothing of Node; everything starts from a JSON [`Plan`](train::Plan). The way of one image:
//! [`data`] (file -> cache -> augmented batch) -> [`backbones`] on a [`nn::Backend`] -> features -> [`losses`] ->
//! gradients -> [`optim`]; [`train`] is the loop and [`artefact`] what it writes.
#![forbid(unsafe_code)]

pub mod artefact;
pub mod backbones;
pub mod bench;
pub mod data;
pub mod devices;
pub mod error;
pub mod export;
pub mod input;
pub mod limits;
pub mod losses;
pub mod metrics;
mod names;
pub mod nn;
pub mod onnx;
pub mod optim;
pub mod options;
mod parquet;
#[cfg(test)]
mod protocol;
pub mod random;
pub mod ranks;
pub mod sampling;
pub mod serve;
pub mod spelling;
pub mod tensor;
pub mod train;
pub mod vectors;

pub use error::{Code, Error, Result};
