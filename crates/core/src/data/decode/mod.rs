//! One encoded image -> `size x size` pixels of 1 or 3 channels, as bytes.
//!
//! The recipe, in order, so that another program can repeat it exactly:
//! 1. the first frame is decoded (PNG, JPEG, WebP, BMP, GIF, TIFF, PNM; told apart by content, not by name), turned upright
//!    by its EXIF orientation, and brought to 8 bits a channel (`deep`); a JPEG has the pixels of libjpeg-turbo and must be
//!    whole (`jpeg`);
//! 2. transparency is composited on white (a BMP or TIFF whose alpha is 0 everywhere has none);
//! 3. grey is Pillow's `convert("L")`: `(19595 R + 38470 G + 7471 B + 32768) >> 16`;
//! 4. the short side is resized to `size`, the long side to `floor(size * long / short)`, with the Lanczos-3 filter widened
//!    for shrinking (antialiased), the same numbers as Pillow's `resize`; then the centre square is cut out. This is
//!    torchvision's `Resize(size, LANCZOS)` and `CenterCrop(size)`.
//!
//! Lanczos rather than bilinear because it is the one filter that Pillow, torchvision and transformers.js on Node agree
//! on when they shrink; a model trained on these pixels sees the same ones wherever it is served.

mod deep;
mod jpeg;
mod limits;
mod tiff;

use std::borrow::Cow;
use std::io::Cursor;
use std::sync::{Mutex, PoisonError};

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage, RgbaImage};

pub use self::limits::MAX_PIXELS;
use self::limits::{MAX_DECODER_BYTES, check_size, too_large};

/// Changes whenever the recipe above, how glyphs are drawn, or how layouts are read does: part of the cache's key.
pub const DECODER_VERSION: u32 = 4;

/// Pictures of more pixels than this are decoded one at a time, as each may take half a gigabyte; cameras stay below.
const LARGE_PIXELS: u64 = 40_000_000;
static ONE_LARGE: Mutex<()> = Mutex::new(());

/// Largest picture between the two passes of a resize, in bytes; of a strip that needs more, only the middle is resized.
const MAX_NARROW_BYTES: usize = 256 << 20;

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
        let Opened { decoder, format, size: [width, height] } = match open(bytes)? {
            Ok(opened) => opened,
            Err(image) => return self.place(image, out),
        };
        let _one = (u64::from(width) * u64::from(height) > LARGE_PIXELS)
            .then(|| ONE_LARGE.lock().unwrap_or_else(PoisonError::into_inner));
        let own = if format == ImageFormat::Jpeg { jpeg::decode(bytes) } else { None };
        let own = own.transpose().map_err(|damage| format!("is a damaged Jpeg image: {damage}"))?;
        let image = upright(decoder, format, own)?;
        let image = deep::checked(if format == ImageFormat::Bmp || format == ImageFormat::Tiff {
            without_empty_alpha(image)
        } else {
            image
        })?;
        self.place(image, out)
    }

    /// Brings `pixels`, bytes `[height, width, channels]` of 1 (grey), 3 (RGB) or 4 channels (RGBA), into `out` as
    /// [`Decoder::decode`] does with the pixels of a file.
    ///
    /// # Errors
    /// As [`Decoder::decode`], for another number of channels or of bytes, for no pixels and for too many.
    pub fn place_pixels(
        &mut self,
        pixels: &[u8],
        [width, height, channels]: [usize; 3],
        out: &mut [u8],
    ) -> Result<(), String> {
        if width == 0 || height == 0 {
            return Err("has no pixels".into());
        }
        let [w, h] = [width, height].map(|side| u32::try_from(side).unwrap_or(u32::MAX));
        check_size(w, h)?;
        if pixels.len() != width * height * channels {
            let form = format!("{width} x {height} pixels of {channels} channels are {}", width * height * channels);
            return Err(format!("has {} bytes where {form}", pixels.len()));
        }
        let data = pixels.to_vec();
        let image = match channels {
            1 => GrayImage::from_raw(w, h, data).map(DynamicImage::from),
            3 => RgbImage::from_raw(w, h, data).map(DynamicImage::from),
            4 => RgbaImage::from_raw(w, h, data).map(DynamicImage::from),
            _ => return Err(format!("has {channels} channels; give 1 (grey), 3 (RGB) or 4 (RGBA)")),
        };
        self.place(image.ok_or_else(too_large)?, out)
    }

    fn place(&mut self, image: DynamicImage, out: &mut [u8]) -> Result<(), String> {
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
        let (mut top, down) = centre(height, short, self.size);
        let (mut pixels, mut height) = (Cow::Borrowed(pixels), height);
        if height * self.size * self.channels > MAX_NARROW_BYTES {
            // The filter reaches three target pixels beyond the square.
            let margin = 3 * short.div_ceil(self.size) + 4;
            let first = (top as usize).saturating_sub(margin);
            let last = ((top + down).ceil() as usize + margin).min(height);
            let row = width * self.channels;
            pixels = Cow::Owned(pixels[first * row..last * row].to_vec());
            (top, height) = (top - first as f64, last - first);
        }
        let columns = ResizeOptions::new().crop(left, 0.0, across, height as f64).use_alpha(false);
        let rows = ResizeOptions::new().crop(0.0, top, self.size as f64, down).use_alpha(false);
        // Columns first, then rows, each rounded and held within 0..=255, as Pillow does it. In one call the resizer goes
        // the other way round, which differs by a dozen levels beside an edge of pure white or black.
        let mut narrow = std::mem::take(&mut self.narrow);
        narrow.resize(height * self.size * self.channels, 0);
        let side = self.size;
        let resized = self
            .pass(&pixels, [width, height], &mut narrow, [side, height], &columns)
            .and_then(|()| self.pass(&narrow, [side, height], out, [side, side], &rows));
        self.narrow = narrow;
        resized.map_err(|e| format!("cannot be resized from {width}x{height}: {e}"))
    }

    /// Of the two kinds of pixels alone: the resizer's own choice among all kinds would bring them all into the binary, which
    /// are 5 MB.
    fn pass(
        &mut self,
        from: &[u8],
        from_size: [usize; 2],
        to: &mut [u8],
        to_size: [usize; 2],
        options: &ResizeOptions,
    ) -> Result<(), Box<dyn std::error::Error>> {
        if self.channels == 1 {
            self.pass_of::<U8>(from, from_size, to, to_size, options)
        } else {
            self.pass_of::<U8x3>(from, from_size, to, to_size, options)
        }
    }

    fn pass_of<P: PixelTrait>(
        &mut self,
        from: &[u8],
        [width, height]: [usize; 2],
        to: &mut [u8],
        [to_width, to_height]: [usize; 2],
        options: &ResizeOptions,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let source = TypedImageRef::<P>::from_buffer(width as u32, height as u32, from)?;
        let mut target = TypedImage::<P>::from_buffer(to_width as u32, to_height as u32, to)?;
        let options = options.resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3));
        Ok(self.resizer.resize_typed(&source, &mut target, &options)?)
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

/// A file whose head was read.
struct Opened<'a> {
    decoder: Box<dyn ImageDecoder + 'a>,
    format: ImageFormat,
    size: [u32; 2],
}

/// Reads the head of `bytes` and checks it against the limits; a TIFF of a rare kind comes back as an image.
fn open(bytes: &[u8]) -> Result<Result<Opened<'_>, DynamicImage>, String> {
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
    let decoder = match reader.into_decoder() {
        Err(ImageError::Unsupported(_)) if format == ImageFormat::Tiff => return tiff::decode(bytes).map(Err),
        decoder => decoder.map_err(|e| failure(format, e))?,
    };
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    Ok(Ok(Opened { decoder: Box::new(decoder), format, size: [width, height] }))
}

/// The picture of `decoder`, or `decoded` where it was decoded without it, turned upright.
fn upright(
    mut decoder: Box<dyn ImageDecoder + '_>,
    format: ImageFormat,
    decoded: Option<DynamicImage>,
) -> Result<DynamicImage, String> {
    let orientation = decoder.orientation().map_err(|e| failure(format, e))?;
    let decoded = decoded.map_or_else(|| DynamicImage::from_decoder(decoder), Ok);
    let mut image = decoded.map_err(|e| failure(format, e))?;
    image.apply_orientation(orientation);
    Ok(image)
}

fn failure(format: ImageFormat, error: ImageError) -> String {
    match error {
        ImageError::Limits(_) => too_large(),
        ImageError::Unsupported(e) => {
            format!("is a {format:?} image of a kind that cannot be read: {e}; save it as PNG or JPEG")
        }
        e => format!("is a damaged {format:?} image: {e}"),
    }
}

/// Programs that know no alpha leave it 0 in formats with room for it.
fn without_empty_alpha(image: DynamicImage) -> DynamicImage {
    match image {
        DynamicImage::ImageRgba8(pixels) if pixels.pixels().all(|pixel| pixel.0[3] == 0) => {
            DynamicImage::ImageRgba8(pixels).into_rgb8().into()
        }
        DynamicImage::ImageRgba16(pixels) if pixels.pixels().all(|pixel| pixel.0[3] == 0) => {
            DynamicImage::ImageRgba16(pixels).into_rgb16().into()
        }
        DynamicImage::ImageLumaA8(pixels) if pixels.pixels().all(|pixel| pixel.0[1] == 0) => {
            DynamicImage::ImageLumaA8(pixels).into_luma8().into()
        }
        image => image,
    }
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

fn composite_on_white(image: &RgbaImage) -> Vec<u8> {
    let mut out = Vec::with_capacity(image.len() / 4 * 3);
    for pixel in image.pixels() {
        let [r, g, b, a] = pixel.0.map(u32::from);
        out.extend([r, g, b].map(|value| ((value * a + 255 * (255 - a) + 127) / 255) as u8));
    }
    out
}
