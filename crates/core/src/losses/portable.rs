//! The relational losses as compositions of candle operations: for every device and precision, and the oracle of the
//! kernels in tests.
//!
//! The same maths as [`rkd_kernels::relations`], written for whole matrices, one vertex at a time: memory stays O(n^2). The gradients are the analytic ones; candle's autograd would keep all n^3 cosines.
//!
//! Distances come from a matrix product of centred rows, in the tensors' own precision. In float32 this is wrong for
//! near duplicates (module head of the kernels); convert to float64 first where it matters.

use candle_core::{D, DType, Tensor};

use super::Reduction;
use crate::Result;

/// RKD-D of `student` `[n, d]` and `teacher` `[n, e]`: the value, a scalar, and the gradient `[n, d]`.
///
/// # Errors
/// Those of candle, for tensors of other shapes or on different devices.
pub fn rkd_distance(student: &Tensor, teacher: &Tensor, delta: f64, reduction: Reduction) -> Result<(Tensor, Tensor)> {
    let n = student.dim(0)?;
    if n < 2 {
        return Ok((student.zeros_like()?.sum_all()?, student.zeros_like()?));
    }
    let pairs = (n * (n - 1)) as f64;
    let count = if reduction == Reduction::Distinct { pairs } else { (n * n) as f64 };
    let relative = |x: &Tensor| -> Result<[Tensor; 4]> {
        let squared = squared_distances(x)?;
        let away = off_diagonal(x)?;
        let distances = (squared.maximum(1e-12)?.sqrt()? * &away)?;
        let mean = (distances.sum_all()? / pairs)?;
        Ok([distances.broadcast_div(&mean)?, mean, distances, (squared.gt(1e-12)?.to_dtype(x.dtype())? * &away)?])
    };
    let [b, mean, distances, real] = relative(student)?;
    let [a, ..] = relative(teacher)?;
    let (h, g) = huber(&(&b - &a)?, delta)?;
    let shift = ((&g * &b)?.sum_all()? / pairs)?;
    let slope = (g.broadcast_sub(&shift)?.broadcast_div(&mean)? / count)?;
    // dL/dD of an unordered pair is dL/dd / d; 1 is added where d is 0, on the diagonal, whose weight is 0.
    let weights = ((slope * &real)? / (distances + off_diagonal(student)?.affine(-1.0, 1.0)?)?)?;
    Ok(((h.sum_all()? / count)?, pair_gradient(student, &weights)?))
}

/// RKD-A of `student` `[n, d]` and `teacher` `[n, e]`: the value, a scalar, and the gradient `[n, d]`.
///
/// # Errors
/// Those of candle, for tensors of other shapes or on different devices.
pub fn rkd_angle(student: &Tensor, teacher: &Tensor, delta: f64, reduction: Reduction) -> Result<(Tensor, Tensor)> {
    let n = student.dim(0)?;
    let distinct = reduction == Reduction::Distinct;
    if n < 2 || (n < 3 && distinct) {
        return Ok((student.zeros_like()?.sum_all()?, student.zeros_like()?));
    }
    let count = if distinct { (n * (n - 1) * (n - 2)) as f64 } else { (n as f64).powi(3) };
    let away = off_diagonal(student)?;
    let (s, t) = (squared_distances(student)?, squared_distances(teacher)?);
    let (r_s, r_t) = (inverse_roots(&s)?, inverse_roots(&t)?);
    let mut value = student.zeros_like()?.sum_all()?;
    let mut opposite = s.zeros_like()?;
    let mut legs = Vec::with_capacity(n);
    for a in 0..n {
        let (w, cos_s) = cosines(&s, &r_s, a)?;
        let (_, cos_t) = cosines(&t, &r_t, a)?;
        let mut difference = (&cos_s - cos_t)?;
        if distinct {
            difference = (difference * &away)?;
        }
        let (h, g) = huber(&difference, delta)?;
        value = (value + h.sum_all()?)?;
        let gw = (&g * &w)?;
        let squares = r_s.get(a)?.sqr()?;
        legs.push(((gw.sum(D::Minus1)? * 2.0)? - (g * cos_s)?.sum(D::Minus1)? * squares)?);
        opposite = (opposite + gw)?;
    }
    let legs = Tensor::stack(&legs, 0)?;
    let weights = ((&legs + legs.t()?)? - (opposite * 2.0)?)?;
    Ok(((value / count)?, (pair_gradient(student, &(weights * away)?)? / count)?))
}

/// `(w, cos)` of all angles at the vertex `a`, `[n, n]`, by the law of cosines.
fn cosines(squared: &Tensor, inverse: &Tensor, a: usize) -> Result<(Tensor, Tensor)> {
    let (row, r) = (squared.get(a)?, inverse.get(a)?);
    let numerator = (row.unsqueeze(1)?.broadcast_add(&row.unsqueeze(0)?)? - squared)?;
    let w = (r.unsqueeze(1)?.broadcast_mul(&r.unsqueeze(0)?)? * 0.5)?;
    let cos = (numerator * &w)?;
    Ok((w, cos))
}

/// The Huber function and its derivative.
fn huber(x: &Tensor, delta: f64) -> Result<(Tensor, Tensor)> {
    let g = x.clamp(-delta, delta)?;
    let h = (&g * (x - (&g * 0.5)?)?)?;
    Ok((h, g))
}

/// `[n, n]`: |x_i - x_j|^2 from the product of centred rows; exactly 0 where rounding leaves nothing.
fn squared_distances(x: &Tensor) -> Result<Tensor> {
    let x = x.broadcast_sub(&x.mean_keepdim(0)?)?;
    let norms = x.sqr()?.sum_keepdim(1)?; // [n, 1]
    let squared = (norms.broadcast_add(&norms.t()?)? - (x.matmul(&x.t()?)? * 2.0)?)?;
    let noise = norms.broadcast_add(&norms.t()?)? * (if x.dtype() == DType::F64 { 1e-15 } else { 1e-6 });
    let real = squared.gt(&noise?)?.to_dtype(x.dtype())?;
    Ok(((squared * real)? * off_diagonal(&x)?)?)
}

/// 1 / sqrt(D), 0 where D is 0.
fn inverse_roots(squared: &Tensor) -> Result<Tensor> {
    let real = squared.gt(0.0)?.to_dtype(squared.dtype())?;
    Ok((&real / (squared + real.affine(-1.0, 1.0)?)?.sqrt()?)?)
}

/// `[n, n]`: 0 on the diagonal, 1 elsewhere.
fn off_diagonal(x: &Tensor) -> Result<Tensor> {
    Ok(Tensor::eye(x.dim(0)?, x.dtype(), x.device())?.affine(-1.0, 1.0)?)
}

/// dL/dx_i = sum_j 2 w_ij (x_i - x_j) for symmetric weights.
fn pair_gradient(x: &Tensor, weights: &Tensor) -> Result<Tensor> {
    let x = x.broadcast_sub(&x.mean_keepdim(0)?)?;
    let own = x.broadcast_mul(&weights.sum_keepdim(1)?)?;
    Ok(((own - weights.matmul(&x)?)? * 2.0)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use rkd_kernels::Team;

    use super::*;
    use crate::losses::{Loss, LossInputs, Matrix, RkdAngle, RkdDistance};
    use crate::random::Random;

    fn draw(n: usize, d: usize, purpose: &str) -> Vec<f64> {
        let mut random = Random::keyed(5, n as u64, d as u64, purpose);
        (0..n * d).map(|_| random.normal()).collect()
    }

    #[test]
    fn the_kernels_compute_the_same() {
        let team = Team::new(2);
        for (n, d, e, delta) in [(1, 2, 2, 1.0), (2, 3, 4, 1.0), (7, 4, 9, 0.2), (40, 8, 3, 1.0)] {
            for reduction in [Reduction::Reference, Reduction::Distinct] {
                let (student, teacher) = (draw(n, d, "student"), draw(n, e, "teacher"));
                let tensor = |data: &[f64], d| Tensor::from_slice(data, (n, d), &Device::Cpu).unwrap();
                let z = Matrix::new("student", &student, n, d).unwrap();
                let t = Matrix::new("teacher", &teacher, n, e).unwrap();
                let inputs = LossInputs::new(&z, &team, Random::keyed(0, 0, 0, "")).with_teacher(&t);
                let (s, t) = (tensor(&student, d), tensor(&teacher, e));
                let distance = RkdDistance { delta, reduction }.evaluate(&inputs).unwrap();
                let angle = RkdAngle { delta, reduction }.evaluate(&inputs).unwrap();
                let portable = [rkd_distance(&s, &t, delta, reduction), rkd_angle(&s, &t, delta, reduction)];
                for (kernel, portable) in [distance, angle].into_iter().zip(portable) {
                    let (value, gradient) = portable.unwrap();
                    let (value, gradient) = (value.to_scalar::<f64>().unwrap(), gradient.flatten_all().unwrap());
                    let gradient = gradient.to_vec1::<f64>().unwrap();
                    let largest = gradient.iter().fold(1e-6f64, |largest, g| largest.max(g.abs()));
                    assert!((kernel.value - value).abs() < 1e-11, "n={n}: {} {value}", kernel.value);
                    assert!(
                        kernel.gradient.iter().zip(&gradient).all(|(a, b)| (a - b).abs() < 1e-9 * largest),
                        "n={n}"
                    );
                }
            }
        }
    }
}
