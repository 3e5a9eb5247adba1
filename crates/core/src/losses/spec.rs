//! The losses and the terms of the total loss as plans and `evaluateLoss` write them.

use serde::{Deserialize, Serialize};

use super::{CrossEntropy, Feature, Loss, Prototypical, RkdAngle, RkdDistance, TripletEuclidean, TripletSquared};
use crate::error::{Code, Error, Result};

/// One term of the total loss: a loss, its weight and the features it reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TermSpec {
    /// The loss.
    #[serde(flatten)]
    pub loss: LossSpec,
    /// Factor in the sum, at least 0; a term of weight 0 is not computed.
    #[serde(default = "one")]
    pub weight: f64,
    /// The student's feature it reads; absent: [`Loss::reads`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub student_feature: Option<Feature>,
    /// The teacher's feature it reads; absent: the student's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_feature: Option<Feature>,
}

fn one() -> f64 {
    1.0
}

impl TermSpec {
    /// A term of weight 1 that reads what the loss reads by itself.
    pub fn new(loss: LossSpec) -> Self {
        TermSpec { loss, weight: 1.0, student_feature: None, teacher_feature: None }
    }

    /// Checks the weight and every option; the error names the one that is out of range.
    pub fn validate(&self) -> Result<()> {
        if !self.weight.is_finite() || self.weight < 0.0 {
            return Err(Error::new(Code::InvalidOption, "the weight is out of range")
                .with_subject(format!("{}.weight", self.loss.name()))
                .with_values("a number, at least 0", self.weight.to_string())
                .with_advice("0 switches the term off"));
        }
        self.loss.validate()
    }
}

/// A kind of loss with its options. In JSON the kind stands in `kind`, the options beside it in camelCase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum LossSpec {
    /// Distance-wise RKD.
    RkdDistance(RkdDistance),
    /// Angle-wise RKD.
    RkdAngle(RkdAngle),
    /// Triplet on squared distances.
    TripletSquared(TripletSquared),
    /// Triplet on distances.
    TripletEuclidean(TripletEuclidean),
    /// Cross entropy of logits.
    CrossEntropy(CrossEntropy),
    /// Prototypical, for episodes.
    Prototypical(Prototypical),
}

impl LossSpec {
    /// The kind.
    pub fn name(&self) -> &'static str {
        match self {
            LossSpec::RkdDistance(_) => "rkd-distance",
            LossSpec::RkdAngle(_) => "rkd-angle",
            LossSpec::TripletSquared(_) => "triplet-squared",
            LossSpec::TripletEuclidean(_) => "triplet-euclidean",
            LossSpec::CrossEntropy(_) => "cross-entropy",
            LossSpec::Prototypical(_) => "prototypical",
        }
    }

    /// Checks every option; the error names the one that is out of range.
    pub fn validate(&self) -> Result<()> {
        match self {
            LossSpec::RkdDistance(loss) => loss.validate(),
            LossSpec::RkdAngle(loss) => loss.validate(),
            LossSpec::TripletSquared(loss) => super::triplet::check_margin("triplet-squared", loss.margin),
            LossSpec::TripletEuclidean(loss) => super::triplet::check_margin("triplet-euclidean", loss.margin),
            LossSpec::CrossEntropy(loss) => loss.validate(),
            LossSpec::Prototypical(loss) => loss.validate(),
        }
    }

    /// The loss itself.
    pub fn build(&self) -> Box<dyn Loss> {
        match self.clone() {
            LossSpec::RkdDistance(loss) => Box::new(loss),
            LossSpec::RkdAngle(loss) => Box::new(loss),
            LossSpec::TripletSquared(loss) => Box::new(loss),
            LossSpec::TripletEuclidean(loss) => Box::new(loss),
            LossSpec::CrossEntropy(loss) => Box::new(loss),
            LossSpec::Prototypical(loss) => Box::new(loss),
        }
    }
}
