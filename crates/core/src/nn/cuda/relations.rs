//! The relational losses.

use rkd_cuda::{Device, ops};

use super::super::backend::{Backend, RelationOperations};
use super::{Cuda, CudaTensor};
use crate::error::Result;

impl<D: Device> RelationOperations<CudaTensor<D>> for Cuda<D> {
    fn rkd_distance(
        &self,
        student: &CudaTensor<D>,
        teacher: &CudaTensor<D>,
        delta: f64,
        divisor: f64,
    ) -> Result<(CudaTensor<D>, CudaTensor<D>)> {
        let n = student.rows();
        if n < 2 {
            return Ok((self.zeros(&[])?, self.zeros(&student.shape)?));
        }
        let relation = ops::Relation { n, delta, divisor };
        let (x, t) = (self.wide(student)?, self.wide(teacher)?);
        let [value, gradient] = ops::rkd_distance(&self.device, &relation, &x, &t)?;
        Ok((Self::tensor(&[], value), Self::tensor(&student.shape, gradient)))
    }

    fn rkd_angle(
        &self,
        student: &CudaTensor<D>,
        teacher: &CudaTensor<D>,
        delta: f64,
        divisor: f64,
        same_leg: bool,
    ) -> Result<(CudaTensor<D>, CudaTensor<D>)> {
        let relation = ops::Relation { n: student.rows(), delta, divisor };
        let (x, t) = (self.wide(student)?, self.wide(teacher)?);
        let [value, gradient] = ops::rkd_angle(&self.device, &relation, same_leg, &x, &t)?;
        Ok((Self::tensor(&[], value), Self::tensor(&student.shape, gradient)))
    }
}
