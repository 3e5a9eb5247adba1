//! Margin loss (Wu, Manmatha, Smola, Krähenbühl 2017, section 4.2): positives nearer than a boundary, negatives farther.
//!
//! ```text
//! L = 1/A sum over triplets (a, p, q) of [ alpha + d_ap - beta ]+ + [ alpha - d_aq + beta ]+
//! ```
//! A counts the terms that are not 0 (at least 1), as the authors' released code divides; the paper writes a sum. d is
//! the guarded distance of [`super::distance`]; embeddings `[n, d]`, labels `[n]`. beta is the boundary, alpha half the
//! gap around it. The paper takes one distance-weighted negative for each positive
//! (`negatives: "distance-weighted"`); which triplets there are is [`Negatives`]' matter.
//!
//! With `learn_beta` the boundary is a parameter `beta` `[1, 1]` that starts at `beta`; the paper also learns one for
//! each class and image, and regularises them. Active positives push it up, active negatives down:
//!
//! ```text
//! dL/dd_ap = 1/A where active,   dL/dd_aq = -1/A where active,   dL/dbeta = (active negatives - active positives) / A
//! ```
//! Degenerate batches: without a triplet the value is 0; between coincident rows nothing flows.

use serde::{Deserialize, Serialize};

use super::distance::Distances;
use super::{Loss, LossInputs, LossParameter, LossValue, Matrix};
use crate::error::{Code, Error, Result};
use crate::input;
use crate::sampling::{Negatives, Sampler};
use crate::tensor::Init;

/// Options of `margin`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Margin {
    /// The boundary beta between near and far, positive; the paper's is 1.2, for embeddings of norm 1.
    #[serde(deserialize_with = "input::via::<input::Positive, _, _>")]
    pub beta: f64,
    /// How far from the boundary pairs must stay, positive; the paper's is 0.2.
    #[serde(deserialize_with = "input::via::<input::Positive, _, _>")]
    pub alpha: f64,
    /// Whether the boundary is learned.
    pub learn_beta: bool,
    /// Which negatives are taken.
    pub negatives: Negatives,
    /// With distance-weighted negatives: lets the weights underflow to uniform ones where a positive is near, as in the
    /// authors' released code. For comparisons with it; wide embeddings train better without.
    pub uniform_when_underflow: bool,
}

impl Default for Margin {
    fn default() -> Self {
        let negatives = Negatives::DistanceWeighted;
        Margin { beta: 1.2, alpha: 0.2, learn_beta: false, negatives, uniform_when_underflow: false }
    }
}

impl Margin {
    fn sampler(&self) -> Sampler {
        Sampler { negatives: self.negatives, uniform_when_underflow: self.uniform_when_underflow }
    }
}

impl Loss for Margin {
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

    fn parameters(&self, _student: &[usize], _teacher: Option<&[usize]>) -> Result<Vec<LossParameter>> {
        let beta = LossParameter { name: "beta", rows: 1, columns: 1, init: Init::Constant(self.beta) };
        Ok(if self.learn_beta { vec![beta] } else { Vec::new() })
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let (z, labels) = (inputs.student, inputs.labels()?);
        let beta = if self.learn_beta { learned(inputs.parameter(0)?)? } else { self.beta };
        let distances = Distances::guarded(inputs.team, z);
        let squared = |i, j| distances.squared(i, j);
        let pairs = self.sampler().pairs(inputs.team, z, labels, squared, &mut inputs.random.clone());
        let (mut sum, mut active, mut over_beta, mut slopes) = (0.0, 0.0, 0.0, distances.zeros());
        for (i, j, count) in pairs.iter() {
            let sign = if labels[i] == labels[j] { 1.0 } else { -1.0 };
            let violation = self.alpha + sign * (distances.at(i, j) - beta);
            if violation > 0.0 {
                sum += count * violation;
                active += count;
                over_beta -= sign * count;
                slopes[distances.place(i, j)] = sign * count;
            }
        }
        let share = 1.0 / f64::max(active, 1.0);
        slopes.iter_mut().for_each(|slope| *slope *= share);
        let mut found = LossValue::new(sum * share, distances.pull_back(inputs.team, slopes));
        if self.learn_beta {
            found.parameters.push(vec![over_beta * share]);
        }
        Ok(found)
    }
}

/// The boundary that is learned.
fn learned(beta: &Matrix) -> Result<f64> {
    match beta.data.as_slice() {
        [beta] => Ok(*beta),
        _ => Err(Error::new(Code::InvalidShape, "the margin has one boundary for all classes")
            .with_subject("beta")
            .with_values("[1, 1]", format!("{:?}", beta.shape()))
            .with_advice("give one number")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::*;

    #[test]
    fn equals_its_definition_over_triplets() {
        let (z, loss) = (naive::draw("margin"), Margin { negatives: Negatives::All, ..Margin::default() });
        let mut terms = Vec::new();
        for [a, p, q] in naive::triplets() {
            terms.push((loss.alpha + naive::distance(&z, a, p, 0.0) - loss.beta).max(0.0));
            terms.push((loss.alpha - naive::distance(&z, a, q, 0.0) + loss.beta).max(0.0));
        }
        let active = terms.iter().filter(|term| **term > 0.0).count();
        naive::expect(&loss, &z, None, terms.iter().sum::<f64>() / active as f64);
    }
}
