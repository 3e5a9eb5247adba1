//! The image files of a tar archive, gzip or not, read in one pass without unpacking.
//!
//! A tar has no table of contents: one pass lists it, a second hands out the images in their order.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};

use super::is_image_name;
use super::note::{MAX_NOTE_BYTES, Note};
use super::{BOMB_FLOOR, BOMB_RATIO, Entry, Listing, MAX_ENTRY_BYTES, bomb, check_entry_path, damaged_archive};
use crate::data::{Stop, go_on};
use crate::error::{Error, Result};

/// Lists the images of the archive at `path`; entry `index` counts all entries of the archive.
///
/// # Errors
/// When the file cannot be read, is no whole tar, has an entry whose path leaves the archive, or is a bomb.
pub fn list(path: &Path, stop: Stop<'_>) -> Result<Listing> {
    let mut listing = Listing::default();
    for_each(path, |name, index, entry| {
        go_on(stop)?;
        if is_image_name(&name) {
            listing.entries.push(Entry { path: name, index });
        } else if Note::is_at(&name) && entry.size() <= MAX_NOTE_BYTES {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(|e| damaged(path, e))?;
            listing.notes.push(Note { path: name, bytes });
        } else {
            listing.ignored += 1;
        }
        Ok(true)
    })?;
    // A tar may hold a path twice; unpacking leaves the later one.
    let mut last = std::collections::HashMap::new();
    for entry in &listing.entries {
        last.insert(entry.path.clone(), entry.index);
    }
    listing.entries.retain(|entry| last[&entry.path] == entry.index);
    Ok(listing)
}

/// Reads the entries whose indices are `wanted` (ascending, an index may come several times) and hands each to `take` with
/// its place in `wanted`; `take` says whether to go on.
///
/// # Errors
/// As [`list`].
pub fn read(path: &Path, wanted: &[usize], mut take: impl FnMut(usize, Result<Vec<u8>, String>) -> bool) -> Result<()> {
    let mut position = 0;
    for_each(path, |_, index, entry| {
        if wanted.get(position) != Some(&index) {
            return Ok(position < wanted.len());
        }
        let mut bytes = Vec::new();
        entry.take(MAX_ENTRY_BYTES + 1).read_to_end(&mut bytes).map_err(|e| damaged(path, e))?;
        let too_large = bytes.len() as u64 > MAX_ENTRY_BYTES;
        let bytes = if too_large { Err(format!("is larger than {} MiB", MAX_ENTRY_BYTES >> 20)) } else { Ok(bytes) };
        while wanted.get(position) == Some(&index) {
            position += 1;
            if !take(position - 1, bytes.clone()) {
                return Ok(false);
            }
        }
        Ok(position < wanted.len())
    })
}

/// The content of the files with these names, wherever they lie in the archive; `None` for those that are not there.
///
/// # Errors
/// As [`list`].
pub fn files<const N: usize>(path: &Path, names: [&str; N]) -> Result<[Option<Vec<u8>>; N]> {
    let mut found = [const { None }; N];
    for_each(path, |name, _, entry| {
        let last = name.rsplit('/').next().unwrap_or_default();
        if let Some(place) = names.iter().position(|wanted| *wanted == last) {
            let mut bytes = Vec::new();
            entry.take(MAX_ENTRY_BYTES).read_to_end(&mut bytes).map_err(|e| damaged(path, e))?;
            found[place] = Some(bytes);
        }
        Ok(true)
    })?;
    Ok(found)
}

type TarEntry<'a> = tar::Entry<'a, Box<dyn Read>>;

/// Calls `each` with path, index and content of every file, until it returns false.
fn for_each(path: &Path, mut each: impl FnMut(String, usize, &mut TarEntry<'_>) -> Result<bool>) -> Result<()> {
    let mut archive = Archive::new(open(path)?);
    let entries = archive.entries().map_err(|e| damaged(path, e))?;
    for (index, entry) in entries.enumerate() {
        let mut entry = entry.map_err(|e| damaged(path, e))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        check_entry_path(path, &name)?;
        let is_file = matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous);
        if is_file && !each(name.trim_start_matches("./").to_string(), index, &mut entry)? {
            return Ok(());
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<Box<dyn Read>> {
    let failed = |e| Error::io("reading the archive", path, e);
    let mut file = File::open(path).map_err(failed)?;
    let packed = file.metadata().map_err(failed)?.len();
    let mut magic = [0; 2];
    let is_gzip = file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    let file = BufReader::with_capacity(1 << 18, File::open(path).map_err(failed)?);
    if !is_gzip {
        return Ok(Box::new(file));
    }
    let left = packed.saturating_mul(BOMB_RATIO).max(BOMB_FLOOR);
    Ok(Box::new(BufReader::with_capacity(1 << 18, Bounded { inner: MultiGzDecoder::new(file), left })))
}

const BOMB: &str = "unpacks to too much";

/// Fails once more than `left` bytes came through.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| io::Error::other(BOMB))?;
        Ok(count)
    }
}

fn damaged(path: &Path, error: io::Error) -> Error {
    // The tar crate wraps errors of its reader in its own, so the text is what remains of ours.
    if error.to_string().contains(BOMB)
        || std::error::Error::source(&error).is_some_and(|e| e.to_string().contains(BOMB))
    {
        return bomb(path);
    }
    damaged_archive(path, error)
}
