//! The transforms between pixels and the transform domain, vectorised over channels.
//!
//! With the points +-a, +-b (a = 3/4, b = 3/2), beside 0 and infinity:
//!
//!   B^T d: [a2 b2 d0 - (a2 + b2) d2 + d4,  (d4 - b2 d2) +- a (d3 - b2 d1),  (d4 - a2 d2) +- b (d3 - a2 d1),
//!           a2 b2 d1 - (a2 + b2) d3 + d5]
//!   A^T m: y_k = sum over the points p of p^k m_p, with m_0 only in y_0 and m_infinity only in y_3
//!   G w:   [w0 / (a2 b2),  (w0 +- a w1 + a2 w2) / (2 a2 (a2 - b2)),  (w0 +- b w1 + b2 w2) / (2 b2 (b2 - a2)),  w2]

// Vector operations on arrays of registers: plain index loops say it best.
#![allow(clippy::needless_range_loop)]

use super::super::Finish;
use super::{PLACES, Tiling};
use crate::activation::{Activation, within};
use crate::simd::{Kernel, Simd};
use crate::team::Parts;

const A: f32 = 0.75;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;
/// 1 / (2 a^2 (a^2 - b^2)) and 1 / (2 b^2 (b^2 - a^2)).
const NA: f32 = 1.0 / (2.0 * A2 * (A2 - B2));
const NB: f32 = 1.0 / (2.0 * B2 * (B2 - A2));

/// `a x + b y`.
///
/// # Safety
/// The instruction set of `S` is available.
#[inline(always)]
unsafe fn two<S: Simd>(a: f32, x: S::V, b: f32, y: S::V) -> S::V {
    // SAFETY: these operations need the instruction set only, which the caller has.
    unsafe { S::mul_add(S::splat(a), x, S::mul(S::splat(b), y)) }
}

/// `B^T d`.
///
/// # Safety
/// The instruction set of `S` is available.
#[inline(always)]
unsafe fn input_1d<S: Simd>(d: [S::V; 6]) -> [S::V; 6] {
    // SAFETY: these operations need the instruction set only, which the caller has.
    unsafe {
        let (product, sum) = (S::splat(A2 * B2), S::splat(-(A2 + B2)));
        let even_a = S::mul_add(S::splat(-B2), d[2], d[4]);
        let odd_a = S::mul(S::splat(A), S::mul_add(S::splat(-B2), d[1], d[3]));
        let even_b = S::mul_add(S::splat(-A2), d[2], d[4]);
        let odd_b = S::mul(S::splat(B), S::mul_add(S::splat(-A2), d[1], d[3]));
        [
            S::mul_add(product, d[0], S::mul_add(sum, d[2], d[4])),
            S::add(even_a, odd_a),
            S::sub(even_a, odd_a),
            S::add(even_b, odd_b),
            S::sub(even_b, odd_b),
            S::mul_add(product, d[1], S::mul_add(sum, d[3], d[5])),
        ]
    }
}

/// `A^T m`.
///
/// # Safety
/// The instruction set of `S` is available.
#[inline(always)]
unsafe fn output_1d<S: Simd>(m: [S::V; 6]) -> [S::V; 4] {
    // SAFETY: these operations need the instruction set only, which the caller has.
    unsafe {
        let (sum_a, difference_a) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (sum_b, difference_b) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        [
            S::add(m[0], S::add(sum_a, sum_b)),
            two::<S>(A, difference_a, B, difference_b),
            two::<S>(A2, sum_a, B2, sum_b),
            S::add(two::<S>(A2 * A, difference_a, B2 * B, difference_b), m[5]),
        ]
    }
}

/// `A y`, the transpose of [`output_1d`].
///
/// # Safety
/// The instruction set of `S` is available.
#[inline(always)]
unsafe fn gradient_1d<S: Simd>(y: [S::V; 4]) -> [S::V; 6] {
    // SAFETY: these operations need the instruction set only, which the caller has.
    unsafe {
        let even_a = S::mul_add(S::splat(A2), y[2], y[0]);
        let odd_a = S::mul(S::splat(A), S::mul_add(S::splat(A2), y[3], y[1]));
        let even_b = S::mul_add(S::splat(B2), y[2], y[0]);
        let odd_b = S::mul(S::splat(B), S::mul_add(S::splat(B2), y[3], y[1]));
        [y[0], S::add(even_a, odd_a), S::sub(even_a, odd_a), S::add(even_b, odd_b), S::sub(even_b, odd_b), y[3]]
    }
}

/// `G w`.
///
/// # Safety
/// The instruction set of `S` is available.
#[inline(always)]
unsafe fn weight_1d<S: Simd>(w: [S::V; 3]) -> [S::V; 6] {
    // SAFETY: these operations need the instruction set only, which the caller has.
    unsafe {
        let even_a = S::mul_add(S::splat(NA * A2), w[2], S::mul(S::splat(NA), w[0]));
        let odd_a = S::mul(S::splat(NA * A), w[1]);
        let even_b = S::mul_add(S::splat(NB * B2), w[2], S::mul(S::splat(NB), w[0]));
        let odd_b = S::mul(S::splat(NB * B), w[1]);
        let first = S::mul(S::splat(1.0 / (A2 * B2)), w[0]);
        [first, S::add(even_a, odd_a), S::sub(even_a, odd_a), S::add(even_b, odd_b), S::sub(even_b, odd_b), w[2]]
    }
}

/// `G^T u`, the transpose of [`weight_1d`].
///
/// # Safety
/// The instruction set of `S` is available.
#[inline(always)]
unsafe fn weight_gradient_1d<S: Simd>(u: [S::V; 6]) -> [S::V; 3] {
    // SAFETY: these operations need the instruction set only, which the caller has.
    unsafe {
        let (sum_a, difference_a) = (S::add(u[1], u[2]), S::sub(u[1], u[2]));
        let (sum_b, difference_b) = (S::add(u[3], u[4]), S::sub(u[3], u[4]));
        [
            S::mul_add(S::splat(1.0 / (A2 * B2)), u[0], two::<S>(NA, sum_a, NB, sum_b)),
            two::<S>(NA * A, difference_a, NB * B, difference_b),
            S::add(two::<S>(NA * A2, sum_a, NB * B2, sum_b), u[5]),
        ]
    }
}

/// `T x T^T` by a 1-D transform from M to N values, down the columns and then along the rows. Value `$at` of x comes
/// from `$load`, and value `$to` of the result goes, as `$value`, to `$store`, row-major: neither is ever kept whole,
/// since 36 vectors are more than there are registers.
macro_rules! in_two_dimensions {
    ($transform:ident, $m:literal => $n:literal, $at:ident => $load:expr, ($to:ident, $value:ident) => $store:expr) => {{
        let mut half = [[S::splat(0.0); $m]; $n];
        for column in 0..$m {
            let mut line = [S::splat(0.0); $m]; // Registers.
            for row in 0..$m {
                let $at = row * $m + column;
                line[row] = $load;
            }
            let down = $transform::<S>(line);
            for row in 0..$n {
                half[row][column] = down[row];
            }
        }
        for row in 0..$n {
            let across = $transform::<S>(half[row]);
            for column in 0..$n {
                let ($to, $value) = (row * $n + column, across[column]);
                $store;
            }
        }
    }};
}

/// Where values of the transform domain lie: 36 planes, each of panels of `rows` rows of `width` channels
/// (`width` = all channels for a plain matrix).
#[derive(Clone, Copy)]
pub(super) struct Planes<'a> {
    data: Parts<'a, f32>,
    /// Floats from one plane to the next.
    plane: usize,
    rows: usize,
    width: usize,
}

impl<'a> Planes<'a> {
    pub(super) fn new(data: &'a mut [f32], plane: usize, rows: usize, width: usize) -> Self {
        Planes { data: Parts::new(data), plane, rows, width }
    }

    /// The same planes from `floats` on.
    pub(super) fn skip(self, floats: usize) -> Self {
        Planes { data: self.data.skip(floats), ..self }
    }

    /// The place of (row, channel) in the first plane.
    #[inline(always)]
    fn place(&self, row: usize, channel: usize) -> usize {
        channel / self.width * self.rows * self.width + row * self.width + channel % self.width
    }

    /// The address of (row, channel) in the first plane.
    #[inline(always)]
    fn at(&self, row: usize, channel: usize) -> *mut f32 {
        self.data.pointer(0).wrapping_add(self.place(row, channel))
    }

    /// Panics unless all planes hold the first `rows` rows of the first `channels` channels.
    fn check(&self, rows: usize, channels: usize) {
        if rows > 0 && channels > 0 {
            let last = (PLACES - 1) * self.plane + self.place(rows - 1, channels - 1);
            assert!(rows <= self.rows && last < self.data.len(), "winograd: a transform exceeds its planes");
        }
    }
}

/// Pixels to the transform domain: `B^T d B` of input tiles, or `A dy A^T` of output gradient tiles.
pub(super) struct FromPixels<'a> {
    tiling: &'a Tiling,
    tiles: [usize; 2],
    row: usize,
    pixels: &'a [f32],
    channels: usize,
    gradient: bool,
    out: Planes<'a>,
}

/// What stands for a pixel outside the image; the most channels a vector step reads at once.
static ZERO: [f32; 16] = [0.0; 16];

impl<'a> FromPixels<'a> {
    /// Of the tiles `[first, end]`, written to the rows from `row` on. `pixels` have `channels` (a multiple of 16)
    /// each: the input, or with `gradient` the output's gradient.
    ///
    /// # Safety
    /// Nobody else uses these rows of `out` until the kernel has run.
    pub(super) unsafe fn new(
        tiling: &'a Tiling,
        tiles: [usize; 2],
        row: usize,
        pixels: &'a [f32],
        channels: usize,
        gradient: bool,
        out: Planes<'a>,
    ) -> Self {
        assert!(channels.is_multiple_of(ZERO.len()), "winograd: {channels} channels are no whole vectors");
        out.check(row + tiles[1] - tiles[0], channels);
        FromPixels { tiling, tiles, row, pixels, channels, gradient, out }
    }

    /// The address of each pixel's first channel and whether it moves on with the channels (a zero stays).
    #[inline(always)]
    fn addresses<const N: usize>(&self, pixels: [Option<usize>; N]) -> [(*const f32, usize); N] {
        pixels.map(|pixel| match pixel {
            Some(pixel) => (self.pixels[pixel * self.channels..][..self.channels].as_ptr(), 1),
            None => (ZERO.as_ptr(), 0),
        })
    }
}

impl Kernel for FromPixels<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // Locals: the compiler must assume that a store through a pointer changes a field.
        let (planes, plane, channels) = (self.out, self.out.plane, self.channels);
        for (row, tile) in (self.tiles[0]..self.tiles[1]).enumerate() {
            if self.gradient {
                let from = self.addresses(self.tiling.output_pixels(tile));
                for channel in (0..channels).step_by(S::LANES) {
                    // SAFETY: the vector's channels lie in the pixel, sliced to `channels`, whole vectors; or all
                    // vectors are the 16 zeros. `new` has checked that the planes hold the row, which is this kernel's
                    // alone. The instruction set is there by the contract of `run`.
                    unsafe {
                        let out = planes.at(self.row + row, channel);
                        in_two_dimensions!(gradient_1d, 4 => 6,
                            at => S::load(from[at].0.add(from[at].1 * channel)),
                            (place, value) => S::store(out.add(place * plane), value));
                    }
                }
            } else {
                let from = self.addresses(self.tiling.input_pixels(tile));
                for channel in (0..channels).step_by(S::LANES) {
                    // SAFETY: as for the gradient: the vector lies in its pixel or is of zeros, the planes hold the
                    // row, which is this kernel's alone, and the instruction set is there.
                    unsafe {
                        let out = planes.at(self.row + row, channel);
                        in_two_dimensions!(input_1d, 6 => 6,
                            at => S::load(from[at].0.add(from[at].1 * channel)),
                            (place, value) => S::store(out.add(place * plane), value));
                    }
                }
            }
        }
    }
}

/// The transform domain to output pixels: `activation?(A^T m A + bias + residual)`.
pub(super) struct ToPixels<'a> {
    tiling: &'a Tiling,
    tiles: [usize; 2],
    channels: [usize; 2],
    from: Planes<'a>,
    finish: Finish<'a>,
    out: *mut f32,
    pitch: usize,
}

impl<'a> ToPixels<'a> {
    /// Of the tiles `[first, end]`, the rows from 0 on of `from`, and the channels `[first, end]`, multiples of 16,
    /// whose first is channel 0 of `from`, to a tensor of `pitch` channels a pixel.
    ///
    /// # Safety
    /// Until the kernel has run, nobody writes these rows and channels of `from`, and nobody else uses the tiles'
    /// pixels' channels in `out`.
    pub(super) unsafe fn new(
        tiling: &'a Tiling,
        tiles: [usize; 2],
        channels: [usize; 2],
        from: Planes<'a>,
        finish: Finish<'a>,
        out: Parts<'a, f32>,
        pitch: usize,
    ) -> Self {
        let whole = channels.iter().all(|channel| channel.is_multiple_of(16)) && channels[1] <= pitch;
        assert!(
            whole && tiles[1] <= tiling.tiles() && out.len() == tiling.pixels() * pitch,
            "winograd: another output"
        );
        from.check(tiles[1] - tiles[0], channels[1] - channels[0]);
        ToPixels { tiling, tiles, channels, from, finish, out: out.pointer(0), pitch }
    }
}

impl Kernel for ToPixels<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (planes, plane, to, pitch) = (self.from, self.from.plane, self.out, self.pitch);
        let Finish { bias, residual, activation } = self.finish;
        let bounds = Activation::bounds(activation);
        for (row, tile) in (self.tiles[0]..self.tiles[1]).enumerate() {
            let pixels = self.tiling.output_pixels(tile);
            for channel in (self.channels[0]..self.channels[1]).step_by(S::LANES) {
                // SAFETY: the channels are whole vectors. `new` has checked that the planes hold the row and the
                // channels, which nobody writes, and that `out` holds every pixel of the tiling, of which these tiles'
                // channels are this kernel's alone; bias and residual are sliced. The instruction set is there by the
                // contract of `run`.
                unsafe {
                    let from = planes.at(row, channel - self.channels[0]);
                    let bias = match bias {
                        Some(bias) => S::load(bias[channel..channel + S::LANES].as_ptr()),
                        None => S::splat(0.0),
                    };
                    in_two_dimensions!(output_1d, 6 => 4,
                    place => S::load(from.add(place * plane)),
                    (at, value) => if let Some(pixel) = pixels[at] {
                        let place = pixel * pitch + channel;
                        let mut value = S::add(value, bias);
                        if let Some(residual) = residual {
                            value = S::add(value, S::load(residual[place..place + S::LANES].as_ptr()));
                        }
                        S::store(to.add(place), within::<S>(bounds, value));
                    });
                }
            }
        }
    }
}

/// Weights to the transform domain: `G w G^T`, into panels.
pub(super) struct FromWeights<'a> {
    weight: &'a [f32],
    c: usize,
    o: usize,
    inputs: [usize; 2],
    outputs: [usize; 2],
    out: Planes<'a>,
}

impl<'a> FromWeights<'a> {
    /// Of `weight` `[9, c, o]`, the input channels `[first, end]`, whose first is row 0 of `out`, and the output
    /// channels `[first, end]`, whole panels (beyond o: zeros), whose first is channel 0 of `out`.
    ///
    /// # Safety
    /// Nobody else uses these channels of `out` until the kernel has run.
    pub(super) unsafe fn new(
        weight: &'a [f32],
        [c, o]: [usize; 2],
        inputs: [usize; 2],
        outputs: [usize; 2],
        out: Planes<'a>,
    ) -> Self {
        let whole = o.is_multiple_of(16) && outputs.iter().all(|channel| channel.is_multiple_of(16));
        assert!(whole && weight.len() == 9 * c * o && inputs[1] <= c, "winograd: other weights");
        out.check(inputs[1] - inputs[0], outputs[1] - outputs[0]);
        FromWeights { weight, c, o, inputs, outputs, out }
    }
}

impl Kernel for FromWeights<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (planes, plane, weight, position_stride) =
            (self.out, self.out.plane, self.weight.as_ptr(), self.c * self.o);
        for c in self.inputs[0]..self.inputs[1] {
            for o in (self.outputs[0]..self.outputs[1]).step_by(S::LANES) {
                let at = planes.at(c - self.inputs[0], o - self.outputs[0]);
                // SAFETY: `new` has checked that the weights hold 9 positions of c x o, of which `o` begins a whole
                // vector, and that the planes hold the row and the channels, which are this kernel's alone. The
                // instruction set is there by the contract of `run`.
                unsafe {
                    if o < self.o {
                        let from = weight.add(c * self.o + o);
                        in_two_dimensions!(weight_1d, 3 => 6,
                            position => S::load(from.add(position * position_stride)),
                            (place, value) => S::store(at.add(place * plane), value));
                    } else {
                        for place in 0..PLACES {
                            S::store(at.add(place * plane), S::splat(0.0));
                        }
                    }
                }
            }
        }
    }
}

/// The transform domain to the gradient of the weights: `G^T du G`.
pub(super) struct ToWeights<'a> {
    inputs: [usize; 2],
    outputs: [usize; 2],
    from: Planes<'a>,
    out: *mut f32,
    c: usize,
    o: usize,
}

impl<'a> ToWeights<'a> {
    /// Of the input channels `[first, end]`, whose first is row 0 of `from`, and the output channels `[first, end]`,
    /// multiples of 16, whose first is channel 0 of `from`, to `out` `[9, c, o]`.
    ///
    /// # Safety
    /// Until the kernel has run, nobody writes these channels of `from`, and nobody else uses them in `out`.
    pub(super) unsafe fn new(
        inputs: [usize; 2],
        outputs: [usize; 2],
        from: Planes<'a>,
        out: Parts<'a, f32>,
        [c, o]: [usize; 2],
    ) -> Self {
        let whole = outputs.iter().all(|channel| channel.is_multiple_of(16));
        assert!(whole && inputs[1] <= c && outputs[1] <= o && out.len() == 9 * c * o, "winograd: other weights");
        from.check(inputs[1] - inputs[0], outputs[1] - outputs[0]);
        ToWeights { inputs, outputs, from, out: out.pointer(0), c, o }
    }
}

impl Kernel for ToWeights<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (planes, plane, position_stride) = (self.from, self.from.plane, self.c * self.o);
        for c in self.inputs[0]..self.inputs[1] {
            for o in (self.outputs[0]..self.outputs[1]).step_by(S::LANES) {
                let at = planes.at(c - self.inputs[0], o - self.outputs[0]);
                // SAFETY: the channels are whole vectors. `new` has checked that the planes hold the row and the
                // channels, which nobody writes, and `out` 9 positions of c x o, of which these channels are this
                // kernel's alone. The instruction set is there by the contract of `run`.
                unsafe {
                    let to = self.out.add(c * self.o + o);
                    in_two_dimensions!(weight_gradient_1d, 6 => 3,
                        place => S::load(at.add(place * plane)),
                        (position, value) => S::store(to.add(position * position_stride), value));
                }
            }
        }
    }
}
