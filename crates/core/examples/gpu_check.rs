//! What `scripts/gpu-check` runs beside the tests on a machine with a GPU:
//!
//! ```text
//! gpu_check doctor           the GPUs, driver and libraries; fails where none can be used, with the reason
//! gpu_check memory STEPS     trains so many steps and fails if the device's memory or the host's has grown since the first
//! gpu_check bench            waits for lines: "prepare WORKLOAD PRECISION" makes networks and inputs, "run STEPS" takes steps and
//!                            prints the milliseconds of each; answers are lines of JSON
//! gpu_check workloads        the names of the workloads, a line each
//! ```
use std::error::Error;
use std::io::{self, BufRead};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use rkd_core::bench::{Prepared, workloads_of_gpu};
use rkd_core::devices::{self, Device, Wish};
use rkd_core::limits::Process;
use rkd_core::nn::{Cuda, Precision};
use rkd_cuda::Device as _;
use rkd_cuda::gpu::Gpu;
use rkd_kernels::Team;
use serde_json::json;

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["doctor"] => doctor(),
        ["memory", steps] => steps.parse().map_err(Into::into).and_then(memory),
        ["bench"] => bench(),
        ["workloads"] => {
            workloads_of_gpu().iter().for_each(|name| println!("{name}"));
            Ok(())
        }
        _ => Err("say doctor, memory STEPS, bench or workloads".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gpu_check: {error}");
            ExitCode::FAILURE
        }
    }
}

fn doctor() -> Outcome {
    let report = devices::cuda();
    println!("driver: {}", report.driver.as_deref().map_or("none".into(), |driver| format!("of CUDA {driver}")));
    for (number, device) in report.devices.iter().enumerate() {
        let memory = device.memory as f64 / f64::from(1 << 30);
        println!("cuda:{number}: {}, {memory:.1} GiB, compute capability {}", device.name, device.capability);
        device.problem.iter().for_each(|problem| println!("cuda:{number} cannot be used: {problem}"));
    }
    for library in &report.libraries {
        println!("{}: {}", library.name, library.file.as_deref().unwrap_or("not found"));
    }
    devices::choose(Wish::This(Device::Cuda(0)), false)?;
    let started = Instant::now();
    let gpu = Gpu::open(0)?;
    println!("opened {} with its kernels in {:.2} s", gpu.name(), started.elapsed().as_secs_f64());
    Ok(())
}

/// The pieces that the device's memory is taken in come and go in the first steps, and not later.
fn memory(steps: usize) -> Outcome {
    const FIRST: usize = 20;
    /// What a host's allocator may keep.
    const KEPT: u64 = 16 << 20;
    let (gpu, team) = (Gpu::open(0)?, Arc::new(Team::new(0)));
    let mut work = Prepared::new(&Cuda::new(gpu.clone()), &team, "resnet18-64px-b64-distil")?;
    let mut now = |steps: usize| -> Result<[u64; 2], Box<dyn Error>> {
        (0..steps).try_for_each(|_| work.step())?;
        gpu.synchronize()?;
        let host = Process::now().map_or(0, |process| process.resident);
        println!("after {steps} more steps: {} bytes of the device's memory, {host} of the host's", gpu.allocated());
        Ok([gpu.allocated() as u64, host])
    };
    let [first, last] = [now(FIRST)?, now(steps.saturating_sub(FIRST))?];
    let counts = gpu.counts();
    println!("{} kernels by {} graphs, {} by themselves", counts.recorded, counts.recordings, counts.single);
    if last[0] > first[0] || last[1] > first[1] + KEPT {
        return Err(format!("memory has grown from {first:?} to {last:?} bytes (device, host)").into());
    }
    Ok(())
}

fn bench() -> Outcome {
    let (gpu, team) = (Gpu::open(0)?, Arc::new(Team::new(0)));
    let mut prepared: Option<Prepared> = None;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let answer = match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["prepare", name, precision] => {
                let precision: Precision = serde_json::from_value(json!(precision))?;
                // What the last one had goes first.
                drop(prepared.take());
                prepared = Some(Prepared::new(&Cuda::new(gpu.clone()).with_precision(precision), &team, name)?);
                json!({ "prepared": name, "precision": precision })
            }
            ["run", steps] => {
                let work = prepared.as_mut().ok_or("there is nothing to run")?;
                let steps: usize = steps.parse()?;
                gpu.synchronize()?;
                let started = Instant::now();
                (0..steps).try_for_each(|_| work.step())?;
                gpu.synchronize()?;
                let ms = started.elapsed().as_secs_f64() * 1e3 / steps.max(1) as f64;
                json!({ "step_ms": ms, "steps": steps, "allocated": gpu.allocated() })
            }
            _ => return Err(format!("unknown line: {line}").into()),
        };
        println!("{answer}");
    }
    Ok(())
}
