//! What this rank does of a step, and what of it goes between ranks.
//!
//! Each rank has the same number of neighbouring micro batches of every batch. Features, and what batch normalisation's running
//! statistics learn, go to all in the order of the batch; every rank then computes the same loss of the whole batch, takes the
//! rows of its gradient that are its own, and the parameters' gradients are summed. So nothing hangs on the number of ranks.

use std::ops::Range;
use std::time::Duration;

use super::pass::cut;
use super::plan::Plan;
use crate::error::{Code, Error, Result};
use crate::losses::{FeatureMap, Matrix};
use crate::nn::Backend;
use crate::nn::forward::BatchStatistics;
use crate::nn::forward::PassStatistics;
use crate::ranks::{Ranks, can_share, share};

/// The share of a rank.
pub(super) struct Share {
    ranks: Ranks,
    /// The micro batches of a whole batch.
    pieces: Vec<Range<usize>>,
}

impl Share {
    /// That of this rank in the batches of `plan`.
    ///
    /// # Errors
    /// `ERR_INVALID_OPTION` where the batch cannot be shared out over so many ranks, with what would do.
    pub(super) fn new(ranks: Ranks, plan: &Plan) -> Result<Share> {
        let pieces = cut(plan.batch.size, plan.micro_batch);
        let (count, size) = (pieces.len(), ranks.size());
        if can_share(count, size) {
            return Ok(Share { ranks, pieces });
        }
        let possible: Vec<String> =
            (1..=count).filter(|&size| can_share(count, size)).map(|size| size.to_string()).collect();
        let counts = (0..).map(|doublings| size << doublings).take_while(|&count| 2 * count <= plan.batch.size);
        let mut sizes = counts.map(|count| (count, plan.batch.size.div_ceil(count)));
        let advice = match sizes.find(|&(count, images)| cut(plan.batch.size, Some(images)).len() == count) {
            Some((_, images)) => {
                format!("choose micro batches of {images} images, or another number of ranks")
            }
            None => format!("start fewer ranks: a batch of {} images has nothing for so many", plan.batch.size),
        };
        let expected = match &possible[..] {
            [one] => format!("{one} rank"),
            several => format!("{} ranks", several.join(", ")),
        };
        let which = if count == 1 { "one micro batch".into() } else { format!("{count} micro batches") };
        Err(Error::new(Code::InvalidOption, format!("the batch's {which} cannot be shared out over the ranks"))
            .with_subject("microBatch")
            .with_values(expected, format!("{size} ranks"))
            .with_advice(advice))
    }

    /// How long this rank has waited for others so far.
    pub(super) fn waited(&self) -> Duration {
        self.ranks.waited()
    }

    /// The rows of a batch whose images this rank reads.
    pub(super) fn rows(&self) -> Range<usize> {
        self.rows_of(self.ranks.rank())
    }

    /// Its micro batches, counted from the first of its rows.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Range<usize>> {
        let first = self.rows().start;
        self.pieces_of(self.ranks.rank()).iter().map(move |rows| rows.start - first..rows.end - first)
    }

    fn pieces_of(&self, rank: usize) -> &[Range<usize>] {
        &self.pieces[share(self.pieces.len(), rank, self.ranks.size())]
    }

    fn rows_of(&self, rank: usize) -> Range<usize> {
        match self.pieces_of(rank) {
            [first, .., last] => first.start..last.end,
            [only] => only.clone(),
            [] => 0..0,
        }
    }

    /// Makes of this rank's rows of `features` those of the whole batch, and of its `statistics` those of all its micro
    /// batches. Gives these, and whether any rank is to `stop`.
    ///
    /// # Errors
    /// Those of [`Ranks::gather`].
    pub(super) fn exchange<B: Backend>(
        &self,
        backend: &B,
        features: &mut [&mut FeatureMap<Matrix>],
        statistics: Vec<PassStatistics<B>>,
        stop: bool,
    ) -> Result<(Vec<PassStatistics<B>>, bool)> {
        if self.ranks.size() == 1 {
            return Ok((statistics, stop));
        }
        let mut mine = vec![u8::from(stop)];
        let matrices = features.iter().flat_map(|map| map.values());
        matrices.for_each(|matrix| mine.extend(matrix.data.iter().flat_map(|value| value.to_le_bytes())));
        for BatchStatistics { mean, variance, count, .. } in statistics.iter().flatten() {
            mine.extend((*count as u64).to_le_bytes());
            for tensor in [mean, variance] {
                mine.extend(backend.to_f32(tensor)?.iter().flat_map(|value| value.to_le_bytes()));
            }
        }
        let all = self.ranks.gather(&mine)?;
        let mut messages: Vec<Message<'_>> = all.iter().map(|bytes| Message(bytes)).collect();
        let mut any = false;
        for message in &mut messages {
            any |= message.take::<1>()? == [1];
        }
        for (feature, matrix) in features.iter_mut().flat_map(|map| map.iter_mut()) {
            let mut data = Vec::new();
            for (rank, message) in messages.iter_mut().enumerate() {
                message.numbers(self.rows_of(rank).len() * matrix.columns, f64::from_le_bytes, &mut data)?;
            }
            let mut shape = matrix.shape();
            shape[0] = data.len() / matrix.columns;
            *matrix = Matrix::owned(feature.name(), data, &shape)?;
        }
        let layers = statistics.first().map_or(&[][..], Vec::as_slice);
        let mut learnt = Vec::new();
        for (rank, message) in messages.iter_mut().enumerate() {
            for _ in self.pieces_of(rank) {
                let one = |BatchStatistics { layer, mean, .. }: &BatchStatistics<B::Tensor>| {
                    let (shape, count) = (B::shape(mean), u64::from_le_bytes(message.take()?) as usize);
                    let mut tensor = || {
                        let mut values = Vec::new();
                        message.numbers(shape.iter().product(), f32::from_le_bytes, &mut values)?;
                        backend.from_f32(&values, shape)
                    };
                    let (mean, variance) = (tensor()?, tensor()?);
                    Ok::<_, Error>(BatchStatistics { layer: layer.clone(), mean, variance, count })
                };
                learnt.push(layers.iter().map(one).collect::<Result<Vec<_>>>()?);
            }
        }
        Ok((learnt, any))
    }

    /// The sum of `gradients` over the ranks.
    ///
    /// # Errors
    /// Those of [`Ranks::sum`].
    pub(super) fn sum<B: Backend>(
        &self,
        backend: &B,
        gradients: Vec<Option<B::Tensor>>,
    ) -> Result<Vec<Option<B::Tensor>>> {
        if self.ranks.size() == 1 {
            return Ok(gradients);
        }
        let mut values = Vec::new();
        for gradient in gradients.iter().flatten() {
            values.extend(backend.to_f32(gradient)?);
        }
        self.ranks.sum(&mut values)?;
        let mut rest = values.as_slice();
        let one = |gradient: Option<B::Tensor>| {
            let summed = |gradient: B::Tensor| {
                let shape = B::shape(&gradient);
                let (own, behind) = rest.split_at(shape.iter().product());
                rest = behind;
                backend.from_f32(own, shape)
            };
            gradient.map(summed).transpose()
        };
        gradients.into_iter().map(one).collect()
    }
}

/// What is left to read of what a rank has sent.
struct Message<'a>(&'a [u8]);

impl Message<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk().ok_or_else(cut_short)?;
        self.0 = rest;
        Ok(*first)
    }

    fn numbers<T, const N: usize>(
        &mut self,
        count: usize,
        number: impl Fn([u8; N]) -> T,
        into: &mut Vec<T>,
    ) -> Result<()> {
        let (own, rest) = self.0.split_at_checked(count * N).ok_or_else(cut_short)?;
        self.0 = rest;
        into.extend(own.as_chunks::<N>().0.iter().map(|&bytes| number(bytes)));
        Ok(())
    }
}

fn cut_short() -> Error {
    Error::new(Code::Internal, "another rank has sent too little")
}
