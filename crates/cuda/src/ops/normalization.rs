use rkd_kernels::activation::Activation;

use super::{
    check, check_as, check_given, chunks, column_sums, columns, finish_sums, flat, int, launch, number, rows, with_rows,
};
use crate::device::{Device, Kind, Result};

/// Mean, (biased) variance and `1 / sqrt(variance + epsilon)` of each channel.
#[derive(Debug)]
pub struct Statistics<B> {
    /// `[c]`.
    pub mean: B,
    /// `[c]`.
    pub variance: B,
    /// `[c]`.
    pub rstd: B,
}

/// Those of `x [m, c]`.
pub fn batch_statistics<D: Device>(device: &D, x: &D::Buffer, c: usize, epsilon: f64) -> Result<Statistics<D::Buffer>> {
    let (m, kind) = (D::len(x) / c.max(1), D::kind(x));
    check_as::<D>("batch_statistics", kind, &[("x", x, m * c)]);
    let [chunk, count] = chunks(m);
    let (means, squares) = (device.take(count * c)?, device.take(count * c)?);
    launch!(device, chunk_statistics of kind, with_rows(count, c), [x, &means, &squares, m, int(c), chunk])?;
    let [mean, variance, rstd] = [device.take(c)?, device.take(c)?, device.take(c)?];
    launch!(
        device,
        finish_statistics,
        ([c.div_ceil(128) as u32, 1, 1], [128, 1]),
        [&means, &squares, &mean, &variance, &rstd, m, int(c), chunk, int(count), epsilon as f32]
    )?;
    Ok(Statistics { mean, variance, rstd })
}

/// `1 / sqrt(variance + epsilon)`.
pub fn rstd<D: Device>(device: &D, variance: &D::Buffer, epsilon: f64) -> Result<D::Buffer> {
    let n = D::len(variance);
    check::<D>("rstd", &[("variance", variance, n)]);
    let rstd = device.take(n)?;
    launch!(device, rstd_of, flat(n), [variance, &rstd, epsilon as f32, n])?;
    Ok(rstd)
}

/// `activation((x - mean) rstd weight + bias + residual)` of `x [m, c]`; `channels` are mean, rstd, weight and bias.
pub fn batch_norm<D: Device>(
    device: &D,
    x: &D::Buffer,
    channels: [&D::Buffer; 4],
    residual: Option<&D::Buffer>,
    activation: Option<Activation>,
) -> Result<D::Buffer> {
    let [mean, rstd, weight, bias] = channels;
    let (n, c, kind) = (D::len(x), D::len(mean), D::kind(x));
    check::<D>("batch_norm", &[("mean", mean, c), ("rstd", rstd, c), ("weight", weight, c), ("bias", bias, c)]);
    check_given::<D>("batch_norm", kind, "residual", residual, n);
    let m = n / c.max(1);
    check_as::<D>("batch_norm", kind, &[("x", x, m * c)]);
    let y = device.take_as(kind, n)?;
    launch!(
        device,
        batch_norm of kind,
        columns(m, c),
        [x, mean, rstd, weight, bias, residual, number(activation), &y, m, int(c)]
    )?;
    Ok(y)
}

/// Where the gradient of an activation behind a normalisation is read from.
#[derive(Debug)]
pub enum Activated<'a, B> {
    /// There was none.
    Not,
    /// A ReLU's output.
    Output(Activation, &'a B),
    /// The input, by this shift `[c]`, of a normalisation without residual.
    Shift(Activation, &'a B),
}

/// The gradients of a batch normalisation.
#[derive(Debug)]
pub struct NormGradients<B> {
    /// Of the input.
    pub dx: B,
    /// Of the scale, `[c]`.
    pub dweight: B,
    /// Of the shift, `[c]`.
    pub dbias: B,
    /// Of the residual, where it was asked for.
    pub dresidual: Option<B>,
}

/// The gradients of [`batch_norm`]; `channels` are mean, rstd and weight, and `batch` says whether the statistics were those
/// of the batch.
pub fn batch_norm_backward<D: Device>(
    device: &D,
    x: &D::Buffer,
    channels: [&D::Buffer; 3],
    activated: &Activated<'_, D::Buffer>,
    dy: &D::Buffer,
    residual: bool,
    batch: bool,
) -> Result<NormGradients<D::Buffer>> {
    let [mean, rstd, weight] = channels;
    let (n, c, held) = (D::len(x), D::len(mean), D::kind(x));
    let (kind, y, bias) = match *activated {
        Activated::Not => (None, None, None),
        Activated::Output(kind, y) => (Some(kind), Some(y), None),
        Activated::Shift(kind, bias) => (Some(kind), None, Some(bias)),
    };
    let m = n / c.max(1);
    let operation = "batch_norm_backward";
    check::<D>(operation, &[("mean", mean, c), ("rstd", rstd, c), ("weight", weight, c)]);
    check_as::<D>(operation, held, &[("x", x, m * c), ("dy", dy, n)]);
    check_given::<D>(operation, held, "y", y, n);
    check_given::<D>(operation, Kind::Float32, "bias", bias, c);
    let kind = number(kind);
    let [dbias, dweight] = sums_of_gradients(device, x, [y, bias], dy, channels, kind)?;
    let dx = device.take_as(held, n)?;
    let dresidual = if residual { Some(device.take_as(held, n)?) } else { None };
    let share = if batch { 1.0 / m as f32 } else { 0.0 };
    let of_residual = dresidual.as_ref();
    launch!(
        device,
        batch_norm_backward of held,
        columns(m, c),
        [x, y, dy, mean, rstd, weight, bias, kind, &dbias, &dweight, share, &dx, of_residual, m, int(c)]
    )?;
    Ok(NormGradients { dx, dweight, dbias, dresidual })
}

/// The gradients of shift and scale of a normalisation of `x [m, c]`: the sums of what of `dy` passes the activation, by its output or by
/// the shift, and of that times the normalised x. `channels` are mean, rstd and weight.
pub(super) fn sums_of_gradients<D: Device>(
    device: &D,
    x: &D::Buffer,
    [y, bias]: [Option<&D::Buffer>; 2],
    dy: &D::Buffer,
    [mean, rstd, weight]: [&D::Buffer; 3],
    activation: i32,
) -> Result<[D::Buffer; 2]> {
    let c = D::len(mean);
    let m = D::len(x) / c.max(1);
    let [chunk, count] = chunks(m);
    let [biases, weights] = [device.take(count * c)?, device.take(count * c)?];
    launch!(
        device,
        chunk_gradients of D::kind(x),
        with_rows(count, c),
        [x, y, dy, mean, rstd, weight, bias, activation, &biases, &weights, m, int(c), chunk]
    )?;
    Ok([finish_sums(device, &biases, c, count)?, finish_sums(device, &weights, c, count)?])
}

/// The output, mean and rstd of the rows of `x [rows, c]`; c is the length of `weight`.
pub fn layer_norm<D: Device>(
    device: &D,
    x: &D::Buffer,
    weight: &D::Buffer,
    bias: &D::Buffer,
    epsilon: f64,
) -> Result<[D::Buffer; 3]> {
    let (n, c, kind) = (D::len(x), D::len(weight), D::kind(x));
    let count = n / c.max(1);
    check::<D>("layer_norm", &[("weight", weight, c), ("bias", bias, c)]);
    check_as::<D>("layer_norm", kind, &[("x", x, count * c)]);
    let [y, mean, rstd] = [device.take_as(kind, n)?, device.take(count)?, device.take(count)?];
    launch!(device, layer_norm of kind, rows(count), [x, weight, bias, epsilon as f32, &y, &mean, &rstd, int(c)])?;
    Ok([y, mean, rstd])
}

/// The gradients of a layer normalisation.
#[derive(Debug)]
pub struct LayerGradients<B> {
    /// Of the input.
    pub dx: B,
    /// Of the scale, `[c]`.
    pub dweight: B,
    /// Of the shift, `[c]`.
    pub dbias: B,
}

/// The gradients of [`layer_norm`], which gave `[mean, rstd]`; that of x plus `added`.
pub fn layer_norm_backward<D: Device>(
    device: &D,
    x: &D::Buffer,
    weight: &D::Buffer,
    [mean, rstd]: [&D::Buffer; 2],
    dy: &D::Buffer,
    added: Option<&D::Buffer>,
) -> Result<LayerGradients<D::Buffer>> {
    let (n, c, kind) = (D::len(x), D::len(weight), D::kind(x));
    let count = n / c.max(1);
    let operation = "layer_norm_backward";
    check::<D>(operation, &[("weight", weight, c), ("mean", mean, count), ("rstd", rstd, count)]);
    check_as::<D>(operation, kind, &[("x", x, count * c), ("dy", dy, n)]);
    check_given::<D>(operation, kind, "added", added, n);
    let dx = device.take_as(kind, n)?;
    launch!(device, layer_norm_backward of kind, rows(count), [x, weight, mean, rstd, dy, added, &dx, int(c)])?;
    let z = device.take(n)?;
    launch!(device, standardize_rows of kind, flat(n), [x, mean, rstd, &z, n, int(c)])?;
    let (dweight, dbias) = (column_sums(device, dy, Some(&z), c)?, column_sums(device, dy, None, c)?);
    Ok(LayerGradients { dx, dweight, dbias })
}

/// The rows of `x [n, d]` divided by `max(norm, 1e-12)`, and the norms `[n]`.
pub fn l2_normalize<D: Device>(device: &D, x: &D::Buffer, d: usize) -> Result<[D::Buffer; 2]> {
    let n = D::len(x) / d.max(1);
    check::<D>("l2_normalize", &[("x", x, n * d)]);
    let [y, norm] = [device.take(n * d)?, device.take(n)?];
    launch!(device, l2_normalize, rows(n), [x, &y, &norm, int(d)])?;
    Ok([y, norm])
}

/// The gradient of [`l2_normalize`] from its results.
pub fn l2_normalize_backward<D: Device>(
    device: &D,
    y: &D::Buffer,
    norm: &D::Buffer,
    dy: &D::Buffer,
) -> Result<D::Buffer> {
    let (n, count) = (D::len(y), D::len(norm));
    let d = n / count.max(1);
    check::<D>("l2_normalize_backward", &[("y", y, count * d), ("norm", norm, count), ("dy", dy, n)]);
    let dx = device.take(n)?;
    launch!(device, l2_normalize_backward, rows(count), [y, norm, dy, &dx, int(d)])?;
    Ok(dx)
}
