//! IDX files, the format of MNIST and Fashion-MNIST (LeCun, Cortes, Burges, 1998).
//!
//! Images: big-endian `2051`, n, h, w, then n·h·w bytes; labels: `2049`, n, then n bytes. Four files make a data set,
//! `train-` and `t10k-` each with `images-idx3-ubyte` and `labels-idx1-ubyte`, gzip or not. Both parts hold the same
//! classes, so the source's own split is not class-disjoint.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::arrays::{ArrayPart, Arrays};
use crate::data::part::Part;
use crate::error::{Code, Error, Result};

/// The files of the parts that a folder holds.
pub struct IdxFiles {
    files: Vec<(Part, PathBuf, PathBuf)>,
}

impl IdxFiles {
    /// The IDX files among `names` in `folder`; `None` when no part is complete.
    pub fn find(folder: &Path, names: &[OsString]) -> Option<IdxFiles> {
        let pick = |stem: &str| {
            let candidates = ["", ".gz"].map(|ending| format!("{stem}{ending}"));
            candidates
                .iter()
                .filter(|file| names.iter().any(|name| name.to_str() == Some(file)))
                .map(|file| folder.join(file))
                .find(|path| path.is_file())
        };
        let mut files = Vec::new();
        for (part, stem) in [(Part::Train, "train"), (Part::Test, "t10k")] {
            let images = pick(&format!("{stem}-images-idx3-ubyte"));
            let labels = pick(&format!("{stem}-labels-idx1-ubyte"));
            files.extend(images.zip(labels).map(|(images, labels)| (part, images, labels)));
        }
        (!files.is_empty()).then_some(IdxFiles { files })
    }

    /// All files.
    pub fn paths(&self) -> Vec<&Path> {
        self.files.iter().flat_map(|(_, images, labels)| [images.as_path(), labels.as_path()]).collect()
    }

    /// Reads every part.
    ///
    /// # Errors
    /// When a file cannot be read, has another header, is too short, or images and labels differ in number.
    pub fn read(&self) -> Result<Arrays> {
        let parts = self.files.iter().map(|(part, images, labels)| read_part(*part, images, labels));
        let parts = parts.collect::<Result<Vec<ArrayPart>>>()?;
        let largest = parts.iter().flat_map(|part| &part.labels).max().copied().unwrap_or(0);
        let digits = largest.to_string().len();
        let classes = (0..=largest).map(|label| format!("{label:0digits$}")).collect();
        Ok(Arrays { parts, classes })
    }
}

fn read_part(part: Part, images: &Path, labels: &Path) -> Result<ArrayPart> {
    let ([count, height, width], pixels) = read_idx::<3>(images, 2051)?;
    let ([label_count], labels_read) = read_idx::<1>(labels, 2049)?;
    if count != label_count {
        return Err(Error::new(Code::InvalidData, "images and labels differ in number")
            .with_subject(labels.display().to_string())
            .with_values(format!("{count} labels"), label_count.to_string())
            .with_advice("take both files from the same data set"));
    }
    let name = if part == Part::Train { "train" } else { "t10k" };
    Ok(ArrayPart { part, name, pixels, labels: labels_read, height, width, channels: 1 })
}

/// Most bytes of a file's content: 2 GiB, three times EMNIST.
const MAX_BYTES: usize = 2 << 30;

/// A compressed file may unpack to this many times its size once that is more than [`FLOOR`]; MNIST has 5.
const RATIO: usize = 50;

/// See [`RATIO`]: 64 MiB.
const FLOOR: usize = 64 << 20;

/// Header dimensions and content of one file.
fn read_idx<const N: usize>(path: &Path, magic: u32) -> Result<([usize; N], Vec<u8>)> {
    let failed = |e| Error::io("reading the IDX file", path, e);
    let bad = |what: String| {
        Error::new(Code::InvalidData, what)
            .with_subject(path.display().to_string())
            .with_advice("download the file again")
    };
    let file = File::open(path).map_err(failed)?;
    let packed = file.metadata().map_err(failed)?.len() as usize;
    let mut file: Box<dyn Read> = Box::new(BufReader::new(file));
    let is_gzip = path.extension().is_some_and(|ending| ending == "gz");
    if is_gzip {
        file = Box::new(MultiGzDecoder::new(file));
    }
    let mut word = || {
        let mut bytes = [0; 4];
        file.read_exact(&mut bytes)
            .map(|()| u32::from_be_bytes(bytes))
            .map_err(|e| bad(format!("the IDX header is cut off: {e}")))
    };
    let found = word()?;
    if found != magic {
        return Err(
            bad("the file is no IDX file of this kind".into()).with_values(magic.to_string(), found.to_string())
        );
    }
    let mut shape = [0; N];
    for length in &mut shape {
        *length = word()? as usize;
    }
    let bytes = shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b)).filter(|&n| n > 0);
    let bytes = bytes.ok_or_else(|| bad(format!("the IDX header gives the impossible shape {shape:?}")))?;
    let most = if is_gzip { packed.saturating_mul(RATIO).max(FLOOR) } else { packed }.min(MAX_BYTES);
    if bytes > most {
        return Err(bad("the IDX file is cut off, or its header promises too much".into())
            .with_values(format!("at most {most} bytes in a file of this size"), format!("{bytes} ({shape:?})")));
    }
    let mut content = Vec::with_capacity(if is_gzip { bytes.min(8 * packed) } else { bytes });
    let damaged = |e| bad(format!("the IDX file is damaged: {e}"));
    file.by_ref().take(bytes as u64).read_to_end(&mut content).map_err(damaged)?;
    if content.len() != bytes {
        return Err(
            bad("the IDX file is cut off".into()).with_values(format!("{bytes} bytes"), content.len().to_string())
        );
    }
    // Only at the end does gzip compare its checksum.
    if file.read(&mut [0]).map_err(damaged)? > 0 {
        return Err(bad("the IDX file is longer than its header says".into())
            .with_values(format!("{bytes} bytes of {shape:?}"), "more"));
    }
    Ok((shape, content))
}
