//! The losses: one file each, with maths, options, value, gradient and tests.
//!
//! A loss is a pure function of one feature of the student and, for many, the same of the teacher. It says which feature
//! it [reads](Loss::reads) unless a plan points it elsewhere, and returns its value and its gradient. The trainer adds the
//! weighted terms. All arithmetic is float64, on
//! features of n rows and d columns: a batch is small beside its network, and near neighbours cancel in float32.

mod cross_entropy;
mod embedding;
mod inputs;
pub mod portable;
mod prototypical;
mod relational;
mod rkd_angle;
mod rkd_distance;
mod spec;
mod triplet;

pub use cross_entropy::CrossEntropy;
pub use inputs::{LossInputs, Matrix};
pub use prototypical::Prototypical;
pub use relational::{Reduction, huber};
pub use rkd_angle::RkdAngle;
pub use rkd_distance::RkdDistance;
pub use spec::{LossSpec, TermSpec};
pub use triplet::{TripletEuclidean, TripletSquared};

use crate::error::Result;
pub use crate::nn::Feature;

/// A loss with its options. Values and gradients are unweighted.
pub trait Loss: Send + Sync {
    /// The feature it reads of student and teacher where the plan does not point it elsewhere.
    fn reads(&self) -> Feature {
        Feature::Embedding
    }
    /// Whether it compares with the teacher's feature.
    fn needs_teacher(&self) -> bool {
        false
    }
    /// Whether it needs labels.
    fn needs_labels(&self) -> bool {
        false
    }
    /// The numbers it learns beside the network, for features of these shapes (`[n, d]` or `[n, h, w, c]`). Most losses
    /// learn none.
    fn parameters(&self, _student: &[usize], _teacher: Option<&[usize]>) -> Result<Vec<LossParameter>> {
        Ok(Vec::new())
    }
    /// The value and the gradients for one batch.
    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue>;
}

/// Numbers that a loss learns: the map of a linear hint, the boundary of a margin.
#[derive(Clone, Debug, PartialEq)]
pub struct LossParameter {
    /// The name, unique within the loss; the golden files' where they have one (`projection`).
    pub name: &'static str,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Numbers are drawn evenly from `center - spread` to `center + spread`.
    pub center: f64,
    /// See `center`; 0: all numbers start at the centre.
    pub spread: f64,
}

/// What a loss says about one batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossValue {
    /// The value.
    pub value: f64,
    /// The gradient with respect to the student's feature, of its shape.
    pub gradient: Vec<f64>,
    /// The gradient with respect to each of the loss's own parameters.
    pub parameters: Vec<Vec<f64>>,
}

impl LossValue {
    /// Of a loss without parameters.
    pub fn new(value: f64, gradient: Vec<f64>) -> Self {
        LossValue { value, gradient, parameters: Vec::new() }
    }
}

/// Checks `spec` and computes it once: what `evaluateLoss` does.
pub fn evaluate_loss(spec: &LossSpec, inputs: &LossInputs<'_>) -> Result<LossValue> {
    spec.validate()?;
    spec.build().evaluate(inputs)
}
