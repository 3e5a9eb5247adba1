//! TIFF images that the `image` crate does not take: grey ones of floats or of 32 bits, and those with a palette.

use std::borrow::Cow;
use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};
use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

use super::deep;
use super::limits::{MAX_DECODER_BYTES, check_size, too_large};

/// The TIFF file `bytes`; the first page, upright.
///
/// # Errors
/// A clause that says what it is instead.
pub fn decode(bytes: &[u8]) -> Result<DynamicImage, String> {
    let damaged = |e: tiff::TiffError| match e {
        tiff::TiffError::UnsupportedError(e) => format!("is a Tiff image of a kind that cannot be read: {e}"),
        tiff::TiffError::LimitsExceeded => too_large(),
        e => format!("is a damaged Tiff image: {e}"),
    };
    let (bytes, has_palette) = without_palette(bytes);
    let mut limits = Limits::default();
    limits.decoding_buffer_size = MAX_DECODER_BYTES as usize;
    let mut decoder = Decoder::new(Cursor::new(&bytes[..])).map_err(damaged)?.with_limits(limits);
    let (width, height) = decoder.dimensions().map_err(damaged)?;
    check_size(width, height)?;
    let kind = decoder.colortype().map_err(damaged)?;
    let orientation = decoder.find_tag(Tag::Orientation).map_err(damaged)?.and_then(|value| value.into_u16().ok());
    let palette = match has_palette {
        true => decoder.find_tag_unsigned_vec::<u16>(Tag::ColorMap).map_err(damaged)?,
        false => None,
    };
    if !matches!(kind, ColorType::Gray(8 | 16 | 32 | 64)) || (has_palette && kind != ColorType::Gray(8)) {
        let palette = if has_palette { " with a palette" } else { "" };
        return Err(format!("is a Tiff image of a kind that cannot be read: {kind:?}{palette}; save it as PNG"));
    }
    let mut image = match (decoder.read_image().map_err(damaged)?, palette) {
        (DecodingResult::U8(places), Some(palette)) => with_palette(width, height, &places, &palette)?,
        (DecodingResult::F32(values), _) => deep::grey_of_floats(width, height, &values)?,
        (DecodingResult::F64(values), _) => {
            deep::grey_of_floats(width, height, &values.iter().map(|&value| value as f32).collect::<Vec<_>>())?
        }
        (DecodingResult::I32(values), _) => integers(width, height, &values)?,
        (DecodingResult::U32(values), _) => integers(width, height, &values)?,
        (DecodingResult::I16(values), _) => integers(width, height, &values)?,
        _ => return Err(format!("is a Tiff image of a kind that cannot be read: {kind:?}; save it as PNG")),
    };
    image.apply_orientation(
        orientation.and_then(|value| Orientation::from_exif(value.min(255) as u8)).unwrap_or(Orientation::NoTransforms),
    );
    Ok(image)
}

fn integers<T: Copy + Into<i64>>(width: u32, height: u32, values: &[T]) -> Result<DynamicImage, String> {
    deep::grey_of_integers(width, height, &values.iter().map(|&value| value.into()).collect::<Vec<i64>>())
}

/// `palette`: all reds, all greens, all blues, of 16 bits each; some programs write 8.
fn with_palette(width: u32, height: u32, places: &[u8], palette: &[u16]) -> Result<DynamicImage, String> {
    let size = palette.len() / 3;
    let shift = if palette.iter().any(|&value| value > 255) { 8 } else { 0 };
    let mut pixels = Vec::with_capacity(places.len() * 3);
    for &place in places {
        let place = usize::from(place);
        if place >= size {
            return Err("is a damaged Tiff image: a pixel is outside its palette".into());
        }
        pixels.extend([0, 1, 2].map(|channel| (palette[channel * size + place] >> shift) as u8));
    }
    Ok(DynamicImage::ImageRgb8(RgbImage::from_raw(width, height, pixels).ok_or("is a damaged Tiff image")?))
}

/// The file with the places in its palette as grey values, which the decoder reads; and whether it has a palette.
fn without_palette(bytes: &[u8]) -> (Cow<'_, [u8]>, bool) {
    match palette_entry(bytes) {
        Some(at) => {
            let mut changed = bytes.to_vec();
            // The value 3 (palette) of two bytes in either order becomes 1 (black is zero).
            changed[at..at + 2].iter_mut().for_each(|byte| *byte = (*byte).min(1));
            (Cow::Owned(changed), true)
        }
        None => (Cow::Borrowed(bytes), false),
    }
}

/// Where the first directory says that the image has a palette.
fn palette_entry(bytes: &[u8]) -> Option<usize> {
    let little = bytes.starts_with(b"II*\0");
    if !little && !bytes.starts_with(b"MM\0*") {
        return None;
    }
    let half = |at: usize| {
        let pair = bytes.get(at..at + 2)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) })
    };
    let start: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
    let start = if little { u32::from_le_bytes(start) } else { u32::from_be_bytes(start) } as usize;
    let entries = usize::from(half(start)?);
    let entry = (0..entries).map(|i| start + 2 + 12 * i).find(|&at| half(at) == Some(262))?;
    (half(entry + 2) == Some(3) && half(entry + 8) == Some(3)).then_some(entry + 8)
}
