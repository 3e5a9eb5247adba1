//! The work that speed claims are about: whole training steps on fixed random data, under fixed names.
//!
//! The same workloads, under the same names, are measured for PyTorch by `bench/pytorch_steps.py`; `bench/compare.mjs`
//! runs both in turn. A step is forward, loss, backward and optimiser update, float32.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};
use crate::losses::LossSpec;
use crate::nn::{Backend, Cpu, FeatureGradients, Network};
use crate::optim::{Optimizer, OptimizerSpec};
use crate::plan::{BackboneSpec, Stem};
use crate::random::Random;
use crate::train::objective::Objective;

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

/// The names of the workloads.
pub fn workloads() -> Vec<&'static str> {
    vec![
        "conv4-28px-b64-train",
        "conv4-84px-b32-train",
        "resnet18-cifar-32px-b64-train",
        "resnet18-64px-b64-distil",
        "resnet18-224px-b16-distil",
        "resnet50-64px-b32-train",
        "resnet50-224px-b8-embed",
        "rkd-da-n128-d512",
        "rkd-da-n256-d128",
        "rkd-da-n512-d128",
    ]
}

/// Measures one workload: one step to warm up, then as many as fit.
pub fn run(plan: &BenchPlan) -> Result<BenchReport> {
    let backend = Cpu::new(plan.threads);
    let mut step = workload(&plan.workload, &backend)?;
    step()?;
    let (mut times, start) = (Vec::new(), Instant::now());
    while times.len() < 3 || (start.elapsed() < Duration::from_secs_f64(plan.seconds) && times.len() < 1000) {
        let begin = Instant::now();
        step()?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(BenchReport {
        workload: plan.workload.clone(),
        step_ms: times[times.len() / 2],
        best_ms: times[0],
        threads: backend.pool().threads(),
        runs: times.len(),
        instruction_set: backend.pool().isa().to_string(),
    })
}

type Step = Box<dyn FnMut() -> Result<()>>;
