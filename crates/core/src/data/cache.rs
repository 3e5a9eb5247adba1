//! The decoded cache: one file with every image of a data set as bytes, and the list of what they are.
//!
//! ```text
//! 0    magic "RKDCACHE"
//! 8    length of the pixels in bytes, u64 little-endian
//! 16   length of the manifest in bytes, u64 little-endian
//! 24   BLAKE3 of the manifest (32 bytes), then zeros
//! 64   pixels: slots of [size, size, channels] bytes
//! ...  manifest: JSON, with a BLAKE3 of each 16 MiB of the pixels
//! ```
//!
//! A file's name is the hash of what went into it (names, sizes and times of the source's files, image size, channels,
//! decoder version), so a changed source finds no file and is decoded again. A file is written under another name, synced
//! and renamed: readers see a whole file or none, and of two processes that decode the same source the later rename wins
//! with the same content. Every byte is checked against its hash when a file is opened; a damaged file counts as none.
//!
//! Images are read at their positions, not by way of a map: a map of a file that somebody cuts ends the process (SIGBUS), a
//! read is an error. It costs about a microsecond an image: 60,000 images of 64 pixels and 3 channels, out of the page cache in
//! an order of no locality, read and added up, take 4.4 to 4.7 us each, and 3.3 us by way of a map (processor time, both in
//! turn, medians of 9 rounds).

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::part::{BrokenImage, Part};
use super::positioned::{read_exact_at, write_all_at};
use super::threads::decode_threads;
use crate::error::{Code, Error, Result};

const MAGIC: &[u8; 8] = b"RKDCACHE";
const HEAD_BYTES: u64 = 64;
const CHUNK_BYTES: u64 = 16 << 20;

/// Largest manifest that is read: a million images with paths of a thousand bytes.
const MAX_MANIFEST_BYTES: u64 = 1 << 30;

/// What a cache file says of its images. The vectors `ids`, `labels`, `parts`, `contents` and `slots` have one entry an item,
/// and so have `paths` and `given`, where they are not empty.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The published data set it is.
    pub name: Option<String>,
    /// The images' paths inside the source, or the ids that a manifest gives in place of them; unique and in byte order.
    pub ids: Vec<String>,
    /// The paths, where some ids are a manifest's.
    pub paths: Vec<String>,
    /// What a manifest, or a list beside the images, calls them, where it has ids.
    pub given: Vec<String>,
    /// Index into `classes`; 0 without labels.
    pub labels: Vec<u32>,
    /// The part that the source itself puts the image in, where it has such parts.
    pub parts: Vec<Option<Part>>,
    /// A hash of the bytes that the image was decoded from.
    pub contents: Vec<u64>,
    /// Position of the pixels in the file; broken images leave unused slots.
    pub slots: Vec<u32>,
    /// Class names in byte order; none without labels.
    pub classes: Vec<String>,
    /// Images that could not be decoded.
    pub broken: Vec<BrokenImage>,
    /// Things a user should know.
    pub warnings: Vec<String>,
    /// BLAKE3 of each 16 MiB of the pixels, hexadecimal.
    pub chunks: Vec<String>,
}

/// An open, checked cache file.
#[derive(Debug)]
pub struct Cache {
    /// Where it lies.
    pub path: PathBuf,
    /// What is in it.
    pub manifest: Manifest,
    file: File,
    slot_bytes: usize,
    /// The first read that failed.
    failure: OnceLock<io::Error>,
    /// Goes away with the cache, where it is a temporary one.
    _folder: Option<CacheFolder>,
}

/// Where a new cache file is written: the folder that was asked for, or a temporary one where that cannot be written.
#[derive(Debug)]
pub enum CacheFolder {
    /// The folder of the plan.
    Wanted(PathBuf),
    /// One of this process, with the reason for it.
    Temporary(TempDir, String),
    /// One of this process, for images that are looked at once.
    Once(TempDir),
}

impl CacheFolder {
    /// Makes `wanted`, or a temporary folder where this user may not write there.
    ///
    /// # Errors
    /// When there is another reason, or no temporary folder can be made either.
    pub fn new(wanted: &Path) -> Result<CacheFolder> {
        let attempt = fs::create_dir_all(wanted).and_then(|()| tempfile::tempfile_in(wanted));
        let Err(error) = attempt else { return Ok(CacheFolder::Wanted(wanted.into())) };
        let denied = matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem);
        let temporary = denied.then(|| tempfile::Builder::new().prefix("rkd-cache-").tempdir().ok()).flatten();
        match temporary {
            Some(folder) => Ok(CacheFolder::Temporary(folder, format!("{}: {error}", wanted.display()))),
            None => Err(Error::io("writing the decoded cache", wanted, error)
                .with_advice("choose another folder for it, with data.cache or the environment variable RKD_CACHE")),
        }
    }

    /// A temporary folder, for images that are looked at once.
    ///
    /// # Errors
    /// When there is no place for temporary files.
    pub fn once() -> Result<CacheFolder> {
        let made = tempfile::Builder::new().prefix("rkd-cache-").tempdir();
        made.map(CacheFolder::Once)
            .map_err(|e| Error::io("making a folder for decoded images", &std::env::temp_dir(), e))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        match self {
            CacheFolder::Wanted(path) => path,
            CacheFolder::Temporary(folder, _) | CacheFolder::Once(folder) => folder.path(),
        }
    }

    /// What the user should know; nothing where the folder is the one that was asked for.
    pub fn notice(&self) -> Option<String> {
        let CacheFolder::Temporary(_, reason) = self else { return None };
        Some(format!(
            "The folder for decoded images cannot be written ({reason}), so they are in a temporary one until this run \
             ends, and are decoded again by the next one. Choose another folder with data.cache or RKD_CACHE."
        ))
    }
}

impl Cache {
    /// Opens the file at `path` with slots of `slot_bytes`; `None` when there is none or it is damaged in any way.
    pub fn open(path: &Path, slot_bytes: usize) -> Option<Cache> {
        let file = File::open(path).ok().filter(|file| file.metadata().is_ok_and(|meta| meta.is_file()))?;
        let mut head = [0; HEAD_BYTES as usize];
        read_exact_at(&file, &mut head, 0).ok()?;
        let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
        let (pixel_bytes, manifest_bytes) = (number(8), number(16));
        let end = HEAD_BYTES.checked_add(pixel_bytes)?;
        let length = file.metadata().ok()?.len();
        if &head[..8] != MAGIC || manifest_bytes > MAX_MANIFEST_BYTES || end.checked_add(manifest_bytes)? != length {
            return None;
        }
        let mut manifest = vec![0; manifest_bytes as usize];
        read_exact_at(&file, &mut manifest, end).ok()?;
        if blake3::hash(&manifest).as_bytes()[..] != head[24..56] {
            return None;
        }
        let manifest: Manifest = serde_json::from_slice(&manifest).ok()?;
        let slots = pixel_bytes / slot_bytes as u64;
        let count = manifest.ids.len();
        let lengths_agree =
            [manifest.labels.len(), manifest.parts.len(), manifest.contents.len(), manifest.slots.len()]
                .iter()
                .all(|&n| n == count);
        let in_range = manifest.slots.iter().all(|&slot| u64::from(slot) < slots)
            && manifest.labels.iter().all(|&label| (label as usize) < manifest.classes.len().max(1));
        if !lengths_agree || !in_range || chunk_hashes(&file, pixel_bytes).ok()? != manifest.chunks {
            return None;
        }
        Some(Cache { path: path.into(), manifest, file, slot_bytes, failure: OnceLock::new(), _folder: None })
    }

    /// Keeps the folder that the file lies in for as long as the cache. A temporary one has no further reader, so where
    /// the system lets go of names of open files (not on Windows) it is gone at once, and no kill can leave it behind.
    pub fn keep(&mut self, folder: CacheFolder) {
        self._folder = Some(folder).filter(|_| cfg!(windows));
    }

    /// The pixels of `item`; zeros, and from then on an error from [`Cache::intact`], when they cannot be read.
    pub fn pixels(&self, item: usize) -> Vec<u8> {
        let start = HEAD_BYTES + u64::from(self.manifest.slots[item]) * self.slot_bytes as u64;
        let mut pixels = vec![0; self.slot_bytes];
        if let Err(e) = read_exact_at(&self.file, &mut pixels, start) {
            pixels.fill(0);
            let _ = self.failure.set(e); // The first one counts.
        }
        pixels
    }

    /// Whether every read so far was whole.
    ///
    /// # Errors
    /// [`Code::Io`] when one was not.
    pub fn intact(&self) -> Result<()> {
        let Some(failure) = self.failure.get() else { return Ok(()) };
        Err(Error::new(Code::Io, format!("the decoded cache was cut or cannot be read any more: {failure}"))
            .with_subject(self.path.display().to_string())
            .with_advice("run again, which makes it anew; a run with a checkpoint can be resumed"))
    }
}

/// BLAKE3 of each chunk of the pixels, on all cores.
fn chunk_hashes(file: &File, pixel_bytes: u64) -> io::Result<Vec<String>> {
    let count = pixel_bytes.div_ceil(CHUNK_BYTES) as usize;
    let next = AtomicUsize::new(0);
    let mut hashes = vec![String::new(); count];
    std::thread::scope(|scope| {
        let work = || {
            let (mut done, mut buffer) = (Vec::new(), Vec::new());
            while let Some(i) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&i| i < count) {
                let start = i as u64 * CHUNK_BYTES;
                buffer.resize((pixel_bytes - start).min(CHUNK_BYTES) as usize, 0);
                read_exact_at(file, &mut buffer, HEAD_BYTES + start)?;
                done.push((i, blake3::hash(&buffer).to_hex().to_string()));
            }
            Ok::<_, io::Error>(done)
        };
        let workers: Vec<_> = (0..decode_threads().min(count)).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            for (i, hash) in worker.join().expect("hashing does not panic")? {
                hashes[i] = hash;
            }
        }
        Ok(hashes)
    })
}

/// A cache file in the making. Threads write slots in any order; dropped before [`CacheWriter::finish`] it removes itself.
pub struct CacheWriter {
    file: File,
    partial: PathBuf,
    path: PathBuf,
    slot_bytes: usize,
    slots: usize,
    finished: bool,
}

impl CacheWriter {
    /// Starts the file that will be `path`, with room for `slots` images.
    ///
    /// # Errors
    /// When the folder cannot be made or written, or the disk is too small.
    pub fn new(path: &Path, slot_bytes: usize, slots: usize) -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let folder = path.parent().unwrap_or(Path::new("."));
        let failed = |source| Error::io("writing the decoded cache", folder, source);
        remove_abandoned(folder);
        let name = path.file_name().expect("a cache file has a name").to_string_lossy();
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let partial = folder.join(format!(".{name}.{}.{count}.partial", std::process::id()));
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(&partial).map_err(failed)?;
        let _ = file.try_lock(); // see `remove_abandoned`
        let writer = CacheWriter { file, partial, path: path.into(), slot_bytes, slots, finished: false };
        writer.file.set_len(HEAD_BYTES + (slots * slot_bytes) as u64).map_err(failed)?;
        Ok(writer)
    }

    /// Writes the pixels of one slot.
    ///
    /// # Errors
    /// When the disk is full, for example.
    pub fn write(&self, slot: usize, pixels: &[u8]) -> Result<()> {
        assert!(slot < self.slots && pixels.len() == self.slot_bytes, "a slot of this file");
        let at = HEAD_BYTES + (slot * self.slot_bytes) as u64;
        write_all_at(&self.file, pixels, at).map_err(|e| Error::io("writing the decoded cache", &self.partial, e))
    }

    /// Adds the manifest (whose `chunks` are filled in here), syncs, and renames the file into place.
    ///
    /// # Errors
    /// When writing, syncing or renaming fails.
    pub fn finish(mut self, mut manifest: Manifest) -> Result<()> {
        self.complete(&mut manifest).map_err(|e| Error::io("writing the decoded cache", &self.path, e))?;
        self.finished = true;
        Ok(())
    }

    fn complete(&mut self, manifest: &mut Manifest) -> io::Result<()> {
        let pixel_bytes = (self.slots * self.slot_bytes) as u64;
        let end = HEAD_BYTES + pixel_bytes;
        manifest.chunks = chunk_hashes(&self.file, pixel_bytes)?;
        let text = serde_json::to_vec(manifest)?;
        let mut head = Vec::with_capacity(HEAD_BYTES as usize);
        head.write_all(MAGIC)?;
        head.write_all(&pixel_bytes.to_le_bytes())?;
        head.write_all(&(text.len() as u64).to_le_bytes())?;
        head.write_all(blake3::hash(&text).as_bytes())?;
        write_all_at(&self.file, &head, 0)?;
        write_all_at(&self.file, &text, end)?;
        self.file.sync_all()?;
        fs::rename(&self.partial, &self.path)
    }
}

impl Drop for CacheWriter {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// A partial file may be so old before its maker has locked it.
const LOCK_TIME: Duration = Duration::from_secs(10);

/// Removes what killed processes left behind: partial files that nobody has locked.
fn remove_abandoned(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours = name.starts_with('.') && name.ends_with(".partial") && name.contains(".rkdcache.");
        let age =
            entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| SystemTime::now().duration_since(t).ok());
        let unlocked = || File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
        if ours && age.is_some_and(|age| age > LOCK_TIME) && unlocked() {
            let _ = fs::remove_file(entry.path());
        }
    }
}
