//! The decoder gives Pillow's pixels and refuses what it must.

use rkd_core::data::Decoder;

use crate::common::{png, png_of};

fn decode(bytes: &[u8], size: usize, channels: usize) -> Result<Vec<u8>, String> {
    let mut out = vec![0; size * size * channels];
    Decoder::new(size, channels).decode(bytes, &mut out).map(|()| out)
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/data/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Largest and mean difference that a format may have. Lossless ones differ by the rounding of the resize alone; JPEG
/// leaves the last bits of its inverse transform to the decoder.
fn tolerance(file: &str) -> (u8, f64) {
    if file.ends_with(".jpg") { (2, 0.1) } else { (1, 0.03) }
}

#[test]
fn pixels_are_those_of_pillow() {
    let expected: serde_json::Value = serde_json::from_slice(&fixture("expected.json")).unwrap();
    let cases = expected["cases"].as_array().unwrap();
    assert!(cases.len() >= 28, "{} cases", cases.len());
    for case in cases {
        let file = case["file"].as_str().unwrap();
        let (size, channels) = (case["size"].as_u64().unwrap() as usize, case["channels"].as_u64().unwrap() as usize);
        let text = case["pixels"].as_str().unwrap();
        let pillow: Vec<u8> =
            (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect();
        let ours = decode(&fixture(file), size, channels).unwrap();
        assert_eq!(ours.len(), pillow.len());
        let differences: Vec<u8> = ours.iter().zip(&pillow).map(|(a, b)| a.abs_diff(*b)).collect();
        let largest = *differences.iter().max().unwrap();
        let mean = differences.iter().map(|&d| f64::from(d)).sum::<f64>() / differences.len() as f64;
        let (most, most_mean) = tolerance(file);
        assert!(largest <= most && mean <= most_mean, "{file} {size}x{channels}: largest {largest}, mean {mean:.3}");
    }
}

#[test]
fn an_image_of_the_right_size_is_left_as_it_is() {
    assert_eq!(decode(&png(77), 8, 1).unwrap(), [77; 64]);
    assert_eq!(decode(&png(77), 8, 3).unwrap(), [77; 192]);
}

#[test]
fn a_long_strip_is_resized_and_its_middle_kept() {
    let mut strip = image::GrayImage::from_pixel(20_000, 30, image::Luma([10]));
    for (x, _, pixel) in strip.enumerate_pixels_mut() {
        if (9_900..10_100).contains(&x) {
            pixel.0 = [200];
        }
    }
    let mut bytes = std::io::Cursor::new(Vec::new());
    strip.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    assert_eq!(decode(&bytes.into_inner(), 15, 1).unwrap(), [200; 225]);
}

#[test]
fn what_is_no_image_is_said_plainly() {
    assert_eq!(decode(b"", 8, 1).unwrap_err(), "is empty (0 bytes)");
    assert_eq!(
        decode(b"hello world, this is text", 8, 1).unwrap_err(),
        "is no image: its content starts with \"hello world, thi\""
    );
    let whole = png_of(50, 50, 3);
    let cut = decode(&whole[..whole.len() / 2], 8, 1).unwrap_err();
    assert!(cut.starts_with("is a damaged Png image: "), "{cut}");
}

#[test]
fn a_huge_picture_is_refused_by_its_header_alone() {
    // The header says 20,000 x 20,000; there are no pixels behind it.
    let mut bytes = png_of(1, 1, 0);
    bytes[16..20].copy_from_slice(&20_000u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&20_000u32.to_be_bytes());
    let crc = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    let error = decode(&bytes, 8, 1).unwrap_err();
    assert_eq!(error, "has 20000x20000 pixels; at most 64 million are decoded, make it smaller");
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}
