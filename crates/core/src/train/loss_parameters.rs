//! The numbers that losses learn beside the network: the map of a hint, for example.
//!
//! They start by keyed random numbers, are trained by the network's optimiser (whose clipping counts them) and travel in
//! the checkpoint. The exported model has none of them.

use std::collections::BTreeMap;

use super::objective::TermParameter;
use crate::error::Result;
use crate::losses::Matrix;
use crate::nn::Backend;
use crate::nn::parameters::{Init, Layout, ParameterSpec, Parameters};
use crate::tensor::HostTensor;

/// The parameters of all terms, with their values.
pub struct LossParameters<B: Backend> {
    /// What they are.
    pub about: Vec<TermParameter>,
    values: Parameters<B>,
}

impl<B: Backend> LossParameters<B> {
    /// The start that belongs to `seed`.
    pub fn draw(about: Vec<TermParameter>, backend: &B, seed: u64) -> Result<Self> {
        let specs: Vec<ParameterSpec> = about.iter().map(spec).collect();
        let drawn = specs.iter().zip(&about).map(|(spec, about)| {
            let mut tensor = spec.draw(seed);
            tensor.data.iter_mut().for_each(|value| *value += about.parameter.center as f32);
            (spec.name.clone(), tensor)
        });
        let drawn: BTreeMap<String, HostTensor> = drawn.collect();
        Ok(LossParameters { about, values: Parameters::from_tensors(backend, specs, &drawn)? })
    }

    /// The values on the device.
    pub fn values(&self) -> &[B::Tensor] {
        &self.values.values
    }

    /// The place of the first parameter of the term at `term`.
    pub fn place(&self, term: usize) -> Option<usize> {
        self.about.iter().position(|parameter| parameter.term == term)
    }

    /// The values as losses take them, from [`values`](LossParameters::values) on the host.
    pub fn matrices(&self, values: impl Iterator<Item = Vec<f64>>) -> Result<Vec<Matrix>> {
        self.values.specs.iter().zip(values).map(|(spec, data)| Matrix::owned(&spec.name, data, &spec.shape)).collect()
    }

    /// Gradients on the backend, for the optimiser.
    pub fn gradients(&self, backend: &B, gradients: &[Option<Vec<f64>>]) -> Result<Vec<Option<B::Tensor>>> {
        let pairs = self.values.specs.iter().zip(gradients);
        pairs.map(|(spec, g)| g.as_ref().map(|g| backend.from_f64(g, &spec.shape)).transpose()).collect()
    }

    /// Calls `work` with one list of parameters: those of `network`, then these.
    pub fn with<T>(&mut self, network: &mut Parameters<B>, work: impl FnOnce(&mut Parameters<B>) -> T) -> T {
        let own = network.specs.len();
        network.specs.append(&mut self.values.specs);
        network.values.append(&mut self.values.values);
        let result = work(network);
        self.values.specs = network.specs.split_off(own);
        self.values.values = network.values.split_off(own);
        result
    }

    /// The values by name.
    pub fn tensors(&self, backend: &B) -> Result<BTreeMap<String, HostTensor>> {
        self.values.to_tensors(backend)
    }

    /// Replaces the values by those that [`tensors`](LossParameters::tensors) gave.
    pub fn set_tensors(&mut self, backend: &B, tensors: &BTreeMap<String, HostTensor>) -> Result<()> {
        self.values = Parameters::from_tensors(backend, self.values.specs.clone(), tensors)?;
        Ok(())
    }
}

fn spec(about: &TermParameter) -> ParameterSpec {
    let init = match about.parameter.spread {
        0.0 => Init::Constant(0.0),
        bound => Init::Uniform { bound },
    };
    let shape = vec![about.parameter.rows, about.parameter.columns];
    let rate = if about.frozen { 0.0 } else { 1.0 };
    ParameterSpec { name: about.name.clone(), shape, layout: Layout::Plain, init, rate }
}
