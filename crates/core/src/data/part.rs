//! Parts of a data set, and images that are in none.

use serde::{Deserialize, Serialize};

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum Part {
    /// What gradients are computed on.
    Train,
    /// What chooses the checkpoint.
    Validation,
    /// What only the final evaluation sees.
    Test,
}

/// An image that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct BrokenImage {
    /// Its path inside the source.
    pub path: String,
    /// Why, a clause that reads on from the path: `is empty (0 bytes)`.
    pub reason: String,
}
