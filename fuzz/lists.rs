//! The lists of published data sets, and lists of classes; the first byte says which one.
#![no_main]

use std::sync::LazyLock;

use rkd_core::data::{Dataset, Split, SplitPlan};

mod place;

const NAMES: [&str; 6] =
    ["images.txt", "Ebay_train.txt", "train.csv", "val.csv", "wnids.txt", "val/val_annotations.txt"];

static PLACE: LazyLock<place::Place> = LazyLock::new(|| {
    let paths = ["images/001.a/1.jpg", "images/002.b/2.jpg", "a_final/1.JPG", "train/n1/images/1.JPEG", "val/images/1.JPEG"];
    place::Place::new(&paths.map(|path| (path, &b"x"[..])))
});

static DATA: LazyLock<(place::Place, Dataset)> = LazyLock::new(|| {
    let place = place::Place::new(&[]);
    let mut plan = place.plan("");
    plan.source = "glyphs:classes=4,writers=1".into();
    let data = Dataset::open(&plan, &|| false, &mut |_| {}).expect("glyphs");
    (place, data)
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&which, text)) = bytes.split_first() else { return };
    match NAMES.get(usize::from(which) % (NAMES.len() + 1)) {
        Some(name) => {
            PLACE.write(name, text);
            let _ = rkd_core::data::survey(&PLACE.plan(""), &|| false);
            let _ = std::fs::remove_file(PLACE.data().join(name));
        }
        None => {
            DATA.0.write("train.txt", text);
            let plan =
                SplitPlan::Lists { train: DATA.0.data().join("train.txt"), validation: None, test: None };
            let _ = Split::new(&DATA.1, &plan, 1);
        }
    }
});
