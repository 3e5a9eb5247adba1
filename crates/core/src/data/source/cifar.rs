//! CIFAR-100's binary files (Krizhevsky 2009): `train.bin` and `test.bin`, records of 3,074 bytes,
//!
//! ```text
//! coarse label, fine label, then 32 x 32 pixels of red, of green, of blue
//! ```
//! with `fine_label_names.txt`. Classes are the 100 fine labels; both parts hold all of them. The files lie in the folder, in
//! `cifar-100-binary` inside it, or in `cifar-100-binary.tar.gz`, which is read as it is.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::archive::MAX_ENTRY_BYTES;
use super::arrays::{ArrayPart, Arrays};
use super::tar;
use crate::data::part::Part;
use crate::error::{Code, Error, Result};
use crate::names::text_of;

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const RECORD: usize = 2 + 3 * PLANE;
const FOLDER: &str = "cifar-100-binary";
const PARTS: [(Part, &str, &str); 2] = [(Part::Train, "train", "train.bin"), (Part::Test, "test", "test.bin")];
const NAMES: &str = "fine_label_names.txt";

/// Where the files lie.
pub enum CifarFiles {
    /// In a folder: those of the three that are there, in the order train, test, names.
    Folder([Option<PathBuf>; 3]),
    /// In a tar archive.
    Tar(PathBuf),
}

impl CifarFiles {
    /// The files among `names` in `folder`, or in the folder that the archive unpacks to; `None` without a part.
    pub fn find(folder: &Path, names: &[OsString]) -> Option<CifarFiles> {
        let inner = folder.join(FOLDER);
        let folder = if names.iter().any(|name| name == FOLDER) && inner.is_dir() { &inner } else { folder };
        let file = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
        let found = [file(PARTS[0].2), file(PARTS[1].2), file(NAMES)];
        (found[0].is_some() || found[1].is_some()).then_some(CifarFiles::Folder(found))
    }

    /// All files.
    pub fn paths(&self) -> Vec<&Path> {
        match self {
            CifarFiles::Folder(files) => files.iter().flatten().map(PathBuf::as_path).collect(),
            CifarFiles::Tar(path) => vec![path],
        }
    }

    /// Reads every part.
    ///
    /// # Errors
    /// When a file cannot be read or is no whole number of records, or a label has no name.
    pub fn read(&self) -> Result<Arrays> {
        let [train, test, names] = match self {
            CifarFiles::Tar(path) => tar::files(path, [PARTS[0].2, PARTS[1].2, NAMES])?,
            CifarFiles::Folder(files) => {
                let read = |path: &PathBuf| read_file(path);
                let [train, test, names] = files.each_ref().map(|file| file.as_ref().map(read).transpose());
                [train?, test?, names?]
            }
        };
        let place = self.paths()[0].display().to_string();
        let mut parts = Vec::new();
        for ((part, name, file), bytes) in PARTS.into_iter().zip([train, test]) {
            if let Some(bytes) = bytes {
                parts.push(read_part(part, name, file, &bytes).map_err(|error| error.with_subject(&*place))?);
            }
        }
        if parts.is_empty() {
            return Err(Error::new(Code::InvalidData, "the archive holds no part of CIFAR-100")
                .with_subject(place)
                .with_values("train.bin or test.bin", "neither")
                .with_advice("download the binary version, cifar-100-binary.tar.gz, again"));
        }
        let largest = parts.iter().flat_map(|part| &part.labels).max().copied().unwrap_or(0) as usize;
        let names = names.map(|bytes| text_of(&bytes));
        let mut classes: Vec<String> =
            names.iter().flat_map(|text| text.lines()).map(|line| line.trim().to_string()).collect();
        classes.retain(|line| !line.is_empty());
        if names.is_some() && classes.len() <= largest {
            return Err(Error::new(Code::InvalidData, "a label has no name")
                .with_subject(place)
                .with_values(format!("{} names or more in {NAMES}", largest + 1), classes.len().to_string())
                .with_advice("take all files from the same archive"));
        }
        if names.is_none() {
            classes = (0..=largest).map(|label| format!("{label:02}")).collect();
        }
        Ok(Arrays { parts, classes })
    }
}

/// A file of at most [`MAX_ENTRY_BYTES`]; CIFAR-100's larger one has 154 MB.
fn read_file(path: &Path) -> Result<Vec<u8>> {
    let failed = |e| Error::io("reading the CIFAR file", path, e);
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > MAX_ENTRY_BYTES {
        return Err(Error::new(Code::InvalidData, "the file is no file of CIFAR-100")
            .with_subject(path.display().to_string())
            .with_values(format!("at most {MAX_ENTRY_BYTES} bytes"), bytes.to_string())
            .with_advice("download the binary version, cifar-100-binary.tar.gz, again"));
    }
    fs::read(path).map_err(failed)
}

fn read_part(part: Part, name: &'static str, file: &str, bytes: &[u8]) -> Result<ArrayPart> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(RECORD) {
        return Err(Error::new(Code::InvalidData, format!("{file} is cut off, or no file of CIFAR-100"))
            .with_values(format!("a multiple of {RECORD} bytes"), bytes.len().to_string())
            .with_advice("download the binary version, cifar-100-binary.tar.gz, again"));
    }
    let mut pixels = Vec::with_capacity(bytes.len());
    let mut labels = Vec::with_capacity(bytes.len() / RECORD);
    for record in bytes.chunks_exact(RECORD) {
        labels.push(record[1]);
        let planes = &record[2..];
        pixels.extend((0..PLANE).flat_map(|i| [planes[i], planes[PLANE + i], planes[2 * PLANE + i]]));
    }
    Ok(ArrayPart { part, name, pixels, labels, height: SIDE, width: SIDE, channels: 3 })
}
