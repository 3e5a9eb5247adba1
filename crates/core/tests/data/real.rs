//! The real data sets, where the environment variable `RKD_DATA` names a folder with them.

use std::path::PathBuf;

use rkd_core::data::SplitPlan;
use rkd_core::data::{Split, survey};

use crate::data::common::{Place, open};

/// The folder of a data set; `None` where there is none.
fn folder(name: &str) -> Option<PathBuf> {
    Some(PathBuf::from(std::env::var_os("RKD_DATA")?).join(name)).filter(|path| path.is_dir())
}

fn check(name: &str, known: Option<&str>, channels: usize, counts: [usize; 3], parts: [usize; 2]) {
    let Some(path) = folder(name) else { return };
    let place = Place::new();
    let mut plan = place.plan_of(&path);
    (plan.image_size, plan.channels) = (28, channels);
    let survey = survey(&plan, &|| false).unwrap();
    let data = open(&plan).unwrap();
    let found = data.describe();
    assert_eq!(found.name.as_deref(), known);
    assert_eq!([found.images, found.classes, found.broken.len()], counts, "{}", found.sentence);
    assert_eq!((survey.images, survey.classes, survey.name), (found.images, found.classes, found.name));
    let split = Split::new(&data, &SplitPlan::Source { validation: 0.0 }, 1).unwrap();
    assert_eq!([split.train.len(), split.test.len()], parts);
}

#[test]
fn omniglot() {
    check("omniglot", Some("Omniglot"), 1, [32_460, 1_623, 0], [19_280, 13_180]);
}

#[test]
fn fashion_mnist() {
    check("fashion-mnist", None, 1, [70_000, 10, 0], [60_000, 10_000]);
}

#[test]
fn cars() {
    check("cars196", Some("Cars 196"), 3, [8_144, 196, 0], [4_052, 4_092]);
}

#[test]
fn flowers() {
    check("flowers102", Some("Oxford Flowers 102"), 3, [8_189, 102, 0], [3_493, 4_696]);
}

#[test]
fn tiny_imagenet() {
    check("tiny-imagenet", Some("Tiny ImageNet"), 3, [25_000, 200, 0], [15_000, 10_000]);
}

#[test]
fn omniglot_by_the_published_lists_with_turns() {
    let Some(path) = folder("omniglot") else { return };
    let place = Place::new();
    let mut plan = place.plan_of(&path);
    (plan.image_size, plan.rotations) = (28, true);
    let data = open(&plan).unwrap();
    assert_eq!((data.len(), data.classes()), (129_840, 6_492));
    let list = |name: &str| path.join("splits").join(name);
    let lists =
        SplitPlan::Lists { train: list("train.txt"), validation: Some(list("val.txt")), test: Some(list("test.txt")) };
    let split = Split::new(&data, &lists, 1).unwrap();
    assert_eq!(split.warnings, Vec::<String>::new());
    let sizes = [&split.train_classes, &split.validation_classes, &split.test_classes].map(Vec::len);
    assert_eq!(sizes, [4_112, 688, 1_692]);
    assert_eq!(split.train.len(), 20 * 4_112);
}
