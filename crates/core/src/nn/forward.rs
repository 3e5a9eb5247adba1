//! The forward pass: reads a list of layers on a backend.

use super::backend::{Backend, BatchNorm, Normalized, PooledNorm, Statistics};
use super::geometry::Pool2d;
use super::layer::{Convolution, Layer, Linear, Normalization, Residual};
use super::parameters::Parameters;
use super::tape::{Saved, Tape};
use crate::error::{Code, Error, Result};

/// Which statistics batch normalisation uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Those of the batch; the pass reports them for the running statistics.
    Batch,
    /// The running ones.
    Running,
}

/// The statistics of one batch normalisation in one training pass.
#[derive(Debug)]
pub struct BatchStatistics<T> {
    /// The layer.
    pub layer: Normalization,
    /// Mean of the batch, `[c]`.
    pub mean: T,
    /// Biased variance of the batch, `[c]`.
    pub variance: T,
    /// Values per channel.
    pub count: usize,
}

/// One forward pass.
#[derive(Debug)]
pub struct Forward<'a, B: Backend> {
    backend: &'a B,
    parameters: &'a Parameters<B>,
    mode: Mode,
    /// What the backward pass needs, if there will be one.
    pub tape: Option<Tape<B>>,
    /// The named activations that are kept; all of them if it does not say which.
    pub kept: Option<&'a [String]>,
    /// The named activations.
    pub taps: Vec<(String, B::Tensor)>,
    /// What the running statistics learn, in training.
    pub statistics: Vec<BatchStatistics<B::Tensor>>,
}

impl<'a, B: Backend> Forward<'a, B> {
    /// A pass that keeps a tape if `taped`.
    pub fn new(backend: &'a B, parameters: &'a Parameters<B>, mode: Mode, taped: bool) -> Self {
        let tape = taped.then(Tape::new);
        Forward { backend, parameters, mode, tape, kept: None, taps: Vec::new(), statistics: Vec::new() }
    }

    /// Runs `layers` in order.
    pub fn run(&mut self, layers: &[Layer], mut x: B::Tensor) -> Result<B::Tensor> {
        let mut rest = layers;
        while let [first, after @ ..] = rest {
            rest = after;
            if let (Layer::Normalization(normalization), [Layer::MaxPool(windows), after @ ..]) = (first, after)
                && let Some(pooled) = self.pooled_normalization(normalization, windows, &x)?
            {
                (x, rest) = (pooled, after);
            } else {
                x = self.layer(first, x)?;
            }
        }
        Ok(x)
    }

    pub(super) fn layer(&mut self, layer: &Layer, x: B::Tensor) -> Result<B::Tensor> {
        match layer {
            Layer::Convolution(convolution) => self.convolution(convolution, x),
            Layer::Normalization(normalization) => self.normalization(normalization, x, None),
            Layer::Linear(linear) => self.linear(linear, x),
            Layer::Residual(residual) => self.residual(residual, x),
            Layer::Branches(branches) => self.branches(branches, x),
            Layer::Relu => {
                let y = self.backend.relu(&x)?;
                self.save(|| Saved::Output(y.clone()));
                Ok(y)
            }
            Layer::MaxPool(windows) => {
                let (y, indices) = self.backend.max_pool(windows, &x)?;
                self.save(|| Saved::Pool { input: B::shape(&x).to_vec(), indices });
                Ok(y)
            }
            Layer::GlobalAverage => {
                self.save(|| Saved::Shape(B::shape(&x).to_vec()));
                self.backend.global_average(&x)
            }
            Layer::Flatten => {
                self.save(|| Saved::Shape(B::shape(&x).to_vec()));
                self.backend.flatten(&x)
            }
            Layer::L2Normalize => {
                let (y, norm) = self.backend.l2_normalize(&x)?;
                self.save(|| Saved::L2 { y: y.clone(), norm });
                Ok(y)
            }
            Layer::Tap(name) => {
                if self.kept.is_none_or(|kept| kept.contains(name)) {
                    self.taps.push((name.clone(), x.clone()));
                }
                Ok(x)
            }
        }
    }

    fn convolution(&mut self, layer: &Convolution, x: B::Tensor) -> Result<B::Tensor> {
        self.backend.at(&self.parameters.specs[layer.weight].name);
        let bias = layer.bias.map(|bias| &self.parameters.values[bias]);
        let y = self.backend.conv2d(&layer.windows, &x, &self.parameters.values[layer.weight], bias)?;
        self.save(|| Saved::Input(x));
        Ok(y)
    }

    fn linear(&mut self, layer: &Linear, x: B::Tensor) -> Result<B::Tensor> {
        self.backend.at(&self.parameters.specs[layer.weight].name);
        let values = &self.parameters.values;
        let y = self.backend.linear(&x, &values[layer.weight], &values[layer.weight + 1])?;
        self.save(|| Saved::Input(x));
        Ok(y)
    }

    fn normalization(
        &mut self,
        layer: &Normalization,
        x: B::Tensor,
        residual: Option<&B::Tensor>,
    ) -> Result<B::Tensor> {
        let batch = self.mode == Mode::Batch;
        let count = self.values_per_channel(layer, &x)?;
        let normalized = self.backend.batch_norm(&self.operation(layer, &x, residual))?;
        if batch {
            self.learn_statistics(layer, &normalized.mean, normalized.variance, count);
        }
        let y = normalized.y;
        // With the batch's statistics and no residual, the input says what the ReLU let pass.
        let kept = (layer.relu && (!batch || residual.is_some())).then(|| y.clone());
        self.save(|| Saved::Norm { x, y: kept, mean: normalized.mean, rstd: normalized.rstd, batch });
        Ok(y)
    }

    /// A normalisation, its ReLU and a max pool at once, where that is to be had.
    fn pooled_normalization(
        &mut self,
        layer: &Normalization,
        windows: &Pool2d,
        x: &B::Tensor,
    ) -> Result<Option<B::Tensor>> {
        if self.mode != Mode::Batch || !layer.relu {
            return Ok(None);
        }
        let count = self.values_per_channel(layer, x)?;
        let operation = self.operation(layer, x, None);
        let Some(PooledNorm { normalized, won }) = self.backend.batch_norm_max_pool(&operation, windows)? else {
            return Ok(None);
        };
        let Normalized { y, mean, rstd, variance } = normalized;
        self.learn_statistics(layer, &mean, variance, count);
        self.save(|| Saved::PooledNorm { x: x.clone(), mean, rstd, won });
        Ok(Some(y))
    }

    /// The operation of a layer, which the backend is told to be at.
    fn operation<'x>(
        &'x self,
        layer: &Normalization,
        x: &'x B::Tensor,
        residual: Option<&'x B::Tensor>,
    ) -> BatchNorm<'x, B::Tensor> {
        self.backend.at(&self.parameters.specs[layer.weight].name);
        let values = &self.parameters.values;
        let (mean, variance) = (&values[layer.running_mean()], &values[layer.running_variance()]);
        BatchNorm {
            x,
            weight: &values[layer.weight],
            bias: &values[layer.bias()],
            residual,
            relu: layer.relu,
            epsilon: layer.epsilon,
            statistics: match self.mode {
                Mode::Batch => Statistics::Batch,
                Mode::Running => Statistics::Fixed { mean, variance },
            },
        }
    }

    /// The values per channel, at least two where they are to have a variance.
    fn values_per_channel(&self, layer: &Normalization, x: &B::Tensor) -> Result<usize> {
        let shape = B::shape(x);
        let count: usize = shape[..shape.len() - 1].iter().product();
        if self.mode == Mode::Batch && count < 2 { Err(one_value(&layer.name, shape)) } else { Ok(count) }
    }

    fn learn_statistics(&mut self, layer: &Normalization, mean: &B::Tensor, variance: B::Tensor, count: usize) {
        self.statistics.push(BatchStatistics { layer: layer.clone(), mean: mean.clone(), variance, count });
    }

    fn residual(&mut self, block: &Residual, x: B::Tensor) -> Result<B::Tensor> {
        let through = self.run(&block.body, x.clone())?;
        let around = self.run(&block.shortcut, x)?;
        self.normalization(&block.last, through, Some(&around))
    }

    fn branches(&mut self, branches: &[Vec<Layer>], x: B::Tensor) -> Result<B::Tensor> {
        let outputs = branches.iter().map(|layers| self.run(layers, x.clone())).collect::<Result<Vec<_>>>()?;
        let channels = outputs.iter().map(|output| B::shape(output).last().copied().unwrap_or(1));
        self.save(|| Saved::Channels(channels.collect()));
        self.backend.join(&outputs)
    }

    fn save(&mut self, entry: impl FnOnce() -> Saved<B>) {
        if let Some(tape) = &mut self.tape {
            tape.push(entry());
        }
    }
}

fn one_value(name: &str, shape: &[usize]) -> Error {
    Error::new(Code::InvalidShape, format!("batch normalisation {name} sees one value per channel; its variance is 0"))
        .with_values("at least two values per channel in training", format!("an activation of shape {shape:?}"))
        .with_advice("train with more than one image in a batch, or with larger images")
}
