//! Times whole training steps on the CPU backend, with the workloads and names of `bench/pytorch_steps.py`.
//!
//! Run: `cargo run -p rkd-core --example step_bench [-- NAME ...]`. One JSON line for each workload and thread count:
//! the median and the minimum of the step in milliseconds, and the share of forward, backward and optimiser. The loss is
//! cross entropy or a stand-in of the same shape as a distillation's (its own time is that of the losses' bench).

use std::sync::Arc;
use std::time::Instant;

use rkd_core::nn::backend::Backend;
use rkd_core::nn::{Cpu, FeatureGradients, Network};
use rkd_core::optim::{Optimizer, OptimizerSpec};
use rkd_core::plan::{BackboneSpec, Stem};
use rkd_core::random::Random;
use rkd_kernels::Pool;
use serde_json::json;

const ADAM: OptimizerSpec =
    OptimizerSpec::Adam { learning_rate: 1e-4, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 1e-5 };
const SGD: OptimizerSpec =
    OptimizerSpec::Sgd { learning_rate: 0.01, momentum: 0.9, nesterov: false, weight_decay: 5e-4 };

struct Workload {
    name: &'static str,
    kind: &'static str,
    stem: Stem,
    embedding: Option<usize>,
    /// Images, channels, side.
    batch: [usize; 3],
    optimizer: OptimizerSpec,
}

fn workloads() -> Vec<Workload> {
    let workload =
        |name, kind, stem, embedding, batch, optimizer| Workload { name, kind, stem, embedding, batch, optimizer };
    vec![
        workload("conv4-28px-b64-train", "conv4", Stem::Small, None, [64, 1, 28], ADAM),
        workload("conv4-84px-b32-train", "conv4", Stem::Small, None, [32, 3, 84], ADAM),
        workload("resnet18-cifar-32px-b64-train", "resnet18", Stem::Small, Some(100), [64, 3, 32], SGD),
        workload("resnet18-64px-b64-distil", "resnet18", Stem::Imagenet, Some(64), [64, 3, 64], ADAM),
        workload("resnet50-64px-b32-train", "resnet50", Stem::Imagenet, Some(512), [32, 3, 64], ADAM),
    ]
}

fn main() -> rkd_core::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for workload in workloads().iter().filter(|w| wanted.is_empty() || wanted.iter().any(|name| name == w.name)) {
        for threads in [1, 2] {
            println!("{}", measure(workload, threads)?);
        }
    }
    Ok(())
}

fn measure(workload: &Workload, threads: usize) -> rkd_core::Result<serde_json::Value> {
    let [n, channels, side] = workload.batch;
    let spec = BackboneSpec {
        kind: workload.kind.into(),
        width: 64,
        stem: workload.stem,
        embedding: workload.embedding,
        normalize: false,
        in_channels: channels,
        image_size: side,
        classes: None,
    };
    let backend = Cpu::new(Arc::new(Pool::new(threads)));
    let mut network = Network::new(backend.clone(), &spec, 1)?;
    let mut optimizer = Optimizer::new(&workload.optimizer)?;
    let mut random = Random::keyed(1, 0, 0, "bench");
    let pixels: Vec<f32> = (0..n * side * side * channels).map(|_| random.normal() as f32).collect();
    let images = backend.from_f32(&pixels, &[n, side, side, channels])?;
    let upstream: Vec<f32> = (0..n * network.embedding_size()).map(|_| random.normal() as f32 * 1e-2).collect();

    let mut parts: [Vec<f64>; 4] = Default::default();
    let start = Instant::now();
    while parts[0].len() < 4 || (start.elapsed().as_secs_f64() < 4.0 && parts[0].len() < 200) {
        let mut clock = Instant::now();
        let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed().as_secs_f64() * 1e3;
        let (features, tape) = network.forward_train(&images)?;
        let forward = lap();
        let embedding = Some(backend.from_f32(&upstream, Cpu::shape(&features.embedding))?);
        drop(features);
        let gradients = network.backward(tape, FeatureGradients { embedding, ..Default::default() }, false)?;
        let backward = lap();
        let rate = workload.optimizer.learning_rate();
        optimizer.step(&backend, &mut network.parameters, gradients.parameters, rate, None)?;
        let update = lap();
        for (times, time) in parts.iter_mut().zip([forward + backward + update, forward, backward, update]) {
            times.push(time);
        }
    }
    // The first step allocates.
    let median = parts.each_mut().map(|times| {
        times.remove(0);
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    let share = |part: usize| (median[part] / median[0] * 1e3).round() / 1e3;
    let round = |ms: f64| (ms * 1e3).round() / 1e3;
    Ok(json!({
        "workload": workload.name, "step_ms": round(median[0]), "best_ms": round(parts[0][0]), "threads": threads,
        "runs": parts[0].len(), "forward": share(1), "backward": share(2), "optimizer": share(3)
    }))
}
