//! Stopping what takes long.

use crate::error::{Code, Error, Result};

/// Asked now and then by what takes long; true stops it with `ERR_CANCELLED`.
pub type Stop<'a> = &'a dyn Fn() -> bool;

/// An error where `stop` says so.
pub fn go_on(stop: Stop<'_>) -> Result<()> {
    if stop() { Err(Error::new(Code::Cancelled, "stopped while reading the data")) } else { Ok(()) }
}
