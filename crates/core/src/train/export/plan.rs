//! What an export writes, and what that must reach.

use std::path::PathBuf;

use crate::export::{Dtype, ExportInput, ExportTarget};
use crate::onnx::EngineChoice;
use crate::train::stored::EvaluatePlan;

/// What `export` does.
#[derive(Clone, Debug)]
pub struct ExportPlan {
    /// A `model.safetensors`.
    pub model: PathBuf,
    /// What it is exported for.
    pub to: ExportTarget,
    /// The forms, at least one; the first is the one that transformers.js takes by itself.
    pub dtypes: Vec<Dtype>,
    /// What ONNX files take.
    pub input: ExportInput,
    /// The folder.
    pub out: PathBuf,
    /// Whether an earlier export in it is replaced.
    pub overwrite: bool,
    /// Training images that int8 is calibrated on.
    pub calibration_images: usize,
    /// What ONNX files are measured by.
    pub engine: EngineChoice,
    /// The library of onnxruntime.
    pub onnxruntime: Option<PathBuf>,
    /// The data, and what the scores are; nothing: no data are looked at.
    pub data: Option<EvaluatePlan>,
    /// Whether what was written is measured.
    pub measure: bool,
    /// What it must reach.
    pub gates: Gates,
    /// What the model card says of the run.
    pub about: About,
    /// CPU threads.
    pub threads: usize,
}

/// What an exported model must reach.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gates {
    /// The lowest `recall@K` of the smallest K; without labels `teacherRecall@K`.
    pub min_recall: Option<f64>,
    /// The largest file.
    pub max_bytes: Option<u64>,
    /// The lowest mean cosine to the model itself.
    pub min_cosine: Option<f64>,
}

/// What is known of the run that wrote a model.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The name of its data, without the folders above.
    pub data: Option<String>,
    /// The names of its teachers.
    pub teachers: Vec<String>,
    /// Its folder.
    pub run: Option<PathBuf>,
}
