//! Times RKD distance + 2 x angle with its gradient: `cargo run -p rkd-core --example relations_bench -- [N] [D] [THREADS]`.
//!
//! Prints one JSON line: the median of the steps that fit into two seconds (at least one after the first), the time that
//! was estimated before, and, on Linux, the peak memory above the inputs, student and teacher as float64.

use std::time::{Duration, Instant};

use rkd_core::bench::PeakMemory;
use rkd_core::losses::{Feature, FeatureMap, LossSpec, Matrix, RkdAngle, RkdDistance, TermSpec, Weight};
use rkd_core::random::Random;
use rkd_core::ranks::Ranks;
use rkd_core::train::balance::Balance;
use rkd_core::train::objective::{BatchFeatures, Objective};
use rkd_kernels::{Team, relations};

fn main() -> rkd_core::Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse().expect("whole numbers: N D THREADS"));
    let mut next = |default: usize| arguments.next().unwrap_or(default);
    let (n, d, threads) = (next(256), next(512), next(0));
    let draw = |purpose: &str| {
        let mut random = Random::keyed(1, 0, 0, purpose);
        let rows: Vec<f32> = (0..n * d).map(|_| random.normal() as f32).collect();
        Matrix::new(purpose, &rows, n, d)
    };
    let team = Team::new(threads);
    let terms = [
        TermSpec::new(LossSpec::RkdDistance(RkdDistance::default())),
        TermSpec { weight: Weight::Number(2.0), ..TermSpec::new(LossSpec::RkdAngle(RkdAngle::default())) },
    ];
    let objective = Objective::new(&terms, &[("teacher", 1.0)])?;
    let estimated = relations::estimate_seconds(&team, n, d) * 1e3;
    let (student, teacher) = (draw("student")?, draw("teacher")?);
    let memory = PeakMemory::start();
    let [mut student, mut teacher] = [student, teacher].map(|matrix| FeatureMap::from([(Feature::Embedding, matrix)]));
    let (mut times, start) = (Vec::new(), Instant::now());
    while times.len() < 2 || (start.elapsed() < Duration::from_secs(2) && times.len() < 500) {
        let features = BatchFeatures {
            student: &student,
            teachers: std::slice::from_ref(&teacher),
            labels: &[],
            parameters: &[],
            team: &team,
            ranks: Ranks::one(),
            random: Random::keyed(1, 0, 0, "loss"),
        };
        let begin = Instant::now();
        let value = objective.weigh(objective.evaluate(&features, 0)?, &Balance::default(), 0);
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        std::hint::black_box(value.total);
        // A copy of a feature has no distances yet, so every step computes them.
        for matrix in student.values_mut().chain(teacher.values_mut()) {
            *matrix = matrix.clone();
        }
    }
    let peak = memory.and_then(|memory| memory.mib());
    times.remove(0);
    times.sort_by(f64::total_cmp);
    println!(
        "{}",
        serde_json::json!({
            "n": n, "d": d, "threads": team.threads(), "step_ms": times[times.len() / 2], "best_ms": times[0],
            "runs": times.len(), "estimated_ms": estimated, "peak_mib": peak
        })
    );
    Ok(())
}
