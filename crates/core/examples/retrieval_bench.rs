//! Times an exact retrieval evaluation: `cargo run -p rkd-core --example retrieval_bench -- [N] [D] [THREADS]`.
//!
//! Prints one JSON line with seconds and, on Linux, the peak memory of the process. Embeddings are clustered as those of
//! a trained network are: classes of ten, each around a centre of its own.

use std::time::Instant;

use rkd_core::metrics::retrieval;
use rkd_core::random::Random;
use rkd_kernels::Pool;

fn main() -> rkd_core::Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse().expect("whole numbers: N D THREADS"));
    let mut next = |default: usize| arguments.next().unwrap_or(default);
    let (n, d, threads) = (next(10_000), next(128), next(0));
    let labels: Vec<u32> = (0..n as u32).map(|i| i / 10).collect();
    let mut embeddings = Vec::with_capacity(n * d);
    for &label in &labels {
        let mut centre = Random::keyed(1, 0, u64::from(label), "centre");
        let mut own = Random::keyed(1, 1, embeddings.len() as u64, "own");
        embeddings.extend((0..d).map(|_| (centre.normal() + 0.8 * own.normal()) as f32));
    }
    let pool = Pool::new(threads);
    let start = Instant::now();
    let found = retrieval(&pool, &embeddings, n, d, &labels, &[1, 2, 4, 8])?;
    let seconds = start.elapsed().as_secs_f64();
    let peak = std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| status.lines().find_map(|line| line.strip_prefix("VmHWM:").map(|kb| kb.trim().to_string())));
    println!(
        "{}",
        serde_json::json!({
            "n": n, "d": d, "threads": pool.threads(), "seconds": seconds, "peakMemory": peak,
            "recall@1": found.recall[0].1, "mapAtR": found.map_at_r
        })
    );
    Ok(())
}
