//! The losses: one file each, with maths, options, value, gradient and tests.
//!
//! A loss is a pure function of one feature of the student and, for many, the same of the teacher. It says which feature
//! it [reads](Loss::reads) unless a plan points it elsewhere, and returns its value and its gradient. The trainer adds the
//! weighted terms. All arithmetic is float64, on
//! features of n rows and d columns: a batch is small beside its network, and near neighbours cancel in float32.

mod angular;
mod attention_transfer;
mod class_pairs;
mod contrastive;
mod correlation_congruence;
mod cross_entropy;
mod distance;
mod embedding;
mod feature_regression;
mod gram;
mod hard_dark_rank;
mod hint;
mod inputs;
mod lifted_structure;
mod linear_hint;
mod maps;
mod margin;
mod n_pairs;
#[cfg(test)]
mod naive;
mod normalized;
pub mod portable;
mod prefixes;
mod projection;
mod prototypical;
mod relational;
mod rkd_angle;
mod rkd_distance;
mod similarity_preserving;
mod soft_target_kl;
mod spec;
mod triplet;
mod unit_rows;
mod weight;

pub use angular::Angular;
pub use attention_transfer::AttentionTransfer;
pub(crate) use attention_transfer::check_pixels;
pub use contrastive::Contrastive;
pub use correlation_congruence::{CorrelationCongruence, CorrelationKernel};
pub use cross_entropy::CrossEntropy;
pub use feature_regression::FeatureRegression;
pub use hard_dark_rank::HardDarkRank;
pub use hint::Hint;
pub use inputs::LossInputs;
pub use lifted_structure::LiftedStructure;
pub use linear_hint::LinearHint;
pub(crate) use maps::common_size;
pub use margin::Margin;
pub use n_pairs::NPairs;
pub use prefixes::Prefixes;
pub use prototypical::Prototypical;
pub use relational::{Reduction, huber};
pub use rkd_angle::RkdAngle;
pub use rkd_distance::RkdDistance;
pub use similarity_preserving::SimilarityPreserving;
pub use soft_target_kl::SoftTargetKl;
pub use spec::{LossSpec, TermOptions, TermSpec};
#[cfg(test)]
pub(crate) use spec::{Visitor, visit};
pub use triplet::{TripletEuclidean, TripletSquared};
pub use weight::{Course, Named, Weight};

use crate::error::{Code, Error, Result};
use crate::tensor::Init;
pub use crate::tensor::{Feature, FeatureMap, Matrix};

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
    /// learn none. A run asks before its first step, so a loss that wants features of certain shapes says so here.
    fn parameters(&self, _student: &[usize], _teacher: Option<&[usize]>) -> Result<Vec<LossParameter>> {
        Ok(Vec::new())
    }
    /// Whether those numbers stay as they were drawn.
    fn is_frozen(&self) -> bool {
        false
    }
    /// Whether it compares images of one class with each other and with those of other classes, so that a batch needs two
    /// of one class and one of another.
    fn needs_class_pairs(&self) -> bool {
        false
    }
    /// Whether it sees each image on its own, so that a batch needs no images of one class.
    fn sees_images_alone(&self) -> bool {
        false
    }
    /// Whether its published options assume embeddings of norm 1.
    fn wants_unit_norm(&self) -> bool {
        false
    }
    /// Checks what options say together; each alone is checked as it is read. The error's subject is the option.
    fn validate(&self) -> Result<()> {
        Ok(())
    }
    /// Whether the features must be maps, so that only taps will do.
    fn needs_maps(&self) -> bool {
        false
    }
    /// The form that a device computes where its features stay.
    fn on_device(&self) -> Option<OnDevice> {
        None
    }
    /// The value and the gradients for one batch.
    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue>;
}

/// A loss that devices compute too.
#[derive(Clone, Debug, PartialEq)]
pub enum OnDevice {
    /// Of maps, which are too large to be moved.
    Map(MapLoss),
    /// Of the relations of embeddings, whose triples are many.
    Relation(RelationLoss),
}

/// A loss that devices compute by [`RelationOperations`](crate::nn::backend::RelationOperations).
#[derive(Clone, Debug, PartialEq)]
pub enum RelationLoss {
    /// Of distances.
    Distance(RkdDistance),
    /// Of angles.
    Angle(RkdAngle),
}

/// A loss that devices compute by [`MapOperations`](crate::nn::backend::MapOperations).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapLoss {
    /// [`Hint`].
    Hint,
    /// [`AttentionTransfer`].
    AttentionTransfer,
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
    /// Its start.
    pub init: Init,
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

    /// Whether the value is finite and float32, in which networks learn, holds every gradient.
    pub fn is_finite(&self) -> bool {
        let mut gradients = self.parameters.iter().flatten().chain(&self.gradient);
        self.value.is_finite() && gradients.all(|&g| (g as f32).is_finite())
    }
}

/// Computes `spec` once, without its weight: what `evaluateLoss` does.
///
/// # Errors
/// Those of the loss; `ERR_NON_FINITE` for a value that is not finite or a gradient beyond float32.
pub fn evaluate_loss(spec: &TermSpec, inputs: &LossInputs<'_>) -> Result<LossValue> {
    let found = spec.build().evaluate(inputs)?;
    if found.is_finite() {
        return Ok(found);
    }
    Err(Error::new(Code::NonFinite, "the features are too large for this loss")
        .with_subject(spec.loss.name())
        .with_values(
            "a finite value with a gradient that float32 holds",
            format!("the value {:e} and a larger gradient", found.value),
        )
        .with_advice("normalise the features or scale them down"))
}
