//! Every kind of source, and every kind of trouble with one.

use std::fs;
use std::path::Path;

use rkd_core::Code;
use rkd_core::data::SplitPlan;
use rkd_core::data::{Part, Split};

use crate::data::common::{Place, content, gzip, open, png, png_of, says, tar_of, warns, zip_of};

fn four() -> [(&'static str, u8); 4] {
    [("cat/1.png", 10), ("cat/2.png", 20), ("dog/1.png", 30), ("dog/2.PNG", 40)]
}

fn four_contents() -> Vec<(String, String, u8)> {
    four().map(|(path, value)| (path.to_string(), path[..3].to_string(), value)).to_vec()
}

/// The four images as files for an archive.
fn packed(prefix: &str) -> Vec<(String, Vec<u8>)> {
    four().iter().map(|(path, value)| (format!("{prefix}{path}"), png(*value))).collect()
}

fn slices(files: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    files.iter().map(|(name, bytes)| (&name[..], &bytes[..])).collect()
}

#[test]
fn a_folder_of_class_folders() {
    let place = Place::new();
    place.images(&four());
    place.write("README.md", b"not an image");
    place.write("cat/.hidden.png", b"hidden");
    let data = place.open().unwrap();
    assert_eq!(content(&data), four_contents());
    let found = data.describe();
    assert_eq!((&found.kind[..], found.images, found.classes, found.broken.len()), ("folder", 4, 2, 0));
    assert_eq!(found.sentence, "Recognised a folder of image files: 4 images of 2 classes.");
    warns(&data, &["1 file is no image by name"]);
}

#[test]
fn a_zip_a_tar_and_a_gzipped_tar_of_a_folder_give_the_same() {
    let place = Place::new();
    let files = packed("");
    let archives = [
        ("a.zip", zip_of(&slices(&files)), "zip"),
        ("a.tar", tar_of(&slices(&files)), "tar"),
        ("a.dat", gzip(&tar_of(&slices(&files))), "tar"),
    ];
    for (name, bytes, kind) in archives {
        let data = open(&place.plan_of(&place.write(name, &bytes))).unwrap();
        assert_eq!(content(&data), four_contents(), "{name}");
        assert_eq!(data.describe().kind, kind, "{name}");
    }
}

#[test]
fn a_folder_that_holds_one_archive_is_that_archive() {
    let place = Place::new();
    place.write("photos.zip", &zip_of(&slices(&packed("photos/"))));
    place.write("README.md", b"about");
    let data = place.open().unwrap();
    assert_eq!(data.len(), 4);
    assert_eq!(data.class_name(0), "cat");
    assert!(data.describe().sentence.contains("the ZIP archive photos.zip, the only archive in the folder"));
    place.write("more.zip", &zip_of(&slices(&packed("photos/"))));
    says(&place.error(), &["2 archives and no images", "Give the path of the archive"]);
}

#[test]
fn several_sources_are_put_together() {
    let place = Place::new();
    place.images(&four());
    let archive = place.folder.path().join("more.zip");
    fs::write(&archive, zip_of(&[("dog/3.png", &png(50)), ("emu/1.png", &png(60))])).unwrap();
    let mut plan = place.plan();
    plan.more = vec![archive.display().to_string()];
    let data = open(&plan).unwrap();
    assert_eq!(data.len(), 6);
    let names: Vec<&str> = (0..data.classes() as u32).map(|label| data.class_name(label)).collect();
    assert_eq!(names, ["cat", "dog", "emu"]);
    assert_eq!(data.id(4), "1-more.zip/dog/3.png");
}

#[test]
fn own_parts_are_kept_and_classes_are_paths() {
    let place = Place::new();
    place.images(&[("train/a/x/1.png", 1), ("train/a/y/1.png", 2), ("train/b/x/1.png", 3), ("test/c/x/1.png", 4)]);
    let data = place.open().unwrap();
    assert_eq!(data.class_name(2), "b/x");
    let split = Split::new(&data, &SplitPlan::Source { validation: 0.0 }, 1).unwrap();
    assert_eq!((split.train.len(), split.validation.len(), split.test.len()), (3, 0, 1));
    assert!(split.warnings.is_empty());
    assert_eq!(data.part(split.test[0]), Some(Part::Test));
}

#[test]
fn omniglots_archives_are_known_and_turned_bright_on_dark() {
    let place = Place::new();
    let file = |name: &str, value: u8| (name.to_string(), png(value));
    let background = [
        file("images_background/Greek/character01/0_01.png", 255),
        file("images_background/Latin/character01/0_01.png", 0),
    ];
    let evaluation = [file("images_evaluation/Tengwar/character01/0_01.png", 100)];
    place.write("images_background.zip", &zip_of(&slices(&background)));
    let second = place.write("images_evaluation.zip", &zip_of(&slices(&evaluation)));
    place.write("all_runs.zip", b"PK\x03\x04 not looked at");
    let data = place.open().unwrap();
    let classes: Vec<_> = content(&data).into_iter().map(|(_, class, value)| (class, value)).collect();
    let expected = [("Greek/character01", 0), ("Latin/character01", 255), ("Tengwar/character01", 155)];
    assert_eq!(classes, expected.map(|(class, value)| (class.to_string(), value)));
    assert!(data.describe().sentence.contains("bright ink on black") && data.is_ink());
    assert_eq!(data.part(2), Some(Part::Test));
    // The same by naming both archives.
    let mut plan = place.plan_of(&place.data().join("images_background.zip"));
    plan.more = vec![second.display().to_string()];
    let both = open(&plan).unwrap();
    assert_eq!(content(&both), content(&data));
    assert_eq!(both.fingerprint(), data.fingerprint());
}

#[test]
fn idx_files_are_read_gzipped_or_not() {
    let place = Place::new();
    let images = |n: u32| {
        let mut bytes = [2051u32, n, 8, 8].map(u32::to_be_bytes).concat();
        (0..n).for_each(|i| bytes.extend([i as u8 * 10; 64]));
        bytes
    };
    let labels = |labels: &[u8]| [&2049u32.to_be_bytes()[..], &(labels.len() as u32).to_be_bytes(), labels].concat();
    place.write("train-images-idx3-ubyte", &images(3));
    place.write("train-labels-idx1-ubyte.gz", &gzip(&labels(&[7, 1, 7])));
    place.write("t10k-images-idx3-ubyte.gz", &gzip(&images(2)));
    place.write("t10k-labels-idx1-ubyte", &labels(&[1, 7]));
    let data = place.open().unwrap();
    assert_eq!(data.describe().kind, "idx");
    let found = content(&data);
    assert_eq!(found[4], ("train/000002".to_string(), "7".to_string(), 20));
    warns(&data, &["same classes"]);
    let split = Split::new(&data, &SplitPlan::Source { validation: 0.0 }, 1).unwrap();
    assert_eq!((split.train.len(), split.test.len(), split.warnings.len()), (3, 2, 1));

    place.write("train-labels-idx1-ubyte.gz", &gzip(&labels(&[7, 1])));
    says(&place.error(), &["images and labels differ in number", "3 labels", "received 2"]);
    place.write("train-images-idx3-ubyte", &images(3)[..100]);
    says(&place.error(), &["train-images-idx3-ubyte", "cut off", "at most 100 bytes", "received 192"]);
}

#[test]
fn a_few_broken_images_are_listed_and_left_out() {
    let place = Place::new();
    place.images(&four());
    place.images(&[("dog/4.png", 1), ("dog/5.png", 2)]);
    place.write("cat/text.jpg", b"I am a text");
    place.write("cat/zero.png", b"");
    place.write("emu/cut.png", &png_of(90, 90, 9)[..60]);
    let data = place.open().unwrap();
    assert_eq!(data.len(), 6);
    let broken = data.describe().broken;
    let lines: Vec<String> = broken.iter().map(|b| format!("{} {}", b.path, b.reason)).collect();
    assert_eq!(lines[0], "cat/text.jpg is no image: its content starts with \"I am a text\"");
    assert_eq!(lines[1], "cat/zero.png is empty (0 bytes)");
    assert!(lines[2].starts_with("emu/cut.png is a damaged Png image"), "{}", lines[2]);
    warns(&data, &["all images of these classes are broken", "emu"]);
}

#[test]
fn mostly_broken_data_stop() {
    let place = Place::new();
    place.images(&[("cat/1.png", 1)]);
    place.write("cat/2.png", b"");
    place.write("dog/1.png", b"text");
    let error = place.error();
    assert_eq!(error.code, Code::InvalidData);
    says(
        &error,
        &["2 of 3 images cannot be used", "cat/2.png is empty (0 bytes)", "More than half"]
            .map(|s| s.trim_start_matches("More ")),
    );
    // A failed run leaves nothing half-made behind.
    assert_eq!(fs::read_dir(place.cache()).unwrap().count(), 0);
}

#[test]
fn a_wrong_name_or_place_is_an_error_with_advice() {
    let place = Place::new();
    let missing = open(&place.plan_of(&place.data().join("nowhere"))).unwrap_err();
    assert_eq!(missing.code, Code::NotFound);
    says(&missing, &["nowhere", "one subfolder of images for each class"]);
    says(&place.error(), &["the folder holds no images", "class/image.png", "Put the images of each class"]);
    let text = place.write("notes.doc", b"some text");
    says(&open(&place.plan_of(&text)).unwrap_err(), &["notes.doc", "no archive that is known", "Give the folder"]);
    let text = place.write("notes.txt", b"some text");
    says(&open(&place.plan_of(&text)).unwrap_err(), &["notes.txt", "images that the manifest names", "some text"]);
    let empty = place.write("empty.zip", &zip_of(&[("notes.txt", b"text")]));
    says(&open(&place.plan_of(&empty)).unwrap_err(), &["empty.zip", "the archive holds no images"]);
    let mut plan = place.plan();
    plan.channels = 2;
    says(&open(&plan).unwrap_err(), &["channels", "1 (grey) or 3 (RGB)", "received 2"]);
    plan.channels = 1;
    plan.image_size = 0;
    says(&open(&plan).unwrap_err(), &["imageSize", "1 to 2048"]);
}

#[test]
fn empty_classes_small_classes_and_one_class_are_told() {
    let place = Place::new();
    place.images(&[("cat/1.png", 1), ("cat/2.png", 1), ("dog/1.png", 1)]);
    fs::create_dir(place.data().join("emu")).unwrap();
    let data = place.open().unwrap();
    warns(&data, &["the folder emu holds no image"]);
    warns(&data, &["one image only", "dog"]);

    fs::remove_dir_all(place.data().join("dog")).unwrap();
    let data = place.open().unwrap();
    warns(&data, &["all images are of one class, cat"]);
    let error = Split::new(&data, &SplitPlan::Classes { validation: 0.0, test: 0.0 }, 1).unwrap_err();
    says(&error, &["too few classes", "at least 2", "Add images of other classes"]);
}

#[test]
fn names_may_hold_spaces_and_any_letters() {
    let place = Place::new();
    place.images(&[("Ménagerie d'été/chat noir 1.png", 5), ("日本 語/猫.png", 6)]);
    let data = place.open().unwrap();
    assert_eq!(data.id(0), "Ménagerie d'été/chat noir 1.png");
    assert_eq!(data.class_name(1), "日本 語");
}

/// Whether this process may read files whose mode forbids it, as root may.
#[cfg(unix)]
fn reads_everything(path: &Path) -> bool {
    fs::read(path).is_ok() || fs::read_dir(path).is_ok()
}

#[cfg(unix)]
#[test]
fn files_and_folders_that_may_not_be_read_are_named() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    place.images(&four());
    place.images(&[("cat/3.png", 1), ("cat/4.png", 2), ("emu/1.png", 3)]);
    let forbid =
        |path: &str, mode| fs::set_permissions(place.data().join(path), fs::Permissions::from_mode(mode)).unwrap();
    forbid("cat/1.png", 0o000);
    if reads_everything(&place.data().join("cat/1.png")) {
        return; // Nothing is forbidden to this user.
    }
    let broken = place.open().unwrap().describe().broken;
    assert_eq!(
        (&broken[0].path[..], &broken[0].reason[..]),
        ("cat/1.png", "may not be read by this user; change its permissions")
    );
    forbid("dog", 0o000);
    let broken = place.open().unwrap().describe().broken;
    assert!(broken.iter().any(|b| b.path == "dog"), "{broken:?}");
    forbid("", 0o000);
    let error = place.error();
    forbid("", 0o755);
    forbid("dog", 0o755);
    assert_eq!(error.code, Code::PermissionDenied);
    says(&error, &["data", "Give this user the right"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_in_circles() {
    use std::os::unix::fs::symlink;
    let place = Place::new();
    place.images(&four());
    symlink("..", place.data().join("cat/up")).unwrap();
    symlink("nowhere.png", place.data().join("cat/gone.png")).unwrap();
    symlink("b", place.data().join("a")).unwrap();
    symlink("a", place.data().join("b")).unwrap();
    let outside = place.folder.path().join("emu");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("1.png"), png(9)).unwrap();
    symlink(&outside, place.data().join("emu")).unwrap();
    let data = place.open().unwrap();
    assert_eq!(data.len(), 5);
    warns(&data, &["cat/up was left out: the link leads back to"]);
    let broken = data.describe().broken;
    assert_eq!(broken.len(), 1);
    assert!(broken[0].path == "cat/gone.png" && broken[0].reason.contains("does not exist"), "{broken:?}");
}

#[test]
fn unsafe_paths_in_archives_are_refused() {
    for name in ["../escape/1.png", "/abs/1.png", "cat/../../1.png", "C:\\cat\\1.png", "cat\\..\\..\\1.png"] {
        let place = Place::new();
        let files = [("cat/1.png", &png(1)[..]), (name, &png(2)[..])];
        for (archive, bytes) in [("bad.zip", zip_of(&files)), ("bad.tar", tar_of(&files))] {
            let error = open(&place.plan_of(&place.write(archive, &bytes))).unwrap_err();
            assert_eq!(error.code, Code::InvalidArchive, "{name}");
            says(&error, &[archive, "unsafe path", &format!("{name:?}"), "Do not trust this archive"]);
        }
        let made: Vec<_> = fs::read_dir(place.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(made.iter().all(|name| name == "data" || name == "cache"), "{made:?}");
    }
}

#[test]
fn damaged_archives_are_refused() {
    let place = Place::new();
    let files = packed("");
    let (zip, tgz) = (zip_of(&slices(&files)), gzip(&tar_of(&slices(&files))));
    for (name, bytes) in [("cut.zip", &zip[..zip.len() / 2]), ("cut.tar.gz", &tgz[..tgz.len() / 2])] {
        let error = open(&place.plan_of(&place.write(name, bytes))).unwrap_err();
        assert_eq!(error.code, Code::InvalidArchive);
        says(&error, &[name, "damaged or cut off", "Download or pack it again"]);
    }
    let no_tar = place.write("text.gz", &gzip(b"only text, no tar in here"));
    assert_eq!(open(&place.plan_of(&no_tar)).unwrap_err().code, Code::InvalidArchive);
}

#[test]
fn an_archive_bomb_is_refused_before_it_unpacks() {
    let place = Place::new();
    let zeros = vec![0u8; 8 << 20];
    // 144 entries of 8 MiB of zeros: 1.1 GiB from 1 MiB.
    let names: Vec<String> = (0..144).map(|i| format!("cat/{i}.png")).collect();
    let one = zip_of(&[("cat/0.png", &zeros)]);
    assert!(one.len() < 16 << 10);
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let mut source = zip::ZipArchive::new(std::io::Cursor::new(one)).unwrap();
    for name in &names {
        writer.raw_copy_file_rename(source.by_index_raw(0).unwrap(), name.as_str()).unwrap();
    }
    let bytes = writer.finish().unwrap().into_inner();
    let error = open(&place.plan_of(&place.write("bomb.zip", &bytes))).unwrap_err();
    assert_eq!(error.code, Code::InvalidArchive);
    says(&error, &["bomb.zip", "more than 200 times its size", "unpack them into a folder"]);
}

#[test]
fn a_later_entry_of_a_tar_replaces_an_earlier_one() {
    let place = Place::new();
    let files = [("./cat/1.png", png(1)), ("dog/1.png", png(2)), ("cat/1.png", png(3))];
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    let data = open(&place.plan_of(&place.write("a.tar", &tar_of(&files)))).unwrap();
    assert_eq!(content(&data), [("cat/1.png".into(), "cat".into(), 3), ("dog/1.png".into(), "dog".into(), 2)]);
}
