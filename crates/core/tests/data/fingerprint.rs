//! Fingerprints, and what a record of data says of another state of them.

use std::fs;
use std::path::PathBuf;

use rkd_core::data::{DataOutline, DataPlan, DataRecord, Dataset, KnownData, Part, Split, SplitPlan};

use crate::data::common::{Place, open, plan, png, zip_of};

const IMAGES: [(&str, u8); 9] = [
    ("a/0.png", 1),
    ("a/1.png", 2),
    ("a/2.png", 3),
    ("b/0.png", 4),
    ("b/1.png", 5),
    ("b/2.png", 6),
    ("c/0.png", 7),
    ("c/1.png", 8),
    ("c/2.png", 9),
];

fn place() -> Place {
    let place = Place::new();
    place.images(&IMAGES);
    place
}

fn fingerprint(plan: &DataPlan) -> String {
    open(plan).unwrap().fingerprint().to_string()
}

#[test]
fn it_is_the_same_wherever_and_however_the_images_lie() {
    let place = place();
    let first = fingerprint(&place.plan());
    assert_eq!(first, fingerprint(&place.plan()), "from the cache");
    let larger = DataPlan { image_size: 12, channels: 3, rotations: true, ..place.plan() };
    assert_eq!(first, fingerprint(&larger));
    // The pixels are others each time.
    let larger = DataPlan { image_size: 12, ..place.plan() };
    let coloured = DataPlan { channels: 3, ..place.plan() };
    let turned = DataPlan { rotations: true, ..place.plan() };
    let keys = [place.plan(), larger, coloured, turned].map(|plan| open(&plan).unwrap().pixels_key());
    assert_eq!(std::collections::BTreeSet::from(keys).len(), 4);
    let moved = place.folder.path().join("elsewhere");
    fs::rename(place.data(), &moved).unwrap();
    assert_eq!(first, fingerprint(&place.plan_of(&moved)));
    let file = fs::File::options().write(true).open(moved.join("a/0.png")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(first, fingerprint(&place.plan_of(&moved)));
    let bytes: Vec<(&str, Vec<u8>)> = IMAGES.iter().map(|(path, value)| (*path, png(*value))).collect();
    let files: Vec<(&str, &[u8])> = bytes.iter().map(|(path, bytes)| (*path, &bytes[..])).collect();
    let zip = place.folder.path().join("images.zip");
    fs::write(&zip, zip_of(&files)).unwrap();
    assert_eq!(first, fingerprint(&place.plan_of(&zip)));
}

#[test]
fn several_places_have_one_whatever_they_are_called() {
    let place = Place::new();
    place.images(&[("one/a/0.png", 1), ("one/b/0.png", 2), ("two/a/0.png", 3), ("two/b/0.png", 4)]);
    let both = |names: [&str; 2]| {
        let [first, second] = names.map(|name| place.data().join(name).display().to_string());
        fingerprint(&DataPlan { more: vec![second], ..plan(&first, &place.cache()) })
    };
    let before = both(["one", "two"]);
    fs::rename(place.data().join("two"), place.data().join("2-other")).unwrap();
    assert_eq!(before, both(["one", "2-other"]));
    assert_ne!(before, both(["2-other", "one"]), "the order of the places is that of the images");
}

/// What is done to a data folder.
type Change = fn(&Place);

#[test]
fn it_sees_every_change_of_names_classes_pictures_and_parts() {
    let rename = |place: &Place, from: &str, to: &str| {
        fs::create_dir_all(place.data().join(to).parent().unwrap()).unwrap();
        fs::rename(place.data().join(from), place.data().join(to)).unwrap();
    };
    let before = fingerprint(&place().plan());
    let changes: [(&str, Change); 6] = [
        ("an image more", |place| place.images(&[("a/3.png", 99)])),
        ("an image less", |place| fs::remove_file(place.data().join("a/2.png")).unwrap()),
        ("a class more", |place| place.images(&[("d/0.png", 99)])),
        ("another picture of the same size", |place| {
            let [before, after] = [1, 3].map(png);
            assert_eq!(before.len(), after.len());
            let file = place.data().join("a/0.png");
            let time = fs::metadata(&file).unwrap().modified().unwrap();
            place.images(&[("a/0.png", 3)]);
            fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
        }),
        ("two pictures exchanged", |place| place.images(&[("a/0.png", 4), ("b/0.png", 1)])),
        ("an image that cannot be read any more", |place| drop(place.write("a/0.png", b"nothing"))),
    ];
    for (what, change) in changes {
        let place = place();
        fingerprint(&place.plan()); // There is a cache of before.
        change(&place);
        assert_ne!(before, fingerprint(&place.plan()), "{what}");
    }
    for (from, to) in [("b", "bb"), ("a/2.png", "a/3.png"), ("a/2.png", "b/3.png"), ("a", "train/a")] {
        let place = place();
        rename(&place, from, to);
        assert_ne!(before, fingerprint(&place.plan()), "{from} to {to}");
    }
}

#[test]
fn drawn_and_stored_pixels_have_one_too() {
    let place = Place::new();
    let of = |source: &str| fingerprint(&plan(source, &place.cache()));
    let before = of("glyphs:classes=6,writers=3,seed=2");
    for other in
        ["glyphs:classes=7,writers=3,seed=2", "glyphs:classes=6,writers=4,seed=2", "glyphs:classes=6,writers=3"]
    {
        assert_ne!(before, of(other), "{other}");
    }
    let idx = |magic: u32, sizes: &[u32], bytes: &[u8]| -> Vec<u8> {
        let head = [magic].into_iter().chain(sizes.iter().copied()).flat_map(u32::to_be_bytes);
        head.chain(bytes.iter().copied()).collect()
    };
    let write = |pixels: [u8; 8], labels: [u8; 2]| {
        place.write("train-images-idx3-ubyte", &idx(2051, &[2, 2, 2], &pixels));
        place.write("train-labels-idx1-ubyte", &idx(2049, &[2], &labels));
        fingerprint(&place.plan())
    };
    let before = write([0, 1, 2, 3, 4, 5, 6, 7], [0, 1]);
    assert_ne!(before, write([0, 1, 2, 3, 4, 5, 6, 8], [0, 1]));
    assert_ne!(before, write([0, 1, 2, 3, 4, 5, 6, 7], [1, 0]));
    assert_eq!(before, write([0, 1, 2, 3, 4, 5, 6, 7], [0, 1]));
}

const BY_CLASSES: SplitPlan = SplitPlan::Classes { validation: 0.0, test: 0.4 };
const BY_IMAGES: SplitPlan = SplitPlan::Images { validation: 0.0, test: 0.4 };

/// Five classes of three images.
fn five() -> Place {
    let place = place();
    place.images(&[("d/0.png", 10), ("d/1.png", 11), ("d/2.png", 12)]);
    place.images(&[("e/0.png", 13), ("e/1.png", 14), ("e/2.png", 15)]);
    place
}

fn known(dataset: &Dataset, plan: &SplitPlan, with_record: bool) -> (KnownData, Split) {
    let split = Split::new(dataset, plan, 7).unwrap();
    let record = DataRecord::new(dataset, &split, (plan, 7), false);
    // As it comes back from its file.
    let record: DataRecord = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
    assert!(record.is_whole());
    (KnownData { outline: record.outline.bounded(), record: with_record.then_some(record) }, split)
}

#[test]
fn a_difference_is_told_by_number_and_name() {
    let place = five();
    let before = place.open().unwrap();
    place.images(&[("f/0.png", 20), ("a/9.png", 21), ("c/1.png", 22)]);
    fs::remove_dir_all(place.data().join("b")).unwrap();
    let after = place.open().unwrap();
    let (with, _) = known(&before, &BY_CLASSES, true);
    assert_eq!(
        with.difference(&after).to_string(),
        "1 class added (f), 1 class removed (b), 2 images added (a/9.png, f/0.png), 3 images removed (b/0.png, b/1.png, \
         b/2.png), 1 image changed (c/1.png)"
    );
    let (without, _) = known(&before, &BY_CLASSES, false);
    let difference = without.difference(&after);
    assert!(difference.shared);
    assert_eq!(difference.to_string(), "1 class added (f), 1 class removed (b), 2 classes changed (a, c)");
    place.images(&[("g/0.png", 23), ("h/0.png", 24), ("i/0.png", 25)]);
    let words = without.difference(&place.open().unwrap()).to_string();
    assert!(words.contains("4 classes added (f, g, h and 1 more)"), "{words}");
}

#[test]
fn other_data_with_the_same_names_share_nothing() {
    let place = five();
    let (before, _) = known(&place.open().unwrap(), &BY_CLASSES, true);
    let other = Place::new();
    IMAGES.iter().for_each(|(path, value)| other.images(&[(path, value + 100)]));
    assert!(!before.difference(&other.open().unwrap()).shared);
    other.images(&[IMAGES[0]]);
    assert!(before.difference(&other.open().unwrap()).shared);
}

#[test]
fn classes_stay_in_their_part_and_new_ones_get_into_none() {
    let place = five();
    let before = place.open().unwrap();
    let (known, split) = known(&before, &BY_CLASSES, false);
    assert_eq!((split.train_classes.len(), split.test_classes.len()), (3, 2));
    place.images(&[("A/0.png", 20), ("f/0.png", 21), ("a/9.png", 22), ("b/9.png", 23)]);
    let after = place.open().unwrap();
    let parts = known.parts(&after).unwrap();
    let part_in = |class: &str| {
        let label = (0..5).find(|&label| before.class_name(label) == class)?;
        [Part::Train, Part::Test].into_iter().find(|part| split.classes(*part).contains(&label))
    };
    for item in 0..after.len() as u32 {
        let class = after.class_name(after.label(item));
        assert_eq!(parts[item as usize], part_in(class), "{class}");
    }
    assert_eq!(parts.iter().filter(|part| part.is_none()).count(), 2);
}

#[test]
fn images_stay_in_their_part_and_new_ones_get_into_none() {
    let place = five();
    let before = place.open().unwrap();
    let (outline_alone, _) = known(&before, &BY_IMAGES, false);
    let (known, split) = known(&before, &BY_IMAGES, true);
    assert!(!split.test.is_empty());
    place.images(&[("a/00.png", 20), ("f/0.png", 21)]);
    fs::remove_file(place.data().join("b/1.png")).unwrap();
    let after = place.open().unwrap();
    assert!(outline_alone.parts(&after).is_none(), "which image was where is not in the outline");
    let parts = known.parts(&after).unwrap();
    for item in 0..after.len() as u32 {
        let earlier = (0..before.len() as u32).find(|&earlier| before.id(earlier) == after.id(item));
        let part = earlier.map(|item| if split.test.contains(&item) { Part::Test } else { Part::Train });
        assert_eq!(parts[item as usize], part, "{}", after.id(item));
    }
    // The same data again, turned: a turned copy is where its image is.
    let turned = open(&DataPlan { rotations: true, ..place.plan() }).unwrap();
    let parts_of_turned = known.parts(&turned).unwrap();
    assert!((0..turned.len()).all(|item| parts_of_turned[item] == parts[item / 4]));
}

#[test]
fn an_outline_says_how_the_split_was_made_but_not_where_its_lists_lie() {
    let place = five();
    let list = place.folder.path().join("train.txt");
    fs::write(&list, "a\nb\n").unwrap();
    let plan = |train: PathBuf| SplitPlan::Lists { train, validation: None, test: None };
    let (known, _) = known(&place.open().unwrap(), &plan(list.clone()), false);
    let text = serde_json::to_string(&known.outline).unwrap();
    assert!(!text.contains("train.txt"), "{text}");
    assert_eq!(serde_json::from_str::<DataOutline>(&text).unwrap(), known.outline);
    assert!(known.outline.is_of(&plan("elsewhere.txt".into()), 7));
    assert!(!known.outline.is_of(&plan(list), 8) && !known.outline.is_of(&BY_CLASSES, 7));
    assert_eq!(known.outline.classes(Part::Train).collect::<Vec<_>>(), ["a", "b"]);
}
