//! Activations: what follows a normalisation or a convolution in one go, and what gates channels.
//!
//! ```text
//! relu(x) = max(x, 0),   relu6(x) = min(max(x, 0), 6)
//! hard_sigmoid(x) = relu6(x + 3) / 6,   hard_swish(x) = x hard_sigmoid(x)
//! sigmoid(x) = 1 / (1 + exp(-x)),   silu(x) = x sigmoid(x)
//! gelu(x) = x P(X < x) of a standard normal X = x (1 + erf(x / sqrt 2)) / 2
//! ```
//!
//! Sources: ReLU, Nair and Hinton 2010; the ceiling of 6, Howard et al. 2017 (Krizhevsky 2010); SiLU, Elfwing et al. 2017
//! (swish, Ramachandran et al. 2017); the hard forms, Howard et al. 2019; GELU, Hendrycks and Gimpel 2016, the exact form.
//! Gradients at kinks are PyTorch's: 0 at both of a ReLU and of hard sigmoid, of hard swish 0 at -3 and 1 at 3. A NaN stays a
//! NaN.

use crate::simd::Simd;

/// The kinds of activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x relu6(x + 3) / 6`.
    HardSwish,
    /// `x / (1 + exp(-x))`, also called swish.
    Silu,
    /// `relu6(x + 3) / 6`.
    HardSigmoid,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `x (1 + erf(x / sqrt 2)) / 2`.
    Gelu,
}

impl Activation {
    /// Whether it is a ReLU: its output says where its gradient passes. The gradient of the others is read from the input.
    pub fn is_relu(self) -> bool {
        matches!(self, Activation::Relu | Activation::Relu6)
    }

    /// What a ReLU's outputs are held between; infinities, which keep everything, for none and for the others.
    pub(crate) fn bounds(activation: Option<Activation>) -> [f32; 2] {
        match activation {
            Some(Activation::Relu) => [0.0, f32::INFINITY],
            Some(Activation::Relu6) => [0.0, CEILING],
            _ => [f32::NEG_INFINITY, f32::INFINITY],
        }
    }
}

/// The ceiling of [`Activation::Relu6`].
pub const CEILING: f32 = 6.0;
/// The largest output below it.
const LAST_BELOW: f32 = CEILING.next_down();
/// The hard forms bend at -3 and 3.
const BEND: f32 = 3.0;

/// An activation as a type, so that a kernel is compiled for each. Implementations are `#[inline(always)]`.
pub(crate) trait Curve: Copy + Sync {
    /// The activation of `x`.
    ///
    /// # Safety
    /// The instruction set of `S` is available.
    unsafe fn value<S: Simd>(self, x: S::V) -> S::V;

    /// `g` times the slope at `x`; of a ReLU its output does for `x` too.
    ///
    /// # Safety
    /// The instruction set of `S` is available.
    unsafe fn gradient<S: Simd>(self, x: S::V, g: S::V) -> S::V;
}

/// Evaluates `$body` with `$curve` as the type of the activation; of none, [`Identity`].
macro_rules! with_curve {
    ($activation:expr, $curve:ident => $body:expr) => {{
        use $crate::activation::{Activation, Gelu, HardSigmoid, HardSwish, Identity, Relu, Relu6, Sigmoid, Silu};
        match $activation {
            None => with_curve!(@ $curve = Identity => $body),
            Some(Activation::Relu) => with_curve!(@ $curve = Relu => $body),
            Some(Activation::Relu6) => with_curve!(@ $curve = Relu6 => $body),
            Some(Activation::HardSwish) => with_curve!(@ $curve = HardSwish => $body),
            Some(Activation::Silu) => with_curve!(@ $curve = Silu => $body),
            Some(Activation::HardSigmoid) => with_curve!(@ $curve = HardSigmoid => $body),
            Some(Activation::Sigmoid) => with_curve!(@ $curve = Sigmoid => $body),
            Some(Activation::Gelu) => with_curve!(@ $curve = Gelu => $body),
        }
    }};
    (@ $curve:ident = $value:ident => $body:expr) => {{
        let $curve = $value;
        $body
    }};
}
pub(crate) use with_curve;

/// No activation.
#[derive(Clone, Copy)]
pub(crate) struct Identity;

impl Curve for Identity {
    #[inline(always)]
    unsafe fn value<S: Simd>(self, x: S::V) -> S::V {
        x
    }
    #[inline(always)]
    unsafe fn gradient<S: Simd>(self, _x: S::V, g: S::V) -> S::V {
        g
    }
}

/// Declares the types of the activations by their two formulas.
macro_rules! curves {
    ($($(#[$doc:meta])* $name:ident { $x:ident => $value:expr; $at:ident, $g:ident => $gradient:expr; })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name;
        impl Curve for $name {
            #[inline(always)]
            unsafe fn value<S: Simd>(self, $x: S::V) -> S::V {
                // SAFETY: the instruction set is all that these operations need.
                unsafe { $value }
            }
            #[inline(always)]
            unsafe fn gradient<S: Simd>(self, $at: S::V, $g: S::V) -> S::V {
                // SAFETY: the instruction set is all that these operations need.
                unsafe { $gradient }
            }
        }
    )*};
}

curves! {
    /// [`Activation::Relu`].
    Relu { x => S::max(S::splat(0.0), x); x, g => S::where_positive(x, g); }
    /// [`Activation::Relu6`].
    Relu6 {
        x => within::<S>([0.0, CEILING], x);
        x, g => S::where_greater(x, S::splat(LAST_BELOW), S::splat(0.0), S::where_positive(x, g));
    }
    /// [`Activation::HardSwish`].
    HardSwish {
        x => S::mul(x, HardSigmoid.value::<S>(x));
        x, g => {
            let slope = S::mul_add(x, S::splat(1.0 / 3.0), S::splat(0.5));
            let slope = S::where_greater(x, S::splat(-BEND), slope, S::splat(0.0));
            S::mul(S::where_greater(S::splat(BEND), x, slope, S::splat(1.0)), g)
        };
    }
    /// [`Activation::Silu`].
    Silu {
        x => S::div(x, S::add(S::splat(1.0), exp::<S>(S::sub(S::splat(0.0), x))));
        x, g => {
            let sigmoid = Sigmoid.value::<S>(x);
            let rest = S::sub(S::splat(1.0), sigmoid);
            S::mul(S::mul(sigmoid, S::mul_add(x, rest, S::splat(1.0))), g)
        };
    }
    /// [`Activation::HardSigmoid`].
    HardSigmoid {
        x => S::mul(within::<S>([0.0, 2.0 * BEND], S::add(x, S::splat(BEND))), S::splat(0.5 / BEND));
        x, g => {
            let slope = S::where_greater(x, S::splat(-BEND), S::splat(0.5 / BEND), S::splat(0.0));
            S::mul(S::where_greater(S::splat(BEND), x, slope, S::splat(0.0)), g)
        };
    }
    /// [`Activation::Sigmoid`].
    Sigmoid {
        x => S::div(S::splat(1.0), S::add(S::splat(1.0), exp::<S>(S::sub(S::splat(0.0), x))));
        x, g => {
            let sigmoid = Sigmoid.value::<S>(x);
            S::mul(S::mul(sigmoid, S::sub(S::splat(1.0), sigmoid)), g)
        };
    }
    /// [`Activation::Gelu`].
    Gelu {
        x => S::mul(x, normal::<S>(x)[0]);
        x, g => {
            let [below, density] = normal::<S>(x);
            S::mul(S::mul_add(x, density, below), g)
        };
    }
}

/// Of a standard normal X, the probability of X < x to a few units in the last place, and the density at x.
///
/// The tail beyond |x| is `exp(-x^2 / 2) t P(t)` with t = 1 / (1 + 0.36 |x|): the form of Abramowitz and Stegun 7.1.26, with
/// P fitted to a relative error of 8e-8 on 0..14, so that no digits are lost far below 0 as in `1 + erf(x)`.
///
/// # Safety
/// The instruction set of `S` is available.
#[inline(always)]
unsafe fn normal<S: Simd>(x: S::V) -> [S::V; 2] {
    const STEEPNESS: f32 = 0.36;
    const POLYNOMIAL: [f32; 9] = [
        -0.029_383_272,
        0.135_178_8,
        -0.214_380_7,
        0.096_629_165,
        0.007_068_515_8,
        0.092_895_82,
        0.124_790_47,
        0.143_577_83,
        0.143_623_34,
    ];
    /// 1 / sqrt(2 pi).
    const HIGHEST: f32 = 0.398_942_3;
    // SAFETY: the instruction set is all that these operations need.
    unsafe {
        let one = S::splat(1.0);
        let size = S::max(S::sub(S::splat(0.0), x), x);
        let t = S::div(one, S::mul_add(size, S::splat(STEEPNESS), one));
        let mut sum = S::splat(POLYNOMIAL[0]);
        for &coefficient in &POLYNOMIAL[1..] {
            sum = S::mul_add(sum, t, S::splat(coefficient));
        }
        let bell = exp::<S>(S::mul(S::mul(x, x), S::splat(-0.5)));
        let tail = S::mul(S::mul(sum, t), bell);
        [S::where_greater(x, S::splat(0.0), S::sub(one, tail), tail), S::mul(bell, S::splat(HIGHEST))]
    }
}

/// The activations that a kernel applies to its sums without being compiled for each: those of few instructions.
#[derive(Clone, Copy)]
pub(crate) enum InRegister {
    /// A ReLU's bounds, or infinities for no activation.
    Within([f32; 2]),
    HardSwish,
}

impl InRegister {
    /// The form of an activation; `None` for those that want a pass of their own.
    pub(crate) fn of(activation: Option<Activation>) -> Option<InRegister> {
        match activation {
            Some(Activation::HardSwish) => Some(InRegister::HardSwish),
            Some(Activation::Silu | Activation::HardSigmoid | Activation::Sigmoid | Activation::Gelu) => None,
            None | Some(Activation::Relu | Activation::Relu6) => {
                Some(InRegister::Within(Activation::bounds(activation)))
            }
        }
    }

    /// # Safety
    /// The instruction set of `S` is available.
    #[inline(always)]
    pub(crate) unsafe fn value<S: Simd>(self, value: S::V) -> S::V {
        // SAFETY: the instruction set is all that these need.
        unsafe {
            match self {
                InRegister::Within(bounds) => within::<S>(bounds, value),
                InRegister::HardSwish => HardSwish.value::<S>(value),
            }
        }
    }
}

/// `value` within `bounds`.
///
/// # Safety
/// The instruction set of `S` is available.
#[inline(always)]
pub(crate) unsafe fn within<S: Simd>([lowest, highest]: [f32; 2], value: S::V) -> S::V {
    // SAFETY: the instruction set is all that these operations need.
    unsafe { S::min(S::splat(highest), S::max(S::splat(lowest), value)) }
}

/// `e^x` to two units in the last place, between e^-87 and e^88.
///
/// x = n ln 2 + r with |r| at most half of ln 2: e^r is Cephes' polynomial (Moshier 1992), and 2^n is made of its bits.
///
/// # Safety
/// The instruction set of `S` is available.
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    /// Adding it rounds to a whole number, whose exponent as a float then stands in the lowest bits.
    const ROUNDED: f32 = 12_582_912.0 + 127.0;
    /// ln 2 in two parts, of which the first times n is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const POLYNOMIAL: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5];
    // SAFETY: the instruction set is all that these operations need.
    unsafe {
        let x = within::<S>([-87.0, 88.0], x);
        let rounded = S::mul_add(x, S::splat(std::f32::consts::LOG2_E), S::splat(ROUNDED));
        let n = S::sub(rounded, S::splat(ROUNDED));
        let r = S::mul_add(n, S::splat(-LN_2[1]), S::mul_add(n, S::splat(-LN_2[0]), x));
        let mut sum = S::splat(POLYNOMIAL[0]);
        for &coefficient in &POLYNOMIAL[1..] {
            sum = S::mul_add(sum, r, S::splat(coefficient));
        }
        let sum = S::add(S::mul_add(sum, S::mul(r, r), r), S::splat(1.0));
        S::mul(sum, S::exponent(rounded))
    }
}
