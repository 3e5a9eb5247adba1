//! The work that speed claims are about: whole training steps on fixed random data, under fixed names.
//!
//! The same workloads, under the same names, are measured for PyTorch by `bench/pytorch_steps.py`; `bench/compare.mjs`
//! runs both in turn. A step is forward, loss, backward and optimiser update, float32.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rkd_kernels::Pool;
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};
use crate::losses::{CrossEntropy, Feature, LossSpec, Matrix, RkdAngle, RkdDistance, TermSpec, Weight};
use crate::nn::{Backend, Cpu, FeatureGradients, Network};
use crate::optim::{Optimizer, OptimizerSpec};
use crate::plan::{BackboneSpec, Stem};
use crate::random::Random;
use crate::train::balance::Balance;
use crate::train::objective::{BatchFeatures, Objective};

/// What to measure.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BenchPlan {
    /// One of [`workloads`].
    pub workload: String,
    /// Time to spend; at least three steps are measured however long they take.
    pub seconds: f64,
    /// CPU threads; 0: all cores.
    pub threads: usize,
}

/// One line of the result; the names are those of the peer's program.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// The workload's name.
    pub workload: String,
    /// Median time of a step in milliseconds.
    pub step_ms: f64,
    /// Shortest step in milliseconds.
    pub best_ms: f64,
    /// CPU threads.
    pub threads: usize,
    /// Steps measured.
    pub runs: usize,
    /// Instruction set of the kernels.
    pub instruction_set: String,
}

/// What a workload does in a step.
enum Work {
    /// Forward, loss, backward, update.
    Train {
        network: (&'static str, Stem, Option<usize>),
        /// Images, channels, side.
        batch: [usize; 3],
        loss: TrainLoss,
    },
    /// Forward with running statistics.
    Embed { network: (&'static str, Stem, Option<usize>), batch: [usize; 3] },
    /// RKD distance and angle with their gradients: items, coordinates of student and teacher.
    Relational { n: usize, d: usize },
}

/// The loss and the optimiser that goes with it.
enum TrainLoss {
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
        ("resnet50-224px-b8-embed", Work::Embed { network: ("resnet50", Imagenet, Some(512)), batch: [8, 3, 224] }),
        ("rkd-da-n128-d512", Work::Relational { n: 128, d: 512 }),
        ("rkd-da-n256-d128", Work::Relational { n: 256, d: 128 }),
        ("rkd-da-n512-d128", Work::Relational { n: 512, d: 128 }),
    ]
}

/// The names of the workloads.
pub fn workloads() -> Vec<&'static str> {
    table().into_iter().map(|(name, _)| name).collect()
}

/// Measures one workload: one step to warm up, then as many as fit.
///
/// # Errors
/// `ERR_INVALID_OPTION` for a name that is none of [`workloads`].
pub fn run(plan: &BenchPlan) -> Result<BenchReport> {
    let Some((name, work)) = table().into_iter().find(|(name, _)| *name == plan.workload) else {
        return Err(Error::new(Code::InvalidOption, "there is no such workload")
            .with_subject("only")
            .with_values(workloads().join(", "), plan.workload.clone()));
    };
    let backend = Cpu::new(Arc::new(Pool::new(plan.threads)));
    let mut step = prepare(&work, &backend)?;
    step()?;
    let (mut times, start) = (Vec::new(), Instant::now());
    while times.len() < 3 || (start.elapsed() < Duration::from_secs_f64(plan.seconds) && times.len() < 1000) {
        let begin = Instant::now();
        step()?;
        times.push((begin.elapsed().as_secs_f64() * 1e6).round() / 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(BenchReport {
        workload: name.to_string(),
        step_ms: times[times.len() / 2],
        best_ms: times[0],
        threads: backend.pool().threads(),
        runs: times.len(),
        instruction_set: backend.pool().isa().name().to_string(),
    })
}

type Step = Box<dyn FnMut() -> Result<()>>;

fn prepare(work: &Work, backend: &Cpu) -> Result<Step> {
    match *work {
        Work::Train { network: (kind, stem, embedding), batch, ref loss } => {
            training(build(backend, kind, stem, embedding, batch)?, batch, loss)
        }
        Work::Embed { network: (kind, stem, embedding), batch } => {
            let network = build(backend, kind, stem, embedding, batch)?;
            let images = images(backend, batch)?;
            Ok(Box::new(move || network.forward_eval(&images).map(|_| ())))
        }
        Work::Relational { n, d } => {
            let (student, teacher, objective) = (draw(n * d, "student"), draw(n * d, "teacher"), relational()?);
            let pool = Arc::clone(backend.pool());
            Ok(Box::new(move || {
                let features = BatchFeatures {
                    student: &[(Feature::Embedding, Matrix::new("student", &student, n, d)?)],
                    teacher: &[(Feature::Embedding, Matrix::new("teacher", &teacher, n, d)?)],
                    labels: &[],
                    parameters: &[],
                    pool: &pool,
                    random: Random::keyed(1, 0, 0, "loss"),
                };
                objective.evaluate(&features, &[], 0).map(|_| ())
            }))
        }
    }
}

fn training(mut network: Network<Cpu>, batch: [usize; 3], loss: &TrainLoss) -> Result<Step> {
    let (backend, n, d) = (network.backend().clone(), batch[0], network.embedding_size());
    let images = images(&backend, batch)?;
    let (spec, objective, read) = match loss {
        TrainLoss::Distil { .. } => (adam(), relational()?, Feature::Embedding),
        TrainLoss::Classify => {
            (sgd(), Objective::new(&[TermSpec::new(LossSpec::CrossEntropy(CrossEntropy::default()))])?, Feature::Logits)
        }
    };
    let teacher = match *loss {
        TrainLoss::Distil { teacher } => {
            vec![(Feature::Embedding, Matrix::new("teacher", &draw(n * teacher, "teacher"), n, teacher)?)]
        }
        TrainLoss::Classify => Vec::new(),
    };
    let labels: Vec<u32> = (0..n).map(|i| (i * 7 % d) as u32).collect();
    let mut optimizer = Optimizer::new(&spec)?;
    Ok(Box::new(move || {
        let (features, tape) = network.forward_train(&images)?;
        let embedding = backend.to_f32(&features.embedding)?;
        let batch = BatchFeatures {
            student: &[(read.clone(), Matrix::new("student", &embedding, n, d)?)],
            teacher: &teacher,
            labels: &labels,
            parameters: &[],
            pool: backend.pool(),
            random: Random::keyed(1, 0, 0, "loss"),
        };
        let value = objective.weigh(objective.evaluate(&batch, &[], 0)?, &[], &Balance::default(), 0);
        let gradient: Vec<f32> = value.gradients[0].1.iter().map(|&g| g as f32).collect();
        let embedding = Some(backend.from_f32(&gradient, Cpu::shape(&features.embedding))?);
        drop(features);
        let gradients = network.backward(tape, FeatureGradients { embedding, ..Default::default() }, false)?;
        let rate = spec.learning_rate();
        optimizer.step(&backend, &mut network.parameters, gradients.parameters, rate, None).map(|_| ())
    }))
}

fn build(
    backend: &Cpu,
    kind: &str,
    stem: Stem,
    embedding: Option<usize>,
    [_, channels, side]: [usize; 3],
) -> Result<Network<Cpu>> {
    let spec = BackboneSpec {
        kind: kind.into(),
        width: 64,
        hidden: Vec::new(),
        stem,
        embedding,
        normalize: false,
        in_channels: channels,
        image_size: side,
        classes: None,
    };
    Network::new(backend.clone(), &spec, 1)
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
    Objective::new(&[distance, angle])
}

fn adam() -> OptimizerSpec {
    OptimizerSpec::Adam { learning_rate: 1e-4, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 1e-5 }
}

fn sgd() -> OptimizerSpec {
    OptimizerSpec::Sgd { learning_rate: 0.01, momentum: 0.9, nesterov: false, weight_decay: 5e-4 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_workloads_run_and_unknown_ones_are_named() {
        let plan = |workload: &str| BenchPlan { workload: workload.into(), seconds: 0.0, threads: 1 };
        let report = run(&plan("rkd-da-n128-d512")).unwrap();
        assert_eq!((report.runs, report.threads), (3, 1));
        assert!(report.best_ms <= report.step_ms);
        assert!(run(&plan("conv5")).unwrap_err().to_string().contains("conv4-28px-b64-train"));
    }
}
