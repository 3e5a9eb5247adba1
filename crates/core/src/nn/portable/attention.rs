//! Self-attention, its gradient written out; see [`Backend::attention`](super::super::Backend::attention).

use candle_core::Tensor;

use crate::error::Result;

/// Q, K and V `[n, heads, t, d]` of `x [n, t, 1, 3 heads d]`.
fn parts(x: &Tensor, heads: usize) -> Result<[Tensor; 3]> {
    let (n, t, _, c) = x.dims4()?;
    let x = x.reshape((n, t, 3, heads, c / 3 / heads))?;
    let part = |i: usize| Ok::<_, crate::error::Error>(x.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous()?);
    Ok([part(0)?, part(1)?, part(2)?])
}

/// Softmax of `factor Q K^T` along the last axis, and the factor.
fn probabilities(query: &Tensor, key: &Tensor) -> Result<(Tensor, f64)> {
    let factor = 1.0 / (query.dims4()?.3 as f64).sqrt();
    let scores = (query.matmul(&key.t()?)? * factor)?;
    let powers = scores.broadcast_sub(&scores.max_keepdim(3)?)?.exp()?;
    Ok((powers.broadcast_div(&powers.sum_keepdim(3)?)?, factor))
}

/// `[n, heads, t, d]` to `[n, t, heads, d]`.
fn tokens_first(x: &Tensor) -> Result<Tensor> {
    Ok(x.transpose(1, 2)?.contiguous()?)
}

pub(super) fn forward(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (n, t, _, c) = x.dims4()?;
    let [query, key, value] = parts(x, heads)?;
    let (probabilities, _) = probabilities(&query, &key)?;
    Ok(tokens_first(&probabilities.matmul(&value)?)?.reshape((n, t, 1, c / 3))?)
}

pub(super) fn backward(x: &Tensor, heads: usize, dy: &Tensor) -> Result<Tensor> {
    let (n, t, _, c) = dy.dims4()?;
    let dy = dy.reshape((n, t, heads, c / heads))?.transpose(1, 2)?.contiguous()?;
    let [query, key, value] = parts(x, heads)?;
    let (probabilities, factor) = probabilities(&query, &key)?;
    let dvalue = probabilities.t()?.contiguous()?.matmul(&dy)?;
    let dprobabilities = dy.matmul(&value.t()?)?;
    let along = (&probabilities * &dprobabilities)?.sum_keepdim(3)?;
    let dscores = ((probabilities * dprobabilities.broadcast_sub(&along)?)? * factor)?;
    let (dquery, dkey) = (dscores.matmul(&key)?, dscores.t()?.contiguous()?.matmul(&query)?);
    let parts = [tokens_first(&dquery)?, tokens_first(&dkey)?, tokens_first(&dvalue)?];
    Ok(Tensor::stack(&parts, 2)?.reshape((n, t, 1, 3 * c))?)
}
