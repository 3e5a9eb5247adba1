//! ReLU, with or without a ceiling: what follows a normalisation or a convolution in one go.
//!
//! ```text
//! y = min(max(x, 0), ceiling),   dx = dy where 0 < y < ceiling, else 0
//! ```
//!
//! Source: Nair and Hinton 2010; the ceiling of 6 is of MobileNet (Howard et al. 2017; Krizhevsky 2010). The gradient
//! is 0 at both kinks, as in PyTorch. A NaN stays a NaN.

use crate::simd::Simd;

/// The kinds of ReLU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relu {
    /// `max(x, 0)`.
    Plain,
    /// `min(max(x, 0), 6)`.
    Six,
}

impl Relu {
    /// The largest output.
    pub fn ceiling(self) -> f32 {
        match self {
            Relu::Plain => f32::INFINITY,
            Relu::Six => CEILING,
        }
    }

    /// The largest output whose gradient passes.
    pub(crate) fn last_passed(self) -> f32 {
        match self {
            Relu::Plain => f32::INFINITY,
            Relu::Six => LAST_BELOW,
        }
    }

    /// What outputs are held between, for one kind or none: infinities keep everything.
    pub(crate) fn bounds(relu: Option<Relu>) -> [f32; 2] {
        relu.map_or([f32::NEG_INFINITY, f32::INFINITY], |relu| [0.0, relu.ceiling()])
    }
}

/// The ceiling of [`Relu::Six`].
const CEILING: f32 = 6.0;
/// The largest output below it.
const LAST_BELOW: f32 = CEILING.next_down();

/// `value` within `bounds`.
///
/// # Safety
/// The instruction set of `S` is available.
#[inline(always)]
pub(crate) unsafe fn within<S: Simd>([lowest, highest]: [f32; 2], value: S::V) -> S::V {
    // SAFETY: the instruction set is all that these operations need.
    unsafe { S::min(S::splat(highest), S::max(S::splat(lowest), value)) }
}

/// `g` where the ReLU with output `y` (or one before its bounds) let it pass, else 0; with `SIX` it is [`Relu::Six`].
///
/// # Safety
/// The instruction set of `S` is available.
#[inline(always)]
pub(crate) unsafe fn passed<S: Simd, const SIX: bool>(y: S::V, g: S::V) -> S::V {
    // SAFETY: the instruction set is all that these operations need.
    unsafe {
        let above = S::where_positive(y, g);
        if SIX { S::where_greater(y, S::splat(LAST_BELOW), S::splat(0.0), above) } else { above }
    }
}
