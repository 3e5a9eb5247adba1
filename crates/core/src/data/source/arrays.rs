//! Files that hold many images as plain bytes: IDX and CIFAR.

use std::path::Path;

use super::{cifar::CifarFiles, idx::IdxFiles};
use crate::data::split::Part;
use crate::error::Result;

/// Such files, found but not yet read.
pub enum ArrayFiles {
    /// MNIST's form.
    Idx(IdxFiles),
    /// CIFAR-100's form.
    Cifar(CifarFiles),
}

/// What is in them.
pub struct Arrays {
    /// One or two parts.
    pub parts: Vec<ArrayPart>,
    /// Class names by label.
    pub classes: Vec<String>,
}

/// The images of one part.
pub struct ArrayPart {
    /// Which one.
    pub part: Part,
    /// Its name in ids: `train`, `t10k`, `test`.
    pub name: &'static str,
    /// `[n, height, width, channels]`.
    pub pixels: Vec<u8>,
    /// `n` labels, each an index of [`Arrays::classes`].
    pub labels: Vec<u8>,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// 1 or 3.
    pub channels: usize,
}

impl ArrayPart {
    /// The pixels of image `index`, `[height, width, channels]`.
    pub fn image(&self, index: usize) -> &[u8] {
        let bytes = self.height * self.width * self.channels;
        &self.pixels[index * bytes..][..bytes]
    }
}

impl ArrayFiles {
    /// All files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        match self {
            ArrayFiles::Idx(files) => files.paths(),
            ArrayFiles::Cifar(files) => files.paths(),
        }
        .into_iter()
    }

    /// Reads every part.
    ///
    /// # Errors
    /// When a file cannot be read, is cut off, or is not what its name says.
    pub fn read(&self) -> Result<Arrays> {
        match self {
            ArrayFiles::Idx(files) => files.read(),
            ArrayFiles::Cifar(files) => files.read(),
        }
    }
}
