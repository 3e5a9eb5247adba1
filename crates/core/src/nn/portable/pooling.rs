//! Max pool: one gather for each tap of the window, keeping the best so far and where it was.

use candle_core::{DType, Tensor};

use super::super::geometry::Pool2d;
use super::rows;
use super::windows::Windows;
use crate::error::Result;

/// The maxima `[n, output_h, output_w, c]` and their flat positions in the input, `[windows, c]`. The first maximum
/// wins; NaN wins over everything, as in PyTorch.
pub(super) fn max_pool(windows: &Pool2d, x: &Tensor) -> Result<(Tensor, Tensor)> {
    let (n, h, w, c) = x.dims4()?;
    let output = windows.output([h, w])?;
    let Pool2d { kernel, stride, padding, .. } = *windows;
    let of = Windows { n, input: [h, w], output, kernel, stride, padding, dilation: [1; 2] };
    let lowest = Tensor::full(f32::NEG_INFINITY, (1, c), x.device())?.to_dtype(x.dtype())?;
    let pixels = Tensor::cat(&[&rows(x)?, &lowest], 0)?;
    let channels = Tensor::arange(0, c as u32, x.device())?;
    let pixel_of_tap = of.pixel_of_tap();
    let mut best: Option<(Tensor, Tensor)> = None;
    for tap in 0..of.taps() {
        let pixel: Vec<u32> = pixel_of_tap.iter().skip(tap).step_by(of.taps()).copied().collect();
        let first: Vec<u32> = pixel.iter().map(|&pixel| pixel * c as u32).collect();
        let value = pixels.index_select(&Tensor::new(pixel, x.device())?, 0)?;
        let position = Tensor::new(first, x.device())?.reshape(((), 1))?.broadcast_add(&channels)?;
        best = Some(match best {
            None => (value, position),
            Some((so_far, at)) => {
                let better = value.gt(&so_far)?.maximum(&value.ne(&value)?)?;
                (better.where_cond(&value, &so_far)?, better.where_cond(&position, &at)?)
            }
        });
    }
    let (value, position) = best.expect("a window has at least one tap");
    Ok((value.reshape((n, output[0], output[1], c))?, position))
}

/// Adds each gradient to the position of its maximum.
pub(super) fn max_pool_backward(input: &[usize], positions: &Tensor, dy: &Tensor) -> Result<Tensor> {
    debug_assert_eq!(positions.dtype(), DType::U32);
    let (count, c) = (input.iter().product::<usize>(), input[3]);
    // One pixel more: the padding, which wins only where a whole window is minus infinity.
    let dx = Tensor::zeros(count + c, dy.dtype(), dy.device())?;
    let dx = dx.index_add(&positions.flatten_all()?, &dy.flatten_all()?, 0)?;
    Ok(dx.narrow(0, 0, count)?.reshape(input)?)
}
