//! A session: one network being trained, segment by segment, by a caller who decides what comes next.
//!
//! ```text
//! open -> [ train(until) -> evaluate -> save_checkpoint ]* -> save_model
//! ```
//! One step, top to bottom, is [`Session::step`]: batch -> student forward -> teacher -> losses -> backward -> update.
//! Everything random is keyed by the step's position, so a session that was opened from a checkpoint continues with the
//! same bits, on any number of threads.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::checkpoint::Checkpoint;
use super::evaluate::{evaluate_items, open_dataset};
use super::event::{Control, Event, StepEvent, Term};
use super::objective::{Objective, ObjectiveValue};
use super::report::{Evaluation, NetworkSummary, PartSize, SegmentReport, SessionSummary};
use super::teacher::Teacher;
use crate::artefact::tensors::HostTensor;
use crate::data::{Batch, BatchSampler, Dataset, Loader, Normalization, Part, Split};
use crate::error::{Code, Error, Result};
use crate::losses::{Feature, LossInputs};
use crate::nn::{Backend, Cpu, FeatureGradients, Features, Network};
use crate::optim::Optimizer;
use crate::plan::Plan;
use crate::random::Random;

/// One network being trained.
pub struct Session {
    plan: Plan,
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
    pub fn open(plan: Plan, resume: Option<&Path>, control: &Control) -> Result<Session> {
        let objective = Objective::new(&plan.losses)?;
        let checkpoint = resume.map(|path| load_checkpoint(path, &plan)).transpose()?;
        let mut student = Network::new(Cpu::new(plan.threads), &plan.backbone, plan.seed)?;
        let mut teacher = plan.teacher.as_ref().map(|teacher| Teacher::load(teacher, plan.threads)).transpose()?;
        check_teacher(&objective, teacher.as_ref())?;
        let dataset = Arc::new(open_dataset(&plan.data, &student, control)?);
        let split = Split::new(&dataset, &plan.data.split, plan.seed)?;
        let normalization = match &teacher {
            Some(teacher) => teacher.normalization.clone(),
            None => Normalization::measure(&dataset, &split.train),
        };
        if let Some(teacher) = &mut teacher {
            teacher.prepare(&dataset, &split.train, control)?;
        }
        let mut optimizer = Optimizer::new(&plan.optimizer, &student)?;
        let (mut step, mut best, mut policy) = (0, None, Value::Null);
        if let Some(mut checkpoint) = checkpoint {
            student.set_tensors(&checkpoint.take("model."))?;
            optimizer.load_state(&checkpoint.take("optimizer."), &student)?;
            best = Some(checkpoint.take("best.")).filter(|best| !best.is_empty());
            (step, policy) = (checkpoint.step, checkpoint.policy);
        }
        let sampler = BatchSampler::new(&dataset, &split.train, &plan.batch, plan.steps_per_epoch, plan.seed)?;
        let steps_per_epoch = sampler.steps_per_epoch();
        let loader =
            Loader::start(Arc::clone(&dataset), sampler, plan.data.augment.clone(), normalization.clone(), step);
        Ok(Session {
            plan,
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
        let pool = self.student.backend().pool();
        SessionSummary {
            data: self.dataset.describe().clone(),
            train: self.part_size(Part::Train),
            validation: self.part_size(Part::Validation),
            test: self.part_size(Part::Test),
            student: network_summary(&self.student),
            teacher: self.teacher.as_ref().map(|teacher| network_summary(&teacher.network)),
            steps_per_epoch: self.steps_per_epoch,
            total_steps: self.total_steps(),
            step: self.step,
            threads: pool.threads(),
            instruction_set: pool.isa().to_string(),
        }
    }

    /// What the caller gave to [`Session::save_checkpoint`], after a resume; else null.
    pub fn policy(&self) -> &Value {
        &self.policy
    }

    /// Trains until `until_step` steps have been done since the run began, or until cancelled, whichever comes first.
    pub fn train(&mut self, until_step: u64, control: &Control) -> Result<SegmentReport> {
        let mut segment = Segment::new();
        while self.step < until_step && !control.is_cancelled() {
            let (batch, waited) = self.loader.next()?;
            let (value, learning_rate, gradient_norm) = self.step(&batch)?;
            segment.add(&value, batch.items.len(), waited);
            self.step += 1;
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
        let (n, side, channels) = (batch.items.len(), self.dataset.image_size(), self.dataset.channels());
        let images = self.student.backend().from_f32(&batch.images, &[n, side, side, channels])?;
        let (features, tape) = self.student.forward_train(&images)?;
        let value = self.losses(batch, &images, &features)?;
        let upstream = self.upstream(&value, &features)?;
        let mut gradients = self.student.backward(tape, upstream, false)?;
        let norm = self.optimizer.clip(&self.student, &mut gradients, self.plan.clip_gradient_norm, self.step + 1)?;
        let learning_rate = self.plan.schedule.rate(self.plan.optimizer.learning_rate(), self.step, self.total_steps());
        self.optimizer.step(&mut self.student, &gradients, learning_rate)?;
        Ok((value, learning_rate, norm))
    }

    /// The total loss of a batch.
    fn losses(&self, batch: &Batch, images: &Tensor, features: &Features<Tensor>) -> Result<ObjectiveValue> {
        let backend = self.student.backend();
        let student = LossFeatures::download(backend, features)?;
        let teacher = match &self.teacher {
            Some(teacher) => Some(teacher.embeddings(&batch.items, images)?),
            None => None,
        };
        let inputs = LossInputs::new(backend.pool(), Random::keyed(self.plan.seed, self.step, 0, "loss"));
        self.objective.evaluate(&inputs, self.step + 1)
    }

    fn total_steps(&self) -> u64 {
        self.plan.epochs * self.steps_per_epoch
    }
}
