//! A session: one network being trained, segment by segment, by a caller who decides what comes next.
//!
//! ```text
//! open -> [ train(until) -> evaluate -> save_checkpoint ]* -> save_model
//! ```
//! One step, top to bottom, is `Session::step`: batch -> student forward -> teacher -> losses -> backward -> update.
//! Everything random is keyed by the step's position, so a session that was opened from a checkpoint continues with the
//! same bits, on any number of threads and of ranks (`share.rs`).

use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::compatibility::{
    check_class_pairs, check_classes, check_episode, check_labels, check_micro_batch, check_teacher,
};
use super::cost::slow_losses;
#[cfg(feature = "cuda")]
use super::device_memory;
use super::device_terms::{self, DeviceLoss, computes, evaluate_terms, weigh};
use super::evaluate::{check_enough, embed_part, measure, open_dataset, outputs, share_of_images};
use super::event::{CollapseEvent, Control, Event, StepEvent};
use super::host::Host;
use super::initial_weights;
use super::known::{self, Known, Whose, Wish};
use super::look::{self, Look};
use super::loss_parameters::LossParameters;
use super::memory::{Demand, OfTeacher};
use super::objective::{BatchFeatures, Evaluated, Objective, ObjectiveValue, with_embedding};
use super::pass::{Pass, matrices};
use super::plan::Plan;
use super::reference::{Reference, add_fidelity, unmeasured};
use super::report::{
    Evaluation, MemoryEstimate, NetworkSummary, PartSize, SegmentReport, SessionSummary, TeacherSummary,
};
use super::segment::{Rates, Segment};
use super::share::Share;
use super::start::Start;
use super::state::{Instructions, State, check_teacher_hashes, comparable, load_checkpoint, read_state, to_json};
use super::teacher::{
    self, Teacher, TeacherBatch, TeacherFeatures, TeacherPlan, TeacherReader, embed_teacher, shapes_of, teacher_views,
    weights_of,
};
use super::training::{Training, Who};
use crate::artefact::model::{Model, ModelCard, Origin};
use crate::backbones;
use crate::data::{
    Batch, BatchSampler, DataOutline, DataRecord, Dataset, Loader, LoaderOptions, Normalization, Part, Position, Split,
    View,
};
use crate::devices::Device;
use crate::error::{Code, Error, Result};
use crate::limits::{Limits, Process};
use crate::losses::{Feature, FeatureMap, Matrix};
use crate::nn::backend::Norms;
use crate::nn::dropout::Draw;
use crate::nn::parameters::Parameters;
use crate::nn::{Backend, Network};
use crate::optim::{GradientNorm, Optimizer, check_all_reached};
use crate::random::Random;
use crate::ranks::Ranks;
use crate::tensor::HostTensor;

/// One network being trained, on a device.
pub struct Session<B: Backend> {
    plan: Plan,
    backend: B,
    host: Host,
    share: Share,
    /// Whether somebody wants all ranks to stop.
    stops: bool,
    split: Split,
    /// Whether the split is that of an earlier state of the data.
    kept: bool,
    /// The images as the student sees them.
    view: View,
    student: Network<B>,
    /// In the order of the plan.
    teachers: Vec<TeacherReader<B>>,
    objective: Objective,
    /// The student's features that a step needs: those that losses read, and the embedding for the alarm.
    read: Vec<Feature>,
    /// Those of them that the host needs.
    read_on_host: Vec<Feature>,
    loss_parameters: LossParameters<B>,
    optimizer: Optimizer<B>,
    state: State,
    loader: Loader,
    steps_per_epoch: u64,
    step: u64,
    /// Of the last step.
    gradient_norm: GradientNorm<B::Tensor>,
    best: Option<BTreeMap<String, HostTensor>>,
    policy: Value,
    memory: MemoryEstimate,
    /// Without labels: each teacher's embeddings of the parts that were measured.
    reference: BTreeMap<Part, Vec<Vec<f32>>>,
}

/// What one step did.
struct StepReport {
    value: ObjectiveValue,
    learning_rate: f64,
    /// The student has collapsed.
    alarm: Option<CollapseEvent>,
    /// Whether the weights "auto" were found in this step.
    balanced: bool,
}

/// What of a step has come to the host.
struct OnHost {
    student: FeatureMap<Matrix>,
    /// Of each teacher.
    teachers: Vec<FeatureMap<Matrix>>,
    /// What losses learn, of each term.
    parameters: Vec<Vec<Matrix>>,
    /// Those of the terms that the device computes, see [`DeviceValue::numbers`](super::device_terms::DeviceValue::numbers).
    numbers: Vec<f64>,
}

impl<B: Backend> Session<B> {
    /// Opens the data, builds the networks on `backend` and takes up a checkpoint of the same plan, where `start` names one.
    ///
    /// # Errors
    /// Those of the plan's parts: options out of range, data or models that cannot be read, a teacher that the losses
    /// need and the plan lacks; `ERR_INVALID_ARTEFACT` for a checkpoint of another plan, `ERR_INVALID_DATA` for data that
    /// are no longer those of the run or of a teacher.
    pub fn open(backend: B, host: Host, mut plan: Plan, start: &Start, control: &Control) -> Result<Self> {
        let before = (Process::now(), Limits::now());
        #[cfg(feature = "cuda")]
        let free = backend.free_memory()?;
        let mut objective = Objective::new(&plan.losses, &weights_of(&plan.teachers))?
            .with_prefixes(&plan.prefixes, plan.backbone.normalize)?;
        objective.leave_to_device(|loss| computes(&backend, loss));
        plan.schedule.validate()?;
        check_micro_batch(&plan)?;
        let share = Share::new(host.ranks().clone(), &plan)?;
        check_episode(&plan)?;
        let mut checkpoint =
            start.checkpoint.as_deref().map(|path| load_checkpoint(path, &plan, control)).transpose()?;
        let stored = checkpoint.as_mut().map(|checkpoint| read_state(checkpoint.state.take())).transpose()?;
        let instructions = Instructions::of(host.team().isa());
        let made_with = stored.as_ref().and_then(|state| state.instructions.as_ref());
        let made_with = made_with.filter(|_| plan.device == Device::Cpu);
        if let Some(message) = made_with.and_then(|made_with| instructions.differs(made_with)) {
            control.emit(Event::Warning { message });
        }
        check_teacher(&objective, &plan)?;
        check_labels(plan.data.labels, &plan.losses, !plan.teachers.is_empty())?;
        let open = |(place, plan)| teacher::open(plan, &backend, &host, &objective.teacher_features(place), control);
        let mut teachers = plan.teachers.iter().enumerate().map(open).collect::<Result<Vec<_>>>()?;
        let of_run = |record: &PathBuf| Known::of_run(record, stored.as_ref().and_then(|state| state.data.clone()));
        let of_teacher = |(plan, teacher): (&TeacherPlan, &dyn Teacher<B>)| {
            Known::of_model(Whose::Teacher(plan.name.clone()), teacher.card()?, &plan.model, false)
        };
        let known: Vec<Known> = match start.record.as_ref().and_then(of_run) {
            Some(known) => vec![known],
            None => {
                plan.teachers.iter().zip(teachers.iter().map(|teacher| &**teacher)).filter_map(of_teacher).collect()
            }
        };
        let (image_size, channels) = (plan.backbone.image_size, plan.backbone.in_channels);
        let ranks = host.ranks();
        let open_data = || open_dataset(&plan.data, (plan.data.input_kind(), image_size, channels), 0, control);
        let dataset = Arc::new(ranks.in_turn(open_data)?);
        let advice = "give all ranks the same data: copy them, or use a place that all see";
        ranks.check_same(&[("data", dataset.fingerprint().into(), advice)])?;
        let wish = Wish {
            source: &plan.data.source,
            split: (&plan.data.split, plan.split_seed),
            given: (true, true),
            measured: Part::Test,
            accepted: start.accept_changed_data,
        };
        let (mut split, kept) = known::settle(&known, &dataset, &wish, control)?;
        for (teacher, plan) in teachers.iter_mut().zip(&plan.teachers) {
            teacher.meet(&dataset, &plan.about(control))?;
            split.keep(|item| teacher.knows(item));
        }
        for message in split.warnings.iter().cloned().chain(check_class_pairs(&plan, &dataset, &split)?) {
            control.emit(Event::Warning { message });
        }
        plan.backbone.classes =
            objective.student_features().contains(&Feature::Logits).then_some(split.train_classes.len());
        let demand = Demand {
            plan: Cow::Borrowed(&plan),
            objective: &objective,
            teachers: teachers
                .iter()
                .zip(&plan.teachers)
                .map(|(teacher, plan)| OfTeacher::new(&**teacher, plan))
                .collect(),
            threads: host.team().threads(),
            ranks: ranks.size(),
            images: dataset.len(),
            parts: [Part::Train, Part::Validation, Part::Test].map(|part| split.items(part).len()),
        };
        let (memory, warning) = demand.check(before.0, &before.1)?;
        warning.into_iter().for_each(|message| control.emit(Event::Warning { message }));
        #[cfg(feature = "cuda")]
        if let Some(message) = free.map(|free| device_memory::check(&demand, free)).transpose()?.flatten() {
            control.emit(Event::Warning { message });
        }
        let mut student = backbones::build(backend.clone(), &plan.backbone, plan.seed)?;
        // Beside prefixes the host computes the relations whatever the device can.
        if backend.relations().is_none() || !plan.prefixes.is_empty() {
            let (rows, times) = ([plan.batch.size, student.embedding_size()], plan.prefixes.len() + 1);
            let message = slow_losses(&plan.losses, host.team(), rows, times);
            message.into_iter().for_each(|message| control.emit(Event::Warning { message }));
        }
        let silent = Control::silent();
        let events = if start.checkpoint.is_none() { control } else { &silent };
        let weights = plan
            .weights
            .as_ref()
            .map(|weights| initial_weights::load(weights, &plan.backbone, &mut student, events))
            .transpose()?;
        student.tune(&plan.tuning)?;
        let inputs = teachers.iter().map(|teacher| teacher.input());
        let teacher_views = ranks.in_turn(|| teacher_views(&plan.data, inputs, &dataset, control))?;
        // Another program's normalisation may be none at all.
        let mut of_networks = plan.teachers.iter().zip(&teacher_views).filter(|(plan, _)| is_network(plan));
        let as_student =
            of_networks.find_map(|(_, view)| view.as_ref().filter(|view| Arc::ptr_eq(&view.dataset, &dataset)));
        let of_start = stored.as_ref().and_then(|state| state.normalization.clone());
        let normalization = match (of_start.or(weights.flatten()), as_student) {
            (Some(normalization), _) => normalization,
            (None, Some(view)) => view.normalization.clone(),
            (None, None) => Normalization::measure(&dataset, &split.train),
        };
        dataset.intact()?;
        let view = View { dataset, normalization };
        let image = backend.zeros(&[1, image_size, image_size, channels])?;
        let shapes = shapes_of::<B>(&student.forward_eval(&image)?);
        let teacher_shapes: Vec<_> = teachers.iter().map(|teacher| teacher.shapes()).collect();
        objective.check(&shapes, &teacher_shapes)?;
        let parameters = objective.parameters(&shapes, &teacher_shapes)?;
        let mut loss_parameters = LossParameters::draw(&backend, parameters, plan.seed)?;
        let [read, read_on_host] =
            [objective.student_features(), objective.host_student_features()].map(with_embedding);
        student.keep_taps(&read);
        let hashes: Vec<String> = teachers.iter().map(|teacher| teacher.hash().to_string()).collect();
        let (mut readers, mut further) = (Vec::new(), Vec::<View>::new());
        for (place, (teacher, seen)) in teachers.into_iter().zip(teacher_views).enumerate() {
            check_classes(&objective, place, teacher.classes(), &class_names(&view.dataset, &split))?;
            let (read, mirrors) = (objective.teacher_features(place), plan.data.augment.flip);
            let (seen, cache) = (seen.unwrap_or_else(|| view.clone()), &plan.data.cache);
            let (plan, train) = (&plan.teachers[place], &split.train);
            let (way, control): (TeacherFeatures, _) = (plan.features, &plan.about(control));
            let mut reader =
                TeacherReader::open(ranks, &backend, teacher, way, read, seen, cache, train, mirrors, control)?;
            if reader.is_live() && !reader.view.is_same(&view) {
                let there = further.iter().position(|view| view.is_same(&reader.view));
                reader.further = Some(there.unwrap_or(further.len()));
                further.extend(there.is_none().then(|| reader.view.clone()));
            }
            readers.push(reader);
        }
        let mut optimizer = Optimizer::new(&plan.optimizer)?;
        let (mut step, mut best, mut policy) = (0, None, Value::Null);
        if let Some(state) = &stored {
            check_teacher_hashes(state, &hashes, &plan.teachers)?;
            check_classes_stay(plan.backbone.classes.is_some(), state.data.as_ref(), &view.dataset, &split)?;
        }
        let steps_per_epoch = stored.as_ref().filter(|_| kept).and_then(|state| state.steps_per_epoch);
        let mut state = State { teachers: hashes, instructions: Some(instructions), ..stored.unwrap_or_default() };
        if let Some(mut checkpoint) = checkpoint {
            student.set_tensors(&checkpoint.take("model."))?;
            let losses = &mut loss_parameters.list;
            *losses = Parameters::from_tensors(&backend, losses.specs.clone(), &checkpoint.take("losses."))?;
            let tensors = checkpoint.take("optimizer.");
            optimizer.restore(&backend, &[&student.parameters, losses], checkpoint.step, &tensors)?;
            best = Some(checkpoint.take("best.")).filter(|best| !best.is_empty());
            (step, policy) = (checkpoint.step, checkpoint.policy);
        }
        let wanted = plan.steps_per_epoch.or(steps_per_epoch);
        let sampler = BatchSampler::new(&view.dataset, &split.train, &plan.batch, wanted, plan.seed)?;
        let steps_per_epoch = sampler.batches();
        let record = DataRecord::new(&view.dataset, &split, (&plan.data.split, plan.split_seed), kept);
        state.data = Some(record.outline.bounded());
        state.normalization = Some(view.normalization.clone());
        state.steps_per_epoch = Some(steps_per_epoch);
        let position = Position { epoch: step / steps_per_epoch, batch: step % steps_per_epoch };
        let rows = Some(share.rows());
        let options = LoaderOptions { seed: plan.seed, start: position, rows, ..LoaderOptions::default() };
        let loader = Loader::new(view.clone(), further, sampler, plan.data.augment.clone(), options)?;
        if ranks.size() > 1 {
            let parameters = student.parameters.values.iter().chain(&loss_parameters.list.values);
            let (begins, teachers) = (hash_of(&backend, parameters)?, state.teachers.join(" "));
            ranks.check_same(&[
                ("teacher", teachers, "give all ranks the same file"),
                ("number of steps in an epoch", steps_per_epoch.to_string(), "give all ranks the same data"),
                ("start of the network", begins, "give all ranks the same weights to begin with"),
            ])?;
        }
        Ok(Session {
            plan,
            backend,
            host,
            share,
            stops: false,
            split,
            kept,
            view,
            student,
            teachers: readers,
            objective,
            read,
            read_on_host,
            loss_parameters,
            optimizer,
            state,
            loader,
            steps_per_epoch,
            step,
            gradient_norm: GradientNorm::Known(0.0),
            best,
            policy,
            memory,
            reference: BTreeMap::new(),
        })
    }

    /// One training step: the whole way of a batch. The host waits for the device once, in `download`, and for other ranks
    /// twice: in `exchange` and before the update; for both once more at each layer, there and back, where batch normalisation is
    /// synchronised.
    fn step(&mut self, batch: &Batch, control: &Control) -> Result<StepReport> {
        let pieces = self.images(&self.view, &batch.images)?;
        let images = |reader: &TeacherReader<B>| match reader.further {
            Some(place) => self.images(&reader.view, &batch.teacher_images[place]),
            None => Ok(pieces.clone()),
        };
        let read = |reader: &TeacherReader<B>| reader.features(batch, || images(reader));
        let teachers = self.teachers.iter().map(read).collect::<Result<Vec<_>>>()?;
        let at = |error| at_step(error, self.step + 1);
        let draw = Draw { seed: self.plan.seed, step: self.step, row: batch.rows.start };
        let mut pass = Pass::forward(&self.student, pieces, &self.read, draw, self.host.ranks()).map_err(at)?;
        let (objective, parameters) = (&self.objective, &self.loss_parameters);
        let device = evaluate_terms(&self.backend, objective, self.step, parameters, &pass.features, &teachers)?;
        let features = std::mem::take(&mut pass.features);
        let mut on_host = self.download(features, teachers, &device)?;
        self.exchange(&mut on_host, &mut pass, control)?;
        let evaluated = self.losses(batch, &on_host, &device)?;
        let embedding = on_host.student.get(&Feature::Embedding);
        let alarm = embedding.and_then(|embedding| self.state.alarm.watch(self.step + 1, embedding));
        drop(on_host);
        let measured = self.objective.has_auto() && self.state.balance.is_measuring();
        if measured {
            let norms = self.norms(&pass, &evaluated, &device)?;
            self.state.balance.add(&self.objective.norms(&evaluated, &norms));
        }
        let value = self.objective.weigh(evaluated, &self.state.balance, self.step);
        let device = weigh(device, &self.backend, |term| self.objective.weight(term, &self.state.balance, self.step))?;
        let gradients = pass.backward(&self.student, &value.gradients, &device)?;
        let gradients = self.share.sum(&self.backend, gradients)?;
        let learning_rate = self.update(gradients, &value, device)?;
        let balanced = measured && !self.state.balance.is_measuring();
        Ok(StepReport { value, learning_rate, alarm, balanced })
    }

    /// Brings the other ranks' rows of the features to the host, and lets the running statistics learn of all micro batches.
    fn exchange(&mut self, on_host: &mut OnHost, pass: &mut Pass<B>, control: &Control) -> Result<()> {
        let OnHost { student, teachers, .. } = on_host;
        let mut features: Vec<_> = std::iter::once(student).chain(teachers).collect();
        let statistics = std::mem::take(&mut pass.statistics);
        let stop = control.is_cancelled();
        let (statistics, stops) = self.share.exchange(&self.backend, &mut features, statistics, stop)?;
        self.stops = stops;
        let common = std::mem::take(&mut pass.common_statistics);
        statistics.iter().chain([&common]).try_for_each(|learnt| self.student.learn(learnt))
    }

    /// This rank's `images` of a batch, as a view shows them, in the pieces that go through the network at once.
    fn images(&self, View { dataset, .. }: &View, images: &[f32]) -> Result<Vec<B::Tensor>> {
        let (side, channels) = (dataset.image_size(), dataset.channels());
        let length = side * side * channels;
        self.share
            .pieces()
            .map(|rows| {
                let shape = [rows.len(), side, side, channels];
                self.backend.from_f32(&images[rows.start * length..rows.end * length], &shape)
            })
            .collect()
    }

    /// Brings what the host needs from the device, all at once: features, what losses learn, what the device has computed
    /// of them, and the norm of the last step's gradient.
    fn download(
        &mut self,
        mut student: FeatureMap<Vec<B::Tensor>>,
        mut teachers: Vec<TeacherBatch<B::Tensor>>,
        device: &[DeviceLoss<B::Tensor>],
    ) -> Result<OnHost> {
        student.retain(|feature, _| self.read_on_host.contains(feature));
        for (place, teacher) in teachers.iter_mut().enumerate() {
            let read = self.objective.host_teacher_features(place);
            teacher.device.retain(|feature, _| read.contains(feature));
        }
        let pending = match &self.gradient_norm {
            GradientNorm::Pending { norms, .. } => Some(norms),
            GradientNorm::Known(_) => None,
        };
        let of_teachers = teachers.iter().flat_map(|teacher| teacher.device.values());
        let features = of_teachers.chain(student.values()).flatten();
        let numbers = device.iter().flat_map(|loss| &loss.value.numbers);
        let tensors: Vec<&B::Tensor> =
            pending.into_iter().chain(features).chain(&self.loss_parameters.list.values).chain(numbers).collect();
        let mut values = self.backend.download(&tensors)?.into_iter();
        if pending.is_some() {
            let norm = self.gradient_norm.read(|_| Ok(values.next().unwrap_or_default()));
            self.gradient_norm = GradientNorm::Known(norm.map_err(|error| at_step(error, self.step))?);
        }
        let on_host = |(teacher, plan): (TeacherBatch<B::Tensor>, &TeacherPlan)| {
            let mut found = matrices::<B>(&format!("the teacher {}'s", plan.name), &teacher.device, &mut values)?;
            found.extend(teacher.host);
            Ok(found)
        };
        let teachers = teachers.into_iter().zip(&self.plan.teachers).map(on_host).collect::<Result<_>>()?;
        let student = matrices::<B>("the student's", &student, &mut values);
        let student = student.map_err(|error| at_step(error, self.step + 1))?;
        let parameters = self.loss_parameters.matrices(&mut values)?;
        let numbers = values.map(|number| number.first().copied().unwrap_or(f64::NAN)).collect();
        Ok(OnHost { student, teachers, parameters, numbers })
    }

    /// Every term of the total loss of a batch.
    fn losses(&self, batch: &Batch, on_host: &OnHost, device: &[DeviceLoss<B::Tensor>]) -> Result<Vec<Evaluated>> {
        let labels: Vec<u32> =
            batch.labels.iter().map(|&label| self.split.train_index(label).unwrap_or_default()).collect();
        let features = BatchFeatures {
            student: &on_host.student,
            teachers: &on_host.teachers,
            labels: &labels,
            parameters: &on_host.parameters,
            team: self.host.team(),
            ranks: self.host.ranks().clone(),
            random: Random::keyed(self.plan.seed, self.step, 0, "loss"),
        };
        let mut evaluated = self.objective.evaluate(&features, self.step)?;
        evaluated.extend(device_terms::evaluated(&self.objective, device, &on_host.numbers, self.step)?);
        evaluated.sort_by_key(|term| term.term);
        Ok(evaluated)
    }

    /// The norm of each term's gradient with respect to all parameters of the network, before weighting.
    fn norms(&self, pass: &Pass<B>, evaluated: &[Evaluated], device: &[DeviceLoss<B::Tensor>]) -> Result<Vec<f64>> {
        let norm = |term: &Evaluated| {
            let gradients = match device.iter().find(|loss| loss.term == term.term) {
                Some(loss) => pass.clone().backward(&self.student, &FeatureMap::new(), std::slice::from_ref(loss))?,
                None => pass.clone().backward(&self.student, &term.upstream(), &[])?,
            };
            let gradients = self.share.sum(&self.backend, gradients)?;
            let tensors: Vec<&B::Tensor> = gradients.iter().flatten().collect();
            match self.backend.norms(&tensors)? {
                Norms::Known(squares) => Ok(squares.iter().sum::<f64>().sqrt()),
                Norms::Pending(norms) => {
                    Ok(self.backend.to_f64(&norms)?.iter().map(|norm| norm * norm).sum::<f64>().sqrt())
                }
            }
        };
        evaluated.iter().map(norm).collect()
    }

    /// Changes the network and what losses learn. Returns the learning rate.
    fn update(
        &mut self,
        mut gradients: Vec<Option<B::Tensor>>,
        value: &ObjectiveValue,
        device: Vec<DeviceLoss<B::Tensor>>,
    ) -> Result<f64> {
        // Terms that rest now reach their parameters later.
        if self.step == 0 && !self.objective.rests(0) {
            check_all_reached(&self.student.parameters.specs, &gradients)?;
        }
        let device = device.into_iter().map(|loss| (loss.term, loss.value.parameters));
        gradients.extend(self.loss_parameters.gradients(&self.backend, &value.parameters, device)?);
        let factor = self.plan.schedule.factor(self.step, self.total_steps());
        let learning_rate = self.plan.optimizer.learning_rate() * factor;
        let groups = &mut [&mut self.student.parameters, &mut self.loss_parameters.list];
        let largest_norm = self.plan.clip_gradient_norm;
        let norm = self.optimizer.step(&self.backend, groups, gradients, learning_rate, largest_norm);
        self.gradient_norm = norm.map_err(|error| at_step(error, self.step + 1))?;
        Ok(learning_rate)
    }

    /// The norm of the last step's gradient. The host waits where the device has not sent it yet.
    fn gradient_norm(&mut self) -> Result<f64> {
        let norm = self.gradient_norm.read(|norms| self.backend.to_f64(norms));
        let norm = norm.map_err(|error| at_step(error, self.step))?;
        self.gradient_norm = GradientNorm::Known(norm);
        Ok(norm)
    }

    fn part_size(&self, part: Part) -> PartSize {
        PartSize { images: self.split.items(part).len(), classes: self.split.classes(part).len() }
    }

    fn total_steps(&self) -> u64 {
        self.plan.epochs * self.steps_per_epoch
    }
}

impl<B: Backend> Training for Session<B> {
    fn summary(&self) -> SessionSummary {
        SessionSummary {
            data: self.view.dataset.describe(),
            train: self.part_size(Part::Train),
            validation: self.part_size(Part::Validation),
            test: self.part_size(Part::Test),
            student: NetworkSummary {
                backbone: self.plan.backbone.kind.clone(),
                parameters: self.student.parameter_count(),
                embedding: self.student.embedding_size(),
            },
            teachers: self.teachers.iter().zip(&self.plan.teachers).map(teacher_summary).collect(),
            steps_per_epoch: self.steps_per_epoch,
            total_steps: self.total_steps(),
            step: self.step,
            device: self.plan.device,
            precision: self.plan.precision,
            ranks: self.host.ranks().size(),
            threads: self.host.team().threads(),
            instruction_set: self.host.team().isa().name().to_string(),
            memory: self.memory.clone(),
        }
    }

    fn policy(&self) -> &Value {
        &self.policy
    }

    fn train(&mut self, until_step: u64, control: &Control) -> Result<SegmentReport> {
        let mut segment = Segment::new();
        // Ranks stop at the same step: what somebody wants, all know at the end of the next one.
        let alone = self.host.ranks().size() == 1;
        self.stops = false;
        while self.step < until_step && !self.stops && !(alone && control.is_cancelled()) {
            let waited = self.share.waited();
            let batch = self.loader.next()?;
            self.view.dataset.intact()?;
            self.teachers.iter().try_for_each(|reader| reader.view.dataset.intact())?;
            let StepReport { value, learning_rate, alarm, balanced } = self.step(&batch, control)?;
            self.step += 1;
            segment.add(&value, batch.len(), batch.waited, self.share.waited() - waited);
            self.loader.recycle(batch);
            if let Some(alarm) = alarm {
                control.emit(Event::Collapse(alarm));
            }
            if balanced {
                let weights = self.objective.chosen(&self.state.balance);
                control.emit(Event::Weights { step: self.step, weights });
            }
            // A norm that is not yet the host's would make every step wait for the device once more.
            let is_here = matches!(self.gradient_norm, GradientNorm::Known(_));
            if control.step_event_due() || is_here {
                let Rates { images_per_second, data_wait, rank_wait } = segment.rates();
                let gradient_norm = self.gradient_norm()?;
                control.emit(Event::Step(StepEvent {
                    step: self.step,
                    total_steps: self.total_steps(),
                    epoch: (self.step - 1) / self.steps_per_epoch + 1,
                    loss: value.total,
                    terms: value.terms,
                    learning_rate,
                    gradient_norm,
                    images_per_second,
                    data_wait_share: data_wait,
                    rank_wait_share: rank_wait,
                }));
            }
        }
        self.gradient_norm()?;
        let cancelled = (self.stops || control.is_cancelled()) && self.step < until_step;
        Ok(segment.report(self.step, cancelled, self.state.alarm.has_rung()))
    }

    fn evaluate(&mut self, who: Who, part: Part, ks: &[usize], control: &Control) -> Result<Evaluation> {
        let (backend, ranks, items) = (&self.backend, self.host.ranks(), self.split.items(part));
        check_enough(items)?;
        let mine = &items[share_of_images(items.len(), ranks)];
        let by_teacher = |TeacherReader { teacher, view, .. }: &TeacherReader<B>| {
            embed_teacher(backend, &**teacher, view, &self.plan.data.cache, mine, control)?.gathered(ranks)
        };
        let own;
        let (embeddings, classes) = match who {
            Who::Student => {
                own = self.plan.backbone.classes.map(|_| class_names(&self.view.dataset, &self.split));
                let student = self.student.clone().into_inference()?;
                let embedded = embed_part(backend, outputs(&student), &self.view, items, ranks, control)?;
                (embedded, own.as_deref())
            }
            Who::Teacher(place) => {
                let reader = self.teachers.get(place);
                let reader =
                    reader.ok_or_else(|| Error::new(Code::Internal, format!("there is no teacher {place}")))?;
                (by_teacher(reader)?, reader.teacher.classes())
            }
        };
        // What the embeddings are worth, the first rank alone says.
        if self.view.dataset.is_labelled() {
            return match ranks.is_first() {
                true => measure(&self.host, &self.view.dataset, classes, items, &embeddings, ks),
                false => Ok(unmeasured(&embeddings)),
            };
        }
        let mut evaluation = unmeasured(&embeddings);
        let said = match self.reference.entry(part) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(free) => {
                let of_teacher = |(place, reader)| match who == Who::Teacher(place) {
                    true => Ok(embeddings.values.clone()),
                    false => by_teacher(reader).map(|found| found.values),
                };
                free.insert(self.teachers.iter().enumerate().map(of_teacher).collect::<Result<_>>()?)
            }
        };
        if !ranks.is_first() {
            return Ok(evaluation);
        }
        let references = Reference::of(&self.plan.teachers, said.iter().map(Vec::as_slice));
        add_fidelity(&mut evaluation, &self.host, &references, &embeddings.values, ks, self.plan.seed)?;
        Ok(evaluation)
    }

    fn look(&mut self, part: Part, most: usize, control: &Control) -> Result<Look> {
        let (dataset, all) = (&self.view.dataset, self.split.items(part));
        let items = look::sample(dataset, all, most, self.plan.seed);
        let student = self.student.clone().into_inference()?;
        let student = embed_part(&self.backend, outputs(&student), &self.view, &items, &Ranks::one(), control)?.values;
        let images = items.iter().map(|&item| look::named(dataset, item)).collect();
        Ok(Look { images, student, teachers: Vec::new(), of: all.len() })
    }

    fn keep(&mut self) -> Result<()> {
        self.best = Some(self.student.tensors()?);
        Ok(())
    }

    fn save_checkpoint(&mut self, path: &Path, policy: Value) -> Result<()> {
        let (plan, state) = (comparable(&self.plan)?, to_json(&self.state)?);
        let (step, device, precision) = (self.step, self.plan.device, self.plan.precision);
        let mut checkpoint = Checkpoint { step, device, precision, plan, state, policy, tensors: BTreeMap::new() };
        checkpoint.insert("model.", self.student.tensors()?);
        let groups = [&self.student.parameters, &self.loss_parameters.list];
        checkpoint.insert("losses.", self.loss_parameters.list.to_tensors(&self.backend)?);
        checkpoint.insert("optimizer.", self.optimizer.tensors(&self.backend, &groups)?);
        checkpoint.insert("best.", self.best.clone().unwrap_or_default());
        checkpoint.save(path)
    }

    fn save_record(&self, path: &Path) -> Result<()> {
        let (split, kept) = ((&self.plan.data.split, self.plan.split_seed), self.kept);
        known::write(&DataRecord::new(&self.view.dataset, &self.split, split, kept), path)
    }

    fn save_model(&mut self, path: &Path, best: bool) -> Result<()> {
        let View { dataset, normalization } = &self.view;
        let card = ModelCard {
            backbone: self.plan.backbone.clone(),
            input: dataset.input_kind(),
            normalization: normalization.clone(),
            classes: self.plan.backbone.classes.map(|_| class_names(dataset, &self.split)),
            prefixes: self.plan.prefixes.clone(),
            origin: Origin {
                rkd: env!("CARGO_PKG_VERSION").into(),
                seed: self.plan.seed,
                data: self.state.data.clone(),
                teachers: self.state.teachers.clone(),
            },
        };
        let tensors = match (best, &self.best) {
            (true, Some(best)) => best.clone(),
            _ => self.student.tensors()?,
        };
        Model { card, tensors }.save(path)
    }
}

/// Whether a teacher is a network of rkd.
fn is_network(plan: &TeacherPlan) -> bool {
    plan.onnx.is_none() && plan.vectors.is_none()
}

fn teacher_summary<B: Backend>((reader, plan): (&TeacherReader<B>, &TeacherPlan)) -> TeacherSummary {
    let teacher = &reader.teacher;
    let embedding = teacher.shapes().get(&Feature::Embedding);
    let network = NetworkSummary {
        backbone: teacher.name().to_string(),
        parameters: teacher.parameter_count(),
        embedding: embedding.and_then(|shape| shape.last().copied()).unwrap_or_default(),
    };
    TeacherSummary { name: plan.name.clone(), weight: plan.weight, network }
}

/// The names of the training classes, in the order of the classifier's logits; none without labels.
fn class_names(dataset: &Dataset, split: &Split) -> Vec<String> {
    if !dataset.is_labelled() {
        return Vec::new();
    }
    split.train_classes.iter().map(|&label| dataset.class_name(label).to_string()).collect()
}

/// A hash of the numbers of tensors.
fn hash_of<'t, B: Backend>(backend: &B, tensors: impl Iterator<Item = &'t B::Tensor>) -> Result<String> {
    let mut hash = blake3::Hasher::new();
    for tensor in tensors {
        hash.update(&backend.to_f32(tensor)?.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
    }
    Ok(hash.finalize().to_hex()[..16].into())
}

/// A classifier that goes on has an output for each class it was started with.
fn check_classes_stay(
    is_classifier: bool,
    before: Option<&DataOutline>,
    dataset: &Dataset,
    split: &Split,
) -> Result<()> {
    let Some(before) = before.filter(|_| is_classifier) else { return Ok(()) };
    let now: BTreeSet<&str> = split.train_classes.iter().map(|&label| dataset.unturned_name(label)).collect();
    let Some(gone) = before.classes(Part::Train).find(|class| !now.contains(class)) else { return Ok(()) };
    Err(Error::new(Code::InvalidData, "a class that the classifier was trained on is gone")
        .with_subject("data")
        .with_values(format!("images of {gone}"), "none")
        .with_advice("put its images back, or start the run anew"))
}

/// The error with the step it happened at.
fn at_step(mut error: Error, step: u64) -> Error {
    if error.code == Code::NonFinite {
        error.message = format!("step {step}: {}", error.message);
    }
    error
}
