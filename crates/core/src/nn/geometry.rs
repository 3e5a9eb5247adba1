//! Geometry of sliding windows: convolution and pooling. Everything is `[vertical, horizontal]`.

use crate::error::{Code, Error, Result};

/// The windows of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Step between two windows.
    pub stride: [usize; 2],
    /// Zeros on each side.
    pub padding: [usize; 2],
    /// Zeros below and to the right of those; see [`Conv2d::same`].
    pub extra: [usize; 2],
    /// Step between two taps of the kernel; 1 is a dense kernel.
    pub dilation: [usize; 2],
    /// Number of independent groups of channels; divides the input's and the output's channels.
    pub groups: usize,
}

impl Conv2d {
    /// A dense square kernel in one group.
    pub fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        let [kernel, stride, padding] = [kernel, stride, padding].map(|size| [size; 2]);
        Conv2d { kernel, stride, padding, extra: [0; 2], dilation: [1; 2], groups: 1 }
    }

    /// A dense square kernel in one group with TensorFlow's padding "same" for inputs of `side` pixels: so many zeros
    /// that the output has `side / stride` pixels, rounded up; the odd one is below and to the right.
    pub fn same(kernel: usize, stride: usize, side: usize) -> Self {
        let zeros = ((side.div_ceil(stride) - 1) * stride + kernel).saturating_sub(side);
        Conv2d { extra: [zeros % 2; 2], ..Conv2d::square(kernel, stride, zeros / 2) }
    }

    /// Height and width of the output, or an error where the input is smaller than one window.
    pub fn output(&self, input: [usize; 2]) -> Result<[usize; 2]> {
        let mut output = [0; 2];
        for axis in 0..2 {
            let span = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
            let padded = input[axis] + 2 * self.padding[axis] + self.extra[axis];
            if padded < span {
                return Err(too_small("convolution", span, padded));
            }
            output[axis] = (padded - span) / self.stride[axis] + 1;
        }
        Ok(output)
    }
}

/// The windows of a max pool. Padding never wins a maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2d {
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Step between two windows; smaller than the kernel: they overlap.
    pub stride: [usize; 2],
    /// Padding on each side; at most half a kernel, so that every window sees a pixel.
    pub padding: [usize; 2],
    /// Whether a last, incomplete window counts. As in PyTorch it must start inside the input or the left padding.
    pub ceil: bool,
}

impl Pool2d {
    /// A square window.
    pub fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Pool2d { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 2], ceil: false }
    }

    /// Height and width of the output, or an error where the input is smaller than one window.
    pub fn output(&self, input: [usize; 2]) -> Result<[usize; 2]> {
        let mut output = [0; 2];
        for axis in 0..2 {
            let (kernel, stride, padding) = (self.kernel[axis], self.stride[axis], self.padding[axis]);
            let padded = input[axis] + 2 * padding;
            if padded < kernel {
                return Err(too_small("max pool", kernel, padded));
            }
            let span = padded - kernel + if self.ceil { stride - 1 } else { 0 };
            output[axis] = span / stride + 1;
            if self.ceil && (output[axis] - 1) * stride >= input[axis] + padding {
                output[axis] -= 1;
            }
        }
        Ok(output)
    }
}

fn too_small(what: &str, window: usize, padded: usize) -> Error {
    Error::new(Code::InvalidShape, format!("the input of a {what} is smaller than its window"))
        .with_values(format!("at least {window} pixels with padding"), padded.to_string())
        .with_advice("use larger images or a network with fewer reductions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_those_of_pytorch() {
        assert_eq!(Conv2d::square(7, 2, 3).output([15, 13]).unwrap(), [8, 7]);
        assert_eq!(Conv2d { dilation: [2; 2], ..Conv2d::square(3, 1, 2) }.output([9, 8]).unwrap(), [9, 8]);
        // TensorFlow's: an even side has one zero more below and to the right.
        for (kernel, stride, side, padding, extra, output) in [
            (3, 2, 64, 0, 1, 32),
            (3, 2, 15, 1, 0, 8),
            (5, 2, 8, 1, 1, 4),
            (5, 2, 7, 2, 0, 4),
            (3, 1, 9, 1, 0, 9),
            (1, 2, 8, 0, 0, 4),
        ] {
            let same = Conv2d::same(kernel, stride, side);
            assert_eq!((same.padding, same.extra), ([padding; 2], [extra; 2]), "{kernel} {stride} {side}");
            assert_eq!(same.output([side; 2]).unwrap(), [output; 2], "{kernel} {stride} {side}");
        }
        assert_eq!(Pool2d::square(3, 2, 1).output([7, 9]).unwrap(), [4, 5]);
        assert_eq!(Pool2d { ceil: true, ..Pool2d::square(3, 2, 0) }.output([8, 8]).unwrap(), [4, 4]);
        // The window that ceil mode would add at 5 starts beyond the input and its padding.
        assert_eq!(Pool2d { ceil: true, ..Pool2d::square(1, 5, 0) }.output([5, 6]).unwrap(), [1, 2]);
    }

    #[test]
    fn an_input_smaller_than_the_window_is_an_error() {
        assert_eq!(Conv2d::square(5, 1, 1).output([2, 9]).unwrap_err().code, Code::InvalidShape);
        assert_eq!(Pool2d::square(2, 2, 0).output([1, 4]).unwrap_err().code, Code::InvalidShape);
    }
}
