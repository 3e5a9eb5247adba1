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

use super::checkpoint::Checkpoint;
use super::cost::slow_losses;
use super::evaluate::{evaluate_items, open_dataset};
use super::event::{Control, Event, StepEvent};
use super::objective::{BatchFeatures, Objective, ObjectiveValue};
use super::report::{Evaluation, NetworkSummary, PartSize, SegmentReport, SessionSummary};
use super::segment::Segment;
use super::teacher::Teacher;
use crate::artefact::tensors::HostTensor;
use crate::data::{Batch, BatchSampler, Dataset, Loader, LoaderOptions, Normalization, Part, Position, Split};
use crate::error::{Code, Error, Result};
use crate::losses::{Feature, Matrix};
use crate::nn::{Backend, Cpu, FeatureGradients, Features, Network};
use crate::optim::Optimizer;
use crate::plan::Plan;
use crate::random::Random;

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
    optimizer: Optimizer<Cpu>,
    loader: Loader,
    steps_per_epoch: u64,
    step: u64,
    best: Option<BTreeMap<String, HostTensor>>,
    policy: Value,
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
        let checkpoint = resume.map(|path| load_checkpoint(path, &plan)).transpose()?;
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
        let normalization = match &teacher {
            Some(teacher) => teacher.normalization.clone(),
            None => Normalization::measure(&dataset, &split.train),
        };
        if let Some(teacher) = &mut teacher {
            teacher.prepare(&dataset, &split.train, control)?;
        }
        let mut optimizer = Optimizer::new(&plan.optimizer)?;
        let (mut step, mut best, mut policy) = (0, None, Value::Null);
        if let Some(mut checkpoint) = checkpoint {
            student.set_tensors(&checkpoint.take("model."))?;
            optimizer.restore(&backend, &student.parameters, checkpoint.step, &checkpoint.take("optimizer."))?;
            best = Some(checkpoint.take("best.")).filter(|best| !best.is_empty());
            (step, policy) = (checkpoint.step, checkpoint.policy);
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
            optimizer,
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
            student: network_summary(&self.student),
            teacher: self.teacher.as_ref().map(|teacher| network_summary(&teacher.network)),
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
            let (value, learning_rate, gradient_norm) = self.step(&batch)?;
            self.step += 1;
            segment.add(&value, batch.len(), batch.waited);
            self.loader.recycle(batch);
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

    /// One training step: the whole way of a batch. Returns the losses, the learning rate and the gradient's norm.
    fn step(&mut self, batch: &Batch) -> Result<(ObjectiveValue, f64, f64)> {
        let (side, channels) = (self.dataset.image_size(), self.dataset.channels());
        let images = self.backend.from_f32(&batch.images, &[batch.len(), side, side, channels])?;
        let (features, tape) = self.student.forward_train(&images)?;
        let value = self.losses(batch, &images, &features)?;
        let upstream = self.upstream(&value, &features)?;
        let gradients = self.student.backward(tape, upstream, false)?;
        let factor = self.plan.schedule.factor(self.step, self.total_steps());
        let learning_rate = self.plan.optimizer.learning_rate() * factor;
        let (parameters, clip) = (&mut self.student.parameters, self.plan.clip_gradient_norm);
        let report = self
            .optimizer
            .step(&self.backend, parameters, gradients.parameters, learning_rate, clip)
            .map_err(|error| at_step(error, self.step + 1))?;
        Ok((value, learning_rate, report.gradient_norm))
    }

    /// The total loss of a batch.
    fn losses(&self, batch: &Batch, images: &Tensor, features: &Features<Tensor>) -> Result<ObjectiveValue> {
        let labels: Vec<u32> =
            batch.labels.iter().map(|&label| self.split.train_index(label).unwrap_or_default()).collect();
        let mut values = BatchFeatures {
            student: Vec::new(),
            teacher: Vec::new(),
            labels: &labels,
            pool: self.backend.pool(),
            random: Random::keyed(self.plan.seed, self.step, 0, "loss"),
        };
        for feature in self.objective.student_features() {
            let tensor = features.get(&feature).ok_or_else(|| no_feature(&feature))?;
            let name = format!("the student's {}", feature.name());
            let matrix = self.matrix(&name, tensor).map_err(|error| at_step(error, self.step + 1))?;
            values.student.push((feature, matrix));
        }
        if let Some(teacher) = &self.teacher {
            let embeddings = teacher.embeddings(&batch.items, images)?;
            let shape = [batch.len(), teacher.network.embedding_size()];
            values.teacher.push((Feature::Embedding, Matrix::tensor("the teacher's embedding", &embeddings, &shape)?));
        }
        self.objective.evaluate(&values, self.step + 1)
    }

    fn matrix(&self, name: &str, tensor: &Tensor) -> Result<Matrix> {
        Matrix::tensor(name, &self.backend.to_f32(tensor)?, Cpu::shape(tensor))
    }

    /// The gradients of the total loss, on the backend.
    fn upstream(&self, value: &ObjectiveValue, features: &Features<Tensor>) -> Result<FeatureGradients<Tensor>> {
        let mut upstream = FeatureGradients::default();
        for (feature, gradient) in &value.gradients {
            let gradient: Vec<f32> = gradient.iter().map(|&g| g as f32).collect();
            let like = features.get(feature).ok_or_else(|| no_feature(feature))?;
            let gradient = self.backend.from_f32(&gradient, Cpu::shape(like))?;
            match feature {
                Feature::Embedding => upstream.embedding = Some(gradient),
                Feature::Pooled => upstream.pooled = Some(gradient),
                Feature::Logits => upstream.logits = Some(gradient),
                Feature::Tap(name) => upstream.taps.push((name.clone(), gradient)),
            }
        }
        Ok(upstream)
    }

    /// Measures the student as it is now, or the teacher, on one part of the data.
    ///
    /// # Errors
    /// `ERR_INVALID_DATA` if the part has no images, `ERR_CANCELLED` if cancelled.
    pub fn evaluate(&mut self, who: Who, part: Part, ks: &[usize], control: &Control) -> Result<Evaluation> {
        let network = match who {
            Who::Student => &self.student,
            Who::Teacher => match &self.teacher {
                Some(teacher) => &teacher.network,
                None => return Err(Error::new(Code::Internal, "this run has no teacher to measure")),
            },
        };
        evaluate_items(network, &self.dataset, &self.normalization, self.split.items(part), ks, control)
    }

    /// Remembers the present weights as the best.
    pub fn keep(&mut self) -> Result<()> {
        self.best = Some(self.student.tensors()?);
        Ok(())
    }

    /// Writes a checkpoint, whole or not at all; `policy` comes back from [`Session::policy`] after a resume.
    pub fn save_checkpoint(&mut self, path: &Path, policy: Value) -> Result<()> {
        let mut checkpoint =
            Checkpoint { step: self.step, plan: comparable(&self.plan)?, policy, tensors: BTreeMap::new() };
        checkpoint.insert("model.", self.student.tensors()?);
        checkpoint.insert("optimizer.", self.optimizer.tensors(&self.backend, &self.student.parameters)?);
        checkpoint.insert("best.", self.best.clone().unwrap_or_default());
        checkpoint.save(path)
    }

    /// Writes `model.safetensors`: the weights last kept if `best`, else the present ones. The same run gives the same
    /// bytes.
    pub fn save_model(&mut self, path: &Path, best: bool) -> Result<()> {
        let mut model = self.student.to_model(json!({ "normalization": self.normalization }))?;
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

fn no_feature(feature: &Feature) -> Error {
    Error::new(Code::InvalidOption, format!("the network has no feature {}", feature.name()))
        .with_subject("losses")
        .with_advice("point the loss at embedding, pooled, logits or a tap of the backbone")
}

fn network_summary(network: &Network<Cpu>) -> NetworkSummary {
    NetworkSummary {
        backbone: network.spec().kind.clone(),
        parameters: network.parameter_count(),
        embedding: network.embedding_size(),
    }
}

/// The plan as a checkpoint compares it: threads and the cache's place do not change a run. The classes of the
/// classifier are not the plan's, they follow from the data.
fn comparable(plan: &Plan) -> Result<Value> {
    let mut plan = plan.clone();
    plan.threads = 0;
    plan.data.cache = Default::default();
    plan.backbone.classes = None;
    serde_json::to_value(&plan).map_err(|e| Error::new(Code::Internal, format!("a plan has no JSON form: {e}")))
}

fn load_checkpoint(path: &Path, plan: &Plan) -> Result<Checkpoint> {
    let checkpoint = Checkpoint::load(path)?;
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

fn check_teacher(objective: &Objective, plan: &Plan, teacher: Option<&Teacher>) -> Result<()> {
    if objective.needs_teacher() && teacher.is_none() {
        return Err(Error::new(Code::InvalidOption, "a loss compares with a teacher, and there is none")
            .with_subject("teacher")
            .with_values("the folder of a trained run", "none")
            .with_advice("use distill() with a teacher, or losses that need none"));
    }
    let Some(teacher) = teacher else { return Ok(()) };
    let (wants, has) = (teacher.network.spec(), &plan.backbone);
    if (wants.image_size, wants.in_channels) == (has.image_size, has.in_channels) {
        return Ok(());
    }
    Err(Error::new(Code::InvalidOption, "teacher and student see images of different sizes")
        .with_subject("imageSize, channels")
        .with_values(
            format!("the teacher's {0} x {0} of {1} channels", wants.image_size, wants.in_channels),
            format!("{0} x {0} of {1}", has.image_size, has.in_channels),
        )
        .with_advice("leave image size and channels out; they follow the teacher"))
}

/// The error with the step it happened at.
fn at_step(mut error: Error, step: u64) -> Error {
    if error.code == Code::NonFinite {
        error.message = format!("step {step}: {}", error.message);
    }
    error
}
