use rkd_kernels::activation::Activation;

use super::{check_as, check_given, chunks, columns, finish_sums, int, launch, number, with_rows};
use crate::device::{Device, Kind, Result};

/// `y = activation(y + bias + residual)`, of `y [m, c]` and `bias [c]`.
pub fn finish_in_place<D: Device>(
    device: &D,
    y: &D::Buffer,
    bias: Option<&D::Buffer>,
    residual: Option<&D::Buffer>,
    activation: Option<Activation>,
    c: usize,
) -> Result<()> {
    let (m, kind) = (D::len(y) / c.max(1), D::kind(y));
    check_as::<D>("finish", kind, &[("y", y, m * c)]);
    check_given::<D>("finish", Kind::Float32, "bias", bias, c);
    check_given::<D>("finish", kind, "residual", residual, m * c);
    launch!(device, finish of kind, columns(m, c), [y, bias, residual, number(activation), m, int(c)])
}

/// The sum of each column of `x [m, c]`, or of `x` times `other`, which is float32 as the sums are.
pub fn column_sums<D: Device>(device: &D, x: &D::Buffer, other: Option<&D::Buffer>, c: usize) -> Result<D::Buffer> {
    let (m, kind) = (D::len(x) / c.max(1), D::kind(x));
    check_as::<D>("column_sums", kind, &[("x", x, m * c)]);
    check_given::<D>("column_sums", Kind::Float32, "other", other, m * c);
    let [chunk, count] = chunks(m);
    let partial = device.take(count * c)?;
    launch!(device, chunk_sums of kind, with_rows(count, c), [x, other, &partial, m, int(c), chunk])?;
    finish_sums(device, &partial, c, count)
}

/// `factor` times the sum over the pixels of each image of `x [n, pixels, c]`, or of `x` times `other`: `[n, c]` in
/// float32.
pub fn image_sums<D: Device>(
    device: &D,
    x: &D::Buffer,
    other: Option<&D::Buffer>,
    [n, pixels, c]: [usize; 3],
    factor: f32,
) -> Result<D::Buffer> {
    let kind = D::kind(x);
    check_as::<D>("image_sums", kind, &[("x", x, n * pixels * c)]);
    check_given::<D>("image_sums", kind, "other", other, n * pixels * c);
    let sums = device.take(n * c)?;
    launch!(device, image_sums of kind, with_rows(n, c), [x, other, &sums, int(pixels), int(c), factor])?;
    Ok(sums)
}

/// `x gate + factor added` for every pixel of `[n, pixels, c]`, where `gate` and `added` are `[n, c]` in float32: either is
/// left out where it is not given. The result is of this kind, as `x` is.
pub fn by_image<D: Device>(
    device: &D,
    kind: Kind,
    x_gate: Option<[&D::Buffer; 2]>,
    added: Option<(&D::Buffer, f32)>,
    [n, pixels, c]: [usize; 3],
) -> Result<D::Buffer> {
    let [x, gate] = [0, 1].map(|place| x_gate.map(|buffers| buffers[place]));
    check_given::<D>("by_image", kind, "x", x, n * pixels * c);
    check_given::<D>("by_image", Kind::Float32, "gate", gate, n * c);
    check_given::<D>("by_image", Kind::Float32, "added", added.map(|(added, _)| added), n * c);
    let y = device.take_as(kind, n * pixels * c)?;
    let (added, factor) = added.map_or((None, 0.0), |(added, factor)| (Some(added), factor));
    let m = n * pixels;
    launch!(device, by_image of kind, columns(m, c), [x, gate, added, factor, &y, m, int(pixels), int(c)])?;
    Ok(y)
}
