//! The forward pass: runs a list of operations on a backend.

use super::backend::{Activation, Backend, BatchNorm, LayerNormalized, Normalized, PooledNorm, Statistics};
use super::dropout::{Draw, scale};
use super::geometry::Pool2d;
use super::layer::{BatchNorm2d, Convolution, LayerNorm, Tokens};
use super::lowering::{
    BatchNormOperation, Before, Dropout, Dropped, FusedConvolution, Last, LinearOperation, Operation, ResidualBlock,
    SumBlock,
};
use super::parameters::Parameters;
use super::profile::{Category, Cost, Profile};
use super::tape::{Saved, Tape};
use super::tuning::TrainingStatistics;
use crate::error::{Code, Error, Result};
use crate::tensor::{Feature, FeatureMap};

/// The statistics of one batch normalisation in one training pass.
#[derive(Clone, Debug)]
pub struct BatchStatistics<T> {
    /// The layer.
    pub layer: BatchNorm2d,
    /// Mean of the batch, `[c]`.
    pub mean: T,
    /// Biased variance of the batch, `[c]`.
    pub variance: T,
    /// Values per channel.
    pub count: usize,
}

/// What the running statistics learn from one pass, layer by layer.
pub type PassStatistics<B> = Vec<BatchStatistics<<B as Backend>::Tensor>>;

/// One forward pass.
#[derive(Debug)]
pub struct Forward<'a, B: Backend> {
    backend: &'a B,
    parameters: &'a Parameters<B>,
    profile: &'a Profile,
    /// What the backward pass needs, if there will be one.
    pub tape: Option<Tape<B>>,
    /// The named activations that are kept; all of them if it does not say which.
    pub kept: Option<&'a [Feature]>,
    /// What is drawn by, where the operations leave anything out at random.
    pub draw: Draw,
    /// The named activations.
    pub taps: FeatureMap<B::Tensor>,
    /// What the running statistics learn, in training.
    pub statistics: Vec<BatchStatistics<B::Tensor>>,
}

impl<'a, B: Backend> Forward<'a, B> {
    /// A pass that keeps a tape if `taped`.
    pub fn new(backend: &'a B, parameters: &'a Parameters<B>, profile: &'a Profile, taped: bool) -> Self {
        let tape = taped.then(Tape::new);
        Forward {
            backend,
            parameters,
            profile,
            tape,
            kept: None,
            draw: Draw::default(),
            taps: FeatureMap::new(),
            statistics: Vec::new(),
        }
    }

    /// Runs `operations` in order.
    pub fn run(&mut self, operations: &[Operation], x: B::Tensor) -> Result<B::Tensor> {
        operations.iter().try_fold(x, |x, operation| self.operation(operation, x))
    }

    pub(super) fn operation(&mut self, operation: &Operation, x: B::Tensor) -> Result<B::Tensor> {
        let backend = self.backend;
        match operation {
            Operation::Convolution(layer) => self.convolution(layer, x),
            Operation::FusedConvolution(fused) => self.fused_convolution(fused, &x, None),
            Operation::BatchNorm2d(batch_norm) => self.batch_norm(batch_norm, x, None),
            Operation::BatchNormMaxPool(layer, windows) => self.batch_norm_max_pool(layer, windows, x),
            Operation::BatchNormDepthwise(batch_norm, convolution) => {
                self.batch_norm_depthwise(batch_norm, convolution, x)
            }
            Operation::Linear(linear) => self.linear(linear, x, None, None),
            &Operation::FusedLinear(layer, activation) => {
                self.linear(&LinearOperation { before: None, layer }, x, None, Some(activation))
            }
            Operation::Residual(block) => self.residual(block, x),
            Operation::Branches(branches) => self.branches(branches, x),
            Operation::SqueezeExcitation(gate) => self.squeeze_excitation(gate, x),
            Operation::LayerNorm(layer) => {
                let LayerNormalized { y, mean, rstd } = self.layer_norm(layer, &x)?;
                self.save(|| Saved::LayerNorm { x, mean, rstd });
                Ok(y)
            }
            &Operation::Attention { heads } => {
                let cost = |y: &_| Cost::of::<B>([&x, y]).attending::<B>(y, 2);
                let work = || backend.attention(&x, heads);
                let y = self.profile.time(Category::Attention, "attention", "", work, cost)?;
                self.save(|| Saved::Input(x));
                Ok(y)
            }
            Operation::Tokens(layer) => self.tokens(layer, x),
            Operation::ClassToken => {
                self.save(|| Saved::Shape(B::shape(&x).to_vec()));
                let cost = |y: &_| Cost::of::<B>([y, y]);
                self.profile.time(Category::Pooling, "class_token", "", || backend.class_token(&x), cost)
            }
            Operation::Sum(SumBlock { body, last }) => {
                let through = self.run(body, x.clone())?;
                if let Some(last) = last {
                    return self.linear(last, through, Some(&x), None);
                }
                self.add(through, &x)
            }
            &Operation::Activation(activation) => self.activation(activation, x),
            Operation::Dropout(Dropout { of, share, layer }) => {
                let shape = rows_and_channels::<B>(&x);
                let (name, factors) = match of {
                    Dropped::Numbers => ("dropout", self.draw.dropout(backend, *share, layer, shape)?),
                    Dropped::Paths => ("drop_path", self.draw.drop_path(backend, *share, layer, shape)?),
                };
                self.scale(name, layer, factors, x)
            }
            Operation::MaxPool(windows) => {
                // The positions take as many bytes as the maxima.
                let cost = |(y, _): &(B::Tensor, _)| Cost::of::<B>([&x, y, y]);
                let (y, indices) =
                    self.profile.time(Category::Pooling, "max_pool", "", || backend.max_pool(windows, &x), cost)?;
                self.save(|| Saved::Pool { input: B::shape(&x).to_vec(), indices });
                Ok(y)
            }
            Operation::GlobalAverage => {
                self.save(|| Saved::Shape(B::shape(&x).to_vec()));
                let cost = |y: &_| Cost::of::<B>([&x, y]);
                self.profile.time(Category::Pooling, "global_average", "", || backend.global_average(&x), cost)
            }
            Operation::Flatten => {
                self.save(|| Saved::Shape(B::shape(&x).to_vec()));
                let cost = |y: &_| Cost::of::<B>([&x, y]);
                self.profile.time(Category::Pooling, "flatten", "", || backend.flatten(&x), cost)
            }
            Operation::L2Normalize => {
                let cost = |(y, _): &(B::Tensor, _)| Cost::of::<B>([&x, y]);
                let (y, norm) =
                    self.profile.time(Category::Elementwise, "l2_normalize", "", || backend.l2_normalize(&x), cost)?;
                self.save(|| Saved::L2 { y: y.clone(), norm });
                Ok(y)
            }
            Operation::Tap(feature) => {
                if self.kept.is_none_or(|kept| kept.contains(feature)) {
                    self.taps.insert(feature.clone(), x.clone());
                }
                Ok(x)
            }
        }
    }

    fn activation(&mut self, activation: Activation, x: B::Tensor) -> Result<B::Tensor> {
        let y = self.activate(activation, &x)?;
        self.save(|| Saved::Activation(if activation.is_relu() { y.clone() } else { x }));
        Ok(y)
    }

    /// `x` times factors that were drawn.
    fn scale(&mut self, operation: &'static str, layer: &str, factors: B::Tensor, x: B::Tensor) -> Result<B::Tensor> {
        let work = || scale(self.backend, &x, &factors);
        let cost = |y: &_| Cost::of::<B>([&x, y]);
        let y = self.profile.time(Category::Elementwise, operation, layer, work, cost)?;
        self.save(|| Saved::Factors(factors));
        Ok(y)
    }

    fn convolution(&mut self, layer: &Convolution, x: B::Tensor) -> Result<B::Tensor> {
        let Parameters { specs, values } = self.parameters;
        let (weight, bias) = (&values[layer.weight], layer.bias.map(|bias| &values[bias]));
        let y = self.profile.time(
            Category::Forward,
            "conv2d",
            &specs[layer.weight].name,
            || self.backend.conv2d(&layer.windows, &x, weight, bias),
            |y| Cost::of::<B>([&x, weight, y]).multiplying::<B>(y, weight),
        )?;
        self.save(|| Saved::Input(x));
        Ok(y)
    }

    fn fused_convolution(
        &self,
        fused: &FusedConvolution,
        x: &B::Tensor,
        residual: Option<&B::Tensor>,
    ) -> Result<B::Tensor> {
        let Parameters { specs, values } = self.parameters;
        let Convolution { weight, windows, .. } = &fused.convolution;
        let (name, weight, bias) = (&specs[*weight].name, &values[*weight], fused.bias().map(|bias| &values[bias]));
        self.profile.time(
            Category::Forward,
            "conv2d_finished",
            name,
            || self.backend.conv2d_finished(windows, x, weight, bias, residual, fused.activation),
            |y| Cost::of::<B>([x, weight, y].into_iter().chain(residual)).multiplying::<B>(y, weight),
        )
    }

    fn linear(
        &mut self,
        LinearOperation { before, layer }: &LinearOperation,
        x: B::Tensor,
        residual: Option<&B::Tensor>,
        activation: Option<Activation>,
    ) -> Result<B::Tensor> {
        let (x, before) = match before {
            None => (x, None),
            Some(Before::LayerNorm(norm)) => {
                let LayerNormalized { y, mean, rstd } = self.layer_norm(norm, &x)?;
                (y, self.tape.is_some().then_some(Saved::LayerNorm { x, mean, rstd }))
            }
            Some(Before::Activation(kind)) => {
                (self.activate(*kind, &x)?, self.tape.is_some().then_some(Saved::Activation(x)))
            }
        };
        let Parameters { specs, values } = self.parameters;
        let (weight, bias) = (&values[layer.weight], &values[layer.weight + 1]);
        let y = self.profile.time(
            Category::Forward,
            "linear",
            &specs[layer.weight].name,
            || self.backend.linear_finished(&x, weight, bias, residual, activation),
            |y| Cost::of::<B>([&x, weight, y].into_iter().chain(residual)).multiplying::<B>(y, weight),
        )?;
        self.save(|| before.unwrap_or(Saved::Input(x)));
        Ok(y)
    }

    fn activate(&self, kind: Activation, x: &B::Tensor) -> Result<B::Tensor> {
        let (work, cost) = (|| self.backend.activate(kind, x), |y: &_| Cost::of::<B>([x, y]));
        self.profile.time(Category::Elementwise, "activate", "", work, cost)
    }

    fn layer_norm(
        &self,
        &LayerNorm { weight, epsilon }: &LayerNorm,
        x: &B::Tensor,
    ) -> Result<LayerNormalized<B::Tensor>> {
        let Parameters { specs, values } = self.parameters;
        self.profile.time(
            Category::LayerNorm,
            "layer_norm",
            &specs[weight].name,
            || self.backend.layer_norm(x, &values[weight], &values[weight + 1], epsilon),
            |normalized| Cost::of::<B>([x, &normalized.y]),
        )
    }

    fn tokens(&mut self, &Tokens { class }: &Tokens, x: B::Tensor) -> Result<B::Tensor> {
        let Parameters { specs, values } = self.parameters;
        self.save(|| Saved::Shape(B::shape(&x).to_vec()));
        self.profile.time(
            Category::Elementwise,
            "add_tokens",
            &specs[class].name,
            || self.backend.add_tokens(&x, &values[class], &values[class + 1]),
            |y| Cost::of::<B>([&x, y]),
        )
    }

    fn batch_norm(
        &mut self,
        operation: &BatchNormOperation,
        x: B::Tensor,
        residual: Option<&B::Tensor>,
    ) -> Result<B::Tensor> {
        self.normalize(&operation.layer, self.own_statistics(operation)?, x, residual)
    }

    /// A normalisation by `statistics`.
    pub(super) fn normalize(
        &mut self,
        layer: &BatchNorm2d,
        statistics: Statistics<'_, B::Tensor>,
        x: B::Tensor,
        residual: Option<&B::Tensor>,
    ) -> Result<B::Tensor> {
        let batch = matches!(statistics, Statistics::Batch);
        let normalized = self.profile.time(
            Category::BatchNorm,
            "batch_norm",
            &self.parameters.specs[layer.weight].name,
            || self.backend.batch_norm(&self.operands(layer, &x, residual, statistics)?),
            |normalized| Cost::of::<B>([&x, &normalized.y].into_iter().chain(residual)),
        )?;
        let Normalized { y, mean, rstd, variance } = normalized;
        if batch {
            self.note_statistics(layer, &x, &mean, variance);
        }
        // With the batch's statistics and no residual, the input says what a ReLU let pass; without a residual, what any other
        // activation did.
        let kept = match layer.activation {
            Some(activation) if activation.is_relu() => (!batch || residual.is_some()).then(|| y.clone()),
            Some(_) if self.tape.is_some() && residual.is_some() => {
                return Err(Error::new(Code::Internal, "what follows a sum in training is a ReLU or nothing"));
            }
            _ => None,
        };
        self.save(|| Saved::Norm { x, y: kept, mean, rstd, batch });
        Ok(y)
    }

    fn batch_norm_max_pool(&mut self, layer: &BatchNorm2d, windows: &Pool2d, x: B::Tensor) -> Result<B::Tensor> {
        let PooledNorm { normalized, won } = self.profile.time(
            Category::BatchNorm,
            "batch_norm_max_pool",
            &self.parameters.specs[layer.weight].name,
            || self.backend.batch_norm_max_pool(&self.operands(layer, &x, None, Statistics::Batch)?, windows),
            // Maxima, what won and where.
            |PooledNorm { normalized: Normalized { y, .. }, .. }| Cost::of::<B>([&x, y, y, y]),
        )?;
        let Normalized { y, mean, rstd, variance } = normalized;
        self.note_statistics(layer, &x, &mean, variance);
        self.save(|| Saved::PooledNorm { x, mean, rstd, won });
        Ok(y)
    }

    fn batch_norm_depthwise(
        &mut self,
        operation: &BatchNormOperation,
        convolution: &Convolution,
        x: B::Tensor,
    ) -> Result<B::Tensor> {
        self.normalize_depthwise(&operation.layer, self.own_statistics(operation)?, convolution, x)
    }

    /// A normalisation by `statistics` and the depthwise convolution behind it.
    pub(super) fn normalize_depthwise(
        &mut self,
        layer: &BatchNorm2d,
        statistics: Statistics<'_, B::Tensor>,
        Convolution { weight, windows, .. }: &Convolution,
        x: B::Tensor,
    ) -> Result<B::Tensor> {
        let batch = matches!(statistics, Statistics::Batch);
        let (name, weight) = (&self.parameters.specs[*weight].name, &self.parameters.values[*weight]);
        let normalized = self.profile.time(
            Category::Forward,
            "batch_norm_depthwise",
            name,
            || self.backend.batch_norm_depthwise(&self.operands(layer, &x, None, statistics)?, windows, weight),
            |Normalized { y, .. }| Cost::of::<B>([&x, y]).multiplying::<B>(y, weight),
        )?;
        let Normalized { y, mean, rstd, variance } = normalized;
        if batch {
            self.note_statistics(layer, &x, &mean, variance.clone());
        }
        self.save(|| Saved::NormDepthwise { x, mean, rstd, variance, batch });
        Ok(y)
    }

    /// The statistics of a normalisation that asks no other piece of the batch.
    fn own_statistics(
        &self,
        BatchNormOperation { layer, statistics }: &BatchNormOperation,
    ) -> Result<Statistics<'a, B::Tensor>> {
        let values = &self.parameters.values;
        match statistics {
            TrainingStatistics::Batch => Ok(Statistics::Batch),
            TrainingStatistics::Running => Ok(Statistics::Fixed {
                mean: &values[layer.running_mean()],
                variance: &values[layer.running_variance()],
            }),
            TrainingStatistics::Sync => {
                let message =
                    format!("{} is to be synchronised, and the other pieces of the batch are not here", layer.name);
                Err(Error::new(Code::Internal, message))
            }
        }
    }

    /// What the backend is asked for; by the batch's statistics only where there is a variance.
    fn operands<'x>(
        &'x self,
        layer: &BatchNorm2d,
        x: &'x B::Tensor,
        residual: Option<&'x B::Tensor>,
        statistics: Statistics<'x, B::Tensor>,
    ) -> Result<BatchNorm<'x, B::Tensor>> {
        if matches!(statistics, Statistics::Batch) && values_per_channel(B::shape(x)) < 2 {
            return Err(one_value(&layer.name, B::shape(x)));
        }
        let values = &self.parameters.values;
        Ok(BatchNorm {
            x,
            weight: &values[layer.weight],
            bias: &values[layer.bias()],
            residual,
            activation: layer.activation,
            epsilon: layer.epsilon,
            statistics,
        })
    }

    fn note_statistics(&mut self, layer: &BatchNorm2d, x: &B::Tensor, mean: &B::Tensor, variance: B::Tensor) {
        let count = values_per_channel(B::shape(x));
        self.statistics.push(BatchStatistics { layer: layer.clone(), mean: mean.clone(), variance, count });
    }

    fn residual(&mut self, block: &ResidualBlock, x: B::Tensor) -> Result<B::Tensor> {
        // The way around goes first: where nothing is kept, `x` is free as soon as the body has used it.
        let around = self.run(&block.shortcut, x.clone())?;
        let through = self.run(&block.body, x)?;
        self.last(&block.last, through, &around)
    }

    /// The end of a residual block.
    pub(super) fn last(&mut self, last: &Last, through: B::Tensor, around: &B::Tensor) -> Result<B::Tensor> {
        match last {
            Last::BatchNorm2d(batch_norm) => self.batch_norm(batch_norm, through, Some(around)),
            Last::FusedConvolution(fused) => self.fused_convolution(fused, &through, Some(around)),
            Last::Add(activation) => {
                let sum = self.add(through, around)?;
                match *activation {
                    Some(activation) => self.activation(activation, sum),
                    None => Ok(sum),
                }
            }
        }
    }

    fn add(&self, through: B::Tensor, around: &B::Tensor) -> Result<B::Tensor> {
        let cost = |sum: &_| Cost::of::<B>([around, sum, sum]);
        self.profile.time(Category::Elementwise, "add", "", || self.backend.add(through, around), cost)
    }

    fn branches(&mut self, branches: &[Vec<Operation>], x: B::Tensor) -> Result<B::Tensor> {
        let outputs = branches.iter().map(|operations| self.run(operations, x.clone())).collect::<Result<Vec<_>>>()?;
        self.join(&outputs)
    }

    /// The outputs of branches, side by side.
    pub(super) fn join(&mut self, outputs: &[B::Tensor]) -> Result<B::Tensor> {
        let channels = outputs.iter().map(|output| B::shape(output).last().copied().unwrap_or(1));
        self.save(|| Saved::Channels(channels.collect()));
        let cost = |y: &_| Cost::of::<B>(outputs.iter().chain([y]));
        self.profile.time(Category::Elementwise, "join", "", || self.backend.join(outputs), cost)
    }

    fn squeeze_excitation(&mut self, gate: &[Operation], x: B::Tensor) -> Result<B::Tensor> {
        let squeeze = || {
            let mean = self.backend.global_average(&x)?;
            let &[n, c] = B::shape(&mean) else { return Err(Error::new(Code::Internal, "a mean has two axes")) };
            self.backend.reshape(&mean, &[n, 1, 1, c])
        };
        let mean = self.profile.time(Category::Pooling, "squeeze", "", squeeze, |mean| Cost::of::<B>([&x, mean]))?;
        let gate = self.run(gate, mean)?;
        let work = || self.backend.scale_channels(&x, &gate);
        let y = self.profile.time(Category::Elementwise, "scale_channels", "", work, |y| Cost::of::<B>([&x, y]))?;
        self.save(|| Saved::Excitation { x, gate });
        Ok(y)
    }

    fn save(&mut self, entry: impl FnOnce() -> Saved<B>) {
        if let Some(tape) = &mut self.tape {
            tape.push(entry());
        }
    }
}

/// The first and the last axis.
fn rows_and_channels<B: Backend>(x: &B::Tensor) -> [usize; 2] {
    let shape = B::shape(x);
    [shape[0], shape[shape.len() - 1]]
}

pub(super) fn values_per_channel(shape: &[usize]) -> usize {
    shape[..shape.len() - 1].iter().product()
}

pub(super) fn one_value(name: &str, shape: &[usize]) -> Error {
    Error::new(Code::InvalidShape, format!("batch normalisation {name} sees one value per channel; its variance is 0"))
        .with_values("at least two values per channel in training", format!("an activation of shape {shape:?}"))
        .with_advice("train with more than one image in a batch, or with larger images")
}
