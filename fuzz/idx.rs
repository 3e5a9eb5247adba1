//! IDX files: the first byte's lowest bit says whether the images are packed with gzip, the next 16 bytes are the labels.
#![no_main]

use std::sync::LazyLock;

mod place;

static PLACE: LazyLock<place::Place> = LazyLock::new(|| place::Place::new(&[]));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&[kind, ref labels @ ..], images)) = bytes.split_first_chunk::<17>() else { return };
    let (name, other) = match kind & 1 {
        0 => ("train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"),
        _ => ("train-images-idx3-ubyte.gz", "train-images-idx3-ubyte"),
    };
    let _ = std::fs::remove_file(PLACE.data().join(other));
    PLACE.write("train-labels-idx1-ubyte", labels);
    PLACE.write(name, images);
    PLACE.open("");
});
