//! Reading and writing a file at positions, so that threads share it.

use std::fs::File;
use std::io;

/// Reads what is at `at`, at most `out`.
#[cfg(unix)]
pub fn read_at(file: &File, out: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, out, at)
}

/// Reads what is at `at`, at most `out`.
#[cfg(windows)]
pub fn read_at(file: &File, out: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, out, at)
}

/// Reads what is at `at`, at most `out`: on WebAssembly, whose standard library has no such call.
#[cfg(target_family = "wasm")]
pub fn read_at(file: &File, out: &mut [u8], at: u64) -> io::Result<usize> {
    positioned(file, at, |mut file| io::Read::read(&mut file, out))
}

/// Fills `out` with what is at `at`.
///
/// # Errors
/// When the file ends before.
pub fn read_exact_at(file: &File, mut out: &mut [u8], mut at: u64) -> io::Result<()> {
    while !out.is_empty() {
        match read_at(file, out, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => (out, at) = (&mut out[count..], at + count as u64),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Writes `bytes` at `at`.
#[cfg(unix)]
pub fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

/// Writes `bytes` at `at`.
#[cfg(windows)]
pub fn write_all_at(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = std::os::windows::fs::FileExt::seek_write(file, bytes, at)?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        (bytes, at) = (&bytes[count..], at + count as u64);
    }
    Ok(())
}

/// Writes `bytes` at `at`: on WebAssembly, whose standard library has no such call.
#[cfg(target_family = "wasm")]
pub fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    positioned(file, at, |mut file| io::Write::write_all(&mut file, bytes))
}

/// Calls `body` with the file's own position at `at`, one thread after another.
#[cfg(target_family = "wasm")]
fn positioned<R>(file: &File, at: u64, body: impl FnOnce(&File) -> io::Result<R>) -> io::Result<R> {
    use std::io::{Seek, SeekFrom};
    use std::sync::{Mutex, PoisonError};
    static POSITIONS: Mutex<()> = Mutex::new(());
    let _alone = POSITIONS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut position = file;
    position.seek(SeekFrom::Start(at))?;
    body(file)
}
