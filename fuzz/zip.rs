//! ZIP archives: table of contents, names, lists, entries.
#![no_main]

use std::sync::LazyLock;

mod place;

static PLACE: LazyLock<place::Place> = LazyLock::new(|| place::Place::new(&[]));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    PLACE.write("a.zip", bytes);
    PLACE.open("a.zip");
});
