//! The backward pass: the same lists of layers, from the last to the first.
//!
//! A gradient may be absent (`None`): no loss has been met yet on the way down. Taps add theirs where they stand. A
//! gradient that nobody needs is not computed: that of the images, usually, and those of frozen parameters.

use super::backend::{Backend, Passed, SavedNorm};
use super::geometry::Pool2d;
use super::layer::{Convolution, Layer, Linear, Normalization, ParameterId, Residual};
use super::parameters::Parameters;
use super::tape::{Saved, Tape, mismatch};
use crate::error::Result;

/// One backward pass.
#[derive(Debug)]
pub struct Backward<'a, B: Backend> {
    backend: &'a B,
    parameters: &'a Parameters<B>,
    tape: Tape<B>,
    taps: Vec<(String, B::Tensor)>,
    /// The gradient of each parameter, inside layout; `None` where no loss reaches it.
    pub gradients: Vec<Option<B::Tensor>>,
}

impl<'a, B: Backend> Backward<'a, B> {
    /// A pass over `tape`, with the gradients of the taps.
    pub fn new(backend: &'a B, parameters: &'a Parameters<B>, tape: Tape<B>, taps: Vec<(String, B::Tensor)>) -> Self {
        let gradients = vec![None; parameters.specs.len()];
        Backward { backend, parameters, tape, taps, gradients }
    }

    /// Runs `layers` from the last to the first. The gradient of their input is computed only if `wanted`.
    pub fn run(&mut self, layers: &[Layer], dy: Option<B::Tensor>, wanted: bool) -> Result<Option<B::Tensor>> {
        let (mut gradient, mut rest) = (dy, layers);
        while let [before @ .., last] = rest {
            rest = before;
            if let (
                Some(Saved::PooledNorm { .. }),
                [before @ .., Layer::Normalization(layer)],
                Layer::MaxPool(windows),
            ) = (self.tape.last(), before, last)
            {
                rest = before;
                let below = wanted || self.any_trained(rest);
                gradient = self.pooled_normalization(layer, windows, gradient, below)?;
            } else {
                let below = wanted || self.any_trained(rest);
                gradient = self.layer(last, gradient, below)?;
            }
        }
        Ok(gradient)
    }

    /// `a + b`, where either may be absent.
    pub fn sum(&self, a: Option<B::Tensor>, b: Option<B::Tensor>) -> Result<Option<B::Tensor>> {
        match (a, b) {
            (Some(a), Some(b)) => self.backend.add(a, &b).map(Some),
            (a, b) => Ok(a.or(b)),
        }
    }

    fn layer(&mut self, layer: &Layer, dy: Option<B::Tensor>, wanted: bool) -> Result<Option<B::Tensor>> {
        match layer {
            Layer::Convolution(convolution) => self.convolution(convolution, dy, wanted),
            Layer::Normalization(normalization) => Ok(self.normalization(normalization, dy, wanted, false)?.0),
            Layer::Linear(linear) => self.linear(linear, dy, wanted),
            Layer::Residual(residual) => self.residual(residual, dy, wanted),
            Layer::Branches(branches) => self.branches(branches, dy, wanted),
            Layer::Tap(name) => {
                let tap = self.taps.iter().find(|(tap, _)| tap == name).map(|(_, gradient)| gradient.clone());
                self.sum(dy, tap)
            }
            Layer::Relu | Layer::MaxPool(_) | Layer::GlobalAverage | Layer::Flatten | Layer::L2Normalize => {
                let saved = self.tape.pop()?;
                match dy {
                    Some(dy) if wanted => self.without_parameters(layer, saved, &dy).map(Some),
                    _ => Ok(None),
                }
            }
        }
    }

    fn without_parameters(&self, layer: &Layer, saved: Saved<B>, dy: &B::Tensor) -> Result<B::Tensor> {
        match (layer, saved) {
            (Layer::Relu, Saved::Output(y)) => self.backend.relu_backward(&y, dy),
            (Layer::MaxPool(windows), Saved::Pool { input, indices }) => {
                self.backend.max_pool_backward(windows, &input, &indices, dy)
            }
            (Layer::GlobalAverage, Saved::Shape(input)) => self.backend.global_average_backward(&input, dy),
            (Layer::Flatten, Saved::Shape(input)) => self.backend.flatten_backward(&input, dy),
            (Layer::L2Normalize, Saved::L2 { y, norm }) => self.backend.l2_normalize_backward(&y, &norm, dy),
            (layer, _) => Err(mismatch(&format!("the entry of {layer:?}"), "that of another layer")),
        }
    }

    fn convolution(&mut self, layer: &Convolution, dy: Option<B::Tensor>, wanted: bool) -> Result<Option<B::Tensor>> {
        let x = self.pop_input()?;
        let Some(dy) = dy else { return Ok(None) };
        self.backend.at(&self.parameters.specs[layer.weight].name);
        let bias = layer.bias.filter(|&bias| self.is_trained(bias));
        if self.is_trained(layer.weight) || bias.is_some() {
            let gradients = self.backend.conv2d_backward_weight(&layer.windows, &x, &dy, bias.is_some())?;
            self.learn(layer.weight, gradients.0)?;
            if let (Some(id), Some(gradient)) = (bias, gradients.1) {
                self.learn(id, gradient)?;
            }
        }
        let weight = &self.parameters.values[layer.weight];
        let input = || self.backend.conv2d_backward_input(&layer.windows, B::shape(&x), weight, &dy);
        wanted.then(input).transpose()
    }

    fn linear(&mut self, layer: &Linear, dy: Option<B::Tensor>, wanted: bool) -> Result<Option<B::Tensor>> {
        let x = self.pop_input()?;
        let Some(dy) = dy else { return Ok(None) };
        self.backend.at(&self.parameters.specs[layer.weight].name);
        if self.is_trained(layer.weight) || self.is_trained(layer.weight + 1) {
            let (weight, bias) = self.backend.linear_backward_weight(&x, &dy)?;
            self.learn(layer.weight, weight)?;
            self.learn(layer.weight + 1, bias)?;
        }
        let weight = &self.parameters.values[layer.weight];
        wanted.then(|| self.backend.linear_backward_input(weight, &dy)).transpose()
    }

    /// The gradients of the input and of the residual, which come only if `wanted` or if the layer itself learns.
    fn normalization(
        &mut self,
        layer: &Normalization,
        dy: Option<B::Tensor>,
        wanted: bool,
        residual: bool,
    ) -> Result<Pair<B>> {
        let Saved::Norm { x, y, mean, rstd, batch } = self.tape.pop()? else {
            return Err(mismatch("the entry of a batch normalisation", "that of another layer"));
        };
        let Some(dy) = dy.filter(|_| wanted || self.any_learns(layer)) else {
            return Ok((None, None));
        };
        self.backend.at(&self.parameters.specs[layer.weight].name);
        let values = &self.parameters.values;
        let weight = &values[layer.weight];
        let relu = match &y {
            Some(y) => Passed::Output(y),
            None if layer.relu => Passed::Shift(&values[layer.bias()]),
            None => Passed::All,
        };
        let saved = SavedNorm { x: &x, relu, weight, mean: &mean, rstd: &rstd, residual, batch };
        let gradients = self.backend.batch_norm_backward(&saved, &dy)?;
        self.learn(layer.weight, gradients.dweight)?;
        self.learn(layer.bias(), gradients.dbias)?;
        Ok((Some(gradients.dx), gradients.dresidual))
    }

    /// The gradient of the input of a normalisation that pools.
    fn pooled_normalization(
        &mut self,
        layer: &Normalization,
        windows: &Pool2d,
        dy: Option<B::Tensor>,
        wanted: bool,
    ) -> Result<Option<B::Tensor>> {
        let Saved::PooledNorm { x, mean, rstd, won } = self.tape.pop()? else {
            return Err(mismatch("the entry of a normalisation that pools", "that of another layer"));
        };
        let Some(dy) = dy.filter(|_| wanted || self.any_learns(layer)) else {
            return Ok(None);
        };
        self.backend.at(&self.parameters.specs[layer.weight].name);
        let values = &self.parameters.values;
        let (weight, relu) = (&values[layer.weight], Passed::Shift(&values[layer.bias()]));
        let saved = SavedNorm { x: &x, relu, weight, mean: &mean, rstd: &rstd, residual: false, batch: true };
        let gradients = self.backend.batch_norm_max_pool_backward(&saved, windows, &won, &dy)?;
        self.learn(layer.weight, gradients.dweight)?;
        self.learn(layer.bias(), gradients.dbias)?;
        Ok(Some(gradients.dx))
    }

    fn residual(&mut self, block: &Residual, dy: Option<B::Tensor>, wanted: bool) -> Result<Option<B::Tensor>> {
        let below = wanted || self.any_trained(&block.body) || self.any_trained(&block.shortcut);
        let (through, around) = self.normalization(&block.last, dy, below, true)?;
        let around = self.run(&block.shortcut, around, wanted)?;
        let through = self.run(&block.body, through, wanted)?;
        if wanted { self.sum(through, around) } else { Ok(None) }
    }

    fn branches(&mut self, branches: &[Vec<Layer>], dy: Option<B::Tensor>, wanted: bool) -> Result<Option<B::Tensor>> {
        let Saved::Channels(channels) = self.tape.pop()? else {
            return Err(mismatch("the entry of branches", "that of another layer"));
        };
        let parts = match dy {
            Some(dy) => self.backend.join_backward(&channels, &dy)?.into_iter().map(Some).collect(),
            None => vec![None; branches.len()],
        };
        let mut gradient = None;
        for (layers, part) in branches.iter().zip(parts).rev() {
            let below = self.run(layers, part, wanted)?;
            gradient = self.sum(gradient, below)?;
        }
        Ok(gradient)
    }

    fn pop_input(&mut self) -> Result<B::Tensor> {
        match self.tape.pop()? {
            Saved::Input(x) => Ok(x),
            _ => Err(mismatch("the input of a layer", "the entry of another layer")),
        }
    }

    fn is_trained(&self, id: ParameterId) -> bool {
        self.parameters.specs[id].is_trained()
    }

    /// Whether scale or shift learn.
    fn any_learns(&self, layer: &Normalization) -> bool {
        self.is_trained(layer.weight) || self.is_trained(layer.bias())
    }

    /// Whether any of `layers` has a parameter that learns, so that a gradient must reach it.
    fn any_trained(&self, layers: &[Layer]) -> bool {
        layers.iter().any(|layer| match layer {
            Layer::Convolution(layer) => {
                self.is_trained(layer.weight) || layer.bias.is_some_and(|b| self.is_trained(b))
            }
            Layer::Linear(layer) => self.is_trained(layer.weight) || self.is_trained(layer.weight + 1),
            Layer::Normalization(layer) => self.any_learns(layer),
            Layer::Residual(block) => {
                self.any_learns(&block.last) || self.any_trained(&block.body) || self.any_trained(&block.shortcut)
            }
            Layer::Branches(branches) => branches.iter().any(|layers| self.any_trained(layers)),
            Layer::Relu
            | Layer::MaxPool(_)
            | Layer::GlobalAverage
            | Layer::Flatten
            | Layer::L2Normalize
            | Layer::Tap(_) => false,
        })
    }

    fn learn(&mut self, id: ParameterId, gradient: B::Tensor) -> Result<()> {
        if !self.is_trained(id) {
            return Ok(());
        }
        let before = self.gradients[id].take();
        self.gradients[id] = self.sum(before, Some(gradient))?;
        Ok(())
    }
}

type Pair<B> = (Option<<B as Backend>::Tensor>, Option<<B as Backend>::Tensor>);
