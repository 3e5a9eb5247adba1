//! The operations of the losses on maps.
//!
//! The mean over a window of rows and columns is the mean over the rows of the means over the columns, so averaging is a
//! product with one small matrix on either side: Y = R X C^T, and its gradient is R^T dY C.
//!
//! ```text
//! attention:  q_p = 1/c sum_k x_pk^2,   a = q / |q|,   dq = (da - a <a, da>) / |q|,   dx_pk = dq_p 2 x_pk / c
//! ```

use candle_core::{D, DType, Tensor};

use super::super::backend::MapOperations;
use super::{Portable, rows};
use crate::error::Result;

/// Smallest norm that divides, PyTorch's.
const SMALLEST_NORM: f64 = 1e-12;

/// The means of adaptive pooling along one axis, `[to, from]`: row i is over `floor(i from / to)` to
/// `ceil((i + 1) from / to) - 1`.
fn means(from: usize, to: usize, like: &Tensor) -> Result<Tensor> {
    let mut matrix = vec![0.0; to * from];
    for (i, row) in matrix.chunks_exact_mut(from).enumerate() {
        let window = i * from / to..((i + 1) * from).div_ceil(to);
        let share = 1.0 / window.len() as f64;
        row[window].fill(share);
    }
    Ok(Tensor::from_vec(matrix, (to, from), like.device())?.to_dtype(like.dtype())?)
}

/// `R X C^T` of every channel; R `[h2, h]`, C `[w2, w]`.
fn sandwich(x: &Tensor, rows: &Tensor, columns: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    let (h2, w2) = (rows.dims()[0], columns.dims()[0]);
    let x = rows.unsqueeze(0)?.broadcast_matmul(&x.contiguous()?.reshape((n, h, w * c))?)?;
    let x = columns.unsqueeze(0)?.broadcast_matmul(&x.reshape((n * h2, w, c))?)?;
    Ok(x.reshape((n, h2, w2, c))?)
}

/// The last axis summed in the device's precision, the rest in float64: a single number of the device's type.
fn total(x: &Tensor) -> Result<Tensor> {
    Ok(x.sum(D::Minus1)?.to_dtype(DType::F64)?.sum_all()?.to_dtype(x.dtype())?)
}

impl MapOperations<Tensor> for Portable {
    fn average(&self, x: &Tensor, size: [usize; 2]) -> Result<Tensor> {
        // A vector is of one pixel already, and never comes here.
        let (_, h, w, _) = x.dims4()?;
        sandwich(x, &means(h, size[0], x)?, &means(w, size[1], x)?)
    }

    fn average_backward(&self, from: [usize; 2], dy: &Tensor) -> Result<Tensor> {
        let (_, h, w, _) = dy.dims4()?;
        let transposed = |from, to| Ok::<_, crate::error::Error>(means(from, to, dy)?.t()?.contiguous()?);
        sandwich(dy, &transposed(from[0], h)?, &transposed(from[1], w)?)
    }

    fn project(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        if let Some(channels) = shape.last_mut() {
            *channels = weight.dims()[0];
        }
        Ok(rows(x)?.matmul(&weight.t()?)?.reshape(shape)?)
    }

    fn project_backward(&self, x: &Tensor, weight: &Tensor, dy: &Tensor) -> Result<(Tensor, Tensor)> {
        let (x_rows, dy_rows) = (rows(x)?, rows(dy)?);
        Ok((dy_rows.matmul(weight)?.reshape(x.dims())?, dy_rows.t()?.matmul(&x_rows)?))
    }

    fn attention(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (n, h, w, _) = x.dims4()?;
        let q = x.sqr()?.mean(D::Minus1)?.reshape((n, h * w))?;
        let norm = q.sqr()?.sum(1)?.sqrt()?;
        Ok((q.broadcast_div(&norm.maximum(SMALLEST_NORM)?.unsqueeze(1)?)?, norm))
    }

    fn attention_backward(&self, x: &Tensor, attention: &Tensor, norm: &Tensor, dy: &Tensor) -> Result<Tensor> {
        let (n, h, w, c) = x.dims4()?;
        let dq = super::normalization::l2_normalize_backward(attention, norm, dy)?;
        let slope = (dq.reshape((n, h, w, 1))? * (2.0 / c as f64))?;
        Ok(x.broadcast_mul(&slope)?)
    }

    fn squared_error(&self, a: &Tensor, b: &Tensor, count: f64) -> Result<(Tensor, Tensor)> {
        // A vector and a map of one pixel are of two shapes.
        let difference = (a - b.reshape(a.dims())?)?;
        Ok(((total(&difference.sqr()?)? / count)?, (difference * (2.0 / count))?))
    }

    fn squares(&self, x: &Tensor) -> Result<Tensor> {
        total(&x.sqr()?)
    }
}
