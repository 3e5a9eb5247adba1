//! A batch normalisation with its activation and the depthwise convolution behind it, in one: the map between the two, the
//! widest of a MobileNet, is never written.
//!
//! ```text
//! z = activation?((x - mean) scale + shift),   y = depthwise(z)
//! ```
//! Work is cut into bands of rows of an image. A band of z stands in the cache and is convolved there. The way back goes over
//! the bands twice: the first makes z again and the gradient of z, which it leaves in the place of that of x, and sums the
//! gradients of the weights, of scale and of shift; the second makes of it the gradient of x.
//!
//! Formulas are those of `depthwise` and of the normalisation's `batch`. Shapes: x [n, h, w, c], y [n, oh, ow, c].

use super::Conv2d;
use super::depthwise::{Axis, Products, Rows, applies, channel_pitch};
use crate::activation::Activation;
use crate::columns;
use crate::normalization::{Passed, Saved, apply_block, block_input_gradient, block_sums};
use crate::simd::dispatch;
use crate::team::Parts;
use crate::{Team, check, scratch};

/// Elements of a band of x: 256 KiB, so that a band of z and one of its gradient fit into the second-level cache.
const BAND: usize = 64 * 1024;

/// A normalisation as the convolution behind it needs it: `z = activation?((x - mean) scale + shift)`.
#[derive(Clone, Copy, Debug)]
pub struct Normalized<'a> {
    /// `[c]`.
    pub mean: &'a [f32],
    /// `[c]`.
    pub scale: &'a [f32],
    /// `[c]`.
    pub shift: &'a [f32],
    /// What follows.
    pub activation: Option<Activation>,
}

/// How the work is cut: bands of output rows of each image, with the input rows that belong to them.
struct Bands {
    /// Rows of an image, of x and of y.
    rows: [usize; 2],
    stride: usize,
    /// Output rows of a band, and bands of an image.
    height: usize,
    count: usize,
    down: Axis,
}

/// A band: its image, and rows `[first, end)` of that image.
struct Band {
    image: usize,
    /// Of y.
    outputs: [usize; 2],
    /// Of x, those whose gradient the band makes.
    inputs: [usize; 2],
    /// Of x, those that the outputs read.
    read: [usize; 2],
}

impl Bands {
    fn new(shape: &Conv2d) -> Bands {
        let (oh, stride) = (shape.output()[0], shape.stride[0]);
        let height = (BAND / (stride * shape.w * shape.c_in)).clamp(1, oh);
        let down = Axis::forward(shape, 0);
        Bands { rows: [shape.h, oh], stride, height, count: oh.div_ceil(height), down }
    }

    fn band(&self, unit: usize) -> Band {
        let (image, first, [h, oh]) = (unit / self.count, unit % self.count * self.height, self.rows);
        let end = oh.min(first + self.height);
        let read = (first..end).flat_map(|row| self.down.reads(0, row)).map(|(at, _)| at);
        let (lowest, highest) = read.fold((h, 0), |(lowest, highest), at| (lowest.min(at), highest.max(at + 1)));
        let last = if end == oh { h } else { h.min(end * self.stride) };
        Band {
            image,
            outputs: [first, end],
            inputs: [h.min(first * self.stride), last],
            read: [lowest.min(highest), highest],
        }
    }
}

fn check_shape(operation: &str, shape: &Conv2d, c: &[usize]) {
    assert!(applies(shape), "{operation}: every channel is a group of its own: {shape:?}");
    c.iter().for_each(|&length| check::length(operation, "a factor of channels", length, shape.c_in));
}

/// `y = depthwise(activation?((x - mean) scale + shift))`. Overwrites `y`.
pub fn forward(team: &Team, shape: &Conv2d, normal: Normalized<'_>, x: &[f32], weight: &[f32], y: &mut [f32]) {
    let Normalized { mean, scale, shift, activation } = normal;
    shape.check("normalized depthwise", [("x", x.len())], [("y", y.len())], [("weight", weight.len())]);
    check_shape("normalized depthwise", shape, &[mean.len(), scale.len(), shift.len()]);
    let (bands, c, [oh, ow]) = (Bands::new(shape), shape.c_in, shape.output());
    let (axes, pitch) = ([0, 1].map(|axis| Axis::forward(shape, axis)), shape.w * c);
    let y = Parts::new(y);
    team.for_each(shape.n * bands.count, |unit| {
        let Band { image, outputs: [first, end], read, .. } = bands.band(unit);
        // SAFETY: bands are of different rows of y, and each runs once.
        let to = unsafe { y.slice((image * oh + first) * ow * c, (end - first) * ow * c) };
        let skip = (image * shape.h + read[0]) * pitch;
        scratch::with((read[1] - read[0]) * pitch, |z| {
            apply_block(team.isa(), c, &x[skip..][..z.len()], [mean, scale, shift], activation, z);
            let (axes, width, from, first) = (&axes, shape.kernel[1], &*z, image * oh + first);
            let rows = Rows { axes, c, width, from, skip, weight, bias: None, curve: None, first, to };
            dispatch(team.isa(), rows);
        });
    });
}

/// Floats of working memory of [`backward`].
pub fn working_memory(shape: &Conv2d) -> usize {
    let bands = shape.n * Bands::new(shape).count;
    // Four bytes of a float, eight of a double.
    bands * (shape.positions() * channel_pitch(shape.c_in) + 2 * 2 * shape.c_in)
}

/// The gradients of [`forward`], with `gamma` and `beta` as factors and `mean` and `rstd` of the batch (`batch`) or constant:
/// overwrites `dx`, `dweight`, `dgamma` and `dbeta`.
// The operands of one formula; a struct would only move the names.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    team: &Team,
    shape: &Conv2d,
    batch: bool,
    activation: Option<Activation>,
    x: &[f32],
    dy: &[f32],
    weight: &[f32],
    [gamma, beta, mean, rstd]: [&[f32]; 4],
    dx: &mut [f32],
    dweight: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    let operation = "normalized depthwise backward";
    shape.check(operation, [("x", x.len())], [("dy", dy.len())], [("weight", weight.len())]);
    check::length(operation, "dx", dx.len(), x.len());
    check::length(operation, "dweight", dweight.len(), weight.len());
    check_shape(operation, shape, &[gamma, beta, mean, rstd].map(<[f32]>::len));
    let (bands, c, positions, [oh, _]) = (Bands::new(shape), shape.c_in, shape.positions(), shape.output());
    let (pitch, channels, units) = (shape.w * c, channel_pitch(c), shape.n * bands.count);
    let [there, back] = [Axis::forward, Axis::backward].map(|of| [0, 1].map(|axis| of(shape, axis)));
    // The passes over blocks are here; the channels' formulas are those of every normalisation.
    let saved = Saved { c, x, activation: Passed::All, dy, gamma, mean, rstd };
    let scale = saved.scale();
    let factors = [mean, &scale, beta];
    let dx = Parts::new(dx);
    // The elements of a band: bands are of different rows of x, and each runs once in each of the two passes.
    let place =
        |image: usize, inputs: [usize; 2]| ((image * shape.h + inputs[0]) * pitch, (inputs[1] - inputs[0]) * pitch);
    let mut sums = vec![[0.0; 2]; units * c];
    let all = Parts::new(&mut sums);
    scratch::with(units * positions * channels, |partial| {
        team.for_each_chunk(partial, positions * channels, |unit, partial| {
            let Band { image, outputs, inputs, read } = bands.band(unit);
            let skip = (image * shape.h + read[0]) * pitch;
            partial.fill(0.0);
            scratch::with((read[1] - read[0]) * pitch, |z| {
                apply_block(team.isa(), c, &x[skip..][..z.len()], factors, activation, z);
                let rows = outputs.map(|row| image * oh + row);
                let products = Products {
                    shape,
                    axes: &there,
                    x: z,
                    skip,
                    dy,
                    rows,
                    channels: [0, c],
                    pitch: channels,
                    sums: partial,
                };
                dispatch(team.isa(), products);
            });
            let (start, length) = place(image, inputs);
            // SAFETY: as said of `place`; every unit has sums of its own.
            let (dz, sums) = unsafe { (dx.slice(start, length), all.slice(unit * c, c)) };
            let (axes, width, first) = (&back, shape.kernel[1], image * shape.h + inputs[0]);
            let (bias, curve, to) = (None, None, &mut *dz);
            dispatch(team.isa(), Rows { axes, c, width, from: dy, skip: 0, weight, bias, curve, first, to });
            block_sums(team.isa(), activation, [&x[start..][..length], dz], factors, sums);
        });
        let partial = &*partial;
        team.for_each_chunk(dweight, c, |position, out| {
            let mut total = vec![0.0; c];
            for sums in partial.chunks_exact(positions * channels) {
                let sums = &sums[position * channels..][..c];
                total.iter_mut().zip(sums).for_each(|(total, sum)| *total += f64::from(*sum));
            }
            out.iter_mut().zip(total).for_each(|(out, total)| *out = total as f32);
        });
    });
    let mut total = columns::add_up(c, &sums);
    saved.finish_parameters(&mut total, dgamma, dbeta);
    let [slope, offset] = match batch {
        true => saved.input_factors(&total, x.len() / c),
        false => [vec![0.0; c], vec![0.0; c]],
    };
    team.for_each(units, |unit| {
        let Band { image, inputs, .. } = bands.band(unit);
        let (start, length) = place(image, inputs);
        // SAFETY: as said of `place`.
        let dx = unsafe { dx.slice(start, length) };
        scratch::with(length, |dz| {
            dz.copy_from_slice(dx);
            block_input_gradient(team.isa(), activation, [&x[start..][..length], dz], factors, [&slope, &offset], dx);
        });
    });
}
