//! A training pass: the features of a batch, and the way back from their gradients to those of the parameters.
//!
//! A batch goes through the network in one piece, or in several (*micro batches*) where its activations would not fit
//! into memory. The loss always sees the features of the whole batch, so its value and gradient do not depend on the
//! pieces. With several, the features of all pieces are computed first and nothing else is kept; on the way back each
//! piece is computed once more, its share of the features' gradient pulled back, and the parameters' gradients added up
//! in order. Nothing in a network is random, so the second computation gives the activations of the first.
//!
//! Batch normalisation takes its statistics from each piece. So for networks without it, or with running statistics,
//! the gradient is that of the batch in one piece; with it, each piece is normalised on its own, as in training with a
//! batch of the piece's size. Running statistics learn from each piece once, on the way there.

use std::ops::Range;

use crate::error::{Code, Error, Result};
use crate::losses::{Feature, Matrix};
use crate::nn::tape::Tape;
use crate::nn::{Backend, FeatureGradients, Features, Network};

/// A batch that went through a network, ready for the way back.
pub struct Pass<B: Backend> {
    /// The features that were wanted, of the whole batch.
    pub features: Vec<(Feature, Matrix)>,
    /// The images of each piece.
    pieces: Vec<B::Tensor>,
    /// The activations, where there is one piece.
    tape: Option<Tape<B>>,
}

impl<B: Backend> Pass<B> {
    /// Sends `pieces` of images through `network` and keeps the `wanted` features.
    ///
    /// # Errors
    /// `ERR_NON_FINITE` for a feature with an entry that is no finite number, `ERR_INVALID_OPTION` for one that the
    /// network has not.
    pub fn forward(network: &mut Network<B>, pieces: Vec<B::Tensor>, wanted: &[Feature]) -> Result<Self> {
        let mut gathered = Gathered::new(wanted);
        let backend = network.backend().clone();
        let mut tape = None;
        if let [images] = pieces.as_slice() {
            let (features, kept) = network.forward_train(images)?;
            gathered.add(&backend, &features)?;
            tape = Some(kept);
        } else {
            for images in &pieces {
                gathered.add(&backend, &network.forward_untaped(images)?)?;
            }
        }
        Ok(Pass { features: gathered.matrices("the student's")?, pieces, tape })
    }

    /// The gradients of the network's parameters, from those of features; the network must not have changed since.
    pub fn backward(self, network: &Network<B>, upstream: &[(Feature, Vec<f64>)]) -> Result<Vec<Option<B::Tensor>>> {
        let rows = self.pieces.iter().map(|images| B::shape(images)[0]).sum();
        match self.tape {
            Some(tape) => pull_back(network, tape, upstream, &self.features, 0..rows),
            None => {
                let mut sum = Vec::new();
                let mut row = 0;
                for images in &self.pieces {
                    let rows = row..row + B::shape(images)[0];
                    row = rows.end;
                    let (_, tape) = network.forward_taped(images)?;
                    sum = add(network.backend(), sum, pull_back(network, tape, upstream, &self.features, rows)?)?;
                }
                Ok(sum)
            }
        }
    }

    /// A pass to be pulled back as well as this one.
    pub fn again(&self) -> Self {
        Pass { features: self.features.clone(), pieces: self.pieces.clone(), tape: self.tape.clone() }
    }
}

/// Cuts `n` rows into as many pieces as it takes for none to be larger than `largest`, as even as can be.
pub fn cut(n: usize, largest: Option<usize>) -> Vec<Range<usize>> {
    let count = largest.map_or(1, |largest| n.div_ceil(largest.max(1))).max(1);
    (0..count).map(|i| i * n / count..(i + 1) * n / count).collect()
}

/// The way back of some rows of the batch.
fn pull_back<B: Backend>(
    network: &Network<B>,
    tape: Tape<B>,
    upstream: &[(Feature, Vec<f64>)],
    features: &[(Feature, Matrix)],
    rows: Range<usize>,
) -> Result<Vec<Option<B::Tensor>>> {
    let mut gradients = FeatureGradients::default();
    for (feature, gradient) in upstream {
        let (_, matrix) = features.iter().find(|(name, _)| name == feature).ok_or_else(|| no_feature(feature))?;
        let part = &gradient[rows.start * matrix.columns..rows.end * matrix.columns];
        let mut shape = matrix.shape();
        shape[0] = rows.len();
        let gradient = network.backend().from_f64(part, &shape)?;
        match feature {
            Feature::Embedding => gradients.embedding = Some(gradient),
            Feature::Pooled => gradients.pooled = Some(gradient),
            Feature::Logits => gradients.logits = Some(gradient),
            Feature::Tap(name) => gradients.taps.push((name.clone(), gradient)),
        }
    }
    Ok(network.backward(tape, gradients, false)?.parameters)
}

/// The sum of two lists of gradients; an empty list is nothing.
fn add<B: Backend>(
    backend: &B,
    sum: Vec<Option<B::Tensor>>,
    more: Vec<Option<B::Tensor>>,
) -> Result<Vec<Option<B::Tensor>>> {
    if sum.is_empty() {
        return Ok(more);
    }
    let pairs = sum.into_iter().zip(more);
    pairs
        .map(|pair| match pair {
            (Some(sum), Some(more)) => backend.add(sum, &more).map(Some),
            (sum, more) => Ok(sum.or(more)),
        })
        .collect()
}

/// Features of consecutive pieces, one below the other.
pub(super) struct Gathered {
    features: Vec<(Feature, Vec<usize>, Vec<f64>)>,
}

impl Gathered {
    pub fn new(wanted: &[Feature]) -> Self {
        Gathered { features: wanted.iter().map(|feature| (feature.clone(), Vec::new(), Vec::new())).collect() }
    }

    /// Adds the rows of one piece.
    pub fn add<B: Backend>(&mut self, backend: &B, features: &Features<B::Tensor>) -> Result<()> {
        for (feature, shape, data) in &mut self.features {
            let tensor = features.get(feature).ok_or_else(|| no_feature(feature))?;
            let rows = shape.first().copied().unwrap_or(0);
            *shape = B::shape(tensor).to_vec();
            shape[0] += rows;
            match data.is_empty() {
                true => *data = backend.to_f64(tensor)?,
                false => data.extend(backend.to_f64(tensor)?),
            }
        }
        Ok(())
    }

    /// The features of the whole batch; `whose` ("the student's") is how errors begin.
    pub fn matrices(self, whose: &str) -> Result<Vec<(Feature, Matrix)>> {
        let matrix = |(feature, shape, data): (Feature, Vec<usize>, Vec<f64>)| {
            let matrix = Matrix::owned(&format!("{whose} {}", feature.name()), data, &shape)?;
            Ok((feature, matrix))
        };
        self.features.into_iter().map(matrix).collect()
    }
}

fn no_feature(feature: &Feature) -> Error {
    Error::new(Code::InvalidOption, format!("the network has no feature {}", feature.name()))
        .with_subject("losses")
        .with_advice("point the loss at embedding, pooled, logits or a tap of the backbone")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_even_and_none_is_too_large() {
        assert!([None, Some(10), Some(11)].iter().all(|&largest| cut(10, largest) == vec![0..10; 1]));
        assert_eq!(cut(10, Some(4)), [0..3, 3..6, 6..10]);
        assert_eq!(cut(512, Some(64)).len(), 8);
    }
}
