//! The losses and the terms of the total loss as plans and `evaluateLoss` write them.

use serde::{Deserialize, Serialize};

use super::{
    Angular, AttentionTransfer, Contrastive, CorrelationCongruence, CrossEntropy, Feature, FeatureRegression,
    HardDarkRank, Hint, LiftedStructure, LinearHint, Loss, Margin, NPairs, Prototypical, RkdAngle, RkdDistance,
    SimilarityPreserving, SoftTargetKl, TripletEuclidean, TripletSquared, Weight, normalized::Normalized,
};
use crate::error::Result;
use crate::input::{self, At, Text};

/// One term of the total loss: a loss, its weight and the features it reads.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TermSpec {
    /// The loss.
    #[serde(flatten)]
    pub loss: LossSpec,
    /// Factor in the sum; a term of weight 0 is not computed.
    pub weight: Weight,
    /// The student's feature it reads; absent: [`Loss::reads`]. A loss on rows takes a map as one long row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub student_feature: Option<Feature>,
    /// The teacher's feature it reads; absent: the student's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher_feature: Option<Feature>,
    /// The name of the teacher that it compares with; absent: the average over all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<String>,
    /// Whether the loss sees rows divided by their norm, those of the teacher too.
    pub normalize: bool,
}

/// What every term of the total loss has beside the options of its loss.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields, rename = "TeacherTermOptions"))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TermOptions {
    /// Factor in the sum, at least 0; a term of weight 0 is not computed. @default 1
    pub weight: Option<Weight>,
    /// The student's feature that the term reads: `"embedding"`, `"pooled"` (before the embedding layer), `"logits"`, or a
    /// tap, the name of a map inside the network (`"blocks.3"` of Conv-4, `"layer3"` of a ResNet). A loss on rows takes a
    /// map as one long row. @default the loss's own, said at each
    #[cfg_attr(test, ts(as = "Option<String>"))]
    pub student_feature: Option<Feature>,
    /// The teacher's feature that the term reads, of losses that compare with one. @default that of the student
    #[cfg_attr(test, ts(as = "Option<String>"))]
    pub teacher_feature: Option<Feature>,
    /// The name of the teacher that the term compares with, of losses that compare with one. @default all teachers: the term
    /// is the average over them, by their weights
    #[cfg_attr(test, ts(as = "Option<String>"))]
    pub teacher: Option<Text>,
    /// Whether the loss sees rows divided by their L2 norm, those of the teacher too, a map being one long row. The network's
    /// output stays as it is: that is the backbone's `normalize`. @default false
    pub normalize: Option<bool>,
}

impl TermSpec {
    /// A term of weight 1 that reads what the loss reads by itself.
    pub fn new(loss: LossSpec) -> Self {
        let weight = Weight::Number(1.0);
        TermSpec { loss, weight, student_feature: None, teacher_feature: None, teacher: None, normalize: false }
    }

    /// The loss itself, on normalised features where the term says so.
    pub fn build(&self) -> Box<dyn Loss> {
        let loss = self.loss.build();
        if self.normalize { Box::new(Normalized(loss)) } else { loss }
    }

    /// Checks every option of a term that was not read from JSON, which checks them too.
    ///
    /// # Errors
    /// `ERR_INVALID_OPTION` that names the option, `rkd-angle.delta`.
    pub fn validate(&self) -> Result<()> {
        input::read::<TermSpec>(self.loss.name(), &input::write(self)?).map(drop)
    }

    fn read(mut at: At) -> Result<TermSpec> {
        let kind = at.take_kind(LossSpec::KINDS, "a loss, for example triplet()")?;
        let (own, common) = (LossSpec::options(kind), input::fields_of::<TermOptions>());
        let term = at.split(common);
        let options = at.split(own);
        let loss = LossSpec::read(kind, &options)?;
        let built = loss.build();
        let known: Vec<&str> =
            common.iter().filter(|name| built.needs_teacher() || !TEACHER.contains(name)).chain(own).copied().collect();
        let given =
            [&at, &term].into_iter().flat_map(|at| at.value.as_object().into_iter().flat_map(|fields| fields.keys()));
        if let Some(strange) = given.into_iter().find(|name| !known.contains(&name.as_str())) {
            return Err(input::unknown(&at.path, strange, &known));
        }
        built.validate().map_err(|error| at.place(error))?;
        let TermOptions { weight, student_feature, teacher_feature, teacher, normalize } = term.read()?;
        let (weight, normalize) = (weight.unwrap_or(Weight::Number(1.0)), normalize.unwrap_or(false));
        let teacher = teacher.map(String::from);
        Ok(TermSpec { loss, weight, student_feature, teacher_feature, teacher, normalize })
    }

    /// Refuses a term without a tap whose loss compares maps. `name` is what errors call the term.
    pub fn check_tap(&self, name: &str) -> Result<()> {
        if !self.loss.build().needs_maps() || self.student_feature.is_some() {
            return Ok(());
        }
        let subject = format!("{name}.studentFeature");
        Err(input::invalid(subject, "a tap, for example \"blocks.3\" or \"layer3\"", "undefined"))
    }
}

/// The options that only losses with a teacher have.
const TEACHER: [&str; 2] = ["teacherFeature", "teacher"];

impl<'de> Deserialize<'de> for TermSpec {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<TermSpec, D::Error> {
        TermSpec::read(At::deserialize(deserializer)?).map_err(input::carry)
    }
}

/// Who wants to know the type of every loss.
#[cfg(test)]
pub(crate) trait Visitor {
    /// The loss `kind`, whose options are `T`, with what it is.
    fn loss<T: ts_rs::TS + serde::de::DeserializeOwned>(&mut self, kind: &'static str, docs: &[&str]);
}

/// The registry: a loss is a line with its kind, its type and what it is in a sentence, which TypeScript shows.
macro_rules! losses {
    ($($(#[doc = $doc:literal])* $kind:literal => $loss:ident,)*) => {
        /// A kind of loss with its options. In JSON the kind stands in `kind`, the options beside it in camelCase.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(tag = "kind")]
        pub enum LossSpec {$(
            $(#[doc = $doc])*
            #[serde(rename = $kind)]
            $loss($loss),
        )*}

        impl LossSpec {
            /// The kinds there are.
            pub const KINDS: &'static [&'static str] = &[$($kind),*];

            /// The kind.
            pub fn name(&self) -> &'static str {
                match self {
                    $(LossSpec::$loss(_) => $kind,)*
                }
            }

            /// The loss itself.
            pub fn build(&self) -> Box<dyn Loss> {
                match self.clone() {
                    $(LossSpec::$loss(loss) => Box::new(loss),)*
                }
            }

            /// Whether the loss `kind` compares with a teacher.
            pub fn compares(kind: &str) -> bool {
                // None of these has an option that must be given.
                let term = input::read::<TermSpec>("", &serde_json::json!({ "kind": kind }));
                term.is_ok_and(|term| term.build().needs_teacher())
            }

            /// The names of the options of `kind`.
            fn options(kind: &str) -> &'static [&'static str] {
                match kind {
                    $($kind => input::fields_of::<$loss>(),)*
                    _ => &[],
                }
            }

            fn read(kind: &'static str, at: &At) -> Result<LossSpec> {
                match kind {
                    $($kind => Ok(LossSpec::$loss(at.read()?)),)*
                    _ => Err(input::invalid(&at.path, "a loss", kind)),
                }
            }
        }

        /// Shows `visitor` every loss, in the order of the registry.
        #[cfg(test)]
        pub(crate) fn visit(visitor: &mut impl Visitor) {
            $(visitor.loss::<$loss>($kind, &[$($doc),*]);)*
        }
    };
}

losses! {
    /// RKD-D: keeps the teacher's pairwise distances, each side divided by its own mean (Park et al. 2019, equations 3-5).
    "rkd-distance" => RkdDistance,
    /// RKD-A: keeps the teacher's angles at every vertex of every triple (Park et al. 2019, equations 6 and 7).
    "rkd-angle" => RkdAngle,
    /// Hard DarkRank (Chen et al. 2018) as in the authors' released code: the likelihood that the student's scores
    /// `-alpha * distance ** beta` give to the teacher's order of the nearest items. Meant for embeddings of norm 1.
    "hard-dark-rank" => HardDarkRank,
    /// Similarity-preserving distillation (Tung, Mori 2019): keeps the teacher's matrix of inner products of items, every row
    /// of it divided by its norm. Reads the embedding.
    "similarity-preserving" => SimilarityPreserving,
    /// Correlation congruence (Peng et al. 2019): keeps the teacher's matrix of a kernel between items. Reads the embedding.
    "correlation-congruence" => CorrelationCongruence,
    /// Triplet loss as in the paper: squared distances, margin 0.2, distance-weighted negatives.
    "triplet-squared" => TripletSquared,
    /// Triplet loss as in the authors' released code: plain distances, margin 0.2, distance-weighted negatives.
    "triplet-euclidean" => TripletEuclidean,
    /// Contrastive loss (Hadsell et al. 2006) over the pairs of triplets, as in the authors' released code.
    "contrastive" => Contrastive,
    /// Lifted structure (Oh Song et al. 2016, equation 4): every positive pair against all negatives of both its ends.
    "lifted-structure" => LiftedStructure,
    /// Multi-class N-pair loss (Sohn 2016) on the first two rows of each class in the batch, the anchor and the positive.
    /// Inner products want embeddings that are not normalised; batches of two images a class (`batch.perClass`) waste none.
    "n-pairs" => NPairs,
    /// Angular loss (Wang et al. 2017, equation 8) on the same pairs as {@link nPairs}, which the paper adds to it.
    "angular" => Angular,
    /// Margin loss (Wu et al. 2017): positives nearer than `beta - alpha`, negatives farther than `beta + alpha`.
    "margin" => Margin,
    /// Cross entropy of a linear classifier on the embedding. Reads the logits.
    "cross-entropy" => CrossEntropy,
    /// Prototypical networks (Snell et al. 2017). The rows are an episode: first `supportCount` support rows of each class,
    /// class by class, then as many queries of each class, class by class. A run makes such batches with `batch: { episode }`.
    "prototypical" => Prototypical,
    /// Conventional distillation: the squared distance of the teacher's feature from a learned linear map of the student's,
    /// mean over images. Reads the embedding.
    "linear-hint" => LinearHint,
    /// FitNet's hint (Romero et al. 2015): mean squared error of the teacher's map from the student's through a learned 1x1
    /// convolution. Reads the embedding; name taps for maps. Maps of different sizes are averaged to the smaller.
    "hint" => Hint,
    /// Attention transfer (Zagoruyko, Komodakis 2017) between two taps, as in the code of Park et al., whose weight is 50.
    /// Maps of different sizes are averaged to the smaller.
    "attention-transfer" => AttentionTransfer,
    /// Soft targets (Hinton et al. 2015): T^2 times the Kullback-Leibler divergence of the student's class probabilities from
    /// the teacher's, at temperature T. Reads the logits; the teacher must have been trained with cross entropy on the same
    /// classes. The factor T^2 is inside: the weight 16 of Park et al. at T = 4 is weight 1 here.
    "soft-target-kl" => SoftTargetKl,
    /// Regression of the teacher's feature where the student's has the same shape: the squared distance, mean over images.
    /// Reads the embedding.
    "feature-regression" => FeatureRegression,
}
