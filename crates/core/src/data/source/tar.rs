//! The image files of a tar archive, gzip or not, read in one pass without unpacking.
//!
//! A tar has no table of contents: one pass lists it, a second hands out the images in their order.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};

use super::archive::{BOMB_FLOOR, BOMB_RATIO, MAX_ENTRY_BYTES, Member, Members, bomb, damaged_archive, too_large};
use super::listing::Listing;
use crate::data::stop::{Stop, go_on};
use crate::error::{Error, Result};

/// Most bytes that the names and headers of one entry may take: far more than any path that a system allows.
const MAX_HEADER_BYTES: u64 = 1 << 20;

/// Lists the images of the archive at `path`; entry `index` counts all entries of the archive.
///
/// # Errors
/// When the file cannot be read, is no whole tar, has an entry whose path leaves the archive, or is a bomb; when stopped.
pub fn list(path: &Path, stop: Stop<'_>) -> Result<Listing> {
    let mut members = Members::new(path);
    for_each(path, |index, entry| {
        go_on(stop)?;
        let name = entry.path_bytes().into_owned();
        let member = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => Member::File { size: entry.size() },
            EntryType::Link => Member::Link { target: entry.link_name_bytes().unwrap_or_default().into_owned() },
            EntryType::Symlink => {
                Member::SymbolicLink { target: entry.link_name_bytes().unwrap_or_default().into_owned() }
            }
            EntryType::GNUSparse => Member::Link { target: Vec::new() },
            _ => Member::Other,
        };
        members.add(&name, index, member, |most| {
            let mut bytes = Vec::new();
            entry.take(most).read_to_end(&mut bytes).map_err(|e| damaged(path, e))?;
            Ok(Ok(bytes))
        })?;
        Ok(true)
    })?;
    members.finish()
}

/// Reads the entries whose indices are `wanted` (ascending, an index may come several times) and hands each to `take` with
/// its place in `wanted`; `take` says whether to go on.
///
/// # Errors
/// As [`list`].
pub fn read(path: &Path, wanted: &[usize], mut take: impl FnMut(usize, Result<Vec<u8>, String>) -> bool) -> Result<()> {
    let mut position = 0;
    for_each(path, |index, entry| {
        if wanted.get(position) != Some(&index) {
            return Ok(position < wanted.len());
        }
        let mut bytes = Vec::new();
        entry.take(MAX_ENTRY_BYTES + 1).read_to_end(&mut bytes).map_err(|e| damaged(path, e))?;
        let bytes = if bytes.len() as u64 > MAX_ENTRY_BYTES { Err(too_large()) } else { Ok(bytes) };
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
/// As [`list`], and when one of them is larger than an archive's entry may be.
pub fn files<const N: usize>(path: &Path, names: [&str; N]) -> Result<[Option<Vec<u8>>; N]> {
    let mut found = [const { None }; N];
    for_each(path, |_, entry| {
        let name = entry.path_bytes();
        let last = name.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let place = names.iter().position(|wanted| wanted.as_bytes() == last);
        if let Some(place) = place.filter(|_| entry.header().entry_type().is_file()) {
            let mut bytes = Vec::new();
            entry.take(MAX_ENTRY_BYTES + 1).read_to_end(&mut bytes).map_err(|e| damaged(path, e))?;
            if bytes.len() as u64 > MAX_ENTRY_BYTES {
                return Err(damaged_archive(path, io::Error::other(format!("{} {}", names[place], too_large()))));
            }
            found[place] = Some(bytes);
        }
        Ok(true)
    })?;
    Ok(found)
}

type TarEntry<'a> = tar::Entry<'a, Bounded>;

/// Calls `each` with index and entry, until it returns false.
fn for_each(path: &Path, mut each: impl FnMut(usize, &mut TarEntry<'_>) -> Result<bool>) -> Result<()> {
    let reader = open(path)?;
    let header = Rc::clone(&reader.header);
    let mut archive = Archive::new(reader);
    let mut entries = archive.entries().map_err(|e| damaged(path, e))?;
    for index in 0.. {
        // What is read between two entries are names and headers.
        header.set(MAX_HEADER_BYTES);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(|e| damaged(path, e))?;
        header.set(u64::MAX);
        if !each(index, &mut entry)? {
            break;
        }
        if entry.header().entry_type() != EntryType::GNUSparse {
            io::copy(&mut entry, &mut io::sink()).map_err(|e| damaged(path, e))?;
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<Bounded> {
    let failed = |e| Error::io("reading the archive", path, e);
    let mut file = File::open(path).map_err(failed)?;
    let packed = file.metadata().map_err(failed)?.len();
    let mut magic = [0; 2];
    let is_gzip = file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    let file = BufReader::with_capacity(1 << 18, File::open(path).map_err(failed)?);
    let header = Rc::new(Cell::new(u64::MAX));
    if !is_gzip {
        return Ok(Bounded { inner: Box::new(file), left: u64::MAX, header });
    }
    let left = packed.saturating_mul(BOMB_RATIO).max(BOMB_FLOOR);
    let inner = Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(file)));
    Ok(Bounded { inner, left, header })
}

const BOMB: &str = "unpacks to too much";
const HEADER: &str = "an entry's name and header take more than 1 MiB";

/// Fails once more than `left` bytes came through in all, or more than `header` since that was set.
struct Bounded {
    inner: Box<dyn Read>,
    left: u64,
    header: Rc<Cell<u64>>,
}

impl Read for Bounded {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)? as u64;
        self.left = self.left.checked_sub(count).ok_or_else(|| io::Error::other(BOMB))?;
        self.header.set(self.header.get().checked_sub(count).ok_or_else(|| io::Error::other(HEADER))?);
        Ok(count as usize)
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
