//! Squeeze and excitation (Hu et al. 2018): every channel of an image times a gate that comes of the channels' means.
//!
//! ```text
//! s = mean of x over the pixels,   g = gate(s),   y = x g
//! dg = sum of dy x over the pixels,   dx = dy g + ds / hw
//! ```
//! The small layers between s and g are layers like any; here is what goes over the whole map, each in one pass.
//!
//! Shapes: x, y [n, hw, c], s, g [n, c]. Sums over pixels are taken in f64 (see `columns`).

use crate::columns::{self, Pair, Which};
use crate::simd::{Kernel, Simd, dispatch};
use crate::{Team, check};

/// `y = x g`. Overwrites `y`.
pub fn scale_channels(team: &Team, [hw, c]: [usize; 2], x: &[f32], gate: &[f32], y: &mut [f32]) {
    check::length("scale_channels", "x", x.len(), y.len());
    check::length("scale_channels", "gate", gate.len() * hw, y.len());
    let rows = columns::block_rows(c);
    team.for_each_chunk(y, rows * c.max(1), |block, y| {
        let x = &x[block * rows * c..][..y.len()];
        dispatch(team.isa(), Scaled { c, hw, first: block * rows, x, gate, added: &[], share: 0.0, y });
    });
}

/// The gradient of the gate, `dg`. Overwrites `dgate`.
pub fn scale_channels_backward_gate(team: &Team, size: [usize; 2], x: &[f32], dy: &[f32], dgate: &mut [f32]) {
    check::length("scale_channels_backward_gate", "x", x.len(), dgate.len() * size[0]);
    check::length("scale_channels_backward_gate", "dy", dy.len(), x.len());
    columns::image_sums(team, size, [x, dy], Products, (Which::Product, 1.0), dgate);
}

/// The gradient of the input, `dx`, through the product and, by `dmean`, through the mean. Overwrites `dx`.
pub fn scale_channels_backward_input(
    team: &Team,
    [hw, c]: [usize; 2],
    dy: &[f32],
    gate: &[f32],
    dmean: &[f32],
    dx: &mut [f32],
) {
    check::length("scale_channels_backward_input", "dy", dy.len(), dx.len());
    check::length("scale_channels_backward_input", "gate", gate.len() * hw, dx.len());
    check::length("scale_channels_backward_input", "dmean", dmean.len(), gate.len());
    let rows = columns::block_rows(c);
    team.for_each_chunk(dx, rows * c.max(1), |block, dx| {
        let x = &dy[block * rows * c..][..dx.len()];
        let share = 1.0 / hw as f32;
        dispatch(team.isa(), Scaled { c, hw, first: block * rows, x, gate, added: dmean, share, y: dx });
    });
}

/// The product of both, summed.
#[derive(Clone, Copy)]
struct Products;

impl Pair<2, 0> for Products {
    #[inline(always)]
    unsafe fn pair<S: Simd>(self, values: [S::V; 2], _: [S::V; 0]) -> [S::V; 2] {
        values
    }
}

/// `y = x gate + share added` for whole pixels.
struct Scaled<'a> {
    c: usize,
    hw: usize,
    /// The first pixel, counted through all images.
    first: usize,
    x: &'a [f32],
    gate: &'a [f32],
    /// Of the gate's shape; empty for none.
    added: &'a [f32],
    share: f32,
    y: &'a mut [f32],
}

impl Kernel for Scaled<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (c, length) = (self.c, self.y.len());
        assert!(self.x.len() == length && length.is_multiple_of(c), "scale_channels: blocks differ");
        for (pixel, start) in (0..length).step_by(c).enumerate() {
            let image = (self.first + pixel) / self.hw;
            let (gate, x) = (&self.gate[image * c..][..c], &self.x[start..][..c]);
            let y = self.y[start..][..c].as_mut_ptr();
            let added = if self.added.is_empty() { gate } else { &self.added[image * c..][..c] };
            for at in (0..c).step_by(S::LANES) {
                // SAFETY: all are c long and `at` is below c; no first `c - at` floats exceed them. The instruction set is
                // there by the contract of `run`.
                unsafe {
                    let [x, gate] = [x, gate].map(|from| S::load_first(from.as_ptr().add(at), c - at));
                    let value = match self.added.is_empty() {
                        true => S::mul(x, gate),
                        false => {
                            let added = S::load_first(added.as_ptr().add(at), c - at);
                            S::mul_add(x, gate, S::mul(added, S::splat(self.share)))
                        }
                    };
                    S::store_first(y.add(at), value, c - at);
                }
            }
        }
    }
}
