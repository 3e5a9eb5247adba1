//! What memory a run takes at its peak, told before its first step and compared with what this process may take.
//!
//! What is counted, n images of a batch, P and T the numbers of student and teacher (of several, all), S those of the
//! optimiser's state:
//!
//! | part | formula |
//! | --- | --- |
//! | networks of a teacher of another kind | an ONNX model: twice its weights and twelve times a batch of its images, a guess; stored vectors: the table |
//! | networks, activations, gradients, optimizer, evaluation | not formulas: the very passes of the run, on a backend that counts what they would allocate ([`Cpu::counting`]), two steps between evaluations, of all sizes of batches: what each adds to the free list, which never shrinks |
//! | kernels | the largest buffers of the convolutions and linear layers ([`Cpu::working_memory`]) and 2 MiB of each thread |
//! | losses | 8 bytes: 3 x the features that the host reads of n images, and 3.5 n^2 where a loss compares images |
//! | loader | 5 batches of float32 images, each in the student's size and that of each teacher that sees batches |
//! | teacherFeatures | 4 bytes x features x training images, twice where training mirrors |
//! | listing | 200 bytes an image of the data |
//! | best | 4 P: the best weights so far |
//! | other | 16 MiB: the addon's code, stacks, what allocators keep |
//! | moment | the largest of what comes and goes: a checkpoint (8 (2 P + S)), reading a teacher (12 T), the final evaluation (networks of its own with their passes, embeddings and a tile of 512 x images), new best weights (8 P) |
//!
//! Decoded images count nothing: they stay in a file and are read one by one. A network on another device than the own
//! kernels is estimated as if it were on them, and never refused for that; what a GPU's own memory has to hold is counted by
//! `device_memory.rs`.
//!
//! How exact: the estimate over the measured peak (`VmHWM` of `rkd train` and `rkd distill` with 2 threads, 4 steps, evaluations
//! and checkpoints; glyphs of 60 classes):
//!
//! | run | estimate, MiB | peak, MiB | ratio |
//! | --- | --- | --- | --- |
//! | Conv-4, 28 px, batch 64 | 189 | 168 | 1.12 |
//! | Conv-4, 84 px, batch 32 | 944 | 946 | 1.00 |
//! | ResNet-18, 32 px, batch 64, SGD | 924 | 945 | 0.98 |
//! | VGG-11, 32 px, batch 64, SGD | 570 | 564 | 1.01 |
//! | ResNet-50, 64 px, batch 32 | 1592 | 1604 | 0.99 |
//! | ResNet-18 from ResNet-50, 64 px, batch 64, live | 1007 | 976 | 1.03 |
//! | the same, cached | 994 | 1026 | 0.97 |
//! | the same, live, micro batch 16 | 1003 | 949 | 1.06 |
//! | Conv-4 of width 16 from ResNet-50, 64 px, batch 32 | 658 | 665 | 0.99 |

use std::borrow::Cow;

use super::evaluate::BATCH;
use super::objective::{Objective, with_embedding};
use super::pass::{add, cut};
use super::plan::Plan;
use super::report::MemoryEstimate;
use super::teacher::{Teacher, TeacherFeatures, TeacherPlan, numbers_of, shapes_of};
use crate::backbones::{self, BackboneSpec};
use crate::data::LoaderOptions;
use crate::devices::Device;
use crate::error::{Code, Error, Result};
use crate::limits::{Limit, Limits, Process};
use crate::losses::{Feature, FeatureMap, LossSpec, RkdAngle, TermSpec};
use crate::metrics::FidelityOptions;
use crate::nn::dropout::Draw;
use crate::nn::parameters::Parameters;
use crate::nn::tape::Tape;
use crate::nn::{Backend, Cpu, Inference, Network};
use crate::optim::Optimizer;
use crate::ranks::{Ranks, Tree, share};

/// The estimate over the measured peak lies well between 1 / `UNCERTAINTY` and `UNCERTAINTY`. So a run is refused only where
/// the estimate divided by this exceeds a limit, and warned where the estimate itself does.
pub const UNCERTAINTY: f64 = 1.3;

/// Working memory of a unit of a kernel, on each thread.
const UNIT_BYTES: u64 = 2 << 20;

/// What no part counts.
const OTHER_BYTES: u64 = 16 << 20;

/// What the listing keeps of an image: its path, label, part and place.
const LISTED_BYTES: u64 = 200;

/// What an estimate depends on.
#[derive(Clone)]
pub(super) struct Demand<'a> {
    /// The plan, with its classes.
    pub plan: Cow<'a, Plan>,
    /// The losses.
    pub objective: &'a Objective,
    /// The teachers.
    pub teachers: Vec<OfTeacher<'a>>,
    /// Threads in use.
    pub threads: usize,
    /// The ranks that share a batch.
    pub ranks: usize,
    /// All images of the data.
    pub images: usize,
    /// Those of training, validation and test.
    pub parts: [usize; 3],
}

/// What an estimate asks of a teacher.
#[derive(Clone, Copy)]
pub(super) struct OfTeacher<'a> {
    /// Its network, where it is one of rkd.
    pub network: Option<&'a BackboneSpec>,
    /// Its features, each with its shape for one image.
    pub shapes: &'a FeatureMap<Vec<usize>>,
    /// What it takes where it is no network of rkd.
    pub bytes: u64,
    /// Numbers of an image that it sees; `None` where it needs none, and a mirrored image is no other one to it.
    pub image: Option<usize>,
    /// Whether it sees every batch.
    pub is_live: bool,
}

impl<'a> OfTeacher<'a> {
    /// That of `teacher`, which is read as `plan` says.
    pub fn new<B: Backend>(teacher: &'a dyn Teacher<B>, plan: &TeacherPlan) -> Self {
        OfTeacher {
            network: teacher.card().map(|card| &card.backbone),
            shapes: teacher.shapes(),
            bytes: teacher.bytes(),
            image: teacher.input().map(|input| input.image_size * input.image_size * input.channels),
            is_live: plan.features == TeacherFeatures::Live,
        }
    }
}

/// The passes of a run, on a backend that counts.
pub(super) struct Counted<B: Backend> {
    backend: B,
    student: Network<B>,
    /// Those that are networks of rkd.
    teachers: Vec<Option<Inference<B>>>,
    losses: Parameters<B>,
    optimizer: Optimizer<B>,
    /// The student's features, each with its shape for one image.
    pub shapes: FeatureMap<Vec<usize>>,
    read: Vec<Feature>,
}

/// The images of a batch, piece by piece, and what the student's forward pass kept of each.
type Passed<B> = (Vec<<B as Backend>::Tensor>, Vec<Tape<B>>);

/// The pieces of a batch that are counted: further ones take the memory of those before them.
const PIECES: usize = 4;

impl Demand<'_> {
    /// The memory of the run where the process has `process` bytes before it.
    ///
    /// # Errors
    /// Those of building the networks, and of losses that do not fit them.
    pub fn estimate(&self, process: u64) -> Result<MemoryEstimate> {
        let Plan { batch, .. } = &*self.plan;
        let mut estimate = MemoryEstimate { process, ..MemoryEstimate::default() };
        let mut counted = Counted::new(self, Cpu::counting())?;
        let mut last = 0;
        let mut more = |counted: &Counted<Cpu>| {
            let now = counted.backend.allocated() as u64;
            now - std::mem::replace(&mut last, now)
        };
        estimate.networks = more(&counted);
        if !self.teachers.is_empty() {
            // The student is measured before training, and a teacher may be asked for all its features.
            counted.evaluate(self)?;
            estimate.evaluation = more(&counted);
        }
        for _ in 0..2 {
            let features = counted.forward(self)?;
            estimate.activations += more(&counted);
            let gradients = counted.backward(self, features)?;
            estimate.gradients += more(&counted);
            counted.update(self, gradients)?;
            estimate.optimizer += more(&counted);
        }
        estimate.activations += counted.further_pieces(self);
        estimate.gradients += counted.further_branches(self);
        counted.evaluate(self)?;
        estimate.evaluation += more(&counted);
        estimate.kernels = counted.backend.working_memory() as u64 + UNIT_BYTES * self.threads as u64;

        let n = batch.size as u64;
        let read = |names: Vec<Feature>, shapes: &FeatureMap<Vec<usize>>| numbers_of(&names, shapes) as u64;
        let own = read(self.objective.student_features(), &counted.shapes);
        let of_teacher =
            |(place, teacher): (usize, &OfTeacher<'_>)| read(self.objective.teacher_features(place), teacher.shapes);
        let of_teachers: Vec<u64> = self.teachers.iter().enumerate().map(of_teacher).collect();
        estimate.networks += self.teachers.iter().map(|teacher| teacher.bytes).sum::<u64>();
        let compares = self.plan.losses.iter().any(|term| !term.weight.is_off() && !term.build().sees_images_alone());
        estimate.losses = 8 * n * (3 * own + of_teachers.iter().sum::<u64>()) + if compares { 28 * n * n } else { 0 };
        let angle = |term: &TermSpec| !term.weight.is_off() && matches!(term.loss, LossSpec::RkdAngle(_));
        if self.plan.losses.iter().any(angle) {
            estimate.losses += 8 * n * n * RkdAngle::branches(batch.size);
        }

        let BackboneSpec { image_size, in_channels, .. } = self.plan.backbone;
        let batches = LoaderOptions::default().ahead as u64 + 1;
        let live = self.teachers.iter().filter(|teacher| teacher.is_live).filter_map(|teacher| teacher.image);
        estimate.loader = batches * 4 * n * (image_size * image_size * in_channels + live.sum::<usize>()) as u64;
        for (teacher, numbers) in self.teachers.iter().zip(&of_teachers).filter(|(teacher, _)| !teacher.is_live) {
            let sides = if self.plan.data.augment.flip && teacher.image.is_some() { 2 } else { 1 };
            estimate.teacher_features += 4 * numbers * sides * self.parts[0] as u64;
        }
        estimate.listing = LISTED_BYTES * self.images as u64;

        let weights = bytes_of(&counted.student.parameters);
        estimate.best = weights;
        let checkpoint = 2 * (2 * weights + bytes_of(&counted.losses) + 4 * counted.optimizer.state_size() as u64);
        let ([_, validation, test], shapes) = (self.parts, &counted.shapes);
        let measured = |images: usize| metrics(images as u64, read(vec![Feature::Embedding, Feature::Logits], shapes));
        let compared = if self.teachers.is_empty() { 0 } else { fidelity(test as u64) };
        let last = self.last_evaluation()? + measured(test) + compared;
        estimate.moment = [checkpoint, 2 * weights, last, measured(validation)].into_iter().max().unwrap_or(0);
        estimate.other = OTHER_BYTES;
        estimate.total = estimate.parts().iter().map(|(_, bytes)| bytes).sum::<u64>() + process;
        Ok(estimate)
    }

    /// The evaluation of the stored model: networks of its own beside those of training.
    fn last_evaluation(&self) -> Result<u64> {
        let cpu = Cpu::counting();
        let mut networks = Vec::new();
        let teachers = || self.teachers.iter().filter_map(|teacher| teacher.network);
        for spec in [&self.plan.backbone].into_iter().chain(teachers()) {
            let network = Network::zeros(cpu.clone(), backbones::define(spec)?)?;
            let network = network.into_inference_without_values()?;
            look(&cpu, &network, spec, &self.parts[2..])?;
            networks.push(network);
        }
        // A teacher's file is read while the student's network is there.
        let read = networks[1..].iter().map(|network| 4 * network.numbers() as u64).max().unwrap_or(0);
        Ok((cpu.allocated() + cpu.working_memory()) as u64 + UNIT_BYTES * self.threads as u64 + read)
    }

    /// Checks that the run fits into what this process may take, as it was before it: `process` and `limits`. Gives the
    /// estimate, and a sentence where it is near a limit.
    ///
    /// # Errors
    /// `ERR_INVALID_OPTION` with what would fit, where it is certain that the run does not; those of [`Demand::estimate`].
    pub fn check(&self, process: Option<Process>, limits: &Limits) -> Result<(MemoryEstimate, Option<String>)> {
        let estimate = self.estimate(process.map_or(0, |process| process.resident))?;
        let Some((room, limit)) = limits.room() else { return Ok((estimate, None)) };
        let (needed, free) = (estimate.needed(), limits.available.unwrap_or(u64::MAX).min(room));
        if self.plan.device == Device::Cpu && needed as f64 / UNCERTAINTY > room as f64 {
            return Err(self.does_not_fit(&estimate, room, limit));
        }
        let warning = (needed > free).then(|| {
            let (total, advice) = (in_words(estimate.total), self.advice(free));
            let free = in_words(free);
            format!(
                "This run takes about {total} of memory at its peak, and {free} are free beside what the process has: the \
                 system may end it. {advice}."
            )
        });
        Ok((estimate, warning))
    }

    fn does_not_fit(&self, estimate: &MemoryEstimate, room: u64, limit: &Limit) -> Error {
        let mut parts = estimate.parts();
        parts.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let parts: Vec<String> =
            parts.iter().take(3).map(|(name, bytes)| format!("{name} {}", in_words(*bytes))).collect();
        let received = format!("about {} ({})", in_words(estimate.needed()), parts.join(", "));
        let Limit { name, bytes, used } = limit;
        let expected =
            format!("at most {}: {name} allows {}, {} are used", in_words(room), in_words(*bytes), in_words(*used));
        Error::new(Code::InvalidOption, "the run does not fit into memory")
            .with_subject("batch.size")
            .with_values(expected, received)
            .with_advice(self.advice(room))
    }

    /// What would fit into `room`, computed anew with each change alone.
    fn advice(&self, room: u64) -> String {
        self.advice_by(|changed| changed.estimate(0).is_ok_and(|estimate| estimate.needed() <= room))
    }

    /// What would fit, computed anew with each change alone by what `fits`.
    pub fn advice_by(&self, fits_so: impl Fn(&Demand<'_>) -> bool) -> String {
        let Plan { batch, backbone, micro_batch, .. } = &*self.plan;
        let fits = |change: &dyn Fn(&mut Plan)| {
            let mut plan = self.plan.clone().into_owned();
            change(&mut plan);
            fits_so(&Demand { plan: Cow::Owned(plan), ..self.clone() })
        };
        let mut found = Vec::new();
        let pieces = largest(2, micro_batch.unwrap_or(batch.size), |size| fits(&|plan| plan.micro_batch = Some(size)));
        found.extend(pieces.map(|size| format!("--micro-batch {size}")));
        if batch.episode.is_none() {
            let each = batch.per_class.unwrap_or(1);
            let groups = largest(1, batch.size / each, |groups| fits(&|plan| plan.batch.size = groups * each));
            found.extend(groups.filter(|groups| groups * each > 1).map(|groups| format!("--batch {}", groups * each)));
        }
        let step = backbones::image_step(&backbone.kind);
        let side = largest(8usize.div_ceil(step), backbone.image_size.div_ceil(step), |steps| {
            let side = steps * step;
            fits(&|plan| (plan.backbone.image_size, plan.data.image_size) = (side, side))
        });
        let side = side.map(|steps| steps * step);
        found.extend(side.map(|side| format!("--image-size {side}")));
        match found.split_last() {
            None => "no smaller batch and no smaller image would fit; use a smaller network, or more memory".into(),
            Some((only, [])) => format!("{only} would fit"),
            Some((last, before)) => format!("{} or {last} would fit", before.join(", ")),
        }
    }
}

impl<B: Backend> Counted<B> {
    /// Of the run's networks on `backend`.
    pub fn new(demand: &Demand<'_>, backend: B) -> Result<Self> {
        let (plan, objective) = (&demand.plan, demand.objective);
        let mut student = Network::zeros(backend.clone(), backbones::define(&plan.backbone)?)?;
        student.tune(&plan.tuning)?;
        let shapes = shapes_of::<B>(&student.forward_eval(&images(&backend, &plan.backbone, 1)?)?);
        let network = |(place, teacher): (usize, &OfTeacher<'_>)| {
            let Some(spec) = teacher.network else { return Ok(None) };
            let network = Network::zeros(backend.clone(), backbones::define(spec)?)?;
            let mut network = network.into_inference_without_values()?;
            network.forward(&images(&backend, spec, 1)?)?;
            network.keep_taps(&objective.teacher_features(place));
            Ok::<_, Error>(Some(network))
        };
        let teachers = demand.teachers.iter().enumerate().map(network).collect::<Result<Vec<_>>>()?;
        let teacher_shapes: Vec<_> = demand.teachers.iter().map(|teacher| teacher.shapes).collect();
        objective.check(&shapes, &teacher_shapes)?;
        let specs = objective.parameters(&shapes, &teacher_shapes)?.concat();
        let losses = Parameters::zeros(&backend, specs)?;
        let read = with_embedding(objective.student_features());
        student.keep_taps(&read);
        let optimizer = Optimizer::new(&plan.optimizer)?;
        Ok(Counted { backend, student, teachers, losses, optimizer, shapes, read })
    }

    /// An evaluation during training, and the teachers' features if they are computed once.
    pub fn evaluate(&self, demand: &Demand<'_>) -> Result<()> {
        let ([train, validation, test], network) =
            (demand.parts, self.student.clone().into_inference_without_values()?);
        let before = if self.teachers.is_empty() { 0 } else { test };
        look(&self.backend, &network, &demand.plan.backbone, &[validation, before])?;
        let networks = self.teachers.iter().zip(&demand.teachers);
        let mut networks = networks.filter_map(|(network, teacher)| network.as_ref().zip(teacher.network));
        networks.try_for_each(|(network, spec)| look(&self.backend, network, spec, &[train, test]))
    }

    /// The images of each piece that a rank has of a batch, the largest first.
    fn all_pieces(demand: &Demand<'_>) -> Vec<usize> {
        let pieces = cut(demand.plan.batch.size, demand.plan.micro_batch);
        // All ranks have as many; the last one's are the largest where they are not even.
        let own = share(pieces.len(), demand.ranks - 1, demand.ranks);
        let mut pieces: Vec<usize> = pieces[own].iter().map(|rows| rows.len()).collect();
        pieces.sort_unstable_by(|a, b| b.cmp(a));
        pieces
    }

    /// Those that are counted: all where their activations are in memory at once.
    pub fn pieces(&self, demand: &Demand<'_>) -> Vec<usize> {
        let mut pieces = Self::all_pieces(demand);
        pieces.truncate(if self.student.is_synchronised() { pieces.len() } else { PIECES });
        pieces
    }

    /// The images and features of the pieces that are not counted.
    fn further_pieces(&self, demand: &Demand<'_>) -> u64 {
        let rows = Self::all_pieces(demand).iter().sum::<usize>() - self.pieces(demand).iter().sum::<usize>();
        let BackboneSpec { image_size, in_channels, .. } = demand.plan.backbone;
        let features = numbers_of(&self.read, &self.shapes);
        4 * (rows * (image_size * image_size * in_channels + features)) as u64
    }

    /// The sums of gradients that the tree of all pieces keeps and that of the counted ones does not: one for each doubling.
    fn further_branches(&self, demand: &Demand<'_>) -> u64 {
        let doublings = (Self::all_pieces(demand).len() / self.pieces(demand).len().max(1)).checked_ilog2();
        u64::from(doublings.unwrap_or_default()) * bytes_of(&self.student.parameters)
    }

    /// A batch through teachers and student: its pieces, and what the student's forward pass kept.
    pub fn forward(&mut self, demand: &Demand<'_>) -> Result<Passed<B>> {
        let (backend, sizes) = (self.backend.clone(), self.pieces(demand));
        let pieces = |spec| sizes.iter().map(|&rows| images(&backend, spec, rows)).collect::<Result<Vec<_>>>();
        let own = pieces(&demand.plan.backbone)?;
        let mut features = Vec::new();
        for (place, (network, teacher)) in self.teachers.iter().zip(&demand.teachers).enumerate() {
            let (Some(network), Some(spec), true) = (network, teacher.network, teacher.is_live) else { continue };
            let names = demand.objective.teacher_features(place);
            for images in pieces(spec)? {
                let mut all = network.forward(&images)?;
                all.retain(|name, _| names.contains(name));
                features.push(all);
            }
        }
        if self.student.is_synchronised() {
            let images: Vec<_> = own.iter().map(|images| (images.clone(), Draw::default())).collect();
            let (found, learnt) = self.student.forward_together(&images, &Ranks::one())?;
            self.student.learn(&learnt)?;
            return Ok((own, found.into_iter().map(|(_, tape)| tape).collect()));
        }
        let mut tapes = Vec::new();
        for images in &own {
            let (mut all, learnt) = match own.len() {
                1 => {
                    let (all, kept, learnt) = self.student.forward_taped(images, Draw::default())?;
                    tapes.push(kept);
                    (all, learnt)
                }
                _ => self.student.forward_untaped(images, Draw::default())?,
            };
            self.student.learn(&learnt)?;
            all.retain(|name, _| self.read.contains(name));
            features.push(all);
        }
        Ok((own, tapes))
    }

    /// The way back, by way of each piece; and once more before it where weights are found by balancing.
    pub fn backward(&self, demand: &Demand<'_>, (pieces, tapes): Passed<B>) -> Result<Vec<Option<B::Tensor>>> {
        let upstream = |images: &B::Tensor| {
            let (rows, features) = (B::shape(images)[0], demand.objective.student_features().into_iter());
            let upstream = features.filter_map(|name| {
                let shape: Vec<usize> = [rows].iter().chain(self.shapes.get(&name)?.iter().skip(1)).copied().collect();
                Some((name, self.backend.zeros(&shape)))
            });
            upstream.map(|(name, tensor)| Ok((name, tensor?))).collect::<Result<FeatureMap<_>>>()
        };
        let all = |tapes: Vec<Tape<B>>| {
            let (mut sum, add) = (Tree::default(), |a, b| add(&self.backend, a, b));
            if self.student.is_synchronised() {
                let tapes = tapes.into_iter().zip(&pieces);
                let tapes = tapes.map(|(tape, images)| Ok((tape, upstream(images)?))).collect::<Result<_>>()?;
                for found in self.student.backward_together(tapes, &Ranks::one(), false)? {
                    sum.push(found.parameters, add)?;
                }
            } else {
                let mut kept = tapes.into_iter();
                for images in &pieces {
                    let tape = match kept.next() {
                        Some(tape) => tape,
                        None => self.student.forward_taped(images, Draw::default())?.1,
                    };
                    sum.push(self.student.backward(tape, upstream(images)?, false)?.parameters, add)?;
                }
            }
            Ok::<_, Error>(sum.sum(add)?.unwrap_or_default())
        };
        if demand.objective.has_auto() {
            all(tapes.clone())?;
        }
        all(tapes)
    }

    pub fn update(&mut self, demand: &Demand<'_>, mut gradients: Vec<Option<B::Tensor>>) -> Result<()> {
        for spec in &self.losses.specs {
            let gradient = spec.is_trained().then(|| self.backend.zeros(&spec.inner_shape()));
            gradients.push(gradient.transpose()?);
        }
        let groups = &mut [&mut self.student.parameters, &mut self.losses];
        self.optimizer.step(&self.backend, groups, gradients, 0.0, demand.plan.clip_gradient_norm).map(drop)
    }
}

/// Bytes of parameters on the host.
fn bytes_of<B: Backend>(parameters: &Parameters<B>) -> u64 {
    4 * parameters.specs.iter().map(|spec| spec.count() as u64).sum::<u64>()
}

/// What measuring `images` with so many `numbers` each takes: they grow by doubling; retrieval copies them, packs them and
/// makes a tile of 512 x images.
fn metrics(images: u64, numbers: u64) -> u64 {
    4 * images * (4 * numbers + images.min(512)) + 100 * images
}

/// What comparing the relations of `images` takes: of each pair its places, two distances, two ranks and an order.
fn fidelity(images: u64) -> u64 {
    52 * (images * images.saturating_sub(1) / 2).min(FidelityOptions::default().pairs as u64)
}

/// Evaluation of so many images each: batches of one size, and a last one that is smaller.
fn look<B: Backend>(backend: &B, network: &Inference<B>, spec: &BackboneSpec, counts: &[usize]) -> Result<()> {
    for &count in counts {
        let batches = [count.min(BATCH), if count > BATCH { count % BATCH } else { 0 }];
        for size in batches.into_iter().filter(|&size| size > 0) {
            network.forward(&images(backend, spec, size)?)?;
        }
    }
    Ok(())
}

fn images<B: Backend>(backend: &B, spec: &BackboneSpec, n: usize) -> Result<B::Tensor> {
    backend.zeros(&[n, spec.image_size, spec.image_size, spec.in_channels])
}

/// The largest value from `least` on below `end` that `fits`, where smaller ones fit if larger ones do.
fn largest(least: usize, end: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut fitting, mut end) = (None, end);
    let mut start = least;
    while start < end {
        let middle = start + (end - start) / 2;
        if fits(middle) {
            (fitting, start) = (Some(middle), middle + 1);
        } else {
            end = middle;
        }
    }
    fitting
}

/// Bytes for people.
pub(super) fn in_words(bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    if mebibytes < 1024.0 { format!("{mebibytes:.0} MiB") } else { format!("{:.1} GiB", mebibytes / 1024.0) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::nn::tuning::TrainingStatistics;
    use serde_json::json;

    const MIB: u64 = 1 << 20;

    /// A change of a plan to a value.
    type Change = fn(&mut Plan, usize);

    pub fn plan(size: usize) -> Plan {
        serde_json::from_value(json!({
            "data": {
                "source": "glyphs", "imageSize": 64, "channels": 3, "cache": "cache",
                "split": { "kind": "classes", "validation": 0.1, "test": 0.2 }, "augment": { "flip": true },
            },
            "backbone": {
                "kind": "conv4", "width": 16, "stem": "small", "embedding": 8, "normalize": false,
                "inChannels": 3, "imageSize": 64, "classes": null,
            },
            "weights": null, "teachers": [], "losses": [{ "kind": "triplet-squared" }],
            "optimizer": {
                "kind": "adam", "learningRate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weightDecay": 0.0
            },
            "schedule": { "kind": "cosine", "warmupSteps": 0, "minimum": 0.0 }, "clipGradientNorm": null,
            "batch": { "size": size, "perClass": 4 }, "epochs": 1, "stepsPerEpoch": 8, "seed": 1, "splitSeed": 1, "threads": 2,
        }))
        .unwrap()
    }

    /// Asks of a run with `teachers`, each with its network and whether it sees batches.
    pub fn with<T>(plan: &Plan, teachers: &[(&BackboneSpec, bool)], ask: impl FnOnce(&Demand<'_>) -> T) -> T {
        let names: Vec<(&str, f64)> = teachers.iter().zip(["a", "b", "c"]).map(|(_, name)| (name, 1.0)).collect();
        let objective = Objective::new(&plan.losses, &names).unwrap();
        let plan = Cow::Borrowed(plan);
        let shapes = teachers.iter().map(|(spec, _)| {
            let cpu = Cpu::counting();
            let network = Network::zeros(cpu.clone(), backbones::define(spec).unwrap()).unwrap();
            let network = network.into_inference_without_values().unwrap();
            shapes_of::<Cpu>(&network.forward(&images(&cpu, spec, 1).unwrap()).unwrap())
        });
        let shapes: Vec<_> = shapes.collect();
        let teachers = teachers.iter().zip(&shapes).map(|(&(spec, is_live), shapes)| {
            let image = Some(spec.image_size * spec.image_size * spec.in_channels);
            OfTeacher { network: Some(spec), shapes, bytes: 0, image, is_live }
        });
        let teachers = teachers.collect();
        ask(&Demand {
            plan,
            objective: &objective,
            teachers,
            threads: 2,
            ranks: 1,
            images: 1000,
            parts: [700, 100, 200],
        })
    }

    fn estimate(plan: &Plan) -> MemoryEstimate {
        with(plan, &[], |demand| demand.estimate(0).unwrap())
    }

    /// Limits of which `free` bytes are left.
    fn limits(free: u64) -> Limits {
        let limit = Limit { name: "ulimit -v".into(), bytes: 50 * MIB + free, used: 50 * MIB };
        Limits { limits: vec![limit], available: None }
    }

    #[test]
    fn parts_follow_their_formulas() {
        let found = estimate(&plan(256));
        assert_eq!(found.total, found.parts().iter().map(|(_, bytes)| bytes).sum::<u64>());
        assert_eq!(found.loader, 5 * 256 * 64 * 64 * 3 * 4);
        assert_eq!(found.losses, 8 * 256 * 3 * 8 + 28 * 256 * 256);
        // The first convolution and its input alone, 16 channels of 64 x 64 pixels.
        assert!(found.activations > 256 * 64 * 64 * 4 * (16 + 3), "{found:?}");
        // Adam keeps two numbers a weight.
        assert!(found.best / 2 < found.optimizer && found.optimizer < 3 * found.best, "{found:?}");
    }

    #[test]
    fn pieces_save_activations_and_further_ones_cost_only_their_images_and_features() {
        let (whole, mut pieces) = (plan(1024), plan(1024));
        pieces.micro_batch = Some(128);
        let [whole, small] = [estimate(&whole), estimate(&pieces)];
        assert!(small.activations + small.gradients < (whole.activations + whole.gradients) / 3, "{small:?}");
        pieces.batch.size = 2048;
        let large = estimate(&pieces);
        let grown = |part: fn(&MemoryEstimate) -> u64| part(&large) - part(&small);
        assert_eq!(grown(|e| e.activations), 1024 * 4 * (64 * 64 * 3 + 8));
        assert_eq!(grown(|e| e.gradients), small.best); // 16 pieces in place of 8, one more sum
    }

    #[test]
    fn synchronised_pieces_are_in_memory_at_once_and_ranks_share_them() {
        let mut plan = plan(512);
        let cost = |estimate: &MemoryEstimate| (estimate.activations + estimate.gradients) as f64;
        plan.micro_batch = Some(64);
        let apart = cost(&estimate(&plan));
        plan.tuning.batch_norm = TrainingStatistics::Sync;
        let together = cost(&estimate(&plan));
        assert!(together > 4.0 * apart, "{together} {apart}");
        let shared = with(&plan, &[], |demand| Demand { ranks: 4, ..demand.clone() }.estimate(0).unwrap());
        assert!((3.0..4.5).contains(&(together / cost(&shared))), "{together} {}", cost(&shared));
        plan.micro_batch = None;
        let whole = cost(&estimate(&plan));
        assert!((0.8..1.25).contains(&(together / whole)), "{together} {whole}");
    }

    #[test]
    fn a_teacher_costs_its_network_and_its_images_or_its_features() {
        let alone = estimate(&plan(64));
        let mut plan = plan(64);
        let teacher = BackboneSpec { width: 64, image_size: 84, ..plan.backbone.clone() };
        plan.losses = serde_json::from_value(json!([{ "kind": "rkd-distance" }])).unwrap();
        let of = |teachers: &[(&BackboneSpec, bool)]| with(&plan, teachers, |demand| demand.estimate(0).unwrap());
        let (live, cached) = (of(&[(&teacher, true)]), of(&[(&teacher, false)]));
        assert!(live.networks > alone.networks && cached.networks == live.networks);
        assert_eq!(live.loader - cached.loader, 5 * 64 * 84 * 84 * 3 * 4);
        assert_eq!((live.teacher_features, cached.teacher_features), (0, 4 * 8 * 2 * 700));

        let other = BackboneSpec { width: 8, embedding: Some(24), ..teacher.clone() };
        let both = of(&[(&teacher, false), (&other, false)]);
        assert_eq!(both.teacher_features, 4 * (8 + 24) * 2 * 700);
        assert!(both.networks > cached.networks);
        let mixed = of(&[(&teacher, false), (&other, true)]);
        assert_eq!(mixed.teacher_features, cached.teacher_features);
        assert_eq!(mixed.loader, live.loader);
        assert_eq!(of(&[(&teacher, true), (&other, true)]).loader - live.loader, 5 * 64 * 84 * 84 * 3 * 4);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_fits_and_nothing_more_does() {
        let plan = plan(512);
        let room = estimate(&plan).needed() / 2;
        let error = with(&plan, &[], |demand| demand.check(None, &limits(room)).unwrap_err());
        let text = error.to_string();
        assert_eq!((error.code, error.subject.as_deref()), (Code::InvalidOption, Some("batch.size")));
        assert!(text.contains("ulimit -v allows") && text.contains("activations"), "{text}");
        let number = |flag: &str| -> usize {
            let rest = text.split_once(flag).unwrap_or_else(|| panic!("{text} lacks {flag}")).1;
            rest.trim().split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
        };
        let changes: [(&str, usize, Change); 3] = [
            ("--micro-batch", 1, |plan, size| plan.micro_batch = Some(size)),
            ("--batch", 4, |plan, size| plan.batch.size = size),
            ("--image-size", 1, |plan, side| plan.backbone.image_size = side),
        ];
        for (flag, step, change) in changes {
            let fits = |value: usize| {
                let mut plan = plan.clone();
                change(&mut plan, value);
                estimate(&plan).needed() <= room
            };
            let found = number(flag);
            assert!(fits(found) && !fits(found + step), "{flag} {found}");
        }
    }

    #[test]
    fn only_what_is_certain_not_to_fit_is_refused_and_what_may_not_is_warned_of() {
        let plan = plan(256);
        let needed = estimate(&plan).needed();
        let ask = |limits: Limits| with(&plan, &[], |demand| demand.check(None, &limits));
        assert!(ask(limits((needed as f64 / UNCERTAINTY) as u64 - MIB)).is_err());
        let (_, warning) = ask(limits((needed as f64 / UNCERTAINTY) as u64 + MIB)).unwrap();
        assert!(warning.unwrap().contains("--micro-batch"));
        assert_eq!(ask(limits(needed)).unwrap().1, None);
        // What others have of the machine's memory they may give back.
        let busy = Limits { available: Some(MIB), ..limits(needed) };
        assert!(ask(busy).unwrap().1.is_some());
        assert_eq!(ask(Limits::default()).unwrap().1, None);
    }
}
