//! A session: one network being trained, segment by segment, by a caller who decides what comes next.
//!
//! ```text
//! open -> [ train(until) -> evaluate -> save_checkpoint ]* -> save_model
//! ```
//! One step, top to bottom, is `Session::step`: batch -> student forward -> teacher -> losses -> backward -> update.
//! Everything random is keyed by the step's position, so a session that was opened from a checkpoint continues with the
//! same bits, on any number of threads.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rkd_kernels::Pool;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::balance::Balance;
use super::checkpoint::Checkpoint;
use super::collapse::CollapseAlarm;
use super::compatibility::{check_classes, check_episode, check_micro_batch, check_teacher};
use super::cost::slow_losses;
use super::evaluate::{evaluate_items, open_dataset};
use super::event::{CollapseEvent, Control, Event, StepEvent};
use super::initial_weights;
use super::loss_parameters::LossParameters;
use super::objective::{BatchFeatures, Evaluated, Objective, ObjectiveValue, Shapes};
use super::pass::{Pass, cut};
use super::plan::Plan;
use super::report::{Evaluation, NetworkSummary, PartSize, SegmentReport, SessionSummary};
use super::segment::Segment;
use super::teacher::Teacher;
use crate::backbones::BackboneSpec;
use crate::data::{Batch, BatchSampler, Dataset, Loader, LoaderOptions, Normalization, Part, Position, Split};
use crate::error::{Code, Error, Result};
use crate::losses::{Feature, Matrix};
use crate::nn::{Backend, Cpu, Features, Network};
use crate::optim::{Optimizer, check_all_reached};
use crate::random::Random;
use crate::tensor::HostTensor;

type Tensor = <Cpu as Backend>::Tensor;

/// One network being trained.
pub struct Session {
    plan: Plan,
    backend: Cpu,
    dataset: Arc<Dataset>,
    split: Split,
    normalization: Normalization,
    student: Network<Cpu>,
    teacher: Option<Teacher>,
    objective: Objective,
    /// The student's features that a step needs: those that losses read, and the embedding for the alarm.
    read: Vec<Feature>,
    loss_parameters: LossParameters,
    optimizer: Optimizer<Cpu>,
    state: State,
    loader: Loader,
    steps_per_epoch: u64,
    step: u64,
    best: Option<BTreeMap<String, HostTensor>>,
    policy: Value,
}

/// What a session remembers between steps beside tensors.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    balance: Balance,
    alarm: CollapseAlarm,
}

/// What one step did.
struct StepReport {
    value: ObjectiveValue,
    learning_rate: f64,
    /// Of the whole gradient, before clipping.
    gradient_norm: f64,
    /// The student has collapsed.
    alarm: Option<CollapseEvent>,
    /// Whether the weights "auto" were found in this step.
    balanced: bool,
}

/// Whose embeddings are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Who {
    /// The network that is trained.
    Student,
    /// The teacher.
    Teacher,
}

impl Session {
    /// Opens the data, builds the networks and, with `resume`, takes up a checkpoint of the same plan.
    ///
    /// # Errors
    /// Those of the plan's parts: options out of range, data or models that cannot be read, a teacher that the losses
    /// need and the plan lacks; `ERR_INVALID_ARTEFACT` for a checkpoint of another plan.
    pub fn open(mut plan: Plan, resume: Option<&Path>, control: &Control) -> Result<Session> {
        let objective = Objective::new(&plan.losses)?;
        plan.schedule.validate()?;
        check_micro_batch(&plan)?;
        check_episode(&plan)?;
        let checkpoint = resume.map(|path| load_checkpoint(path, &plan, control)).transpose()?;
        let backend = Cpu::new(Arc::new(Pool::new(plan.threads)));
        let mut teacher = plan.teacher.as_ref().map(|teacher| Teacher::load(teacher, &backend)).transpose()?;
        check_teacher(&objective, &plan, teacher.as_ref())?;
        let dataset = Arc::new(open_dataset(&plan.data, &plan.backbone, control)?);
        let split = Split::new(&dataset, &plan.data.split, plan.seed)?;
        for message in &split.warnings {
            control.emit(Event::Warning { message: message.clone() });
        }
        plan.backbone.classes =
            objective.student_features().contains(&Feature::Logits).then_some(split.train_classes.len());
        let mut student = Network::new(backend.clone(), &plan.backbone, plan.seed)?;
        if let Some(message) = slow_losses(&plan.losses, backend.pool(), plan.batch.size, student.embedding_size()) {
            control.emit(Event::Warning { message });
        }
        let silent = Control::silent();
        let news = if resume.is_none() { control } else { &silent };
        let weights =
            plan.weights.as_ref().map(|weights| initial_weights::load(weights, &mut student, news)).transpose()?;
        student.tune(&plan.tuning)?;
        let normalization = match (&teacher, weights.flatten()) {
            (Some(teacher), _) => teacher.normalization.clone(),
            (None, Some(of_weights)) => of_weights,
            (None, None) => Normalization::measure(&dataset, &split.train),
        };
        let offered = shapes(student.spec(), &backend, |image| student.forward_eval(image))?;
        let taught = teacher
            .as_ref()
            .map(|Teacher { network, .. }| shapes(network.spec(), &backend, |image| network.forward(image)));
        let taught = taught.transpose()?;
        objective.check(&offered, taught.as_ref())?;
        let about = objective.parameters(&offered, taught.as_ref())?;
        let mut loss_parameters = LossParameters::draw(about, &backend, plan.seed)?;
        let mut read = objective.student_features();
        if !read.contains(&Feature::Embedding) {
            read.push(Feature::Embedding);
        }
        student.keep_taps(&read);
        if let (Some(teacher), Some(taught)) = (&mut teacher, &taught) {
            check_classes(&objective, teacher, &class_names(&dataset, &split))?;
            let mirrors = plan.data.augment.flip;
            teacher.prepare(objective.teacher_features(), taught, &dataset, &split.train, mirrors, control)?;
        }
        let mut optimizer = Optimizer::new(&plan.optimizer)?;
        let (mut step, mut best, mut policy, mut state) = (0, None, Value::Null, State::default());
        if let Some(mut checkpoint) = checkpoint {
            student.set_tensors(&checkpoint.take("model."))?;
            loss_parameters.set_tensors(&backend, &checkpoint.take("losses."))?;
            let tensors = checkpoint.take("optimizer.");
            loss_parameters.with(&mut student.parameters, |parameters| {
                optimizer.restore(&backend, parameters, checkpoint.step, &tensors)
            })?;
            best = Some(checkpoint.take("best.")).filter(|best| !best.is_empty());
            (step, policy, state) = (checkpoint.step, checkpoint.policy, read_state(checkpoint.state)?);
        }
        let sampler = BatchSampler::new(&dataset, &split.train, &plan.batch, plan.steps_per_epoch, plan.seed)?;
        let steps_per_epoch = sampler.batches();
        let start = Position { epoch: step / steps_per_epoch, batch: step % steps_per_epoch };
        let options = LoaderOptions { seed: plan.seed, start, ..LoaderOptions::default() };
        let augment = plan.data.augment.clone();
        let loader = Loader::new(Arc::clone(&dataset), sampler, augment, normalization.clone(), options)?;
        Ok(Session {
            plan,
            backend,
            dataset,
            split,
            normalization,
            student,
            teacher,
            objective,
            read,
            loss_parameters,
            optimizer,
            state,
            loader,
            steps_per_epoch,
            step,
            best,
            policy,
        })
    }

    /// What the session is about to do.
    pub fn summary(&self) -> SessionSummary {
        SessionSummary {
            data: self.dataset.describe(),
            train: self.part_size(Part::Train),
            validation: self.part_size(Part::Validation),
            test: self.part_size(Part::Test),
            student: network_summary(
                self.student.spec(),
                self.student.parameter_count(),
                self.student.embedding_size(),
            ),
            teacher: self.teacher.as_ref().map(|Teacher { network, .. }| {
                network_summary(network.spec(), network.parameter_count(), network.embedding_size())
            }),
            steps_per_epoch: self.steps_per_epoch,
            total_steps: self.total_steps(),
            step: self.step,
            threads: self.backend.pool().threads(),
            instruction_set: self.backend.pool().isa().name().to_string(),
        }
    }

    /// What the caller gave to [`Session::save_checkpoint`], after a resume; else null.
    pub fn policy(&self) -> &Value {
        &self.policy
    }

    /// Trains until `until_step` steps have been done since the run began, or until cancelled, whichever comes first.
    ///
    /// # Errors
    /// `ERR_NON_FINITE` if a loss, a gradient or an embedding stops being a finite number: it names step and term or
    /// tensor, and the parameters are those of the step before.
    pub fn train(&mut self, until_step: u64, control: &Control) -> Result<SegmentReport> {
        let mut segment = Segment::new();
        while self.step < until_step && !control.is_cancelled() {
            let batch = self.loader.next()?;
            let StepReport { value, learning_rate, gradient_norm, alarm, balanced } = self.step(&batch)?;
            self.step += 1;
            segment.add(&value, batch.len(), batch.waited);
            self.loader.recycle(batch);
            if let Some(alarm) = alarm {
                control.emit(Event::Collapse(alarm));
            }
            if balanced {
                let weights = self.objective.chosen(&self.state.balance);
                control.emit(Event::Weights { step: self.step, weights });
            }
            if let Some((images_per_second, data_wait_share)) = segment.news(control) {
                control.emit(Event::Step(StepEvent {
                    step: self.step,
                    total_steps: self.total_steps(),
                    epoch: (self.step - 1) / self.steps_per_epoch + 1,
                    loss: value.total,
                    terms: value.terms,
                    learning_rate,
                    gradient_norm,
                    images_per_second,
                    data_wait_share,
                }));
            }
        }
        Ok(segment.report(self.step, control.is_cancelled() && self.step < until_step))
    }

    /// One training step: the whole way of a batch.
    fn step(&mut self, batch: &Batch) -> Result<StepReport> {
        let pieces = self.images(batch)?;
        let teacher = match &self.teacher {
            Some(teacher) => teacher.features(batch, &pieces)?,
            None => Vec::new(),
        };
        let at = |error| at_step(error, self.step + 1);
        let pass = Pass::forward(&mut self.student, pieces, &self.read).map_err(at)?;
        let evaluated = self.losses(batch, &pass.features, &teacher)?;
        let alarm = find(&pass.features, &Feature::Embedding)
            .and_then(|embedding| self.state.alarm.watch(self.step + 1, embedding));
        let measured = self.objective.has_auto() && self.state.balance.is_measuring();
        if measured {
            let norms = self.norms(&pass, &evaluated)?;
            self.state.balance.add(&self.objective.norms(&evaluated, &norms));
        }
        let about = &self.loss_parameters.about;
        let value = self.objective.weigh(evaluated, about, &self.state.balance, self.step);
        let gradients = pass.backward(&self.student, &value.gradients)?;
        let (learning_rate, gradient_norm) = self.update(gradients, &value)?;
        let balanced = measured && !self.state.balance.is_measuring();
        Ok(StepReport { value, learning_rate, gradient_norm, alarm, balanced })
    }

    /// The images of a batch, in the pieces that go through the network at once.
    fn images(&self, batch: &Batch) -> Result<Vec<Tensor>> {
        let (side, channels) = (self.dataset.image_size(), self.dataset.channels());
        let length = side * side * channels;
        let pieces = cut(batch.len(), self.plan.micro_batch).into_iter();
        pieces
            .map(|rows| {
                let shape = [rows.len(), side, side, channels];
                self.backend.from_f32(&batch.images[rows.start * length..rows.end * length], &shape)
            })
            .collect()
    }

    /// Every term of the total loss of a batch.
    fn losses(
        &self,
        batch: &Batch,
        student: &[(Feature, Matrix)],
        teacher: &[(Feature, Matrix)],
    ) -> Result<Vec<Evaluated>> {
        let labels: Vec<u32> =
            batch.labels.iter().map(|&label| self.split.train_index(label).unwrap_or_default()).collect();
        let features = BatchFeatures {
            student,
            teacher,
            labels: &labels,
            parameters: &self.loss_parameters.matrices(&self.backend)?,
            pool: self.backend.pool(),
            random: Random::keyed(self.plan.seed, self.step, 0, "loss"),
        };
        self.objective.evaluate(&features, &self.loss_parameters.about, self.step)
    }

    /// The norm of each term's gradient with respect to all parameters of the network, before weighting.
    fn norms(&self, pass: &Pass<Cpu>, evaluated: &[Evaluated]) -> Result<Vec<f64>> {
        let norm = |term: &Evaluated| {
            let gradients = pass.again().backward(&self.student, &term.upstream())?;
            let squares = gradients.iter().flatten().map(|gradient| self.backend.sum_of_squares(gradient));
            Ok(squares.sum::<Result<f64>>()?.sqrt())
        };
        evaluated.iter().map(norm).collect()
    }

    /// Changes the network and what losses learn. Returns the learning rate and the norm of the whole gradient.
    fn update(&mut self, mut gradients: Vec<Option<Tensor>>, value: &ObjectiveValue) -> Result<(f64, f64)> {
        // Terms that rest now reach their parameters later.
        if self.step == 0 && !self.objective.rests(0) {
            check_all_reached(&self.student.parameters.specs, &gradients)?;
        }
        gradients.extend(self.loss_parameters.gradients(&self.backend, &value.parameters)?);
        let factor = self.plan.schedule.factor(self.step, self.total_steps());
        let learning_rate = self.plan.optimizer.learning_rate() * factor;
        let report = self.loss_parameters.with(&mut self.student.parameters, |parameters| {
            self.optimizer.step(&self.backend, parameters, gradients, learning_rate, self.plan.clip_gradient_norm)
        });
        let report = report.map_err(|error| at_step(error, self.step + 1))?;
        Ok((learning_rate, report.gradient_norm))
    }

    /// Measures the student as it is now, or the teacher, on one part of the data.
    ///
    /// # Errors
    /// `ERR_INVALID_DATA` if the part has no images, `ERR_CANCELLED` if cancelled.
    pub fn evaluate(&mut self, who: Who, part: Part, ks: &[usize], control: &Control) -> Result<Evaluation> {
        let own = self.plan.backbone.classes.map(|_| class_names(&self.dataset, &self.split));
        let student;
        let (network, classes) = match who {
            Who::Student => {
                student = self.student.clone().into_inference()?;
                (&student, own.as_deref())
            }
            Who::Teacher => match &self.teacher {
                Some(teacher) => (&teacher.network, teacher.classes.as_deref()),
                None => return Err(Error::new(Code::Internal, "this run has no teacher to measure")),
            },
        };
        evaluate_items(network, &self.dataset, &self.normalization, classes, self.split.items(part), ks, control)
    }

    /// Remembers the present weights as the best.
    pub fn keep(&mut self) -> Result<()> {
        self.best = Some(self.student.tensors()?);
        Ok(())
    }

    /// Writes a checkpoint, whole or not at all; `policy` comes back from [`Session::policy`] after a resume.
    pub fn save_checkpoint(&mut self, path: &Path, policy: Value) -> Result<()> {
        let (plan, state) = (comparable(&self.plan)?, to_json(&self.state)?);
        let mut checkpoint = Checkpoint { step: self.step, plan, state, policy, tensors: BTreeMap::new() };
        checkpoint.insert("model.", self.student.tensors()?);
        checkpoint.insert("losses.", self.loss_parameters.tensors(&self.backend)?);
        let optimizer = self
            .loss_parameters
            .with(&mut self.student.parameters, |parameters| self.optimizer.tensors(&self.backend, parameters))?;
        checkpoint.insert("optimizer.", optimizer);
        checkpoint.insert("best.", self.best.clone().unwrap_or_default());
        checkpoint.save(path)
    }

    /// Writes `model.safetensors`: the weights last kept if `best`, else the present ones. The same run gives the same
    /// bytes.
    pub fn save_model(&mut self, path: &Path, best: bool) -> Result<()> {
        let mut about = json!({ "normalization": self.normalization });
        if self.plan.backbone.classes.is_some() {
            about["classes"] = json!(class_names(&self.dataset, &self.split));
        }
        let mut model = self.student.to_model(about)?;
        if let (true, Some(best)) = (best, &self.best) {
            model.tensors = best.clone();
        }
        model.save(path)
    }

    fn part_size(&self, part: Part) -> PartSize {
        PartSize { images: self.split.items(part).len(), classes: self.split.classes(part).len() }
    }

    fn total_steps(&self) -> u64 {
        self.plan.epochs * self.steps_per_epoch
    }
}

/// What a network offers: the features of one image that is zero everywhere.
fn shapes(spec: &BackboneSpec, backend: &Cpu, forward: impl Fn(&Tensor) -> Result<Features<Tensor>>) -> Result<Shapes> {
    let features = forward(&backend.zeros(&[1, spec.image_size, spec.image_size, spec.in_channels])?)?;
    Ok(features.all().into_iter().map(|(feature, tensor)| (feature, Cpu::shape(tensor).to_vec())).collect())
}

fn find<'m>(features: &'m [(Feature, Matrix)], feature: &Feature) -> Option<&'m Matrix> {
    features.iter().find(|(name, _)| name == feature).map(|(_, matrix)| matrix)
}

/// The names of the training classes, in the order of the classifier's logits.
fn class_names(dataset: &Dataset, split: &Split) -> Vec<String> {
    split.train_classes.iter().map(|&label| dataset.class_name(label).to_string()).collect()
}

fn network_summary(spec: &BackboneSpec, parameters: usize, embedding: usize) -> NetworkSummary {
    NetworkSummary { backbone: spec.kind.clone(), parameters, embedding }
}

/// The plan as a checkpoint compares it: threads and the cache's place do not change a run. The classes of the
/// classifier are not the plan's, they follow from the data.
fn comparable(plan: &Plan) -> Result<Value> {
    let mut plan = plan.clone();
    plan.threads = 0;
    plan.data.cache = Default::default();
    plan.backbone.classes = None;
    to_json(&plan)
}

fn to_json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::new(Code::Internal, format!("a value has no JSON form: {e}")))
}

fn read_state(state: Value) -> Result<State> {
    serde_json::from_value(state).map_err(|e| {
        Error::new(Code::InvalidArtefact, "the checkpoint's state is damaged")
            .with_advice("start the run anew")
            .with_source(e)
    })
}

fn load_checkpoint(path: &Path, plan: &Plan, control: &Control) -> Result<Checkpoint> {
    let (checkpoint, warning) = Checkpoint::load_last(path)?;
    if let Some(message) = warning {
        control.emit(Event::Warning { message });
    }
    let expected = comparable(plan)?;
    if checkpoint.plan == expected {
        return Ok(checkpoint);
    }
    let differ = |(name, value): (&String, &Value)| (checkpoint.plan.get(name) != Some(value)).then(|| name.clone());
    let names: Vec<String> = expected.as_object().into_iter().flatten().filter_map(differ).collect();
    Err(Error::new(Code::InvalidArtefact, "the checkpoint belongs to another plan")
        .with_subject(path.display().to_string())
        .with_values("a checkpoint of this plan", format!("one that differs in {}", names.join(", ")))
        .with_advice("resume with the plan.json beside it, or start the run anew"))
}

/// The error with the step it happened at.
fn at_step(mut error: Error, step: u64) -> Error {
    if error.code == Code::NonFinite {
        error.message = format!("step {step}: {}", error.message);
    }
    error
}
