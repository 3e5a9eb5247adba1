//! Synchronised batch normalisation: the pieces of a batch go through the network side by side, and each normalisation takes
//! the statistics of all of them, those of other ranks too, as PyTorch's `SyncBatchNorm` does.
//!
//! A piece i has n_i values of each channel, with mean m_i and biased variance v_i; N is the sum of all n_i.
//!
//! ```text
//! mean = sum n_i m_i / N          variance = sum n_i (v_i + (m_i - mean)^2) / N
//! ```
//! On the way back, with z = (x - mean) rstd and g the gradient behind the activation, D_i = sum g and E_i = sum g z of a piece
//! are its part of the gradients of shift and scale; those of the parameters are summed like all others. Of the input:
//!
//! ```text
//! dx = weight rstd (g - (sum D_i + z sum E_i) / N)
//! ```
//! Sums over pieces are in float64 and in the order of the batch, and nothing else of a piece hangs on others: so the bits are
//! the same, however many ranks share the pieces.
//!
//! What it takes: the activations of all pieces of a rank at once, two messages a layer and step of 16 c bytes a piece, and on
//! the way there and back one more pass over the input.

use super::backend::{Backend, BatchNorm, Statistics};
use super::backward::{Backward, Pair, Pulled};
use super::forward::{BatchStatistics, Forward, PassStatistics, one_value, values_per_channel};
use super::layer::BatchNorm2d;
use super::lowering::{BatchNormOperation, Last, Operation, ResidualBlock};
use super::parameters::Parameters;
use super::profile::{Category, Cost, Profile};
use crate::error::Result;
use crate::ranks::Ranks;

/// The forward passes of a rank's pieces, which share statistics.
pub struct ForwardTogether<'a, B: Backend> {
    common: Common<'a, B>,
    /// Those of the pieces, in the order of the batch.
    pub passes: Vec<Forward<'a, B>>,
    /// What the running statistics learn of the whole batch: the same on all ranks.
    pub statistics: PassStatistics<B>,
}

/// The backward passes of a rank's pieces.
pub struct BackwardTogether<'a, B: Backend> {
    common: Common<'a, B>,
    /// Those of the pieces, in the order of the batch.
    pub passes: Vec<Backward<'a, B>>,
}

/// What both ways have.
pub struct Common<'a, B: Backend> {
    /// Where the passes run.
    pub backend: &'a B,
    /// The network's.
    pub parameters: &'a Parameters<B>,
    /// Where the time of each operation is noted.
    pub profile: &'a Profile,
    /// Those that share the pieces.
    pub ranks: &'a Ranks,
}

/// The activations of all pieces.
type Pieces<B> = Vec<<B as Backend>::Tensor>;

/// The gradients of all pieces: there for all of them, or for none.
type Gradients<B> = Vec<Option<<B as Backend>::Tensor>>;

impl<'a, B: Backend> ForwardTogether<'a, B> {
    /// The passes of the pieces of this one of the ranks.
    pub fn new(common: Common<'a, B>, passes: Vec<Forward<'a, B>>) -> Self {
        ForwardTogether { common, passes, statistics: Vec::new() }
    }

    /// Runs `operations` in order, each for all pieces before the next.
    ///
    /// # Errors
    /// Those of the operations and of [`Ranks::gather`]; `ERR_INVALID_SHAPE` where the whole batch has one value per channel.
    pub fn run(&mut self, operations: &[Operation], x: Pieces<B>) -> Result<Pieces<B>> {
        operations.iter().try_fold(x, |x, operation| match operation {
            Operation::BatchNorm2d(BatchNormOperation { layer, .. }) => self.batch_norm(layer, x, None),
            Operation::BatchNormDepthwise(BatchNormOperation { layer, .. }, convolution) => {
                let [mean, variance] = &self.statistics_of(layer, &x)?;
                self.each(x, |pass, x| {
                    pass.normalize_depthwise(layer, Statistics::Fixed { mean, variance }, convolution, x)
                })
            }
            Operation::Residual(block) => self.residual(block, x),
            Operation::Branches(branches) => self.branches(branches, x),
            operation => self.each(x, |pass, x| pass.operation(operation, x)),
        })
    }

    fn each<T, R>(&mut self, x: Vec<T>, mut work: impl FnMut(&mut Forward<'a, B>, T) -> Result<R>) -> Result<Vec<R>> {
        self.passes.iter_mut().zip(x).map(|(pass, x)| work(pass, x)).collect()
    }

    fn batch_norm(&mut self, layer: &BatchNorm2d, x: Pieces<B>, residual: Option<&[B::Tensor]>) -> Result<Pieces<B>> {
        let [mean, variance] = &self.statistics_of(layer, &x)?;
        let mut around = residual.into_iter().flatten();
        self.each(x, |pass, x| pass.normalize(layer, Statistics::Fixed { mean, variance }, x, around.next()))
    }

    /// Mean and variance of the whole batch, which the running statistics learn.
    fn statistics_of(&mut self, layer: &BatchNorm2d, x: &[B::Tensor]) -> Result<[B::Tensor; 2]> {
        let Common { backend, parameters, profile, .. } = self.common;
        let name = &parameters.specs[layer.weight].name;
        let moments = |x: &B::Tensor| {
            let cost = |_: &_| Cost::of::<B>([x]);
            let [mean, variance] = profile.time(Category::BatchNorm, "moments", name, || backend.moments(x), cost)?;
            Ok([vec![values_per_channel(B::shape(x)) as f64], mean, variance].concat())
        };
        let own = x.iter().map(moments).collect::<Result<Vec<_>>>()?.concat();
        let c = parameters.specs[layer.weight].count();
        let all = self.common.of_all(&own)?;
        let pieces = || all.chunks_exact(1 + 2 * c).map(|piece| (piece[0], &piece[1..=c], &piece[1 + c..]));
        let count: f64 = pieces().map(|(count, ..)| count).sum();
        if count < 2.0 {
            return Err(one_value(&layer.name, x.first().map_or(&[], |x| B::shape(x))));
        }
        let mean: Vec<f64> = (0..c).map(|k| pieces().map(|(n, mean, _)| n * mean[k]).sum::<f64>() / count).collect();
        let spread = |k: usize| pieces().map(move |(n, m, v)| (n, m[k], v[k]));
        let variance: Vec<f64> =
            (0..c).map(|k| spread(k).map(|(n, m, v)| n * (v + (m - mean[k]).powi(2))).sum::<f64>() / count).collect();
        let [mean, variance] = [backend.from_f64(&mean, &[c])?, backend.from_f64(&variance, &[c])?];
        self.statistics.push(BatchStatistics {
            layer: layer.clone(),
            mean: mean.clone(),
            variance: variance.clone(),
            count: count as usize,
        });
        Ok([mean, variance])
    }

    fn residual(&mut self, block: &ResidualBlock, x: Pieces<B>) -> Result<Pieces<B>> {
        let around = self.run(&block.shortcut, x.clone())?;
        let through = self.run(&block.body, x)?;
        match &block.last {
            Last::BatchNorm2d(BatchNormOperation { layer, .. }) => self.batch_norm(layer, through, Some(&around)),
            last => {
                let ways = through.into_iter().zip(&around).collect();
                self.each(ways, |pass, (through, around)| pass.last(last, through, around))
            }
        }
    }

    fn branches(&mut self, branches: &[Vec<Operation>], x: Pieces<B>) -> Result<Pieces<B>> {
        let mut outputs = vec![Vec::new(); x.len()];
        for operations in branches {
            let of_branch = self.run(operations, x.clone())?;
            outputs.iter_mut().zip(of_branch).for_each(|(outputs, output)| outputs.push(output));
        }
        self.each(outputs, |pass, outputs| pass.join(&outputs))
    }
}

impl<'a, B: Backend> BackwardTogether<'a, B> {
    /// The passes of the pieces of this one of the ranks.
    pub fn new(common: Common<'a, B>, passes: Vec<Backward<'a, B>>) -> Self {
        BackwardTogether { common, passes }
    }

    /// Runs `operations` from the last to the first, each for all pieces before the next. The gradients of their input are
    /// computed only if `wanted`.
    ///
    /// # Errors
    /// Those of the operations and of [`Ranks::gather`].
    pub fn run(&mut self, operations: &[Operation], dy: Gradients<B>, wanted: bool) -> Result<Gradients<B>> {
        let (mut gradients, mut rest) = (dy, operations);
        while let [before @ .., last] = rest {
            rest = before;
            let below = wanted || self.any_trained(before);
            gradients = self.operation(last, gradients, below)?;
        }
        Ok(gradients)
    }

    fn operation(&mut self, operation: &Operation, dy: Gradients<B>, wanted: bool) -> Result<Gradients<B>> {
        match operation {
            Operation::BatchNorm2d(BatchNormOperation { layer, .. }) => {
                Ok(self.batch_norm(layer, dy, wanted, false)?.into_iter().map(|(dx, _)| dx).collect())
            }
            Operation::BatchNormDepthwise(BatchNormOperation { layer, .. }, convolution) => {
                let pulled = self.each(dy, |pass, dy| pass.pull_norm_depthwise(layer, convolution, dy, wanted))?;
                Ok(self.through(layer, pulled, wanted)?.into_iter().map(|(dx, _)| dx).collect())
            }
            Operation::Residual(block) => self.residual(block, dy, wanted),
            Operation::Branches(branches) => self.branches(branches, dy, wanted),
            operation => self.each(dy, |pass, dy| pass.operation(operation, dy, wanted)),
        }
    }

    fn each<T, R>(&mut self, dy: Vec<T>, mut work: impl FnMut(&mut Backward<'a, B>, T) -> Result<R>) -> Result<Vec<R>> {
        self.passes.iter_mut().zip(dy).map(|(pass, dy)| work(pass, dy)).collect()
    }

    fn any_trained(&self, operations: &[Operation]) -> bool {
        self.passes.first().is_some_and(|pass| pass.any_trained(operations))
    }

    fn batch_norm(
        &mut self,
        layer: &BatchNorm2d,
        dy: Gradients<B>,
        wanted: bool,
        residual: bool,
    ) -> Result<Vec<Pair<B>>> {
        let pulled = self.each(dy, |pass, dy| pass.pull_norm(layer, dy, wanted, residual))?;
        self.through(layer, pulled, wanted)
    }

    /// The gradients of input and residual. Those that were `pulled` take the statistics for constants; what goes through them
    /// is added here, where it is `wanted`.
    fn through(&mut self, layer: &BatchNorm2d, pulled: Vec<Option<Pulled<B>>>, wanted: bool) -> Result<Vec<Pair<B>>> {
        let pulled = match pulled.into_iter().collect::<Option<Vec<_>>>() {
            Some(pulled) if wanted => pulled,
            Some(pulled) => return Ok(pulled.into_iter().map(|of| (Some(of.dx), of.dresidual)).collect()),
            None => return Ok(vec![(None, None); self.passes.len()]),
        };
        let Common { backend, parameters, profile, .. } = self.common;
        let (name, [slope, offset, one]) = (&parameters.specs[layer.weight].name, &self.factors(layer, &pulled)?);
        let add = |Pulled { dx, dresidual, x, mean, .. }: Pulled<B>| {
            // slope (x - mean) + offset + dx
            let operation = BatchNorm {
                x: &x,
                weight: slope,
                bias: offset,
                residual: Some(&dx),
                activation: None,
                epsilon: 0.0,
                statistics: Statistics::Fixed { mean: &mean, variance: one },
            };
            let work = || Ok(backend.batch_norm(&operation)?.y);
            let cost = |sum: &_| Cost::of::<B>([&x, &dx, sum]);
            let dx = profile.time(Category::BatchNorm, "through the statistics", name, work, cost)?;
            Ok((Some(dx), dresidual))
        };
        pulled.into_iter().map(add).collect()
    }

    /// The channels' slope and offset in `slope (x - mean) + offset`, what goes through the statistics; and ones.
    fn factors(&self, layer: &BatchNorm2d, pulled: &[Pulled<B>]) -> Result<[B::Tensor; 3]> {
        let Common { backend, parameters, .. } = self.common;
        // `rstd` is that of the whole batch, in every piece.
        let of_piece = |Pulled { x, dbias, dweight, rstd, .. }: &Pulled<B>| {
            let mut values = backend.download(&[dbias, dweight, rstd])?;
            let rstd = values.pop().unwrap_or_default();
            Ok(([vec![values_per_channel(B::shape(x)) as f64], values.concat()].concat(), rstd))
        };
        let (own, rstd): (Vec<_>, Vec<_>) =
            pulled.iter().map(of_piece).collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let (weight, rstd) =
            (backend.to_f64(&parameters.values[layer.weight])?, rstd.first().cloned().unwrap_or_default());
        let c = weight.len();
        let all = self.common.of_all(&own.concat())?;
        let sum = |place: usize| all.chunks_exact(1 + 2 * c).map(|piece| piece[place]).sum::<f64>();
        let count = sum(0);
        let offset: Vec<f64> = (0..c).map(|k| -weight[k] * rstd[k] * sum(1 + k) / count).collect();
        let slope: Vec<f64> = (0..c).map(|k| -weight[k] * rstd[k] * rstd[k] * sum(1 + c + k) / count).collect();
        let tensor = |values: &[f64]| backend.from_f64(values, &[c]);
        Ok([tensor(&slope)?, tensor(&offset)?, tensor(&vec![1.0; c])?])
    }

    fn residual(&mut self, block: &ResidualBlock, dy: Gradients<B>, wanted: bool) -> Result<Gradients<B>> {
        let below = wanted || self.any_trained(&block.body) || self.any_trained(&block.shortcut);
        let ways = match &block.last {
            Last::BatchNorm2d(BatchNormOperation { layer, .. }) => self.batch_norm(layer, dy, below, true)?,
            last => self.each(dy, |pass, dy| pass.last(last, dy, below))?,
        };
        let (through, around) = ways.into_iter().unzip();
        let through = self.run(&block.body, through, wanted)?;
        let around = self.run(&block.shortcut, around, wanted)?;
        let ways = through.into_iter().zip(around).collect();
        self.each(ways, |pass, (through, around)| if wanted { pass.sum(through, around) } else { Ok(None) })
    }

    fn branches(&mut self, branches: &[Vec<Operation>], dy: Gradients<B>, wanted: bool) -> Result<Gradients<B>> {
        let mut parts = self.each(dy, |pass, dy| pass.split(branches.len(), dy))?;
        let mut gradients = vec![None; parts.len()];
        for operations in branches.iter().rev() {
            let own = parts.iter_mut().map(|parts| parts.pop().flatten()).collect();
            let below = self.run(operations, own, wanted)?;
            let pairs = gradients.into_iter().zip(below).collect();
            gradients = self.each(pairs, |pass, (gradient, below)| pass.sum(gradient, below))?;
        }
        Ok(gradients)
    }
}

impl<B: Backend> Common<'_, B> {
    /// Everybody's numbers, in the order of the batch.
    fn of_all(&self, own: &[f64]) -> Result<Vec<f64>> {
        if self.ranks.size() == 1 {
            return Ok(own.to_vec());
        }
        let bytes: Vec<u8> = own.iter().flat_map(|value| value.to_le_bytes()).collect();
        let all = self.ranks.gather(&bytes)?.concat();
        Ok(all.as_chunks().0.iter().map(|&eight| f64::from_le_bytes(eight)).collect())
    }
}
