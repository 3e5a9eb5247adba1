//! Convolutions with weights `[kernel_h, kernel_w, c_in / groups, c_out]`, on one of four ways:
//!
//! - depthwise: own kernels;
//! - one tap, stride 1, no padding: a matrix product as it is;
//! - the device's library, whose filters are the transpose of the weights. It knows no padding that differs between sides:
//!   such a map gets its last zeros first;
//! - where the library does not take it: in float32, if it is not yet, for which the library has more; else columns of windows and a
//!   matrix product, a few images at a time.
//!
//! Maps and weights are of one kind, and so are the gradients of maps; those of weights are float32.

use super::elementwise::{as_kind, transpose};
use super::{between_sizes, check_as, chunks, columns, finish_sums, flat, int, launch, with_rows};
use crate::device::{Convolution, Device, Kind, Matrix, Pass, Product, Result};

/// Launches a kernel with the size of the map, these channels of it, and the windows at its end.
macro_rules! windows {
    ($device:expr, $kernel:ident $(of $kind:ident)?, $blocks:expr, $shape:expr, [$($argument:expr),*], $($channels:expr),*) => {{
        let Convolution { input: [h, w], output: [output_h, output_w], kernel: [kernel_h, kernel_w], .. } = *$shape;
        let Convolution { stride: [stride_h, stride_w], padding: [top, left], dilation: [apart_h, apart_w], .. } = *$shape;
        launch!($device, $kernel $(of $kind)?, $blocks, [
            $($argument,)* int(h), int(w), $(int($channels),)* int(output_h), int(output_w), int(kernel_h), int(kernel_w),
            int(stride_h), int(stride_w), int(top), int(left), int(apart_h), int(apart_w),
        ])
    }};
}

fn is_depthwise(shape: &Convolution) -> bool {
    shape.groups > 1 && shape.groups == shape.c_in && shape.groups == shape.c_out
}

fn is_product(shape: &Convolution, extra: [usize; 2]) -> bool {
    let Convolution { kernel, stride, padding, groups, .. } = *shape;
    kernel == [1; 2] && stride == [1; 2] && padding == [0; 2] && extra == [0; 2] && groups == 1
}

/// `x [n, h, w, c]` with another height and width: zeros behind, or cut off.
fn resized<D: Device>(device: &D, x: &D::Buffer, [from, to]: [[usize; 2]; 2], [n, c]: [usize; 2]) -> Result<D::Buffer> {
    between_sizes!(device, resize_map of D::kind(x), x, [from, to], [from, to], [n, c])
}

/// The shape with the zeros behind as a part of the input, and the size of that.
fn padded(shape: &Convolution, extra: [usize; 2]) -> (Convolution, [usize; 2]) {
    let size = [shape.input[0] + extra[0], shape.input[1] + extra[1]];
    (Convolution { input: size, ..*shape }, size)
}

/// A pass that reads the map x, and what is behind it, by the device's library; `false` where it does not take it.
fn convolved<D: Device>(
    device: &D,
    pass: Pass,
    (shape, extra): (&Convolution, [usize; 2]),
    [x, other]: [&D::Buffer; 2],
    out: &D::Buffer,
) -> Result<bool> {
    if extra == [0, 0] {
        return device.convolve(pass, shape, [x, other], out);
    }
    let (whole, size) = padded(shape, extra);
    let x = resized(device, x, [shape.input, size], [shape.n, shape.c_in])?;
    device.convolve(pass, &whole, [&x, other], out)
}

/// The channels of one group, and the length of a window's columns.
struct Groups {
    inputs: usize,
    outputs: usize,
    /// Taps times inputs.
    column: usize,
    /// Pixels of an image of the output.
    windows: usize,
    /// Images at a time.
    images: usize,
}

impl Groups {
    fn of<D: Device>(device: &D, shape: &Convolution) -> Self {
        let (inputs, outputs) = (shape.c_in / shape.groups, shape.c_out / shape.groups);
        let (column, windows) = (shape.taps() * inputs, shape.output[0] * shape.output[1]);
        let images = (device.scratch() / (column * windows).max(1)).clamp(1, shape.n.max(1));
        Groups { inputs, outputs, column, windows, images }
    }

    /// The columns of a group in the weights, or in y from the image `first` on.
    fn outputs_of(&self, shape: &Convolution, first: usize, group: usize) -> Matrix {
        let rows = Matrix::rows(shape.c_out);
        Matrix { first: first * self.windows * shape.c_out + group * self.outputs, ..rows }
    }

    /// The pieces of a batch: the first image and how many.
    fn pieces(&self, n: usize) -> impl Iterator<Item = [usize; 2]> + use<> {
        let images = self.images;
        (0..n).step_by(images).map(move |first| [first, images.min(n - first)])
    }
}

/// `x [n, h, w, c_in]` to `y [n, output_h, output_w, c_out]`; `extra` are rows and columns of zeros behind the padding.
pub fn convolution<D: Device>(
    device: &D,
    shape: &Convolution,
    extra: [usize; 2],
    x: &D::Buffer,
    weight: &D::Buffer,
) -> Result<D::Buffer> {
    let ([input, filters, output], kind) = (shape.lengths(), D::kind(x));
    check_as::<D>("convolution", kind, &[("x", x, input), ("weight", weight, filters)]);
    let y = device.take_as(kind, output)?;
    let &Convolution { n, c_in, c_out, groups, .. } = shape;
    if is_depthwise(shape) {
        let m = output / c_out;
        windows!(device, depthwise of kind, columns(m, c_out), shape, [x, weight, &y, m], c_out)?;
        return Ok(y);
    }
    if is_product(shape, extra) {
        device.product(&Product::of([output / c_out, c_out, c_in]), x, weight, &y)?;
        return Ok(y);
    }
    let transposed = transpose(device, weight, filters / c_out, c_out)?;
    if convolved(device, Pass::Forward, (shape, extra), [x, &transposed], &y)? {
        return Ok(y);
    }
    if kind != Kind::Float32 {
        drop((y, transposed));
        let y = convolution(device, shape, extra, &wide(device, x)?, &wide(device, weight)?)?;
        return as_kind(device, &y, kind);
    }
    let of = Groups::of(device, shape);
    let scratch = device.take(of.images * of.windows * of.column)?;
    for [first, images] in of.pieces(n) {
        let m = images * of.windows;
        for group in 0..groups {
            gather(device, shape, &of, [first, m], group, x, &scratch)?;
            let product = Product {
                b: of.outputs_of(shape, 0, group),
                c: of.outputs_of(shape, first, group),
                ..Product::of([m, of.outputs, of.column])
            };
            device.product(&product, &scratch, weight, &y)?;
        }
    }
    Ok(y)
}

/// The same values in float32.
fn wide<D: Device>(device: &D, x: &D::Buffer) -> Result<D::Buffer> {
    as_kind(device, x, Kind::Float32)
}

/// The columns of m windows from the image `first` on.
fn gather<D: Device>(
    device: &D,
    shape: &Convolution,
    of: &Groups,
    [first, m]: [usize; 2],
    group: usize,
    x: &D::Buffer,
    scratch: &D::Buffer,
) -> Result<()> {
    let blocks = flat(m * of.column);
    let first = first * of.windows;
    let channel = group * of.inputs;
    windows!(device, columns_of, blocks, shape, [x, scratch, first, m], shape.c_in, channel, of.inputs)
}

/// The gradient with respect to x.
pub fn convolution_backward_input<D: Device>(
    device: &D,
    shape: &Convolution,
    extra: [usize; 2],
    weight: &D::Buffer,
    dy: &D::Buffer,
) -> Result<D::Buffer> {
    let ([input, filters, output], kind) = (shape.lengths(), D::kind(dy));
    check_as::<D>("convolution_backward_input", kind, &[("weight", weight, filters), ("dy", dy, output)]);
    let &Convolution { n, c_in, c_out, groups, .. } = shape;
    if is_depthwise(shape) {
        let (dx, m) = (device.take_as(kind, input)?, input / c_in);
        windows!(device, depthwise_backward_input of kind, columns(m, c_in), shape, [dy, weight, &dx, m], c_in)?;
        return Ok(dx);
    }
    if is_product(shape, extra) {
        let dx = device.take_as(kind, input)?;
        let product = Product { b: Matrix::rows(c_out).transpose(), ..Product::of([output / c_out, c_in, c_out]) };
        device.product(&product, dy, weight, &dx)?;
        return Ok(dx);
    }
    let transposed = transpose(device, weight, filters / c_out, c_out)?;
    let (whole, size) = padded(shape, extra);
    let dx = device.take_as(kind, whole.lengths()[0])?;
    if device.convolve(Pass::Input, &whole, [dy, &transposed], &dx)? {
        return if extra == [0, 0] { Ok(dx) } else { resized(device, &dx, [size, shape.input], [n, c_in]) };
    }
    if kind != Kind::Float32 {
        drop((dx, transposed));
        let dx = convolution_backward_input(device, shape, extra, &wide(device, weight)?, &wide(device, dy)?)?;
        return as_kind(device, &dx, kind);
    }
    let dx = device.take(input)?;
    let of = Groups::of(device, shape);
    let scratch = device.take(of.images * of.windows * of.column)?;
    for [first, images] in of.pieces(n) {
        for group in 0..groups {
            let product = Product {
                a: of.outputs_of(shape, first, group),
                b: of.outputs_of(shape, 0, group).transpose(),
                ..Product::of([images * of.windows, of.column, of.outputs])
            };
            device.product(&product, dy, weight, &scratch)?;
            let pixels = shape.input[0] * shape.input[1];
            let (from, m) = (first * pixels, images * pixels);
            let (blocks, channel) = (flat(m * of.inputs), group * of.inputs);
            windows!(device, pixels_of, blocks, shape, [&scratch, &dx, from, m], c_in, channel, of.inputs)?;
        }
    }
    Ok(dx)
}

/// The gradient with respect to the weight, in float32.
pub fn convolution_backward_weight<D: Device>(
    device: &D,
    shape: &Convolution,
    extra: [usize; 2],
    x: &D::Buffer,
    dy: &D::Buffer,
) -> Result<D::Buffer> {
    let ([input, filters, output], kind) = (shape.lengths(), D::kind(x));
    check_as::<D>("convolution_backward_weight", kind, &[("x", x, input), ("dy", dy, output)]);
    let &Convolution { n, c_in, c_out, groups, .. } = shape;
    if is_depthwise(shape) {
        let m = output / c_out;
        let [chunk, count] = chunks(m);
        let partial = device.take(count * filters)?;
        let ([across, down, _], block) = with_rows(count, c_out);
        let blocks = ([across, down, shape.taps() as u32], block);
        windows!(device, depthwise_backward_weight of kind, blocks, shape, [x, dy, &partial, m, chunk], c_out)?;
        return finish_sums(device, &partial, filters, count);
    }
    if is_product(shape, extra) {
        let dweight = device.take(filters)?;
        let product = Product { a: Matrix::rows(c_in).transpose(), ..Product::of([c_in, c_out, output / c_out]) };
        device.product(&product, x, dy, &dweight)?;
        return Ok(dweight);
    }
    let gradient = device.take_as(kind, filters)?;
    if convolved(device, Pass::Filter, (shape, extra), [x, dy], &gradient)? {
        let gradient = transpose(device, &gradient, c_out, filters / c_out)?;
        return if kind == Kind::Float32 { Ok(gradient) } else { wide(device, &gradient) };
    }
    if kind != Kind::Float32 {
        drop(gradient);
        return convolution_backward_weight(device, shape, extra, &wide(device, x)?, &wide(device, dy)?);
    }
    let of = Groups::of(device, shape);
    let scratch = device.take(of.images * of.windows * of.column)?;
    for [first, images] in of.pieces(n) {
        let m = images * of.windows;
        for group in 0..groups {
            gather(device, shape, &of, [first, m], group, x, &scratch)?;
            let product = Product {
                a: Matrix::rows(of.column).transpose(),
                b: of.outputs_of(shape, first, group),
                c: of.outputs_of(shape, 0, group),
                beta: if first == 0 { 0.0 } else { 1.0 },
                ..Product::of([of.column, of.outputs, m])
            };
            device.product(&product, &scratch, dy, &gradient)?;
        }
    }
    Ok(gradient)
}
