//! The total loss: a weighted sum of terms over the features of one batch.

use std::collections::HashMap;

use rkd_kernels::Pool;

use super::balance::Balance;
use super::event::{ChosenWeight, Term};
use crate::error::{Code, Error, Result};
use crate::losses::{Feature, Loss, LossInputs, LossParameter, LossValue, MapLoss, Matrix, TermSpec, Weight};
use crate::random::Random;

/// The terms of the total loss, built once.
pub struct Objective {
    terms: Vec<WeightedTerm>,
    /// The term that those with weight `"auto"` are balanced with.
    reference: Option<usize>,
}

struct WeightedTerm {
    name: String,
    weight: Weight,
    student: Feature,
    /// The teacher's feature, where the loss compares with one.
    teacher: Option<Feature>,
    loss: Box<dyn Loss>,
    /// The form in which the device computes it; `None`: the host does.
    on_device: Option<MapLoss>,
}

/// A term that the device computes.
pub struct DeviceTerm<'o> {
    /// Its place among the terms.
    pub term: usize,
    /// The loss.
    pub loss: MapLoss,
    /// The student's feature.
    pub student: &'o Feature,
    /// The teacher's feature.
    pub teacher: &'o Feature,
}

/// What a network offers: every feature, with its shape for one image.
pub type Shapes = Vec<(Feature, Vec<usize>)>;

/// A parameter of a term's loss.
#[derive(Clone, Debug, PartialEq)]
pub struct TermParameter {
    /// `loss.hint.projection`, for example.
    pub name: String,
    /// Whether it stays as it was drawn.
    pub frozen: bool,
    /// What it is.
    pub parameter: LossParameter,
    /// The place of its term.
    pub term: usize,
}

/// The features of one batch, and what else the terms use.
pub struct BatchFeatures<'a> {
    /// The student's features.
    pub student: &'a [(Feature, Matrix)],
    /// The teacher's.
    pub teacher: &'a [(Feature, Matrix)],
    /// The class of each row.
    pub labels: &'a [u32],
    /// The values of [`Objective::parameters`].
    pub parameters: &'a [Matrix],
    /// The threads.
    pub pool: &'a Pool,
    /// The stream that random choices of this batch are drawn from.
    pub random: Random,
}

/// A term that was computed, before weighting.
pub struct Evaluated {
    /// The place of the term.
    pub term: usize,
    feature: Feature,
    /// Without gradients where the device has them.
    value: LossValue,
    /// Of the gradient with respect to the feature.
    gradient_norm: f64,
}

impl Evaluated {
    /// The term's gradient alone, in the form of [`ObjectiveValue::gradients`].
    pub fn upstream(&self) -> Vec<(Feature, Vec<f64>)> {
        vec![(self.feature.clone(), self.value.gradient.clone())]
    }
}

/// The total loss of a batch and its gradients.
#[derive(Debug)]
pub struct ObjectiveValue {
    /// The weighted sum.
    pub total: f64,
    /// Each term that was computed, in the plan's order.
    pub terms: Vec<Term>,
    /// The gradient of the total with respect to each feature that a term read, in order of first reading.
    pub gradients: Vec<(Feature, Vec<f64>)>,
    /// The gradient with respect to each of [`Objective::parameters`]; `None` for those that do not change in this step.
    pub parameters: Vec<Option<Vec<f64>>>,
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
            if !spec.weight.is_off() {
                terms.push(WeightedTerm::new(name, spec));
            }
        }
        if terms.is_empty() {
            return Err(Error::new(Code::InvalidOption, "there is no loss to train with")
                .with_subject("losses")
                .with_values("at least one loss with a weight above 0", format!("{} with weight 0", specs.len()))
                .with_advice("add a loss, for example triplet, or rkd-distance and rkd-angle with a teacher"));
        }
        let reference = terms.iter().position(|term| matches!(term.weight, Weight::Number(_)));
        match terms.iter().find(|term| term.is_auto()) {
            Some(term) if reference.is_none() => {
                Err(Error::new(Code::InvalidOption, "there is nothing to balance with")
                    .with_subject(format!("{}.weight", term.name))
                    .with_values("another loss whose weight is a number", "no such loss")
                    .with_advice("give one of the losses the weight 1"))
            }
            _ => Ok(Objective { terms, reference }),
        }
    }

    /// Leaves the terms that have a form for devices to the device from now on.
    pub fn leave_to_device(&mut self) {
        self.terms.iter_mut().for_each(|term| term.on_device = term.loss.map_loss());
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

    /// The student's features that terms read on the host, each once.
    pub fn host_student_features(&self) -> Vec<Feature> {
        distinct(self.host_terms().map(|term| &term.student))
    }

    /// The teacher's features that terms read on the host, each once.
    pub fn host_teacher_features(&self) -> Vec<Feature> {
        distinct(self.host_terms().filter_map(|term| term.teacher.as_ref()))
    }

    fn host_terms(&self) -> impl Iterator<Item = &WeightedTerm> {
        self.terms.iter().filter(|term| term.on_device.is_none())
    }

    /// The terms that the device computes and that have a weight in step `step` (from 0).
    pub fn device_terms(&self, step: u64) -> impl Iterator<Item = DeviceTerm<'_>> {
        let terms = self.terms.iter().enumerate().filter(move |(_, term)| term.weight.at(step) != Some(0.0));
        terms.filter_map(|(index, WeightedTerm { student, teacher, on_device, .. })| {
            let (loss, teacher) = ((*on_device)?, teacher.as_ref()?);
            Some(DeviceTerm { term: index, loss, student, teacher })
        })
    }

    /// Whether a term compares the logits of both networks, so that both must know the same classes.
    pub fn compares_logits(&self) -> bool {
        self.terms.iter().any(|term| term.student == Feature::Logits && term.teacher == Some(Feature::Logits))
    }

    /// Whether any weight is found by balancing.
    pub fn has_auto(&self) -> bool {
        self.terms.iter().any(WeightedTerm::is_auto)
    }

    /// Whether a term has the weight 0 in step `step`, and another one in others.
    pub fn rests(&self, step: u64) -> bool {
        self.terms.iter().any(|term| term.weight.at(step) == Some(0.0))
    }

    /// Checks that the networks offer what the terms read.
    ///
    /// # Errors
    /// `ERR_INVALID_OPTION` that names the loss, and lists the features there are.
    pub fn check(&self, student: &Shapes, teacher: Option<&Shapes>) -> Result<()> {
        for term in &self.terms {
            term.check("student", "studentFeature", &term.student, student)?;
            if let (Some(feature), Some(teacher)) = (&term.teacher, teacher) {
                term.check("teacher", "teacherFeature", feature, teacher)?;
            }
        }
        Ok(())
    }

    /// The parameters of all losses, in the order of the terms.
    pub fn parameters(&self, student: &Shapes, teacher: Option<&Shapes>) -> Result<Vec<TermParameter>> {
        let mut all = Vec::new();
        for (index, term) in self.terms.iter().enumerate() {
            let teacher = term.teacher.as_ref().zip(teacher).map(|(feature, teacher)| shape_of(teacher, feature));
            let found = term.loss.parameters(shape_of(student, &term.student), teacher)?;
            all.extend(found.into_iter().map(|parameter| TermParameter {
                name: format!("loss.{}.{}", term.name, parameter.name),
                frozen: term.loss.is_frozen(),
                parameter,
                term: index,
            }));
        }
        Ok(all)
    }

    /// Computes every term of the host that has a weight in step `step` (from 0). A value that is not finite is an error that names
    /// step and term. `parameters` are those of [`Objective::parameters`].
    pub fn evaluate(
        &self,
        batch: &BatchFeatures<'_>,
        parameters: &[TermParameter],
        step: u64,
    ) -> Result<Vec<Evaluated>> {
        let mut all = Vec::new();
        for (index, term) in self.terms.iter().enumerate() {
            if term.on_device.is_some() || term.weight.at(step) == Some(0.0) {
                continue;
            }
            let student = find(batch.student, &term.student, "student")?;
            // Parameters come in the order of the terms.
            let first = parameters.partition_point(|parameter| parameter.term < index);
            let own = &batch.parameters[first..parameters.partition_point(|parameter| parameter.term <= index)];
            let mut inputs = LossInputs::new(student, batch.pool, batch.random.clone()).with_labels(batch.labels);
            if let Some(feature) = &term.teacher {
                inputs = inputs.with_teacher(find(batch.teacher, feature, "teacher")?);
            }
            let value = term.loss.evaluate(&inputs.with_parameters(own))?;
            if !value.is_finite() {
                return Err(non_finite(step + 1, &term.name, value.value));
            }
            let gradient_norm = value.gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            all.push(Evaluated { term: index, feature: term.student.clone(), value, gradient_norm });
        }
        Ok(all)
    }

    /// A term that the device has computed, from its value and the norm of its gradient.
    ///
    /// # Errors
    /// As [`Objective::evaluate`].
    pub fn evaluated(&self, index: usize, value: f64, gradient_norm: f64, step: u64) -> Result<Evaluated> {
        let term = &self.terms[index];
        if !(value.is_finite() && gradient_norm.is_finite()) {
            return Err(non_finite(step + 1, &term.name, value));
        }
        let value = LossValue { value, ..LossValue::default() };
        Ok(Evaluated { term: index, feature: term.student.clone(), value, gradient_norm })
    }

    /// The norms of all terms' gradients, in the form of [`Balance::add`], from those of the computed ones.
    pub fn norms(&self, evaluated: &[Evaluated], norms: &[f64]) -> Vec<f64> {
        let mut all = vec![0.0; self.terms.len()];
        evaluated.iter().zip(norms).for_each(|(term, norm)| all[term.term] = *norm);
        all
    }

    /// Adds up the terms with their weights in step `step` (from 0).
    pub fn weigh(
        &self,
        evaluated: Vec<Evaluated>,
        parameters: &[TermParameter],
        balance: &Balance,
        step: u64,
    ) -> ObjectiveValue {
        let mut total = ObjectiveValue {
            total: 0.0,
            terms: Vec::new(),
            gradients: Vec::new(),
            parameters: vec![None; parameters.len()],
        };
        for Evaluated { term: index, feature, value, gradient_norm } in evaluated {
            let weight = self.weight(index, balance, step);
            total.total += weight * value.value;
            total.terms.push(Term { name: self.terms[index].name.clone(), weight, value: value.value, gradient_norm });
            let own = parameters.iter().zip(&mut total.parameters).filter(|(parameter, _)| parameter.term == index);
            for ((parameter, slot), gradient) in own.zip(&value.parameters) {
                *slot = (!parameter.frozen).then(|| gradient.iter().map(|g| weight * g).collect());
            }
            if self.terms[index].on_device.is_none() {
                add_weighted(&mut total.gradients, feature, value.gradient, weight);
            }
        }
        total
    }

    /// The weights that balancing has found.
    pub fn chosen(&self, balance: &Balance) -> Vec<ChosenWeight> {
        let auto = self.terms.iter().enumerate().filter(|(_, term)| term.is_auto());
        auto.map(|(index, term)| ChosenWeight { name: term.name.clone(), weight: self.weight(index, balance, 0) })
            .collect()
    }

    /// The weight of a term in step `step` (from 0).
    pub fn weight(&self, index: usize, balance: &Balance, step: u64) -> f64 {
        match (self.terms[index].weight.at(step), self.reference) {
            (Some(weight), _) => weight,
            (None, Some(reference)) => {
                self.terms[reference].weight.at(step).unwrap_or(1.0) * balance.ratio(reference, index)
            }
            (None, None) => 1.0,
        }
    }
}

impl WeightedTerm {
    fn new(name: String, spec: &TermSpec) -> Self {
        let loss = spec.build();
        let student = spec.student_feature.clone().unwrap_or_else(|| loss.reads());
        let teacher = loss.needs_teacher().then(|| spec.teacher_feature.clone().unwrap_or_else(|| student.clone()));
        WeightedTerm { name, weight: spec.weight, student, teacher, loss, on_device: None }
    }

    fn is_auto(&self) -> bool {
        matches!(self.weight, Weight::Named(_))
    }

    /// Whether `who` offers `feature`, as a map where the loss needs one.
    fn check(&self, who: &str, option: &str, feature: &Feature, offered: &Shapes) -> Result<()> {
        let found = offered.iter().find(|(name, _)| name == feature);
        let fits = |shape: &Vec<usize>| !self.loss.needs_maps() || matches!(shape[..], [_, h, w, _] if h * w > 1);
        if found.is_some_and(|(_, shape)| fits(shape)) {
            return Ok(());
        }
        let names: Vec<&str> = offered.iter().filter(|(_, s)| fits(s)).map(|(feature, _)| feature.name()).collect();
        let problem = match found {
            Some(_) => "the loss compares maps, and this is none of more than one pixel".to_string(),
            None => format!("the {who} has no such feature"),
        };
        let advice = match (feature, who) {
            (Feature::Logits, "teacher") => "use a teacher that was trained with cross entropy, so that it has classes",
            _ => "choose one of these",
        };
        Err(Error::new(Code::InvalidOption, problem)
            .with_subject(format!("{}.{option}", self.name))
            .with_values(format!("one of {}", names.join(", ")), feature.name())
            .with_advice(advice))
    }
}

fn shape_of<'s>(shapes: &'s Shapes, feature: &Feature) -> &'s [usize] {
    shapes.iter().find(|(name, _)| name == feature).map(|(_, shape)| shape.as_slice()).unwrap_or_default()
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

fn add_weighted(sums: &mut Vec<(Feature, Vec<f64>)>, feature: Feature, mut gradient: Vec<f64>, weight: f64) {
    gradient.iter_mut().for_each(|g| *g *= weight);
    match sums.iter_mut().find(|(name, _)| *name == feature) {
        Some((_, sum)) => sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g),
        None => sums.push((feature, gradient)),
    }
}

fn non_finite(step: u64, term: &str, value: f64) -> Error {
    let what = if value.is_finite() { "its gradient" } else { "its value" };
    Error::new(Code::NonFinite, format!("the loss stopped being a number at step {step}: term {term}, {what}"))
        .with_values("finite numbers", format!("a value of {value}"))
        .with_advice("the last checkpoint is whole; resume with a smaller learning rate, or clip the gradient norm")
}
