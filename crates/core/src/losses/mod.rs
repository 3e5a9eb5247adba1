//! The losses: one file each, with maths, options, value, gradient and tests.
//!
//! A loss is a pure function of features. It says which features it [reads](Loss::reads), and returns its value and
//! its gradient with respect to each student feature it read. The trainer adds the weighted terms.

use serde::{Deserialize, Serialize};

/// One term of the total loss: a kind with its options, as plans and `evaluateLoss` name it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LossSpec(pub serde_json::Value);
