//! Input that asks for too much: each reader has a bound, and says so.

use std::fs;
use std::path::Path;

use rkd_core::Code;
use rkd_core::data::survey;

use crate::data::common::{Place, gzip, open, png, says, tar_of, warns, zip_of};

fn idx(count: u32) -> Vec<u8> {
    let mut bytes = [2051u32, count, 8, 8].map(u32::to_be_bytes).concat();
    bytes.extend([7; 3 * 64]);
    bytes
}

fn with_labels() -> Place {
    let place = Place::new();
    place.write("train-labels-idx1-ubyte", &[&2049u32.to_be_bytes()[..], &3u32.to_be_bytes(), &[0, 1, 0]].concat());
    place
}

#[test]
fn an_idx_file_holds_what_its_header_says() {
    let name = "train-images-idx3-ubyte";
    let place = with_labels();
    place.write(name, &idx(3));
    assert_eq!(place.open().unwrap().len(), 3);
    place.write(name, &idx(100_000_000));
    says(&place.error(), &[name, "its header promises too much", "received 6400000000"]);
    place.write(name, &idx(2));
    says(&place.error(), &[name, "longer than its header says", "128 bytes"]);
}

#[test]
fn a_gzipped_idx_file_is_bounded_and_its_checksum_is_compared() {
    let name = "train-images-idx3-ubyte.gz";
    let place = with_labels();
    let whole = gzip(&idx(3));
    place.write(name, &whole);
    assert_eq!(place.open().unwrap().len(), 3);
    for header in [100_000_000, u32::MAX] {
        place.write(name, &gzip(&idx(header)));
        says(&place.error(), &[name, "its header promises too much", "at most 67108864 bytes"]);
    }
    place.write(name, &gzip(&idx(2)));
    says(&place.error(), &[name, "longer than its header says"]);
    for (what, at) in [("checksum", whole.len() - 8), ("length", whole.len() - 1)] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        place.write(name, &damaged);
        says(&open(&place.plan()).expect_err(what), &[name, "is damaged"]);
    }
    place.write(name, &whole[..whole.len() - 8]);
    says(&place.error(), &[name, "is damaged"]);
}

#[test]
fn a_tar_with_a_huge_name_is_refused_before_it_is_read() {
    for kind in [tar::EntryType::GNULongName, tar::EntryType::XHeader] {
        let place = Place::new();
        let mut out = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(8 << 20);
        header.set_entry_type(kind);
        header.set_cksum();
        out.append(&header, &vec![b'a'; 8 << 20][..]).unwrap();
        let bytes = [out.into_inner().unwrap(), tar_of(&[("cat/1.png", &png(1)[..])])].concat();
        for (name, bytes) in [("a.tar", bytes.clone()), ("a.tar.gz", gzip(&bytes))] {
            let error = open(&place.plan_of(&place.write(name, &bytes))).unwrap_err();
            assert_eq!(error.code, Code::InvalidArchive);
            says(&error, &[name, "an entry's name and header take more than 1 MiB"]);
        }
    }
}

#[test]
fn a_list_of_too_many_lines_or_bytes_is_told_and_not_read() {
    let lines = "a,\n".repeat(1_000_001);
    let bytes = "x".repeat((16 << 20) + 1);
    for list in [&lines, &bytes] {
        let place = Place::new();
        place.images(&[("cat/1.png", 1), ("dog/1.png", 2)]);
        place.write("train.csv", format!("filename,label\n{list}").as_bytes());
        let data = place.open().unwrap();
        assert_eq!((data.len(), data.describe().name), (2, None));
        warns(&data, &["train.csv was not read", "16 MiB", "1000000 lines"]);
        let archive = place.write("../a.zip", &zip_of(&[("cat/1.png", &png(1)), ("train.csv", list.as_bytes())]));
        warns(&open(&place.plan_of(&archive)).unwrap(), &["train.csv was not read"]);
    }
}

#[test]
fn all_lists_of_a_source_are_bounded_together() {
    let place = Place::new();
    place.images(&[("cat/1.png", 1)]);
    (0..5).for_each(|i| drop(place.write(&format!("{i}/images.txt"), "x".repeat(15 << 20).as_bytes())));
    warns(&place.open().unwrap(), &["4/images.txt was not read", "all together 64 MiB"]);
}

#[test]
fn many_images_beside_a_list_of_other_names_are_no_work() {
    // Compared one by one, these would be 3,600,000,000 comparisons of paths.
    let paths: Vec<String> = (0..60_000).map(|i| format!("photos/class{:03}/{i:06}.jpg", i % 300)).collect();
    let list: String = (0..60_000).map(|i| format!("{i} other{:03}/{i:06}.jpg\n", i % 300)).collect();
    let mut files: Vec<(&str, &[u8])> = paths.iter().map(|path| (&path[..], &b"x"[..])).collect();
    files.push(("photos/images.txt", list.as_bytes()));
    let place = Place::new();
    let found = survey(&place.plan_of(&place.write("a.zip", &zip_of(&files))), &|| false).unwrap();
    assert_eq!((found.name, found.images, found.classes), (None, 60_000, 300));
}

#[test]
fn a_large_file_with_an_images_name_is_not_read() {
    let place = Place::new();
    place.images(&[("cat/1.png", 1), ("cat/2.png", 2)]);
    let path = place.write("cat/huge.png", &png(1));
    fs::File::options().write(true).open(path).unwrap().set_len(1 << 40).unwrap(); // Without a byte on disk.
    let broken = place.open().unwrap().describe().broken;
    assert_eq!((&broken[0].path[..], &broken[0].reason[..]), ("cat/huge.png", "is larger than 256 MiB"));
}

#[cfg(unix)]
fn fifo(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[cfg(unix)]
#[test]
fn fifos_are_never_waited_for() {
    let place = Place::new();
    place.images(&[("cat/1.png", 1), ("dog/1.png", 2)]);
    for name in ["cat/pipe.png", "train.csv", "pipe", "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "train.bin"]
    {
        fifo(&place.data().join(name));
    }
    let data = place.open().unwrap();
    assert_eq!(data.len(), 2);
    warns(&data, &["6 are no files (FIFOs, devices, sockets) and left out"]);
    says(
        &open(&place.plan_of(&place.data().join("pipe"))).unwrap_err(),
        &["pipe", "the data can only be a folder or a file"],
    );
    says(&open(&place.plan_of(Path::new("/dev/zero"))).unwrap_err(), &["/dev/zero", "a FIFO, a device or a socket"]);
    // A folder without images is searched for archives.
    let empty = Place::new();
    fifo(&empty.data().join("a.zip"));
    says(&empty.error(), &["the folder holds no images"]);
}

#[cfg(unix)]
#[test]
fn links_that_double_their_ways_end() {
    let place = Place::new();
    place.images(&[("cat/1.png", 1), ("dog/1.png", 2)]);
    for level in 0..28 {
        let folder = place.data().join(format!("level{level:02}"));
        fs::create_dir(&folder).unwrap();
        place.images(&[(&format!("level{level:02}/1.png"), 3)]);
        for way in ["a", "b"] {
            std::os::unix::fs::symlink(format!("../level{:02}", level + 1), folder.join(way)).unwrap();
        }
    }
    fs::create_dir(place.data().join("level28")).unwrap();
    let data = place.open().unwrap();
    assert!((30..=2 + 28 * 16).contains(&data.len()), "{} images", data.len());
    warns(&data, &["folders were met by too many links"]);
}

#[test]
fn two_thousand_nested_folders_end() {
    let place = Place::new();
    place.images(&[("cat/1.png", 1), ("dog/1.png", 2)]);
    // Made from the inside by moving, as no path may be that long.
    let mut inner = place.folder.path().join("n");
    fs::create_dir(&inner).unwrap();
    for level in 0..2000 {
        let outer = place.folder.path().join(if level % 2 == 0 { "m" } else { "n" });
        fs::create_dir(&outer).unwrap();
        fs::rename(&inner, outer.join("d")).unwrap();
        inner = outer;
    }
    fs::rename(&inner, place.data().join("deep")).unwrap();
    let data = place.open().unwrap();
    assert_eq!(data.len(), 2);
    warns(&data, &["lie more than 100 levels deep"]);
    // The temporary folder's own removal walks by paths too.
    let folder = place.data().join("deep");
    for _ in 0..40 {
        let next = place.folder.path().join("rest");
        let part: std::path::PathBuf = std::iter::repeat_n("d", 50).collect();
        let _ = fs::rename(folder.join(part), &next);
        let _ = fs::remove_dir_all(&folder);
        let _ = fs::rename(&next, &folder);
    }
}

#[test]
fn many_empty_folders_and_endings_are_told_in_few_lines() {
    let place = Place::new();
    place.images(&[("cat/1.png", 1), ("dog/1.png", 2)]);
    (0..100).for_each(|i| fs::create_dir(place.data().join(format!("empty{i:03}"))).unwrap());
    (0..100).for_each(|i| drop(place.write(&format!("cat/notes.{i:03}"), b"text")));
    let data = place.open().unwrap();
    warns(&data, &["80 more folders hold no image"]);
    warns(&data, &["100 files are no image by name", "94 of other endings"]);
    assert!(data.describe().warnings.len() < 30);
}
