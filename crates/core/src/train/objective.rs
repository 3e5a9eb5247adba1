//! The total loss: a weighted sum of terms over the features of one batch.

use std::collections::HashMap;

use super::event::Term;
use crate::error::{Code, Error, Result};
use crate::losses::{Feature, Loss, LossInputs, LossSpec};

/// The terms of the total loss, built once.
pub struct Objective {
    terms: Vec<WeightedTerm>,
}

struct WeightedTerm {
    name: String,
    weight: f64,
    loss: Box<dyn Loss>,
}

/// The total loss of a batch and its gradients.
#[derive(Debug)]
pub struct ObjectiveValue {
    /// The weighted sum.
    pub total: f64,
    /// Each term, in the plan's order.
    pub terms: Vec<Term>,
    /// The gradient of the total with respect to each feature that a term read, in order of first reading.
    pub gradients: Vec<(Feature, Vec<f64>)>,
}

impl Objective {
    /// Checks and builds the terms. A term of weight 0 is left out: it is never computed.
    pub fn new(specs: &[LossSpec]) -> Result<Objective> {
        let mut seen: HashMap<&str, usize> = HashMap::new();
        let mut terms = Vec::new();
        for spec in specs {
            spec.validate()?;
            let count = seen.entry(spec.name()).or_default();
            *count += 1;
            let name = if *count == 1 { spec.name().to_string() } else { format!("{}#{count}", spec.name()) };
            if spec.weight() != 0.0 {
                terms.push(WeightedTerm { name, weight: spec.weight(), loss: spec.build() });
            }
        }
        if terms.is_empty() {
            return Err(Error::new(Code::InvalidOption, "there is no loss to train with")
                .with_subject("losses")
                .with_values("at least one loss with a weight above 0", format!("{} with weight 0", specs.len()))
                .with_advice("add a loss, for example triplet, or rkd-distance and rkd-angle with a teacher"));
        }
        Ok(Objective { terms })
    }

    /// Whether any term reads the teacher.
    pub fn needs_teacher(&self) -> bool {
        self.terms.iter().any(|term| term.loss.needs_teacher())
    }

    /// Whether any term reads `feature` of the student.
    pub fn reads(&self, feature: &Feature) -> bool {
        self.terms.iter().any(|term| term.loss.reads() == *feature)
    }

    /// Computes every term and adds them up. A value that is not finite is an error that names `step` and term.
    pub fn evaluate(&self, inputs: &LossInputs<'_>, step: u64) -> Result<ObjectiveValue> {
        let mut value = ObjectiveValue { total: 0.0, terms: Vec::new(), gradients: Vec::new() };
        for term in &self.terms {
            let found = term.loss.evaluate(inputs)?;
            let finite = found.gradient.iter().all(|g| g.is_finite());
            if !found.value.is_finite() || !finite {
                return Err(non_finite(step, &term.name, found.value));
            }
            value.total += term.weight * found.value;
            value.terms.push(Term { name: term.name.clone(), weight: term.weight, value: found.value });
            add_weighted(&mut value.gradients, term.loss.reads(), &found.gradient, term.weight);
        }
        Ok(value)
    }
}

fn add_weighted(sums: &mut Vec<(Feature, Vec<f64>)>, feature: Feature, gradient: &[f64], weight: f64) {
    match sums.iter_mut().find(|(name, _)| *name == feature) {
        Some((_, sum)) => sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += weight * g),
        None => sums.push((feature, gradient.iter().map(|g| weight * g).collect())),
    }
}

fn non_finite(step: u64, term: &str, value: f64) -> Error {
    let what = if value.is_finite() { "its gradient" } else { "its value" };
    Error::new(Code::NonFinite, format!("the loss stopped being a number at step {step}: term {term}, {what}"))
        .with_values("finite numbers", format!("a value of {value}"))
        .with_advice("the last checkpoint is whole; resume with a smaller learning rate, or clip the gradient norm")
}
