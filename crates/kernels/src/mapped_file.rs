//! A read-only file seen as a byte slice.
//!
//! It lives here because mapping a file is `unsafe` and the core forbids that.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

/// A whole file, mapped read-only. Pages come from disk when they are first touched and are shared between processes.
#[derive(Debug)]
pub struct MappedFile {
    /// `None` for an empty file, which has nothing to map.
    map: Option<Mmap>,
}

impl MappedFile {
    /// Maps the file at `path`. The file must be one that is replaced by renaming and never changed in place, as the
    /// files of the decoded cache are.
    ///
    /// # Errors
    /// When the file cannot be opened or mapped.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(MappedFile { map: None });
        }
        // SAFETY: the map is read-only and private to this value. Nobody writes to a cache file after it was renamed
        // into place (a rebuild renames a new file over it, which leaves this map on the old one), so the bytes behind
        // the slice do not change and the file does not shrink while the slice lives.
        let map = unsafe { Mmap::map(&file)? };
        Ok(MappedFile { map: Some(map) })
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }
}
