//! The operations of the losses on maps, which they take in any kind of numbers and compute in float32.

use rkd_cuda::device::Kind;
use rkd_cuda::{Device, ops};

use super::super::backend::MapOperations;
use super::{Cuda, CudaTensor, four, images};
use crate::error::Result;

impl<D: Device> MapOperations<CudaTensor<D>> for Cuda<D> {
    fn average(&self, x: &CudaTensor<D>, size: [usize; 2]) -> Result<CudaTensor<D>> {
        let [n, h, w, c] = four(&x.shape)?;
        let y = ops::average(&self.device, &*self.wide(x)?, [[h, w], size], [n, c])?;
        Ok(Self::tensor(&[n, size[0], size[1], c], y))
    }

    fn average_backward(&self, from: [usize; 2], dy: &CudaTensor<D>) -> Result<CudaTensor<D>> {
        let [n, h, w, c] = four(&dy.shape)?;
        let dx = ops::average_backward(&self.device, &*self.wide(dy)?, [from, [h, w]], [n, c])?;
        Ok(Self::tensor(&[n, from[0], from[1], c], dx))
    }

    fn project(&self, x: &CudaTensor<D>, weight: &CudaTensor<D>) -> Result<CudaTensor<D>> {
        let [b, a] = [weight.shape[0], weight.shape[1]];
        let y = self.multiply([x.rows(), b, a], (&*self.wide(x)?, false), (&weight.buffer, true), Kind::Float32)?;
        Ok(Self::tensor(&x.with_channels(b), y))
    }

    fn project_backward(
        &self,
        x: &CudaTensor<D>,
        weight: &CudaTensor<D>,
        dy: &CudaTensor<D>,
    ) -> Result<(CudaTensor<D>, CudaTensor<D>)> {
        let ([b, a], rows) = ([weight.shape[0], weight.shape[1]], x.rows());
        let (own, dy) = (self.wide(x)?, self.wide(dy)?);
        let dx = self.multiply([rows, a, b], (&dy, false), (&weight.buffer, false), Kind::Float32)?;
        let dweight = self.multiply([b, a, rows], (&dy, true), (&own, false), Kind::Float32)?;
        Ok((Self::tensor(&x.shape, dx), Self::tensor(&[b, a], dweight)))
    }

    fn attention(&self, x: &CudaTensor<D>) -> Result<(CudaTensor<D>, CudaTensor<D>)> {
        let [n, pixels, c] = images(&x.shape)?;
        let [map, norm] = ops::attention_map(&self.device, &*self.wide(x)?, [n, pixels, c])?;
        Ok((Self::tensor(&[n, pixels], map), Self::tensor(&[n], norm)))
    }

    fn attention_backward(
        &self,
        x: &CudaTensor<D>,
        attention: &CudaTensor<D>,
        norm: &CudaTensor<D>,
        dy: &CudaTensor<D>,
    ) -> Result<CudaTensor<D>> {
        let slopes = ops::l2_normalize_backward(&self.device, &attention.buffer, &norm.buffer, &dy.buffer)?;
        let factor = 2.0 / x.channels() as f32;
        Ok(Self::tensor(&x.shape, ops::scale_rows(&self.device, &*self.wide(x)?, &slopes, factor)?))
    }

    fn squared_error(
        &self,
        a: &CudaTensor<D>,
        b: &CudaTensor<D>,
        count: f64,
    ) -> Result<(CudaTensor<D>, CudaTensor<D>)> {
        let [value, gradient] = ops::squared_error(&self.device, &*self.wide(a)?, &*self.wide(b)?, count)?;
        Ok((Self::tensor(&[], value), Self::tensor(&a.shape, gradient)))
    }

    fn squares(&self, x: &CudaTensor<D>) -> Result<CudaTensor<D>> {
        Ok(Self::tensor(&[], ops::squares(&self.device, &*self.wide(x)?)?))
    }
}
