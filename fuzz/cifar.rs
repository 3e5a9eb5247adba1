//! CIFAR-100's binary files; all up to the first byte 0xff are the names of the classes.
#![no_main]

use std::sync::LazyLock;

mod place;

static PLACE: LazyLock<place::Place> = LazyLock::new(|| place::Place::new(&[]));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|&byte| byte == 0xff).unwrap_or(0);
    PLACE.write("fine_label_names.txt", &bytes[..end]);
    PLACE.write("train.bin", bytes.get(end + 1..).unwrap_or_default());
    PLACE.open("");
});
