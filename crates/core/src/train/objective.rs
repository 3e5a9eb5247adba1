//! The total loss: a weighted sum of terms over the features of one batch.
//!
//! A term whose loss compares with a teacher compares with every teacher of the run, or with the one that it names. The loss
//! is evaluated beside each, and what it says is the average: with s_k the weights of the teachers that a term compares with,
//! divided by their sum,
//!
//! ```text
//! L = sum_k s_k L(student, teacher_k)
//! ```
//! Lengths of embeddings may differ, since each L sees one teacher alone; so what a loss learns, as a hint's map, it learns
//! once for each teacher. With one teacher s = 1, and L is the loss itself, bit for bit.

use std::collections::btree_map::Entry;
use std::collections::{BTreeSet, HashMap};

use rkd_kernels::Team;

use super::balance::Balance;
use super::event::{ChosenWeight, Term};
use crate::error::{Code, Error, Result};
use crate::input;
use crate::losses::{
    Feature, FeatureMap, Loss, LossInputs, LossParameter, LossValue, Matrix, OnDevice, Prefixes, TermSpec, Weight,
};
use crate::nn::parameters::{Layout, ParameterSpec};
use crate::random::Random;
use crate::ranks::Ranks;

/// The terms of the total loss, built once.
pub struct Objective {
    terms: Vec<WeightedTerm>,
    /// The term that those with weight `"auto"` are balanced with.
    reference: Option<usize>,
    /// The longest prefix of the student's embedding that terms read; 0: none.
    longest_prefix: usize,
}

struct WeightedTerm {
    name: String,
    weight: Weight,
    student: Feature,
    /// The teachers' feature, where the loss compares with them.
    teacher: Option<Feature>,
    /// What the loss is evaluated beside.
    beside: Vec<Beside>,
    loss: Box<dyn Loss>,
    /// The prefixes of the student's embedding that it is evaluated on besides.
    prefixes: Option<Prefixes>,
    /// The form in which the device computes it; `None`: the host does.
    on_device: Option<OnDevice>,
}

/// One of those that a term is the average over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beside {
    /// The place of the teacher among those of the run; `None` for a loss that compares with none.
    pub teacher: Option<usize>,
    /// Its share; those of a term add up to 1.
    pub share: f64,
}

/// A term that the device computes.
pub struct DeviceTerm<'o> {
    /// Its place among the terms.
    pub term: usize,
    /// The loss.
    pub loss: &'o OnDevice,
    /// The student's feature.
    pub student: &'o Feature,
    /// The teachers' feature.
    pub teacher: &'o Feature,
    /// The teachers.
    pub beside: &'o [Beside],
}

/// The features of one batch, and what else the terms use.
pub struct BatchFeatures<'a> {
    /// The student's features.
    pub student: &'a FeatureMap<Matrix>,
    /// Those of each teacher.
    pub teachers: &'a [FeatureMap<Matrix>],
    /// The class of each row.
    pub labels: &'a [u32],
    /// The values of [`Objective::parameters`]; may be empty where no loss has any.
    pub parameters: &'a [Vec<Matrix>],
    /// The threads.
    pub team: &'a Team,
    /// The processes that have the same batch.
    pub ranks: Ranks,
    /// The stream that random choices of this batch are drawn from.
    pub random: Random,
}

/// A term that was computed, before weighting.
pub struct Evaluated {
    /// The place of the term.
    pub term: usize,
    value: f64,
    /// With respect to the features that it read; none where the device has them.
    gradients: FeatureMap<Vec<f64>>,
    /// With respect to the parameters of its loss.
    parameters: Vec<Vec<f64>>,
    /// Of the gradient with respect to the features.
    gradient_norm: f64,
}

impl Evaluated {
    /// The term's gradient alone, in the form of [`ObjectiveValue::gradients`].
    pub fn upstream(&self) -> FeatureMap<Vec<f64>> {
        self.gradients.clone()
    }
}

/// The total loss of a batch and its gradients.
#[derive(Debug)]
pub struct ObjectiveValue {
    /// The weighted sum.
    pub total: f64,
    /// Each term that was computed, in the plan's order.
    pub terms: Vec<Term>,
    /// The gradient of the total with respect to each feature that a term read.
    pub gradients: FeatureMap<Vec<f64>>,
    /// Of each term the gradients with respect to [`Objective::parameters`]; none where they do not change in this step, or
    /// are the device's.
    pub parameters: Vec<Vec<Vec<f64>>>,
}

impl Objective {
    /// Checks and builds the terms, for a run with `teachers`, each with its name and its weight. A term of weight 0 is left
    /// out: it is never computed.
    ///
    /// # Errors
    /// `ERR_INVALID_OPTION` for options out of range, no term, a teacher that is none of the run's.
    pub fn new(specs: &[TermSpec], teachers: &[(&str, f64)]) -> Result<Objective> {
        let mut seen: HashMap<&str, usize> = HashMap::new();
        let mut terms = Vec::new();
        for (place, spec) in specs.iter().enumerate() {
            spec.validate()?;
            let beside = beside(&format!("losses[{place}].teacher"), spec, teachers)?;
            let count = seen.entry(spec.loss.name()).or_default();
            *count += 1;
            let name = if *count == 1 { spec.loss.name().to_string() } else { format!("{}#{count}", spec.loss.name()) };
            if !spec.weight.is_off() {
                terms.push(WeightedTerm::new(name, spec, beside));
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
            _ => Ok(Objective { terms, reference, longest_prefix: 0 }),
        }
    }

    /// Evaluates the terms on the prefixes of these `lengths` of the student's embedding too; `unit`: whether its rows have
    /// the norm 1, so that a prefix is divided by its own. See [`Prefixes`].
    ///
    /// # Errors
    /// `ERR_INVALID_OPTION` where no term has anything to do with the embedding.
    pub fn with_prefixes(mut self, lengths: &[usize], unit: bool) -> Result<Objective> {
        for term in &mut self.terms {
            term.prefixes = Prefixes::of(&*term.loss, &term.student, lengths, unit);
        }
        if !lengths.is_empty() && self.terms.iter().all(|term| term.prefixes.is_none()) {
            let names: Vec<&str> = self.terms.iter().map(|term| term.name.as_str()).collect();
            return Err(Error::new(Code::InvalidOption, "no loss would train the prefixes")
                .with_subject("prefixes")
                .with_values("a loss that reads the embedding, or a classifier's", names.join(", "))
                .with_advice("add one, for example rkd-distance, or leave prefixes out"));
        }
        self.longest_prefix = lengths.iter().copied().max().unwrap_or_default();
        Ok(self)
    }

    /// Checks that an embedding of so many numbers is longer than the prefixes.
    ///
    /// # Errors
    /// `ERR_INVALID_OPTION`.
    pub fn check_prefixes(&self, embedding: usize) -> Result<()> {
        if self.longest_prefix == 0 || self.longest_prefix < embedding {
            return Ok(());
        }
        Err(Error::new(Code::InvalidOption, "a prefix is a part of the student's embedding")
            .with_subject("prefixes")
            .with_values(format!("lengths below {embedding}, the embedding's"), self.longest_prefix.to_string())
            .with_advice("the whole embedding is trained anyway; leave its length out, or make the embedding longer"))
    }

    /// Leaves the terms whose form for devices the device `computes` to it from now on.
    pub fn leave_to_device(&mut self, computes: impl Fn(&OnDevice) -> bool) {
        for term in self.terms.iter_mut().filter(|term| term.prefixes.is_none()) {
            term.on_device = term.loss.on_device().filter(&computes);
        }
    }

    /// Whether any term reads the teacher.
    pub fn needs_teacher(&self) -> bool {
        self.terms.iter().any(|term| term.teacher.is_some())
    }

    /// The student's features that terms read, each once.
    pub fn student_features(&self) -> Vec<Feature> {
        distinct(self.terms.iter().flat_map(WeightedTerm::student_features))
    }

    /// The features that terms read of the teacher at `place`, each once.
    pub fn teacher_features(&self, place: usize) -> Vec<Feature> {
        distinct(self.terms.iter().filter_map(|term| term.of_teacher(place)))
    }

    /// The student's features that terms read on the host, each once.
    pub fn host_student_features(&self) -> Vec<Feature> {
        distinct(self.host_terms().flat_map(WeightedTerm::student_features))
    }

    /// The features that terms read on the host of the teacher at `place`, each once.
    pub fn host_teacher_features(&self, place: usize) -> Vec<Feature> {
        distinct(self.host_terms().filter_map(|term| term.of_teacher(place)))
    }

    fn host_terms(&self) -> impl Iterator<Item = &WeightedTerm> {
        self.terms.iter().filter(|term| term.on_device.is_none())
    }

    /// The terms that the device computes and that have a weight in step `step` (from 0).
    pub fn device_terms(&self, step: u64) -> impl Iterator<Item = DeviceTerm<'_>> {
        let terms = self.terms.iter().enumerate().filter(move |(_, term)| term.weight.at(step) != Some(0.0));
        terms.filter_map(|(index, WeightedTerm { student, teacher, beside, on_device, .. })| {
            let (loss, teacher) = (on_device.as_ref()?, teacher.as_ref()?);
            Some(DeviceTerm { term: index, loss, student, teacher, beside })
        })
    }

    /// Whether a term compares the student's logits with those of the teacher at `place`, so that both must know the same
    /// classes.
    pub fn compares_logits(&self, place: usize) -> bool {
        let logits = |term: &WeightedTerm| term.of_teacher(place) == Some(&Feature::Logits);
        self.terms.iter().any(|term| term.student == Feature::Logits && logits(term))
    }

    /// Whether any weight is found by balancing.
    pub fn has_auto(&self) -> bool {
        self.terms.iter().any(WeightedTerm::is_auto)
    }

    /// Whether a term has the weight 0 in step `step`, and another one in others.
    pub fn rests(&self, step: u64) -> bool {
        self.terms.iter().any(|term| term.weight.at(step) == Some(0.0))
    }

    /// Checks that the networks offer what the terms read: `student`, and `teachers` in their order, have features of these
    /// shapes.
    ///
    /// # Errors
    /// `ERR_INVALID_OPTION` that names the loss, and lists the features there are.
    pub fn check(&self, student: &FeatureMap<Vec<usize>>, teachers: &[&FeatureMap<Vec<usize>>]) -> Result<()> {
        for term in &self.terms {
            term.check("student", "studentFeature", &term.student, student)?;
            for (place, teacher) in teachers.iter().enumerate() {
                if let Some(feature) = term.of_teacher(place) {
                    term.check("teacher", "teacherFeature", feature, teacher)?;
                }
            }
        }
        let embedding = student.get(&Feature::Embedding).and_then(|shape| shape.last());
        self.check_prefixes(embedding.copied().unwrap_or_default())
    }

    /// The parameters of each term's loss, `loss.hint.projection` for example: those beside the first teacher that it compares
    /// with, then those beside the next, `loss.hint.projection#2`.
    pub fn parameters(
        &self,
        student: &FeatureMap<Vec<usize>>,
        teachers: &[&FeatureMap<Vec<usize>>],
    ) -> Result<Vec<Vec<ParameterSpec>>> {
        self.terms.iter().map(|term| term.parameters(student, teachers)).collect()
    }

    /// Computes every term of the host that has a weight in step `step` (from 0). A value that is not finite is an error that names
    /// step and term.
    pub fn evaluate(&self, batch: &BatchFeatures<'_>, step: u64) -> Result<Vec<Evaluated>> {
        let mut all = Vec::new();
        for (index, term) in self.terms.iter().enumerate() {
            if term.on_device.is_some() || term.weight.at(step) == Some(0.0) {
                continue;
            }
            let (value, embedding) = term.evaluate(batch, batch.parameters.get(index).map_or(&[], Vec::as_slice))?;
            let finite = |gradient: &Vec<f64>| gradient.iter().all(|&g| (g as f32).is_finite());
            if !(value.is_finite() && embedding.iter().all(finite)) {
                return Err(non_finite(step + 1, &term.name, value.value));
            }
            let LossValue { value, gradient, parameters } = value;
            let mut gradients: FeatureMap<Vec<f64>> = [(term.student.clone(), gradient)].into();
            gradients.extend(embedding.map(|gradient| (Feature::Embedding, gradient)));
            let gradient_norm = gradients.values().flatten().map(|g| g * g).sum::<f64>().sqrt();
            all.push(Evaluated { term: index, value, gradients, parameters, gradient_norm });
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
        Ok(Evaluated { term: index, value, gradients: FeatureMap::new(), parameters: Vec::new(), gradient_norm })
    }

    /// The norms of all terms' gradients, in the form of [`Balance::add`], from those of the computed ones.
    pub fn norms(&self, evaluated: &[Evaluated], norms: &[f64]) -> Vec<f64> {
        let mut all = vec![0.0; self.terms.len()];
        evaluated.iter().zip(norms).for_each(|(term, norm)| all[term.term] = *norm);
        all
    }

    /// Adds up the terms with their weights in step `step` (from 0).
    pub fn weigh(&self, evaluated: Vec<Evaluated>, balance: &Balance, step: u64) -> ObjectiveValue {
        let mut total = ObjectiveValue {
            total: 0.0,
            terms: Vec::new(),
            gradients: FeatureMap::new(),
            parameters: vec![Vec::new(); self.terms.len()],
        };
        for Evaluated { term: index, value, gradients, parameters, gradient_norm } in evaluated {
            let (term, weight) = (&self.terms[index], self.weight(index, balance, step));
            total.total += weight * value;
            total.terms.push(Term { name: term.name.clone(), weight, value, gradient_norm });
            let weighted = |gradient: Vec<f64>| gradient.into_iter().map(|g| weight * g).collect::<Vec<f64>>();
            if !term.loss.is_frozen() {
                total.parameters[index] = parameters.into_iter().map(weighted).collect();
            }
            for (feature, gradient) in gradients {
                let gradient = weighted(gradient);
                match total.gradients.entry(feature) {
                    Entry::Occupied(mut sum) => sum.get_mut().iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g),
                    Entry::Vacant(sum) => drop(sum.insert(gradient)),
                }
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
    fn new(name: String, spec: &TermSpec, beside: Vec<Beside>) -> Self {
        let loss = spec.build();
        let student = spec.student_feature.clone().unwrap_or_else(|| loss.reads());
        let teacher = loss.needs_teacher().then(|| spec.teacher_feature.clone().unwrap_or_else(|| student.clone()));
        WeightedTerm { name, weight: spec.weight, student, teacher, beside, loss, prefixes: None, on_device: None }
    }

    /// The feature that it reads of the teacher at `place`, if it does.
    fn of_teacher(&self, place: usize) -> Option<&Feature> {
        self.teacher.as_ref().filter(|_| self.beside.iter().any(|beside| beside.teacher == Some(place)))
    }

    /// The average over the teachers, of the term's value with its gradient, and of the gradient with respect to the embedding
    /// where that is not the feature that it reads. `parameters` are those beside each teacher in turn.
    fn evaluate(&self, batch: &BatchFeatures<'_>, parameters: &[Matrix]) -> Result<(LossValue, Option<Vec<f64>>)> {
        let student = find(batch.student, &self.student, "student")?;
        let each = parameters.len() / self.beside.len().max(1);
        let mut total: Option<(LossValue, Option<Vec<f64>>)> = None;
        for (place, beside) in self.beside.iter().enumerate() {
            let own = &parameters[place * each..(place + 1) * each];
            let inputs = LossInputs::new(student, batch.team, batch.random.clone()).on(batch.ranks.clone());
            let mut inputs = inputs.with_labels(batch.labels);
            if let (Some(feature), Some(teacher)) = (&self.teacher, beside.teacher) {
                let features = batch.teachers.get(teacher).ok_or_else(|| no_teacher(teacher))?;
                inputs = inputs.with_teacher(find(features, feature, "teacher")?);
            }
            let (mut value, mut embedding) = match &self.prefixes {
                None => (self.loss.evaluate(&inputs.with_parameters(own))?, None),
                Some(prefixes) => {
                    let whole = find(batch.student, &Feature::Embedding, "student")?;
                    prefixes.evaluate(&*self.loss, &inputs, whole, own)?
                }
            };
            value.value *= beside.share;
            let gradients = embedding.iter_mut().chain([&mut value.gradient]).chain(&mut value.parameters);
            gradients.flatten().for_each(|g| *g *= beside.share);
            total = Some(match total {
                None => (value, embedding),
                Some((mut sum, of_embedding)) => {
                    sum.value += value.value;
                    add(&mut sum.gradient, &value.gradient);
                    sum.parameters.extend(value.parameters);
                    let of_embedding = of_embedding.zip(embedding).map(|(mut sum, more)| {
                        add(&mut sum, &more);
                        sum
                    });
                    (sum, of_embedding)
                }
            });
        }
        total.ok_or_else(|| no_teacher(0))
    }

    /// The student's features that it reads.
    fn student_features(&self) -> impl Iterator<Item = &Feature> {
        let classifiers = self.prefixes.as_ref().is_some_and(Prefixes::has_classifiers);
        [&self.student].into_iter().chain(classifiers.then_some(&Feature::Embedding))
    }

    /// The parameters of its loss beside each teacher in turn.
    fn parameters(
        &self,
        student: &FeatureMap<Vec<usize>>,
        teachers: &[&FeatureMap<Vec<usize>>],
    ) -> Result<Vec<ParameterSpec>> {
        let shape = |shapes: &FeatureMap<Vec<usize>>, feature| shapes.get(feature).cloned().unwrap_or_default();
        let student = shape(student, &self.student);
        let mut all = Vec::new();
        for (place, beside) in self.beside.iter().enumerate() {
            let teacher = beside.teacher.and_then(|teacher| teachers.get(teacher));
            let teacher = self.teacher.as_ref().zip(teacher).map(|(feature, teacher)| shape(teacher, feature));
            let number = if place == 0 { String::new() } else { format!("#{}", place + 1) };
            let spec = |prefix: &str, LossParameter { name, rows, columns, init }| ParameterSpec {
                name: format!("loss.{}{prefix}.{name}{number}", self.name),
                shape: vec![rows, columns],
                layout: Layout::Plain,
                init,
                rate: if self.loss.is_frozen() { 0.0 } else { 1.0 },
            };
            let parameters = self.loss.parameters(&student, teacher.as_deref())?;
            all.extend(parameters.into_iter().map(|parameter| spec("", parameter)));
            if let Some(prefixes) = &self.prefixes {
                let more = prefixes.parameters(&*self.loss, &student, teacher.as_deref())?;
                all.extend(more.into_iter().map(|(length, parameter)| spec(&format!(".{length}"), parameter)));
            }
        }
        Ok(all)
    }

    fn is_auto(&self) -> bool {
        matches!(self.weight, Weight::Named(_))
    }

    /// Whether `who`, a network with features of `shapes`, has `feature`, as a map where the loss needs one.
    fn check(&self, who: &str, option: &str, feature: &Feature, shapes: &FeatureMap<Vec<usize>>) -> Result<()> {
        let shape = shapes.get(feature);
        let fits = |shape: &Vec<usize>| !self.loss.needs_maps() || matches!(shape[..], [_, h, w, _] if h * w > 1);
        if shape.is_some_and(fits) {
            return Ok(());
        }
        let names = shapes.iter().filter(|(_, shape)| fits(shape)).map(|(feature, _)| feature.name());
        let names: Vec<&str> = names.collect();
        if names.is_empty() {
            let all: Vec<&str> = shapes.keys().map(Feature::name).collect();
            return Err(Error::new(Code::InvalidOption, format!("the loss compares maps, and the {who} has none"))
                .with_subject(format!("{}.{option}", self.name))
                .with_values(
                    format!("a {who} with maps inside"),
                    format!("{} of one with {}", feature.name(), all.join(", ")),
                )
                .with_advice("take a loss on embeddings, or networks of rkd with convolutions"));
        }
        let problem = match shape {
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

/// What the term `spec` is the average over, of `teachers` with their weights; its option `option` names one of them.
fn beside(option: &str, spec: &TermSpec, teachers: &[(&str, f64)]) -> Result<Vec<Beside>> {
    if !spec.build().needs_teacher() {
        return Ok(vec![Beside { teacher: None, share: 1.0 }]);
    }
    let names: Vec<&str> = teachers.iter().map(|(name, _)| *name).collect();
    // Where there is none at all, that is the error.
    let named = spec.teacher.as_ref().filter(|_| !names.is_empty());
    let named = named.map(|name| input::one_of(option, &name.clone().into(), &names)).transpose()?;
    let compared = || teachers.iter().enumerate().filter(|(_, (name, _))| named.is_none_or(|named| named == *name));
    let sum: f64 = compared().map(|(_, (_, weight))| weight).sum();
    Ok(compared().map(|(place, (_, weight))| Beside { teacher: Some(place), share: weight / sum }).collect())
}

fn add(sum: &mut [f64], more: &[f64]) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

fn no_teacher(place: usize) -> Error {
    Error::new(Code::Internal, format!("a term compares with the teacher {place}, and there is none"))
}

/// The features that a step needs: those that losses read, and the embedding, which is watched for a collapse.
pub(super) fn with_embedding(mut features: Vec<Feature>) -> Vec<Feature> {
    if !features.contains(&Feature::Embedding) {
        features.push(Feature::Embedding);
    }
    features
}

fn distinct<'f>(features: impl Iterator<Item = &'f Feature>) -> Vec<Feature> {
    features.collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

fn find<'m>(features: &'m FeatureMap<Matrix>, feature: &Feature, who: &str) -> Result<&'m Matrix> {
    features.get(feature).ok_or_else(|| {
        let names: Vec<&str> = features.keys().map(Feature::name).collect();
        Error::new(Code::InvalidShape, format!("the {who} has no feature {}", feature.name()))
            .with_subject(who)
            .with_values(format!("one of {}", names.join(", ")), feature.name())
    })
}

fn non_finite(step: u64, term: &str, value: f64) -> Error {
    let what = if value.is_finite() { "its gradient" } else { "its value" };
    Error::new(Code::NonFinite, format!("the loss stopped being a number at step {step}: term {term}, {what}"))
        .with_values("finite numbers", format!("a value of {value}"))
        .with_advice("the last checkpoint is whole; resume with a smaller learning rate, or clip the gradient norm")
}
