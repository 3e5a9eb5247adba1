//! A tensor on the host, in float32: what files hold and devices take.

/// A float32 tensor in row-major order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostTensor {
    /// Lengths of the axes; empty for a single number.
    pub shape: Vec<usize>,
    /// The values, as many as the product of `shape`.
    pub data: Vec<f32>,
}
