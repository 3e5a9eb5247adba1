//! Images without labels: what is found out, how they are split, and what is refused.

use std::collections::BTreeSet;

use rkd_core::data::{DataPlan, Labels, Part, Split, SplitPlan};
use rkd_core::options::{self, DataOption, DataSurvey};
use serde_json::{Value, json};

use crate::data::common::{Place, open, says};

/// What the options make of the data folder with `more`.
fn survey(place: &Place, more: Value) -> rkd_core::Result<DataSurvey> {
    let mut data = json!({ "source": place.data(), "cache": place.cache(), "imageSize": 8, "channels": 1 });
    more.as_object().unwrap().iter().for_each(|(name, value)| data[name] = value.clone());
    options::survey(&rkd_core::input::read::<DataOption>("data", &data)?, &|| false)
}

/// `count` images, flat.
fn flat(count: u8) -> Place {
    let place = Place::new();
    let names: Vec<(String, u8)> = (0..count).map(|i| (format!("{i:03}.png"), i)).collect();
    place.images(&names.iter().map(|(name, value)| (&name[..], *value)).collect::<Vec<_>>());
    place
}

fn shape(plan: &DataPlan) -> (Labels, Value) {
    (plan.labels, serde_json::to_value(&plan.split).unwrap())
}

#[test]
fn a_flat_folder_has_no_labels_and_is_split_by_images() {
    let place = flat(50);
    let found = survey(&place, json!({})).unwrap();
    let by_images = json!({ "kind": "images", "validation": 0.1, "test": 0.1 });
    assert_eq!(shape(&found.data), (Labels::None, by_images));
    assert_eq!((found.found.labels, found.found.classes, found.found.images), (Labels::None, 0, 50));
    assert!(found.found.sentence.ends_with("50 images without labels."), "{}", found.found.sentence);
    assert!(
        found.found.warnings.iter().any(|warning| warning.starts_with("there are no labels: the split is by images"))
    );
    let data = open(&found.data).unwrap();
    assert_eq!((data.is_labelled(), data.classes(), data.class_of(7), data.id(7)), (false, 0, None, "007.png"));
    assert!(data.describe().warnings.is_empty(), "{:?}", data.describe().warnings);
    let split = Split::new(&data, &found.data.split, 1).unwrap();
    let sizes = |split: &Split| [Part::Train, Part::Validation, Part::Test].map(|part| split.items(part).len());
    assert_eq!(sizes(&split), [40, 5, 5]);
    assert!(split.train_classes.is_empty() && split.test_classes.is_empty() && split.warnings.is_empty());
    let all: BTreeSet<u32> = [&split.train, &split.validation, &split.test].into_iter().flatten().copied().collect();
    assert_eq!(all.len(), 50);
    assert_eq!(split, Split::new(&data, &found.data.split, 1).unwrap());
    assert_ne!(split.test, Split::new(&data, &found.data.split, 2).unwrap().test);
}

#[test]
fn small_parts_have_two_images_and_too_few_are_refused() {
    let split = |count| {
        let place = flat(count);
        let found = survey(&place, json!({})).unwrap();
        Split::new(&open(&found.data).unwrap(), &found.data.split, 1)
    };
    let small = split(7).unwrap();
    assert_eq!([small.train.len(), small.validation.len(), small.test.len()], [3, 2, 2]);
    says(&split(5).unwrap_err(), &["too few images to train on", "1 of 5", "Add images, or give smaller shares"]);
}

#[test]
fn one_class_is_no_label_and_two_are() {
    let place = Place::new();
    place.images(&[("all/1.png", 1), ("all/2.png", 2)]);
    assert_eq!(survey(&place, json!({})).unwrap().data.labels, Labels::None);
    place.images(&[("more/3.png", 3)]);
    let found = survey(&place, json!({})).unwrap();
    assert_eq!(shape(&found.data), (Labels::Classes, json!({ "kind": "classes", "validation": 0.1, "test": 0.2 })));
}

#[test]
fn a_tree_that_is_no_classes_can_be_said() {
    let place = Place::new();
    place.images(&[("2023/1.png", 1), ("2024/2.png", 2), ("3.png", 3), ("2024/4.png", 4)]);
    let with = survey(&place, json!({})).unwrap();
    assert_eq!((with.data.labels, with.found.images), (Labels::Classes, 3));
    let without = survey(&place, json!({ "labels": "none" })).unwrap();
    assert_eq!((without.data.labels, without.found.images, without.found.classes), (Labels::None, 4, 0));
    let (labelled, free) = (open(&with.data).unwrap(), open(&without.data).unwrap());
    assert_eq!((labelled.len(), labelled.classes(), free.len(), free.classes()), (3, 2, 4, 0));
    assert_ne!(labelled.fingerprint(), free.fingerprint());
    // A split that needs no classes leaves it open what they are.
    let images = json!({ "split": { "kind": "images", "validation": 0.2, "test": 0.2 } });
    assert_eq!(survey(&place, images).unwrap().data.labels, Labels::Classes);
}

#[test]
fn parts_of_a_source_are_its_own_without_labels_too() {
    let place = Place::new();
    place.images(&[("train/1.png", 1), ("train/2.png", 2), ("train/3.png", 3), ("test/4.png", 4), ("test/5.png", 5)]);
    // As classes they would be called train and test.
    assert_eq!(survey(&place, json!({})).unwrap().data.labels, Labels::Classes);
    let found = survey(&place, json!({ "labels": "none" })).unwrap();
    assert_eq!(shape(&found.data), (Labels::None, json!({ "kind": "source", "validation": 0.1 })));
    let data = open(&found.data).unwrap();
    let split = Split::new(&data, &SplitPlan::Source { validation: 0.0 }, 1).unwrap();
    let ids = |items: &[u32]| items.iter().map(|&item| data.id(item).to_string()).collect::<Vec<_>>();
    assert_eq!(ids(&split.test), ["test/4.png", "test/5.png"]);
    assert_eq!((split.train.len(), split.warnings.len()), (3, 0));
    let list = place.write("list.csv", b"path,part\ntrain/1.png,train\ntrain/2.png,train\ntest/4.png,test\n");
    let found = survey(&place, json!({ "source": list })).unwrap();
    assert_eq!(shape(&found.data), (Labels::None, json!({ "kind": "source", "validation": 0.1 })));
    assert_eq!(found.found.parts.iter().map(|part| (part.images, part.classes)).collect::<Vec<_>>(), [(2, 0), (1, 0)]);
}

#[test]
fn other_sources_lose_their_labels_where_that_is_said() {
    let place = Place::new();
    let found = survey(&place, json!({ "source": "glyphs:classes=6,writers=5", "labels": "none" })).unwrap();
    assert_eq!(shape(&found.data).1["kind"], "images");
    let data = open(&found.data).unwrap();
    assert_eq!((data.len(), data.classes()), (30, 0));
    assert_eq!(found.found.sentence.split(": ").last().unwrap(), "30 images without labels.");
}

#[test]
fn what_needs_classes_is_refused() {
    let place = flat(6);
    let error = |more: Value| survey(&place, more).unwrap_err();
    let classes = json!({ "kind": "classes", "validation": 0.1, "test": 0.2 });
    says(
        &error(json!({ "labels": "none", "split": classes })),
        &["data.split.kind", "a split by images", "\"classes\""],
    );
    says(&error(json!({ "labels": "none", "rotations": true })), &["data.rotations", "class of its own"]);
    says(&error(json!({ "rotations": true })), &["data.rotations", "no labels"]);
    says(&error(json!({ "labels": "some" })), &["data.labels", "classes", "none"]);
    says(
        &error(json!({ "labels": "classes" })),
        &["no image has a class", "6 images without a class", "labels \"none\""],
    );
    // A split by classes says that there are such.
    let plan = DataPlan { labels: Labels::Classes, ..survey(&place, json!({})).unwrap().data };
    says(&open(&plan).unwrap_err(), &["no image has a class", "a manifest with a column class"]);
    let data = open(&survey(&place, json!({})).unwrap().data).unwrap();
    let error = Split::new(&data, &SplitPlan::Classes { validation: 0.1, test: 0.2 }, 1).unwrap_err();
    says(&error, &["split", "no classes to split by", "--split images"]);
}
