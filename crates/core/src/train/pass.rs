//! A training pass: the features of a batch, and the way back from their gradients to those of the parameters.
//!
//! A batch goes through the network in one piece, or in several (*micro batches*) where its activations would not fit
//! into memory. The loss always sees the features of the whole batch, so its value and gradient do not depend on the
//! pieces. With several, the features of all pieces are computed first and nothing else is kept; on the way back each
//! piece is computed once more, its share of the features' gradient pulled back, and the parameters' gradients added up
//! as a binary tree ([`Tree`]). What training leaves out at random is keyed by the row of the batch, so the second
//! computation gives the activations of the first, and the pieces those of the whole. A pass may be over some of a batch's
//! pieces, where other ranks have the rest: see [`crate::ranks`].
//!
//! Batch normalisation takes its statistics from each piece. So for networks without it, or with running statistics,
//! the gradient is that of the batch in one piece; with it, each piece is normalised on its own, as in training with a
//! batch of the piece's size. Running statistics learn from each piece once, in order.
//!
//! Where it is synchronised ([`crate::nn::synchronised`]), the gradient is that of the batch in one piece again. The pieces go
//! through the network side by side and are not computed twice, so their activations are all in memory.

use std::ops::Range;

use super::device_terms::DeviceLoss;
use crate::error::{Code, Error, Result};
use crate::losses::{Feature, FeatureMap, Matrix};
use crate::nn::dropout::Draw;
use crate::nn::forward::PassStatistics;
use crate::nn::tape::Tape;
use crate::nn::{Backend, Network};
use crate::ranks::{Ranks, Tree};

/// A batch that went through a network, ready for the way back.
#[derive(Clone)]
pub struct Pass<B: Backend> {
    /// The features that were wanted, the rows of one piece of the batch after the other; whoever has read them may take
    /// them away.
    pub features: FeatureMap<Vec<B::Tensor>>,
    /// What the running statistics are to learn of each piece.
    pub statistics: Vec<PassStatistics<B>>,
    /// What they are to learn of the whole batch, where batch normalisation is synchronised: the same on all ranks.
    pub common_statistics: PassStatistics<B>,
    /// The images of each piece, and what is drawn by, which has the row of the batch that the piece begins with.
    pieces: Vec<(B::Tensor, Draw)>,
    /// The shape of each feature for one piece.
    shapes: FeatureMap<Vec<usize>>,
    /// The activations of each piece, where there is one, or they went side by side; else none.
    tapes: Vec<Tape<B>>,
    ranks: Ranks,
}

impl<B: Backend> Pass<B> {
    /// Sends `pieces` of the images of a batch, which begin at `draw`, through `network` and keeps the features `names`.
    /// Others of `ranks` have the rest of the batch; where batch normalisation is synchronised, they take part here and on the
    /// way back.
    ///
    /// # Errors
    /// `ERR_INVALID_OPTION` for a feature that the network has not; those of [`Ranks::gather`].
    pub fn forward(
        network: &Network<B>,
        pieces: Vec<B::Tensor>,
        names: &[Feature],
        mut draw: Draw,
        ranks: &Ranks,
    ) -> Result<Self> {
        let place = |images| {
            let own = draw;
            draw.row += B::shape(&images)[0];
            (images, own)
        };
        let pieces: Vec<(B::Tensor, Draw)> = pieces.into_iter().map(place).collect();
        let mut features: FeatureMap<Vec<B::Tensor>> = names.iter().map(|name| (name.clone(), Vec::new())).collect();
        let (mut statistics, mut common_statistics, mut tapes) = (Vec::new(), Vec::new(), Vec::new());
        if network.is_synchronised() {
            let found;
            (found, common_statistics) = network.forward_together(&pieces, ranks)?;
            let add = |(piece, tape)| add_piece(&mut features, piece).map(|()| tape);
            tapes = found.into_iter().map(add).collect::<Result<_>>()?;
        } else {
            for (images, draw) in &pieces {
                let (piece, learnt) = match pieces.len() {
                    1 => {
                        let (piece, activations, learnt) = network.forward_taped(images, *draw)?;
                        tapes.push(activations);
                        (piece, learnt)
                    }
                    _ => network.forward_untaped(images, *draw)?,
                };
                add_piece(&mut features, piece)?;
                statistics.push(learnt);
            }
        }
        let shape = |(name, pieces): (&Feature, &Vec<B::Tensor>)| {
            (name.clone(), pieces.first().map_or(Vec::new(), |piece| B::shape(piece).to_vec()))
        };
        let (shapes, ranks) = (features.iter().map(shape).collect(), ranks.clone());
        Ok(Pass { shapes, features, statistics, common_statistics, pieces, tapes, ranks })
    }

    /// The gradients of the network's parameters, from those of features: of the whole batch on the host, or in pieces on
    /// the device. The network must not have changed since, but for its running statistics.
    pub fn backward(
        self,
        network: &Network<B>,
        host: &FeatureMap<Vec<f64>>,
        device: &[DeviceLoss<B::Tensor>],
    ) -> Result<Vec<Option<B::Tensor>>> {
        let backend = network.backend();
        let upstream = |piece: usize| -> Result<FeatureMap<B::Tensor>> {
            let (images, draw) = &self.pieces[piece];
            let rows = draw.row..draw.row + B::shape(images)[0];
            let mut upstream = FeatureMap::new();
            for (feature, gradient) in host {
                let shape = self.shapes.get(feature).ok_or_else(|| no_feature(feature))?;
                let columns: usize = shape.iter().skip(1).product();
                let shape: Vec<usize> = [rows.len()].iter().chain(&shape[1..]).copied().collect();
                let part = &gradient[rows.start * columns..rows.end * columns];
                upstream.insert(feature.clone(), backend.from_f64(part, &shape)?);
            }
            for DeviceLoss { feature, value, .. } in device {
                let gradient = &value.gradients[piece];
                let sum = match upstream.remove(feature) {
                    Some(before) => backend.add(before, gradient)?,
                    None => gradient.clone(),
                };
                upstream.insert(feature.clone(), sum);
            }
            Ok(upstream)
        };
        let mut sum = Tree::default();
        if network.is_synchronised() {
            let tapes = self.tapes.into_iter().enumerate();
            let pieces = tapes.map(|(piece, tape)| Ok((tape, upstream(piece)?))).collect::<Result<_>>()?;
            for found in network.backward_together(pieces, &self.ranks, false)? {
                sum.push(found.parameters, |a, b| add(backend, a, b))?;
            }
        } else {
            let mut kept = self.tapes.into_iter();
            for (piece, (images, draw)) in self.pieces.iter().enumerate() {
                let tape = match kept.next() {
                    Some(tape) => tape,
                    None => network.forward_taped(images, *draw)?.1,
                };
                let found = network.backward(tape, upstream(piece)?, false)?.parameters;
                sum.push(found, |a, b| add(backend, a, b))?;
            }
        }
        Ok(sum.sum(|a, b| add(backend, a, b))?.unwrap_or_default())
    }
}

/// Cuts `n` rows into as many pieces as it takes for none to be larger than `largest`, as even as can be.
pub fn cut(n: usize, largest: Option<usize>) -> Vec<Range<usize>> {
    let count = largest.map_or(1, |largest| n.div_ceil(largest.max(1))).max(1);
    (0..count).map(|i| i * n / count..(i + 1) * n / count).collect()
}

/// The sum of two lists of gradients.
pub(super) fn add<B: Backend>(
    backend: &B,
    sum: Vec<Option<B::Tensor>>,
    more: Vec<Option<B::Tensor>>,
) -> Result<Vec<Option<B::Tensor>>> {
    let pairs = sum.into_iter().zip(more);
    pairs
        .map(|pair| match pair {
            (Some(sum), Some(more)) => backend.add(sum, &more).map(Some),
            (sum, more) => Ok(sum.or(more)),
        })
        .collect()
}

/// Adds the rows of one piece.
fn add_piece<T>(all: &mut FeatureMap<Vec<T>>, mut piece: FeatureMap<T>) -> Result<()> {
    for (feature, pieces) in all {
        pieces.push(piece.remove(feature).ok_or_else(|| no_feature(feature))?);
    }
    Ok(())
}

/// Features on the host, of the whole batch. `values` are those of each piece in turn; `whose` ("the student's") is how
/// errors begin.
///
/// # Errors
/// `ERR_NON_FINITE` for a feature with an entry that is no finite number.
pub fn matrices<B: Backend>(
    whose: &str,
    features: &FeatureMap<Vec<B::Tensor>>,
    values: &mut impl Iterator<Item = Vec<f64>>,
) -> Result<FeatureMap<Matrix>> {
    let matrix = |(feature, pieces): (&Feature, &Vec<B::Tensor>)| {
        let mut shape = pieces.first().map_or(Vec::new(), |piece| B::shape(piece).to_vec());
        let mut data = Vec::new();
        for (place, values) in values.take(pieces.len()).enumerate() {
            match place {
                0 => data = values,
                _ => {
                    shape[0] += B::shape(&pieces[place])[0];
                    data.extend(values);
                }
            }
        }
        Ok((feature.clone(), Matrix::owned(&format!("{whose} {}", feature.name()), data, &shape)?))
    };
    features.iter().map(matrix).collect()
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
