use rkd_kernels::activation::Activation;

use super::normalization::{NormGradients, sums_of_gradients};
use super::{check, check_as, columns, int, launch, number};
use crate::device::{Device, Result};

/// The windows of a max pool over `[n, h, w, c]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Images.
    pub n: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output; each window sees a pixel.
    pub output: [usize; 2],
    /// Channels.
    pub c: usize,
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Step between two windows.
    pub stride: [usize; 2],
    /// Padding on each side.
    pub padding: [usize; 2],
}

impl Pool {
    fn pixels(&self) -> [usize; 2] {
        [self.input, self.output].map(|size| self.n * size[0] * size[1])
    }
}

/// Launches a kernel with the windows at its end.
macro_rules! pool {
    ($device:expr, $kernel:ident of $kind:expr, $pool:expr, [$($argument:expr),*], $m:expr) => {{
        let Pool { input: [h, w], output: [output_h, output_w], c, .. } = *$pool;
        let Pool { kernel: [kernel_h, kernel_w], stride: [stride_h, stride_w], padding: [top, left], .. } = *$pool;
        launch!($device, $kernel of $kind, columns($m, c), [
            $($argument,)* $m, int(h), int(w), int(c), int(output_h), int(output_w), int(kernel_h), int(kernel_w),
            int(stride_h), int(stride_w), int(top), int(left),
        ])
    }};
}

/// The maxima and, as bits of integers, where in their images they are.
pub fn max_pool<D: Device>(device: &D, pool: &Pool, x: &D::Buffer) -> Result<[D::Buffer; 2]> {
    let ([pixels, m], kind) = (pool.pixels(), D::kind(x));
    check_as::<D>("max_pool", kind, &[("x", x, pixels * pool.c)]);
    let [y, at] = [device.take_as(kind, m * pool.c)?, device.take(m * pool.c)?];
    pool!(device, max_pool of kind, pool, [x, &y, &at], m)?;
    Ok([y, at])
}

/// The gradient of [`max_pool`], which gave `at`.
pub fn max_pool_backward<D: Device>(device: &D, pool: &Pool, at: &D::Buffer, dy: &D::Buffer) -> Result<D::Buffer> {
    let ([m, windows], kind) = (pool.pixels(), D::kind(dy));
    check::<D>("max_pool_backward", &[("at", at, windows * pool.c)]);
    check_as::<D>("max_pool_backward", kind, &[("dy", dy, windows * pool.c)]);
    let dx = device.take_as(kind, m * pool.c)?;
    pool!(device, max_pool_backward of kind, pool, [dy, at, &dx], m)?;
    Ok(dx)
}

/// A batch normalisation with its activation and the max pool behind it.
#[derive(Debug)]
pub struct PooledNorm<B> {
    /// The maxima.
    pub y: B,
    /// The inputs of the maxima.
    pub won: B,
    /// As bits of integers, where in their images they are.
    pub at: B,
}

/// The max pool of `activation((x - mean) rstd weight + bias)`; `channels` are mean, rstd, weight and bias.
pub fn batch_norm_max_pool<D: Device>(
    device: &D,
    pool: &Pool,
    x: &D::Buffer,
    channels: [&D::Buffer; 4],
    activation: Option<Activation>,
) -> Result<PooledNorm<D::Buffer>> {
    let ([pixels, m], c, kind) = (pool.pixels(), pool.c, D::kind(x));
    let [mean, rstd, weight, bias] = channels;
    let operation = "batch_norm_max_pool";
    check_as::<D>(operation, kind, &[("x", x, pixels * c)]);
    check::<D>(operation, &[("mean", mean, c), ("rstd", rstd, c), ("weight", weight, c), ("bias", bias, c)]);
    let [y, won, at] = [device.take_as(kind, m * c)?, device.take_as(kind, m * c)?, device.take(m * c)?];
    let activation = number(activation);
    pool!(device, batch_norm_max_pool of kind, pool, [x, mean, rstd, weight, bias, activation, &y, &won, &at], m)?;
    Ok(PooledNorm { y, won, at })
}

/// The gradients of [`batch_norm_max_pool`] by the batch's statistics, which gave `won` and `at`: only what has won has a gradient.
pub fn batch_norm_max_pool_backward<D: Device>(
    device: &D,
    pool: &Pool,
    x: &D::Buffer,
    channels: [&D::Buffer; 4],
    activation: Option<Activation>,
    [won, at]: [&D::Buffer; 2],
    dy: &D::Buffer,
) -> Result<NormGradients<D::Buffer>> {
    let ([m, windows], c, kind) = (pool.pixels(), pool.c, D::kind(x));
    let [mean, rstd, weight, bias] = channels;
    let operation = "batch_norm_max_pool_backward";
    check_as::<D>(operation, kind, &[("x", x, m * c), ("won", won, windows * c), ("dy", dy, windows * c)]);
    check::<D>(operation, &[("at", at, windows * c), ("bias", bias, c)]);
    let activation = number(activation);
    let [dbias, dweight] = sums_of_gradients(device, won, [None, Some(bias)], dy, [mean, rstd, weight], activation)?;
    let dx = device.take_as(kind, m * c)?;
    let share = 1.0 / m as f32;
    pool!(
        device,
        batch_norm_max_pool_backward of kind,
        pool,
        [x, dy, at, mean, rstd, weight, bias, activation, &dbias, &dweight, share, &dx],
        m
    )?;
    Ok(NormGradients { dx, dweight, dbias, dresidual: None })
}
