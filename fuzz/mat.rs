//! The MATLAB files of Cars 196.
#![no_main]

use std::sync::LazyLock;

mod place;

static PLACE: LazyLock<place::Place> =
    LazyLock::new(|| place::Place::new(&[("car_ims/000001.jpg", b"x"), ("car_ims/000002.jpg", b"x")]));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    PLACE.write("cars_annos.mat", bytes);
    let _ = rkd_core::data::survey(&PLACE.plan(""), &|| false);
});
