//! Files that hold many images as plain bytes: IDX and CIFAR.

use crate::data::part::Part;

/// What is in such files.
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
