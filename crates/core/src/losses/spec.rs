//! One term of the total loss as plans and `evaluateLoss` write it.

use serde::{Deserialize, Serialize};

use super::{CrossEntropy, Loss, Prototypical, RkdAngle, RkdDistance, TripletEuclidean, TripletSquared};
use crate::error::{Code, Error, Result};

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

    /// The weight in the total loss.
    pub fn weight(&self) -> f64 {
        match self {
            LossSpec::RkdDistance(loss) => loss.weight,
            LossSpec::RkdAngle(loss) => loss.weight,
            LossSpec::TripletSquared(loss) => loss.weight,
            LossSpec::TripletEuclidean(loss) => loss.weight,
            LossSpec::CrossEntropy(loss) => loss.weight,
            LossSpec::Prototypical(loss) => loss.weight,
        }
    }

    /// Checks every option; the error names the one that is out of range.
    pub fn validate(&self) -> Result<()> {
        if !self.weight().is_finite() || self.weight() < 0.0 {
            return Err(Error::new(Code::InvalidOption, "the weight is out of range")
                .with_subject(format!("{}.weight", self.name()))
                .with_values("a number, at least 0", self.weight().to_string())
                .with_advice("0 switches the term off"));
        }
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
