//! Numbers with a shape, below everything that computes with them: features by name, a feature's rows on the host, tensors
//! of files, and what they start as.

mod feature;
mod host;
mod init;
mod matrix;

pub use feature::{Feature, FeatureMap};
pub use host::HostTensor;
pub use init::Init;
pub use matrix::Matrix;
