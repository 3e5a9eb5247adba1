//! Networks that train: layer operations, layers, parameters, forward and backward.
//!
//! - [`backend`] names the layer operations; [`portable`] composes them of candle operations (any device, the oracle of
//!   the tests), [`cpu`] runs them as kernels, [`cuda`] on a CUDA device.
//! - [`layer`] is a network as plain data, built by [`builder`]; [`lowering`] makes of it the operations that [`forward`] and
//!   [`backward`] run with a [`tape`]. A [`profile`] notes the time of each. What training leaves
//!   out at random is in [`dropout`], what the pieces of a batch have in common in [`synchronised`].
//! - [`network`] puts it together: images in, [`Feature`]s out, feature gradients in, parameter gradients out;
//!   [`inference`] is the faster form of one that does not learn, which takes images in [`blocks`].
//!
//! Activations are NHWC. Shapes: n images, h and w pixels, c channels, d embedding length.

pub mod backend;
pub mod backward;
pub mod blocks;
pub mod builder;
pub mod cpu;
pub mod cuda;
pub mod dropout;
pub mod forward;
pub mod geometry;
pub mod inference;
pub mod layer;
pub mod lowering;
pub mod network;
pub mod parameters;
pub mod pattern;
pub mod portable;
pub mod precision;
pub mod profile;
pub mod shape;
pub mod synchronised;
pub mod tape;
pub mod tuning;

pub use crate::tensor::{Feature, FeatureMap};
pub use backend::Backend;
pub use cpu::{Cpu, CpuTensor};
pub use cuda::{Cuda, CudaTensor};
pub use inference::Inference;
pub use network::{Gradients, Network};
pub use portable::Portable;
pub use precision::Precision;
pub use profile::Profile;
