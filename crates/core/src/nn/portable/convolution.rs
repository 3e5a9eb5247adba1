//! Convolution as gather and matrix product.
//!
//!   columns [m, taps * c] = pixels of every window side by side;   y [m, out] = columns weight [taps * c, out]
//!   d weight = columns^T dy;   d columns = dy weight^T, added back to the pixels they were read from
//!
//! m = n * output_h * output_w windows. Groups are independent convolutions on slices of the channels.

use candle_core::Tensor;

use super::super::geometry::Conv2d;
use super::rows;
use super::windows::Windows;
use crate::error::Result;

/// `[n, h, w, c_in]` to `[n, output_h, output_w, c_out]`.
pub(super) fn forward(windows: &Conv2d, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let gather = Gather::new(windows, x.dims(), x)?;
    let parts = (0..windows.groups)
        .map(|group| {
            let columns = gather.columns(&slice(x, windows, group)?)?;
            Ok(columns.matmul(&flat(&slice(weight, windows, group)?)?)?)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut y = Tensor::cat(&parts, 1)?;
    if let Some(bias) = bias {
        y = y.broadcast_add(bias)?;
    }
    let (of, c_out) = (&gather.of, weight.dims()[3]);
    Ok(y.reshape((of.n, of.output[0], of.output[1], c_out))?)
}

/// The gradient with respect to the input of shape `input`.
pub(super) fn backward_input(windows: &Conv2d, input: &[usize], weight: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let gather = Gather::new(windows, input, dy)?;
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

    /// The transpose of [`columns`](Gather::columns): `[windows, taps * c]` to `[pixels, c]`.
    fn add_back(&self, columns: &Tensor) -> Result<Tensor> {
        let c = columns.dims()[1] / self.of.taps();
        let pixels = Tensor::zeros((self.of.pixels() + 1, c), columns.dtype(), columns.device())?;
        let taps = columns.reshape((self.of.count() * self.of.taps(), c))?;
        Ok(pixels.index_add(&self.index, &taps, 0)?.narrow(0, 0, self.of.pixels())?)
    }
}
