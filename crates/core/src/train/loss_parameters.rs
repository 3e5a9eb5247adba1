//! The numbers that losses learn beside the network: the map of a hint, for example.
//!
//! They start by keyed random numbers, are trained by the network's optimiser (whose clipping counts them) and travel in
//! the checkpoint. The exported model has none of them.

use std::collections::BTreeMap;

use super::objective::TermParameter;
use crate::error::Result;
use crate::losses::Matrix;
use crate::nn::parameters::{Init, Layout, ParameterSpec, Parameters};
use crate::nn::{Backend, Cpu};
use crate::tensor::HostTensor;

/// The parameters of all terms, with their values.
pub struct LossParameters {
    /// What they are.
    pub about: Vec<TermParameter>,
    values: Parameters<Cpu>,
}

impl LossParameters {
    /// The start that belongs to `seed`.
    pub fn draw(about: Vec<TermParameter>, backend: &Cpu, seed: u64) -> Result<Self> {
        let specs: Vec<ParameterSpec> = about.iter().map(spec).collect();
        let drawn = specs.iter().zip(&about).map(|(spec, about)| {
            let mut tensor = spec.draw(seed);
            tensor.data.iter_mut().for_each(|value| *value += about.parameter.center as f32);
            (spec.name.clone(), tensor)
        });
        let drawn: BTreeMap<String, HostTensor> = drawn.collect();
        Ok(LossParameters { about, values: Parameters::from_tensors(backend, specs, &drawn)? })
    }

    /// The values as losses take them.
    pub fn matrices(&self, backend: &Cpu) -> Result<Vec<Matrix>> {
        let pairs = self.values.specs.iter().zip(&self.values.values);
        pairs.map(|(spec, value)| Matrix::tensor(&spec.name, &backend.to_f32(value)?, &spec.shape)).collect()
    }

    /// Gradients on the backend, for the optimiser.
    pub fn gradients(
        &self,
        backend: &Cpu,
        gradients: &[Option<Vec<f64>>],
    ) -> Result<Vec<Option<<Cpu as Backend>::Tensor>>> {
        let pairs = self.values.specs.iter().zip(gradients);
        pairs.map(|(spec, g)| g.as_ref().map(|g| backend.from_f64(g, &spec.shape)).transpose()).collect()
    }

    /// Calls `work` with one list of parameters: those of `network`, then these.
    pub fn with<T>(&mut self, network: &mut Parameters<Cpu>, work: impl FnOnce(&mut Parameters<Cpu>) -> T) -> T {
        let own = network.specs.len();
        network.specs.append(&mut self.values.specs);
        network.values.append(&mut self.values.values);
        let result = work(network);
        self.values.specs = network.specs.split_off(own);
        self.values.values = network.values.split_off(own);
        result
    }

    /// The values by name.
    pub fn tensors(&self, backend: &Cpu) -> Result<BTreeMap<String, HostTensor>> {
        self.values.to_tensors(backend)
    }

    /// Replaces the values by those that [`tensors`](LossParameters::tensors) gave.
    pub fn set_tensors(&mut self, backend: &Cpu, tensors: &BTreeMap<String, HostTensor>) -> Result<()> {
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
