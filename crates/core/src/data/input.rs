//! What a network wants of its images.

use super::plan::InputKind;
use super::statistics::Normalization;

/// The images that a network takes.
#[derive(Clone, Debug, PartialEq)]
pub struct InputSpec {
    /// Pictures or vectors.
    pub kind: InputKind,
    /// Height and width in pixels.
    pub image_size: usize,
    /// 1 (grey) or 3 (RGB); of vectors the numbers of one.
    pub channels: usize,
    /// How their pixels, or numbers, are normalised.
    pub normalization: Normalization,
}
