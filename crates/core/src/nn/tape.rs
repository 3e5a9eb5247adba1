//! What a forward pass keeps for its backward pass: a stack, pushed forwards and popped backwards.

use super::backend::{Backend, Won};
use crate::error::{Code, Error, Result};

/// The stack of one forward pass. Dropping it gives the activations back; a clone shares them.
#[derive(Clone, Debug)]
pub struct Tape<B: Backend> {
    saved: Vec<Saved<B>>,
}

/// What one layer keeps.
#[derive(Clone, Debug)]
pub enum Saved<B: Backend> {
    /// The input: convolution, linear layer and attention.
    Input(B::Tensor),
    /// The input of an activation; of a ReLU its output, which the next layer keeps too.
    Activation(B::Tensor),
    /// Squeeze and excitation.
    Excitation {
        /// The input.
        x: B::Tensor,
        /// What its channels were multiplied by, `[n, 1, 1, c]`.
        gate: B::Tensor,
    },
    /// Layer normalisation.
    LayerNorm {
        /// The input.
        x: B::Tensor,
        /// Of each row.
        mean: B::Tensor,
        /// Of each row.
        rstd: B::Tensor,
    },
    /// The shape of the input: global average pool, flattening and what tokens are made of.
    Shape(Vec<usize>),
    /// The channels of each part: branches.
    Channels(Vec<usize>),
    /// Max pool.
    Pool {
        /// The shape of the input.
        input: Vec<usize>,
        /// Where the maxima were.
        indices: B::Indices,
    },
    /// What was left out at random: the factors, `[n, 1, 1, c]`.
    Factors(B::Tensor),
    /// Batch normalisation.
    Norm {
        /// The input.
        x: B::Tensor,
        /// The output, where a ReLU's gradient is read from it.
        y: Option<B::Tensor>,
        /// `[c]`.
        mean: B::Tensor,
        /// `[c]`.
        rstd: B::Tensor,
        /// Whether the statistics were those of the batch.
        batch: bool,
    },
    /// Batch normalisation by the batch's statistics with its ReLU and the max pool behind it.
    PooledNorm {
        /// The input.
        x: B::Tensor,
        /// `[c]`.
        mean: B::Tensor,
        /// `[c]`.
        rstd: B::Tensor,
        /// What won the windows.
        won: Won<B::Tensor, B::Indices>,
    },
    /// Batch normalisation and the depthwise convolution behind it.
    NormDepthwise {
        /// The input of the normalisation.
        x: B::Tensor,
        /// `[c]`.
        mean: B::Tensor,
        /// `[c]`.
        rstd: B::Tensor,
        /// `[c]`.
        variance: B::Tensor,
        /// Whether the statistics were those of the batch.
        batch: bool,
    },
    /// L2 normalisation.
    L2 {
        /// The output.
        y: B::Tensor,
        /// Norms of the rows.
        norm: B::Tensor,
    },
}

impl<B: Backend> Tape<B> {
    /// An empty tape.
    pub fn new() -> Self {
        Tape { saved: Vec::new() }
    }

    /// Keeps an entry.
    pub fn push(&mut self, saved: Saved<B>) {
        self.saved.push(saved);
    }

    /// Gives the last entry back.
    pub fn pop(&mut self) -> Result<Saved<B>> {
        self.saved.pop().ok_or_else(|| mismatch("an entry", "an empty tape"))
    }
}

impl<B: Backend> Default for Tape<B> {
    fn default() -> Self {
        Tape::new()
    }
}

/// A tape that belongs to another network.
pub fn mismatch(expected: &str, received: &str) -> Error {
    Error::new(Code::Internal, "a tape does not belong to this network").with_values(expected, received)
}
