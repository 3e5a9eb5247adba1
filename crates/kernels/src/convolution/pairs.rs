//! Convolution of small maps: one matrix product for each *pair* of pixels that a kernel position joins.
//!
//! ```text
//! y[:, q] = sum over the kernel positions t that join an input pixel p with q of x[:, p] W[t]
//! x[:, p]: images x channels
//! dx[:, p] = the sum over the same pairs of dy[:, q] W[t]^T,       dW[t] = the sum of x[:, p]^T dy[:, q]
//! ```
//!
//! On a map of 2 x 2 pixels with padding 1, a 3 x 3 kernel lies mostly over zeros: an output pixel sees 4 of the 9
//! positions. The definition multiplies 36 times, Winograd's tile of 4 x 4 outputs 36 times too, and these pairs 16
//! times, without any transform or its rounding.
//!
//! The rows of a product are the images, so the map is first laid out `[pixel][image][channel]`. A unit of work then
//! packs the weights of one panel of result channels, which stay in its second-level cache, and goes over all pixels.
//!
//! Shapes: n images, p input pixels, q output pixels, t kernel positions, c input and o output channels.

use super::{Conv2d, Finish};
use crate::matrix::{Block, DEPTH, Operand, fill_panel, panel_width};
use crate::team::Parts;
use crate::{Team, scratch};

/// Fewest channels on either side: the terms of one product, and its columns.
const LEAST_CHANNELS: usize = 16;
/// Units of work wanted at least, so that a few threads end at about the same time.
const UNITS: usize = 16;
/// Bytes of the images of a unit that are multiplied by all weights before the next: they stay in the second-level
/// cache.
const BLOCK_BYTES: usize = 512 * 1024;
/// Fewest images of a block, two tiles.
const LEAST_IMAGES: usize = 28;
/// One cache line between rows, so that those of a power of two do not fall into the same sets.
const SPARE: usize = 16;

/// Whether the convolution's passes go this way, which saves at least a quarter of the `products` of all channels that
/// an image needs otherwise.
pub(super) fn applies(shape: &Conv2d, products: usize) -> bool {
    let channels = shape.c_in.min(shape.c_out) >= LEAST_CHANNELS;
    channels && shape.groups == 1 && 4 * pairs_count(shape) <= 3 * products
}

/// The input row or column that `output` reads under kernel row or column `position`; `None` outside the input.
fn source(shape: &Conv2d, axis: usize, output: usize, position: usize) -> Option<usize> {
    let reach = output * shape.stride[axis] + position * shape.dilation[axis];
    reach.checked_sub(shape.padding[axis]).filter(|&at| at < [shape.h, shape.w][axis])
}

/// How many [`pairs`] there are: each axis joins on its own.
fn pairs_count(shape: &Conv2d) -> usize {
    let outputs = shape.output();
    let joined = |axis: usize| {
        let positions = |output| (0..shape.kernel[axis]).filter_map(move |p| source(shape, axis, output, p)).count();
        (0..outputs[axis]).map(positions).sum::<usize>()
    };
    joined(0) * joined(1)
}

/// Two pixels and the kernel position that joins them.
#[derive(Clone, Copy)]
struct Pair {
    input: usize,
    output: usize,
    position: usize,
}

/// All pairs, in the order of outputs and positions.
fn pairs(shape: &Conv2d) -> Vec<Pair> {
    let [oh, ow] = shape.output();
    let mut pairs = Vec::new();
    for output in 0..oh * ow {
        for position in 0..shape.positions() {
            let (to, steps) = ([output / ow, output % ow], [position / shape.kernel[1], position % shape.kernel[1]]);
            let at = [0, 1].map(|axis| source(shape, axis, to[axis], steps[axis]));
            if let [Some(row), Some(column)] = at {
                pairs.push(Pair { input: row * shape.w + column, output, position });
            }
        }
    }
    pairs
}

pub(super) fn forward(team: &Team, shape: &Conv2d, x: &[f32], weight: &[f32], finish: Finish<'_>, y: &mut [f32]) {
    let (c, o, [oh, ow]) = (shape.c_in, shape.c_out, shape.output());
    let mut targets = vec![Vec::new(); oh * ow];
    pairs(shape).iter().for_each(|pair| targets[pair.output].push((pair.position, pair.input)));
    let weights: Vec<_> = weight.chunks_exact(c * o).map(|weight| Operand::row_major(weight, o)).collect();
    Map::with(team, x, [shape.n, shape.h * shape.w, c], |map| multiply(team, map, &targets, &weights, o, finish, y));
}

pub(super) fn backward_input(team: &Team, shape: &Conv2d, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    let (c, o, [oh, ow]) = (shape.c_in, shape.c_out, shape.output());
    let mut targets = vec![Vec::new(); shape.h * shape.w];
    pairs(shape).iter().for_each(|pair| targets[pair.input].push((pair.position, pair.output)));
    let weights: Vec<_> = weight.chunks_exact(c * o).map(|weight| Operand::transposed(weight, o)).collect();
    Map::with(team, dy, [shape.n, oh * ow, o], |map| multiply(team, map, &targets, &weights, c, Finish::default(), dx));
}

/// Floats of a [`Map`] of `channels`.
pub(super) fn map_length(n: usize, [h, w]: [usize; 2], channels: usize) -> usize {
    n * h * w * (channels + SPARE)
}

/// A tensor `[image][pixel][channel]` laid out `[pixel][image][channel]`, with spare floats between its rows.
struct Map<'a> {
    data: &'a [f32],
    n: usize,
    pixels: usize,
    channels: usize,
}

impl Map<'_> {
    fn with(team: &Team, from: &[f32], [n, pixels, channels]: [usize; 3], body: impl FnOnce(&Map<'_>)) {
        let pitch = channels + SPARE;
        scratch::with(pixels * n * pitch, |data| {
            team.for_each_chunk(data, (n * pitch).max(1), |pixel, rows| {
                for (image, row) in rows.chunks_exact_mut(pitch).enumerate() {
                    row[..channels].copy_from_slice(&from[(image * pixels + pixel) * channels..][..channels]);
                }
            });
            body(&Map { data, n, pixels, channels });
        });
    }

    fn pitch(&self) -> usize {
        self.channels + SPARE
    }

    /// Images of a block, see [`BLOCK_BYTES`].
    fn block(&self) -> usize {
        (BLOCK_BYTES / (4 * self.pixels * self.pitch())).max(LEAST_IMAGES)
    }

    /// The images from `first` on of one pixel, images x channels.
    fn rows(&self, pixel: usize, first: usize) -> Operand<'_> {
        Operand::row_major(self.data, self.pitch()).skip(pixel * self.n + first, 0)
    }
}

/// `out[:, target]` = the sum over its list's `(position, source)` of `map[:, source] weights[position]`, of `columns`
/// channels, and what `finish` adds. Overwrites `out`, `[image][target][columns]`.
fn multiply(
    team: &Team,
    map: &Map<'_>,
    targets: &[Vec<(usize, usize)>],
    weights: &[Operand<'_>],
    columns: usize,
    finish: Finish<'_>,
    out: &mut [f32],
) {
    let (width, k, n) = (panel_width(team.isa()), map.channels, map.n);
    let panels = columns.div_ceil(width);
    // Whole blocks of images for each unit.
    let group = n.div_ceil(UNITS.div_ceil(panels)).max(1).next_multiple_of(map.block());
    let groups = n.div_ceil(group);
    let out = Parts::new(out);
    team.for_each(panels * groups, |unit| {
        let (column, first) = (unit / groups * width, unit % groups * group);
        let (last, end) = (columns.min(column + width), n.min(first + group));
        scratch::with(weights.len() * k * width, |panels| {
            for (panel, weight) in panels.chunks_exact_mut(k * width).zip(weights) {
                fill_panel(panel, width, weight.skip(0, column), last - column);
            }
            let bias = finish.of_channels(column, last - column).bias;
            for images in (first..end).step_by(map.block()).map(|image| [image, end.min(image + map.block())]) {
                for (target, sources) in targets.iter().enumerate() {
                    let at = |image: usize| (image * targets.len() + target) * columns;
                    // The last row's end lies inside the slice.
                    let _ = out.pointer(at(images[1] - 1) + last);
                    let (to, row) = (out.pointer(at(images[0]) + column), targets.len() * columns);
                    // SAFETY: the images' rows of this target and panel lie between the two places just checked; units
                    // have different images or columns, and targets different pixels, so nobody else uses them. `apply`
                    // comes after `multiply_pixel` has returned.
                    unsafe {
                        multiply_pixel(team, map, images, sources, panels, last - column, bias, to, row);
                        let (at, count) = (at(images[0]) + column, images[1] - images[0]);
                        finish.apply(team.isa(), to, at, row, count, [0, last - column]);
                    }
                }
            }
        });
    });
}

/// One result pixel of the images `[first, end]`: element (i, j) is `out[i * out_row + j]`.
///
/// # Safety
/// `out` is valid for all images and `columns`, at most a panel, and nobody else uses them until it returns.
#[allow(clippy::too_many_arguments)] // The operands of one formula.
unsafe fn multiply_pixel(
    team: &Team,
    map: &Map<'_>,
    images: [usize; 2],
    sources: &[(usize, usize)],
    panels: &[f32],
    columns: usize,
    bias: Option<&[f32]>,
    out: *mut f32,
    out_row: usize,
) {
    let (isa, k, size) = (team.isa(), map.channels, map.channels * panel_width(team.isa()));
    let block = |source: usize, depth: [usize; 2]| Block {
        left: map.rows(source, images[0]),
        runs: None,
        rows: images[1] - images[0],
        depth,
        columns: [0, columns],
    };
    if sources.is_empty() {
        // A pixel that sees only padding.
        // SAFETY: the block is the images x columns that `out` is valid for, and a product without terms overwrites
        // them.
        unsafe { block(0, [0, 0]).multiply(isa, panels, k, bias, out, out_row) };
    }
    for (index, &(position, source)) in sources.iter().enumerate() {
        let panel = &panels[position * size..(position + 1) * size];
        let block = block(source, [0, k]);
        // SAFETY: the block is the images x columns that `out` is valid for; `add` comes after a source that overwrote
        // them.
        unsafe {
            match index {
                0 => block.multiply(isa, panel, k, bias, out, out_row),
                _ => block.add(isa, panel, k, out, out_row),
            }
        }
    }
}

pub(super) fn backward_weight(team: &Team, shape: &Conv2d, x: &[f32], dy: &[f32], dweight: &mut [f32]) {
    let (n, c, o, [oh, ow]) = (shape.n, shape.c_in, shape.c_out, shape.output());
    let (isa, width) = (team.isa(), panel_width(team.isa()));
    let mut joined = vec![Vec::new(); shape.positions()];
    pairs(shape).iter().for_each(|pair| joined[pair.position].push((pair.input, pair.output)));
    let panels = o.div_ceil(width);
    let group = c.div_ceil(UNITS.div_ceil(panels)).max(LEAST_CHANNELS);
    let (groups, out) = (c.div_ceil(group), Parts::new(dweight));
    Map::with(team, x, [n, shape.h * shape.w, c], |map| {
        team.for_each(panels * groups, |unit| {
            let (column, first) = (unit / groups * width, unit % groups * group);
            let (last, end) = (o.min(column + width), c.min(first + group));
            let size = DEPTH.min(n) * width;
            scratch::with(oh * ow * size, |panels| {
                // At least once, so that no images give zeros.
                for start in (0..n.max(1)).step_by(DEPTH) {
                    let depth = [0, n.min(start + DEPTH) - start.min(n)];
                    for (output, panel) in panels.chunks_exact_mut(size.max(1)).enumerate() {
                        let pixel = Operand::row_major(dy, oh * ow * o).skip(start, output * o + column);
                        fill_panel(&mut panel[..depth[1] * width], width, pixel, last - column);
                    }
                    for (position, joined) in joined.iter().enumerate() {
                        let at = |input: usize| (position * c + input) * o;
                        // The last row's end lies inside the slice.
                        let _ = out.pointer(at(end - 1) + last);
                        let to = out.pointer(at(first) + column);
                        let block = |input: usize, depth: [usize; 2]| Block {
                            left: map.rows(input, start).transpose().skip(first, 0),
                            runs: None,
                            rows: end - first,
                            depth,
                            columns: [0, last - column],
                        };
                        if joined.is_empty() && start == 0 {
                            // SAFETY: the unit's input x output channels of this position lie between the two places
                            // just checked, and units have different channels.
                            unsafe { block(0, [0, 0]).multiply(isa, panels, 0, None, to, o) };
                        }
                        for (index, &(input, output)) in joined.iter().enumerate() {
                            let (block, panel) = (block(input, depth), &panels[output * size..(output + 1) * size]);
                            // SAFETY: the unit's input x output channels of this position lie between the two places
                            // just checked, and units have different channels; all of `dweight` is initialised.
                            unsafe {
                                match index + start {
                                    0 => block.multiply(isa, panel, depth[1], None, to, o),
                                    _ => block.add(isa, panel, depth[1], to, o),
                                }
                            }
                        }
                    }
                }
            });
        });
    });
}
