//! A float32 tensor on the CPU: a shape and a shared, recycled buffer.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::buffer::{Buffer, FreeList};
use crate::error::{Code, Error, Result};
use crate::nn::shape;

/// A handle; cloning copies no numbers.
#[derive(Clone, Debug)]
pub struct CpuTensor {
    pub(super) shape: Vec<usize>,
    buffer: Arc<Buffer<f32>>,
    /// The place of the first value in the buffer.
    first: usize,
    /// Of a constant: the values in the form that the kernels read, once one has asked.
    prepared: Option<Arc<OnceLock<Buffer<f32>>>>,
}

impl CpuTensor {
    /// A tensor whose values `fill` writes, all of them; where the list only counts, there are none to write.
    pub(super) fn make(list: &Arc<FreeList<f32>>, shape: &[usize], fill: impl FnOnce(&mut [f32])) -> Self {
        let mut buffer = list.take(shape.iter().product());
        if !list.counts() {
            fill(buffer.values_mut());
        }
        CpuTensor { shape: shape.to_vec(), buffer: Arc::new(buffer), first: 0, prepared: None }
    }

    /// The same values with other axes.
    pub(super) fn reshaped(&self, shape: &[usize]) -> Result<Self> {
        if shape.iter().product::<usize>() != self.shape.iter().product::<usize>() {
            return Err(Error::new(Code::Internal, "a tensor keeps its values")
                .with_values(format!("{:?}", self.shape), format!("{shape:?}")));
        }
        Ok(CpuTensor { shape: shape.to_vec(), buffer: Arc::clone(&self.buffer), first: self.first, prepared: None })
    }

    /// The same values, which stay: what is prepared of them is kept.
    pub(super) fn constant(&self) -> Self {
        CpuTensor { prepared: Some(Arc::default()), ..self.clone() }
    }

    /// The `length` values that `fill` prepares, or has prepared before; `None` where the tensor is no constant, or there is
    /// nothing to prepare.
    pub(super) fn prepared(
        &self,
        list: &Arc<FreeList<f32>>,
        length: usize,
        fill: impl FnOnce(&mut [f32]),
    ) -> Option<&[f32]> {
        let prepared = self.prepared.as_ref().filter(|_| length > 0)?.get_or_init(|| {
            let mut buffer = list.take(length);
            if !list.counts() {
                fill(buffer.values_mut());
            }
            buffer
        });
        Some(prepared.values())
    }

    /// The images `[first, end)`, in the same memory.
    pub(super) fn images(&self, [first, end]: [usize; 2]) -> Self {
        let mut images = CpuTensor { prepared: None, ..self.clone() };
        images.shape[0] = end - first;
        images.first += first * self.shape[1..].iter().product::<usize>();
        images
    }

    /// Where its values lie in the buffer; nowhere in one that only counts.
    fn place(&self) -> Range<usize> {
        let len = self.shape.iter().product::<usize>();
        if self.buffer.values().is_empty() { 0..0 } else { self.first..self.first + len }
    }

    /// The values, row-major.
    pub fn values(&self) -> &[f32] {
        &self.buffer.values()[self.place()]
    }

    /// The values, to be changed in place; copied first if another handle shares them.
    pub(super) fn values_mut(&mut self, list: &Arc<FreeList<f32>>) -> &mut [f32] {
        self.prepared = None;
        if Arc::get_mut(&mut self.buffer).is_none() {
            *self = CpuTensor::make(list, &self.shape, |copy| copy.copy_from_slice(self.values()));
        }
        // Either it was the only handle, or it is now.
        let place = self.place();
        &mut Arc::get_mut(&mut self.buffer).expect("the only handle").values_mut()[place]
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
