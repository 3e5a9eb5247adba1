//! A tensor in a device's memory: a shape on the host and a shared buffer.

use std::sync::Arc;

use rkd_cuda::Device;

use crate::error::{Code, Error, Result};
use crate::nn::shape;

/// A handle; cloning copies no numbers.
#[derive(Debug)]
pub struct CudaTensor<D: Device> {
    pub(super) shape: Vec<usize>,
    pub(super) buffer: Arc<D::Buffer>,
    /// The same values as products take them, of a weight that stays as it is.
    pub(super) operand: Option<Arc<D::Buffer>>,
}

impl<D: Device> Clone for CudaTensor<D> {
    fn clone(&self) -> Self {
        CudaTensor { shape: self.shape.clone(), buffer: Arc::clone(&self.buffer), operand: self.operand.clone() }
    }
}

impl<D: Device> CudaTensor<D> {
    /// The same values with other axes.
    pub(super) fn reshaped(&self, shape: &[usize]) -> Result<Self> {
        if shape.iter().product::<usize>() != self.len() {
            return Err(Error::new(Code::Internal, "a tensor keeps its values")
                .with_values(format!("{:?}", self.shape), format!("{shape:?}")));
        }
        Ok(CudaTensor { shape: shape.to_vec(), ..self.clone() })
    }

    /// The number of values.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The number of rows along the last axis.
    pub(super) fn rows(&self) -> usize {
        shape::rows(&self.shape)
    }

    /// The shape with another last axis.
    pub(super) fn with_channels(&self, channels: usize) -> Vec<usize> {
        shape::with_channels(&self.shape, channels)
    }

    /// The length of the last axis.
    pub(super) fn channels(&self) -> usize {
        shape::channels(&self.shape)
    }
}
