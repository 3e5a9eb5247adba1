//! The decoded cache: used again, rebuilt when it must be, never trusted blindly.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rkd_core::Code;
use rkd_core::data::{DataPlan, Dataset, survey};

use crate::data::common::{Place, content, open, plan, png};

fn small() -> Place {
    let place = Place::new();
    place.images(&[("cat/1.png", 10), ("cat/2.png", 20), ("dog/1.png", 30), ("dog/2.png", 40)]);
    place
}

fn cache_file(place: &Place) -> PathBuf {
    let files: Vec<_> = fs::read_dir(place.cache()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.into_iter().next().unwrap()
}

#[test]
fn the_second_time_nothing_is_decoded() {
    let place = small();
    let first = place.open().unwrap();
    assert!(!first.describe().reused);
    let calls = AtomicUsize::new(0);
    let second = Dataset::open(&place.plan(), &|| false, &mut |_| _ = calls.fetch_add(1, Ordering::Relaxed)).unwrap();
    assert!(second.describe().reused);
    assert_eq!(calls.into_inner(), 0);
    assert_eq!(content(&first), content(&second));
    assert_eq!(first.fingerprint(), second.fingerprint());
}

#[test]
fn progress_ends_with_all_images_done() {
    let place = small();
    place.write("dog/3.png", b"");
    let mut last = None;
    Dataset::open(&place.plan(), &|| false, &mut |progress| last = Some(progress)).unwrap();
    let last = last.unwrap();
    assert_eq!((last.done, last.total, last.broken), (5, 5, 1));
    assert!(last.images_per_second > 0.0);
}

#[test]
fn a_changed_source_or_size_is_decoded_again() {
    let place = small();
    place.open().unwrap();
    place.write("cat/1.png", &png(11));
    let changed = place.open().unwrap();
    assert!(!changed.describe().reused);
    assert_eq!(changed.pixels(0)[0], 11);
    place.images(&[("emu/1.png", 1)]);
    assert_eq!(place.open().unwrap().len(), 5);
    let mut larger = place.plan();
    larger.image_size = 16;
    assert_eq!(open(&larger).unwrap().pixels(0).len(), 256);
    let mut colour = place.plan();
    colour.channels = 3;
    assert_eq!(open(&colour).unwrap().pixels(0).len(), 192);
}

#[test]
fn any_damage_is_noticed_and_repaired() {
    let place = small();
    let expected = content(&place.open().unwrap());
    let file = cache_file(&place);
    let whole = fs::read(&file).unwrap();
    let mut flips: Vec<Vec<u8>> = [0, 9, 17, 30, 70, 64 + 4 * 64 + 5, whole.len() - 1]
        .iter()
        .map(|&at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        })
        .collect();
    flips.extend([Vec::new(), whole[..40].to_vec(), whole[..whole.len() - 1].to_vec(), [&whole[..], b"x"].concat()]);
    for (i, damaged) in flips.iter().enumerate() {
        fs::remove_file(&file).unwrap(); // Another file, as an open map would hold on to this one.
        fs::write(&file, damaged).unwrap();
        let data = place.open().unwrap();
        assert!(!data.describe().reused, "damage {i} was not noticed");
        assert_eq!(content(&data), expected);
        assert_eq!(fs::read(&file).unwrap(), whole, "the cache of the same data is the same file");
    }
}

#[test]
fn two_at_once_get_the_same() {
    let place = Place::new();
    let plan = plan("glyphs:classes=30,writers=5", &place.cache());
    let results: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| open(&plan).unwrap().fingerprint().to_string())).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    assert!(results.iter().all(|result| *result == results[0]));
    cache_file(&place);
}

#[test]
fn nothing_is_written_outside_the_cache() {
    let place = small();
    let before = names(&place.data());
    place.open().unwrap();
    assert_eq!(names(&place.data()), before);
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let inner: Vec<PathBuf> = out.iter().filter(|path| path.is_dir()).flat_map(|path| names(path)).collect();
    out.extend(inner);
    out.sort();
    out
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error_with_its_path() {
    let place = small();
    fs::write(place.cache(), b"a file where the folder should be").unwrap();
    let error = place.error();
    crate::data::common::says(&error, &["cache", "writing the decoded cache failed"]);
}

#[test]
fn a_stop_is_heard_everywhere_and_leaves_nothing_half_done() {
    let place = small();
    // Each question on the way, from the first one to that at the end.
    for questions in 0.. {
        let asked = std::cell::Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) >= questions;
        let Err(error) = Dataset::open(&place.plan(), &stop, &mut |_| {}) else {
            assert!(questions > 6, "six names, and the end");
            break;
        };
        assert_eq!(error.code, Code::Cancelled, "{error}");
        let left = fs::read_dir(place.cache()).map_or(0, |entries| entries.count());
        assert_eq!(left, 0);
    }
    assert_eq!(survey(&place.plan(), &|| true).unwrap_err().code, Code::Cancelled);
}

#[cfg(target_os = "linux")]
#[test]
fn where_it_cannot_be_written_there_is_a_temporary_one_and_a_word_about_it() {
    let place = small();
    let elsewhere = |cache: &Path| DataPlan { cache: cache.into(), ..place.plan() };
    let whole = content(&place.open().unwrap());
    for _ in 0..2 {
        let dataset = open(&elsewhere(Path::new("/sys/rkd"))).unwrap(); // nobody may write there, not even root
        assert!(!dataset.describe().reused);
        assert_eq!(content(&dataset), whole);
        let notice = dataset.cache_notice().unwrap();
        for word in ["data.cache", "RKD_CACHE", "/sys/rkd"] {
            assert!(notice.contains(word), "{notice}");
        }
        assert!(!Path::new(&dataset.describe().cache).exists());
    }
    let error = open(&elsewhere(&place.write("cat/no-folder.txt", b""))).unwrap_err();
    assert!(error.to_string().contains("data.cache or the environment variable RKD_CACHE"), "{error}");
}

#[cfg(unix)] // Elsewhere an open file cannot be cut.
#[test]
fn a_file_cut_while_it_is_read_is_an_error() {
    let place = small();
    let data = place.open().unwrap();
    let file = cache_file(&place);
    fs::File::options().write(true).open(&file).unwrap().set_len(100).unwrap();
    data.intact().unwrap();
    assert_eq!(data.pixels(3), [0; 64]);
    let error = data.intact().unwrap_err();
    assert_eq!(error.code, Code::Io);
    crate::data::common::says(&error, &["rkdcache", "the decoded cache was cut", "Run again"]);
    assert_eq!(place.open().unwrap().pixels(3)[0], 40, "it is made anew");
}
