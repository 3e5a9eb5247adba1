//! Splits: by classes, by images, by lists, and with turns as classes.

use std::collections::BTreeSet;
use std::path::PathBuf;

use rkd_core::data::SplitPlan;
use rkd_core::data::{Dataset, Part, Split};

use crate::data::common::{Place, open, plan, png, says, zip_of};

fn glyphs(place: &Place, source: &str, rotations: bool) -> Dataset {
    let mut plan = plan(source, &place.cache());
    plan.rotations = rotations;
    open(&plan).unwrap()
}

#[test]
fn a_split_by_images_keeps_all_classes_in_all_parts() {
    let place = Place::new();
    let data = glyphs(&place, "glyphs:classes=6,writers=20", false);
    let kind = SplitPlan::Images { validation: 0.1, test: 0.25 };
    let split = Split::new(&data, &kind, 5).unwrap();
    assert_eq!([split.train.len(), split.validation.len(), split.test.len()], [78, 12, 30]);
    for part in [Part::Train, Part::Validation, Part::Test] {
        assert_eq!(split.classes(part), [0, 1, 2, 3, 4, 5]);
    }
    let all: BTreeSet<u32> = [&split.train, &split.validation, &split.test].into_iter().flatten().copied().collect();
    assert_eq!(all.len(), 120);
    assert_eq!(split, Split::new(&data, &kind, 5).unwrap());
    assert_ne!(split.test, Split::new(&data, &kind, 6).unwrap().test);
    // However small a class is, one image trains.
    let small = glyphs(&place, "glyphs:classes=4,writers=2", false);
    let split = Split::new(&small, &SplitPlan::Images { validation: 0.45, test: 0.5 }, 1).unwrap();
    assert_eq!([split.train.len(), split.validation.len(), split.test.len()], [4, 0, 4]);
    let error = Split::new(&small, &SplitPlan::Images { validation: 0.5, test: 0.5 }, 1).unwrap_err();
    says(&error, &["nothing would be left to train on"]);
}

#[test]
fn turns_are_classes_and_stay_together() {
    let place = Place::new();
    let (plain, turned) =
        (glyphs(&place, "glyphs:classes=20,writers=3", false), glyphs(&place, "glyphs:classes=20,writers=3", true));
    assert_eq!((turned.len(), turned.classes()), (240, 80));
    assert_eq!(plain.fingerprint(), turned.fingerprint(), "turns are the plan's, not the data's");
    assert_eq!((turned.id(0), turned.class_name(0)), ("character0000/writer0000@rot000", "character0000/rot000"));
    let side = plain.image_size();
    for item in 0..turned.len() as u32 {
        let (id, turn) = turned.id(item).split_once('@').unwrap();
        assert!(turned.class_name(turned.label(item)).ends_with(turn));
        let original = (0..plain.len() as u32).find(|&other| plain.id(other) == id).unwrap();
        let (before, after) = (plain.pixels(original), turned.pixels(item));
        for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
            // Anticlockwise: the right edge comes to the top.
            let from = match turn {
                "rot000" => (y, x),
                "rot090" => (x, side - 1 - y),
                "rot180" => (side - 1 - y, side - 1 - x),
                _ => (side - 1 - x, y),
            };
            assert_eq!(after[y * side + x], before[from.0 * side + from.1], "{id} {turn}");
        }
    }
    let split = Split::new(&turned, &SplitPlan::Classes { validation: 0.2, test: 0.3 }, 4).unwrap();
    assert_eq!([split.train_classes.len(), split.validation_classes.len(), split.test_classes.len()], [40, 16, 24]);
    let characters = |part: Part| -> BTreeSet<&str> {
        split.classes(part).iter().map(|&label| turned.unturned_name(label)).collect()
    };
    assert!(characters(Part::Train).is_disjoint(&characters(Part::Test)));
    assert!(characters(Part::Train).is_disjoint(&characters(Part::Validation)));
}

#[test]
fn lists_of_classes_are_a_split() {
    let place = Place::new();
    let list = |name: &str, text: &str| -> PathBuf { place.write(name, text.as_bytes()) };
    let of = |train: &PathBuf, validation: Option<&PathBuf>, test: Option<&PathBuf>| SplitPlan::Lists {
        train: train.clone(),
        validation: validation.cloned(),
        test: test.cloned(),
    };
    let train =
        list("train.txt", "character0000/rot000\ncharacter0000/rot090\n\n character0001/rot180 \nnowhere/rot000\n");
    let test = list("test.txt", "character0003/rot270\n");
    let data = glyphs(&place, "glyphs:classes=5,writers=2", true);
    let split = Split::new(&data, &of(&train, None, Some(&test)), 1).unwrap();
    let names = |data: &Dataset, split: &Split, part| -> Vec<String> {
        split.classes(part).iter().map(|&label| data.class_name(label).to_string()).collect()
    };
    assert_eq!(
        names(&data, &split, Part::Train),
        ["character0000/rot000", "character0000/rot090", "character0001/rot180"]
    );
    assert_eq!(names(&data, &split, Part::Test), ["character0003/rot270"]);
    assert_eq!([split.train.len(), split.validation.len(), split.test.len()], [6, 0, 2]);
    assert!(split.warnings[0].contains("1 of the 4 classes in") && split.warnings[0].contains("nowhere/rot000"));
    // Without turns, the turns of a character are that character; with them, a character is its four turns.
    let plain = glyphs(&place, "glyphs:classes=5,writers=2", false);
    let split = Split::new(&plain, &of(&train, None, Some(&test)), 1).unwrap();
    assert_eq!(names(&plain, &split, Part::Train), ["character0000", "character0001"]);
    let characters = list("characters.txt", "character0002");
    let split = Split::new(&data, &of(&train, Some(&characters), None), 1).unwrap();
    assert_eq!(split.validation_classes.len(), 4);

    let error = |kind| Split::new(&data, &kind, 1).unwrap_err();
    says(&error(of(&train, Some(&train), None)), &["character0000/rot000 is in the lists of two parts"]);
    let strange = list("strange.txt", "Greek/character01\n");
    says(
        &error(of(&strange, None, None)),
        &["strange.txt", "no class of the list is in the data", "character0000/rot000"],
    );
    says(&error(of(&PathBuf::from("/nowhere.txt"), None, None)), &["reading the list of classes", "/nowhere.txt"]);
}

#[test]
fn turns_of_an_archive_are_read_in_one_pass() {
    let place = Place::new();
    let files = [("cat/1.png", png(10)), ("dog/1.png", png(20))];
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    for (name, bytes) in [("a.zip", zip_of(&files)), ("a.tar", crate::data::common::tar_of(&files))] {
        let mut plan = place.plan_of(&place.write(name, &bytes));
        plan.rotations = true;
        let data = open(&plan).unwrap();
        let values: Vec<u8> = (0..8).map(|item| data.pixels(item)[0]).collect();
        assert_eq!(values, [10, 10, 10, 10, 20, 20, 20, 20], "{name}");
        assert_eq!(data.classes(), 8);
    }
}
