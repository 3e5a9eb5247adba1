//! A stored network as other programs read it: ONNX, and the folders that transformers.js and timm load.
//!
//! ```text
//! Model -> network: Graph in float32 -> float16, or calibrate + int8 -> encode: the bytes of an ONNX file
//!       -> folder: config.json, preprocessor_config.json, weights under timm's names
//! ```
//! [`graph`] is a graph in memory and its encoding, by `proto`; [`network`] makes one of a stored network; [`float16`] and
//! [`int8`] make smaller ones of it, the latter with the ranges of [`calibrate`]; [`folder`] has what stands beside. Images,
//! scores and the model card in words are [`train::export`](mod@crate::train::export)'s.

pub mod calibrate;
pub mod float16;
pub mod folder;
pub mod graph;
pub mod int8;
pub mod network;
mod proto;

use serde::{Deserialize, Serialize};

/// What an exported model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum ExportTarget {
    /// An ONNX file, for onnxruntime and whatever else reads one.
    Onnx,
    /// A folder that transformers.js loads, and timm where it has the network.
    Transformers,
    /// A folder that timm loads.
    Timm,
    /// The weights alone, under torchvision's names.
    Safetensors,
}

/// The form of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// As they were trained.
    Float32,
    /// Half the size.
    Float16,
    /// A quarter of it; activations in 8 bits too.
    Int8,
}

/// What an exported ONNX model takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum ExportInput {
    /// `pixel_values [batch, 3, side, side]`, normalised by the caller.
    #[default]
    Floats,
    /// `pixels [batch, side, side, 3]`, bytes as they were decoded; the graph normalises them.
    Bytes,
}

impl ExportTarget {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            ExportTarget::Onnx => "onnx",
            ExportTarget::Transformers => "transformers",
            ExportTarget::Timm => "timm",
            ExportTarget::Safetensors => "safetensors",
        }
    }
}

impl Dtype {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::Float32 => "float32",
            Dtype::Float16 => "float16",
            Dtype::Int8 => "int8",
        }
    }

    /// The name of an ONNX file of it, by the customs of transformers.js.
    pub fn file(self) -> &'static str {
        match self {
            Dtype::Float32 => "model.onnx",
            Dtype::Float16 => "model_fp16.onnx",
            Dtype::Int8 => "model_quantized.onnx",
        }
    }

    /// What transformers.js calls it.
    pub fn in_transformers(self) -> &'static str {
        match self {
            Dtype::Float32 => "fp32",
            Dtype::Float16 => "fp16",
            Dtype::Int8 => "q8",
        }
    }
}
