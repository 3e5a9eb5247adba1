//! Times the relational kernels: `cargo run -p rkd-kernels --example relations_bench -- [THREADS]`.
//!
//! One line for each size: squared distances of both networks, the two sweeps, and the way back, in milliseconds
//! (best of several, since the machine may be shared), and the angle sweep's share of n^3 / 2 pairs at a vertex.

use std::time::Instant;

use rkd_kernels::{Pool, relations};

fn best<T>(mut work: impl FnMut() -> T) -> f64 {
    let times = (0..7).map(|_| {
        let start = Instant::now();
        std::hint::black_box(work());
        start.elapsed().as_secs_f64() * 1e3
    });
    times.fold(f64::INFINITY, f64::min)
}

fn main() {
    let threads = std::env::args().nth(1).map_or(0, |text| text.parse().expect("a number of threads"));
    let pool = Pool::new(threads);
    for (n, d) in [(64, 64), (128, 512), (256, 128), (512, 128), (1024, 128)] {
        let rows = |seed: usize| {
            let value = |i: usize| ((i * 7919 + seed * 104_729) % 10_007) as f64 / 10_007.0 - 0.5;
            relations::widen(&(0..n * d).map(value).collect::<Vec<f64>>(), n, d)
        };
        let (student, teacher) = (rows(1), rows(2));
        let squared = [&student, &teacher].map(|rows| relations::squared_distances(&pool, rows, n, d));
        let gradient = relations::angle_huber(&pool, &squared[0], &squared[1], n, 1.0).gradient;
        let distances = best(|| relations::squared_distances(&pool, &student, n, d));
        let distance = best(|| relations::distance_huber(&pool, &squared[0], &squared[1], n, 1.0));
        let angle = best(|| relations::angle_huber(&pool, &squared[0], &squared[1], n, 1.0));
        let back = best(|| relations::pull_back(&pool, &student, &gradient, n, d));
        println!(
            "n={n} d={d}, {} threads: squared distances 2 x {distances:.3} ms, distance {distance:.3} ms, \
             angle {angle:.3} ms ({:.3} ns a pair), back {back:.3} ms",
            pool.threads(),
            angle * 1e6 / (n as f64).powi(3) * 2.0
        );
    }
}
