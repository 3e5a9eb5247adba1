//! The workloads: whole training steps on fixed random data, under fixed names.
//!
//! Network, batch, image size, loss and optimiser of a name are those of `bench/pytorch_steps.py`. A step is forward,
//! loss, backward and optimiser update, float32; the images are there before the first one. What data costs in a run is
//! in its own progress: the share of time that training waited for batches.

use std::sync::Arc;

use rkd_kernels::Team;

use crate::backbones::{self, BackboneSpec, Stem};
use crate::error::{Code, Error, Result};
use crate::losses::{CrossEntropy, Feature, FeatureMap, LossSpec, Matrix, RkdAngle, RkdDistance, TermSpec, Weight};
use crate::nn::dropout::Draw;
use crate::nn::profile::{Category, Cost};
use crate::nn::{Backend, Network, Profile};
use crate::optim::{Optimizer, OptimizerSpec};
use crate::random::Random;
use crate::ranks::Ranks;
use crate::spelling::nearest;
use crate::train::balance::Balance;
use crate::train::device_terms::{DeviceLoss, computes, evaluate_terms, evaluated, weigh};
use crate::train::loss_parameters::LossParameters;
use crate::train::objective::{BatchFeatures, Objective, ObjectiveValue};
use crate::train::pass::{Pass, matrices};
use crate::train::teacher::TeacherBatch;

/// What a workload does in a step.
pub(super) enum Work {
    /// Forward, loss, backward, update.
    Train {
        network: (&'static str, Stem, Option<usize>),
        /// Images, channels, side.
        batch: [usize; 3],
        loss: TrainLoss,
    },
    /// Forward with running statistics, folded beforehand.
    Embed { network: (&'static str, Stem, Option<usize>), batch: [usize; 3] },
    /// RKD distance and angle with their gradients: items, coordinates of student and teacher.
    Relational { n: usize, d: usize },
}

/// The loss and the optimiser that goes with it.
pub(super) enum TrainLoss {
    /// RKD 1 : 2 from a fixed teacher of so many coordinates; Adam.
    Distil { teacher: usize },
    /// Cross entropy on the embedding as logits; SGD with momentum.
    Classify,
}

fn table() -> Vec<(&'static str, Work)> {
    use Stem::{Imagenet, Small};
    let train = |network, batch, loss| Work::Train { network, batch, loss };
    let distil = |teacher| TrainLoss::Distil { teacher };
    vec![
        ("conv4-28px-b64-train", train(("conv4", Small, None), [64, 1, 28], distil(64))),
        ("conv4-84px-b32-train", train(("conv4", Small, None), [32, 3, 84], distil(64))),
        ("resnet18-cifar-32px-b64-train", train(("resnet18", Small, Some(100)), [64, 3, 32], TrainLoss::Classify)),
        ("resnet18-64px-b64-distil", train(("resnet18", Imagenet, Some(64)), [64, 3, 64], distil(512))),
        ("resnet18-224px-b16-distil", train(("resnet18", Imagenet, Some(64)), [16, 3, 224], distil(512))),
        ("resnet50-64px-b32-train", train(("resnet50", Imagenet, Some(512)), [32, 3, 64], distil(512))),
        ("vgg11bn-32px-b64-train", train(("vgg11", Small, Some(100)), [64, 3, 32], TrainLoss::Classify)),
        (
            "mobilenet-v3-small-224px-b32-distil",
            train(("mobilenet-v3-small", Imagenet, Some(64)), [32, 3, 224], distil(512)),
        ),
        ("mobilenet-v2-96px-b64-distil", train(("mobilenet-v2", Imagenet, Some(64)), [64, 3, 96], distil(512))),
        (
            "efficientnet-lite0-128px-b32-train",
            train(("efficientnet-lite0", Imagenet, Some(128)), [32, 3, 128], distil(512)),
        ),
        ("vit-tiny-224px-b16-distil", train(("vit-tiny", Imagenet, Some(64)), [16, 3, 224], distil(512))),
        ("resnet50-224px-b8-embed", Work::Embed { network: ("resnet50", Imagenet, Some(512)), batch: [8, 3, 224] }),
        (
            "mobilenet-v3-small-224px-b16-embed",
            Work::Embed { network: ("mobilenet-v3-small", Imagenet, Some(64)), batch: [16, 3, 224] },
        ),
        (
            "efficientnet-lite0-224px-b16-embed",
            Work::Embed { network: ("efficientnet-lite0", Imagenet, Some(128)), batch: [16, 3, 224] },
        ),
        ("rkd-da-n128-d512", Work::Relational { n: 128, d: 512 }),
        ("rkd-da-n256-d128", Work::Relational { n: 256, d: 128 }),
        ("rkd-da-n512-d128", Work::Relational { n: 512, d: 128 }),
    ]
}

/// Those of a GPU, whose batches keep it busy; the peer's program is `scripts/gpu-check/speed.py`.
fn table_of_gpu() -> Vec<(&'static str, Work)> {
    use Stem::{Imagenet, Small};
    let distil = |network, batch, teacher| Work::Train { network, batch, loss: TrainLoss::Distil { teacher } };
    vec![
        ("resnet18-224px-b256-distil", distil(("resnet18", Imagenet, Some(64)), [256, 3, 224], 512)),
        ("resnet50-224px-b128-train", distil(("resnet50", Imagenet, Some(512)), [128, 3, 224], 512)),
        ("conv4-84px-b512-train", distil(("conv4", Small, None), [512, 3, 84], 64)),
        ("rkd-da-n512-d128", Work::Relational { n: 512, d: 128 }),
        ("rkd-da-n2048-d128", Work::Relational { n: 2048, d: 128 }),
    ]
}

/// The names of the workloads of a GPU.
pub fn names_of_gpu() -> Vec<&'static str> {
    table_of_gpu().into_iter().map(|(name, _)| name).collect()
}

/// The names of the workloads, in the order of the peer's program.
pub fn names() -> Vec<&'static str> {
    table().into_iter().map(|(name, _)| name).collect()
}

/// One step of a workload.
pub(super) type Step = Box<dyn FnMut() -> Result<()>>;

impl Work {
    /// The workload of this name.
    pub(super) fn find(name: &str) -> Result<Work> {
        let mut all = table().into_iter().chain(table_of_gpu());
        all.find(|(known, _)| *known == name).map(|(_, work)| work).ok_or_else(|| {
            let near = nearest(name, names().into_iter(), 1);
            Error::new(Code::InvalidOption, "there is no such workload")
                .with_subject("workload")
                .with_values(format!("one of {}", names().join(", ")), format!("{name:?}"))
                .with_advice(format!("did you mean {:?}?", near[0]))
        })
    }

    /// Whether a network is part of it.
    pub(super) fn has_network(&self) -> bool {
        !matches!(self, Work::Relational { .. })
    }

    /// Makes networks and inputs, so that a step does nothing but the step, and tells `profile` what it does. The losses of
    /// the host run on `team`.
    pub(super) fn prepare<B: Backend>(&self, backend: &B, team: &Arc<Team>, profile: &Arc<Profile>) -> Result<Step> {
        match *self {
            Work::Train { network: (kind, stem, embedding), batch, ref loss } => {
                let network = build(backend, profile, kind, stem, embedding, batch)?;
                training(network, Arc::clone(team), Arc::clone(profile), batch, loss)
            }
            Work::Embed { network: (kind, stem, embedding), batch } => {
                let mut network = build(backend, profile, kind, stem, embedding, batch)?.into_inference()?;
                network.keep_taps(&[]);
                let images = images(backend, batch)?;
                Ok(Box::new(move || network.forward(&images).map(|_| ())))
            }
            Work::Relational { n, d } => {
                let losses = Losses::new(backend, Arc::clone(team), Arc::clone(profile), relational()?, [n, d, d])?;
                let student = [(Feature::Embedding, vec![backend.from_f32(&draw(n * d, "student"), &[n, d])?])].into();
                Ok(Box::new(move || losses.evaluate(&student).map(|_| ())))
            }
        }
    }
}

/// The losses of a step as a session computes them: on the device those that it takes, the others on the host.
struct Losses<B: Backend> {
    backend: B,
    team: Arc<Team>,
    profile: Arc<Profile>,
    objective: Objective,
    parameters: LossParameters<B>,
    teachers: [TeacherBatch<B::Tensor>; 1],
    labels: Vec<u32>,
}

impl<B: Backend> Losses<B> {
    /// Of n items, whose embeddings have d numbers and those of the teacher e.
    fn new(
        backend: &B,
        team: Arc<Team>,
        profile: Arc<Profile>,
        mut objective: Objective,
        [n, d, e]: [usize; 3],
    ) -> Result<Self> {
        objective.leave_to_device(|loss| computes(backend, loss));
        let shapes: FeatureMap<Vec<usize>> =
            [Feature::Embedding, Feature::Logits].into_iter().map(|feature| (feature, vec![n, d])).collect();
        let teacher_shapes = [(Feature::Embedding, vec![n, e])].into();
        let parameters = objective.parameters(&shapes, &[&teacher_shapes])?;
        let parameters = LossParameters::draw(backend, parameters, 1)?;
        let teacher = draw(n * e, "teacher");
        let teachers = [TeacherBatch {
            device: [(Feature::Embedding, vec![backend.from_f32(&teacher, &[n, e])?])].into(),
            host: [(Feature::Embedding, Matrix::new("teacher", &teacher, n, e)?)].into(),
        }];
        let labels = (0..n).map(|i| (i * 7 % d) as u32).collect();
        Ok(Losses { backend: backend.clone(), team, profile, objective, parameters, teachers, labels })
    }

    /// The value with the gradients of the host, and the weighted terms of the device. Waits for the device once.
    fn evaluate(&self, student: &FeatureMap<Vec<B::Tensor>>) -> Result<(ObjectiveValue, Vec<DeviceLoss<B::Tensor>>)> {
        let Losses { backend, objective, profile, .. } = self;
        let device = evaluate_terms(backend, objective, 0, &self.parameters, student, &self.teachers)?;
        let numbers = device.iter().flat_map(|loss| &loss.value.numbers);
        let tensors: Vec<&B::Tensor> = student.values().flatten().chain(numbers).collect();
        let cost = |_: &_| Cost::of::<B>(tensors.iter().copied().chain(tensors.iter().copied()));
        let values = profile.time(Category::Data, "download", "", || backend.download(&tensors), cost)?;
        let mut values = values.into_iter();
        let student = matrices::<B>("the student's", student, &mut values)?;
        let numbers: Vec<f64> = values.flatten().collect();
        let batch = BatchFeatures {
            student: &student,
            teachers: &[self.teachers[0].host.clone()],
            labels: &self.labels,
            parameters: &[],
            team: &self.team,
            ranks: Ranks::one(),
            random: Random::keyed(1, 0, 0, "loss"),
        };
        let on_host = || {
            let mut terms = objective.evaluate(&batch, 0)?;
            terms.extend(evaluated(objective, &device, &numbers, 0)?);
            Ok(objective.weigh(terms, &Balance::default(), 0))
        };
        let value = profile.time(Category::Loss, "objective", "", on_host, |_| Cost::default())?;
        Ok((value, weigh(device, backend, |term| objective.weight(term, &Balance::default(), 0))?))
    }
}

fn training<B: Backend>(
    mut network: Network<B>,
    team: Arc<Team>,
    profile: Arc<Profile>,
    batch: [usize; 3],
    loss: &TrainLoss,
) -> Result<Step> {
    network.keep_taps(&[]);
    let (backend, n, d) = (network.backend().clone(), batch[0], network.embedding_size());
    let images = images(&backend, batch)?;
    let (spec, objective, teacher) = match *loss {
        TrainLoss::Distil { teacher } => (adam(), relational()?, teacher),
        TrainLoss::Classify => {
            let term = TermSpec {
                student_feature: Some(Feature::Embedding),
                ..TermSpec::new(LossSpec::CrossEntropy(CrossEntropy::default()))
            };
            (sgd(), Objective::new(&[term], &[])?, d)
        }
    };
    let losses = Losses::new(&backend, team, Arc::clone(&profile), objective, [n, d, teacher])?;
    let mut optimizer = Optimizer::new(&spec)?;
    optimizer.set_profile(&profile);
    Ok(Box::new(move || {
        let (draw, ranks) = (Draw { seed: 1, step: 0, row: 0 }, Ranks::one());
        let mut pass = Pass::forward(&network, vec![images.clone()], &[Feature::Embedding], draw, &ranks)?;
        let features = std::mem::take(&mut pass.features);
        let (value, device) = losses.evaluate(&features)?;
        drop(features);
        std::mem::take(&mut pass.statistics).iter().try_for_each(|learnt| network.learn(learnt))?;
        let gradients = pass.backward(&network, &value.gradients, &device)?;
        let rate = spec.learning_rate();
        optimizer.step(&backend, &mut [&mut network.parameters], gradients, rate, None).map(|_| ())
    }))
}

fn build<B: Backend>(
    backend: &B,
    profile: &Arc<Profile>,
    kind: &str,
    stem: Stem,
    embedding: Option<usize>,
    [_, channels, side]: [usize; 3],
) -> Result<Network<B>> {
    let spec = BackboneSpec { stem, embedding, in_channels: channels, ..BackboneSpec::published(kind, side) };
    let mut network = backbones::build(backend.clone(), &spec, 1)?;
    network.set_profile(profile);
    Ok(network)
}

fn images<B: Backend>(backend: &B, [n, channels, side]: [usize; 3]) -> Result<B::Tensor> {
    backend.from_f32(&draw(n * side * side * channels, "images"), &[n, side, side, channels])
}

fn draw(count: usize, purpose: &str) -> Vec<f32> {
    let mut random = Random::keyed(1, 0, 0, purpose);
    (0..count).map(|_| random.normal() as f32).collect()
}

fn relational() -> Result<Objective> {
    let distance = TermSpec::new(LossSpec::RkdDistance(RkdDistance::default()));
    let angle = TermSpec { weight: Weight::Number(2.0), ..TermSpec::new(LossSpec::RkdAngle(RkdAngle::default())) };
    Objective::new(&[distance, angle], &[("teacher", 1.0)])
}

fn adam() -> OptimizerSpec {
    OptimizerSpec::Adam { learning_rate: 1e-4, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 1e-5 }
}

fn sgd() -> OptimizerSpec {
    OptimizerSpec::Sgd { learning_rate: 0.01, momentum: 0.9, nesterov: false, weight_decay: 5e-4 }
}
