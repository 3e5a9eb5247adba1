use super::normalization::l2_normalize;
use super::{between_sizes, check, flat, int, launch, rows};
use crate::device::{Device, Result};

/// Blocks of a sum over all values, and so numbers that are added up at the end.
const SQUARES: usize = 64;

/// The blocks of a sum of n squares: by n alone.
fn square_blocks(n: usize) -> ([u32; 3], [u32; 2]) {
    ([n.div_ceil(1024).clamp(1, SQUARES) as u32, 1, 1], [super::WIDE, 1])
}

/// `x [n, from_h, from_w, c]` averaged to a size that is not larger, as PyTorch's `adaptive_avg_pool2d` does.
pub fn average<D: Device>(
    device: &D,
    x: &D::Buffer,
    [from, to]: [[usize; 2]; 2],
    [n, c]: [usize; 2],
) -> Result<D::Buffer> {
    between_sizes!(device, average, x, [from, to], [from, to], [n, c])
}

/// The gradient of [`average`].
pub fn average_backward<D: Device>(
    device: &D,
    dy: &D::Buffer,
    [from, to]: [[usize; 2]; 2],
    [n, c]: [usize; 2],
) -> Result<D::Buffer> {
    between_sizes!(device, average_backward, dy, [to, from], [from, to], [n, c])
}

/// The mean square of each pixel's channels of `x [n, pixels, c]`, every image divided by `max(norm, 1e-12)`: `[n, pixels]`,
/// and the norms `[n]`.
pub fn attention_map<D: Device>(device: &D, x: &D::Buffer, [n, pixels, c]: [usize; 3]) -> Result<[D::Buffer; 2]> {
    check::<D>("attention_map", &[("x", x, n * pixels * c)]);
    let means = device.take(n * pixels)?;
    launch!(device, row_mean_squares, rows(n * pixels), [x, &means, int(c)])?;
    l2_normalize(device, &means, pixels)
}

/// Each row of `x [rows, c]` times `factor by[row]`.
pub fn scale_rows<D: Device>(device: &D, x: &D::Buffer, by: &D::Buffer, factor: f32) -> Result<D::Buffer> {
    let (n, count) = (D::len(x), D::len(by));
    let c = n / count.max(1);
    check::<D>("scale_rows", &[("x", x, count * c), ("by", by, count)]);
    let y = device.take(n)?;
    launch!(device, scale_rows, flat(n), [x, by, factor, &y, n, int(c)])?;
    Ok(y)
}

/// `sum (a - b)^2 / count`, and its gradient `2 (a - b) / count`.
pub fn squared_error<D: Device>(device: &D, a: &D::Buffer, b: &D::Buffer, count: f64) -> Result<[D::Buffer; 2]> {
    let n = D::len(a);
    check::<D>("squared_error", &[("a", a, n), ("b", b, n)]);
    let gradient = device.take(n)?;
    let blocks = square_blocks(n);
    let partial = device.take(blocks.0[0] as usize)?;
    let slope = (2.0 / count) as f32;
    launch!(device, block_squares, blocks, [a, b, &gradient, slope, &partial, n])?;
    Ok([total(device, &partial, (1.0 / count) as f32)?, gradient])
}

/// The sum of squares, one number.
pub fn squares<D: Device>(device: &D, x: &D::Buffer) -> Result<D::Buffer> {
    let n = D::len(x);
    check::<D>("squares", &[("x", x, n)]);
    let blocks = square_blocks(n);
    let partial = device.take(blocks.0[0] as usize)?;
    let none = None::<&D::Buffer>;
    launch!(device, block_squares, blocks, [x, none, none, 0.0f32, &partial, n])?;
    total(device, &partial, 1.0)
}

fn total<D: Device>(device: &D, partial: &D::Buffer, factor: f32) -> Result<D::Buffer> {
    let sum = device.take(1)?;
    launch!(device, finish_squares, flat(1), [partial, &sum, factor, 0, 1, int(D::len(partial))])?;
    Ok(sum)
}
