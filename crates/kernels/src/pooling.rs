//! Max pooling with saved indices, and the global average.
//!
//! Shapes: x [n, h, w, c], y [n, oh, ow, c]; an index is a pixel of its image, `row * w + column`.

use crate::columns::{self, Values, Which};
use crate::simd::{Kernel, Simd, dispatch};
use crate::team::Parts;
use crate::{Team, check};

/// The geometry of a max pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2d {
    /// Images.
    pub n: usize,
    /// Rows of the input.
    pub h: usize,
    /// Columns of the input.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// Rows and columns of the window, >= 1.
    pub kernel: [usize; 2],
    /// Steps of the window down and across, >= 1.
    pub stride: [usize; 2],
    /// Rows and columns around the input that never win; at most half the window, as in PyTorch.
    pub padding: [usize; 2],
    /// Whether a window that only partly covers the input at its end counts (PyTorch's `ceil_mode`).
    pub ceil: bool,
}

impl Pool2d {
    /// Rows and columns of the output, by PyTorch's rule: rounded down, or up with `ceil`, where the last window must
    /// start inside the input or its leading padding.
    ///
    /// # Panics
    /// If a kernel or stride is 0, the padding exceeds half the window, or the window exceeds the padded input.
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let (size, kernel) = ([self.h, self.w][axis], self.kernel[axis]);
            let (stride, padding) = (self.stride[axis], self.padding[axis]);
            assert!(kernel > 0 && stride > 0, "max_pool: kernel and stride must be at least 1: {self:?}");
            assert!(padding * 2 <= kernel, "max_pool: padding must be at most half the kernel: {self:?}");
            assert!(size + 2 * padding >= kernel, "max_pool: the kernel exceeds the padded input: {self:?}");
            let room = size + 2 * padding - kernel;
            let count = if self.ceil { room.div_ceil(stride) } else { room / stride } + 1;
            if self.ceil && (count - 1) * stride >= size + padding { count - 1 } else { count }
        })
    }

    /// The windows, of `count` along `axis`, over row or column `position` of the input.
    pub(crate) fn windows_over(&self, axis: usize, position: usize, count: usize) -> std::ops::Range<usize> {
        let (kernel, stride, place) = (self.kernel[axis], self.stride[axis], position + self.padding[axis]);
        let start = if place < kernel { 0 } else { (place - kernel) / stride + 1 };
        start..(place / stride + 1).min(count)
    }

    /// The input rows or columns of window `position` along `axis`.
    pub(crate) fn window(&self, axis: usize, position: usize) -> std::ops::Range<usize> {
        let start = position * self.stride[axis];
        let size = [self.h, self.w][axis];
        let end = (start + self.kernel[axis]).saturating_sub(self.padding[axis]).min(size);
        start.saturating_sub(self.padding[axis])..end
    }
}

/// `y` = the largest value of each window and `indices` = its pixel. The first of equal maxima wins; a NaN wins over
/// every number, as in PyTorch.
pub fn max_pool(team: &Team, shape: &Pool2d, x: &[f32], y: &mut [f32], indices: &mut [u32]) {
    let [oh, ow] = shape.output();
    check::length("max_pool", "x", x.len(), shape.n * shape.h * shape.w * shape.c);
    check::length("max_pool", "y", y.len(), shape.n * oh * ow * shape.c);
    check::length("max_pool", "indices", indices.len(), y.len());
    let row = ow * shape.c;
    let image = shape.h * shape.w * shape.c;
    let indices = Parts::new(indices);
    team.for_each_chunk(y, row.max(1), |block, y| {
        // SAFETY: block `block` is output row `block`, which runs once and has these `row` elements, and no other.
        let indices = unsafe { indices.slice(block * row, row) };
        let x = &x[block / oh * image..][..image];
        dispatch(team.isa(), MaxRow { shape, row: block % oh, x, y, indices });
    });
}

/// One output row of one image.
struct MaxRow<'a> {
    shape: &'a Pool2d,
    row: usize,
    x: &'a [f32],
    y: &'a mut [f32],
    indices: &'a mut [u32],
}

impl Kernel for MaxRow<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let c = self.shape.c;
        let rows = self.shape.window(0, self.row);
        for (column, (y, indices)) in self.y.chunks_exact_mut(c).zip(self.indices.chunks_exact_mut(c)).enumerate() {
            let columns = self.shape.window(1, column);
            let first = rows.start * self.shape.w + columns.start;
            y.copy_from_slice(&self.x[first * c..first * c + c]);
            indices.fill(first as u32);
            for row in rows.start..rows.end {
                for pixel in row * self.shape.w + columns.start..row * self.shape.w + columns.end {
                    if pixel > first {
                        challenge(&self.x[pixel * c..pixel * c + c], pixel as u32, y, indices);
                    }
                }
            }
        }
    }
}

/// Lets one pixel's channels win over the largest so far. A function of slices, so that the compiler knows them apart.
#[inline(always)]
fn challenge(x: &[f32], pixel: u32, y: &mut [f32], indices: &mut [u32]) {
    for ((&x, y), index) in x.iter().zip(y).zip(indices) {
        let wins = x > *y || x.is_nan();
        *y = if wins { x } else { *y };
        *index = if wins { pixel } else { *index };
    }
}

/// `dx` = the sum of `dy` over the windows each pixel won. Overwrites `dx`.
pub fn max_pool_backward(team: &Team, shape: &Pool2d, indices: &[u32], dy: &[f32], dx: &mut [f32]) {
    let [oh, ow] = shape.output();
    let (image, c) = (shape.h * shape.w * shape.c, shape.c);
    check::length("max_pool_backward", "dx", dx.len(), shape.n * image);
    check::length("max_pool_backward", "dy", dy.len(), shape.n * oh * ow * c);
    check::length("max_pool_backward", "indices", indices.len(), dy.len());
    let row = shape.w * c;
    team.for_each_chunk(dx, row.max(1), |block, dx| {
        let range = block / shape.h * oh * ow * c..(block / shape.h + 1) * oh * ow * c;
        let (dy, indices) = (&dy[range.clone()], &indices[range]);
        dispatch(team.isa(), MaxRowBackward { shape, row: block % shape.h, dy, indices, dx });
    });
}

/// One input row of one image: every pixel asks the windows over it, in their order, whether it won.
struct MaxRowBackward<'a> {
    shape: &'a Pool2d,
    row: usize,
    dy: &'a [f32],
    indices: &'a [u32],
    dx: &'a mut [f32],
}

impl Kernel for MaxRowBackward<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (c, [oh, ow]) = (self.shape.c, self.shape.output());
        let rows = self.shape.windows_over(0, self.row, oh);
        for (column, dx) in self.dx.chunks_exact_mut(c).enumerate() {
            let pixel = (self.row * self.shape.w + column) as u32;
            let columns = self.shape.windows_over(1, column, ow);
            dx.fill(0.0);
            for row in rows.start..rows.end {
                for window in row * ow + columns.start..row * ow + columns.end {
                    let range = window * c..window * c + c;
                    add_where_won(dx, pixel, &self.indices[range.clone()], &self.dy[range]);
                }
            }
        }
    }
}

/// Adds one window's gradients where its maximum is `pixel`.
#[inline(always)]
fn add_where_won(dx: &mut [f32], pixel: u32, indices: &[u32], dy: &[f32]) {
    for ((dx, &index), &dy) in dx.iter_mut().zip(indices).zip(dy) {
        *dx += if index == pixel { dy } else { 0.0 };
    }
}

/// `y[n, c]` = the mean of `x[n, hw, c]` over the `hw` pixels, summed in f64.
pub fn global_average(team: &Team, hw: usize, c: usize, x: &[f32], y: &mut [f32]) {
    check::length("global_average", "x", x.len() * c, y.len() * hw * c);
    columns::image_sums(team, [hw, c], [x], Values, (Which::First, 1.0 / hw as f64), y);
}

/// `dx[n, hw, c] = dy[n, c] / hw`. Overwrites `dx`.
pub fn global_average_backward(team: &Team, hw: usize, c: usize, dy: &[f32], dx: &mut [f32]) {
    check::length("global_average_backward", "dx", dx.len(), dy.len() * hw);
    let share = 1.0 / hw as f32;
    team.for_each_chunk(dx, (hw * c).max(1), |image, dx| {
        let dy = &dy[image * c..][..c];
        for pixel in dx.chunks_exact_mut(c) {
            for (dx, &dy) in pixel.iter_mut().zip(dy) {
                *dx = dy * share;
            }
        }
    });
}
