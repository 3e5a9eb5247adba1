//! Pixels of more than 8 bits: what they mean as 8, or that nobody can tell.
//!
//! 16 bits are read over their whole range. Cameras of 10 or 12 bits often leave the upper bits empty; such a picture would be
//! nearly black, and whether it is a dark one of 16 bits its file does not say, so it is refused with its largest value.
//! Floats are read as 0 to 1 or, where they go beyond 16, as 0 to 255.

use image::{DynamicImage, GrayImage, ImageBuffer, Luma};

/// 16-bit pictures have a value of at least this, a sixteenth of the range, unless they are all black.
const LEAST_16: u16 = 4096;

/// Floats above this are not of 0 to 1 with a little overshoot.
const LEAST_255: f32 = 16.0;

/// `image` with its pixels over the whole range of their type.
///
/// # Errors
/// A clause that says what its values are.
pub fn checked(image: DynamicImage) -> Result<DynamicImage, String> {
    match image {
        DynamicImage::ImageLuma16(ref pixels) => whole_range(pixels.iter()).map(|()| image),
        DynamicImage::ImageRgb16(ref pixels) => whole_range(pixels.iter()).map(|()| image),
        DynamicImage::ImageLumaA16(ref pixels) => whole_range(pixels.pixels().map(|p| &p.0[0])).map(|()| image),
        DynamicImage::ImageRgba16(ref pixels) => whole_range(pixels.pixels().flat_map(|p| &p.0[..3])).map(|()| image),
        DynamicImage::ImageRgb32F(mut pixels) => {
            let factor = float_factor(pixels.iter())?;
            scale(pixels.iter_mut(), factor);
            Ok(DynamicImage::ImageRgb32F(pixels))
        }
        DynamicImage::ImageRgba32F(mut pixels) => {
            let factor = float_factor(pixels.pixels().flat_map(|p| &p.0[..3]))?;
            scale(pixels.pixels_mut().flat_map(|p| &mut p.0[..3]), factor);
            Ok(DynamicImage::ImageRgba32F(pixels))
        }
        image => Ok(image),
    }
}

fn whole_range<'a>(values: impl Iterator<Item = &'a u16>) -> Result<(), String> {
    let largest = values.copied().max().unwrap_or(0);
    if largest == 0 || largest >= LEAST_16 {
        return Ok(());
    }
    let bits = 16 - largest.leading_zeros();
    Err(format!(
        "has 16 bits a value but uses the lowest {bits} only (the largest value is {largest} of 65535), so it would be nearly \
         black; scale its values up, or store it with 8 bits"
    ))
}

/// By what floats are divided to lie in 0 to 1.
fn float_factor<'a>(values: impl Iterator<Item = &'a f32>) -> Result<f32, String> {
    let (mut least, mut most) = (f32::INFINITY, f32::NEG_INFINITY);
    for &value in values {
        // NaN fails both comparisons below.
        least = if value < least || value.is_nan() { value } else { least };
        most = if value > most || value.is_nan() { value } else { most };
    }
    match (least >= 0.0, most) {
        (true, most) if most <= 1.0 => Ok(1.0),
        (true, most) if (LEAST_255..=255.0).contains(&most) => Ok(255.0),
        _ => Err(format!(
            "has floating-point values from {least} to {most}; those from 0 to 1 or from 0 to 255 are understood, scale them"
        )),
    }
}

fn scale<'a>(values: impl Iterator<Item = &'a mut f32>, factor: f32) {
    if factor != 1.0 {
        values.for_each(|value| *value /= factor);
    }
}

/// A grey image of floats, read as [`checked`] does.
///
/// # Errors
/// A clause that says what its values are.
pub fn grey_of_floats(width: u32, height: u32, values: &[f32]) -> Result<DynamicImage, String> {
    let factor = float_factor(values.iter())?;
    let pixels = values.iter().map(|value| (value / factor * 255.0).round() as u8).collect();
    Ok(DynamicImage::ImageLuma8(GrayImage::from_raw(width, height, pixels).ok_or("is a damaged Tiff image")?))
}

/// A grey image of whole numbers of any size: of 8 bits where none is above 255, else of 16.
///
/// # Errors
/// A clause that says what its values are.
pub fn grey_of_integers(width: u32, height: u32, values: &[i64]) -> Result<DynamicImage, String> {
    let least = values.iter().copied().min().unwrap_or(0);
    let most = values.iter().copied().max().unwrap_or(0);
    if least < 0 || most > i64::from(u16::MAX) {
        return Err(format!(
            "has whole numbers from {least} to {most}; those from 0 to 65535 are understood, scale them"
        ));
    }
    if most <= 255 {
        let pixels = values.iter().map(|&value| value as u8).collect();
        return Ok(DynamicImage::ImageLuma8(
            GrayImage::from_raw(width, height, pixels).ok_or("is a damaged Tiff image")?,
        ));
    }
    let pixels: Vec<u16> = values.iter().map(|&value| value as u16).collect();
    let pixels: ImageBuffer<Luma<u16>, Vec<u16>> =
        ImageBuffer::from_raw(width, height, pixels).ok_or("is a damaged Tiff image")?;
    checked(DynamicImage::ImageLuma16(pixels))
}
