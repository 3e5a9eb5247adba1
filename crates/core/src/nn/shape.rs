//! Shapes as matrices: rows along the last axis, whose length is that of the channels.

use crate::error::{Code, Error, Result};

/// The number of rows along the last axis.
pub fn rows(shape: &[usize]) -> usize {
    shape.split_last().map_or(1, |(_, before)| before.iter().product())
}

/// The length of the last axis.
pub fn channels(shape: &[usize]) -> usize {
    shape.last().copied().unwrap_or(1)
}

/// The shape with another last axis.
pub fn with_channels(shape: &[usize], channels: usize) -> Vec<usize> {
    let before = shape.split_last().map_or(&[][..], |(_, before)| before);
    before.iter().copied().chain([channels]).collect()
}

/// Refuses so many `values` for a tensor of another size.
///
/// # Errors
/// `ERR_INVALID_SHAPE`.
pub fn check_filled(values: usize, shape: &[usize]) -> Result<()> {
    let wanted = shape.iter().product::<usize>();
    if values == wanted {
        return Ok(());
    }
    Err(Error::new(Code::InvalidShape, "the values do not fill the shape")
        .with_values(format!("{wanted} values for {shape:?}"), values.to_string())
        .with_advice("give as many values as the product of the axes"))
}
