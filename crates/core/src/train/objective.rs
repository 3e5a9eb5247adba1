//! The total loss: a weighted sum of terms over the features of one batch.

use std::collections::HashMap;

use rkd_kernels::Pool;

use super::event::Term;
use crate::error::{Code, Error, Result};
use crate::losses::{Feature, Loss, LossInputs, Matrix, TermSpec};
use crate::random::Random;

/// The terms of the total loss, built once.
pub struct Objective {
    terms: Vec<WeightedTerm>,
}

struct WeightedTerm {
    name: String,
    weight: f64,
    student: Feature,
    /// The teacher's feature, where the loss compares with one.
    teacher: Option<Feature>,
    loss: Box<dyn Loss>,
}

/// The features of one batch, and what else the terms use.
pub struct BatchFeatures<'a> {
    /// The student's features.
    pub student: Vec<(Feature, Matrix)>,
    /// The teacher's.
    pub teacher: Vec<(Feature, Matrix)>,
    /// The class of each row.
    pub labels: &'a [u32],
    /// The threads.
    pub pool: &'a Pool,
    /// The stream that random choices of this batch are drawn from.
    pub random: Random,
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
    pub fn new(specs: &[TermSpec]) -> Result<Objective> {
        let mut seen: HashMap<&str, usize> = HashMap::new();
        let mut terms = Vec::new();
        for spec in specs {
            spec.validate()?;
            let count = seen.entry(spec.loss.name()).or_default();
            *count += 1;
            let name = if *count == 1 { spec.loss.name().to_string() } else { format!("{}#{count}", spec.loss.name()) };
            if spec.weight != 0.0 {
                terms.push(WeightedTerm::new(name, spec));
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
        self.terms.iter().any(|term| term.teacher.is_some())
    }

    /// The student's features that terms read, each once.
    pub fn student_features(&self) -> Vec<Feature> {
        distinct(self.terms.iter().map(|term| &term.student))
    }

    /// The teacher's features that terms read, each once.
    pub fn teacher_features(&self) -> Vec<Feature> {
        distinct(self.terms.iter().filter_map(|term| term.teacher.as_ref()))
    }

    /// Computes every term and adds them up. A value that is not finite is an error that names `step` and term.
    pub fn evaluate(&self, batch: &BatchFeatures<'_>, step: u64) -> Result<ObjectiveValue> {
        let mut value = ObjectiveValue { total: 0.0, terms: Vec::new(), gradients: Vec::new() };
        for term in &self.terms {
            let student = find(&batch.student, &term.student, "student")?;
            let mut inputs = LossInputs::new(student, batch.pool, batch.random.clone()).with_labels(batch.labels);
            if let Some(feature) = &term.teacher {
                inputs = inputs.with_teacher(find(&batch.teacher, feature, "teacher")?);
            }
            let found = term.loss.evaluate(&inputs)?;
            let finite = found.gradient.iter().all(|g| g.is_finite());
            if !found.value.is_finite() || !finite {
                return Err(non_finite(step, &term.name, found.value));
            }
            value.total += term.weight * found.value;
            value.terms.push(Term { name: term.name.clone(), weight: term.weight, value: found.value });
            add_weighted(&mut value.gradients, &term.student, &found.gradient, term.weight);
        }
        Ok(value)
    }
}

impl WeightedTerm {
    fn new(name: String, spec: &TermSpec) -> Self {
        let loss = spec.loss.build();
        let student = spec.student_feature.clone().unwrap_or_else(|| loss.reads());
        let teacher = loss.needs_teacher().then(|| spec.teacher_feature.clone().unwrap_or_else(|| student.clone()));
        WeightedTerm { name, weight: spec.weight, student, teacher, loss }
    }
}

fn distinct<'f>(features: impl Iterator<Item = &'f Feature>) -> Vec<Feature> {
    let mut found: Vec<Feature> = Vec::new();
    for feature in features {
        if !found.contains(feature) {
            found.push(feature.clone());
        }
    }
    found
}

fn find<'m>(features: &'m [(Feature, Matrix)], feature: &Feature, who: &str) -> Result<&'m Matrix> {
    features.iter().find(|(name, _)| name == feature).map(|(_, matrix)| matrix).ok_or_else(|| {
        let names: Vec<&str> = features.iter().map(|(feature, _)| feature.name()).collect();
        Error::new(Code::InvalidShape, format!("the {who} has no feature {}", feature.name()))
            .with_subject(who)
            .with_values(format!("one of {}", names.join(", ")), feature.name())
    })
}

fn add_weighted(sums: &mut Vec<(Feature, Vec<f64>)>, feature: &Feature, gradient: &[f64], weight: f64) {
    match sums.iter_mut().find(|(name, _)| name == feature) {
        Some((_, sum)) => sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += weight * g),
        None => sums.push((feature.clone(), gradient.iter().map(|g| weight * g).collect())),
    }
}

fn non_finite(step: u64, term: &str, value: f64) -> Error {
    let what = if value.is_finite() { "its gradient" } else { "its value" };
    Error::new(Code::NonFinite, format!("the loss stopped being a number at step {step}: term {term}, {what}"))
        .with_values("finite numbers", format!("a value of {value}"))
        .with_advice("the last checkpoint is whole; resume with a smaller learning rate, or clip the gradient norm")
}
