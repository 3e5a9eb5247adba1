//! What an export wrote, and what it is worth.

use serde::Serialize;

use crate::export::{Dtype, ExportTarget};
use crate::train::report::Evaluation;

/// What `export` wrote, measured as others load it.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct ExportReport {
    /// What it is for.
    pub to: ExportTarget,
    /// Absolute path of the folder.
    pub out: String,
    /// Absolute path of the model that was exported.
    pub model: String,
    /// All files, in the order in which they were written.
    pub files: Vec<ExportedFile>,
    /// The model itself, on the test images; nothing where nothing was measured.
    pub student: Option<Evaluation>,
    /// Bytes of the model's own file.
    pub student_bytes: u64,
    /// The exported forms of it, in the order of the dtypes.
    pub models: Vec<ExportedModel>,
    /// The gates (`minRecall`, `maxBytes`, `minCosine`) that were missed, a sentence each; empty where all were met.
    pub missed: Vec<String>,
}

/// A file of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ExportedFile {
    /// Its path in the folder, with `/`.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// One exported form of a model.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct ExportedModel {
    /// The form of its weights.
    pub dtype: Dtype,
    /// Its path in the folder.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// What it was measured by: `onnxruntime`, `rten`, or `rkd` for weights alone; nothing where it was not measured.
    pub engine: Option<String>,
    /// Its embeddings of the test images; nothing where it was not measured.
    pub evaluation: Option<Evaluation>,
    /// How near they are to those of the model itself.
    pub cosine: Option<Cosine>,
}

/// Cosines of the embeddings of the same images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Cosine {
    /// Mean over the images.
    pub mean: f64,
    /// Of the image where it is smallest.
    pub min: f64,
}

impl Cosine {
    /// Of rows of `length` numbers; a row of zeros has the cosine 0 with another one, and 1 with its like.
    pub(super) fn of(ours: &[f32], theirs: &[f32], length: usize) -> Cosine {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        let (mut sum, mut min, mut count) = (0.0, 1.0f64, 0usize);
        for (a, b) in ours.chunks_exact(length.max(1)).zip(theirs.chunks_exact(length.max(1))) {
            let norms = (dot(a, a) * dot(b, b)).sqrt();
            let cosine = if norms > 0.0 { dot(a, b) / norms } else { f64::from(u8::from(a == b)) };
            (sum, min, count) = (sum + cosine, min.min(cosine), count + 1);
        }
        Cosine { mean: sum / count.max(1) as f64, min }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_are_of_rows() {
        let same = Cosine::of(&[3.0, 4.0, 0.0, 0.0], &[6.0, 8.0, 0.0, 0.0], 2);
        assert_eq!(same, Cosine { mean: 1.0, min: 1.0 });
        let Cosine { mean, min } = Cosine::of(&[1.0, 0.0, 1.0, 0.0], &[1.0, 0.0, 1.0, 1.0], 2);
        let half = 0.5f64.sqrt();
        assert!((min - half).abs() < 1e-12 && (mean - (1.0 + half) / 2.0).abs() < 1e-12);
        assert_eq!(Cosine::of(&[0.0, 0.0], &[1.0, 0.0], 2).min, 0.0);
    }
}
