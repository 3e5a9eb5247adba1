//! What is done to the outputs of a convolution or a linear layer while they are in the cache:
//! `y = activation?(y + bias + residual)`.
//!
//! In inference this is all that is left of a batch normalisation whose factors went into the weights. A pass of its
//! own would read and write every output once more.

use crate::activation::{Activation, Curve, with_curve};
use crate::simd::{Kernel, Simd, dispatch};
use crate::{Isa, check};

/// Added to the outputs, and the activation that follows. The default leaves them as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Finish<'a> {
    /// Of each output channel.
    pub bias: Option<&'a [f32]>,
    /// Of the output's shape.
    pub residual: Option<&'a [f32]>,
    /// What the outputs go through at the end.
    pub activation: Option<Activation>,
}

impl<'a> Finish<'a> {
    /// The same with the bias of the `outputs` channels from `first`.
    pub(crate) fn of_channels(self, first: usize, outputs: usize) -> Finish<'a> {
        Finish { bias: self.bias.map(|bias| &bias[first..first + outputs]), ..self }
    }

    #[track_caller]
    pub(crate) fn check(&self, operation: &str, c_out: usize, output_len: usize) {
        if let Some(bias) = self.bias {
            check::length(operation, "bias", bias.len(), c_out);
        }
        if let Some(residual) = self.residual {
            check::length(operation, "residual", residual.len(), output_len);
        }
    }

    /// Residual and activation, but no bias, for a block of the output: element (i, j) lies at `out[i * pitch + j]` and at
    /// `at + i * pitch + j` of the residual.
    ///
    /// # Safety
    /// `out` is valid for `rows` rows and the columns `[first, end]`, and nobody else uses them until it returns.
    pub(crate) unsafe fn apply(
        &self,
        isa: Isa,
        out: *mut f32,
        at: usize,
        pitch: usize,
        rows: usize,
        columns: [usize; 2],
    ) {
        if self.residual.is_some() || self.activation.is_some() {
            with_curve!(self.activation, curve => {
                // SAFETY: `Block::new` asks for what this function asks for, and the kernel has run when it returns.
                dispatch(isa, unsafe { Block::new(self.residual, curve, out, at, pitch, rows, columns) })
            });
        }
    }
}

/// The kernel of [`Finish::apply`].
struct Block<'a, C> {
    residual: Option<&'a [f32]>,
    curve: C,
    out: *mut f32,
    at: usize,
    pitch: usize,
    rows: usize,
    columns: [usize; 2],
}

impl<'a, C> Block<'a, C> {
    /// # Safety
    /// As [`Finish::apply`], until the kernel has run.
    unsafe fn new(
        residual: Option<&'a [f32]>,
        curve: C,
        out: *mut f32,
        at: usize,
        pitch: usize,
        rows: usize,
        columns: [usize; 2],
    ) -> Self {
        Block { residual, curve, out, at, pitch, rows, columns }
    }
}

impl<C: Curve> Kernel for Block<'_, C> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let [first, end] = self.columns;
        for row in 0..self.rows {
            let start = row * self.pitch;
            let residual = self.residual.map(|residual| &residual[self.at + start..][..end]);
            for column in (first..end).step_by(S::LANES) {
                let count = S::LANES.min(end - column);
                // SAFETY: `count` columns from `column` on end at `end` at most: `out` is valid for them by
                // `Block::new`, and the residual's row was sliced up to `end`.
                unsafe {
                    let to = self.out.wrapping_add(start + column);
                    let mut value = S::load_first(to, count);
                    if let Some(residual) = residual {
                        value = S::add(value, S::load_first(residual.as_ptr().add(column), count));
                    }
                    S::store_first(to, self.curve.value::<S>(value), count);
                }
            }
        }
    }
}
