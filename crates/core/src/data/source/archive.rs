//! What ZIP and tar archives have in common: bounds, names, links, and the errors of an archive that cannot be trusted.

use std::collections::HashMap;
use std::path::Path;

use super::annotation::Annotation;
use super::ignored::{HEAD_BYTES, is_hidden, is_image_name};
use super::listing::{Entry, Listing};
use crate::error::{Code, Error, Result};
use crate::names::name_of;

/// Largest file that is read as an image, in bytes, in an archive or beside it; more than any picture within the
/// decoder's limit.
pub const MAX_ENTRY_BYTES: u64 = 256 << 20;

/// An archive may unpack to this many times its size once that is more than [`BOMB_FLOOR`]; more is taken for a bomb.
pub const BOMB_RATIO: u64 = 200;

/// See [`BOMB_RATIO`]: 1 GiB.
pub const BOMB_FLOOR: u64 = 1 << 30;

/// What an entry of an archive is.
pub enum Member {
    /// A file.
    File {
        /// Bytes it says to unpack to.
        size: u64,
    },
    /// Another name of a file in the archive.
    Link {
        /// That file's path.
        target: Vec<u8>,
    },
    /// A link that is followed from its own folder.
    SymbolicLink {
        /// Where to.
        target: Vec<u8>,
    },
    /// A folder, a device, ...
    Other,
}

/// The members of an archive on their way to a listing.
pub struct Members<'a> {
    archive: &'a Path,
    listing: Listing,
    /// Links to images: own path and that of the target.
    links: Vec<(String, String)>,
    /// Whether paths were divided by backslashes.
    backslashes: bool,
}

impl<'a> Members<'a> {
    pub fn new(archive: &'a Path) -> Self {
        Members { archive, listing: Listing::default(), links: Vec::new(), backslashes: false }
    }

    /// Adds an entry. `read` gives at most so many of its first bytes, or a clause that says why not.
    ///
    /// # Errors
    /// When the name would leave the archive, or `read` fails.
    pub fn add(
        &mut self,
        name: &[u8],
        index: usize,
        member: Member,
        read: impl FnOnce(u64) -> Result<Result<Vec<u8>, String>>,
    ) -> Result<()> {
        check_entry_path(self.archive, &String::from_utf8_lossy(name))?;
        let path = self.path_of(name);
        match member {
            Member::File { .. } if path.ends_with('/') => {}
            Member::File { .. } if is_image_name(&path) => self.listing.entries.push(Entry { path, index }),
            Member::File { size } if Annotation::is_at(&path) => self.listing.annotation(path, size, read)?,
            Member::File { .. } if is_hidden(&path) => {}
            Member::File { .. } => {
                let mut failed = None;
                let head = || read(HEAD_BYTES as u64).map_err(|e| failed = Some(e)).ok()?.ok();
                self.listing.ignored.file(&path, head);
                return failed.map_or(Ok(()), Err);
            }
            Member::Link { target } => self.link(path, &target, false),
            Member::SymbolicLink { target } => self.link(path, &target, true),
            Member::Other => {}
        }
        Ok(())
    }

    fn link(&mut self, path: String, target: &[u8], from_folder: bool) {
        if is_image_name(&path) {
            let target = self.path_of(target);
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let target = if from_folder { format!("{folder}/{target}") } else { target };
            self.links.push((path, normal(&target)));
        }
    }

    /// The text of a path, its parts divided by `/`. Old Windows programs divide them by backslashes.
    fn path_of(&mut self, name: &[u8]) -> String {
        let name = name.strip_prefix(b"./").unwrap_or(name);
        if name.contains(&b'\\') && !name.contains(&b'/') && std::str::from_utf8(name).is_ok() {
            self.backslashes = true;
            return name_of(&name.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect::<Vec<u8>>())
                .into_owned();
        }
        name_of(name).into_owned()
    }

    /// The listing. Of entries with one path the last counts, as in unpacking.
    pub fn finish(mut self) -> Result<Listing> {
        let entries = &mut self.listing.entries;
        let mut last: HashMap<String, usize> = HashMap::with_capacity(entries.len());
        for (i, entry) in entries.iter().enumerate() {
            last.insert(entry.path.clone(), i);
        }
        let mut linked = Vec::new();
        for (path, target) in self.links {
            match last.get(&target) {
                Some(_) if last.contains_key(&path) => {}
                Some(&i) => linked.push(Entry { path, index: entries[i].index }),
                None => self.listing.ignored.link(),
            }
        }
        let mut position = 0;
        entries.retain(|entry| {
            position += 1;
            last[&entry.path] == position - 1
        });
        linked.sort_by(|a, b| a.path.cmp(&b.path));
        linked.dedup_by(|a, b| a.path == b.path);
        entries.append(&mut linked);
        if self.backslashes {
            self.listing.warnings.push(
                "the archive's paths are divided by backslashes, as old Windows programs write them; they are read as folders"
                    .into(),
            );
        }
        Ok(self.listing)
    }
}

/// A path without `.` and `..`.
fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// Why an entry is not read, a clause.
pub fn too_large() -> String {
    format!("is larger than {} MiB", MAX_ENTRY_BYTES >> 20)
}

/// The error for an entry of an archive that would leave the folder it is unpacked in; `None` for a harmless path.
fn check_entry_path(archive: &Path, entry: &str) -> Result<()> {
    let drive = entry.as_bytes().get(1) == Some(&b':') && entry.as_bytes()[0].is_ascii_alphabetic();
    let absolute = entry.starts_with(['/', '\\']) || drive;
    if !absolute && !entry.split(['/', '\\']).any(|part| part == "..") {
        return Ok(());
    }
    Err(Error::new(Code::InvalidArchive, format!("the archive has an entry with an unsafe path, {entry:?}"))
        .with_subject(archive.display().to_string())
        .with_values(
            "relative paths inside the archive",
            if absolute { "an absolute path" } else { "a path with \"..\"" },
        )
        .with_advice("do not trust this archive; pack the images again with relative paths"))
}

pub fn damaged_archive(path: &Path, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Code::InvalidArchive, format!("the archive is damaged or cut off: {source}"))
        .with_subject(path.display().to_string())
        .with_advice("download or pack it again")
        .with_source(source)
}

pub fn bomb(path: &Path) -> Error {
    Error::new(Code::InvalidArchive, format!("the archive unpacks to more than {BOMB_RATIO} times its size"))
        .with_subject(path.display().to_string())
        .with_values(format!("at most {BOMB_RATIO} times its size, or 1 GiB"), "more")
        .with_advice("if the images really are that large, unpack them into a folder and give that")
}
