//! What a teacher has said of the images of a data set: one file of the cache folder for each of its features, shared by
//! runs, seeds and the cells of an experiment.
//!
//! ```text
//! 0    magic "RKDSAID1"
//! 8    numbers of a row, u64 little-endian
//! 16   rows, u64 little-endian
//! 24   nanoseconds that the teacher took for them, u64 little-endian
//! 32   BLAKE3 of what follows (32 bytes)
//! 64   the item of each row, u32 little-endian
//! ...  rows, float32 little-endian
//! ```
//!
//! Its name is the hash of the teacher with its preprocessing, the feature, the decoded images
//! ([`Dataset::pixels_key`](crate::data::Dataset::pixels_key): their bytes, and what makes pixels of them) and whether they
//! are mirrored, and the precision where that is not float32: another teacher or another picture finds no file. It is written under another name and renamed; a
//! damaged one counts as none, and of two processes the later wins, which costs time and nothing else.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"RKDSAID1";
const HEAD_BYTES: usize = 64;

/// The ending of a file's name.
pub const ENDING: &str = "rkdsaid";

/// Rows of one feature by item.
pub struct Store {
    path: PathBuf,
    /// Numbers of a row.
    length: usize,
    places: HashMap<u32, u32>,
    items: Vec<u32>,
    rows: Vec<f32>,
    time: Duration,
    /// Rows that are in the file.
    saved: usize,
}

impl Store {
    /// The store in `folder` of what `key` describes, with rows of `length` numbers.
    pub fn open(folder: &Path, key: &str, length: usize) -> Store {
        let name = blake3::hash(key.as_bytes()).to_hex();
        let path = folder.join(format!("{}.{ENDING}", &name[..32]));
        let (items, rows, time) = fs::read(&path).ok().and_then(|bytes| parse(&bytes, length)).unwrap_or_default();
        let (places, saved) = (items.iter().copied().zip(0..).collect(), items.len());
        Store { path, length, places, items, rows, time, saved }
    }

    /// Those of `items` that have no row yet.
    pub fn missing(&self, items: &[u32]) -> Vec<u32> {
        items.iter().copied().filter(|item| !self.places.contains_key(item)).collect()
    }

    /// Puts the rows of those of `items` that are missing. All of them took the teacher `time`.
    pub fn put(&mut self, items: &[u32], rows: &[f32], time: Duration) {
        let before = self.items.len();
        for (&item, row) in items.iter().zip(rows.chunks(self.length.max(1))) {
            let place = self.items.len() as u32;
            self.places.entry(item).or_insert_with(|| {
                self.items.push(item);
                self.rows.extend(row);
                place
            });
        }
        if self.items.len() > before {
            self.time += time;
        }
    }

    /// The row of an item that is not missing.
    pub fn row(&self, item: u32) -> Option<&[f32]> {
        let place = *self.places.get(&item)? as usize;
        self.rows.get(place * self.length..(place + 1) * self.length)
    }

    /// Mean time of the teacher for one image.
    pub fn time_per_image(&self) -> Duration {
        self.time / self.items.len().max(1) as u32
    }

    /// Whether more is new than in the file: who saves only then writes no row more than twice on average.
    pub fn has_doubled(&self) -> bool {
        self.items.len() >= 2 * self.saved
    }

    /// Writes what is new.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save(&mut self) -> Result<()> {
        if self.saved == self.items.len() {
            return Ok(());
        }
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(folder)?;
            let mut body = Vec::with_capacity(4 * (self.items.len() + self.rows.len()));
            body.extend(self.items.iter().flat_map(|item| item.to_le_bytes()));
            body.extend(self.rows.iter().flat_map(|value| value.to_le_bytes()));
            let mut file = readable().tempfile_in(folder)?;
            file.write_all(MAGIC)?;
            for number in [self.length as u64, self.items.len() as u64, self.time.as_nanos() as u64] {
                file.write_all(&number.to_le_bytes())?;
            }
            file.write_all(blake3::hash(&body).as_bytes())?;
            file.write_all(&body)?;
            file.as_file().sync_all()?;
            file.persist(&self.path)?;
            Ok(())
        };
        write().map_err(|e| Error::io("keeping the teacher's features", &self.path, e))?;
        self.saved = self.items.len();
        Ok(())
    }
}

/// Files that others may read as far as the user's mask lets them, like those of decoded images.
fn readable() -> tempfile::Builder<'static, 'static> {
    #[cfg(unix)]
    {
        let mut builder = tempfile::Builder::new();
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder
    }
    #[cfg(not(unix))]
    tempfile::Builder::new()
}

/// Items, rows and time of a file; `None` for one that is damaged or has rows of another length.
fn parse(bytes: &[u8], length: usize) -> Option<(Vec<u32>, Vec<f32>, Duration)> {
    let (head, body) = bytes.split_at_checked(HEAD_BYTES)?;
    let number = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
    let (own_length, count) = (number(8)? as usize, usize::try_from(number(16)?).ok()?);
    let whole = count.checked_mul(4)?.checked_mul(length.checked_add(1)?)? == body.len();
    if !head.starts_with(MAGIC) || own_length != length || !whole || blake3::hash(body).as_bytes() != &head[32..64] {
        return None;
    }
    let (items, rows) = body.split_at(4 * count);
    let items = items.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
    let rows = rows.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    Some((items, rows, Duration::from_nanos(number(24)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(folder: &Path) -> Store {
        Store::open(folder, "a teacher", 2)
    }

    #[test]
    fn what_was_put_is_there_for_the_next_and_a_damaged_file_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = of(folder.path());
        assert_eq!(store.missing(&[3, 5]), [3, 5]);
        store.put(&[5], &[1.0, 2.0], Duration::from_millis(5));
        store.put(&[5, 3], &[9.0, 9.0, 3.0, 4.0], Duration::from_millis(5)); // the first row is there
        store.save().unwrap();
        let plain = folder.path().join("plain");
        fs::write(&plain, "").unwrap();
        let rights = |path: &Path| fs::metadata(path).unwrap().permissions();
        assert_eq!(rights(&store.path), rights(&plain));
        let again = of(folder.path());
        assert_eq!(again.missing(&[3, 4, 5]), [4]);
        assert_eq!((again.row(3), again.row(5), again.row(4)), (Some(&[3.0, 4.0][..]), Some(&[1.0, 2.0][..]), None));
        assert_eq!(again.time_per_image(), Duration::from_millis(5));
        assert_eq!(Store::open(folder.path(), "another", 2).missing(&[3]), [3]);
        assert_eq!(Store::open(folder.path(), "a teacher", 3).missing(&[3]), [3]);

        let whole = fs::read(&again.path).unwrap();
        for damage in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[damage] ^= 4;
            fs::write(&again.path, &bytes).unwrap();
            // The time alone is not guarded.
            assert_eq!(of(folder.path()).missing(&[3]).is_empty(), (24..32).contains(&damage), "byte {damage}");
        }
        for length in 0..whole.len() {
            assert!(parse(&whole[..length], 2).is_none());
        }
    }
}
