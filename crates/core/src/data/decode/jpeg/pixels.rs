//! From coefficients to pixels, as libjpeg-turbo does it, number for number: the slow, accurate inverse transform, the
//! triangle filter between samples of colour (its "fancy upsampling"), and the conversion in fixed point.
//!
//! Sources: Loeffler, Ligtenberg, Moschytz, "Practical fast 1-D DCT algorithms with 11 multiplications" (1989), with
//! libjpeg's constants of 13 bits; JFIF 1.02 for the colours.

use image::{DynamicImage, GrayImage, RgbImage};

/// The place of each coefficient in its block, by its place in the codes.
pub const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// What the samples of a picture are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    Grey,
    Rgb,
    YCbCr,
}

/// The samples of one component.
#[derive(Default)]
pub struct Plane {
    samples: Vec<u8>,
    /// Samples of a row, those beside the picture too.
    stride: usize,
    /// Samples of the picture, across and down.
    size: [usize; 2],
    /// Pixels of the picture for one sample, across and down.
    factors: [usize; 2],
}

impl Plane {
    /// A plane of `blocks` across and down, each sample of which is for `factors` pixels of a picture of `size`; without
    /// samples where they are not `wanted`.
    pub fn new(blocks: [usize; 2], factors: [usize; 2], size: [usize; 2], wanted: bool) -> Plane {
        let samples = vec![0; if wanted { 64 * blocks[0] * blocks[1] } else { 0 }];
        Plane { samples, stride: 8 * blocks[0], size: [0, 1].map(|axis| size[axis].div_ceil(factors[axis])), factors }
    }

    /// Whether it has no samples.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Puts the samples of the block `at` (across, down) in their places.
    pub fn put(&mut self, [x, y]: [usize; 2], coefficients: &[i16; 64], steps: &[i16; 64]) {
        let start = 8 * (y * self.stride + x);
        let Some(samples) = self.samples.get_mut(start..).filter(|samples| samples.len() >= 7 * self.stride + 8) else {
            return;
        };
        if coefficients[1..].iter().fold(0, |all, value| all | value) == 0 {
            // The transform of a block that is even, without the way there.
            let level = (i32::from(coefficients[0]) * i32::from(steps[0]) + 4) >> 3;
            let level = (level + 128).clamp(0, 255) as u8;
            (0..8).for_each(|y| samples[y * self.stride..][..8].fill(level));
            return;
        }
        let mut block = [[0; 8]; 8];
        let pairs = coefficients.iter().zip(steps);
        for (value, (&coefficient, &step)) in block.as_flattened_mut().iter_mut().zip(pairs) {
            *value = i32::from(coefficient) * i32::from(step);
        }
        let block = turned(&transform(&turned(&transform(&block, 11)), 18));
        for (y, row) in block.iter().enumerate() {
            let row = row.map(|value| (value + 128).clamp(0, 255) as u8);
            samples[y * self.stride..][..8].copy_from_slice(&row);
        }
    }

    fn row(&self, y: usize) -> &[u8] {
        &self.samples[y * self.stride..][..self.size[0]]
    }

    /// The samples of row `y` of the picture, one for each pixel; `sums` is memory to work in.
    fn upsample(&self, y: usize, sums: &mut Vec<u16>, out: &mut Vec<u8>) {
        let [across, down] = self.factors;
        let near = self.row(y / down);
        out.clear();
        // The neighbour that is nearer; beyond the picture there is none, and the row stands for it.
        let above = y.is_multiple_of(2);
        let far = if above { (y / 2).saturating_sub(1) } else { (y / 2 + 1).min(self.size[1] - 1) };
        match (across, down) {
            (1, 1) => out.extend_from_slice(near),
            (1, 2) => {
                let bias = if above { 1 } else { 2 };
                let between = |(&near, &far): (&u8, &u8)| ((3 * u16::from(near) + u16::from(far) + bias) >> 2) as u8;
                out.extend(near.iter().zip(self.row(far)).map(between));
            }
            (2, 1) if self.size[0] > 2 => {
                sums.clear();
                sums.extend(near.iter().map(|&near| u16::from(near)));
                spread(sums, [1, 2], 2, out);
            }
            (2, 2) if self.size[0] > 2 => {
                sums.clear();
                sums.extend(near.iter().zip(self.row(far)).map(|(&near, &far)| 3 * u16::from(near) + u16::from(far)));
                spread(sums, [8, 7], 4, out);
            }
            _ => near.iter().for_each(|&near| out.extend(std::iter::repeat_n(near, across))),
        }
    }
}

/// Two values for each of `sums`: three parts of it and one of its neighbour, divided by `2^shift`.
fn spread(sums: &[u16], [left, right]: [u16; 2], shift: u32, out: &mut Vec<u8>) {
    let last = sums.len() - 1;
    out.resize(2 * sums.len(), 0);
    out[0] = ((4 * sums[0] + left) >> shift) as u8;
    out[1] = ((3 * sums[0] + sums[1] + right) >> shift) as u8;
    for (out, sums) in out[2..].as_chunks_mut::<2>().0.iter_mut().zip(sums.windows(3)) {
        out[0] = ((3 * sums[1] + sums[0] + left) >> shift) as u8;
        out[1] = ((3 * sums[1] + sums[2] + right) >> shift) as u8;
    }
    out[2 * last] = ((3 * sums[last] + sums[last - 1] + left) >> shift) as u8;
    out[2 * last + 1] = ((4 * sums[last] + right) >> shift) as u8;
}

/// The most that a number may be for the sum of two to have 16 bits. No block that an encoder made comes near.
const MOST: i32 = (1 << 14) - 1;

/// The inverse transform of each column; results are divided by `2^shift`. Factors are libjpeg's, those of one number put
/// together, and all numbers have 16 bits, so that a processor does many at once.
fn transform(block: &[[i32; 8]; 8], shift: u32) -> [[i32; 8]; 8] {
    let mut numbers = [[0i16; 8]; 8];
    for (number, &value) in numbers.as_flattened_mut().iter_mut().zip(block.as_flattened()) {
        *number = value.clamp(-MOST, MOST) as i16;
    }
    let mut out = [[0; 8]; 8];
    let half = 1 << (shift - 1);
    let times = |number: i16, factor: i16| i32::from(number) * i32::from(factor);
    for x in 0..8 {
        let at = |y: usize| numbers[y][x];
        let low = times(at(2), 4433) + times(at(6), 4433 - 15_137);
        let high = times(at(2), 4433 + 6270) + times(at(6), 4433);
        let sum = (i32::from(at(0)) + i32::from(at(4))) << 13;
        let difference = (i32::from(at(0)) - i32::from(at(4))) << 13;
        let even = [sum + high, difference + low, difference - low, sum - high];
        let [a, b, c, d] = [at(7), at(5), at(3), at(1)];
        let (ac, bd) = (a + c, b + d);
        let first = times(ac, 9633 - 16_069) + times(bd, 9633);
        let second = times(ac, 9633) + times(bd, 9633 - 3196);
        let odd = [
            times(d, 12_299 - 7373) + times(a, -7373) + second,
            times(c, 25_172 - 20_995) + times(b, -20_995) + first,
            times(b, 16_819 - 20_995) + times(c, -20_995) + second,
            times(a, 2446 - 7373) + times(d, -7373) + first,
        ];
        for i in 0..4 {
            out[i][x] = (even[i] + odd[i] + half) >> shift;
            out[7 - i][x] = (even[i] - odd[i] + half) >> shift;
        }
    }
    out
}

/// Rows as columns.
fn turned(block: &[[i32; 8]; 8]) -> [[i32; 8]; 8] {
    let mut out = [[0; 8]; 8];
    for (y, row) in block.iter().enumerate() {
        for (x, &value) in row.iter().enumerate() {
            out[x][y] = value;
        }
    }
    out
}

/// Pixels whose colours are made at once.
const RUN: usize = 64;

/// Converts a row of luminance and colour to RGB, `[n, 3]`. The factors of the standard, in 16 bits behind the point, less
/// the whole numbers next to them, so that each has 16 bits.
fn to_rgb([y, cb, cr]: [&[u8]; 3], colour: &mut [[u8; RUN]], out: &mut [u8]) {
    let [reds, greens, blues] = colour else { return };
    let rows = y.chunks(RUN).zip(cb.chunks(RUN)).zip(cr.chunks(RUN));
    for (((y, cb), cr), out) in rows.zip(out.chunks_mut(3 * RUN)) {
        let times = |value: i16, factor: i16| i32::from(value) * i32::from(factor);
        let channels = reds.iter_mut().zip(greens.iter_mut()).zip(blues.iter_mut());
        for (((&y, &cb), &cr), ((red, green), blue)) in y.iter().zip(cb).zip(cr).zip(channels) {
            let (y, cb, cr) = (i32::from(y), i16::from(cb) - 128, i16::from(cr) - 128);
            let r = y + i32::from(cr) + ((times(cr, 26_345) + 32_768) >> 16);
            let g = y - i32::from(cr) + ((times(cb, -22_554) + times(cr, 18_734) + 32_768) >> 16);
            let b = y + 2 * i32::from(cb) + ((times(cb, -14_942) + 32_768) >> 16);
            [*red, *green, *blue] = [r, g, b].map(|value| value.clamp(0, 255) as u8);
        }
        let channels = reds.iter().zip(greens.iter()).zip(blues.iter());
        for (out, ((&r, &g), &b)) in out.as_chunks_mut().0.iter_mut().zip(channels) {
            *out = [r, g, b];
        }
    }
}

/// The picture that `planes` are.
pub fn image_of(planes: &[Plane], [width, height]: [usize; 2], colours: Colours) -> Option<DynamicImage> {
    let [w, h] = [width as u32, height as u32];
    let (mut sums, mut rows) = (Vec::new(), vec![Vec::new(); planes.len()]);
    let mut colour = vec![[0; RUN]; 3];
    let mut out = Vec::with_capacity(width * height * planes.len());
    for y in 0..height {
        for (plane, row) in planes.iter().zip(&mut rows) {
            plane.upsample(y, &mut sums, row);
        }
        match (&rows[..], colours) {
            ([grey], _) => out.extend_from_slice(&grey[..width]),
            ([r, g, b], Colours::Rgb) => out.extend((0..width).flat_map(|x| [r[x], g[x], b[x]])),
            ([y, cb, cr], _) => {
                let start = out.len();
                out.resize(start + 3 * width, 0);
                to_rgb([&y[..width], &cb[..width], &cr[..width]], &mut colour, &mut out[start..]);
            }
            _ => return None,
        }
    }
    match colours {
        Colours::Grey => GrayImage::from_raw(w, h, out).map(Into::into),
        _ => RgbImage::from_raw(w, h, out).map(Into::into),
    }
}
