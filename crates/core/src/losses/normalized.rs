//! `normalize: true` of a term: the loss sees rows of norm 1, whatever the network gives.
//!
//! ```text
//! y_i = x_i / max(|x_i|, 1e-12),   dL/dx_i = (g_i - y_i <y_i, g_i>) / |x_i|,   g_i = dL/dy_i
//! ```
//! x of the student `[n, d]` and, where the loss compares, of the teacher; a map `[n, h, w, c]` is one long row. The
//! released classification code of Park et al. 2019 normalises pooled features so before RKD, and MMRazor does by default; the
//! paper does not speak of it. It is PyTorch's `normalize`, as the network's own last layer is (`backbone.normalize`), but
//! in float64 and for one term: the network's output stays as it is.
//!
//! Degenerate rows: one below the norm 1e-12 is divided by 1e-12, a constant, so a row of zeros stays one and its
//! gradient is `g_i / 1e-12`: large, but finite. A row's scale gets no gradient.

use super::{Feature, Loss, LossInputs, LossParameter, LossValue, Matrix};
use crate::error::Result;

/// Smallest norm that divides, PyTorch's.
const SMALLEST: f64 = 1e-12;

/// A loss that is given normalised features.
pub(super) struct Normalized(pub Box<dyn Loss>);

impl Loss for Normalized {
    fn reads(&self) -> Feature {
        self.0.reads()
    }

    fn needs_teacher(&self) -> bool {
        self.0.needs_teacher()
    }

    fn needs_labels(&self) -> bool {
        self.0.needs_labels()
    }

    fn parameters(&self, student: &[usize], teacher: Option<&[usize]>) -> Result<Vec<LossParameter>> {
        self.0.parameters(student, teacher)
    }

    fn is_frozen(&self) -> bool {
        self.0.is_frozen()
    }

    fn needs_maps(&self) -> bool {
        self.0.needs_maps()
    }

    fn needs_class_pairs(&self) -> bool {
        self.0.needs_class_pairs()
    }

    fn sees_images_alone(&self) -> bool {
        self.0.sees_images_alone()
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let (student, norms) = normalize(inputs.student);
        let teacher = if self.0.needs_teacher() { Some(normalize(inputs.teacher()?).0) } else { None };
        let mut inputs = inputs.clone();
        inputs.student = &student;
        if let Some(teacher) = &teacher {
            inputs = inputs.with_teacher(teacher);
        }
        let mut found = self.0.evaluate(&inputs)?;
        pull_back(&mut found.gradient, &student, &norms);
        Ok(found)
    }
}

/// The rows divided by their norms, and the norms.
pub(super) fn normalize(feature: &Matrix) -> (Matrix, Vec<f64>) {
    let mut unit = feature.clone();
    let norms = unit.data.chunks_exact_mut(feature.columns).map(|row| {
        let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        row.iter_mut().for_each(|v| *v /= norm.max(SMALLEST));
        norm
    });
    let norms = norms.collect();
    (unit, norms)
}

/// Makes a gradient over the rows `unit` one over the rows before their division by `norms`.
pub(super) fn pull_back(gradient: &mut [f64], unit: &Matrix, norms: &[f64]) {
    let rows = gradient.chunks_exact_mut(unit.columns).zip(unit.data.chunks_exact(unit.columns));
    for ((gradient, y), &norm) in rows.zip(norms) {
        // Below the smallest norm the division is by a constant.
        let along = if norm > SMALLEST { y.iter().zip(&*gradient).map(|(y, g)| y * g).sum::<f64>() } else { 0.0 };
        gradient.iter_mut().zip(y).for_each(|(g, y)| *g = (*g - y * along) / norm.max(SMALLEST));
    }
}
