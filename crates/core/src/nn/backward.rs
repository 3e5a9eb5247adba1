//! The backward pass: the same lists of operations, from the last to the first.
//!
//! A gradient may be absent (`None`): no loss has been met yet on the way down. Taps add theirs where they stand. A
//! gradient that nobody needs is not computed: that of the images, usually, and those of frozen parameters.

use super::backend::{Activation, Backend, BatchNorm, NormGradients, Passed, SavedNorm, Statistics};
use super::dropout::scale;
use super::geometry::Pool2d;
use super::layer::{BatchNorm2d, Convolution, LayerNorm, Linear, ParameterId, Tokens};
use super::lowering::{BatchNormOperation, Before, Dropped, Last, LinearOperation, Operation, ResidualBlock, SumBlock};
use super::parameters::Parameters;
use super::profile::{Category, Cost, Profile};
use super::tape::{Saved, Tape, mismatch};
use crate::error::{Code, Error, Result};
use crate::tensor::FeatureMap;

/// One backward pass.
#[derive(Debug)]
pub struct Backward<'a, B: Backend> {
    backend: &'a B,
    parameters: &'a Parameters<B>,
    profile: &'a Profile,
    tape: Tape<B>,
    taps: FeatureMap<B::Tensor>,
    /// The gradient of each parameter, inside layout; `None` where no loss reaches it.
    pub gradients: Vec<Option<B::Tensor>>,
}

impl<'a, B: Backend> Backward<'a, B> {
    /// A pass over `tape`, with the gradients of the taps.
    pub fn new(
        backend: &'a B,
        parameters: &'a Parameters<B>,
        profile: &'a Profile,
        tape: Tape<B>,
        taps: FeatureMap<B::Tensor>,
    ) -> Self {
        let gradients = vec![None; parameters.specs.len()];
        Backward { backend, parameters, profile, tape, taps, gradients }
    }

    /// Runs `operations` from the last to the first. The gradient of their input is computed only if `wanted`.
    pub fn run(&mut self, operations: &[Operation], dy: Option<B::Tensor>, wanted: bool) -> Result<Option<B::Tensor>> {
        let (mut gradient, mut rest) = (dy, operations);
        while let [before @ .., last] = rest {
            rest = before;
            let below = wanted || self.any_trained(before);
            gradient = self.operation(last, gradient, below)?;
        }
        Ok(gradient)
    }

    /// `a + b`, where either may be absent.
    pub fn sum(&self, a: Option<B::Tensor>, b: Option<B::Tensor>) -> Result<Option<B::Tensor>> {
        let add = |a, b: &_| {
            let cost = |sum: &_| Cost::of::<B>([b, sum, sum]);
            self.profile.time(Category::Elementwise, "add", "", || self.backend.add(a, b), cost)
        };
        match (a, b) {
            (Some(a), Some(b)) => add(a, &b).map(Some),
            (a, b) => Ok(a.or(b)),
        }
    }

    pub(super) fn operation(
        &mut self,
        operation: &Operation,
        dy: Option<B::Tensor>,
        wanted: bool,
    ) -> Result<Option<B::Tensor>> {
        match operation {
            Operation::Convolution(layer) => self.convolution(layer, dy, wanted),
            Operation::FusedConvolution(_) | Operation::FusedLinear(..) => Err(learns_no_more()),
            Operation::BatchNorm2d(batch_norm) => Ok(self.batch_norm(batch_norm, dy, wanted, false)?.0),
            Operation::BatchNormMaxPool(layer, windows) => self.batch_norm_max_pool(layer, windows, dy, wanted),
            Operation::BatchNormDepthwise(batch_norm, convolution) => {
                self.batch_norm_depthwise(batch_norm, convolution, dy, wanted)
            }
            Operation::Linear(linear) => self.linear(linear, dy, wanted, None),
            Operation::Residual(block) => self.residual(block, dy, wanted),
            Operation::Branches(branches) => self.branches(branches, dy, wanted),
            Operation::Tap(feature) => self.sum(dy, self.taps.get(feature).cloned()),
            Operation::SqueezeExcitation(gate) => self.squeeze_excitation(gate, dy, wanted),
            Operation::LayerNorm(layer) => {
                let saved = self.tape.pop()?;
                self.layer_norm(layer, saved, dy, wanted, None)
            }
            Operation::Tokens(layer) => self.tokens(layer, dy, wanted),
            Operation::Sum(block) => self.sum_block(block, dy, wanted),
            Operation::Activation(_)
            | Operation::Attention { .. }
            | Operation::ClassToken
            | Operation::MaxPool(_)
            | Operation::GlobalAverage
            | Operation::Flatten
            | Operation::Dropout(_)
            | Operation::L2Normalize => {
                let saved = self.tape.pop()?;
                match dy {
                    Some(dy) if wanted => self.without_parameters(operation, saved, &dy).map(Some),
                    _ => Ok(None),
                }
            }
        }
    }

    fn without_parameters(&self, operation: &Operation, saved: Saved<B>, dy: &B::Tensor) -> Result<B::Tensor> {
        let (backend, profile) = (self.backend, self.profile);
        let cost = |dx: &_| Cost::of::<B>([dy, dx]);
        match (operation, saved) {
            (&Operation::Activation(activation), Saved::Activation(x)) => {
                let cost = |dx: &_| Cost::of::<B>([&x, dy, dx]);
                let work = || backend.activate_backward(activation, &x, dy);
                profile.time(Category::Elementwise, "activate_backward", "", work, cost)
            }
            (Operation::MaxPool(windows), Saved::Pool { input, indices }) => {
                let cost = |dx: &_| Cost::of::<B>([dy, dy, dx]);
                let work = || backend.max_pool_backward(windows, &input, &indices, dy);
                profile.time(Category::Pooling, "max_pool_backward", "", work, cost)
            }
            (&Operation::Attention { heads }, Saved::Input(x)) => {
                let cost = |dx: &_| Cost::of::<B>([&x, dy, dx]).attending::<B>(dy, 5);
                let work = || backend.attention_backward(&x, heads, dy);
                profile.time(Category::Attention, "attention_backward", "", work, cost)
            }
            (Operation::ClassToken, Saved::Shape(input)) => {
                let work = || backend.class_token_backward(&input, dy);
                profile.time(Category::Pooling, "class_token_backward", "", work, cost)
            }
            (Operation::GlobalAverage, Saved::Shape(input)) => {
                let work = || backend.global_average_backward(&input, dy);
                profile.time(Category::Pooling, "global_average_backward", "", work, cost)
            }
            (Operation::Flatten, Saved::Shape(input)) => {
                profile.time(Category::Pooling, "flatten_backward", "", || backend.flatten_backward(&input, dy), cost)
            }
            (Operation::Dropout(dropout), Saved::Factors(factors)) => {
                let work = || scale(backend, dy, &factors);
                let name = match dropout.of {
                    Dropped::Numbers => "dropout_backward",
                    Dropped::Paths => "drop_path_backward",
                };
                profile.time(Category::Elementwise, name, &dropout.layer, work, cost)
            }
            (Operation::L2Normalize, Saved::L2 { y, norm }) => {
                let cost = |dx: &_| Cost::of::<B>([&y, dy, dx]);
                let work = || backend.l2_normalize_backward(&y, &norm, dy);
                profile.time(Category::Elementwise, "l2_normalize_backward", "", work, cost)
            }
            (operation, _) => Err(mismatch(&format!("the entry of {operation:?}"), "that of another operation")),
        }
    }

    fn convolution(&mut self, layer: &Convolution, dy: Option<B::Tensor>, wanted: bool) -> Result<Option<B::Tensor>> {
        let x = self.pop_input()?;
        let Some(dy) = dy else { return Ok(None) };
        let name = &self.parameters.specs[layer.weight].name;
        let bias = layer.bias.filter(|&bias| self.is_trained(bias));
        if self.is_trained(layer.weight) || bias.is_some() {
            let (dweight, dbias) = self.profile.time(
                Category::WeightGradient,
                "conv2d_backward_weight",
                name,
                || self.backend.conv2d_backward_weight(&layer.windows, &x, &dy, bias.is_some()),
                |(dweight, _)| Cost::of::<B>([&x, &dy, dweight]).multiplying::<B>(&dy, dweight),
            )?;
            self.learn(layer.weight, dweight)?;
            if let (Some(id), Some(dbias)) = (bias, dbias) {
                self.learn(id, dbias)?;
            }
        }
        let weight = &self.parameters.values[layer.weight];
        let work = || self.backend.conv2d_backward_input(&layer.windows, B::shape(&x), weight, &dy);
        let cost = |dx: &_| Cost::of::<B>([&dy, weight, dx]).multiplying::<B>(&dy, weight);
        let input = || self.profile.time(Category::InputGradient, "conv2d_backward_input", name, work, cost);
        wanted.then(input).transpose()
    }

    /// The gradient of what came before, plus `added` where that is a layer normalisation.
    fn linear(
        &mut self,
        &LinearOperation { ref before, layer: Linear { weight } }: &LinearOperation,
        dy: Option<B::Tensor>,
        wanted: bool,
        added: Option<B::Tensor>,
    ) -> Result<Option<B::Tensor>> {
        let saved = self.tape.pop()?;
        let Some(dy) = dy else { return Ok(added) };
        let name = &self.parameters.specs[weight].name;
        if self.any_of_two(weight) {
            let x = self.input_of_linear(before.as_ref(), &saved)?;
            let (dweight, dbias) = self.profile.time(
                Category::WeightGradient,
                "linear_backward_weight",
                name,
                || self.backend.linear_backward_weight(&x, &dy),
                |(dweight, _)| Cost::of::<B>([&x, &dy, dweight]).multiplying::<B>(&dy, dweight),
            )?;
            self.learn(weight, dweight)?;
            self.learn(weight + 1, dbias)?;
        }
        if !wanted && !before.as_ref().is_some_and(|before| self.before_learns(before)) {
            return Ok(None);
        }
        let value = &self.parameters.values[weight];
        let work = || self.backend.linear_backward_input(value, &dy);
        let cost = |dx: &_| Cost::of::<B>([&dy, value, dx]).multiplying::<B>(&dy, value);
        let dx = self.profile.time(Category::InputGradient, "linear_backward_input", name, work, cost)?;
        match before {
            None => self.sum(Some(dx), added),
            Some(Before::LayerNorm(norm)) => self.layer_norm(norm, saved, Some(dx), wanted, added),
            Some(Before::Activation(kind)) => {
                self.without_parameters(&Operation::Activation(*kind), saved, &dx).map(Some)
            }
        }
    }

    /// The input of a linear layer, as it was kept or made again of what was.
    fn input_of_linear(&self, before: Option<&Before>, saved: &Saved<B>) -> Result<B::Tensor> {
        let Parameters { specs, values } = self.parameters;
        match (before, saved) {
            (None, Saved::Input(x)) => Ok(x.clone()),
            (Some(&Before::LayerNorm(LayerNorm { weight, epsilon })), Saved::LayerNorm { x, .. }) => {
                let work = || Ok(self.backend.layer_norm(x, &values[weight], &values[weight + 1], epsilon)?.y);
                let cost = |y: &_| Cost::of::<B>([x, y]);
                self.profile.time(Category::LayerNorm, "layer_norm again", &specs[weight].name, work, cost)
            }
            (Some(&Before::Activation(kind)), Saved::Activation(x)) => {
                let (work, cost) = (|| self.backend.activate(kind, x), |y: &_| Cost::of::<B>([x, y]));
                self.profile.time(Category::Elementwise, "activate again", "", work, cost)
            }
            _ => Err(mismatch("the input of a linear layer", "the entry of another operation")),
        }
    }

    /// A layer norm that begins the way through adds the gradient of the way around to its own.
    fn sum_block(&mut self, block: &SumBlock, dy: Option<B::Tensor>, wanted: bool) -> Result<Option<B::Tensor>> {
        let SumBlock { body, last } = block;
        let through = match last {
            Some(last) => self.linear(last, dy.clone(), wanted || self.any_trained(body), None)?,
            None => dy.clone(),
        };
        match body.split_first() {
            Some((Operation::Linear(first), body)) if wanted && matches!(first.before, Some(Before::LayerNorm(_))) => {
                let through = self.run(body, through, true)?;
                self.linear(first, through, true, dy)
            }
            _ => {
                let through = self.run(body, through, wanted)?;
                if wanted { self.sum(through, dy) } else { Ok(None) }
            }
        }
    }

    /// The gradient of the input, plus `added` where there is any.
    fn layer_norm(
        &mut self,
        layer: &LayerNorm,
        saved: Saved<B>,
        dy: Option<B::Tensor>,
        wanted: bool,
        added: Option<B::Tensor>,
    ) -> Result<Option<B::Tensor>> {
        let Saved::LayerNorm { x, mean, rstd } = saved else {
            return Err(mismatch("the entry of a layer normalisation", "that of another operation"));
        };
        let weight = layer.weight;
        let Some(dy) = dy.filter(|_| wanted || self.any_of_two(weight)) else { return Ok(added) };
        let Parameters { specs, values } = self.parameters;
        let gradients = self.profile.time(
            Category::LayerNorm,
            "layer_norm_backward",
            &specs[weight].name,
            || self.backend.layer_norm_backward(&x, &values[weight], [&mean, &rstd], &dy, added.as_ref()),
            |NormGradients { dx, .. }| Cost::of::<B>([&x, &dy, dx].into_iter().chain(&added)),
        )?;
        self.learn(weight, gradients.dweight)?;
        self.learn(weight + 1, gradients.dbias)?;
        Ok(Some(gradients.dx))
    }

    fn tokens(&mut self, &Tokens { class }: &Tokens, dy: Option<B::Tensor>, wanted: bool) -> Result<Option<B::Tensor>> {
        let Saved::Shape(input) = self.tape.pop()? else {
            return Err(mismatch("the entry of tokens", "that of another operation"));
        };
        let Some(dy) = dy.filter(|_| wanted || self.any_of_two(class)) else { return Ok(None) };
        let [dx, dclass, dposition] = self.profile.time(
            Category::Elementwise,
            "add_tokens_backward",
            &self.parameters.specs[class].name,
            || self.backend.add_tokens_backward(&input, &dy),
            |[dx, ..]| Cost::of::<B>([&dy, &dy, dx]),
        )?;
        self.learn(class, dclass)?;
        self.learn(class + 1, dposition)?;
        Ok(Some(dx))
    }

    /// The gradients of the input and of the residual, which come only if `wanted` or if the layer itself learns.
    fn batch_norm(
        &mut self,
        BatchNormOperation { layer, .. }: &BatchNormOperation,
        dy: Option<B::Tensor>,
        wanted: bool,
        residual: bool,
    ) -> Result<Pair<B>> {
        let pulled = self.pull_norm(layer, dy, wanted, residual)?;
        Ok(pulled.map_or((None, None), |Pulled { dx, dresidual, .. }| (Some(dx), dresidual)))
    }

    /// The gradients of a normalisation whose own parameters have learnt of them.
    pub(super) fn pull_norm(
        &mut self,
        layer: &BatchNorm2d,
        dy: Option<B::Tensor>,
        wanted: bool,
        residual: bool,
    ) -> Result<Option<Pulled<B>>> {
        let Saved::Norm { x, y, mean, rstd, batch } = self.tape.pop()? else {
            return Err(mismatch("the entry of a batch normalisation", "that of another operation"));
        };
        let Some(dy) = dy.filter(|_| wanted || self.any_learns(layer)) else {
            return Ok(None);
        };
        let Parameters { specs, values } = self.parameters;
        let activation = match (layer.activation, &y) {
            (Some(activation), Some(y)) => Passed::Output(activation, y),
            (Some(activation), None) => Passed::Shift(activation, &values[layer.bias()]),
            (None, _) => Passed::All,
        };
        let saved =
            SavedNorm { x: &x, activation, weight: &values[layer.weight], mean: &mean, rstd: &rstd, residual, batch };
        let gradients = self.profile.time(
            Category::BatchNorm,
            "batch_norm_backward",
            &specs[layer.weight].name,
            || self.backend.batch_norm_backward(&saved, &dy),
            |NormGradients { dx, dresidual, .. }| {
                // Without a ReLU the residual's gradient is `dy` itself: nothing is written.
                let dresidual = dresidual.as_ref().filter(|_| layer.activation.is_some());
                Cost::of::<B>([&x, &dy, dx].into_iter().chain(&y).chain(dresidual))
            },
        )?;
        self.pulled(layer, x, [mean, rstd], gradients).map(Some)
    }

    fn pulled(
        &mut self,
        layer: &BatchNorm2d,
        x: B::Tensor,
        [mean, rstd]: [B::Tensor; 2],
        NormGradients { dx, dweight, dbias, dresidual }: NormGradients<B::Tensor>,
    ) -> Result<Pulled<B>> {
        self.learn(layer.weight, dweight.clone())?;
        self.learn(layer.bias(), dbias.clone())?;
        Ok(Pulled { dx, dresidual, dweight, dbias, x, mean, rstd })
    }

    /// The gradient of the input of a normalisation that pools.
    fn batch_norm_max_pool(
        &mut self,
        layer: &BatchNorm2d,
        windows: &Pool2d,
        dy: Option<B::Tensor>,
        wanted: bool,
    ) -> Result<Option<B::Tensor>> {
        let Saved::PooledNorm { x, mean, rstd, won } = self.tape.pop()? else {
            return Err(mismatch("the entry of a normalisation that pools", "that of another operation"));
        };
        let Some(dy) = dy.filter(|_| wanted || self.any_learns(layer)) else {
            return Ok(None);
        };
        let Parameters { specs, values } = self.parameters;
        let (weight, activation) = (&values[layer.weight], Passed::Shift(Activation::Relu, &values[layer.bias()]));
        let saved = SavedNorm { x: &x, activation, weight, mean: &mean, rstd: &rstd, residual: false, batch: true };
        let gradients = self.profile.time(
            Category::BatchNorm,
            "batch_norm_max_pool_backward",
            &specs[layer.weight].name,
            || self.backend.batch_norm_max_pool_backward(&saved, windows, &won, &dy),
            |NormGradients { dx, .. }| Cost::of::<B>([&x, &dy, &dy, dx].into_iter().chain(&won.inputs)),
        )?;
        self.learn(layer.weight, gradients.dweight)?;
        self.learn(layer.bias(), gradients.dbias)?;
        Ok(Some(gradients.dx))
    }

    /// The gradient of the input of a normalisation with the depthwise convolution behind it.
    fn batch_norm_depthwise(
        &mut self,
        BatchNormOperation { layer, .. }: &BatchNormOperation,
        convolution: &Convolution,
        dy: Option<B::Tensor>,
        wanted: bool,
    ) -> Result<Option<B::Tensor>> {
        Ok(self.pull_norm_depthwise(layer, convolution, dy, wanted)?.map(|pulled| pulled.dx))
    }

    /// The gradients of a normalisation with the depthwise convolution behind it; the parameters of both have learnt of them.
    pub(super) fn pull_norm_depthwise(
        &mut self,
        layer: &BatchNorm2d,
        convolution: &Convolution,
        dy: Option<B::Tensor>,
        wanted: bool,
    ) -> Result<Option<Pulled<B>>> {
        let Saved::NormDepthwise { x, mean, rstd, variance, batch } = self.tape.pop()? else {
            return Err(mismatch("the entry of a normalisation and its convolution", "that of another operation"));
        };
        let learns = self.any_learns(layer) || self.is_trained(convolution.weight);
        let Some(dy) = dy.filter(|_| wanted || learns) else {
            return Ok(None);
        };
        let Parameters { specs, values } = self.parameters;
        let weight = &values[convolution.weight];
        let operation = BatchNorm {
            x: &x,
            weight: &values[layer.weight],
            bias: &values[layer.bias()],
            residual: None,
            activation: layer.activation,
            epsilon: layer.epsilon,
            statistics: Statistics::Fixed { mean: &mean, variance: &variance },
        };
        let windows = &convolution.windows;
        let (gradients, dweight) = self.profile.time(
            Category::InputGradient,
            "batch_norm_depthwise_backward",
            &specs[convolution.weight].name,
            || self.backend.batch_norm_depthwise_backward(&operation, &rstd, batch, windows, weight, &dy),
            // Both of the convolution's gradients.
            |(NormGradients { dx, .. }, _)| {
                Cost::of::<B>([&x, &dy, dx]).multiplying::<B>(&dy, weight).multiplying::<B>(&dy, weight)
            },
        )?;
        self.learn(convolution.weight, dweight)?;
        self.pulled(layer, x, [mean, rstd], gradients).map(Some)
    }

    fn residual(&mut self, block: &ResidualBlock, dy: Option<B::Tensor>, wanted: bool) -> Result<Option<B::Tensor>> {
        let below = wanted || self.any_trained(&block.body) || self.any_trained(&block.shortcut);
        let (through, around) = self.last(&block.last, dy, below)?;
        let through = self.run(&block.body, through, wanted)?;
        let around = self.run(&block.shortcut, around, wanted)?;
        if wanted { self.sum(through, around) } else { Ok(None) }
    }

    /// The gradients of both ways through a residual block, of that of its end.
    pub(super) fn last(&mut self, last: &Last, dy: Option<B::Tensor>, below: bool) -> Result<Pair<B>> {
        match last {
            Last::BatchNorm2d(last) => self.batch_norm(last, dy, below, true),
            Last::Add(activation) => {
                let sum = match *activation {
                    Some(activation) => self.operation(&Operation::Activation(activation), dy, below)?,
                    None => dy,
                };
                Ok((sum.clone(), sum))
            }
            Last::FusedConvolution(_) => Err(learns_no_more()),
        }
    }

    fn squeeze_excitation(
        &mut self,
        gate: &[Operation],
        dy: Option<B::Tensor>,
        wanted: bool,
    ) -> Result<Option<B::Tensor>> {
        let Saved::Excitation { x, gate: scale } = self.tape.pop()? else {
            return Err(mismatch("the entry of squeeze and excitation", "that of another operation"));
        };
        let below = wanted || self.any_trained(gate);
        let dgate = |dy: &_| {
            let work = || self.backend.scale_channels_backward_gate(&x, dy);
            let cost = |_: &_| Cost::of::<B>([&x, dy]);
            self.profile.time(Category::Elementwise, "scale_channels_backward_gate", "", work, cost)
        };
        let dgate = dy.as_ref().filter(|_| below).map(dgate).transpose()?;
        let dmean = self.run(gate, dgate, wanted)?;
        let (Some(dy), Some(dmean), true) = (dy, dmean, wanted) else { return Ok(None) };
        let work = || self.backend.scale_channels_backward_input(&dy, &scale, &dmean);
        let cost = |dx: &_| Cost::of::<B>([&dy, dx]);
        self.profile.time(Category::Elementwise, "scale_channels_backward_input", "", work, cost).map(Some)
    }

    fn branches(
        &mut self,
        branches: &[Vec<Operation>],
        dy: Option<B::Tensor>,
        wanted: bool,
    ) -> Result<Option<B::Tensor>> {
        let parts = self.split(branches.len(), dy)?;
        let mut gradient = None;
        for (operations, part) in branches.iter().zip(parts).rev() {
            let below = self.run(operations, part, wanted)?;
            gradient = self.sum(gradient, below)?;
        }
        Ok(gradient)
    }

    /// The gradient of each of so many branches.
    pub(super) fn split(&mut self, branches: usize, dy: Option<B::Tensor>) -> Result<Vec<Option<B::Tensor>>> {
        let Saved::Channels(channels) = self.tape.pop()? else {
            return Err(mismatch("the entry of branches", "that of another operation"));
        };
        match dy {
            Some(dy) => {
                let cost = |parts: &Vec<_>| Cost::of::<B>([&dy].into_iter().chain(parts));
                let work = || self.backend.join_backward(&channels, &dy);
                let parts = self.profile.time(Category::Elementwise, "join_backward", "", work, cost)?;
                Ok(parts.into_iter().map(Some).collect())
            }
            None => Ok(vec![None; branches]),
        }
    }

    fn pop_input(&mut self) -> Result<B::Tensor> {
        match self.tape.pop()? {
            Saved::Input(x) => Ok(x),
            _ => Err(mismatch("the input of a layer", "the entry of another operation")),
        }
    }

    fn is_trained(&self, id: ParameterId) -> bool {
        self.parameters.specs[id].is_trained()
    }

    /// Whether a parameter or the one after it is trained.
    fn any_of_two(&self, first: ParameterId) -> bool {
        self.is_trained(first) || self.is_trained(first + 1)
    }

    fn linear_learns(&self, LinearOperation { before, layer }: &LinearOperation) -> bool {
        self.any_of_two(layer.weight) || before.as_ref().is_some_and(|before| self.before_learns(before))
    }

    fn before_learns(&self, before: &Before) -> bool {
        matches!(before, Before::LayerNorm(norm) if self.any_of_two(norm.weight))
    }

    /// Whether scale or shift learn.
    fn any_learns(&self, layer: &BatchNorm2d) -> bool {
        self.is_trained(layer.weight) || self.is_trained(layer.bias())
    }

    /// Whether any of `operations` has a parameter that learns, so that a gradient must reach it.
    pub(super) fn any_trained(&self, operations: &[Operation]) -> bool {
        operations.iter().any(|operation| match operation {
            Operation::Convolution(layer) => {
                self.is_trained(layer.weight) || layer.bias.is_some_and(|b| self.is_trained(b))
            }
            Operation::BatchNormDepthwise(BatchNormOperation { layer, .. }, convolution) => {
                self.any_learns(layer) || self.is_trained(convolution.weight)
            }
            Operation::Linear(linear) => self.linear_learns(linear),
            Operation::LayerNorm(LayerNorm { weight: first, .. }) | Operation::Tokens(Tokens { class: first }) => {
                self.any_of_two(*first)
            }
            Operation::BatchNorm2d(BatchNormOperation { layer, .. }) | Operation::BatchNormMaxPool(layer, _) => {
                self.any_learns(layer)
            }
            Operation::Residual(ResidualBlock { body, shortcut, last }) => {
                let last = matches!(last, Last::BatchNorm2d(last) if self.any_learns(&last.layer));
                last || self.any_trained(body) || self.any_trained(shortcut)
            }
            Operation::Branches(branches) => branches.iter().any(|operations| self.any_trained(operations)),
            Operation::SqueezeExcitation(gate) => self.any_trained(gate),
            Operation::Sum(SumBlock { body, last }) => {
                last.as_ref().is_some_and(|last| self.linear_learns(last)) || self.any_trained(body)
            }
            Operation::FusedConvolution(_)
            | Operation::FusedLinear(..)
            | Operation::Activation(_)
            | Operation::Attention { .. }
            | Operation::ClassToken
            | Operation::MaxPool(_)
            | Operation::GlobalAverage
            | Operation::Flatten
            | Operation::Dropout(_)
            | Operation::L2Normalize
            | Operation::Tap(_) => false,
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

fn learns_no_more() -> Error {
    Error::new(Code::Internal, "a network whose normalisations are folded does not learn")
}

/// The gradients of the two ways through a residual block.
pub(super) type Pair<B> = (Option<<B as Backend>::Tensor>, Option<<B as Backend>::Tensor>);

/// What the way back through a normalisation has found, and what it was found of.
pub(super) struct Pulled<B: Backend> {
    pub dx: B::Tensor,
    pub dresidual: Option<B::Tensor>,
    /// Of scale and shift, `[c]`.
    pub dweight: B::Tensor,
    pub dbias: B::Tensor,
    /// The input.
    pub x: B::Tensor,
    /// The statistics, `[c]`.
    pub mean: B::Tensor,
    pub rstd: B::Tensor,
}
