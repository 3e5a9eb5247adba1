//! L2 normalisation of rows, as PyTorch's `F.normalize`.
//!
//!   y = x / max(|x|, 1e-12),   dx = (dy - y (y . dy)) / |x|
//!
//! Shapes: n rows of d; x, y, dy, dx `[n, d]`, norm `[n]`.

use crate::team::Parts;
use crate::{Team, check};

/// The smallest norm [`l2_normalize`] divides by, as in PyTorch's `F.normalize`.
const SMALLEST_NORM: f32 = 1e-12;

/// `y = x / max(|x|, 1e-12)` for each row of length `d`; `norm` (one a row) receives |x|, summed in f64.
pub fn l2_normalize(team: &Team, d: usize, x: &[f32], y: &mut [f32], norm: &mut [f32]) {
    check::length("l2_normalize", "y", y.len(), x.len());
    check::length("l2_normalize", "norm", norm.len() * d, x.len());
    let norm = Parts::new(norm);
    team.for_each_chunk(y, d.max(1), |row, y| {
        let x = &x[row * d..row * d + d];
        let length = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt() as f32;
        // SAFETY: `norm` has one element for each row, and each row's block runs once.
        unsafe { norm.slice(row, 1)[0] = length };
        let divisor = if length < SMALLEST_NORM { SMALLEST_NORM } else { length };
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x / divisor;
        }
    });
}

/// The gradient of [`l2_normalize`] from its output `y` and `norm`: `dx = (dy - y (y . dy)) / norm`; below the clamp
/// the divisor is a constant, and `dx = dy / 1e-12`. Overwrites `dx`.
pub fn l2_normalize_backward(team: &Team, d: usize, y: &[f32], norm: &[f32], dy: &[f32], dx: &mut [f32]) {
    check::length("l2_normalize_backward", "dy", dy.len(), y.len());
    check::length("l2_normalize_backward", "dx", dx.len(), y.len());
    check::length("l2_normalize_backward", "norm", norm.len() * d, y.len());
    team.for_each_chunk(dx, d.max(1), |row, dx| {
        let (y, dy) = (&y[row * d..row * d + d], &dy[row * d..row * d + d]);
        let clamped = norm[row] < SMALLEST_NORM;
        let divisor = if clamped { SMALLEST_NORM } else { norm[row] };
        let along: f64 = y.iter().zip(dy).map(|(&y, &dy)| f64::from(y) * f64::from(dy)).sum();
        let along = if clamped { 0.0 } else { along as f32 };
        for (dx, (&y, &dy)) in dx.iter_mut().zip(y.iter().zip(dy)) {
            *dx = (dy - y * along) / divisor;
        }
    });
}
