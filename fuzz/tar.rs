//! Tar archives, gzip or not: headers, long names, links, lists, entries.
#![no_main]

use std::sync::LazyLock;

mod place;

static PLACE: LazyLock<place::Place> = LazyLock::new(|| place::Place::new(&[]));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    PLACE.write("a.tar", bytes);
    PLACE.open("a.tar");
});
