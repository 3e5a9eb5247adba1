//! The check that the losses' options go through.

use crate::error::{Code, Error, Result};

/// An error about the option `subject` ("margin.alpha") unless `value` is a finite number that `fits`.
pub(super) fn option(subject: &str, value: f64, fits: bool, expected: &str, advice: &str) -> Result<()> {
    if value.is_finite() && fits {
        return Ok(());
    }
    Err(Error::new(Code::InvalidOption, "the option is out of range")
        .with_subject(subject)
        .with_values(expected, value.to_string())
        .with_advice(advice))
}
