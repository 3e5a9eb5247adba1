//! Operations element by element, and the sum of squares that gradient clipping needs.

use crate::activation::Relu;
use crate::simd::{Kernel, Simd, dispatch};
use crate::{Team, check};

/// Elements in a block of work: 64 KiB, a fixed cut that no thread count changes.
pub(crate) const BLOCK: usize = 16 * 1024;

/// One loop over slices of equal length, as a [`Kernel`].
macro_rules! map_kernel {
    ($name:ident, $out:ident, [$($input:ident),*], [$($scalar:ident),*], $i:ident => $value:expr) => {
        struct $name<'a> { $out: &'a mut [f32], $($input: &'a [f32],)* $($scalar: f32,)* }
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

map_kernel!(Rectify, y, [x], [ceiling], i => if x[i] < 0.0 { 0.0 } else if x[i] > ceiling { ceiling } else { x[i] });
map_kernel!(RectifyBackward, dx, [y, dy], [last], i => if y[i] > 0.0 && y[i] <= last { dy[i] } else { 0.0 });
map_kernel!(Add, y, [a, b], [], i => a[i] + b[i]);
map_kernel!(AddInPlace, y, [x], [], i => y[i] + x[i]);
map_kernel!(AddScaled, y, [x], [factor], i => y[i] + factor * x[i]);
map_kernel!(Scale, y, [], [factor], i => y[i] * factor);

/// The elements of block `block` of `slice`, whose mutable partner has `length` elements in that block.
fn part(slice: &[f32], block: usize, length: usize) -> &[f32] {
    &slice[block * BLOCK..block * BLOCK + length]
}

/// `y = min(max(x, 0), ceiling)`; a NaN stays a NaN.
pub fn relu(team: &Team, kind: Relu, x: &[f32], y: &mut [f32]) {
    check::length("relu", "y", y.len(), x.len());
    let ceiling = kind.ceiling();
    team.for_each_chunk(y, BLOCK, |i, y| dispatch(team.isa(), Rectify { x: part(x, i, y.len()), ceiling, y }));
}

/// `dx = dy` where the output `y` of [`relu`] is positive and below the ceiling, else 0.
pub fn relu_backward(team: &Team, kind: Relu, y: &[f32], dy: &[f32], dx: &mut [f32]) {
    check::length("relu_backward", "dx", dx.len(), y.len());
    check::length("relu_backward", "dy", dy.len(), y.len());
    team.for_each_chunk(dx, BLOCK, |i, dx| {
        let (y, dy) = (part(y, i, dx.len()), part(dy, i, dx.len()));
        dispatch(team.isa(), RectifyBackward { y, dy, last: kind.last_passed(), dx })
    });
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
