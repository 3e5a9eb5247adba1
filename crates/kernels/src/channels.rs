//! Maps side by side along the channels, and their way back: what joins the branches of an inception module.
//!
//! Plain copies, `m` pixels of `c` channels, cut into blocks of `PIXELS`.

use crate::{Team, check};

/// Pixels in a block of work: 64 KiB at 64 channels, a fixed cut that no thread count changes.
const PIXELS: usize = 256;

/// `y[m, sum of c] = ` the `parts`, each `[m, c]` with its `c`, side by side.
pub fn join(team: &Team, parts: &[(&[f32], usize)], y: &mut [f32]) {
    let all: usize = parts.iter().map(|(_, c)| c).sum();
    for (part, c) in parts {
        check::length("join", "a part", part.len() * all, y.len() * c);
    }
    team.for_each_chunk(y, (PIXELS * all).max(1), |block, y| {
        let mut first = 0;
        for &(part, c) in parts {
            for (pixel, y) in y.chunks_exact_mut(all).enumerate() {
                y[first..first + c].copy_from_slice(&part[(block * PIXELS + pixel) * c..][..c]);
            }
            first += c;
        }
    });
}

/// `y[m, c] = ` the channels `first` to `first + c` of `x[m, all]`.
pub fn cut(team: &Team, x: &[f32], all: usize, first: usize, c: usize, y: &mut [f32]) {
    check::length("cut", "y", y.len() * all, x.len() * c);
    assert!(first + c <= all, "cut: channels {first} to {} of {all}", first + c);
    team.for_each_chunk(y, (PIXELS * c).max(1), |block, y| {
        for (pixel, y) in y.chunks_exact_mut(c.max(1)).enumerate() {
            y.copy_from_slice(&x[(block * PIXELS + pixel) * all + first..][..c]);
        }
    });
}
