//! The image files of a folder tree.
//!
//! Symbolic links are followed, as data sets are often put together from them; a link to a folder that it lies in is
//! left out with a warning, and so are folders that are met too often or lie too deep, so that every walk ends. Names
//! may hold spaces, any letters and bytes of any encoding. Hidden files are left out; FIFOs and devices are never
//! opened.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::annotation::Annotation;
use super::archive::{MAX_ENTRY_BYTES, too_large};
use super::hash::hash_metadata;
use super::ignored::{HEAD_BYTES, is_hidden, is_image_name};
use super::listing::{Entry, Listing};
use super::parquet::is_parquet_name;
use crate::data::part::BrokenImage;
use crate::data::stop::{Stop, go_on};
use crate::error::{Error, Result};
use crate::names::name_of;

/// Most folders inside one another.
const MAX_DEPTH: usize = 100;

/// How often one folder may be met by way of links: often enough for a class shared by a few parts, and a bound on
/// links that double their ways with each level.
const MAX_VISITS: u32 = 16;

/// Links left out that are named before the rest is only counted.
const MAX_TOLD: usize = 5;

/// A folder whose tree was walked, or whose files were named.
pub struct Walk {
    /// The folder.
    pub root: PathBuf,
    /// Its image files in the order of their names, each with size and times.
    pub files: Vec<(PathBuf, fs::Metadata)>,
    /// The same as a listing; entry `index` is the position in `files`.
    pub listing: Listing,
    /// Its Parquet files, in the order of their names, each with its path inside the folder.
    pub parquet: Vec<(PathBuf, String)>,
    /// How often each folder was met.
    visits: HashMap<Identity, u32>,
    /// A warning for each link that was left out.
    links: Vec<String>,
    /// Folders left out because they were met too often, or lie too deep; FIFOs and devices.
    left_out: [Vec<String>; 3],
}

/// What tells a folder from all others, whatever path leads to it.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Identity {
    #[cfg(unix)]
    Number(u64, u64),
    #[cfg(not(unix))]
    Path(PathBuf),
}

#[cfg(unix)]
fn identity(_: &Path, meta: &fs::Metadata) -> std::io::Result<Identity> {
    use std::os::unix::fs::MetadataExt;
    Ok(Identity::Number(meta.dev(), meta.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path, _: &fs::Metadata) -> std::io::Result<Identity> {
    fs::canonicalize(path).map(Identity::Path)
}

impl Walk {
    /// Walks `root`.
    ///
    /// # Errors
    /// When the folder itself cannot be listed; trouble below it goes to the listing. When stopped.
    pub fn new(root: &Path, stop: Stop<'_>) -> Result<Walk> {
        let failed = |e| Error::io("listing the data folder", root, e);
        let mut walk = Walk::of_files(root, Vec::new(), Listing::default());
        let real = fs::metadata(root).and_then(|meta| identity(root, &meta)).map_err(failed)?;
        fs::read_dir(root).map_err(failed)?;
        walk.folder(root, "", &mut vec![real], stop);
        go_on(stop)?;
        let more = walk.links.len().saturating_sub(MAX_TOLD);
        walk.listing.warnings.extend(walk.links.iter().take(MAX_TOLD).cloned());
        walk.listing.warnings.extend((more > 0).then(|| format!("{more} more links were left out for such reasons")));
        let why = [
            "folders were met by too many links and left out from then on",
            "folders lie more than 100 levels deep and are left out",
            "are no files (FIFOs, devices, sockets) and left out",
        ];
        for (paths, why) in walk.left_out.iter().zip(why).filter(|(paths, _)| !paths.is_empty()) {
            let first = &paths[0];
            walk.listing.warnings.push(format!("{} {why} (the first is {first})", paths.len()));
        }
        Ok(walk)
    }

    /// Files below `root` that somebody named; entry i of `listing` is file i.
    pub fn of_files(root: &Path, files: Vec<(PathBuf, fs::Metadata)>, listing: Listing) -> Walk {
        let (visits, links, left_out) = (HashMap::new(), Vec::new(), Default::default());
        Walk { root: root.into(), files, listing, parquet: Vec::new(), visits, links, left_out }
    }

    /// One file, under its name.
    pub fn of_file(path: &Path) -> std::io::Result<Walk> {
        let name = name_of(path.file_name().unwrap_or_default().as_encoded_bytes()).into_owned();
        let listing = Listing { entries: vec![Entry { path: name, index: 0 }], ..Listing::default() };
        let files = vec![(path.to_path_buf(), fs::metadata(path)?)];
        Ok(Walk::of_files(path.parent().unwrap_or(Path::new("")), files, listing))
    }

    /// Leaves those files whose path inside the folder `fits`; of the others nothing is told.
    pub fn retain(&mut self, fits: impl Fn(&str) -> bool) {
        let listing = std::mem::take(&mut self.listing);
        let files = std::mem::take(&mut self.files).into_iter().zip(listing.entries).filter(|(_, it)| fits(&it.path));
        for (file, Entry { path, .. }) in files {
            self.listing.entries.push(Entry { path, index: self.files.len() });
            self.files.push(file);
        }
        self.parquet.retain(|(_, inside)| fits(inside));
        self.listing.annotations = listing.annotations;
        self.listing.warnings = listing.warnings;
        self.listing.broken = listing.broken.into_iter().filter(|broken| fits(&broken.path)).collect();
    }

    /// Adds names, sizes and times to a hash.
    pub fn hash(&self, hasher: &mut blake3::Hasher) {
        hasher.update(self.root.as_os_str().as_encoded_bytes());
        for ((_, meta), entry) in self.files.iter().zip(&self.listing.entries) {
            hash_metadata(hasher, &entry.path, meta);
        }
        for row in self.listing.rows.iter().flatten() {
            hasher.update(format!("{row:?}").as_bytes());
        }
        for annotation in &self.listing.annotations {
            hasher.update(annotation.path.as_bytes()).update(&annotation.bytes);
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
        for warning in self.listing.ignored.warnings() {
            hasher.update(warning.as_bytes());
        }
    }

    /// Walks one folder; `inside` is its path in the root, `above` what identifies the folders around it and itself.
    fn folder(&mut self, path: &Path, inside: &str, above: &mut Vec<Identity>, stop: Stop<'_>) {
        let names = fs::read_dir(path).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
        let mut names: Vec<_> = match names {
            Ok(names) => names,
            Err(e) => return self.unreadable(inside, &e),
        };
        names.sort();
        let before = (self.files.len(), self.listing.broken.len());
        for name in names.iter().take_while(|_| !stop()) {
            let text = name_of(name.as_encoded_bytes());
            let entry = if inside.is_empty() { text.to_string() } else { format!("{inside}/{text}") };
            if !is_hidden(&text) {
                self.entry(path.join(name), entry, above, stop);
            }
        }
        if (self.files.len(), self.listing.broken.len()) == before && !inside.is_empty() {
            self.listing.empty.push(inside.to_string());
        }
    }

    fn entry(&mut self, path: PathBuf, inside: String, above: &mut Vec<Identity>, stop: Stop<'_>) {
        let meta = match fs::metadata(&path) {
            Ok(meta) => meta,
            Err(e) if is_image_name(&inside) || e.kind() == std::io::ErrorKind::PermissionDenied => {
                return self.unreadable(&inside, &e);
            }
            // A dangling link, or a loop of links that names nothing.
            Err(e) => return self.links.push(format!("{inside} was left out: {e}")),
        };
        if meta.is_dir() {
            self.inner_folder(&path, inside, &meta, above, stop);
        } else if !meta.is_file() {
            self.left_out[2].push(inside);
        } else if is_image_name(&inside) {
            self.listing.entries.push(Entry { path: inside, index: self.files.len() });
            self.files.push((path, meta));
        } else if Annotation::is_at(&inside) {
            let read = |most| Ok(start_of(&path, most).map_err(|e| read_failure(&e)));
            self.listing.annotation(inside, meta.len(), read).expect("this one only gives clauses");
        } else {
            self.listing.ignored.file(&inside, || start_of(&path, HEAD_BYTES as u64).ok());
            if is_parquet_name(&inside) {
                self.parquet.push((path, inside));
            }
        }
    }

    fn inner_folder(
        &mut self,
        path: &Path,
        inside: String,
        meta: &fs::Metadata,
        above: &mut Vec<Identity>,
        stop: Stop<'_>,
    ) {
        let Ok(real) = identity(path, meta) else { return };
        if above.contains(&real) {
            let target = fs::canonicalize(path).unwrap_or_else(|_| path.into());
            return self.links.push(format!("{inside} was left out: the link leads back to {}", target.display()));
        }
        if above.len() > MAX_DEPTH {
            return self.left_out[1].push(inside);
        }
        let visits = self.visits.entry(real.clone()).or_default();
        *visits += 1;
        if *visits > MAX_VISITS {
            return self.left_out[0].push(inside);
        }
        above.push(real);
        self.folder(path, &inside, above, stop);
        above.pop();
    }

    fn unreadable(&mut self, inside: &str, error: &std::io::Error) {
        self.listing.broken.push(BrokenImage { path: inside.into(), reason: read_failure(error) });
    }
}

/// The content of an image file.
///
/// # Errors
/// A clause: why it could not be read.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = start_of(path, MAX_ENTRY_BYTES + 1).map_err(|e| read_failure(&e))?;
    if bytes.len() as u64 > MAX_ENTRY_BYTES { Err(too_large()) } else { Ok(bytes) }
}

/// At most `most` bytes of a file.
fn start_of(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let file = fs::File::open(path)?;
    let mut bytes = Vec::with_capacity(file.metadata()?.len().min(most) as usize);
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Why a file could not be read, a clause.
pub fn read_failure(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => "may not be read by this user; change its permissions".into(),
        std::io::ErrorKind::NotFound => "does not exist (a link that leads nowhere, or removed meanwhile)".into(),
        _ => format!("cannot be read: {error}"),
    }
}
