//! Numbers with a shape, below everything that computes with them: features by name, a feature's rows on the host, tensors
//! of files.

mod feature;
mod host;
mod matrix;

pub use feature::Feature;
pub use host::HostTensor;
pub use matrix::Matrix;
