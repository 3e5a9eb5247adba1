//! A float32 tensor in a device's memory: a shape on the host and a shared buffer.

use std::sync::Arc;

use rkd_cuda::Device;

use crate::error::{Code, Error, Result};

/// A handle; cloning copies no numbers.
#[derive(Debug)]
pub struct CudaTensor<D: Device> {
    pub(super) shape: Vec<usize>,
    pub(super) buffer: Arc<D::Buffer>,
}

impl<D: Device> Clone for CudaTensor<D> {
    fn clone(&self) -> Self {
        CudaTensor { shape: self.shape.clone(), buffer: Arc::clone(&self.buffer) }
    }
}

impl<D: Device> CudaTensor<D> {
    /// The same values with other axes.
    pub(super) fn reshaped(&self, shape: &[usize]) -> Result<Self> {
        if shape.iter().product::<usize>() != self.len() {
            return Err(Error::new(Code::Internal, "a tensor keeps its values")
                .with_values(format!("{:?}", self.shape), format!("{shape:?}")));
        }
        Ok(CudaTensor { shape: shape.to_vec(), buffer: Arc::clone(&self.buffer) })
    }

    /// The number of values.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The number of rows along the last axis.
    pub(super) fn rows(&self) -> usize {
        self.shape.split_last().map_or(1, |(_, before)| before.iter().product())
    }

    /// The shape with another last axis.
    pub(super) fn with_channels(&self, channels: usize) -> Vec<usize> {
        let before = self.shape.split_last().map_or(&[][..], |(_, before)| before);
        before.iter().copied().chain([channels]).collect()
    }

    /// The length of the last axis.
    pub(super) fn channels(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }
}
