//! Layer operations of `rkd` on a CUDA device, over buffers of float32 and bfloat16.
//!
//! - [`device`] is what the operations need of a device: memory, launches of kernels by name, matrix products, convolutions.
//! - [`ops`] are the operations: safe functions that check lengths and launch kernels, which are in `kernels/`.
//! - [`counting`] is a device that computes nothing, and says how much memory a GPU would need.
//! - `pieces` and `queue` are what a device has in common with its twin: how memory is taken, and how work is listed and recorded.
//! - `gpu` (feature `gpu`) is the device: the driver, cuBLAS and cuDNN, found and loaded at run time. One binary runs with
//!   and without them.
//! - `twin` (feature `twin`) is its twin for tests: the same kernels compiled for the CPU; `tested` is the one of both that tests
//!   run on.
//!
//! Activations are NHWC, convolution weights `[kernel_h, kernel_w, c_in / groups, c_out]`. This crate knows nothing of
//! tensors with shapes, of candle or of Node; `rkd-core` makes a backend of it.
//!
//! A buffer of the wrong length is a defect of the caller and panics with the name of the operation and both lengths.

pub mod counting;
pub mod device;
#[cfg(all(feature = "gpu", target_os = "linux"))]
pub mod gpu;
pub mod ops;
#[cfg(all(any(feature = "gpu", feature = "twin"), target_os = "linux"))]
mod pieces;
#[cfg(all(any(feature = "gpu", feature = "twin"), target_os = "linux"))]
mod queue;
#[cfg(all(feature = "twin", target_os = "linux"))]
pub mod tested;
#[cfg(all(feature = "twin", target_os = "linux"))]
pub mod twin;

pub use device::{Device, Failure};
#[cfg(all(any(feature = "gpu", feature = "twin"), target_os = "linux"))]
pub use {pieces::Buffer, queue::Counts};
