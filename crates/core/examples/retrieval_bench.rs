//! Times an exact retrieval evaluation: `cargo run -p rkd-core --example retrieval_bench -- [N] [D] [THREADS] [FILE]`.
//!
//! Prints one JSON line with seconds and, on Linux, the peak memory above the embeddings. Embeddings are clustered as
//! those of a trained network are: classes of ten, each around a centre of its own, as noisy as makes some neighbours
//! wrong at any length. With FILE they are written there,
//! float32 row by row, for another program to measure.

use std::time::Instant;

use rkd_core::bench::PeakMemory;
use rkd_core::metrics::retrieval;
use rkd_core::random::Random;
use rkd_kernels::Team;

fn main() -> rkd_core::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next =
        |default: usize| arguments.next().map_or(default, |text| text.parse().expect("whole numbers: N D THREADS"));
    let (n, d, threads) = (next(10_000), next(128), next(0));
    let labels: Vec<u32> = (0..n as u32).map(|i| i / 10).collect();
    // Squared distances within and between classes are about 2 noise^2 d and 2 (1 + noise^2) d, and deviate by
    // 2 (1 + noise^2) sqrt(2 d): the classes stand 3.6 deviations apart.
    let noise = ((d as f64 / 2.0).sqrt() / 3.6 - 1.0).max(0.25).sqrt();
    let mut embeddings: Vec<f32> = Vec::with_capacity(n * d);
    for &label in &labels {
        let mut centre = Random::keyed(1, 0, u64::from(label), "centre");
        let mut own = Random::keyed(1, 1, embeddings.len() as u64, "own");
        embeddings.extend((0..d).map(|_| (centre.normal() + noise * own.normal()) as f32));
    }
    if let Some(file) = arguments.next() {
        let bytes: Vec<u8> = embeddings.iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(file, bytes).expect("a file that can be written");
    }
    let (team, memory) = (Team::new(threads), PeakMemory::start());
    let start = Instant::now();
    let found = retrieval(&team, &embeddings, n, d, &labels, &[1, 2, 4, 8])?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}",
        serde_json::json!({
            "n": n, "d": d, "threads": team.threads(), "seconds": seconds,
            "peak_mib": memory.and_then(|memory| memory.mib()), "recall_at_1": found.recall[0].1,
            "map_at_r": found.map_at_r
        })
    );
    Ok(())
}
