//! The decoder gives Pillow's pixels and refuses what it must.

use rkd_core::data::Decoder;

use crate::data::common::{png, png_of};

fn decode(bytes: &[u8], size: usize, channels: usize) -> Result<Vec<u8>, String> {
    let mut out = vec![0; size * size * channels];
    Decoder::new(size, channels).decode(bytes, &mut out).map(|()| out)
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/data/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Largest and mean difference that a picture may have: the rounding of the resize, and of four colours that of a decoder
/// that is not libjpeg-turbo's twin.
fn tolerance(file: &str) -> (u8, f64) {
    if file == "cmyk.jpg" { (2, 0.1) } else { (1, 0.03) }
}

#[test]
fn pixels_are_those_of_pillow() {
    let expected: serde_json::Value = serde_json::from_slice(&fixture("expected.json")).unwrap();
    let cases = expected["cases"].as_array().unwrap();
    assert!(cases.len() >= 32, "{} cases", cases.len());
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

/// Where the codes of a JPEG's first scan begin.
fn first_scan(bytes: &[u8]) -> usize {
    let scan = bytes.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    scan + 2 + usize::from(u16::from_be_bytes([bytes[scan + 2], bytes[scan + 3]]))
}

const JPEGS: [&str; 8] = [
    "plain.jpg",
    "restart.jpg",
    "progressive.jpg",
    "progressive-restart.jpg",
    "progressive-grey.jpg",
    "turned.jpg",
    "grey.jpg",
    "cmyk.jpg",
];

#[test]
fn a_jpeg_cut_anywhere_is_damaged_but_one_without_its_end_marker_is_not() {
    for name in JPEGS {
        let whole = fixture(name);
        let pixels = decode(&whole, 24, 3).unwrap();
        let codes_end = whole.len() - 2;
        assert_eq!(whole[codes_end..], [0xff, 0xd9], "{name}");
        let with_marker = |codes: &[u8]| [codes, &[0xff, 0xd9]].concat();
        for harmless in [
            whole[..codes_end].to_vec(),
            whole[..codes_end + 1].to_vec(),
            [&whole[..], &[0; 5000]].concat(),
            [&whole[..], &whole[..]].concat(),
            with_marker(&[&whole[..codes_end], &[0xff, 0xff]].concat()),
            with_marker(&[&whole[..codes_end], &[0; 5]].concat()),
        ] {
            assert_eq!(decode(&harmless, 24, 3).unwrap(), pixels, "{name}");
        }
        for cut in first_scan(&whole)..codes_end {
            let cut_off = decode(&whole[..cut], 24, 3);
            let error = cut_off.err().unwrap_or_else(|| panic!("{name} cut at {cut} of {codes_end}: taken for whole"));
            assert!(error.starts_with("is a damaged Jpeg image: "), "{error}");
        }
    }
}

#[test]
fn a_jpeg_with_other_bytes_in_its_codes_is_damaged() {
    for name in JPEGS {
        let whole = fixture(name);
        let (start, end) = (first_scan(&whole), whole.len() - 2);
        let half = start + (end - start) / 2;
        let mut state = 1u32;
        let mut noise = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let random: Vec<u8> = (half..whole.len()).map(&mut noise).collect();
        let tails = [
            ("zeros to the end", [&whole[..half], &vec![0; whole.len() - half]].concat()),
            ("zeros before the end marker", [&whole[..half], &vec![0; end - half], &whole[end..]].concat()),
            ("noise to the end", [&whole[..half], &random].concat()),
            ("zeros in the middle", [&whole[..half], &[0; 100], &whole[half + 100..]].concat()),
            ("a hole", [&whole[..half], &whole[half + 100..]].concat()),
            ("codes twice", [&whole[..half + 100], &whole[half..]].concat()),
        ];
        for (what, bytes) in tails {
            let error = decode(&bytes, 24, 3).err().unwrap_or_else(|| panic!("{name}, {what}: taken for whole"));
            assert!(error.starts_with("is a damaged Jpeg image: "), "{name}, {what}: {error}");
        }
    }
}

#[test]
fn a_sequential_jpeg_says_how_far_its_codes_go() {
    let whole = fixture("plain.jpg");
    let (start, end) = (first_scan(&whole), whole.len() - 2);
    let error = decode(&[&whole[..(start + end) / 2], &[0xff, 0xd9]].concat(), 24, 3).unwrap_err();
    let share = error.strip_prefix("is a damaged Jpeg image: its compressed data end after ").unwrap();
    let share: u32 = share.strip_suffix(" %").unwrap().parse().unwrap();
    assert!((30..70).contains(&share), "{error}");
}

#[test]
fn rare_kinds_of_tiff_are_read() {
    let grey = decode(&fixture("grey.png"), 28, 1).unwrap();
    for name in ["float-1.tiff", "float-255.tiff", "int-32.tiff"] {
        assert_eq!(decode(&fixture(name), 28, 1).unwrap(), grey, "{name}");
    }
    assert_eq!(decode(&fixture("palette.tiff"), 28, 3).unwrap(), decode(&fixture("palette.png"), 28, 3).unwrap());
    for name in ["float-1.tiff", "palette.tiff"] {
        let whole = fixture(name);
        for cut in (0..whole.len()).step_by(97) {
            assert!(decode(&whole[..cut], 28, 3).is_err(), "{name} cut at {cut}");
        }
    }
}

fn png16(value: impl Fn(u32) -> u16) -> Vec<u8> {
    let image = image::ImageBuffer::from_fn(16, 16, |x, y| image::Luma([value(x + 16 * y)]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::DynamicImage::ImageLuma16(image).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[test]
fn deep_pixels_keep_their_brightness_or_are_refused_by_name() {
    assert_eq!(decode(&png16(|i| (i * 257) as u16), 16, 1).unwrap(), (0..=255).collect::<Vec<u8>>());
    let error = decode(&png16(|i| (i * 16) as u16), 16, 1).unwrap_err();
    assert!(error.contains("lowest 12 only (the largest value is 4080 of 65535)"), "{error}");
    assert_eq!(decode(&png16(|_| 0), 16, 1).unwrap(), [0; 256]);
    let float = |factor: f32| {
        let image = image::ImageBuffer::from_fn(16, 16, |x, y| image::Rgb([(x + 16 * y) as f32 / 255.0 * factor; 3]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::DynamicImage::ImageRgb32F(image).write_to(&mut bytes, image::ImageFormat::Tiff).unwrap();
        decode(&bytes.into_inner(), 16, 1)
    };
    assert_eq!(float(1.0).unwrap(), (0..=255).collect::<Vec<u8>>());
    assert_eq!(float(255.0).unwrap(), (0..=255).collect::<Vec<u8>>());
    for factor in [4.0, 1000.0, -1.0, f32::NAN] {
        let error = float(factor).unwrap_err();
        assert!(error.contains("floating-point values from"), "{error}");
    }
}

#[test]
fn a_bmp_whose_alpha_is_zero_everywhere_has_none() {
    let bmp = |alpha: fn(u32) -> u8| {
        let image = image::RgbaImage::from_fn(8, 8, |x, _| image::Rgba([40, 40, 40, alpha(x)]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, image::ImageFormat::Bmp).unwrap();
        decode(&bytes.into_inner(), 8, 1).unwrap()
    };
    assert_eq!(bmp(|_| 0), [40; 64]);
    assert_eq!(bmp(|x| if x < 4 { 0 } else { 255 })[..8], [255, 255, 255, 255, 40, 40, 40, 40]);
}

#[test]
fn a_strip_is_resized_in_bounded_memory_to_what_its_middle_alone_gives() {
    // Between the two passes of a resize the whole of the first would take 500,001 x 224 x 3 bytes.
    let of_height = |height: u32| {
        let image = image::GrayImage::from_fn(3, height, |x, y| {
            let from_middle = i64::from(y) - i64::from(height / 2);
            image::Luma([(128 + from_middle * 20 + i64::from(x) * 9).clamp(0, 255) as u8])
        });
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        decode(&bytes.into_inner(), 224, 3).unwrap()
    };
    assert_eq!(of_height(500_001), of_height(2_001));
}

#[test]
fn portable_any_maps_are_images() {
    let mut bytes = b"P5\n# made by hand\n8 8\n255\n".to_vec();
    bytes.extend([9; 64]);
    assert_eq!(decode(&bytes, 8, 1).unwrap(), [9; 64]);
}
