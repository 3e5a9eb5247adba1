//! What speed claims are about: whole training steps under fixed names, their time, memory and rate, and where the time
//! goes layer by layer.
//!
//! The same [`workloads()`], under the same names, are measured for PyTorch by `bench/pytorch_steps.py`;
//! `bench/compare.mjs` runs both in turn.

mod memory;
mod workloads;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rkd_kernels::Team;
use rkd_kernels::peak::peak_gflops;
use serde::{Deserialize, Serialize};

pub use self::memory::PeakMemory;
use self::workloads::{Step, Work};
pub use self::workloads::{names as workloads, names_of_gpu as workloads_of_gpu};
use crate::error::Result;
use crate::nn::profile::{Category, Record};
use crate::nn::{Backend, Cpu, Profile};

/// The cargo profile this is compiled in: `release`, as published binaries are, or `dev`, as tests and a source build
/// are.
pub const PROFILE: &str = if cfg!(debug_assertions) { "dev" } else { "release" };

/// What to measure.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BenchPlan {
    /// One of [`workloads()`].
    pub workload: String,
    /// Time to spend in seconds; at least three steps are measured however long they take.
    pub seconds: f64,
    /// CPU threads, 0 to 1024; 0: all cores.
    pub threads: usize,
}

/// One line of the result; the names are those of the peer's program.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct BenchReport {
    /// The workload's name.
    pub workload: String,
    /// Median time of a step in milliseconds.
    pub step_ms: f64,
    /// Shortest step in milliseconds.
    pub best_ms: f64,
    /// How images lie in memory, in PyTorch's words: `channels_last`; `n/a` without a network.
    pub layout: &'static str,
    /// CPU threads.
    pub threads: usize,
    /// Steps measured.
    pub runs: usize,
    /// Highest memory of the process during the work, in MiB above that before it; none where the system does not say.
    /// Right for the first workload of a process only.
    pub peak_mib: Option<f64>,
    /// Operations of a step's convolutions and linear layers by their definition, in GFLOP/s over the whole of the
    /// median step; none without a network.
    pub gflops: Option<f64>,
    /// [`peak_gflops`] of these threads.
    pub peak_gflops: f64,
    /// `gflops / peak_gflops`; can exceed 1, since Winograd's convolution multiplies less than the definition.
    pub peak_share: Option<f64>,
    /// Instruction set of the kernels.
    pub instruction_set: &'static str,
    /// The cargo profile this is compiled in: see [`PROFILE`].
    pub profile: &'static str,
    /// Version of this library.
    pub rkd: &'static str,
}

/// Where the time of a workload's step goes.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ProfileReport {
    /// The workload's name.
    pub workload: String,
    /// Median time of a step in milliseconds.
    pub step_ms: f64,
    /// Median time of a step outside all records, in milliseconds.
    pub outside_ms: f64,
    /// CPU threads.
    pub threads: usize,
    /// Steps measured.
    pub runs: usize,
    /// [`peak_gflops`] of these threads.
    pub peak_gflops: f64,
    /// Instruction set of the kernels.
    pub instruction_set: &'static str,
    /// The cargo profile this is compiled in: see [`PROFILE`].
    pub profile: &'static str,
    /// The records added up by what they are for, longest time first.
    pub categories: Vec<CategoryTotal>,
    /// Every operation of every layer with its median time, longest first.
    pub records: Vec<Record>,
}

/// The records of one category.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct CategoryTotal {
    /// The category.
    pub category: Category,
    /// Number of calls.
    pub calls: usize,
    /// Time in milliseconds.
    pub ms: f64,
    /// Operations by definition.
    pub flops: f64,
    /// Bytes read and written.
    pub bytes: f64,
}

/// A workload on any backend, for a caller who takes the time.
pub struct Prepared {
    step: Step,
}

impl Prepared {
    /// Makes networks and inputs of a workload, one of [`workloads()`] or [`workloads_of_gpu()`]; the losses of the host run on
    /// `team`.
    ///
    /// # Errors
    /// `ERR_INVALID_OPTION` for another name; those of the backend, where it has too little memory for example.
    pub fn new<B: Backend>(backend: &B, team: &Arc<Team>, workload: &str) -> Result<Self> {
        Ok(Prepared { step: Work::find(workload)?.prepare(backend, team, &Arc::default())? })
    }

    /// Takes a step.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn step(&mut self) -> Result<()> {
        (self.step)()
    }
}

/// Measures one workload: one step to warm up, then as many as fit.
///
/// # Errors
/// `ERR_INVALID_OPTION` for a name that is none of [`workloads()`].
pub fn run(plan: &BenchPlan) -> Result<BenchReport> {
    let work = Work::find(&plan.workload)?;
    let memory = PeakMemory::start();
    let OnCpu { backend, profile, mut step } = prepare(&work, plan)?;
    profile.set_recording(true);
    step()?;
    profile.set_recording(false);
    let flops: f64 = profile.take().iter().map(|record| record.flops).sum();
    let mut times = measure(plan, || timed(&mut step))?;
    times.sort_by(f64::total_cmp);
    let peak_mib = memory.and_then(|memory| memory.mib()).map(rounded);
    let (step_ms, peak_gflops) = (median(&times), peak_gflops(backend.team()));
    let gflops = (flops > 0.0).then(|| flops / step_ms / 1e6);
    Ok(BenchReport {
        workload: plan.workload.clone(),
        step_ms: rounded(step_ms),
        best_ms: rounded(times[0]),
        layout: if work.has_network() { "channels_last" } else { "n/a" },
        threads: backend.team().threads(),
        runs: times.len(),
        peak_mib,
        gflops: gflops.map(rounded),
        peak_gflops: rounded(peak_gflops),
        peak_share: gflops.map(|gflops| rounded(gflops / peak_gflops)),
        instruction_set: backend.team().isa().name(),
        profile: PROFILE,
        rkd: env!("CARGO_PKG_VERSION"),
    })
}

/// Measures where the time of a workload's step goes: one step to warm up, then as many as fit.
///
/// # Errors
/// As [`run`].
pub fn profile(plan: &BenchPlan) -> Result<ProfileReport> {
    let OnCpu { backend, profile, mut step } = prepare(&Work::find(&plan.workload)?, plan)?;
    step()?;
    profile.set_recording(true);
    let steps = measure(plan, || Ok((timed(&mut step)?, profile.take())))?;
    // Every step does the same operations in the same order; each gets its median.
    let mut records = steps[0].1.clone();
    for (index, record) in records.iter_mut().enumerate() {
        record.ms = median(&steps.iter().map(|(_, records)| records[index].ms).collect::<Vec<_>>());
    }
    records.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    let outside = |(total, records): &(f64, Vec<Record>)| total - records.iter().map(|record| record.ms).sum::<f64>();
    let team = backend.team();
    Ok(ProfileReport {
        workload: plan.workload.clone(),
        step_ms: median(&steps.iter().map(|(total, _)| *total).collect::<Vec<_>>()),
        outside_ms: median(&steps.iter().map(outside).collect::<Vec<_>>()),
        threads: team.threads(),
        runs: steps.len(),
        peak_gflops: peak_gflops(team),
        instruction_set: team.isa().name(),
        profile: PROFILE,
        categories: categories(&records),
        records,
    })
}

/// A workload on the CPU's kernels that is ready for its first step.
struct OnCpu {
    backend: Cpu,
    /// What a step tells what it does; off.
    profile: Arc<Profile>,
    step: Step,
}

fn prepare(work: &Work, plan: &BenchPlan) -> Result<OnCpu> {
    let (backend, profile) = (Cpu::new(Arc::new(Team::new(plan.threads))), Arc::default());
    let step = work.prepare(&backend, backend.team(), &profile)?;
    Ok(OnCpu { backend, profile, step })
}

/// Repeats `once` for the plan's time: at least 3 and at most 1000 times.
fn measure<T>(plan: &BenchPlan, mut once: impl FnMut() -> Result<T>) -> Result<Vec<T>> {
    let (mut results, start) = (Vec::new(), Instant::now());
    while results.len() < 3
        || (start.elapsed() < Duration::from_secs_f64(plan.seconds.clamp(0.0, 1e6)) && results.len() < 1000)
    {
        results.push(once()?);
    }
    Ok(results)
}

/// Milliseconds of one step.
fn timed(step: &mut Step) -> Result<f64> {
    let start = Instant::now();
    step()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// The middle value, or the upper of two.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Three decimals are enough for a person, and a timer gives no more.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn categories(records: &[Record]) -> Vec<CategoryTotal> {
    let mut categories: Vec<CategoryTotal> = Vec::new();
    for record in records {
        let Record { category, calls, ms, flops, bytes, .. } = *record;
        match categories.iter_mut().find(|total| total.category == category) {
            Some(total) => {
                total.calls += calls;
                total.ms += ms;
                total.flops += flops;
                total.bytes += bytes;
            }
            None => categories.push(CategoryTotal { category, calls, ms, flops, bytes }),
        }
    }
    categories.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    categories
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(workload: &str) -> BenchPlan {
        BenchPlan { workload: workload.into(), seconds: 0.0, threads: 1 }
    }

    #[test]
    fn the_losses_alone_have_a_time_and_no_rate() {
        let report = run(&plan("rkd-da-n128-d512")).unwrap();
        assert_eq!((report.runs, report.threads, report.layout), (3, 1, "n/a"));
        assert!(report.best_ms <= report.step_ms && report.peak_gflops > 0.0);
        assert_eq!((report.gflops, report.peak_share), (None, None));
    }

    #[test]
    fn the_rate_counts_the_convolutions_of_the_definition() {
        let report = run(&plan("conv4-28px-b64-train")).unwrap();
        // Side of the map, input channels of the four 3x3 convolutions with 64 output channels, and whether the
        // gradient of the input is wanted; 64 images, two operations for each multiplication.
        let layers = [(28, 1, 2.0), (14, 64, 3.0), (7, 64, 3.0), (3, 64, 3.0)];
        let flops = |(side, c, passes): (usize, usize, f64)| passes * (2 * 64 * side * side * 9 * c * 64) as f64;
        let expected: f64 = layers.map(flops).iter().sum();
        let counted = report.gflops.unwrap() * report.step_ms * 1e6;
        assert!((counted / expected - 1.0).abs() < 1e-3, "{counted} for {expected}");
    }

    #[test]
    fn a_mistyped_workload_is_answered_with_the_nearest() {
        for text in [run(&plan("conv4-28px-b64")).unwrap_err(), profile(&plan("conv4-28px-b64")).unwrap_err()] {
            assert!(text.to_string().contains("Did you mean \"conv4-28px-b64-train\"?"), "{text}");
        }
    }

    #[test]
    fn a_profile_is_made_of_its_parts() {
        let report = profile(&plan("conv4-28px-b64-train")).unwrap();
        let expected = ["forward", "input-gradient", "weight-gradient", "batch-norm", "pooling", "loss", "optimizer"];
        for category in expected {
            let found = report
                .categories
                .iter()
                .filter(|total| serde_json::to_value(total.category).unwrap() == category)
                .count();
            assert_eq!(found, 1, "{category}");
        }
        let by_category = |value: fn(&CategoryTotal) -> f64| report.categories.iter().map(value).sum::<f64>();
        let by_record = |value: fn(&Record) -> f64| report.records.iter().map(value).sum::<f64>();
        assert!((by_category(|p| p.ms) / by_record(|r| r.ms) - 1.0).abs() < 1e-9);
        assert_eq!(by_category(|p| p.flops), by_record(|r| r.flops));
        assert!(report.outside_ms >= 0.0 && report.outside_ms <= report.step_ms, "records are parts of a step");
        assert!(report.records.is_sorted_by(|a, b| a.ms >= b.ms));
        let weight = |layer: &str| {
            report.records.iter().any(|record| record.layer == layer && record.operation == "conv2d_backward_weight")
        };
        assert!((0..4).all(|block| weight(&format!("blocks.{block}.0"))));
    }
}
