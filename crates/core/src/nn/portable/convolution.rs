//! Convolution as gather and matrix product.
//!
//!   columns [m, taps * c] = pixels of every window side by side;   y [m, out] = columns weight [taps * c, out]
//!   d weight = columns^T dy;   d columns = dy weight^T, added back to the pixels they were read from
//!
//! m = n * output_h * output_w windows. Groups are independent convolutions on slices of the channels. Where every channel
//! is a group of its own, the product is of each value with its weight, [m, taps, c] with [taps, c], summed over taps:
//! thousands of products of one channel would take minutes.

use candle_core::Tensor;

use super::super::geometry::Conv2d;
use super::windows::Windows;
use super::{column_sums, rows};
use crate::error::Result;

/// `[n, h, w, c_in]` to `[n, output_h, output_w, c_out]`.
pub(super) fn forward(windows: &Conv2d, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let gather = Gather::new(windows, x.dims(), x)?;
    if is_depthwise(windows, weight) {
        let products = gather.taps(x)?.broadcast_mul(&flat(weight)?)?;
        return finished(&gather, products.sum(1)?, weight.dims()[3], bias);
    }
    let parts = (0..windows.groups)
        .map(|group| {
            let columns = gather.columns(&slice(x, windows, group)?)?;
            Ok(columns.matmul(&flat(&slice(weight, windows, group)?)?)?)
        })
        .collect::<Result<Vec<_>>>()?;
    finished(&gather, Tensor::cat(&parts, 1)?, weight.dims()[3], bias)
}

/// `y [m, c_out]` as a map, with the bias.
fn finished(gather: &Gather, mut y: Tensor, c_out: usize, bias: Option<&Tensor>) -> Result<Tensor> {
    if let Some(bias) = bias {
        y = y.broadcast_add(bias)?;
    }
    let of = &gather.of;
    Ok(y.reshape((of.n, of.output[0], of.output[1], c_out))?)
}

/// Whether every channel is a group of its own, one in and one out.
fn is_depthwise(windows: &Conv2d, weight: &Tensor) -> bool {
    windows.groups > 1 && weight.dims()[2..] == [1, windows.groups]
}

/// The gradient with respect to the input of shape `input`.
pub(super) fn backward_input(windows: &Conv2d, input: &[usize], weight: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let gather = Gather::new(windows, input, dy)?;
    if is_depthwise(windows, weight) {
        let columns = rows(dy)?.unsqueeze(1)?.broadcast_mul(&flat(weight)?)?;
        return Ok(gather.add_back(&columns.flatten_from(1)?)?.reshape(input)?);
    }
    let parts = (0..windows.groups)
        .map(|group| {
            let weight = flat(&slice(weight, windows, group)?)?;
            let columns = rows(&slice(dy, windows, group)?)?.matmul(&weight.t()?)?;
            gather.add_back(&columns)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Tensor::cat(&parts, 1)?.reshape(input)?)
}

/// The gradient with respect to the weight, `[kernel_h, kernel_w, c_in / groups, c_out]`.
pub(super) fn backward_weight(windows: &Conv2d, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let gather = Gather::new(windows, x.dims(), x)?;
    if windows.groups > 1 && [x, dy].iter().all(|map| map.dims()[3] == windows.groups) {
        let products = gather.taps(x)?.broadcast_mul(&rows(dy)?.unsqueeze(1)?)?;
        let sums = column_sums(&products.flatten_from(1)?)?;
        return Ok(sums.reshape((windows.kernel[0], windows.kernel[1], 1, windows.groups))?);
    }
    let parts = (0..windows.groups)
        .map(|group| {
            let columns = gather.columns(&slice(x, windows, group)?)?;
            Ok(columns.t()?.matmul(&rows(&slice(dy, windows, group)?)?)?)
        })
        .collect::<Result<Vec<_>>>()?;
    let [kernel_h, kernel_w] = windows.kernel;
    let (c_in, c_out) = (x.dims()[3] / windows.groups, dy.dims()[3]);
    Ok(Tensor::cat(&parts, 1)?.reshape((kernel_h, kernel_w, c_in, c_out))?)
}

/// The share of `group` in the last axis.
fn slice(tensor: &Tensor, windows: &Conv2d, group: usize) -> Result<Tensor> {
    let share = tensor.dims()[3] / windows.groups;
    Ok(tensor.narrow(3, group * share, share)?.contiguous()?)
}

/// `[kernel_h, kernel_w, c, out]` as `[taps * c, out]`.
fn flat(weight: &Tensor) -> Result<Tensor> {
    rows(weight)
}

/// Pixels to columns and back.
struct Gather {
    of: Windows,
    index: Tensor,
}

impl Gather {
    fn new(windows: &Conv2d, input: &[usize], like: &Tensor) -> Result<Self> {
        let size = [input[1], input[2]];
        let of = Windows {
            n: input[0],
            input: size,
            output: windows.output(size)?,
            kernel: windows.kernel,
            stride: windows.stride,
            padding: windows.padding,
            dilation: windows.dilation,
        };
        let index = Tensor::new(of.pixel_of_tap(), like.device())?;
        Ok(Gather { of, index })
    }

    /// `[n, h, w, c]` to `[windows, taps * c]`.
    fn columns(&self, x: &Tensor) -> Result<Tensor> {
        let pixels = rows(x)?;
        let c = pixels.dims()[1];
        let padding = Tensor::zeros((1, c), x.dtype(), x.device())?;
        let gathered = Tensor::cat(&[&pixels, &padding], 0)?.index_select(&self.index, 0)?;
        Ok(gathered.reshape((self.of.count(), self.of.taps() * c))?)
    }

    /// `[n, h, w, c]` to `[windows, taps, c]`.
    fn taps(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.columns(x)?.reshape((self.of.count(), self.of.taps(), ()))?)
    }

    /// The transpose of [`columns`](Gather::columns): `[windows, taps * c]` to `[pixels, c]`.
    fn add_back(&self, columns: &Tensor) -> Result<Tensor> {
        let c = columns.dims()[1] / self.of.taps();
        let pixels = Tensor::zeros((self.of.pixels() + 1, c), columns.dtype(), columns.device())?;
        let taps = columns.reshape((self.of.count() * self.of.taps(), c))?;
        Ok(pixels.index_add(&self.index, &taps, 0)?.narrow(0, 0, self.of.pixels())?)
    }
}
