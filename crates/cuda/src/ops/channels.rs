use rkd_kernels::activation::Activation;

use super::{check, check_given, chunks, columns, finish_sums, int, launch, number, with_rows};
use crate::device::{Device, Result};

/// `y = activation(y + bias + residual)`, of `y [m, c]` and `bias [c]`.
pub fn finish_in_place<D: Device>(
    device: &D,
    y: &D::Buffer,
    bias: Option<&D::Buffer>,
    residual: Option<&D::Buffer>,
    activation: Option<Activation>,
    c: usize,
) -> Result<()> {
    let m = D::len(y) / c.max(1);
    check::<D>("finish", &[("y", y, m * c)]);
    check_given::<D>("finish", "bias", bias, c);
    check_given::<D>("finish", "residual", residual, m * c);
    launch!(device, finish, columns(m, c), [y, bias, residual, number(activation), m, int(c)])
}

/// The sum of each column of `x [m, c]`, or of `x` times `other`.
pub fn column_sums<D: Device>(device: &D, x: &D::Buffer, other: Option<&D::Buffer>, c: usize) -> Result<D::Buffer> {
    let m = D::len(x) / c.max(1);
    check::<D>("column_sums", &[("x", x, m * c)]);
    check_given::<D>("column_sums", "other", other, m * c);
    let [chunk, count] = chunks(m);
    let partial = device.take(count * c)?;
    launch!(device, chunk_sums, with_rows(count, c), [x, other, &partial, m, int(c), chunk])?;
    finish_sums(device, &partial, c, count)
}

/// `factor` times the sum over the pixels of each image of `x [n, pixels, c]`, or of `x` times `other`: `[n, c]`.
pub fn image_sums<D: Device>(
    device: &D,
    x: &D::Buffer,
    other: Option<&D::Buffer>,
    [n, pixels, c]: [usize; 3],
    factor: f32,
) -> Result<D::Buffer> {
    check::<D>("image_sums", &[("x", x, n * pixels * c)]);
    check_given::<D>("image_sums", "other", other, n * pixels * c);
    let sums = device.take(n * c)?;
    launch!(device, image_sums, with_rows(n, c), [x, other, &sums, int(pixels), int(c), factor])?;
    Ok(sums)
}

/// `x gate + factor added` for every pixel of `[n, pixels, c]`, where `gate` and `added` are `[n, c]`: either is left out
/// where it is not given.
pub fn by_image<D: Device>(
    device: &D,
    x_gate: Option<[&D::Buffer; 2]>,
    added: Option<(&D::Buffer, f32)>,
    [n, pixels, c]: [usize; 3],
) -> Result<D::Buffer> {
    let [x, gate] = [0, 1].map(|place| x_gate.map(|buffers| buffers[place]));
    check_given::<D>("by_image", "x", x, n * pixels * c);
    check_given::<D>("by_image", "gate", gate, n * c);
    check_given::<D>("by_image", "added", added.map(|(added, _)| added), n * c);
    let y = device.take(n * pixels * c)?;
    let (added, factor) = added.map_or((None, 0.0), |(added, factor)| (Some(added), factor));
    let m = n * pixels;
    launch!(device, by_image, columns(m, c), [x, gate, added, factor, &y, m, int(pixels), int(c)])?;
    Ok(y)
}
