//! What a network wants of its images.

use super::statistics::Normalization;

/// The images that a network takes.
#[derive(Clone, Debug, PartialEq)]
pub struct InputSpec {
    /// Height and width in pixels.
    pub image_size: usize,
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// How their pixels are normalised.
    pub normalization: Normalization,
}
