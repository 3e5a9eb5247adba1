//! Files that are either whole or not there.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Code, Error, Result};

/// What writing to a path means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A file, there or not, at the end of all links: it is replaced as a whole.
    File(PathBuf),
    /// A pipe or a device of characters, which stays what it is: the bytes go into it.
    Stream(PathBuf),
}

impl Destination {
    /// Looks at `path` and follows its links.
    ///
    /// # Errors
    /// `ERR_INVALID_OPTION` for a folder, a disk or a socket, none of which a file may take the place of.
    pub fn of(path: &Path) -> Result<Destination> {
        let failed = |e| Error::io("writing", path, e);
        let meta = match fs::metadata(path) {
            Ok(meta) => meta,
            // A link that leads to no file yet: that file is made.
            Err(e) if e.kind() == ErrorKind::NotFound => match fs::read_link(path) {
                Ok(target) => return Destination::of(&folder_of(path).join(target)),
                Err(_) => return Ok(Destination::File(path.into())),
            },
            Err(e) => return Err(failed(e)),
        };
        if meta.is_file() {
            return fs::canonicalize(path).map(Destination::File).map_err(failed);
        }
        if is_stream(meta.file_type()) {
            return Ok(Destination::Stream(path.into()));
        }
        Err(Error::new(Code::InvalidOption, "this cannot be written as a file")
            .with_subject(path.display().to_string())
            .with_values("a file, a pipe or a device of characters", kind_of(meta.file_type()))
            .with_advice("choose another path"))
    }
}

#[cfg(unix)]
fn is_stream(kind: fs::FileType) -> bool {
    use std::os::unix::fs::FileTypeExt;
    kind.is_fifo() || kind.is_char_device()
}

#[cfg(windows)]
fn is_stream(_: fs::FileType) -> bool {
    false
}

fn kind_of(kind: fs::FileType) -> &'static str {
    if kind.is_dir() { "a folder" } else { "a disk or a socket" }
}

/// Writes `path` through `write`: aside, flushed to the disk, then renamed over the old file, so that a reader (or a
/// kill at any moment) sees either the old file or the new one. Links are followed, and streams written to, see
/// [`Destination`]. What a killed process left aside is removed.
///
/// # Errors
/// When the folder is not there, the disk is full, or what stands at `path` is no file.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut (dyn Write + Send)) -> std::io::Result<()>) -> Result<()> {
    let failed = |e| Error::io("writing", path, e);
    match Destination::of(path)? {
        Destination::Stream(stream) => File::options()
            .write(true)
            .open(stream)
            .and_then(|file| {
                let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
                write(&mut file)?;
                file.flush()
            })
            .map_err(failed),
        Destination::File(file) => replace(&file, write).map_err(failed),
    }
}

fn replace(path: &Path, write: impl FnOnce(&mut (dyn Write + Send)) -> std::io::Result<()>) -> std::io::Result<()> {
    let folder = folder_of(path);
    remove_abandoned(&folder, path);
    let (aside, file) = create_aside(&folder, path)?;
    let result = (|| {
        let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
        write(&mut file)?;
        let file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        sync_folder(&folder)
    })();
    // Best effort: the error that counts is the one of the write.
    result.inspect_err(|_| _ = fs::remove_file(&aside))
}

/// A new file `NAME.PID.COUNT.tmp`, locked for as long as it is open, so that [`remove_abandoned`] leaves it alone.
fn create_aside(folder: &Path, path: &Path) -> std::io::Result<(PathBuf, File)> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}.{}.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        let aside = folder.join(name);
        let file = match File::options().write(true).create_new(true).open(&aside) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => continue, // of an older process with this number
            other => other?,
        };
        let _ = file.try_lock(); // where the file system has no locks, nobody removes it either
        if aside.exists() {
            return Ok((aside, file)); // else somebody cleared up before it was locked
        }
    }
}

/// The name that a file has, or will have once its writer puts it in its place: without `.PID.tmp`.
pub fn settled_name(path: &Path) -> String {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let aside = name.strip_suffix(".tmp").and_then(|name| name.rsplit_once('.'));
    aside.filter(|(_, number)| is_number(number)).map_or_else(|| name.clone(), |(name, _)| name.into())
}

/// Whether a part of such a name is the number of a process, or of a file of its.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Removes what killed processes left beside `path`: files `NAME.PID.tmp` or `NAME.PID.COUNT.tmp` that nobody holds.
fn remove_abandoned(folder: &Path, path: &Path) {
    let (Ok(entries), Some(name)) = (fs::read_dir(folder), path.file_name().and_then(|name| name.to_str())) else {
        return;
    };
    for entry in entries.flatten() {
        let beside = entry.file_name();
        let middle = beside
            .to_str()
            .and_then(|beside| beside.strip_prefix(name)?.strip_prefix('.')?.strip_suffix(".tmp"))
            .filter(|middle| middle.split('.').all(is_number));
        let regular = entry.file_type().is_ok_and(|kind| kind.is_file());
        if middle.is_some() && regular && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The folder that `path` lies in.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Makes a rename durable. Windows has no such call on folders; there the rename itself is.
pub fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(content: &'static str) -> impl FnOnce(&mut (dyn Write + Send)) -> std::io::Result<()> {
        move |out| out.write_all(content.as_bytes())
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_the_whole_file_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        write_atomically(&path, text("first version")).unwrap();
        write_atomically(&path, text("second")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(names(folder.path()), ["a.bin"]);
    }

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        write_atomically(&path, text("old")).unwrap();
        let error = write_atomically(&path, |out| {
            out.write_all(b"half")?;
            Err(std::io::Error::other("disk full"))
        });
        assert!(error.unwrap_err().to_string().contains("disk full"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a.bin"]);
    }

    #[test]
    fn makes_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_atomically(&folder.path().join("gone").join("a.bin"), text("new")).unwrap_err();
        assert_eq!(error.code, Code::NotFound);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn removes_what_killed_processes_left_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let theirs = ["a.bin.tmp", "a.bin.12x.tmp", "a.bin.12..tmp", "b.bin.12.tmp", "a.bin.12.bak"];
        for name in theirs.into_iter().chain(["a.bin.12.tmp", "a.bin.12.3.tmp", "a.bin.13.0.tmp"]) {
            fs::write(folder.path().join(name), "half").unwrap();
        }
        let alive = File::open(folder.path().join("a.bin.13.0.tmp")).unwrap();
        alive.lock().unwrap();
        write_atomically(&folder.path().join("a.bin"), text("new")).unwrap();
        let mut left: Vec<&str> = theirs.into_iter().chain(["a.bin", "a.bin.13.0.tmp"]).collect();
        left.sort_unstable();
        assert_eq!(names(folder.path()), left);
    }

    #[cfg(unix)]
    #[test]
    fn writes_through_links_and_into_pipes() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("store")).unwrap();
        std::os::unix::fs::symlink("store/real", at("link")).unwrap();
        for content in ["made", "replaced"] {
            write_atomically(&at("link"), text(content)).unwrap();
            assert_eq!(fs::read_to_string(at("store/real")).unwrap(), content);
            assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
        }
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = at("pipe");
            move || fs::read_to_string(pipe).unwrap()
        });
        write_atomically(&at("pipe"), text("through")).unwrap();
        assert_eq!(reader.join().unwrap(), "through");
        assert!(is_stream(fs::metadata(at("pipe")).unwrap().file_type()));
        write_atomically(Path::new("/dev/null"), text("thrown away")).unwrap();
        assert!(is_stream(fs::metadata("/dev/null").unwrap().file_type()));
        let full = write_atomically(Path::new("/dev/full"), text("too much")).unwrap_err();
        assert_eq!(full.code, Code::Io);
    }

    #[cfg(unix)]
    #[test]
    fn refuses_what_a_file_may_not_take_the_place_of() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _open = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [folder.path(), &socket] {
            assert_eq!(write_atomically(path, text("new")).unwrap_err().code, Code::InvalidOption);
        }
        assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    }
}
