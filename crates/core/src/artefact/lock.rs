//! One process at a time in a folder.
//!
//! The lock is the operating system's, on a file in the folder: it ends with the process, however that ends, so there is
//! no stale lock to be recognised by its age or by a process number that another container may have too. It holds between
//! threads and between hosts that share the file system as well, where that has locks.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::error::{Code, Error, Result};

/// Name of the file; it stands in the folder for as long as the lock is held.
const NAME: &str = ".rkd.lock";

/// How a holder's words begin.
const WORDS: &[u8] = b"process";

/// A folder that this value alone may write to.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    /// The folder itself, to find it again where it has been renamed.
    #[cfg(unix)]
    folder: File,
    file: File,
    exclusive: bool,
}

impl FolderLock {
    /// Takes the lock of `folder`, which must be there. `holder` is what another process is told: who, where, since when; it
    /// begins with `process`.
    ///
    /// # Errors
    /// `ERR_OUTPUT_EXISTS` with the holder's words where another one has it, and where the file is somebody's own (a link to
    /// something else, perhaps); an I/O error where nothing can be written.
    pub fn acquire(folder: &Path, holder: &str) -> Result<FolderLock> {
        let failed = |e| Error::io("taking the lock of the folder", folder, e);
        // A relative path would mean another folder after a change of directory.
        let path = fs::canonicalize(folder).map_err(failed)?;
        loop {
            let at = path.join(NAME);
            let file = File::options().read(true).write(true).create(true).truncate(false).open(&at).map_err(failed)?;
            let exclusive = match file.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => return Err(held(folder, &at)),
                Err(TryLockError::Error(_)) => false, // a file system without locks
            };
            if !same(&at, &file) {
                continue; // its last holder has just removed it
            }
            if !is_lock(&file).map_err(failed)? {
                return Err(Error::new(Code::OutputExists, format!("{NAME} in this folder is no lock of rkd"))
                    .with_subject(folder.display().to_string())
                    .with_advice("choose another folder, or move that file away yourself"));
            }
            // Only words for others; a full disk is no reason to stop here.
            let _ = file.set_len(0).and_then(|()| (&file).write_all(holder.as_bytes()));
            #[cfg(unix)]
            let folder = File::open(&path).map_err(failed)?;
            return Ok(FolderLock {
                path,
                #[cfg(unix)]
                folder,
                file,
                exclusive,
            });
        }
    }

    /// Whether the file system has locks; where not, nobody is kept out.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    /// Where the folder is now: its path, its new one where it has been moved and the system tells (Linux), or nothing.
    pub fn place(&self) -> Option<PathBuf> {
        #[cfg(unix)]
        if !same(&self.path, &self.folder) {
            use std::os::fd::AsRawFd;
            let link = fs::read_link(format!("/proc/self/fd/{}", self.folder.as_raw_fd())).ok()?;
            return Some(link).filter(|moved| same(moved, &self.folder));
        }
        self.path.is_dir().then(|| self.path.clone())
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        let Some(folder) = self.place() else { return };
        let at = folder.join(NAME);
        // Windows does not tell files apart; there it stays, unlocked.
        if cfg!(unix) && self.exclusive && same(&at, &self.file) {
            let _ = fs::remove_file(at);
        }
    }
}

/// Whether the file is empty, as a new one is, or holds a holder's words.
fn is_lock(mut file: &File) -> std::io::Result<bool> {
    let mut start = Vec::new();
    file.rewind()?;
    file.take(WORDS.len() as u64).read_to_end(&mut start)?;
    file.rewind()?;
    Ok(start.is_empty() || start == WORDS)
}

fn held(folder: &Path, at: &Path) -> Error {
    let holder = fs::read_to_string(at).unwrap_or_default();
    let holder = if holder.is_empty() { "another process" } else { &holder };
    Error::new(Code::OutputExists, format!("the folder is in use by {holder}"))
        .with_subject(folder.display().to_string())
        .with_advice("wait until that is done, stop it, or choose another folder")
}

/// Whether `path` leads to what is open as `file`.
#[cfg(unix)]
fn same(path: &Path, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |meta: &fs::Metadata| (meta.dev(), meta.ino());
    matches!((fs::metadata(path), file.metadata()), (Ok(a), Ok(b)) if id(&a) == id(&b))
}

#[cfg(windows)]
fn same(_: &Path, _: &File) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(folder: &Path, holder: &str) -> Result<FolderLock> {
        FolderLock::acquire(folder, holder)
    }

    #[test]
    fn lets_one_in_and_tells_the_other_who_that_is() {
        let folder = tempfile::tempdir().unwrap();
        let lock = take(folder.path(), "process 12 on here").unwrap();
        assert!(lock.is_exclusive());
        let error = take(folder.path(), "process 13").unwrap_err();
        assert_eq!(error.code, Code::OutputExists);
        assert!(error.message.contains("process 12 on here"), "{error}");
        drop(lock);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        take(folder.path(), "process 13").unwrap();
    }

    #[test]
    fn takes_no_notice_of_a_file_that_nobody_holds() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NAME), "process 1, long dead, with a long story").unwrap();
        let _lock = take(folder.path(), "process 2").unwrap();
        assert!(take(folder.path(), "process 3").unwrap_err().message.ends_with("in use by process 2"));
    }

    #[cfg(unix)]
    #[test]
    fn does_not_write_into_what_is_not_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let mine = folder.path().join("mine");
        fs::write(&mine, "my own words").unwrap();
        std::os::unix::fs::symlink(&mine, folder.path().join(NAME)).unwrap();
        assert_eq!(take(folder.path(), "process 1").unwrap_err().code, Code::OutputExists);
        assert_eq!(fs::read_to_string(&mine).unwrap(), "my own words");
    }

    #[test]
    fn lets_one_in_at_a_time_whatever_the_others_do() {
        let folder = tempfile::tempdir().unwrap();
        let inside = std::sync::atomic::AtomicUsize::new(0);
        let entered = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    use std::sync::atomic::Ordering::SeqCst;
                    for _ in 0..500 {
                        if let Ok(_lock) = take(folder.path(), "process of four") {
                            assert_eq!(inside.fetch_add(1, SeqCst), 0);
                            entered.fetch_add(1, SeqCst);
                            inside.fetch_sub(1, SeqCst);
                        }
                    }
                });
            }
        });
        assert!(entered.into_inner() > 4);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn finds_the_folder_again() {
        let above = tempfile::tempdir().unwrap();
        let [old, new] = ["old", "new"].map(|name| above.path().canonicalize().unwrap().join(name));
        fs::create_dir(&old).unwrap();
        let lock = take(&old, "process 1").unwrap();
        assert_eq!(lock.place(), Some(old.clone()));
        fs::rename(&old, &new).unwrap();
        assert_eq!(lock.place(), Some(new.clone()));
        fs::create_dir(&old).unwrap();
        assert_eq!(lock.place(), Some(new.clone()));
        fs::remove_dir_all(&new).unwrap();
        assert_eq!(lock.place(), None);
        drop(lock);
        assert!(old.is_dir());
    }
}
