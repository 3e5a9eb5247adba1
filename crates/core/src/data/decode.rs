//! One encoded image -> `size x size` pixels of 1 or 3 channels, as bytes.
//!
//! The recipe, in order, so that another program can repeat it exactly:
//! 1. the first frame is decoded (PNG, JPEG, WebP, BMP, GIF, TIFF; told apart by content, not by name), turned upright
//!    by its EXIF orientation, and brought to 8 bits a channel;
//! 2. transparency is composited on white;
//! 3. grey is Pillow's `convert("L")`: `(19595 R + 38470 G + 7471 B + 32768) >> 16`;
//! 4. the short side is resized to `size`, the long side to `floor(size * long / short)`, with the Lanczos-3 filter widened
//!    for shrinking (antialiased), the same numbers as Pillow's `resize`; then the centre square is cut out. This is
//!    torchvision's `Resize(size, LANCZOS)` and `CenterCrop(size)`.
//!
//! Lanczos rather than bilinear because it is the one filter that Pillow, torchvision and transformers.js on Node agree
//! on when they shrink; a model trained on these pixels sees the same ones wherever it is served.

use std::io::Cursor;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};

/// Changes whenever the recipe above, how glyphs are drawn, or how layouts are read does: part of the cache's key.
pub const DECODER_VERSION: u32 = 2;

/// Largest picture that is decoded, in pixels: 64 million, more than any phone's ordinary photograph.
pub const MAX_PIXELS: u64 = 64_000_000;

/// Largest memory that one decoder may take for a picture, in bytes (64 million pixels of 4 channels of 16 bits).
const MAX_DECODER_BYTES: u64 = 512 << 20;

/// Decodes images to one size; keeps its buffers from image to image. One for each thread.
pub struct Decoder {
    size: usize,
    channels: usize,
    resizer: Resizer,
    /// The picture after the first of the two passes of a resize.
    narrow: Vec<u8>,
}

impl Decoder {
    /// A decoder to squares of `size` pixels (at least 1) with `channels` 1 or 3.
    pub fn new(size: usize, channels: usize) -> Self {
        assert!(size > 0 && (channels == 1 || channels == 3), "checked by the plan");
        Decoder { size, channels, resizer: Resizer::new(), narrow: Vec::new() }
    }

    /// Decodes `bytes`, the content of an image file, into `out` (`[size, size, channels]`).
    ///
    /// # Errors
    /// A clause that fits behind a file's name and "…: ", for example `is empty (0 bytes)`.
    pub fn decode(&mut self, bytes: &[u8], out: &mut [u8]) -> Result<(), String> {
        let image = decode_upright(bytes)?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        let pixels = if self.channels == 1 { to_grey(image) } else { to_rgb(image) };
        self.resize(&pixels, width, height, out)
    }

    /// Resizes `pixels` (`[height, width, channels]`) into `out` (`[size, size, channels]`): short side to `size`, then
    /// the centre square.
    ///
    /// # Errors
    /// When the resizer refuses the picture; no input of [`Decoder::decode`] does that.
    pub fn resize(&mut self, pixels: &[u8], width: usize, height: usize, out: &mut [u8]) -> Result<(), String> {
        if width == self.size && height == self.size {
            out.copy_from_slice(pixels);
            return Ok(());
        }
        let short = width.min(height);
        let (left, across) = centre(width, short, self.size);
        let (top, down) = centre(height, short, self.size);
        let columns = ResizeOptions::new().crop(left, 0.0, across, height as f64).use_alpha(false);
        let rows = ResizeOptions::new().crop(0.0, top, self.size as f64, down).use_alpha(false);
        // Columns first, then rows, each rounded and held within 0..=255, as Pillow does it. In one call the resizer goes
        // the other way round, which differs by a dozen levels beside an edge of pure white or black.
        let mut narrow = std::mem::take(&mut self.narrow);
        narrow.resize(height * self.size * self.channels, 0);
        let side = self.size;
        let resized = self
            .pass(pixels, [width, height], &mut narrow, [side, height], &columns)
            .and_then(|()| self.pass(&narrow, [side, height], out, [side, side], &rows));
        self.narrow = narrow;
        resized.map_err(|e| format!("cannot be resized from {width}x{height}: {e}"))
    }

    fn pass(
        &mut self,
        from: &[u8],
        [width, height]: [usize; 2],
        to: &mut [u8],
        [to_width, to_height]: [usize; 2],
        options: &ResizeOptions,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let kind = if self.channels == 1 { PixelType::U8 } else { PixelType::U8x3 };
        let source = ImageRef::new(width as u32, height as u32, from, kind)?;
        let mut target = Image::from_slice_u8(to_width as u32, to_height as u32, to, kind)?;
        let options = options.resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3));
        Ok(self.resizer.resize(&source, &mut target, &options)?)
    }
}

/// Where along an axis of `length` pixels the centre crop starts and how far it reaches, in source pixels.
fn centre(length: usize, short: usize, size: usize) -> (f64, f64) {
    let resized = size * length / short;
    // Half a pixel goes to the even offset, as Python's `round` does it in torchvision.
    let offset = ((resized - size) as f64 / 2.0).round_ties_even();
    let scale = length as f64 / resized as f64;
    let start = offset * scale;
    (start, (size as f64 * scale).min(length as f64 - start))
}

fn decode_upright(bytes: &[u8]) -> Result<DynamicImage, String> {
    if bytes.is_empty() {
        return Err("is empty (0 bytes)".into());
    }
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    let Some(format) = reader.format() else {
        return Err(format!("is no image: its content starts with {}", beginning(bytes)));
    };
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    reader.limits(limits);
    let damaged = |e: image::ImageError| match e {
        image::ImageError::Limits(_) => {
            format!("is too large to decode within {} MiB; make it smaller", MAX_DECODER_BYTES >> 20)
        }
        image::ImageError::Unsupported(e) => format!("is a {format:?} image of a kind that cannot be read: {e}"),
        e => format!("is a damaged {format:?} image: {e}"),
    };
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        let limit = MAX_PIXELS / 1_000_000;
        return Err(format!("has {width}x{height} pixels; at most {limit} million are decoded, make it smaller"));
    }
    if width == 0 || height == 0 {
        return Err(format!("has {width}x{height} pixels"));
    }
    let orientation = decoder.orientation().map_err(damaged)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// The first bytes of a file that is no image, printable.
fn beginning(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(16)]))
}

fn to_rgb(image: DynamicImage) -> Vec<u8> {
    if image.color().has_alpha() { composite_on_white(&image.into_rgba8()) } else { image.into_rgb8().into_raw() }
}

fn to_grey(image: DynamicImage) -> Vec<u8> {
    match image {
        DynamicImage::ImageLuma8(grey) => grey.into_raw(),
        DynamicImage::ImageLuma16(_) => image.into_luma8().into_raw(),
        image => to_rgb(image).as_chunks::<3>().0.iter().map(grey_of).collect(),
    }
}

/// Step 3 of the recipe.
pub(super) fn grey_of(&[r, g, b]: &[u8; 3]) -> u8 {
    ((19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b) + 32768) >> 16) as u8
}

fn composite_on_white(image: &image::RgbaImage) -> Vec<u8> {
    let mut out = Vec::with_capacity(image.len() / 4 * 3);
    for pixel in image.pixels() {
        let [r, g, b, a] = pixel.0.map(u32::from);
        out.extend([r, g, b].map(|value| ((value * a + 255 * (255 - a) + 127) / 255) as u8));
    }
    out
}
