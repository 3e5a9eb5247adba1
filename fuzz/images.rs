//! Image files of all formats through the decoder of training.
#![no_main]

use rkd_core::data::Decoder;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // A picture of many pixels from few bytes is slow, not wrong.
    let mut out = [0; 8 * 8 * 3];
    let _ = Decoder::new(8, 3).decode(bytes, &mut out);
});
