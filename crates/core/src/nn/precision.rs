//! In which numbers a GPU computes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// In which numbers a GPU computes a network. Parameters, what the optimiser keeps, statistics, losses and whatever comes to the host
/// are float32 in all of them, and sums of products too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Float32 without TF32: as the CPU, but for the order of sums.
    #[default]
    Float32,
    /// Float32, of which products and convolutions multiply the first 10 bits behind the point.
    Tf32,
    /// Maps, and what is multiplied, in bfloat16, of 7 bits behind the point: half the memory of activations.
    Bf16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Float32 => "float32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
        })
    }
}
