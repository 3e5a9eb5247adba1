//! Inference: a network whose parameters stay as they are, its batch normalisations folded into its convolutions.
//!
//! With running statistics a batch normalisation is one factor and one shift for each output channel, and the
//! convolution before it is linear:
//!
//! ```text
//! s (W x + c - m) + b = (s W) x + (s (c - m) + b),   s = weight / sqrt(variance + epsilon)
//! ```
//! W weight and c bias of the convolution, m and `variance` running statistics, b shift of the normalisation. So both
//! are one convolution; the activation after it, and the shortcut of a residual block before that, are applied where its
//! outputs are written ([`Backend::conv2d_finished`]). Factors are computed in float64 and rounded once. The results
//! differ from those without folding by rounding. [`super::lowering`] says which normalisation goes into which
//! convolution.
//!
//! Folding goes once over all parameters. A teacher is folded when it is read, a network in training for each
//! evaluation: what is folded here does not follow a network that goes on learning.

use super::backend::Backend;
use super::layer::{BatchNorm2d, Definition, ParameterId};
use super::lowering::{FusedConvolution, Mode, Program};
use super::network::Network;
use super::parameters::{ParameterSpec, Parameters};
use crate::error::Result;
use crate::tensor::{Feature, FeatureMap};

/// A network that only looks at images.
#[derive(Clone, Debug)]
pub struct Inference<B: Backend> {
    /// Its program of evaluation, and the weights and shifts that the program names, are the folded ones.
    network: Network<B>,
}

impl<B: Backend> Network<B> {
    /// The network for looking at images only. One that goes on learning is cloned before; the clone shares what
    /// folding does not change.
    pub fn into_inference(mut self) -> Result<Inference<B>> {
        let program = self.lowered(Mode::Folded);
        for FusedConvolution { convolution, folded, .. } in program.0.fused_convolutions() {
            if let Some(batch_norm) = folded {
                self.fold(convolution.weight, convolution.bias, batch_norm)?;
            }
        }
        self.evaluate_by(program)
    }

    fn evaluate_by(mut self, program: (Program, Mode)) -> Result<Inference<B>> {
        let backend = self.backend().clone();
        self.parameters.values.iter_mut().for_each(|value| *value = backend.constant(value));
        self.evaluation = program;
        self.blocks = Some(self.cut()?);
        Ok(Inference { network: self })
    }

    /// Puts the folded weight in the convolution's place and the folded shift in the normalisation's.
    fn fold(&mut self, weight: ParameterId, bias: Option<ParameterId>, batch_norm: &BatchNorm2d) -> Result<()> {
        let backend = self.backend().clone();
        let read = |id: ParameterId| backend.to_f64(&self.parameters.values[id]);
        let (factors, variance) = (read(batch_norm.weight)?, read(batch_norm.running_variance())?);
        let scale = factors.iter().zip(variance).map(|(w, v)| w / (v + batch_norm.epsilon).sqrt()).collect::<Vec<_>>();
        let mut shift = read(batch_norm.bias())?;
        let before = bias.map(read).transpose()?.unwrap_or_else(|| vec![0.0; shift.len()]);
        let mean = read(batch_norm.running_mean())?;
        for (channel, shift) in shift.iter_mut().enumerate() {
            *shift += scale[channel] * (before[channel] - mean[channel]);
        }
        // Output channels lie side by side.
        let mut values = read(weight)?;
        values.chunks_exact_mut(scale.len()).for_each(|row| row.iter_mut().zip(&scale).for_each(|(w, s)| *w *= s));
        self.replace(weight, |shape| backend.from_f64(&values, shape))?;
        self.replace(batch_norm.bias(), |shape| backend.from_f64(&shift, shape))
    }

    /// As [`into_inference`](Network::into_inference) of a network that has no values but shapes: on a backend that
    /// counts memory.
    pub fn into_inference_without_values(mut self) -> Result<Inference<B>> {
        let backend = self.backend().clone();
        let program = self.lowered(Mode::Folded);
        for FusedConvolution { convolution, folded, .. } in program.0.fused_convolutions() {
            for id in folded.iter().flat_map(|batch_norm| [convolution.weight, batch_norm.bias()]) {
                self.replace(id, |shape| backend.zeros(shape))?;
            }
        }
        self.evaluate_by(program)
    }

    fn replace(&mut self, id: ParameterId, make: impl FnOnce(&[usize]) -> Result<B::Tensor>) -> Result<()> {
        let nothing = self.backend().zeros(&[0])?;
        let value = &mut self.parameters.values[id];
        let shape = B::shape(value).to_vec();
        // The old values go first, so that the new ones may take their memory.
        *value = nothing;
        *value = make(&shape)?;
        Ok(())
    }
}

impl<B: Backend> Inference<B> {
    /// The features of `images [n, h, w, c]`. An activation is freed as soon as the next operation has used it.
    ///
    /// # Errors
    /// As [`Network::forward_eval`].
    pub fn forward(&self, images: &B::Tensor) -> Result<FeatureMap<B::Tensor>> {
        self.network.forward_eval(images)
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

    /// The operations of a pass.
    pub fn program(&self) -> &Program {
        &self.network.evaluation.0
    }

    /// A parameter that the operations name, and its values in the outside layout; what was folded into it is in them.
    pub fn parameter(&self, id: ParameterId) -> Result<(&ParameterSpec, Vec<f32>)> {
        let Parameters { specs, values } = &self.network.parameters;
        Ok((&specs[id], specs[id].download(self.backend(), &values[id])?.data))
    }

    /// Number of all values, running statistics too.
    pub fn numbers(&self) -> usize {
        self.network.parameters.specs.iter().map(ParameterSpec::count).sum()
    }

    /// Number of trained values of the network that was folded.
    pub fn parameter_count(&self) -> usize {
        self.network.parameter_count()
    }

    /// Length of the embedding.
    pub fn embedding_size(&self) -> usize {
        self.network.embedding_size()
    }
}
