//! Inference: a network whose parameters stay as they are, its batch normalisations folded into its convolutions.
//!
//! With running statistics a batch normalisation is one factor and one shift for each output channel, and the convolution
//! before it is linear:
//!
//! ```text
//! s (W x + c - m) + b = (s W) x + (s (c - m) + b),   s = weight / sqrt(variance + epsilon)
//! ```
//! W weight and c bias of the convolution, m and `variance` running statistics, b shift of the normalisation. So both are one
//! convolution; the ReLU after it, and the shortcut of a residual block before that, are applied where its outputs are
//! written ([`Backend::conv2d_finished`]). Factors are computed in float64 and rounded once. The results differ from
//! [`Network::forward_eval`] by rounding.
//!
//! Folding goes once over all parameters. A teacher is folded when it is read, a network in training for each
//! evaluation: what is folded here does not follow a network that goes on learning.

use super::backend::Backend;
use super::forward::{Forward, Mode};
use super::geometry::Conv2d;
use super::layer::{Convolution, Definition, Layer, Normalization, ParameterId, Residual};
use super::network::{Features, Network};
use super::parameters::Parameters;
use crate::error::Result;
use crate::tensor::Feature;

/// A network that only looks at images.
#[derive(Clone, Debug)]
pub struct Inference<B: Backend> {
    /// The network; of its parameters the weights and shifts that `body` names are the folded ones.
    network: Network<B>,
    body: Vec<Step>,
}

/// One step of the body.
#[derive(Clone, Debug)]
enum Step {
    /// A convolution and what followed it.
    Convolution(Folded),
    /// A residual block: the shortcut is added to `last`, before the ReLU.
    Residual { body: Vec<Step>, last: Folded, shortcut: Vec<Step> },
    /// Several ways from the same input, joined along the channels.
    Branches(Vec<Vec<Step>>),
    /// A layer as it is in training.
    Layer(Layer),
}

/// A convolution that has taken in the normalisation after it.
#[derive(Clone, Copy, Debug)]
struct Folded {
    weight: ParameterId,
    bias: Option<ParameterId>,
    windows: Conv2d,
    relu: bool,
}

impl<B: Backend> Network<B> {
    /// The network for looking at images only. One that goes on learning is cloned before; the clone shares what folding
    /// does not change.
    pub fn into_inference(mut self) -> Result<Inference<B>> {
        let (backend, layers) = (self.backend().clone(), self.definition().body.clone());
        let body = Folding { backend: &backend, parameters: &mut self.parameters }.steps(&layers)?;
        Ok(Inference { network: self, body })
    }
}

impl<B: Backend> Inference<B> {
    /// The features of `images [n, h, w, c]`. An activation is freed as soon as the next layer has used it.
    ///
    /// # Errors
    /// As [`Network::forward_eval`].
    pub fn forward(&self, images: &B::Tensor) -> Result<Features<B::Tensor>> {
        self.network.check_images(B::shape(images))?;
        let mut forward = self.network.pass(Mode::Running, false);
        let pooled = self.run(&mut forward, &self.body, images.clone())?;
        self.network.ends(&mut forward, pooled)
    }

    /// As [`Network::keep_taps`].
    pub fn keep_taps(&mut self, features: &[Feature]) {
        self.network.keep_taps(features);
    }

    /// The backend.
    pub fn backend(&self) -> &B {
        self.network.backend()
    }

    /// The layers as they are in training.
    pub fn definition(&self) -> &Definition {
        self.network.definition()
    }

    /// Number of trained values of the network that was folded.
    pub fn parameter_count(&self) -> usize {
        self.network.parameter_count()
    }

    /// Length of the embedding.
    pub fn embedding_size(&self) -> usize {
        self.network.embedding_size()
    }

    fn run(&self, forward: &mut Forward<'_, B>, steps: &[Step], x: B::Tensor) -> Result<B::Tensor> {
        steps.iter().try_fold(x, |x, step| match step {
            Step::Convolution(folded) => self.convolution(folded, &x, None),
            Step::Residual { body, last, shortcut } => {
                let around = self.run(forward, shortcut, x.clone())?;
                let through = self.run(forward, body, x)?;
                self.convolution(last, &through, Some(&around))
            }
            Step::Branches(branches) => {
                let outputs = branches.iter().map(|steps| self.run(forward, steps, x.clone()));
                self.backend().join(&outputs.collect::<Result<Vec<_>>>()?)
            }
            Step::Layer(layer) => forward.layer(layer, x),
        })
    }

    fn convolution(&self, folded: &Folded, x: &B::Tensor, residual: Option<&B::Tensor>) -> Result<B::Tensor> {
        let Parameters { specs, values } = &self.network.parameters;
        self.backend().at(&specs[folded.weight].name);
        let bias = folded.bias.map(|bias| &values[bias]);
        self.backend().conv2d_finished(&folded.windows, x, &values[folded.weight], bias, residual, folded.relu)
    }
}

/// Layers to steps; changes the parameters on the way.
struct Folding<'a, B: Backend> {
    backend: &'a B,
    parameters: &'a mut Parameters<B>,
}

impl<B: Backend> Folding<'_, B> {
    fn steps(&mut self, layers: &[Layer]) -> Result<Vec<Step>> {
        let (mut steps, mut rest) = (Vec::new(), layers);
        while let [first, after @ ..] = rest {
            rest = after;
            steps.push(match (first, after) {
                (Layer::Convolution(convolution), [Layer::Normalization(normalization), after @ ..]) => {
                    rest = after;
                    Step::Convolution(self.fold(convolution, normalization)?)
                }
                (Layer::Convolution(convolution), [Layer::Relu, after @ ..]) => {
                    rest = after;
                    Step::Convolution(Folded { relu: true, ..plain(convolution) })
                }
                (Layer::Convolution(convolution), _) => Step::Convolution(plain(convolution)),
                (Layer::Residual(block), _) => self.residual(block)?,
                (Layer::Branches(branches), _) => {
                    Step::Branches(branches.iter().map(|layers| self.steps(layers)).collect::<Result<_>>()?)
                }
                (layer, _) => Step::Layer(layer.clone()),
            });
        }
        Ok(steps)
    }

    fn residual(&mut self, block: &Residual) -> Result<Step> {
        let Some((Layer::Convolution(last), body)) = block.body.split_last() else {
            return Ok(Step::Layer(Layer::Residual(block.clone())));
        };
        let last = self.fold(last, &block.last)?;
        Ok(Step::Residual { body: self.steps(body)?, last, shortcut: self.steps(&block.shortcut)? })
    }

    /// Puts the folded weight in the convolution's place and the folded shift in the normalisation's.
    fn fold(&mut self, convolution: &Convolution, normalization: &Normalization) -> Result<Folded> {
        let read = |id: ParameterId| self.backend.to_f64(&self.parameters.values[id]);
        let (factors, variance) = (read(normalization.weight)?, read(normalization.running_variance())?);
        let scale =
            factors.iter().zip(variance).map(|(w, v)| w / (v + normalization.epsilon).sqrt()).collect::<Vec<_>>();
        let mut shift = read(normalization.bias())?;
        let before = convolution.bias.map(read).transpose()?.unwrap_or_else(|| vec![0.0; shift.len()]);
        let mean = read(normalization.running_mean())?;
        for (channel, shift) in shift.iter_mut().enumerate() {
            *shift += scale[channel] * (before[channel] - mean[channel]);
        }
        // Output channels lie side by side.
        let mut weight = read(convolution.weight)?;
        weight.chunks_exact_mut(scale.len()).for_each(|row| row.iter_mut().zip(&scale).for_each(|(w, s)| *w *= s));
        for (id, values) in [(convolution.weight, weight), (normalization.bias(), shift)] {
            let value = &mut self.parameters.values[id];
            let shape = B::shape(value).to_vec();
            // The old values go first, so that the new ones may take their memory.
            *value = self.backend.zeros(&[0])?;
            *value = self.backend.from_f64(&values, &shape)?;
        }
        Ok(Folded { bias: Some(normalization.bias()), relu: normalization.relu, ..plain(convolution) })
    }
}

fn plain(&Convolution { weight, bias, windows }: &Convolution) -> Folded {
    Folded { weight, bias, windows, relu: false }
}
