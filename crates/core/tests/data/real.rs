//! The real data sets, where the environment variable `RKD_DATA` names a folder with them.

use std::path::PathBuf;

use rkd_core::data::Split;
use rkd_core::plan::SplitPlan;

use crate::common::{Place, open};

/// The folder of a data set; `None` where there is none.
fn folder(name: &str) -> Option<PathBuf> {
    Some(PathBuf::from(std::env::var_os("RKD_DATA")?).join(name)).filter(|path| path.is_dir())
}

fn check(name: &str, kind: &str, channels: usize, counts: [usize; 3], parts: Option<[usize; 2]>) {
    let Some(path) = folder(name) else { return };
    let place = Place::new();
    let mut plan = place.plan_of(&path);
    (plan.image_size, plan.channels) = (28, channels);
    let data = open(&plan).unwrap();
    let found = data.describe();
    assert_eq!(found.kind, kind);
    assert_eq!([found.images, found.classes, found.broken.len()], counts, "{}", found.sentence);
    assert_eq!(found.own_split, parts.is_some());
    if let Some(parts) = parts {
        let split = Split::new(&data, &SplitPlan::Source { validation: 0.0 }, 1).unwrap();
        assert_eq!([split.train.len(), split.test.len()], parts);
    }
}

#[test]
fn omniglot() {
    check("omniglot", "omniglot", 1, [32_460, 1_623, 0], Some([19_280, 13_180]));
}

#[test]
fn fashion_mnist() {
    check("fashion-mnist", "idx", 1, [70_000, 10, 0], Some([60_000, 10_000]));
}

#[test]
fn cars() {
    check("cars196", "zip", 3, [8_144, 196, 0], None);
}

#[test]
fn flowers() {
    check("flowers102", "zip", 3, [8_189, 102, 0], None);
}

#[test]
fn tiny_imagenet() {
    check("tiny-imagenet", "tar", 3, [25_000, 200, 0], Some([15_000, 10_000]));
}
