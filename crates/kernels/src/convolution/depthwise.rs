//! Depthwise convolution: as many groups as channels, each filtered on its own (Sifre 2014; Howard et al. 2017).
//!
//! ```text
//! y[n, i, j, c] = bias[c] + sum over (p, q) of x[n, i s - pad + p d, j s - pad + q d, c] weight[p, q, c]
//! ```
//!
//! No matrix product is in it: one multiplication for each value and kernel position, so channels lie in the lanes of a
//! vector and a tile of neighbouring pixels shares the weights it loads. The gradient of the input is the same sum with
//! other places: input pixel `phase + s u` lies under position p of output pixel `u + (phase + pad - p d) / s` where
//! that divides. Both are one routine over an [`Axis`] down and one across. Every pixel adds its positions in their
//! order, those on the zeros around the input left out.
//!
//! The gradient of the weights is summed over fixed blocks of rows and channels; the blocks' sums are added in order in
//! f64. Shapes: x [n, h, w, c], weight [kh, kw, 1, c], y [n, oh, ow, c].

// Operations on arrays of registers: plain index loops say it best.
#![allow(clippy::needless_range_loop)]

use super::spans::{self, Line};
use super::{Conv2d, Finish};
use crate::activation::InRegister;
use crate::simd::{Kernel, Simd, dispatch};
use crate::{Team, scratch};

/// Elements of the result in a block of work: 64 KiB.
const BLOCK: usize = 16 * 1024;
/// Elements of the output in a block of the weight gradient: 256 KiB.
const WEIGHT_BLOCK: usize = 64 * 1024;
/// Most channels of a block of the weight gradient: one whose map is small is cut by channels instead.
const CHANNELS: usize = 128;
/// Channels of a block are a multiple of this, the widest vector.
const LANES: usize = 16;
/// Neighbouring pixels of a tile.
const TILE: usize = 4;

/// Whether the convolution's passes go this way.
pub(super) fn applies(shape: &Conv2d) -> bool {
    shape.groups > 1 && shape.groups == shape.c_in && shape.groups == shape.c_out
}

/// A kernel position that pixels of one phase read.
#[derive(Clone, Copy)]
struct Tap {
    /// Pixel `phase + phases u` of the result reads pixel `step u + offset` of the source.
    offset: isize,
    /// The position.
    position: usize,
}

/// Which pixels of the source the pixels of the result read, down or across.
pub(super) struct Axis {
    source: usize,
    result: usize,
    step: usize,
    /// The positions of each phase, in order.
    phases: Vec<Vec<Tap>>,
}

impl Axis {
    /// From the input to the output.
    pub(super) fn forward(shape: &Conv2d, axis: usize) -> Axis {
        let tap = |position| Tap {
            offset: (position * shape.dilation[axis]) as isize - shape.padding[axis] as isize,
            position,
        };
        Axis {
            source: [shape.h, shape.w][axis],
            result: shape.output()[axis],
            step: shape.stride[axis],
            phases: vec![(0..shape.kernel[axis]).map(tap).collect()],
        }
    }

    /// From the output's gradient to the input's.
    pub(super) fn backward(shape: &Conv2d, axis: usize) -> Axis {
        let stride = shape.stride[axis] as isize;
        let taps = |phase: usize| {
            let reach = |position| (phase + shape.padding[axis]) as isize - (position * shape.dilation[axis]) as isize;
            let divides = (0..shape.kernel[axis]).filter(|&position| reach(position) % stride == 0);
            divides.map(|position| Tap { offset: reach(position) / stride, position }).collect()
        };
        Axis {
            source: shape.output()[axis],
            result: [shape.h, shape.w][axis],
            step: 1,
            phases: (0..shape.stride[axis]).map(taps).collect(),
        }
    }

    /// What pixel `phase + phases u` of the result reads: pixels of the source and the positions they lie under.
    pub(super) fn reads(&self, phase: usize, u: usize) -> impl Iterator<Item = (usize, usize)> {
        let at =
            move |tap: &Tap| usize::try_from((u * self.step) as isize + tap.offset).ok().map(|at| (at, tap.position));
        self.phases[phase].iter().filter_map(at).filter(|&(at, _)| at < self.source)
    }

    /// The columns of zeros before the source, where the pixels read neighbouring positions from the first on.
    fn padding(&self) -> Option<usize> {
        let [taps] = self.phases.as_slice() else { return None };
        let padding = usize::try_from(-taps.first()?.offset).ok()?;
        let neighbours =
            taps.iter().enumerate().all(|(i, tap)| tap.position == i && tap.offset + padding as isize == i as isize);
        neighbours.then_some(padding)
    }

    /// Pixels of the result of a phase.
    fn count(&self, phase: usize) -> usize {
        self.result.saturating_sub(phase).div_ceil(self.phases.len())
    }

    /// The u `[first, end)` of a phase for which every position lies on a pixel of the source.
    fn inside(&self, phase: usize) -> [usize; 2] {
        let offsets = || self.phases[phase].iter().map(|tap| tap.offset);
        let (lowest, highest) = (offsets().min().unwrap_or(0), offsets().max().unwrap_or(0));
        let first = usize::try_from(-lowest).unwrap_or(0).div_ceil(self.step);
        let room = usize::try_from(self.source as isize - highest).unwrap_or(0);
        let end = room.div_ceil(self.step).min(self.count(phase));
        [first.min(end), end]
    }
}

pub(super) fn forward(team: &Team, shape: &Conv2d, x: &[f32], weight: &[f32], finish: Finish<'_>, y: &mut [f32]) {
    apply(team, shape, &[0, 1].map(|axis| Axis::forward(shape, axis)), x, weight, finish, y);
}

pub(super) fn backward_input(team: &Team, shape: &Conv2d, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    let axes = [0, 1].map(|axis| Axis::backward(shape, axis));
    apply(team, shape, &axes, dy, weight, Finish::default(), dx);
}

fn apply(
    team: &Team,
    shape: &Conv2d,
    axes: &[Axis; 2],
    from: &[f32],
    weight: &[f32],
    finish: Finish<'_>,
    to: &mut [f32],
) {
    let (c, width) = (shape.c_in, shape.kernel[1]);
    let pitch = axes[1].result * c;
    let curve = if finish.residual.is_none() { InRegister::of(finish.activation) } else { None };
    let rows = (BLOCK / pitch).max(1);
    team.for_each_chunk(to, rows * pitch, |block, to| {
        let (first, bias, pixels, start) = (block * rows, finish.bias, to.len() / c, to.as_mut_ptr());
        dispatch(team.isa(), Rows { axes, c, width, from, skip: 0, weight, bias, curve, first, to });
        if curve.is_none() {
            // SAFETY: the block has `to`, which is whole pixels of c channels, and the kernel has run.
            unsafe { finish.apply(team.isa(), start, first * pitch, c, pixels, [0, c]) };
        }
    });
}

/// Whole rows of the result.
pub(super) struct Rows<'a> {
    pub axes: &'a [Axis; 2],
    pub c: usize,
    /// Columns of the kernel.
    pub width: usize,
    /// The source from element `skip` on, as far as these rows read it.
    pub from: &'a [f32],
    pub skip: usize,
    pub weight: &'a [f32],
    pub bias: Option<&'a [f32]>,
    /// What the sums go through at the end.
    pub curve: Option<InRegister>,
    /// The first row, counted through all images.
    pub first: usize,
    pub to: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Rows { axes: [down, across], c, width, first, .. } = self;
        let (line, pitch) = (across.source * c, across.result * c);
        let rows = self.to.len() / pitch;
        assert!(self.bias.is_none_or(|bias| bias.len() == c), "depthwise: a bias of other channels");
        let (mut lines, mut near): (Vec<Line>, Vec<Tap>) = (Vec::new(), Vec::new());
        let (bias, curve, spans) = (self.bias, self.curve, c >= S::LANES && spans::Row::takes(width, across.step));
        let padding = across.padding().filter(|_| spans);
        for row in 0..rows {
            let (n, i) = ((first + row) / down.result, (first + row) % down.result);
            lines.clear();
            for (at, p) in down.reads(i % down.phases.len(), i / down.phases.len()) {
                let row = &self.from[(n * down.source + at) * line - self.skip..][..line];
                let weights = &self.weight[p * width * c..][..width * c];
                lines.push([row.as_ptr(), weights.as_ptr()]);
            }
            if let Some(padding) = padding {
                let (source, result) = (across.source, across.result);
                let to = self.to[row * pitch..][..pitch].as_mut_ptr();
                // SAFETY: `lines` has whole rows of the source and of the kernel, as they were sliced, `to` is a row of the
                // result, a bias has c channels, and these are a vector or more. The instruction set is there by the contract of
                // `run`.
                unsafe {
                    let row = spans::Row { c, source, result, lines: &lines, padding, bias, curve, to };
                    row.compute::<S>(width, across.step);
                }
                continue;
            }
            for (phase, taps) in across.phases.iter().enumerate() {
                let ([inside, end], step) = (across.inside(phase), across.phases.len());
                let mut u = 0;
                while u < across.count(phase) {
                    let to = (row * across.result + phase + step * u) * c;
                    // SAFETY: `reads` gives positions on pixels of the source only, and between `inside` and `end` every
                    // position is such a one, for all pixels of a tile. A tile's pixels of the result begin at `to`,
                    // `step` pixels apart, and are those of this row, which is all within `self.to`. The instruction set
                    // is there by the contract of `run`.
                    unsafe {
                        let to = self.to.as_mut_ptr().add(to);
                        let tile = Tile { c, lines: &lines, taps, pixel: 0, step: 0, bias, curve, to, to_step: step };
                        if u >= inside && u + TILE <= end {
                            Tile { pixel: u * across.step, step: across.step, ..tile }.compute::<S, TILE, 2>();
                            u += TILE;
                        } else {
                            near.clear();
                            let reads = across.reads(phase, u);
                            near.extend(reads.map(|(at, position)| Tap { offset: at as isize, position }));
                            Tile { taps: &near, ..tile }.compute::<S, 1, 4>();
                            u += 1;
                        }
                    }
                }
            }
        }
    }
}

/// Neighbouring pixels of a row of the result, and what they read.
#[derive(Clone, Copy)]
struct Tile<'a> {
    c: usize,
    lines: &'a [Line],
    taps: &'a [Tap],
    /// The pixel of the source that the offsets of the first pixel's taps are counted from.
    pixel: usize,
    /// Pixels of the source from one pixel's to the next.
    step: usize,
    bias: Option<&'a [f32]>,
    curve: Option<InRegister>,
    /// The first pixel of the result.
    to: *mut f32,
    /// Pixels of the result from one to the next.
    to_step: usize,
}

impl Tile<'_> {
    /// Computes T pixels, G vectors of channels at a time.
    ///
    /// # Safety
    /// The instruction set of `S` is available. For each t below T, the rows of `lines` are valid for the pixels
    /// `pixel + t step + offset` of every tap, their weights for its position, and `to` for the pixel `t * to_step`.
    #[inline(always)]
    unsafe fn compute<S: Simd, const T: usize, const G: usize>(self) {
        let mut channel = 0;
        // SAFETY: by this function's own contract; the channels of a group begin below c, and whole groups end there at most.
        unsafe {
            while channel + G * S::LANES <= self.c {
                self.group::<S, T, G, true>(channel);
                channel += G * S::LANES;
            }
            while channel + S::LANES <= self.c {
                self.group::<S, T, 1, true>(channel);
                channel += S::LANES;
            }
            if channel < self.c {
                self.group::<S, T, 1, false>(channel);
            }
        }
    }

    /// The channels from `channel` on: G whole vectors or, without `WHOLE`, those that are left.
    ///
    /// # Safety
    /// As [`compute`](Tile::compute), and the channels are below c.
    #[inline(always)]
    unsafe fn group<S: Simd, const T: usize, const G: usize, const WHOLE: bool>(self, channel: usize) {
        let Tile { c, lines, taps, pixel, step, bias, curve, to, to_step } = self;
        let count = c - channel;
        // SAFETY: by the contract: pixels and positions are there, and from `channel` on each has `count` channels, which
        // `load_first` and `store_first` do not exceed; with `WHOLE` the G vectors end at c at most.
        unsafe {
            let mut sums = [[S::splat(0.0); G]; T];
            if let Some(bias) = bias {
                for g in 0..G {
                    let bias = vector::<S, WHOLE>(bias.as_ptr().add(channel + g * S::LANES), count);
                    for t in 0..T {
                        sums[t][g] = bias;
                    }
                }
            }
            for &[row, weights] in lines {
                for tap in taps {
                    let from = row.offset((pixel as isize + tap.offset) * c as isize + channel as isize);
                    let weight = weights.add(tap.position * c + channel);
                    let mut factors = [S::splat(0.0); G];
                    for g in 0..G {
                        factors[g] = vector::<S, WHOLE>(weight.add(g * S::LANES), count);
                    }
                    for t in 0..T {
                        let from = from.add(t * step * c);
                        for g in 0..G {
                            let value = vector::<S, WHOLE>(from.add(g * S::LANES), count);
                            sums[t][g] = S::mul_add(value, factors[g], sums[t][g]);
                        }
                    }
                }
            }
            for t in 0..T {
                let to = to.add(t * to_step * c + channel);
                for g in 0..G {
                    let value = match curve {
                        Some(curve) => curve.value::<S>(sums[t][g]),
                        None => sums[t][g],
                    };
                    match WHOLE {
                        true => S::store(to.add(g * S::LANES), value),
                        false => S::store_first(to, value, count),
                    }
                }
            }
        }
    }
}

/// A whole vector or, without `WHOLE`, its first `count` floats.
///
/// # Safety
/// As [`Simd::load`] or [`Simd::load_first`].
#[inline(always)]
unsafe fn vector<S: Simd, const WHOLE: bool>(from: *const f32, count: usize) -> S::V {
    // SAFETY: this function asks for what it calls.
    unsafe { if WHOLE { S::load(from) } else { S::load_first(from, count) } }
}

/// How the weight gradient is cut: blocks of rows of the output, counted through all images, and of channels.
struct Cut {
    rows: usize,
    /// Rows and channels of a block.
    block: [usize; 2],
    /// Blocks of channels.
    groups: usize,
}

impl Cut {
    fn new(shape: &Conv2d) -> Cut {
        let ([oh, ow], c) = (shape.output(), shape.c_in);
        let channels = c.div_ceil(c.div_ceil(CHANNELS)).next_multiple_of(LANES);
        let rows = (WEIGHT_BLOCK / (ow * channels)).max(1);
        Cut { rows: shape.n * oh, block: [rows, channels], groups: c.div_ceil(channels) }
    }

    fn blocks(&self) -> usize {
        self.rows.div_ceil(self.block[0]) * self.groups
    }
}

/// The floats that `c` channels of a sum take: whole vectors.
pub(super) fn channel_pitch(c: usize) -> usize {
    c.next_multiple_of(LANES)
}

/// Floats of the blocks' sums.
pub(super) fn working_memory(shape: &Conv2d) -> usize {
    let cut = Cut::new(shape);
    cut.blocks() * cut.block[1] * shape.positions()
}

pub(super) fn backward_weight(team: &Team, shape: &Conv2d, x: &[f32], dy: &[f32], dweight: &mut [f32]) {
    let (cut, c, positions) = (Cut::new(shape), shape.c_in, shape.positions());
    let ([rows, channels], axes) = (cut.block, [0, 1].map(|axis| Axis::forward(shape, axis)));
    scratch::with(working_memory(shape), |partial| {
        team.for_each_chunk(partial, positions * channels, |block, sums| {
            let (first, group) = (block / cut.groups * rows, block % cut.groups * channels);
            let (rows, channels) = ([first, cut.rows.min(first + rows)], [group, c.min(group + channels)]);
            sums.fill(0.0);
            dispatch(
                team.isa(),
                Products { shape, axes: &axes, x, skip: 0, dy, rows, channels, pitch: cut.block[1], sums },
            );
        });
        let partial = &*partial;
        team.for_each_chunk(dweight, c, |position, out| {
            let mut total = vec![0.0; c];
            for (block, sums) in partial.chunks_exact(positions * channels).enumerate() {
                let total = total[block % cut.groups * channels..].iter_mut().take(channels);
                total.zip(&sums[position * channels..]).for_each(|(total, sum)| *total += f64::from(*sum));
            }
            out.iter_mut().zip(total).for_each(|(out, total)| *out = total as f32);
        });
    });
}

/// Adds the products of some rows of dy with what they read of x, for some channels, to sums `[positions, pitch]`.
pub(super) struct Products<'a> {
    pub shape: &'a Conv2d,
    pub axes: &'a [Axis; 2],
    /// x from element `skip` on, as far as these rows read it.
    pub x: &'a [f32],
    pub skip: usize,
    pub dy: &'a [f32],
    pub rows: [usize; 2],
    pub channels: [usize; 2],
    pub pitch: usize,
    pub sums: &'a mut [f32],
}

impl Kernel for Products<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (Conv2d { w, c_in: c, kernel, .. }, [down, across]) = (*self.shape, self.axes);
        let (line, pitch) = (w * c, across.result * c);
        let [first, end] = self.channels;
        assert!(end <= c && end - first <= self.pitch, "depthwise: channels beyond the block");
        assert!(self.sums.len() == kernel[0] * kernel[1] * self.pitch, "depthwise: sums of another kernel");
        let (all, mut lines): (_, Vec<[usize; 2]>) = (self.sums.as_mut_ptr(), Vec::new());
        for row in self.rows[0]..self.rows[1] {
            let (n, i) = (row / down.result, row % down.result);
            let dy = &self.dy[row * pitch..][..pitch];
            lines.clear();
            let place = |at: usize| (n * down.source + at) * line - self.skip;
            lines.extend(down.reads(0, i).map(|(at, p)| [place(at), p * kernel[1]]));
            let row = Row { axis: across, dilation: self.shape.dilation[1], padding: self.shape.padding[1], c };
            let (dy, count, pitch) = (dy[first..].as_ptr(), end - first, self.pitch);
            // As many rows and columns of the kernel at once as registers hold their sums.
            let (together, columns) = match kernel[1] {
                3 => (3, 3),
                5 => (2, 5),
                _ => (1, 1),
            };
            for lines in lines.chunks(together) {
                let mut parts = [Part { x: dy, sums: all }; 3];
                for (part, &[at, position]) in parts.iter_mut().zip(lines) {
                    part.x = self.x[at..][..line][first..].as_ptr();
                    // Within the sums, as the position is one of the kernel.
                    part.sums = all.wrapping_add(position * self.pitch);
                }
                let [a, b, third] = parts;
                // SAFETY: the parts used, as many as `lines`, are rows of the source and of the kernel that exist, and
                // `dy` is a whole row; of both `count` channels follow from `first` on in every pixel. The sums have
                // `pitch` >= `count` floats for every position and are this kernel's alone. The instruction set is there
                // by the contract of `run`.
                unsafe {
                    match (lines.len(), columns) {
                        (3, 3) => row.add::<S, 3, 3>(dy, [a, b, third], 0, count, pitch),
                        (2, 3) => row.add::<S, 2, 3>(dy, [a, b], 0, count, pitch),
                        (1, 3) => row.add::<S, 1, 3>(dy, [a], 0, count, pitch),
                        (2, 5) => row.add::<S, 2, 5>(dy, [a, b], 0, count, pitch),
                        (1, 5) => row.add::<S, 1, 5>(dy, [a], 0, count, pitch),
                        _ => {
                            for position in 0..kernel[1] {
                                row.add::<S, 1, 1>(dy, [a], position, count, pitch);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A row of x, from the first channel of the block, and the sums of the kernel's row on it.
#[derive(Clone, Copy)]
struct Part {
    x: *const f32,
    sums: *mut f32,
}

/// How one row of dy reads x.
struct Row<'a> {
    axis: &'a Axis,
    dilation: usize,
    padding: usize,
    c: usize,
}

impl Row<'_> {
    /// Adds the products of a row of dy with P rows of x at the K columns of the kernel from `position` on.
    ///
    /// # Safety
    /// The instruction set of `S` is available; `dy` and the rows of x are whole rows from some channel on, which
    /// `count` channels follow, and the sums have `pitch` >= `count` floats for every column of the kernel, with no
    /// other user.
    #[inline(always)]
    unsafe fn add<S: Simd, const P: usize, const K: usize>(
        &self,
        dy: *const f32,
        parts: [Part; P],
        position: usize,
        count: usize,
        pitch: usize,
    ) {
        let (stride, [inside, end]) = (self.axis.step, self.axis.inside(0));
        for channel in (0..count).step_by(S::LANES) {
            let left = count - channel;
            // SAFETY: by this function's contract, as `load_first` and `store_first` go no further than `left` channels;
            // between `inside` and `end` every position lies on a pixel, and elsewhere that is asked.
            unsafe {
                let mut sums = [[S::splat(0.0); K]; P];
                for p in 0..P {
                    for q in 0..K {
                        sums[p][q] = S::load_first(parts[p].sums.add((position + q) * pitch + channel), left);
                    }
                }
                for j in 0..self.axis.result {
                    let dy = S::load_first(dy.add(j * self.c + channel), left);
                    let all = j >= inside && j < end;
                    for q in 0..K {
                        let column = (j * stride + (position + q) * self.dilation).wrapping_sub(self.padding);
                        if all || column < self.axis.source {
                            for p in 0..P {
                                let x = S::load_first(parts[p].x.add(column * self.c + channel), left);
                                sums[p][q] = S::mul_add(dy, x, sums[p][q]);
                            }
                        }
                    }
                }
                for p in 0..P {
                    for q in 0..K {
                        S::store_first(parts[p].sums.add((position + q) * pitch + channel), sums[p][q], left);
                    }
                }
            }
        }
    }
}
