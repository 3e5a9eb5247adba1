//! Contrastive loss (Hadsell, Chopra, LeCun 2006), over the pairs of triplets as in Park et al.'s released code.
//!
//! ```text
//! L = 1/(2T) sum over triplets (a, p, q) of d_ap^2 + [ m - d_aq ]+^2
//! ```
//! T triplets of anchor, positive, negative; d the offset distance of [`super::distance`]; embeddings `[n, d]`, labels
//! `[n]`, margin m. Each side weighs one half. With all negatives a positive pair counts once for every negative of its
//! anchor; Hadsell et al. take every pair once and halve the squares. Which triplets there are is
//! [`Negatives`]' matter.
//!
//! ```text
//! dL/dd_ap = d_ap / T,   dL/dd_aq = -[ m - d_aq ]+ / T
//! ```
//! Degenerate batches: without a triplet (one class, or no class twice) the value is 0; a collapsed batch has a finite
//! gradient, which pushes along the offset.

use serde::{Deserialize, Serialize};

use super::distance::Distances;
use super::{Loss, LossInputs, LossValue};
use crate::error::Result;
use crate::input;
use crate::sampling::{Negatives, Sampler};

/// Options of `contrastive`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Contrastive {
    /// The distance m beyond which a negative is far enough, positive; the released code's is 0.2.
    #[serde(deserialize_with = "input::via::<input::Positive, _, _>")]
    pub margin: f64,
    /// Which negatives are taken.
    pub negatives: Negatives,
    /// With distance-weighted negatives: lets the weights underflow to uniform ones where a positive is near, as in the
    /// authors' released code. For comparisons with it; wide embeddings train better without.
    pub uniform_when_underflow: bool,
}

impl Default for Contrastive {
    fn default() -> Self {
        Contrastive { margin: 0.2, negatives: Negatives::DistanceWeighted, uniform_when_underflow: false }
    }
}

impl Contrastive {
    fn sampler(&self) -> Sampler {
        Sampler { negatives: self.negatives, uniform_when_underflow: self.uniform_when_underflow }
    }
}

impl Loss for Contrastive {
    fn needs_labels(&self) -> bool {
        true
    }

    fn needs_class_pairs(&self) -> bool {
        true
    }

    fn wants_unit_norm(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<()> {
        self.sampler().validate()
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let (z, labels) = (inputs.student, inputs.labels()?);
        let distances = Distances::offset(inputs.team, z);
        let squared = |i, j| distances.squared(i, j);
        let pairs = self.sampler().pairs(inputs.team, z, labels, squared, &mut inputs.random.clone());
        let share = 1.0 / (2 * pairs.triplets).max(1) as f64;
        let (mut value, mut slopes) = (0.0, distances.zeros());
        for (i, j, count) in pairs.iter() {
            let d = distances.at(i, j);
            let (root, sign) = if labels[i] == labels[j] { (d, 1.0) } else { ((self.margin - d).max(0.0), -1.0) };
            value += count * share * root * root;
            slopes[distances.place(i, j)] = 2.0 * sign * count * share * root;
        }
        Ok(LossValue::new(value, distances.pull_back(inputs.team, slopes)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::*;

    #[test]
    fn equals_its_definition_over_triplets() {
        let z = naive::draw("contrastive");
        let loss = Contrastive { margin: 1.5, negatives: Negatives::All, ..Contrastive::default() };
        let mut terms = Vec::new();
        for [a, p, q] in naive::triplets() {
            terms.push(naive::distance(&z, a, p, 1e-6).powi(2));
            terms.push((loss.margin - naive::distance(&z, a, q, 1e-6)).max(0.0).powi(2));
        }
        naive::expect(&loss, &z, None, terms.iter().sum::<f64>() / terms.len() as f64);
    }
}
