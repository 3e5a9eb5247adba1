//! The losses: one file each, with maths, options, value, gradient and tests.
//!
//! A loss is a pure function of features. It says which feature it [reads](Loss::reads), and returns its value and its
//! gradient with respect to the student's feature. The trainer adds the weighted terms. All arithmetic is float64, on
//! features of n rows and d columns: a batch is small beside its network, and near neighbours cancel in float32.

mod cross_entropy;
mod embedding;
mod inputs;
mod prototypical;
mod relational;
mod rkd_angle;
mod rkd_distance;
mod spec;
mod triplet;

pub use cross_entropy::CrossEntropy;
pub use inputs::{Feature, LossInputs, Matrix};
pub use prototypical::Prototypical;
pub use relational::{Reduction, huber};
pub use rkd_angle::RkdAngle;
pub use rkd_distance::RkdDistance;
pub use spec::LossSpec;
pub use triplet::{TripletEuclidean, TripletSquared};

use crate::error::Result;

/// A loss with its options. Values and gradients are unweighted.
pub trait Loss: Send + Sync {
    /// The student's feature it reads where the caller does not point it elsewhere.
    fn reads(&self) -> Feature {
        Feature::Embedding
    }
    /// Whether it compares with the teacher's feature of the same name.
    fn needs_teacher(&self) -> bool {
        false
    }
    /// Whether it needs labels.
    fn needs_labels(&self) -> bool {
        false
    }
    /// The value and the gradient for one batch.
    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue>;
}

/// What a loss says about one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct LossValue {
    /// The value.
    pub value: f64,
    /// The gradient with respect to the student's feature, of its shape.
    pub gradient: Vec<f64>,
}

/// Checks `spec` and computes it once: what `evaluateLoss` does.
pub fn evaluate_loss(spec: &LossSpec, inputs: &LossInputs<'_>) -> Result<LossValue> {
    spec.validate()?;
    spec.build().evaluate(inputs)
}
