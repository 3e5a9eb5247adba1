//! The losses and the terms of the total loss as plans and `evaluateLoss` write them.

use serde::{Deserialize, Serialize};

use super::{
    Angular, AttentionTransfer, Contrastive, CorrelationCongruence, CrossEntropy, Feature, FeatureRegression,
    HardDarkRank, Hint, LiftedStructure, LinearHint, Loss, Margin, NPairs, Prototypical, RkdAngle, RkdDistance,
    SimilarityPreserving, SoftTargetKl, TripletEuclidean, TripletSquared, Weight, normalized::Normalized,
};
use crate::error::Result;

/// One term of the total loss: a loss, its weight and the features it reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TermSpec {
    /// The loss.
    #[serde(flatten)]
    pub loss: LossSpec,
    /// Factor in the sum; a term of weight 0 is not computed. 1 if absent.
    #[serde(default = "one")]
    pub weight: Weight,
    /// The student's feature it reads; absent: [`Loss::reads`]. A loss on rows takes a map as one long row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub student_feature: Option<Feature>,
    /// The teacher's feature it reads; absent: the student's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_feature: Option<Feature>,
    /// Whether the loss sees rows divided by their norm, those of the teacher too. `false` if absent: what the networks give.
    #[serde(default)]
    pub normalize: bool,
}

fn one() -> Weight {
    Weight::Number(1.0)
}

impl TermSpec {
    /// A term of weight 1 that reads what the loss reads by itself.
    pub fn new(loss: LossSpec) -> Self {
        TermSpec { loss, weight: one(), student_feature: None, teacher_feature: None, normalize: false }
    }

    /// Checks the weight and every option; the error names the one that is out of range.
    pub fn validate(&self) -> Result<()> {
        self.weight.validate(self.loss.name())?;
        self.loss.validate()
    }

    /// The loss itself, on normalised features where the term says so.
    pub fn build(&self) -> Box<dyn Loss> {
        let loss = self.loss.build();
        if self.normalize { Box::new(Normalized(loss)) } else { loss }
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
    /// Contrastive, over the pairs of triplets.
    Contrastive(Contrastive),
    /// Lifted structure, the smooth form.
    LiftedStructure(LiftedStructure),
    /// Multi-class N-pair.
    NPairs(NPairs),
    /// Angular, in N-pair batches.
    Angular(Angular),
    /// Margin around a boundary that may be learned.
    Margin(Margin),
    /// Hard DarkRank, listwise distillation.
    HardDarkRank(HardDarkRank),
    /// Similarities of rows, each divided by its norm.
    SimilarityPreserving(SimilarityPreserving),
    /// Correlations by a kernel.
    CorrelationCongruence(CorrelationCongruence),
    /// Cross entropy of logits.
    CrossEntropy(CrossEntropy),
    /// Prototypical, for episodes.
    Prototypical(Prototypical),
    /// Features through a learned linear map.
    LinearHint(LinearHint),
    /// FitNet's hint.
    Hint(Hint),
    /// Attention maps.
    AttentionTransfer(AttentionTransfer),
    /// Hinton's soft targets.
    SoftTargetKl(SoftTargetKl),
    /// Plain regression of features.
    FeatureRegression(FeatureRegression),
}

impl LossSpec {
    /// The kind.
    pub fn name(&self) -> &'static str {
        match self {
            LossSpec::RkdDistance(_) => "rkd-distance",
            LossSpec::RkdAngle(_) => "rkd-angle",
            LossSpec::TripletSquared(_) => "triplet-squared",
            LossSpec::TripletEuclidean(_) => "triplet-euclidean",
            LossSpec::Contrastive(_) => "contrastive",
            LossSpec::LiftedStructure(_) => "lifted-structure",
            LossSpec::NPairs(_) => "n-pairs",
            LossSpec::Angular(_) => "angular",
            LossSpec::Margin(_) => "margin",
            LossSpec::HardDarkRank(_) => "hard-dark-rank",
            LossSpec::SimilarityPreserving(_) => "similarity-preserving",
            LossSpec::CorrelationCongruence(_) => "correlation-congruence",
            LossSpec::CrossEntropy(_) => "cross-entropy",
            LossSpec::Prototypical(_) => "prototypical",
            LossSpec::LinearHint(_) => "linear-hint",
            LossSpec::Hint(_) => "hint",
            LossSpec::AttentionTransfer(_) => "attention-transfer",
            LossSpec::SoftTargetKl(_) => "soft-target-kl",
            LossSpec::FeatureRegression(_) => "feature-regression",
        }
    }

    /// Checks every option; the error names the one that is out of range.
    pub fn validate(&self) -> Result<()> {
        match self {
            LossSpec::RkdDistance(loss) => loss.validate(),
            LossSpec::RkdAngle(loss) => loss.validate(),
            LossSpec::TripletSquared(loss) => loss.validate(),
            LossSpec::TripletEuclidean(loss) => loss.validate(),
            LossSpec::Contrastive(loss) => loss.validate(),
            LossSpec::LiftedStructure(loss) => loss.validate(),
            LossSpec::NPairs(loss) => loss.validate(),
            LossSpec::Angular(loss) => loss.validate(),
            LossSpec::Margin(loss) => loss.validate(),
            LossSpec::HardDarkRank(loss) => loss.validate(),
            LossSpec::CorrelationCongruence(loss) => loss.validate(),
            LossSpec::CrossEntropy(loss) => loss.validate(),
            LossSpec::Prototypical(loss) => loss.validate(),
            LossSpec::SoftTargetKl(loss) => loss.validate(),
            LossSpec::SimilarityPreserving(_)
            | LossSpec::LinearHint(_)
            | LossSpec::Hint(_)
            | LossSpec::AttentionTransfer(_)
            | LossSpec::FeatureRegression(_) => Ok(()),
        }
    }

    /// The loss itself.
    fn build(&self) -> Box<dyn Loss> {
        match self.clone() {
            LossSpec::RkdDistance(loss) => Box::new(loss),
            LossSpec::RkdAngle(loss) => Box::new(loss),
            LossSpec::TripletSquared(loss) => Box::new(loss),
            LossSpec::TripletEuclidean(loss) => Box::new(loss),
            LossSpec::Contrastive(loss) => Box::new(loss),
            LossSpec::LiftedStructure(loss) => Box::new(loss),
            LossSpec::NPairs(loss) => Box::new(loss),
            LossSpec::Angular(loss) => Box::new(loss),
            LossSpec::Margin(loss) => Box::new(loss),
            LossSpec::HardDarkRank(loss) => Box::new(loss),
            LossSpec::SimilarityPreserving(loss) => Box::new(loss),
            LossSpec::CorrelationCongruence(loss) => Box::new(loss),
            LossSpec::CrossEntropy(loss) => Box::new(loss),
            LossSpec::Prototypical(loss) => Box::new(loss),
            LossSpec::LinearHint(loss) => Box::new(loss),
            LossSpec::Hint(loss) => Box::new(loss),
            LossSpec::AttentionTransfer(loss) => Box::new(loss),
            LossSpec::SoftTargetKl(loss) => Box::new(loss),
            LossSpec::FeatureRegression(loss) => Box::new(loss),
        }
    }
}
