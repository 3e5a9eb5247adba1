//! Sources that name their images: manifests, patterns, Hugging Face's image folders.

use rkd_core::data::{Dataset, Part};

use crate::data::common::{Place, content, open, says, warns, zip_of};

/// Opens the manifest `name` with `text` in the data folder.
fn manifest(place: &Place, name: &str, text: &str) -> rkd_core::Result<Dataset> {
    let path = place.write(name, text.as_bytes());
    open(&place.plan_of(&path))
}

fn parts(data: &Dataset) -> Vec<Option<Part>> {
    (0..data.len() as u32).map(|item| data.part(item)).collect()
}

fn expected(rows: &[(&str, &str, u8)]) -> Vec<(String, String, u8)> {
    rows.iter().map(|&(id, class, value)| (id.to_string(), class.to_string(), value)).collect()
}

#[test]
fn every_form_of_a_manifest_gives_the_same_images() {
    let place = Place::new();
    place.images(&[("x/1.png", 1), ("x/2.png", 2), ("3, b.png", 3), ("unnamed.png", 9)]);
    let images = expected(&[("3, b.png", "cat", 3), ("x/1.png", "cat", 1), ("x/2.png", "dog", 2)]);
    for (name, text) in [
        ("list.txt", "x/1.png\tcat\n./x/2.png\tdog\n3, b.png\tcat\n"),
        ("list.lst", "x/1.png,cat\nx/2.png dog\n3, b.png,cat\n"),
        ("list.csv", "path,class\nx/1.png,cat\nx/2.png,dog\n\"3, b.png\",cat\n"),
        ("list.tsv", "file\tlabel\nx/1.png\tcat\nx/2.png\tdog\n3, b.png\tcat\n"),
        (
            "list.jsonl",
            "{\"file_name\":\"x/1.png\",\"label\":\"cat\"}\n{\"image\":\"x/2.png\",\"class\":\"dog\"}\n{\"path\":\"3, b.png\",\"label\":\"cat\"}\n",
        ),
        (
            "list.json",
            "[{\"file\":\"x/1.png\",\"label\":\"cat\"},{\"file\":\"x/2.png\",\"label\":\"dog\"},{\"file\":\"3, b.png\",\"label\":\"cat\"}]",
        ),
    ] {
        let data = manifest(&place, name, text).unwrap();
        assert_eq!(content(&data), images, "{name}");
        let described = data.describe();
        assert_eq!(described.kind, "manifest");
        assert_eq!(described.sentence, format!("Recognised the manifest {name}: 3 images of 2 classes."));
    }
}

#[test]
fn a_manifest_has_ids_parts_and_paths_of_anywhere() {
    let (place, other) = (Place::new(), Place::new());
    place.images(&[("1.png", 1)]);
    other.images(&[("2.png", 2)]);
    let far = other.data().join("2.png").display().to_string();
    let near = place.data().join("1.png").display().to_string();
    let text = format!("id,path,label,split\nb,{near},cat,train\na,{far},dog,validation\n");
    let data = manifest(&place, "list.csv", &text).unwrap();
    assert_eq!(content(&data), expected(&[("a", "dog", 2), ("b", "cat", 1)]));
    assert_eq!(parts(&data), [Some(Part::Validation), Some(Part::Train)]);
    // Without ids the path inside the manifest's folder is one.
    let data = manifest(&place, "list.csv", &format!("path,label\n{near},cat\n{far},dog\n")).unwrap();
    assert_eq!(content(&data), expected(&[(&far, "dog", 2), ("1.png", "cat", 1)]));
}

#[test]
fn ids_stand_beside_paths_in_every_form_of_a_manifest() {
    let place = Place::new();
    place.images(&[("x/1.png", 1), ("x/2.png", 2), ("3.png", 3)]);
    let lists = |names: [&str; 3]| Some(names.map(str::to_string).to_vec());
    for (name, text) in [
        ("list.txt", "id\tpath\tclass\nsku-7\t./x/1.png\tcat\nsku-5\tx/2.png\tdog\n\t3.png\tcat\n"),
        ("list.csv", "path,class,id\nx/1.png,cat,sku-7\nx/2.png,dog,sku-5\n3.png,cat,\n"),
        ("list.tsv", "id\tfile\tlabel\nsku-7\tx/1.png\tcat\nsku-5\tx/2.png\tdog\n\t3.png\tcat\n"),
        (
            "list.jsonl",
            "{\"file_name\":\"x/1.png\",\"label\":0,\"id\":\"sku-7\"}\n{\"path\":\"x/2.png\",\"label\":1,\"id\":\"sku-5\"}\n{\"path\":\"3.png\",\"label\":0}\n",
        ),
        (
            "list.json",
            "[{\"file\":\"x/1.png\",\"label\":0,\"id\":\"sku-7\"},{\"file\":\"x/2.png\",\"label\":1,\"id\":\"sku-5\"},{\"file\":\"3.png\",\"label\":0}]",
        ),
    ] {
        let data = manifest(&place, name, text).unwrap();
        assert_eq!(data.ids(), ["3.png", "sku-5", "sku-7"], "{name}");
        assert_eq!(data.paths().map(<[_]>::to_vec), lists(["3.png", "x/2.png", "x/1.png"]), "{name}");
        assert_eq!(data.given_ids(), Some(data.ids()), "{name}");
    }
    let without = manifest(&place, "list.csv", "path,class\nx/1.png,cat\nx/2.png,dog\n").unwrap();
    assert_eq!((without.paths(), without.given_ids()), (None, None));
    let twice = manifest(&place, "list.csv", "path,id\nx/1.png,7\nx/2.png,7\n3.png,8\n").unwrap_err();
    says(&twice, &["the manifest names images more than once", "1 again: 7", "give each an id of its own"]);
}

#[test]
fn an_image_that_goes_by_the_same_id_from_another_path_is_decoded_again() {
    let place = Place::new();
    place.images(&[("1.png", 1), ("2.png", 2)]);
    std::fs::hard_link(place.data().join("1.png"), place.data().join("3.png")).unwrap();
    let text = |path: &str| format!("path,class,id\n{path},cat,a\n2.png,dog,b\n");
    let paths = |path: &str| manifest(&place, "list.csv", &text(path)).unwrap().paths().map(<[_]>::to_vec);
    assert_eq!(paths("1.png").unwrap(), ["1.png", "2.png"]);
    assert_eq!(paths("3.png").unwrap(), ["3.png", "2.png"]);
}

#[test]
fn several_manifests_keep_their_ids_beside_the_names_that_tell_them_apart() {
    let place = Place::new();
    place.images(&[("1.png", 1), ("2.png", 2)]);
    let first = place.write("a.csv", b"path,class,id\n1.png,cat,7\n");
    let mut plan = place.plan_of(&first);
    plan.more = vec![place.write("b.csv", b"path,class\n2.png,dog\n").display().to_string()];
    let data = open(&plan).unwrap();
    assert_eq!(data.ids(), ["0-data/7", "1-data/2.png"]);
    assert_eq!(data.paths().unwrap(), ["0-data/1.png", "1-data/2.png"]);
    assert_eq!(data.given_ids().unwrap(), ["7", "1-data/2.png"]);
}

#[test]
fn another_class_in_a_manifest_is_another_data_set() {
    let place = Place::new();
    place.images(&[("1.png", 1), ("2.png", 2)]);
    let first = manifest(&place, "list.csv", "path,class\n1.png,cat\n2.png,dog\n").unwrap();
    let second = manifest(&place, "list.csv", "path,class\n1.png,cat\n2.png,emu\n").unwrap();
    assert_eq!((first.class_name(1), second.class_name(1)), ("dog", "emu"));
}

#[test]
fn missing_files_are_counted_and_named() {
    let place = Place::new();
    place.images(&[("1.png", 1), ("2.png", 2), ("3.png", 3)]);
    let data = manifest(&place, "list.txt", "1.png\ta\n2.png\tb\n3.png\ta\ngone.png\ta\n").unwrap();
    assert_eq!(data.len(), 3);
    assert_eq!(data.describe().broken.iter().map(|image| &image.path[..]).collect::<Vec<_>>(), ["gone.png"]);
    assert!(data.notices().iter().any(|notice| notice.contains("1 image could not be used: gone.png (does not exist")));
    let error = manifest(&place, "list.txt", "1.png\ta\nx/1.png\ta\nx/2.png\tb\nx/3.png\tb\nx/4.png\tb\n").unwrap_err();
    says(&error, &["list.txt", "4 of the 5 images that the manifest names cannot be read"]);
    says(&error, &["begin at", "x/1.png, x/2.png, x/3.png (does not exist", "put the manifest beside the images"]);
}

#[test]
fn what_is_wrong_with_a_manifest_is_said() {
    let place = Place::new();
    place.images(&[("1.png", 1), ("2.png", 2)]);
    let error = |name: &str, text: &str| manifest(&place, name, text).unwrap_err();
    says(
        &error("twice.txt", "1.png\n2.png\n./1.png\n1.png\n"),
        &["twice.txt", "more than once", "2 again: 1.png, 1.png"],
    );
    says(&error("ids.csv", "path,id\n1.png,x\n2.png,x\n"), &["more than once", "1 again: x", "an id of its own"]);
    says(&error("empty.csv", ""), &["names no image", "empty.csv"]);
    says(&error("columns.csv", "name,label\na,b\n"), &["columns.csv", "a column of paths", "the columns name, label"]);
    says(&error("part.csv", "path,split\n1.png,unlabeled\n"), &["line 2", "train, validation or test", "unlabeled"]);
    let folder = manifest(&place, "folder.txt", "1.png\ta\n2.png\tb\n.\ta\n").unwrap();
    assert_eq!(folder.describe().broken[0].reason, "is no file");
    let partly = manifest(&place, "partly.csv", "path,label\n1.png,a\n2.png,\n").unwrap();
    warns(&partly, &["1 image has no class in the manifest", "2.png"]);
}

#[test]
fn a_pattern_names_files_and_folders() {
    let place = Place::new();
    place.images(&[
        ("a/1.png", 1),
        ("a/deep/2.png", 2),
        ("b/3.png", 3),
        ("b/4.gif", 4),
        ("c/5.png", 5),
        (".d/6.png", 6),
    ]);
    let ids = |pattern: &str| {
        let data = open(&place.plan_of(&place.data().join(pattern))).unwrap();
        assert_eq!(data.describe().kind, "glob");
        (0..data.len() as u32).map(|item| data.id(item).to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids("**/*.png"), ["a/1.png", "a/deep/2.png", "b/3.png", "c/5.png"]);
    assert_eq!(ids("*/?.{png,gif}"), ["a/1.png", "b/3.png", "b/4.gif", "c/5.png"]);
    assert_eq!(ids("[ab]"), ["a/1.png", "a/deep/2.png", "b/3.png", "b/4.gif"]);
    let classes = open(&place.plan_of(&place.data().join("[bc]/*"))).unwrap();
    assert_eq!(content(&classes)[1].1, "b");
    let error = |pattern: &str| open(&place.plan_of(&place.data().join(pattern))).unwrap_err();
    says(&error("**/*.jpg"), &["names no image", "**/*.jpg", "none of the 5 images there, such as a/1.png"]);
    says(&error("{a,b"), &["the pattern of paths cannot be read", "Close every bracket and brace"]);
    says(&error("gone/*.png"), &["gone", "No such file"]);
    // A folder of such a name is that folder.
    place.images(&[("odd[1]/x/1.png", 1), ("odd[1]/y/2.png", 2)]);
    let odd = open(&place.plan_of(&place.data().join("odd[1]"))).unwrap();
    assert_eq!((odd.len(), &odd.describe().kind[..]), (2, "folder"));
}

#[test]
fn hugging_face_folders_have_their_labels_in_metadata() {
    let place = Place::new();
    place.images(&[("1.png", 1), ("x/2.png", 2), ("3.png", 3), ("4.png", 4)]);
    place.write(
        "metadata.jsonl",
        b"{\"file_name\":\"1.png\",\"label\":0}\n{\"file_name\":\"x/2.png\",\"label\":1}\n{\"file_name\":\"3.png\",\"label\":0}\n{\"file_name\":\"gone.png\",\"label\":1}\n",
    );
    let data = place.open().unwrap();
    assert_eq!(content(&data), expected(&[("1.png", "0", 1), ("3.png", "0", 3), ("x/2.png", "1", 2)]));
    warns(&data, &["1 of the 4 images that the metadata list are missing", "gone.png"]);
    warns(&data, &["1 images have no label in the metadata", "4.png"]);

    let place = Place::new();
    place.images(&[("train/1.png", 1), ("train/2.png", 2), ("test/1.png", 3), ("test/2.png", 4)]);
    for part in ["train", "test"] {
        place.write(&format!("{part}/metadata.csv"), b"file_name,label\n1.png,cat\n2.png,dog\n");
    }
    let data = place.open().unwrap();
    assert_eq!((data.classes(), data.has_own_split()), (2, true));
    assert_eq!(parts(&data), [Some(Part::Test), Some(Part::Test), Some(Part::Train), Some(Part::Train)]);

    // In an archive too.
    let png = crate::data::common::png(7);
    let zip =
        zip_of(&[("d/1.png", &png), ("d/2.png", &png), ("d/metadata.csv", b"file_name,label\n1.png,a\n2.png,b\n")]);
    let data = open(&place.plan_of(&place.write("../d.zip", &zip))).unwrap();
    assert_eq!(data.classes(), 2);

    // Ids stand beside the paths, with labels and without, and need not differ until somebody joins by them.
    let place = Place::new();
    place.images(&[("a/1.png", 1), ("a/2.png", 2), ("b/3.png", 3)]);
    for text in [
        "{\"file_name\":\"a/1.png\",\"id\":17}\n{\"file_name\":\"b/3.png\",\"id\":17}\n",
        "{\"file_name\":\"a/1.png\",\"id\":17,\"label\":0}\n{\"file_name\":\"a/2.png\",\"label\":1}\n{\"file_name\":\"b/3.png\",\"id\":17,\"label\":1}\n",
    ] {
        place.write("metadata.jsonl", text.as_bytes());
        let data = place.open().unwrap();
        assert_eq!(data.ids(), ["a/1.png", "a/2.png", "b/3.png"]);
        assert_eq!(data.paths(), None);
        assert_eq!(data.given_ids().unwrap(), ["17", "a/2.png", "17"], "{text}");
    }
    std::fs::remove_file(place.data().join("metadata.jsonl")).unwrap();
    assert_eq!(place.open().unwrap().given_ids(), None);

    // Captions are no labels: the folders are.
    let place = Place::new();
    place.images(&[("a/1.png", 1), ("b/2.png", 2)]);
    place.write("metadata.csv", b"file_name,text\na/1.png,a cat\nb/2.png,a dog\n");
    assert_eq!(content(&place.open().unwrap())[1].1, "b");
    place.write("metadata.csv", b"name,label\na/1.png,a cat\n");
    warns(&place.open().unwrap(), &["metadata.csv is not used", "a column of paths"]);
}

#[test]
fn a_file_that_is_neither_is_refused() {
    let place = Place::new();
    let path = place.write("notes.doc", b"hello");
    says(&open(&place.plan_of(&path)).unwrap_err(), &["no archive that is known, and no manifest", ".jsonl"]);
}
