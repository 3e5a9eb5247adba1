//! The losses: one file each, with maths, options, value, gradient and tests.
//!
//! A loss is a pure function of features. It says which features it [reads](Loss::reads), and returns its value and
//! its gradient with respect to each student feature it read. The trainer adds the weighted terms.

use serde::{Deserialize, Serialize};

/// One term of the total loss: a kind with its options, as plans and `evaluateLoss` name it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LossSpec(pub serde_json::Value);

/// STAND-IN.
pub fn evaluate_stand_in(_spec: &LossSpec) -> crate::Result<(f64, Vec<f32>)> {
    Err(crate::Error::new(crate::Code::Internal, "stand-in"))
}
