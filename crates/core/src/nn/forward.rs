//! The forward pass: reads a list of layers on a backend.

use super::backend::{Backend, BatchNorm, Statistics};
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
    pub fn run(&mut self, layers: &[Layer], x: B::Tensor) -> Result<B::Tensor> {
        layers.iter().try_fold(x, |x, layer| self.layer(layer, x))
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
        let shape = B::shape(&x);
        let count: usize = shape[..shape.len() - 1].iter().product();
        if batch && count < 2 {
            return Err(one_value(&layer.name, shape));
        }
        self.backend.at(&self.parameters.specs[layer.weight].name);
        let values = &self.parameters.values;
        let (mean, variance) = (&values[layer.running_mean()], &values[layer.running_variance()]);
        let normalized = self.backend.batch_norm(&BatchNorm {
            x: &x,
            weight: &values[layer.weight],
            bias: &values[layer.bias()],
            residual,
            relu: layer.relu,
            epsilon: layer.epsilon,
            statistics: if batch { Statistics::Batch } else { Statistics::Fixed { mean, variance } },
        })?;
        if batch {
            let (mean, variance) = (normalized.mean.clone(), normalized.variance);
            self.statistics.push(BatchStatistics { layer: layer.clone(), mean, variance, count });
        }
        let y = normalized.y;
        // With the batch's statistics and no residual, the input says what the ReLU let pass.
        let kept = (layer.relu && (!batch || residual.is_some())).then(|| y.clone());
        self.save(|| Saved::Norm { x, y: kept, mean: normalized.mean, rstd: normalized.rstd, batch });
        Ok(y)
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
