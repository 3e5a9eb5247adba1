//! Windows over an image as a list of pixels: for every window and every tap of the kernel, which pixel it reads.
//!
//! Pixels are numbered `(image * h + row) * w + column`. A tap in the padding reads the pixel after the last one, which
//! the callers append with a value that changes nothing (0 for a sum, minus infinity for a maximum).

/// Everything about the windows of one operation.
pub(super) struct Windows {
    /// Images.
    pub n: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Taps of the kernel.
    pub kernel: [usize; 2],
    /// Step between windows.
    pub stride: [usize; 2],
    /// Padding on each side.
    pub padding: [usize; 2],
    /// Step between taps.
    pub dilation: [usize; 2],
}

impl Windows {
    /// Number of pixels; also the number of the padding pixel.
    pub fn pixels(&self) -> usize {
        self.n * self.input[0] * self.input[1]
    }

    /// Number of windows.
    pub fn count(&self) -> usize {
        self.n * self.output[0] * self.output[1]
    }

    /// Number of taps of one window.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// The pixel of every tap of every window, windows first.
    pub fn pixel_of_tap(&self) -> Vec<u32> {
        let mut pixels = Vec::with_capacity(self.count() * self.taps());
        for image in 0..self.n {
            for y in 0..self.output[0] {
                for x in 0..self.output[1] {
                    for ky in 0..self.kernel[0] {
                        for kx in 0..self.kernel[1] {
                            pixels.push(self.pixel(image, [y, x], [ky, kx]) as u32);
                        }
                    }
                }
            }
        }
        pixels
    }

    fn pixel(&self, image: usize, window: [usize; 2], tap: [usize; 2]) -> usize {
        let place = |axis: usize| {
            let padded = window[axis] * self.stride[axis] + tap[axis] * self.dilation[axis];
            padded.checked_sub(self.padding[axis]).filter(|&at| at < self.input[axis])
        };
        match (place(0), place(1)) {
            (Some(row), Some(column)) => (image * self.input[0] + row) * self.input[1] + column,
            _ => self.pixels(),
        }
    }
}
