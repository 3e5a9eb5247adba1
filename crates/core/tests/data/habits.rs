//! Images and folders as people have them: their names, their systems' left-overs, their formats.

use std::fs;

use rkd_core::data::{Dataset, Part, Split, SplitPlan};

use crate::data::common::{Place, content, open, png, says, tar_of, warns, zip_of};

fn classes(data: &Dataset) -> Vec<String> {
    (0..data.classes() as u32).map(|label| data.class_name(label).to_string()).collect()
}

/// Shift-JIS for dog, cat and "table", whose second byte is a backslash; and Windows' and DOS's accents.
const RAW: [&[u8]; 4] = [b"\x8c\xa2", b"\x94\x4c", b"\x95\x5c", b"t\x84glich"];
const TEXTS: [&str; 4] = ["\\x8C\\xA2", "\\x94L", "\\x95\\\\", "t\\x84glich"];

fn raw_files() -> Vec<(Vec<u8>, Vec<u8>)> {
    let files = RAW.iter().flat_map(|folder| (0..2).map(move |i| (folder, i)));
    files.map(|(folder, i)| ([folder, &b"/"[..], format!("{i}.png").as_bytes()].concat(), png(i * 9))).collect()
}

fn are_four_classes(data: &Dataset) {
    assert_eq!((data.len(), classes(data)), (8, TEXTS.map(String::from).to_vec()));
    assert_eq!(data.id(0), "\\x8C\\xA2/0.png");
    warns(data, &["8 images have paths that are not UTF-8", "the first is "]);
}

#[cfg(target_os = "linux")] // Other systems' folders take no such names.
#[test]
fn a_folder_keeps_names_of_other_encodings_apart() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    for (name, bytes) in raw_files() {
        let path = place.data().join(std::ffi::OsStr::from_bytes(&name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    are_four_classes(&place.open().unwrap());
    // A list of classes in that encoding names them.
    let list = place.folder.path().join("train.txt");
    fs::write(&list, RAW[..3].join(&b'\n')).unwrap();
    let plan = SplitPlan::Lists { train: list, validation: None, test: None };
    let split = Split::new(&place.open().unwrap(), &plan, 1).unwrap();
    assert_eq!((split.train_classes.len(), split.warnings), (3, vec![]));
}

#[test]
fn archives_keep_names_of_other_encodings_apart() {
    let place = Place::new();
    let files = raw_files();
    let slices: Vec<(&[u8], &[u8])> = files.iter().map(|(name, bytes)| (&name[..], &bytes[..])).collect();
    are_four_classes(&open(&place.plan_of(&place.write("a.tar", &tar_of(&slices)))).unwrap());
    // A writer of ZIPs takes text only: names of the same length stand in, and are replaced.
    let stand_in = |name: &[u8]| "#".repeat(name.len() - 6) + std::str::from_utf8(&name[name.len() - 6..]).unwrap();
    let names: Vec<String> =
        files.iter().enumerate().map(|(i, (name, _))| format!("{i}{}", &stand_in(name)[1..])).collect();
    let mut zip =
        zip_of(&names.iter().zip(&files).map(|(name, (_, bytes))| (&name[..], &bytes[..])).collect::<Vec<_>>());
    for (stand_in, (name, _)) in names.iter().zip(&files) {
        while let Some(at) = zip.windows(name.len()).position(|bytes| bytes == stand_in.as_bytes()) {
            zip[at..at + name.len()].copy_from_slice(name);
        }
    }
    are_four_classes(&open(&place.plan_of(&place.write("a.zip", &zip))).unwrap());
}

const COMPOSED: &str = "\u{e9}t\u{e9}";
const DECOMPOSED: &str = "e\u{301}te\u{301}";

#[test]
fn accents_in_two_forms_are_one_class() {
    let place = Place::new();
    let files = [("train", COMPOSED), ("train", "b"), ("train", "c"), ("test", DECOMPOSED)];
    let files: Vec<(String, Vec<u8>)> =
        files.iter().zip(0..).map(|((part, class), i)| (format!("{part}/{class}/{i}.png"), png(i))).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (&name[..], &bytes[..])).collect();
    let data = open(&place.plan_of(&place.write("a.zip", &zip_of(&files)))).unwrap();
    assert_eq!(classes(&data), ["b", "c", COMPOSED]);
    warns(&data, &["two Unicode forms of their accents and count as one each: \u{e9}t\u{e9}"]);
    let parts: Vec<_> = (0..4).filter(|&i| data.class_name(data.label(i)) == COMPOSED).map(|i| data.part(i)).collect();
    assert_eq!(parts, [Some(Part::Test), Some(Part::Train)]);
}

#[test]
fn capitals_across_parts_are_told_and_side_by_side_are_two_classes() {
    let place = Place::new();
    let files =
        ["train/Cat/1.png", "train/Dog/1.png", "train/A/1.png", "train/a/1.png", "test/cat/1.png", "test/A/1.png"];
    let one = png(1);
    let files: Vec<(&str, &[u8])> = files.iter().map(|name| (*name, &one[..])).collect();
    let data = open(&place.plan_of(&place.write("a.zip", &zip_of(&files)))).unwrap();
    assert_eq!(classes(&data), ["A", "Cat", "Dog", "a", "cat"]);
    let warnings = data.describe().warnings;
    let told: Vec<&String> = warnings.iter().filter(|warning| warning.contains("capital letters")).collect();
    assert_eq!(told.len(), 1, "{warnings:?}");
    assert!(told[0].contains("Cat and cat") && !told[0].contains("A and a"), "{told:?}");
}

#[test]
fn class_lists_may_have_a_byte_order_mark_and_the_other_form() {
    let place = Place::new();
    place.images(&[("cat/1.png", 1), ("dog/1.png", 2), (&format!("{DECOMPOSED}/1.png"), 3), ("emu/1.png", 4)]);
    let data = place.open().unwrap();
    let text = format!("cat\r\n{COMPOSED}\r\ndog\r\n");
    let utf16: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    for bytes in [text.clone().into_bytes(), format!("\u{feff}{text}").into_bytes(), utf16] {
        let list = place.folder.path().join("train.txt");
        fs::write(&list, bytes).unwrap();
        let split = Split::new(&data, &SplitPlan::Lists { train: list, validation: None, test: None }, 1).unwrap();
        assert_eq!((split.train.len(), split.warnings), (3, vec![]));
    }
}

#[test]
fn published_lists_may_have_a_byte_order_mark() {
    let place = Place::new();
    place.images(&[("images/1.jpg", 1), ("images/2.jpg", 2)]);
    place.write("train.csv", "\u{feff}filename,label\r\n1.jpg,cat\r\n2.jpg,dog\r\n".as_bytes());
    let data = place.open().unwrap();
    assert_eq!(
        (data.describe().name.as_deref(), classes(&data)),
        (Some("miniImageNet"), vec!["cat".into(), "dog".into()])
    );
}

#[test]
fn zips_with_backslashes_have_folders() {
    let slashes = [("train/cat/1.png", 1), ("train/dog/1.png", 2), ("test/emu/1.png", 3)];
    for prefix in ["", "photos\\"] {
        let place = Place::new();
        let files: Vec<(String, Vec<u8>)> = slashes
            .iter()
            .map(|(name, value)| (format!("{prefix}{}", name.replace('/', "\\")), png(*value)))
            .chain([(format!("{prefix}train\\"), vec![])])
            .collect();
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (&name[..], &bytes[..])).collect();
        let data = open(&place.plan_of(&place.write("a.zip", &zip_of(&files)))).unwrap();
        assert_eq!(classes(&data), ["cat", "dog", "emu"]);
        assert_eq!(data.part(0), Some(Part::Test));
        warns(&data, &["divided by backslashes", "read as folders"]);
    }
}

#[test]
fn what_systems_and_appliances_add_is_no_class() {
    let place = Place::new();
    place.images(&[("cat/1.png", 1), ("cat/2.png", 2), ("dog/1.png", 3)]);
    let added = [
        "cat/@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg",
        "$RECYCLE.BIN/S-1/$R1.png",
        "#recycle/1.png",
        "lost+found/1.png",
        "System Volume Information/1.png",
        "__MACOSX/cat/._1.png",
        ".thumbnails/1.png",
        "dog/.@__thumb/1.png",
        "cat/Thumbs.db",
        "cat/desktop.ini",
        "cat/.DS_Store",
    ];
    added.iter().for_each(|path| drop(place.write(path, &png(9))));
    let data = place.open().unwrap();
    assert_eq!((data.len(), classes(&data)), (3, vec!["cat".into(), "dog".into()]));
    assert!(
        data.describe().warnings.iter().all(|warning| !warning.contains("by name")),
        "{:?}",
        data.describe().warnings
    );
    let one = png(1);
    let files: Vec<(&str, &[u8])> = added.iter().chain(&["cat/1.png"]).map(|name| (*name, &one[..])).collect();
    for (name, bytes) in [("a.zip", zip_of(&files)), ("a.tar", tar_of(&files))] {
        assert_eq!(open(&place.plan_of(&place.write(name, &bytes))).unwrap().len(), 1, "{name}");
    }
}

#[test]
fn all_endings_of_jpegs_are_read_and_others_counted_by_ending() {
    let place = Place::new();
    for (i, ending) in
        ["jpg", "JPEG", "jfif", "jpe", "pjpeg", "pjp", "dib", "heic", "HEIC", "avif", "cr2", "txt"].iter().enumerate()
    {
        place.images(&[(&format!("cat/{i:02}.{ending}"), i as u8)]);
    }
    place.write("cat/noending", b"no image");
    let data = place.open().unwrap();
    assert_eq!(content(&data).iter().map(|(.., value)| *value).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
    warns(
        &data,
        &["4 pictures are in formats that are not read, and left out: 2 .heic, 1 .avif, 1 .cr2; convert them"],
    );
    warns(&data, &["2 files are no image by name and left out: 1 without ending, 1 .txt"]);
    warns(&data, &["1 left-out file has an image's content", "cat/11.txt"]);
}

#[test]
fn a_source_of_other_formats_alone_says_what_is_there_and_what_to_do() {
    let place = Place::new();
    (0..3).for_each(|i| drop(place.write(&format!("cat/{i}.heic"), b"\0\0\0\x18ftypheic")));
    says(
        &place.error(),
        &["the folder holds no images", "received 3 files (3 .heic)", "convert them to PNG, JPEG or WebP"],
    );
    let archive = place.write("../a.zip", &zip_of(&[("cat/1.avif", b"\0\0\0\x18ftypavif")]));
    says(&open(&place.plan_of(&archive)).unwrap_err(), &["the archive holds no images", "1 .avif", "convert them"]);
    let none = Place::new();
    none.images(&[("cat/1", 1), ("dog/2", 2)]);
    says(
        &none.error(),
        &["received 2 files (2 without ending)", "2 left-out files have an image's content", "the first is cat/1"],
    );
}

#[test]
fn links_inside_archives_lead_to_their_images() {
    let place = Place::new();
    let link = |builder: &mut tar::Builder<Vec<u8>>, kind, path: &str, target: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        builder.append_link(&mut header, path, target).unwrap();
    };
    let mut builder = tar::Builder::new(Vec::new());
    let image = png(7);
    let mut header = tar::Header::new_gnu();
    header.set_size(image.len() as u64);
    builder.append_data(&mut header, "team/1.png", &image[..]).unwrap();
    link(&mut builder, tar::EntryType::Link, "cat/hard.png", "team/1.png");
    link(&mut builder, tar::EntryType::Symlink, "dog/soft.png", "../team/1.png");
    link(&mut builder, tar::EntryType::Symlink, "dog/gone.png", "/etc/passwd.png");
    let data = open(&place.plan_of(&place.write("a.tar", &builder.into_inner().unwrap()))).unwrap();
    let expected = [("cat/hard.png", "cat"), ("dog/soft.png", "dog"), ("team/1.png", "team")];
    assert_eq!(content(&data), expected.map(|(id, class)| (id.to_string(), class.to_string(), 7)));
    warns(&data, &["1 of the archive's links and sparse files is left out"]);
}
