//! How long the relational losses of a large batch will take, from a small one on this machine.

use std::time::Instant;

use super::{angle_huber, pull_back, squared_distances, widen};
use crate::Team;

/// Items of the small batch: enough for every thread, and milliseconds.
const SAMPLE: usize = 256;

/// Seconds that the angle loss of n items of d coordinates will take with its gradient on this team: n^2 d for the
/// distances and the way back, n^3 for the sweep, both measured on 256 items or fewer.
/// A guide for large batches, not a promise: a busy machine and short batches (below a millisecond) are off by more
/// than 2.
pub fn estimate_seconds(team: &Team, n: usize, d: usize) -> f64 {
    let sample = n.min(SAMPLE);
    let rows = |seed: usize| {
        let value = |i: usize| ((i * 7919 + seed) % 10_007) as f64;
        widen(&(0..sample * d).map(value).collect::<Vec<f64>>(), sample, d)
    };
    let (student, teacher) = (rows(1), rows(2));
    // The first run wakes the threads and touches the memory.
    let measure = || {
        let begin = Instant::now();
        let squared = [&student, &teacher].map(|rows| squared_distances(team, rows, sample, d));
        let distances = begin.elapsed();
        let sum = angle_huber(team, &squared[0], &squared[1], sample, 1.0);
        let sweep = begin.elapsed() - distances;
        std::hint::black_box(pull_back(team, &student, &sum.gradient, sample, d));
        (sweep.as_secs_f64(), (begin.elapsed() - sweep).as_secs_f64())
    };
    let ((sweep_1, rest_1), (sweep_2, rest_2)) = (measure(), measure());
    let scale = n as f64 / sample.max(1) as f64;
    sweep_1.min(sweep_2) * scale.powi(3) + rest_1.min(rest_2) * scale.powi(2)
}
