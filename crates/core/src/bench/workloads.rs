//! The workloads: whole training steps on fixed random data, under fixed names.
//!
//! Network, batch, image size, loss and optimiser of a name are those of `bench/pytorch_steps.py`. A step is forward,
//! loss, backward and optimiser update, float32; the images are there before the first one. What data costs in a run is
//! in its own progress: the share of time that training waited for batches.

use std::sync::Arc;

use crate::backbones::{self, BackboneSpec, Stem};
use crate::error::{Code, Error, Result};
use crate::losses::{CrossEntropy, Feature, FeatureMap, LossSpec, Matrix, RkdAngle, RkdDistance, TermSpec, Weight};
use crate::nn::profile::{Category, Cost};
use crate::nn::{Backend, Cpu, Network, Profile};
use crate::optim::{Optimizer, OptimizerSpec};
use crate::random::Random;
use crate::ranks::Ranks;
use crate::spelling::nearest;
use crate::train::balance::Balance;
use crate::train::objective::{BatchFeatures, Objective};

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

/// The names of the workloads, in the order of the peer's program.
pub fn names() -> Vec<&'static str> {
    table().into_iter().map(|(name, _)| name).collect()
}

/// One step of a workload.
pub(super) type Step = Box<dyn FnMut() -> Result<()>>;

impl Work {
    /// The workload of this name.
    pub(super) fn find(name: &str) -> Result<Work> {
        table().into_iter().find(|(known, _)| *known == name).map(|(_, work)| work).ok_or_else(|| {
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

    /// Makes networks and inputs, so that a step does nothing but the step, and tells `profile` what it does.
    pub(super) fn prepare(&self, backend: &Cpu, profile: &Arc<Profile>) -> Result<Step> {
        match *self {
            Work::Train { network: (kind, stem, embedding), batch, ref loss } => {
                training(build(backend, profile, kind, stem, embedding, batch)?, Arc::clone(profile), batch, loss)
            }
            Work::Embed { network: (kind, stem, embedding), batch } => {
                let mut network = build(backend, profile, kind, stem, embedding, batch)?.into_inference()?;
                network.keep_taps(&[]);
                let images = images(backend, batch)?;
                Ok(Box::new(move || network.forward(&images).map(|_| ())))
            }
            Work::Relational { n, d } => relations(backend.clone(), Arc::clone(profile), n, d),
        }
    }
}

fn relations(backend: Cpu, profile: Arc<Profile>, n: usize, d: usize) -> Result<Step> {
    let (student, teacher, objective) = (draw(n * d, "student"), draw(n * d, "teacher"), relational()?);
    Ok(Box::new(move || {
        let features = BatchFeatures {
            student: &[(Feature::Embedding, Matrix::new("student", &student, n, d)?)].into(),
            teachers: &[[(Feature::Embedding, Matrix::new("teacher", &teacher, n, d)?)].into()],
            labels: &[],
            parameters: &[],
            team: backend.team(),
            ranks: Ranks::one(),
            random: Random::keyed(1, 0, 0, "loss"),
        };
        let evaluate = || objective.evaluate(&features, 0).map(|_| ());
        profile.time(Category::Loss, "objective", "", evaluate, |()| Cost::default())
    }))
}

fn training(mut network: Network<Cpu>, profile: Arc<Profile>, batch: [usize; 3], loss: &TrainLoss) -> Result<Step> {
    network.keep_taps(&[]);
    let (backend, n, d) = (network.backend().clone(), batch[0], network.embedding_size());
    let images = images(&backend, batch)?;
    let (spec, objective, read) = match loss {
        TrainLoss::Distil { .. } => (adam(), relational()?, Feature::Embedding),
        TrainLoss::Classify => (
            sgd(),
            Objective::new(&[TermSpec::new(LossSpec::CrossEntropy(CrossEntropy::default()))], &[])?,
            Feature::Logits,
        ),
    };
    let teacher = match *loss {
        TrainLoss::Distil { teacher } => {
            [(Feature::Embedding, Matrix::new("teacher", &draw(n * teacher, "teacher"), n, teacher)?)].into()
        }
        TrainLoss::Classify => FeatureMap::new(),
    };
    let labels: Vec<u32> = (0..n).map(|i| (i * 7 % d) as u32).collect();
    let mut optimizer = Optimizer::new(&spec)?;
    optimizer.set_profile(&profile);
    Ok(Box::new(move || {
        let (features, tape) = network.forward_train(&images)?;
        let embedding = features[&Feature::Embedding].clone();
        drop(features);
        // What is read here is written there.
        let cost = || Cost::of::<Cpu>([&embedding; 2]);
        let values = profile.time(Category::Data, "to_f32", "", || backend.to_f32(&embedding), |_| cost())?;
        let batch = BatchFeatures {
            student: &[(read.clone(), Matrix::new("student", &values, n, d)?)].into(),
            teachers: std::slice::from_ref(&teacher),
            labels: &labels,
            parameters: &[],
            team: backend.team(),
            ranks: Ranks::one(),
            random: Random::keyed(1, 0, 0, "loss"),
        };
        let evaluate = || Ok(objective.weigh(objective.evaluate(&batch, 0)?, &Balance::default(), 0));
        let value = profile.time(Category::Loss, "objective", "", evaluate, |_| Cost::default())?;
        let gradient: Vec<f32> = value.gradients[&read].iter().map(|&g| g as f32).collect();
        let upload = || backend.from_f32(&gradient, Cpu::shape(&embedding));
        let gradient = profile.time(Category::Data, "from_f32", "", upload, |_| cost())?;
        drop(embedding);
        let gradients = network.backward(tape, [(Feature::Embedding, gradient)].into(), false)?;
        let rate = spec.learning_rate();
        optimizer.step(&backend, &mut [&mut network.parameters], gradients.parameters, rate, None).map(|_| ())
    }))
}

fn build(
    backend: &Cpu,
    profile: &Arc<Profile>,
    kind: &str,
    stem: Stem,
    embedding: Option<usize>,
    [_, channels, side]: [usize; 3],
) -> Result<Network<Cpu>> {
    let spec = BackboneSpec { stem, embedding, in_channels: channels, ..BackboneSpec::published(kind, side) };
    let mut network = backbones::build(backend.clone(), &spec, 1)?;
    network.set_profile(profile);
    Ok(network)
}

fn images(backend: &Cpu, [n, channels, side]: [usize; 3]) -> Result<<Cpu as Backend>::Tensor> {
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
