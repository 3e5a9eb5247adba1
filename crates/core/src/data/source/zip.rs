//! The image files of a ZIP archive, read in place.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use zip::ZipArchive;
use zip::result::ZipError;

use super::archive::{BOMB_FLOOR, BOMB_RATIO, MAX_ENTRY_BYTES, Member, Members, bomb, damaged_archive, too_large};
use super::listing::Listing;
use crate::data::positioned::read_at;
use crate::error::{Error, Result};

/// Longest path that a symbolic link may hold, in bytes.
const MAX_LINK_BYTES: u64 = 4096;

/// An open archive. Clones share the file and its table of contents, so that each thread reads with its own.
#[derive(Clone)]
pub struct Zip {
    archive: ZipArchive<SharedFile>,
}

impl Zip {
    /// Opens the archive and lists its images.
    ///
    /// # Errors
    /// When the file cannot be read, is no whole ZIP, has an entry whose path leaves the archive, or is a bomb.
    pub fn open(path: &Path) -> Result<(Zip, Listing)> {
        let file = SharedFile::open(path).map_err(|e| Error::io("reading the archive", path, e))?;
        let packed = file.len;
        let archive = ZipArchive::new(file).map_err(|e| damaged_archive(path, e))?;
        let mut zip = Zip { archive };
        let (mut unpacked, mut members) = (0u64, Members::new(path));
        for index in 0..zip.archive.len() {
            let entry = zip.archive.by_index_raw(index).map_err(|e| damaged_archive(path, e))?;
            let (name, size) = (entry.name_raw().to_vec(), entry.size());
            let (is_dir, is_link) = (entry.is_dir(), entry.is_symlink());
            drop(entry);
            unpacked = unpacked.saturating_add(size);
            let member = match (is_dir, is_link) {
                (true, _) => Member::Other,
                (_, true) => Member::SymbolicLink { target: zip.start(index, MAX_LINK_BYTES).unwrap_or_default() },
                _ => Member::File { size },
            };
            members.add(&name, index, member, |most| Ok(zip.start(index, most)))?;
        }
        if unpacked > BOMB_FLOOR && unpacked / BOMB_RATIO > packed {
            return Err(bomb(path));
        }
        Ok((zip, members.finish()?))
    }

    /// The content of entry `index`.
    ///
    /// # Errors
    /// A clause that says what is wrong with the entry.
    pub fn read(&mut self, index: usize) -> std::result::Result<Vec<u8>, String> {
        let bytes = self.start(index, MAX_ENTRY_BYTES + 1)?;
        if bytes.len() as u64 > MAX_ENTRY_BYTES { Err(too_large()) } else { Ok(bytes) }
    }

    /// At most `most` bytes of the content of entry `index`.
    fn start(&mut self, index: usize, most: u64) -> std::result::Result<Vec<u8>, String> {
        let entry = self.archive.by_index(index).map_err(|e| match e {
            ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) => {
                "is encrypted; unpack it with its password".into()
            }
            e => format!("cannot be unpacked: {e}"),
        })?;
        // The declared size may lie: the limit holds for what really comes out, and no more is reserved than came in.
        let expected = entry.size().min(entry.compressed_size().saturating_mul(4)).min(most);
        let mut bytes = Vec::with_capacity(expected as usize);
        entry.take(most).read_to_end(&mut bytes).map_err(|e| format!("cannot be unpacked: {e}"))?;
        Ok(bytes)
    }
}

/// A file that is read at positions, so that clones do not disturb each other; with a small buffer of its own.
struct SharedFile {
    file: Arc<File>,
    len: u64,
    position: u64,
    buffer: Vec<u8>,
    buffer_start: u64,
}

const BUFFER_BYTES: usize = 16 << 10;

impl Clone for SharedFile {
    fn clone(&self) -> Self {
        let file = Arc::clone(&self.file);
        SharedFile { file, len: self.len, position: self.position, buffer: Vec::new(), buffer_start: 0 }
    }
}

impl SharedFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(SharedFile { file: Arc::new(file), len, position: 0, buffer: Vec::new(), buffer_start: 0 })
    }

    /// The buffered bytes from the position on.
    fn buffered(&self) -> &[u8] {
        let skip = self.position.checked_sub(self.buffer_start).and_then(|n| usize::try_from(n).ok());
        skip.and_then(|skip| self.buffer.get(skip..)).unwrap_or(&[])
    }
}

impl Read for SharedFile {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.buffered().is_empty() {
            if out.len() >= BUFFER_BYTES {
                let count = read_at(&self.file, out, self.position)?;
                self.position += count as u64;
                return Ok(count);
            }
            self.buffer.resize(BUFFER_BYTES, 0);
            let count = read_at(&self.file, &mut self.buffer, self.position)?;
            self.buffer.truncate(count);
            self.buffer_start = self.position;
        }
        let count = self.buffered().read(out)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for SharedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}
