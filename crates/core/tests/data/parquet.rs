//! Images in the rows of Parquet files.

use std::fs;
use std::path::PathBuf;

use rkd_core::Code;
use rkd_core::data::{Dataset, Labels, Part, survey};

use crate::data::common::{Place, content, open, says, warns};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/parquet").join(name)
}

fn opened(name: &str) -> Dataset {
    open(&Place::new().plan_of(&fixture(name))).unwrap()
}

fn rows(data: &Dataset) -> Vec<(String, String, u8, Option<Part>)> {
    let all = content(data).into_iter().enumerate();
    all.map(|(item, (id, class, value))| (id, class, value, data.part(item as u32))).collect()
}

#[test]
fn a_data_set_of_hugging_face_has_its_classes_and_parts() {
    let of = |id: &str, class: &str, value, part| (id.to_string(), class.to_string(), value, Some(part));
    let expected = [
        of("a.png", "cat", 1, Part::Train),
        of("b.png", "dog", 2, Part::Train),
        of("c.png", "cat", 3, Part::Train),
        of("d.png", "dog", 4, Part::Train),
        of("f.png", "cat", 6, Part::Test),
        of("g.png", "dog", 7, Part::Test),
        of("h.png", "dog", 8, Part::Test),
    ];
    let place = Place::new();
    let pattern = fixture("hub/data/*.parquet");
    for source in [fixture("hub"), fixture("hub/data"), pattern] {
        let data = open(&place.plan_of(&source)).unwrap();
        assert_eq!(rows(&data), expected, "{}", source.display());
        let described = data.describe();
        assert_eq!((&described.kind[..], described.own_split), ("parquet", true));
        assert_eq!(
            described.sentence,
            "Recognised 2 Parquet files: 7 images of 2 classes, with a train / test split of its own."
        );
        warns(&data, &["1 image has no class"]);
    }
    let one = opened("hub/data/train-00000-of-00001.parquet");
    assert_eq!(
        one.describe().sentence,
        "Recognised the Parquet file train-00000-of-00001.parquet: 4 images of 2 classes."
    );
    let mut plan = place.plan_of(&fixture("hub"));
    plan.labels = Labels::None;
    assert_eq!(open(&plan).unwrap().len(), 8);
}

#[test]
fn rows_are_read_as_a_manifest_that_says_the_same() {
    let place = Place::new();
    let classes = [("a", "cat"), ("b", "dog"), ("c", "cat"), ("d", "dog")];
    let list = classes.map(|(name, class)| format!("{name}.png,{class}\n")).concat();
    let file = opened("hub/data/train-00000-of-00001.parquet");
    for (item, (name, _)) in classes.iter().enumerate() {
        place.images(&[(&format!("{name}.png"), file.pixels(item as u32)[0])]);
    }
    let path = place.write("list.csv", format!("path,class\n{list}").as_bytes());
    let named = open(&place.plan_of(&path)).unwrap();
    assert_eq!(content(&named), content(&file));
}

#[test]
fn bytes_alone_ids_and_parts_may_stand_in_columns() {
    let data = opened("plain.parquet");
    let expected =
        [("17".into(), "cat".into(), 1, Some(Part::Train)), ("18".into(), "dog".into(), 2, Some(Part::Test))];
    assert_eq!(rows(&data), expected);
    assert_eq!(data.given_ids(), Some(&["17".to_string(), "18".into()][..]));
    assert_eq!(data.paths(), Some(&["plain/0".to_string(), "plain/1".into()][..]));
    warns(&data, &["1 image has no class"]);
}

#[test]
fn classes_may_be_whole_numbers_written_as_floats_and_other_columns_of_that_name_are_told() {
    let classes = rows(&opened("floats.parquet")).into_iter().map(|(_, class, ..)| class).collect::<Vec<_>>();
    assert_eq!(classes, ["cat", "dog"]);
    let mut plan = Place::new().plan_of(&fixture("lists.parquet"));
    plan.labels = Labels::None;
    let found = survey(&plan, &|| false).unwrap();
    assert!(
        found.warnings[0].contains("the column label.list.element of lists.parquet gives no classes"),
        "{:?}",
        found.warnings
    );
}

#[test]
fn rows_that_nothing_tells_apart_are_numbered() {
    let mut plan = Place::new().plan_of(&fixture("bare.parquet"));
    plan.labels = Labels::None;
    let found = survey(&plan, &|| false).unwrap();
    assert_eq!(found.images, 3);
    assert!(found.warnings[0].contains("they are called by file and row"), "{:?}", found.warnings);
    let data = open(&plan).unwrap();
    assert_eq!(data.ids(), ["bare/0", "bare/1"]);
    let broken = &data.describe().broken;
    assert_eq!((broken.len(), &broken[0].path[..]), (1, "bare/2"));
    assert!(broken[0].reason.contains("has no bytes"), "{broken:?}");
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_columns() {
    let place = Place::new();
    for (name, parts) in [
        ("two.parquet", &["several columns", "left, right", "Call the one that is meant image"][..]),
        ("none.parquet", &["no column of the Parquet file holds images", "received id, caption", "none.parquet"]),
        (
            "parts.parquet",
            &["parts.parquet", "row 1", "expected in the column of parts", "validation or test, received foo"],
        ),
    ] {
        let error = open(&place.plan_of(&fixture(name))).unwrap_err();
        assert_eq!(error.code, Code::InvalidData);
        says(&error, parts);
    }
}

#[test]
fn images_beside_parquet_files_are_what_is_meant() {
    let place = Place::new();
    fs::copy(fixture("bare.parquet"), place.data().join("bare.parquet")).unwrap();
    place.images(&[("a/1.png", 1), ("b/2.png", 2)]);
    let data = place.open().unwrap();
    assert_eq!((&data.describe().kind[..], data.len()), ("folder", 2));
    warns(&data, &["1 .parquet"]);
}

#[test]
fn a_damaged_file_is_an_error_and_nothing_worse() {
    let whole = fs::read(fixture("hub/data/train-00000-of-00001.parquet")).unwrap();
    let place = Place::new();
    let mut refused = 0;
    // Most of the file is images; what says where they are stands at its end.
    for at in (0..whole.len()).step_by(13) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        let path = place.write("damaged.parquet", &bytes);
        let mut plan = place.plan_of(&path);
        plan.cache = place.folder.path().join(format!("cache-{at}"));
        refused += usize::from(open(&plan).is_err());
        let _ = fs::remove_dir_all(&plan.cache);
    }
    assert!(refused > 20, "{refused}");
    for length in [0, 4, 100, whole.len() / 2, whole.len() - 1] {
        let path = place.write("cut.parquet", &whole[..length]);
        let error = open(&place.plan_of(&path)).unwrap_err();
        says(&error, &["cut.parquet"]);
    }
}

#[test]
fn a_file_that_changes_is_decoded_anew() {
    let place = Place::new();
    let path = place.write("images.parquet", &fs::read(fixture("bare.parquet")).unwrap());
    let mut plan = place.plan_of(&path);
    plan.labels = Labels::None;
    let (first, again) = (open(&plan).unwrap(), open(&plan).unwrap());
    assert!(!first.describe().reused && again.describe().reused);
    fs::write(&path, fs::read(fixture("hub/data/test-00000-of-00001.parquet")).unwrap()).unwrap();
    let other = open(&plan).unwrap();
    assert!(!other.describe().reused);
    assert_ne!(first.fingerprint(), other.fingerprint());
}
