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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined_in_order_and_cut_out_again() {
        // More pixels than two blocks, and some.
        let pixels = 2 * PIXELS + 7;
        let part = |c: usize, base: f32| (0..pixels * c).map(|i| base + i as f32).collect::<Vec<f32>>();
        let (a, b, d) = (part(3, 0.0), part(1, 1e6), part(2, 2e6));
        for threads in [1, 3] {
            let team = Team::new(threads);
            let mut y = vec![f32::NAN; pixels * 6];
            join(&team, &[(&a, 3), (&b, 1), (&d, 2)], &mut y);
            for (pixel, y) in y.chunks_exact(6).enumerate() {
                assert_eq!(
                    (&y[..3], &y[3..4], &y[4..]),
                    (&a[pixel * 3..][..3], &b[pixel..][..1], &d[pixel * 2..][..2])
                );
            }
            for (part, first, c) in [(&a, 0, 3), (&b, 3, 1), (&d, 4, 2)] {
                let mut back = vec![f32::NAN; pixels * c];
                cut(&team, &y, 6, first, c, &mut back);
                assert_eq!(&back, part);
            }
        }
    }
}
