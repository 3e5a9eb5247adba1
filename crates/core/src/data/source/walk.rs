//! The image files of a folder tree.
//!
//! Symbolic links are followed, as data sets are often put together from them; a link to a folder that it lies in is
//! left out with a warning. Names may hold spaces and any letters. Hidden files are left out.

use std::fs;
use std::path::{Path, PathBuf};

use super::note::{MAX_NOTE_BYTES, Note};
use super::{Entry, Listing, hash_metadata, is_hidden, is_image_name};
use crate::data::dataset::BrokenImage;
use crate::error::{Error, Result};

/// A folder whose tree was walked.
pub struct Walk {
    /// The folder.
    pub root: PathBuf,
    /// Its image files in the order of their names, each with size and times.
    pub files: Vec<(PathBuf, fs::Metadata)>,
    /// The same as a listing; entry `index` is the position in `files`.
    pub listing: Listing,
}

impl Walk {
    /// Walks `root`.
    ///
    /// # Errors
    /// When the folder itself cannot be listed; trouble below it goes to the listing.
    pub fn new(root: &Path) -> Result<Walk> {
        let failed = |e| Error::io("listing the data folder", root, e);
        let mut walk = Walk { root: root.into(), files: Vec::new(), listing: Listing::default() };
        let real = fs::canonicalize(root).map_err(failed)?;
        fs::read_dir(root).map_err(failed)?;
        walk.folder(root, "", &mut vec![real]);
        Ok(walk)
    }

    /// Adds names, sizes and times to a hash.
    pub fn hash(&self, hasher: &mut blake3::Hasher) {
        hasher.update(self.root.as_os_str().as_encoded_bytes());
        for ((_, meta), entry) in self.files.iter().zip(&self.listing.entries) {
            hash_metadata(hasher, &entry.path, meta);
        }
        for note in &self.listing.notes {
            hasher.update(note.path.as_bytes()).update(&note.bytes);
        }
        // What cannot be read today may be tomorrow; and what is told of the folder is told from the cache.
        let messages = self
            .listing
            .broken
            .iter()
            .map(|broken| &broken.path)
            .chain(&self.listing.empty)
            .chain(&self.listing.warnings);
        for text in messages {
            hasher.update(text.as_bytes());
        }
        hasher.update(&self.listing.ignored.to_le_bytes());
    }

    /// Walks one folder; `inside` is its path in the root, `above` the real paths of the folders around it and its own.
    fn folder(&mut self, path: &Path, inside: &str, above: &mut Vec<PathBuf>) {
        let names = fs::read_dir(path).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
        let mut names: Vec<_> = match names {
            Ok(names) => names,
            Err(e) => return self.unreadable(inside, &e),
        };
        names.sort();
        let before = (self.files.len(), self.listing.broken.len());
        for name in &names {
            let text = name.to_string_lossy();
            let entry = if inside.is_empty() { text.to_string() } else { format!("{inside}/{text}") };
            if !is_hidden(&text) {
                self.entry(path.join(name), entry, above);
            }
        }
        if (self.files.len(), self.listing.broken.len()) == before && !inside.is_empty() {
            self.listing.empty.push(inside.to_string());
        }
    }

    fn entry(&mut self, path: PathBuf, inside: String, above: &mut Vec<PathBuf>) {
        let meta = match fs::metadata(&path) {
            Ok(meta) => meta,
            Err(e) if is_image_name(&inside) || e.kind() == std::io::ErrorKind::PermissionDenied => {
                return self.unreadable(&inside, &e);
            }
            // A dangling link, or a loop of links that names nothing.
            Err(e) => return self.listing.warnings.push(format!("{inside} was left out: {e}")),
        };
        if meta.is_dir() {
            let Ok(real) = fs::canonicalize(&path) else { return };
            if above.contains(&real) {
                let warning = format!("{inside} was left out: the link leads back to {}", real.display());
                return self.listing.warnings.push(warning);
            }
            above.push(real);
            self.folder(&path, &inside, above);
            above.pop();
        } else if Note::is_at(&inside) && meta.is_file() && meta.len() <= MAX_NOTE_BYTES {
            match fs::read(&path) {
                Ok(bytes) => self.listing.notes.push(Note { path: inside, bytes }),
                Err(e) => self.unreadable(&inside, &e),
            }
        } else if meta.is_file() && is_image_name(&inside) {
            self.listing.entries.push(Entry { path: inside, index: self.files.len() });
            self.files.push((path, meta));
        } else {
            self.listing.ignored += 1;
        }
    }

    fn unreadable(&mut self, inside: &str, error: &std::io::Error) {
        self.listing.broken.push(BrokenImage { path: inside.into(), reason: read_failure(error) });
    }
}

/// Why a file could not be read, a clause.
pub fn read_failure(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => "may not be read by this user; change its permissions".into(),
        std::io::ErrorKind::NotFound => "does not exist (a link that leads nowhere, or removed meanwhile)".into(),
        _ => format!("cannot be read: {error}"),
    }
}
