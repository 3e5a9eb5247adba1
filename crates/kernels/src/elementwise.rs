//! Operations element by element, and the sum of squares that gradient clipping needs.

use crate::activation::{Activation, Curve, with_curve};
use crate::simd::{Kernel, Simd, dispatch};
use crate::{Team, check};

/// Elements in a block of work: 64 KiB, a fixed cut that no thread count changes.
pub(crate) const BLOCK: usize = 16 * 1024;

/// One loop over slices of equal length, as a [`Kernel`].
macro_rules! map_kernel {
    ($name:ident, $out:ident, [$($input:ident),*], [$($scalar:ident),*], $i:ident => $value:expr) => {
        pub(crate) struct $name<'a> { pub(crate) $out: &'a mut [f32], $(pub(crate) $input: &'a [f32],)* $(pub(crate) $scalar: f32,)* }
        impl Kernel for $name<'_> {
            type Output = ();
            #[inline(always)]
            unsafe fn run<S: Simd>(self) {
                let length = self.$out.len();
                let $out = self.$out;
                $(let $input = &self.$input[..length];)*
                $(let $scalar = self.$scalar;)*
                for $i in 0..length {
                    $out[$i] = $value;
                }
            }
        }
    };
}

map_kernel!(Add, y, [a, b], [], i => a[i] + b[i]);
map_kernel!(AddInPlace, y, [x], [], i => y[i] + x[i]);
map_kernel!(AddScaled, y, [x], [factor], i => y[i] + factor * x[i]);
map_kernel!(Scale, y, [], [factor], i => y[i] * factor);

/// The elements of block `block` of `slice`, whose mutable partner has `length` elements in that block.
fn part(slice: &[f32], block: usize, length: usize) -> &[f32] {
    &slice[block * BLOCK..block * BLOCK + length]
}

/// `y` = the activation of `x`.
pub fn activate(team: &Team, activation: Activation, x: &[f32], y: &mut [f32]) {
    check::length("activate", "y", y.len(), x.len());
    team.for_each_chunk(y, BLOCK, |i, y| {
        let x = part(x, i, y.len());
        with_curve!(Some(activation), curve => dispatch(team.isa(), Activate { curve, x, y }));
    });
}

/// `y` = the activation of `y`.
pub(crate) fn activate_in_place(team: &Team, activation: Activation, y: &mut [f32]) {
    team.for_each_chunk(y, BLOCK, |_, y| {
        with_curve!(Some(activation), curve => dispatch(team.isa(), ActivateInPlace { curve, y }));
    });
}

/// `dx = dy` times the slope of [`activate`] at `x`; of a ReLU its output does for `x` too.
pub fn activate_backward(team: &Team, activation: Activation, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    check::length("activate_backward", "dx", dx.len(), x.len());
    check::length("activate_backward", "dy", dy.len(), x.len());
    team.for_each_chunk(dx, BLOCK, |i, dx| {
        let (x, dy) = (part(x, i, dx.len()), part(dy, i, dx.len()));
        with_curve!(Some(activation), curve => dispatch(team.isa(), ActivateBackward { curve, x, dy, dx }));
    });
}

struct Activate<'a, C> {
    curve: C,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl<C: Curve> Kernel for Activate<'_, C> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        assert!(self.x.len() == self.y.len(), "activate: blocks differ");
        let (x, y, length) = (self.x.as_ptr(), self.y.as_mut_ptr(), self.y.len());
        for at in (0..length).step_by(S::LANES) {
            // SAFETY: `at` is below the length of both slices, and no first `length - at` floats exceed them. The
            // instruction set is there by the contract of `run`.
            unsafe {
                let value = self.curve.value::<S>(S::load_first(x.add(at), length - at));
                S::store_first(y.add(at), value, length - at);
            }
        }
    }
}

struct ActivateInPlace<'a, C> {
    curve: C,
    y: &'a mut [f32],
}

impl<C: Curve> Kernel for ActivateInPlace<'_, C> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (y, length) = (self.y.as_mut_ptr(), self.y.len());
        for at in (0..length).step_by(S::LANES) {
            // SAFETY: as in `Activate`.
            unsafe {
                let value = self.curve.value::<S>(S::load_first(y.add(at), length - at));
                S::store_first(y.add(at), value, length - at);
            }
        }
    }
}

struct ActivateBackward<'a, C> {
    curve: C,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl<C: Curve> Kernel for ActivateBackward<'_, C> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let length = self.dx.len();
        assert!(self.x.len() == length && self.dy.len() == length, "activate_backward: blocks differ");
        let (x, dy, dx) = (self.x.as_ptr(), self.dy.as_ptr(), self.dx.as_mut_ptr());
        for at in (0..length).step_by(S::LANES) {
            // SAFETY: as in `Activate`.
            unsafe {
                let (x, dy) = (S::load_first(x.add(at), length - at), S::load_first(dy.add(at), length - at));
                S::store_first(dx.add(at), self.curve.gradient::<S>(x, dy), length - at);
            }
        }
    }
}

/// `y = a + b`.
pub fn add(team: &Team, a: &[f32], b: &[f32], y: &mut [f32]) {
    check::length("add", "b", b.len(), a.len());
    check::length("add", "y", y.len(), a.len());
    team.for_each_chunk(y, BLOCK, |i, y| {
        dispatch(team.isa(), Add { a: part(a, i, y.len()), b: part(b, i, y.len()), y })
    });
}

/// `y += x`.
pub fn add_in_place(team: &Team, x: &[f32], y: &mut [f32]) {
    check::length("add_in_place", "y", y.len(), x.len());
    team.for_each_chunk(y, BLOCK, |i, y| dispatch(team.isa(), AddInPlace { x: part(x, i, y.len()), y }));
}

/// `y += factor * x`.
pub fn add_scaled(team: &Team, factor: f32, x: &[f32], y: &mut [f32]) {
    check::length("add_scaled", "y", y.len(), x.len());
    team.for_each_chunk(y, BLOCK, |i, y| dispatch(team.isa(), AddScaled { x: part(x, i, y.len()), factor, y }));
}

/// `y *= factor`.
pub fn scale(team: &Team, factor: f32, y: &mut [f32]) {
    team.for_each_chunk(y, BLOCK, |_, y| dispatch(team.isa(), Scale { factor, y }));
}

/// The sum of squares, in f64: 16 running sums in a block, blocks added in order.
pub fn sum_of_squares(team: &Team, x: &[f32]) -> f64 {
    let mut sums = vec![0.0; x.len().div_ceil(BLOCK)];
    team.for_each_chunk(&mut sums, 1, |block, sum| {
        let start = block * BLOCK;
        sum[0] = dispatch(team.isa(), SumOfSquares { x: &x[start..x.len().min(start + BLOCK)] });
    });
    sums.iter().sum()
}

struct SumOfSquares<'a> {
    x: &'a [f32],
}

impl Kernel for SumOfSquares<'_> {
    type Output = f64;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f64 {
        let mut sums = [0.0_f64; 16];
        let (groups, rest) = self.x.as_chunks::<16>();
        for group in groups {
            for lane in 0..16 {
                sums[lane] += f64::from(group[lane]) * f64::from(group[lane]);
            }
        }
        for (lane, &value) in rest.iter().enumerate() {
            sums[lane] += f64::from(value) * f64::from(value);
        }
        sums.iter().sum()
    }
}
