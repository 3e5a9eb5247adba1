//! Random changes of a training image, and its normalisation, in one pass.
//!
//! Every output pixel `p` looks up one place in the source:
//!
//!   p' = mirror(p) + crop shift,   q = c + A⁻¹ (p' - c - t),   A = s · R(θ) · [1 tan φ; 0 1]
//!
//! with c the image's centre, θ the rotation, φ the shear, s the scale and t the translation. The value at q is bilinear
//! between the four pixels around it; places outside the image take the nearest edge pixel. Without an affine part the
//! lookup is at whole pixels and exact.

use super::plan::AugmentSpec;
use super::statistics::Normalization;
use crate::error::{Code, Error, Result};
use crate::random::Random;

/// Checks the ranges of `spec`.
///
/// # Errors
/// When a number is out of range or not finite.
pub fn check_augment(spec: &AugmentSpec, image_size: usize) -> Result<()> {
    let ranges = [
        ("augment.cropPadding", spec.crop_padding as f64, image_size as f64, "pixels, at most the image's side"),
        ("augment.rotate", spec.rotate, 180.0, "degrees"),
        ("augment.scale", spec.scale, 0.9, "as a share"),
        ("augment.shear", spec.shear, 60.0, "degrees"),
        ("augment.translate", spec.translate, 1.0, "as a share of the image's side"),
    ];
    for (option, value, highest, unit) in ranges {
        if !(0.0..=highest).contains(&value) {
            return Err(Error::new(Code::InvalidOption, "an augmentation is out of range")
                .with_subject(option)
                .with_values(format!("0 to {highest} {unit}"), value.to_string()));
        }
    }
    Ok(())
}

/// The changes drawn for one image.
struct Draw {
    mirror: bool,
    /// In pixels; whole ones but where another view was drawn for a smaller or larger image.
    shift: (f32, f32),
    /// A⁻¹ and A⁻¹ (-c - t) + c; `None` when the image stays where it is.
    affine: Option<[f32; 6]>,
}

impl Draw {
    /// Draws everything in a fixed order, so that switching one change on or off leaves the others as they were.
    fn new(spec: &AugmentSpec, h: usize, w: usize, ratio: f64, random: &mut Random) -> Draw {
        let mut padding = || {
            let shift = random.below(2 * spec.crop_padding + 1) as f64 - spec.crop_padding as f64;
            (shift * ratio) as f32
        };
        let crop = (padding(), padding());
        let mirror = random.uniform() < 0.5 && spec.flip;
        let mut either_way = |most: f64| random.between(-most, most);
        let angle = either_way(spec.rotate).to_radians();
        let scale = 1.0 + either_way(spec.scale);
        let shear = either_way(spec.shear).to_radians().tan();
        let shift = (either_way(spec.translate) * w as f64, either_way(spec.translate) * h as f64);
        let still = spec.rotate == 0.0 && spec.scale == 0.0 && spec.shear == 0.0 && spec.translate == 0.0;
        let affine = (!still).then(|| {
            let (sin, cos) = angle.sin_cos();
            // [1 -tan φ; 0 1] · [cos sin; -sin cos] / s
            let [a, b] = [(cos + shear * sin) / scale, (sin - shear * cos) / scale];
            let [c, d] = [-sin / scale, cos / scale];
            let centre = ((w as f64 - 1.0) / 2.0, (h as f64 - 1.0) / 2.0);
            let from = (-centre.0 - shift.0, -centre.1 - shift.1);
            let to = (a * from.0 + b * from.1 + centre.0, c * from.0 + d * from.1 + centre.1);
            [a, b, to.0, c, d, to.1].map(|value| value as f32)
        });
        let whole = crop.0.fract() == 0.0 && crop.1.fract() == 0.0;
        let affine = affine.or((!whole).then_some([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]));
        Draw { mirror, shift: crop, affine }
    }

    /// The source column of output column `x` before the affine part, not yet held inside the image.
    fn column(&self, x: usize, w: usize) -> f32 {
        (if self.mirror { w - 1 - x } else { x }) as f32 + self.shift.0
    }

    fn row(&self, y: usize) -> f32 {
        y as f32 + self.shift.1
    }
}

/// Changes `image` (`[h, w, c]`) at random as `spec` says, normalises it, and writes it to `out` (`[h, w, c]`).
/// Returns whether it was mirrored.
#[allow(clippy::too_many_arguments)] // The shape is three of them; a struct for one caller would say less.
pub fn augment(
    image: &[u8],
    h: usize,
    w: usize,
    c: usize,
    spec: &AugmentSpec,
    normalization: &Normalization,
    random: &mut Random,
    out: &mut [f32],
) -> bool {
    augment_view(image, [h, w, c], 1.0, spec, normalization, random, out)
}

/// [`augment()`] of another view: the same changes of the same image, `ratio` times as large as the one that `spec` counts
/// its pixels on.
pub(super) fn augment_view(
    image: &[u8],
    [h, w, c]: [usize; 3],
    ratio: f64,
    spec: &AugmentSpec,
    normalization: &Normalization,
    random: &mut Random,
    out: &mut [f32],
) -> bool {
    assert!(image.len() == h * w * c && out.len() == h * w * c && normalization.mean.len() == c, "shapes agree");
    let linear = normalization.linear();
    let draw = Draw::new(spec, h, w, ratio, random);
    match draw.affine {
        None => copy_shifted(image, [h, w, c], &draw, &linear, out),
        Some(matrix) => sample_affine(image, [h, w, c], &draw, &matrix, &linear, out),
    }
    draw.mirror
}

/// Mirrors an image of rows of `w` pixels of `c` channels left-right, in place.
pub(super) fn mirror(image: &mut [f32], w: usize, c: usize) {
    for row in image.chunks_exact_mut(w * c) {
        row.reverse();
        row.chunks_exact_mut(c).for_each(<[f32]>::reverse);
    }
}

fn copy_shifted(image: &[u8], [h, w, c]: [usize; 3], draw: &Draw, linear: &[(f32, f32)], out: &mut [f32]) {
    for (y, out) in out.chunks_exact_mut(w * c).enumerate() {
        let row = &image[draw.row(y).clamp(0.0, (h - 1) as f32) as usize * w * c..][..w * c];
        for (x, out) in out.chunks_exact_mut(c).enumerate() {
            let pixel = &row[draw.column(x, w).clamp(0.0, (w - 1) as f32) as usize * c..][..c];
            for i in 0..c {
                out[i] = linear[i].0 * f32::from(pixel[i]) + linear[i].1;
            }
        }
    }
}

fn sample_affine(
    image: &[u8],
    [h, w, c]: [usize; 3],
    draw: &Draw,
    &[a, b, tx, d, e, ty]: &[f32; 6],
    linear: &[(f32, f32)],
    out: &mut [f32],
) {
    let (right, bottom) = ((w - 1) as f32, (h - 1) as f32);
    for (y, out) in out.chunks_exact_mut(w * c).enumerate() {
        let row = draw.row(y);
        for (x, out) in out.chunks_exact_mut(c).enumerate() {
            let column = draw.column(x, w);
            let qx = (a * column + b * row + tx).clamp(0.0, right);
            let qy = (d * column + e * row + ty).clamp(0.0, bottom);
            let (x0, y0) = (qx as usize, qy as usize);
            let (fx, fy) = (qx - x0 as f32, qy - y0 as f32);
            let (x1, y1) = ((x0 + 1).min(w - 1), (y0 + 1).min(h - 1));
            let at = |x: usize, y: usize, i: usize| f32::from(image[(y * w + x) * c + i]);
            for i in 0..c {
                let top = at(x0, y0, i) + fx * (at(x1, y0, i) - at(x0, y0, i));
                let low = at(x0, y1, i) + fx * (at(x1, y1, i) - at(x0, y1, i));
                out[i] = linear[i].0 * (top + fy * (low - top)) + linear[i].1;
            }
        }
    }
}
